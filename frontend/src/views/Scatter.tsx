/** Points in a plane, on a canvas so that a hundred thousand stay fast; a name where it covers no other. */

import { useEffect, useMemo, useRef, useState, type KeyboardEvent, type PointerEvent } from "react";
import { Frame, across, axesOf, below, down, type Axes } from "./axes";
import { span, type Points } from "./framing";
import { inksOf } from "./gridDrawing";
import { Empty, Hint, Spoken, type Pointed } from "./Hint";
import { Legend } from "./Legend";
import { unravelled } from "./nd";
import { classColour, colour, css } from "./palette";
import { roomFor, useFrame, useWidth } from "./surroundings";
import type { Drawn } from "./types";
import { figure, number, whole } from "./words";

const MOST_NAMES = 60;
const NEAR = 24;

export function Scatter({ panel, title, theme, height, hover, onHover, onSelect }: Drawn<Points>) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const width = useWidth(box);
  const [at, setAt] = useState<number | null>(null);
  const [pointed, setPointed] = useState<Pointed | null>(null);
  const [spoken, setSpoken] = useState("");
  const known = useMemo(() => knownPoints(panel), [panel]);
  const tall = Math.min(height ?? 340, 520);
  const axes = useMemo(() => planeOf(panel, known, width, tall), [panel, known, width, tall]);
  const names = useMemo(() => (axes ? placedNames(panel, known, axes) : []), [panel, known, axes]);
  const linked = linkedPoint(panel, hover);

  const draw = useFrame(() => {
    const context = canvas.current?.getContext("2d");
    if (!context || !box.current || !axes) return;
    const density = Math.min(3, window.devicePixelRatio || 1);
    const inks = inksOf(box.current);
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, context.canvas.height);
    context.strokeStyle = inks.muted;
    context.lineWidth = 0.7;
    const radius = known.length > 5000 ? 2 : 4;
    const plain = css(classColour(0, theme));
    const dot = (i: number, size: number) => {
      context.fillStyle = panel.scale && panel.values ? css(colour(panel.scale, panel.values[i] as number, theme)) : plain;
      context.beginPath();
      context.arc(across(axes, panel.x[i] as number), down(axes, panel.y[i] as number), size, 0, 2 * Math.PI);
      context.fill();
      context.stroke();
    };
    for (const i of known) dot(i, radius);
    context.strokeStyle = inks.ink;
    context.lineWidth = 2;
    for (const i of new Set([linked, at])) if (typeof i === "number" && known.includes(i)) dot(i, radius + 2);
  });
  useEffect(draw, [draw, panel, axes, theme, at, linked]);
  if (!axes) return <Empty>There are no points to show.</Empty>;

  const linesOf = (i: number) => [
    ...(panel.labels ? [panel.labels[i] ?? ""] : []),
    `${panel.xName} ${number(panel.x[i] as number)}`,
    `${panel.yName} ${number(panel.y[i] as number)}`,
    ...(panel.scale && panel.values
      ? [`${panel.valueName} ${figure(panel.values[i] as number, panel.scale.name === "diverging")}`]
      : []),
  ];
  const move = (next: number | null, speak = false) => {
    if (next === at && !speak) return;
    setAt(next);
    if (next === null) {
      setPointed(null);
      return onHover?.(null);
    }
    const lines = linesOf(next);
    setPointed({ x: across(axes, panel.x[next] as number), y: down(axes, panel.y[next] as number), lines });
    if (speak) setSpoken(lines.join(", "));
    onHover?.(unravelled(next, panel.dims, panel.shape));
  };
  const onPointerMove = (event: PointerEvent<HTMLDivElement>) => {
    const corner = event.currentTarget.getBoundingClientRect();
    const [x, y] = [event.clientX - corner.left, event.clientY - corner.top];
    let [best, found] = [NEAR, -1];
    for (const i of known) {
      const away = Math.hypot(across(axes, panel.x[i] as number) - x, down(axes, panel.y[i] as number) - y);
      if (away < best) [best, found] = [away, i];
    }
    move(found < 0 ? null : found);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const by = event.key === "ArrowUp" || event.key === "ArrowDown" ? panel.y : panel.x;
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Enter" && at !== null) onSelect?.(unravelled(at, panel.dims, panel.shape));
    if (event.key === "Escape") move(null);
    if (step === undefined) return;
    event.preventDefault();
    const order = [...known].sort((a, b) => (by[a] as number) - (by[b] as number) || a - b);
    const rank = at === null ? (step > 0 ? -1 : 1) : order.indexOf(at);
    move(order[Math.min(order.length - 1, Math.max(0, rank + step))] as number, true);
  };
  const full = axes.top + axes.height + below(axes);
  const density = Math.min(3, window.devicePixelRatio || 1);
  return (
    <div ref={box} className="cv-box cv-picture">
      <div
        className="cv-grid"
        style={{ height: full }}
        role="application"
        aria-roledescription="scatter plot"
        aria-label={`${title}: ${known.length} points of ${panel.yName} against ${panel.xName}. Arrow keys move from point to point.`}
        tabIndex={0}
        onKeyDown={onKeyDown}
        onPointerMove={onPointerMove}
        onPointerLeave={() => move(null)}
        onBlur={() => move(null)}
        onClick={() => at !== null && onSelect?.(unravelled(at, panel.dims, panel.shape))}
      >
        <svg width={width} height={full} aria-hidden="true" style={{ position: "absolute" }}>
          <Frame axes={axes} xName={panel.xName} yName={panel.yName} />
        </svg>
        <canvas
          ref={canvas}
          width={Math.round(width * density)}
          height={Math.round(full * density)}
          style={{ width, height: full }}
          role="img"
          aria-label={`${title}: scatter plot`}
        />
        <svg width={width} height={full} aria-hidden="true" style={{ position: "absolute", pointerEvents: "none" }}>
          {names.map(({ index, x, y }) => (
            <text key={index} x={x} y={y} style={{ fontSize: 10 }}>
              {panel.labels?.[index]}
            </text>
          ))}
        </svg>
        <Hint pointed={pointed} />
      </div>
      <Spoken text={spoken} />
      {panel.scale && panel.values && (
        <Legend
          scale={panel.scale}
          name={panel.valueName}
          theme={theme}
          missing={known.some((i) => Number.isNaN(panel.values?.[i]))}
        />
      )}
      {known.length < panel.x.length && (
        <p className="cv-note">
          {whole(panel.x.length - known.length)} of {whole(panel.x.length)} points have missing or infinite coordinates and
          are not shown.
        </p>
      )}
    </div>
  );
}

function knownPoints(panel: Points): number[] {
  const found = [];
  for (let i = 0; i < panel.x.length; i++) if (Number.isFinite(panel.x[i]) && Number.isFinite(panel.y[i])) found.push(i);
  return found;
}

function planeOf(panel: Points, known: readonly number[], width: number, height: number): Axes | null {
  const x = span(known.map((i) => panel.x[i] as number), 0.06);
  const y = span(known.map((i) => panel.y[i] as number), 0.06);
  return x && y ? axesOf(x, y, width, height) : null;
}

function linkedPoint(panel: Points, hover: Drawn<Points>["hover"]): number | null {
  if (!hover || !panel.dims.length || panel.dims.some((dim) => hover[dim] === undefined)) return null;
  return panel.dims.reduce((flat, dim, axis) => flat * (panel.shape[axis] as number) + (hover[dim] as number), 0);
}

/** Names beside their points; one that would cover another point or name is left to the hint. */
export function placedNames(panel: Points, known: readonly number[], axes: Axes): { index: number; x: number; y: number }[] {
  if (!panel.labels || known.length > 2000) return [];
  const taken = known.map((i): [number, number, number, number] => {
    const [x, y] = [across(axes, panel.x[i] as number), down(axes, panel.y[i] as number)];
    return [x - 5, y - 5, x + 5, y + 5];
  });
  const placed: { index: number; x: number; y: number }[] = [];
  for (const [own, index] of known.entries()) {
    if (placed.length >= MOST_NAMES) break;
    const wide = roomFor(panel.labels[index] ?? "", 10);
    const [left, top] = [(taken[own] as number[])[0] as number, (taken[own] as number[])[1] as number];
    for (const start of [left + 12, left - 2 - wide]) {
      const label: [number, number, number, number] = [start, top - 1, start + wide, top + 11];
      const inside = start >= axes.left && start + wide <= axes.left + axes.width + 12 && top > axes.top;
      if (!inside || taken.some((other, j) => j !== own && overlap(label, other))) continue;
      taken.push(label);
      placed.push({ index, x: start, y: top + 8.5 });
      break;
    }
  }
  return placed;
}

function overlap(a: readonly number[], b: readonly number[]): boolean {
  return a[0]! < b[2]! && b[0]! < a[2]! && a[1]! < b[3]! && b[1]! < a[3]!;
}
