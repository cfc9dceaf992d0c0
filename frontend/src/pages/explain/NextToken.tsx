import type { Candidate, Next } from "../../api/types";
import { Problem } from "../../layout/Problem";
import { Distribution } from "../../parts/Distribution";
import { number } from "../../views/words";

interface Props {
  next: Next | undefined;
  /** Whether what is shown belongs to an earlier text. */
  stale: boolean;
  /** The model that is being opened, or "". */
  opening: string;
  waiting: boolean;
  error: Error | null;
  answer: string;
  onAnswer: (candidate: Candidate) => void;
}

/** What the model would say next, as one types. */
export function NextToken({ next, stale, opening, waiting, error, answer, onAnswer }: Props) {
  return (
    <section className="panel next-token" aria-labelledby="next-token">
      <h2 id="next-token">Next token</h2>
      {error ? (
        <Problem error={error} />
      ) : opening ? (
        <p className="muted" role="status">
          <span className="spinner" aria-hidden="true" /> Opening {opening}…
        </p>
      ) : next ? (
        <div className={stale ? "stale" : ""} aria-busy={stale}>
          <Distribution
            candidates={next.tokens}
            label="Likeliest next tokens"
            marked={answer || next.tokens[0]?.text}
            onChoose={onAnswer}
          />
          <p className="muted small">
            Entropy {number(next.entropy)} nats. Choose a token to explain it instead of the likeliest one.
          </p>
        </div>
      ) : waiting ? null : (
        <p className="muted">Type a prompt to see how the model would go on.</p>
      )}
      {waiting && (
        <p className="muted small" role="status">
          The model works on a job; this goes on when it is done.
        </p>
      )}
    </section>
  );
}
