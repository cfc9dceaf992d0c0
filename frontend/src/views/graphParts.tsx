/** What graphs are made of, by columns or at positions: their controls, names of layers that fold, arrows, and nodes. */

import type { ReactNode } from "react";
import { colour, css, type Theme } from "./palette";
import { whole } from "./words";

export const HIGH = 22;
export const FIRST_ARROWS = 120;
const SIGNS = { name: "diverging", low: -1, high: 1 } as const;

interface ControlsProps {
  /** How many of the strongest arrows are asked for, of how many, and how many that makes. */
  most: number;
  count: number;
  kept: number;
  onMost: (most: number) => void;
  /** The layers that can be folded; none where nodes have no layers. */
  layers: readonly string[];
  folded: ReadonlySet<string>;
  onFolded: (folded: ReadonlySet<string>) => void;
}

export function GraphControls({ most, count, kept, onMost, layers, folded, onFolded }: ControlsProps) {
  return (
    <div className="cv-controls">
      {count > 1 && (
        <label>
          Strongest arrows
          <input
            type="range"
            min={1}
            max={count}
            value={Math.min(most, count)}
            onChange={(event) => onMost(Number(event.target.value))}
          />
          <span className="cv-output">
            {whole(kept)} of {whole(count)}
          </span>
        </label>
      )}
      {layers.length > 0 && (
        <button
          type="button"
          aria-pressed={folded.size > 0}
          onClick={() => onFolded(new Set(folded.size ? [] : layers))}
        >
          {folded.size ? "Unfold all layers" : "Fold by layer"}
        </button>
      )}
    </div>
  );
}

interface LayerProps {
  layer: string;
  folded: ReadonlySet<string>;
  onFolded: (folded: ReadonlySet<string>) => void;
  /** Its box. */
  x: number;
  y: number;
  width: number;
  height: number;
}

/** The name of a layer, which folds it or unfolds it. */
export function LayerName({ layer, folded, onFolded, x, y, width, height }: LayerProps) {
  const fold = () => {
    const next = new Set(folded);
    if (!next.delete(layer)) next.add(layer);
    onFolded(next);
  };
  return (
    <g
      role="button"
      tabIndex={0}
      aria-pressed={folded.has(layer)}
      aria-label={`Fold ${layer}`}
      onClick={fold}
      onKeyDown={(event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        event.stopPropagation();
        fold();
      }}
      style={{ cursor: "pointer" }}
    >
      <rect x={x} y={y} width={width} height={height} rx="4" fill="var(--card)" />
      <text className="cv-muted" x={x + width / 2} y={y + height / 2 + 4} textAnchor="middle">
        {folded.has(layer) ? "▸ " : ""}
        {layer}
      </text>
    </g>
  );
}

/** How thick an arrow is beside the strongest. */
export function thickness(weight: number, strongest: number): number {
  return 0.8 + 4.2 * Math.min(1, Math.abs(known(weight)) / strongest);
}

interface ArrowProps {
  weight: number;
  thick: number;
  theme: Theme;
  path: string;
  /** The corners of its head. */
  head: string;
  said: string;
  opacity: number;
  /** The arrows of the network that it stands for: one that stands for one can be chosen. */
  members: readonly number[];
  onChoose?: ((arrow: number) => void) | undefined;
}

export function Arrow({ weight, thick, theme, path, head, said, opacity, members, onChoose }: ArrowProps) {
  const negative = known(weight) < 0;
  const stroke = css(colour(SIGNS, negative ? -0.65 : 0.65, theme));
  const [only, more] = members;
  const choose = onChoose && only !== undefined && more === undefined ? () => onChoose(only) : undefined;
  return (
    <g opacity={opacity} onClick={choose} style={choose && { cursor: "pointer" }} data-arrow={choose && only}>
      {choose && <path d={path} fill="none" stroke="transparent" strokeWidth={Math.max(12, thick)} />}
      <path
        d={path}
        fill="none"
        stroke={stroke}
        strokeWidth={thick}
        strokeOpacity="0.75"
        strokeDasharray={negative ? "6 4" : undefined}
      >
        <title>{said}</title>
      </path>
      <polygon points={head} fill={stroke} />
    </g>
  );
}

interface NodeProps {
  /** Left end and middle of its height. */
  x: number;
  y: number;
  width: number;
  /** Whether it is pointed at, here or in another picture; whether it stands for a folded layer. */
  own: boolean;
  several: boolean;
  onPoint: (on: boolean) => void;
  onChoose: () => void;
  children: ReactNode;
}

export function NodeBox({ x, y, width, own, several, onPoint, onChoose, children }: NodeProps) {
  return (
    <g onPointerEnter={() => onPoint(true)} onPointerLeave={() => onPoint(false)} onClick={onChoose}>
      <rect
        x={x}
        y={y - HIGH / 2}
        width={width}
        height={HIGH}
        rx="5"
        fill={own ? "var(--accent-soft)" : several ? "var(--card)" : "var(--paper)"}
        stroke={own ? "var(--focus)" : "var(--muted)"}
        strokeWidth={own ? 2 : 1}
      />
      <text className="cv-mono" x={x + width / 2} y={y + 4} textAnchor="middle">
        {children}
      </text>
    </g>
  );
}

function known(weight: number): number {
  return Number.isNaN(weight) ? 0 : weight;
}
