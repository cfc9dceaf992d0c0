import type { Tokenized } from "../../api/types";
import { TokenStrip } from "../../parts/TokenStrip";

interface Props {
  tokens: Tokenized | undefined;
  other: Tokenized | undefined;
  hovered: number | undefined;
  onHover: (position: number | null) => void;
}

/** The prompt and its contrast as the model reads them, with what differs marked. */
export function LiveTokens({ tokens, other, hovered, onHover }: Props) {
  if (!tokens) return null;
  const different = other ? differences(tokens.ids, other.ids) : undefined;
  return (
    <div className="live-tokens" aria-live="off">
      <h2 className="label">
        {count(tokens.ids.length)}
        {other && `, contrast ${count(other.ids.length)}`}
      </h2>
      <TokenStrip
        tokens={tokens.tokens}
        label="Tokens of the prompt"
        hovered={hovered}
        onHover={onHover}
        different={different}
      />
      {other && (
        <>
          <TokenStrip
            tokens={other.tokens}
            label="Tokens of the contrast"
            hovered={hovered}
            onHover={onHover}
            different={different}
          />
          {other.ids.length !== tokens.ids.length && (
            <p className="field-error" role="alert">
              The contrast has {count(other.ids.length)} and the prompt {count(tokens.ids.length)}. Values are put where
              the other text has theirs, so both must be equally long: choose a word that is as many tokens.
            </p>
          )}
          {other.ids.length === tokens.ids.length && different?.size === 0 && (
            <p className="field-error">The contrast has the same tokens as the prompt. Change one word of it.</p>
          )}
        </>
      )}
    </div>
  );
}

function count(n: number): string {
  return n === 1 ? "1 token" : `${n} tokens`;
}

/** Positions where two texts have different tokens. */
export function differences(a: readonly number[], b: readonly number[]): ReadonlySet<number> {
  const found = new Set<number>();
  for (let i = 0; i < Math.max(a.length, b.length); i++) if (a[i] !== b[i]) found.add(i);
  return found;
}
