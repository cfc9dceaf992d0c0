/** Keys to the colours: a bar with the numbers at its ends, or the names of classes. */

import { BINS, DASHES, MISSING, binOf, classColour, css, steps, type Scale, type Theme } from "./palette";
import { shortened, tick } from "./words";

interface LegendProps {
  scale: Scale;
  name: string;
  theme: Theme;
  /** Whether missing values occur. */
  missing?: boolean;
  /** Where the scale starts to be used. */
  start?: number | undefined;
}

export function Legend({ scale, name, theme, missing = false, start }: LegendProps) {
  const first = start === undefined ? 0 : Math.max(0, binOf(scale, start));
  const [low, high] = [tick(start ?? scale.low), tick(scale.high)];
  const colours = steps(scale.name, theme).slice(first);
  const zero = scale.name === "diverging" && scale.high > 0;
  const said = `Colours from ${low} to ${high} show ${name}${missing ? "; hatched is missing" : ""}.`;
  return (
    <div className="cv-legend" role="img" aria-label={said}>
      <span>{low}</span>
      <svg width="160" height={zero ? 18 : 12} aria-hidden="true">
        {colours.map((rgb, i) => (
          <rect key={i} x={(i * 160) / colours.length} width={160 / (BINS - first) + 0.5} height="12" fill={css(rgb)} />
        ))}
        {zero && <line className="cv-muted-line" x1="80" x2="80" y1="12" y2="17" />}
      </svg>
      <span>{high}</span>
      <strong>{name}</strong>
      {missing && (
        <span className="cv-legend-item">
          <MissingSwatch theme={theme} /> missing
        </span>
      )}
    </div>
  );
}

/** Missing values are hatched, so that they are not taken for zero in any theme. */
export function MissingSwatch({ theme }: { theme: Theme }) {
  return (
    <svg width="12" height="12" aria-hidden="true">
      <rect width="12" height="12" fill={css(MISSING[theme])} />
      <path className="cv-hatch" d="M0 12L12 0M-3 3L3 -3M9 15L15 9" />
    </svg>
  );
}

interface ClassKeyProps {
  title?: string;
  names: readonly string[];
  theme: Theme;
  /** Pieces of lines, with their dashes, instead of squares. */
  dashed?: boolean;
  /** Names that are not drawn. */
  hidden?: ReadonlySet<number>;
  onToggle?: (index: number) => void;
}

export function ClassKey({ title, names, theme, dashed = false, hidden, onToggle }: ClassKeyProps) {
  const swatch = (index: number) => {
    const fill = css(classColour(index, theme));
    if (!dashed)
      return (
        <svg width="12" height="12" aria-hidden="true">
          <rect width="12" height="12" rx="2" fill={fill} />
        </svg>
      );
    return (
      <svg width="26" height="10" aria-hidden="true">
        <line x1="0" x2="26" y1="5" y2="5" stroke={fill} strokeWidth="2" strokeDasharray={DASHES[index % 8]} />
      </svg>
    );
  };
  return (
    <div className="cv-legend" role="group" aria-label={title ? `Key to ${title}` : "Key"}>
      {title && <span>{title}</span>}
      {names.map((name, index) =>
        onToggle ? (
          <button
            key={index}
            type="button"
            className="cv-legend-item cv-plain"
            aria-pressed={!hidden?.has(index)}
            title={hidden?.has(index) ? `Show ${name}` : `Hide ${name}`}
            onClick={() => onToggle(index)}
          >
            {swatch(index)} {shortened(name, 40)}
          </button>
        ) : (
          <span key={index} className="cv-legend-item">
            {swatch(index)} {shortened(name, 40)}
          </span>
        ),
      )}
    </div>
  );
}
