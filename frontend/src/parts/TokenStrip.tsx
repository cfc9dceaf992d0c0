import { visible } from "../views/words";

interface Props {
  tokens: readonly string[];
  label: string;
  /** The position that is pointed at, here or in another picture. */
  hovered?: number | undefined;
  onHover?: ((position: number | null) => void) | undefined;
  /** Positions where this text and its contrast differ. */
  different?: ReadonlySet<number> | undefined;
}

/** A text as the model reads it: token by token. */
export function TokenStrip({ tokens, label, hovered, onHover, different }: Props) {
  return (
    <ol className="token-strip" aria-label={label} onPointerLeave={() => onHover?.(null)}>
      {tokens.map((token, position) => (
        <li
          key={position}
          className={[
            position === hovered ? "hovered" : "",
            different?.has(position) ? "different" : "",
            token.includes("\n") ? "breaks" : "",
          ].join(" ")}
          title={`token ${position}${different?.has(position) ? ", differs" : ""}`}
          onPointerEnter={() => onHover?.(position)}
        >
          {visible(token)}
        </li>
      ))}
    </ol>
  );
}
