/**
 * Two columns of tokens, queries on the left and keys on the right, and a line for each strong attention.
 *
 * Pointing at a token leaves only its lines and writes their weights beside the other side. Only what is in sight
 * is drawn: at most MOST_LINES lines, the strongest of them.
 */

import { useEffect, useMemo, useRef, useState, type KeyboardEvent } from "react";
import type { Grid } from "./framing";
import { Spoken } from "./Hint";
import { Legend } from "./Legend";
import { colour, css, inkOn } from "./palette";
import { inksOf } from "./gridDrawing";
import { useFrame, useScroll, useWidth } from "./surroundings";
import type { Drawn } from "./types";
import { figure } from "./words";

const ROW = 22;
const MOST_LINES = 3000;

export interface AttentionLine {
  row: number;
  column: number;
  value: number;
}

type Side = "query" | "key";

export function AttentionLines({ panel, title, theme, height = 560, hover, onHover, onSelect }: Drawn<Grid>) {
  const box = useRef<HTMLDivElement>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const width = useWidth(box);
  const [cursor, setCursor] = useState<{ side: Side; index: number } | null>(null);
  const [spoken, setSpoken] = useState("");
  const full = Math.max(panel.height, panel.width) * ROW + 4;
  const shown = Math.min(height, full);
  const scroll = useScroll(scroller, shown);

  const linked = panel.tokenDim === undefined ? hover?.[panel.rowDim] : (hover?.[panel.rowDim] ?? hover?.[panel.tokenDim]);
  const active = cursor ?? (linked !== undefined && linked < panel.height ? { side: "query" as const, index: linked } : null);
  const column = Math.min(150, Math.floor(width * 0.3));
  const strongest = Math.max(Math.abs(panel.scale.low), Math.abs(panel.scale.high)) || 1;
  const [first, last] = [Math.floor(scroll.top / ROW) - 2, Math.ceil((scroll.top + scroll.height) / ROW) + 2];
  const lines = useMemo(() => linesIn(panel, first, last, active, strongest), [panel, first, last, active, strongest]);

  const draw = useFrame(() => {
    const node = canvas.current;
    const context = node?.getContext("2d");
    if (!node || !context || !box.current) return;
    const density = Math.min(3, window.devicePixelRatio || 1);
    const inks = inksOf(box.current);
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, shown);
    const [left, right] = [column, width - column];
    for (const line of lines) {
      const [y1, y2] = [(line.row + 0.5) * ROW - scroll.top, (line.column + 0.5) * ROW - scroll.top];
      const part = Math.abs(line.value) / strongest;
      context.globalAlpha = Math.min(1, 0.12 + part * 0.88);
      context.lineWidth = 0.6 + part * 3;
      context.strokeStyle = css(lineColour(panel, line.value, theme));
      context.beginPath();
      context.moveTo(left, y1);
      context.bezierCurveTo(left + (right - left) / 3, y1, right - (right - left) / 3, y2, right, y2);
      context.stroke();
    }
    context.globalAlpha = 1;
    context.fillStyle = inks.muted;
  });
  useEffect(draw, [draw, lines, width, shown, theme, scroll.top]);

  const move = (next: { side: Side; index: number } | null) => {
    setCursor(next);
    if (!next) return onHover?.(null);
    const at: Record<string, number> = next.side === "query" ? { [panel.rowDim]: next.index } : { [panel.columnDim]: next.index };
    onHover?.(panel.tokenDim ? { [panel.tokenDim]: next.index, ...at } : at);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const at = cursor ?? { side: "query" as const, index: -1 };
    const count = at.side === "query" ? panel.height : panel.width;
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    let next = at;
    if (step !== undefined) next = { ...at, index: Math.min(count - 1, Math.max(0, at.index + step)) };
    else if (event.key === "ArrowRight") next = { side: "key", index: Math.min(panel.width - 1, Math.max(0, at.index)) };
    else if (event.key === "ArrowLeft") next = { side: "query", index: Math.min(panel.height - 1, Math.max(0, at.index)) };
    else if (event.key === "Escape") return move(null);
    else return;
    event.preventDefault();
    move(next);
    setSpoken(saidOf(panel, next));
    const node = scroller.current;
    if (node && (next.index * ROW < node.scrollTop || (next.index + 1) * ROW > node.scrollTop + shown))
      node.scrollTop = Math.max(0, next.index * ROW - shown / 2);
  };

  const side = (which: Side) => {
    const names = which === "query" ? panel.rows : panel.columns;
    const from = Math.max(0, first);
    return names.slice(from, Math.max(from, last)).map((name, i) => {
      const index = from + i;
      const own = active?.side === which && active.index === index;
      const weight = active && active.side !== which ? valueAt(panel, active, which, index) : undefined;
      const fill = weight === undefined || Number.isNaN(weight) ? undefined : colour(panel.scale, weight, theme);
      return (
        <div
          key={`${which} ${index}`}
          className="cv-lines-token"
          data-linked={own}
          style={{
            top: index * ROW + 1,
            ...(which === "query" ? { left: 0, textAlign: "right" } : { left: width - column }),
            width: column,
            ...(fill && { background: css(fill), color: css(inkOn(fill)) }),
          }}
          onPointerEnter={() => move({ side: which, index })}
          onClick={() => onSelect?.({ [which === "query" ? panel.rowDim : panel.columnDim]: index })}
        >
          {name}
          {weight !== undefined && Math.abs(weight) >= strongest / 1000 && <small> {figure(weight, panel.scale.name === "diverging")}</small>}
        </div>
      );
    });
  };

  return (
    <div ref={box} className="cv-box cv-picture">
      <p className="cv-note">
        {active
          ? `${active.side === "query" ? "Attends most to" : "Attended to most by"}: ${tiedTo(panel, active, 5)}`
          : "Left attends (query), right is attended to (key). Point at a token to see its lines alone."}
      </p>
      <div
        ref={scroller}
        className="cv-scroll"
        style={{ height: shown }}
        onScroll={scroll.onScroll}
        tabIndex={0}
        role="application"
        aria-roledescription="lines between tokens"
        aria-label={`${title}: lines from ${panel.height} queries to ${panel.width} keys. Arrow keys move from token to token.`}
        onKeyDown={onKeyDown}
        onPointerLeave={() => move(null)}
        onBlur={() => move(null)}
      >
        <div className="cv-lines" style={{ height: full, width }}>
          {side("query")}
          {side("key")}
          <canvas
            ref={canvas}
            width={Math.round(width * Math.min(3, window.devicePixelRatio || 1))}
            height={Math.round(shown * Math.min(3, window.devicePixelRatio || 1))}
            style={{ width, height: shown, top: scroll.top }}
            aria-hidden="true"
          />
        </div>
      </div>
      <Spoken text={spoken} />
      <Legend scale={panel.scale} name={panel.valueName} theme={theme} />
    </div>
  );
}

/** The lines to draw, the weakest first: of the token pointed at, or all that begin or end in sight. */
export function linesIn(
  panel: Grid,
  first: number,
  last: number,
  active: { side: Side; index: number } | null,
  strongest: number,
): AttentionLine[] {
  const found: AttentionLine[] = [];
  const least = active ? 0.004 * strongest : 0.02 * strongest;
  const take = (row: number, column: number) => {
    const value = panel.values[row * panel.width + column] as number;
    if (Math.abs(value) >= least) found.push({ row, column, value });
  };
  if (active?.side === "query" && active.index < panel.height) {
    for (let column = 0; column < panel.width; column++) take(active.index, column);
  } else if (active?.side === "key" && active.index < panel.width) {
    for (let row = 0; row < panel.height; row++) take(row, active.index);
  } else if (!active) {
    const inSight = (index: number) => index >= first && index < last;
    for (let row = 0; row < panel.height; row++) {
      if (inSight(row)) for (let column = 0; column < panel.width; column++) take(row, column);
      else for (let column = Math.max(0, first); column < Math.min(panel.width, last); column++) take(row, column);
    }
  }
  found.sort((a, b) => Math.abs(a.value) - Math.abs(b.value));
  return found.slice(-MOST_LINES);
}

/** The palest colours of a scale cannot be seen as lines: they start a third of the way. */
function lineColour(panel: Grid, value: number, theme: "light" | "dark") {
  const { name, low, high } = panel.scale;
  if (name === "diverging") return colour(panel.scale, value < 0 ? Math.min(value, low * 0.4) : Math.max(value, high * 0.4), theme);
  return colour(panel.scale, Math.max(value, low + (high - low) * 0.45), theme);
}

function valueAt(panel: Grid, active: { side: Side; index: number }, which: Side, index: number): number {
  const [row, column] = which === "key" ? [active.index, index] : [index, active.index];
  return panel.values[row * panel.width + column] as number;
}

function nameOf(panel: Grid, at: { side: Side; index: number }): string {
  return (at.side === "query" ? panel.rows : panel.columns)[at.index] ?? String(at.index);
}

/** A token and the three that it is most tied to. */
function saidOf(panel: Grid, at: { side: Side; index: number }): string {
  return `${at.side} ${nameOf(panel, at)}: ${tiedTo(panel, at, 3)}`;
}

/** The tokens of the other side that a token is most tied to, with their weights. */
function tiedTo(panel: Grid, at: { side: Side; index: number }, most: number): string {
  const other: Side = at.side === "query" ? "key" : "query";
  const count = other === "key" ? panel.width : panel.height;
  const signs = panel.scale.name === "diverging";
  const tied = Array.from({ length: count }, (_, index) => ({ index, value: valueAt(panel, at, other, index) }))
    .filter(({ value }) => !Number.isNaN(value))
    .sort((a, b) => Math.abs(b.value) - Math.abs(a.value))
    .slice(0, most)
    .map(({ index, value }) => `${nameOf(panel, { side: other, index })} ${figure(value, signs)}`);
  return tied.join(", ") || "no values";
}
