import type { Candidate } from "../api/types";
import { visible } from "../views/words";
import { percent } from "./format";

interface Props {
  candidates: readonly Candidate[];
  label: string;
  /** The token that is explained, marked. */
  marked?: string | undefined;
  /** Choose a token; without it the rows are not buttons. */
  onChoose?: ((candidate: Candidate) => void) | undefined;
}

/** The likeliest next tokens with their probabilities. */
export function Distribution({ candidates, label, marked, onChoose }: Props) {
  return (
    <ol className="distribution" aria-label={label}>
      {candidates.map((candidate) => {
        const content = (
          <>
            <span className="distribution-token mono">{visible(candidate.text)}</span>
            <span className="distribution-bar" aria-hidden="true">
              <span style={{ width: `${Math.min(100, 100 * candidate.probability)}%` }} />
            </span>
            <span className="distribution-value number">{percent(candidate.probability)}</span>
          </>
        );
        const isMarked = candidate.text === marked;
        return (
          <li key={candidate.id} className={isMarked ? "marked" : undefined}>
            {onChoose ? (
              <button
                className="quiet"
                aria-pressed={isMarked}
                onClick={() => onChoose(candidate)}
                title={`Explain ${visible(candidate.text)}`}
              >
                {content}
              </button>
            ) : (
              <div>{content}</div>
            )}
          </li>
        );
      })}
    </ol>
  );
}
