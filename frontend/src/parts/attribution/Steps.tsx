/** A slider over steps. It has arrow keys by itself; buttons beside it are for fingers. */
export function Steps({
  name,
  count,
  at,
  said,
  onAt,
}: {
  name: string;
  count: number;
  at: number;
  said: string;
  onAt: (index: number) => void;
}) {
  const go = (to: number) => onAt(Math.min(count - 1, Math.max(0, to)));
  return (
    <div className="cv-controls steps">
      <label>
        {name}
        <input
          type="range"
          min={0}
          max={count - 1}
          value={at}
          aria-valuetext={said}
          onChange={(event) => go(Number(event.target.value))}
        />
      </label>
      <span className="cv-group">
        <button type="button" aria-label={`Previous ${name}`} disabled={at === 0} onClick={() => go(at - 1)}>
          ‹
        </button>
        <button type="button" aria-label={`Next ${name}`} disabled={at === count - 1} onClick={() => go(at + 1)}>
          ›
        </button>
      </span>
      <span className="cv-output">{said}</span>
    </div>
  );
}
