/**
 * A line for each member of a series, with a band from low to high.
 *
 * Curves of classes differ in colour and dashes; those of a long numbered series (such as layers) take the colours of
 * a scale. The cursor goes from place to place and from curve to curve.
 */

import { useMemo, useRef, useState, type KeyboardEvent, type PointerEvent } from "react";
import { Frame, across, axesOf, below, down, type Axes } from "./axes";
import { span, type Line, type Lines } from "./framing";
import { Empty, Hint, Spoken, type Pointed } from "./Hint";
import { ClassKey, Legend } from "./Legend";
import type { Numbers } from "./nd";
import { DASHES, classColour, colour, css, type Scale } from "./palette";
import { useWidth } from "./surroundings";
import type { Drawn } from "./types";
import { number, tick } from "./words";

const MOST_PLACES = 1500;

interface At {
  line: number;
  place: number;
}

export function Curves({ panel, title, theme, height, hover, onHover, onSelect }: Drawn<Lines>) {
  const box = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const [hidden, setHidden] = useState<ReadonlySet<number>>(new Set());
  const [at, setAt] = useState<At | null>(null);
  const [pointed, setPointed] = useState<Pointed | null>(null);
  const [spoken, setSpoken] = useState("");
  const order = useMemo(() => sortedPlaces(panel.x), [panel]);
  const scale = useMemo(() => seriesScale(panel), [panel]);
  const drawn = panel.lines.map((line, index) => ({ line, index })).filter(({ index }) => !hidden.has(index));
  const xSpan = span(panel.x as Iterable<number>, 0.02);
  const ySpan = span(allY(drawn.length ? drawn.map(({ line }) => line) : panel.lines));
  if (!xSpan || !ySpan) return <Empty>There are no points to show.</Empty>;

  const axes = axesOf(xSpan, ySpan, width, Math.min(height ?? 280, 420));
  const full = axes.top + axes.height + below(axes, panel.xLabels);
  const paint = (index: number): { stroke: string; strokeDasharray?: string | undefined } =>
    scale
      ? { stroke: css(colour(scale, panel.lines[index]?.place ?? NaN, theme)) }
      : { stroke: css(classColour(index, theme)), strokeDasharray: DASHES[index % DASHES.length] || undefined };
  const said = (place: At): string[] => {
    const line = panel.lines[place.line] as Line;
    const x = panel.x[place.place] as number;
    const ends = [line.low?.[place.place], line.high?.[place.place]].filter((end) => end !== undefined);
    return [
      ...(line.name ? [`${panel.seriesName} ${line.name}`] : []),
      `${panel.xName} ${panel.xLabels?.[x] ?? tick(x)}`,
      `${panel.valueName} ${number(line.y[place.place] as number)}`,
      ...(ends.length === 2 ? [`interval ${ends.map((end) => number(end as number)).join(" to ")}`] : []),
    ];
  };
  const hoverOf = ({ line, place }: At) => ({
    [panel.xDim]: place,
    ...(panel.seriesDim !== undefined && { [panel.seriesDim]: line }),
  });
  const move = (next: At | null, speak = false) => {
    if (next?.line === at?.line && next?.place === at?.place && !speak) return;
    setAt(next);
    if (!next) {
      setPointed(null);
      return onHover?.(null);
    }
    const lines = said(next);
    const y = panel.lines[next.line]?.y[next.place] as number;
    const top = Number.isFinite(y) ? down(axes, y) : axes.top;
    setPointed({ x: across(axes, panel.x[next.place] as number), y: top, lines });
    if (speak) setSpoken(lines.join(", "));
    onHover?.(hoverOf(next));
  };
  const onPointerMove = (event: PointerEvent<SVGSVGElement>) => {
    const corner = event.currentTarget.getBoundingClientRect();
    move(nearest(panel, axes, drawn.map(({ index }) => index), event.clientX - corner.left, event.clientY - corner.top));
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const lines = drawn.map(({ index }) => index);
    const [first] = lines;
    if (first === undefined) return;
    const here = at ?? { line: first, place: order[0] as number };
    const [rank, row] = [order.indexOf(here.place), lines.indexOf(here.line)];
    const place = (step: number) => ({ ...here, place: order[Math.min(order.length - 1, Math.max(0, rank + step))] as number });
    const line = (step: number) => ({ ...here, line: lines[(row + step + lines.length) % lines.length] as number });
    const steps: Record<string, () => At> = {
      ArrowRight: () => (at ? place(1) : here),
      ArrowLeft: () => (at ? place(-1) : here),
      ArrowDown: () => line(1),
      ArrowUp: () => line(-1),
      Home: () => place(-order.length),
      End: () => place(order.length),
    };
    if (event.key === "Enter" && at) onSelect?.(hoverOf(at));
    if (event.key === "Escape") move(null);
    const next = steps[event.key]?.();
    if (!next) return;
    event.preventDefault();
    move(next, true);
  };
  const linkedX = hover?.[panel.xDim];
  const linkedLine = panel.seriesDim === undefined ? undefined : hover?.[panel.seriesDim];
  const strong = at?.line ?? linkedLine;
  const dots = panel.lines.length * panel.x.length <= 400;
  return (
    <div ref={box} className="cv-box cv-picture">
      <svg
        width={width}
        height={full}
        role="application"
        aria-roledescription="curves"
        aria-label={`${title}: ${panel.lines.length} ${panel.lines.length === 1 ? "curve" : "curves"} of ${panel.valueName} over ${panel.xName}. Arrow keys move along and between curves.`}
        tabIndex={0}
        onKeyDown={onKeyDown}
        onPointerMove={onPointerMove}
        onPointerLeave={() => move(null)}
        onBlur={() => move(null)}
        onClick={() => at && onSelect?.(hoverOf(at))}
      >
        <Frame axes={axes} xName={panel.xName} yName={panel.valueName} labels={panel.xLabels} />
        {linkedX !== undefined && linkedX < panel.x.length && (
          <line
            className="cv-muted-line"
            strokeDasharray="3 3"
            x1={across(axes, panel.x[linkedX] as number)}
            x2={across(axes, panel.x[linkedX] as number)}
            y1={axes.top}
            y2={axes.top + axes.height}
          />
        )}
        {drawn.map(({ line, index }) => (
          <Band key={index} axes={axes} x={panel.x} line={line} order={order} paint={paint(index)} />
        ))}
        {drawn.map(({ line, index }) => (
          <path
            key={index}
            d={pathOf(axes, panel.x, line.y, thinned(order, line.y))}
            fill="none"
            strokeWidth={strong === index ? 3 : 1.8}
            strokeOpacity={strong === undefined || strong === index ? 1 : 0.45}
            strokeLinejoin="round"
            {...paint(index)}
          />
        ))}
        {dots &&
          drawn.flatMap(({ line, index }) =>
            order.map((place) => {
              const [x, y] = [panel.x[place] as number, line.y[place] as number];
              if (!Number.isFinite(x) || !Number.isFinite(y)) return null;
              const { stroke } = paint(index);
              const own = at?.line === index && at.place === place;
              return (
                <circle
                  key={`${index} ${place}`}
                  cx={across(axes, x)}
                  cy={down(axes, y)}
                  r={own ? 4.5 : 2.2}
                  fill={own ? stroke : "var(--paper)"}
                  stroke={stroke}
                  strokeWidth="1.6"
                />
              );
            }),
          )}
        {!dots && at && Number.isFinite(panel.lines[at.line]?.y[at.place]) && (
          <circle
            cx={across(axes, panel.x[at.place] as number)}
            cy={down(axes, panel.lines[at.line]?.y[at.place] as number)}
            r="4.5"
            fill={paint(at.line).stroke}
          />
        )}
      </svg>
      <Hint pointed={pointed} />
      <Spoken text={spoken} />
      {scale ? (
        <Legend scale={scale} name={panel.seriesName} theme={theme} start={Math.min(...panel.lines.map((line) => line.place ?? 0))} />
      ) : (
        panel.lines.length > 1 && (
          <ClassKey
            title={panel.seriesName}
            names={panel.lines.map((line) => line.name)}
            theme={theme}
            dashed
            hidden={hidden}
            onToggle={(index) =>
              setHidden((old) => {
                const next = new Set(old);
                if (!next.delete(index)) next.add(index);
                return next;
              })
            }
          />
        )
      )}
    </div>
  );
}

/** The interval as an area; where only one end is known, as a thin line. */
function Band({
  axes,
  x,
  line,
  order,
  paint,
}: {
  axes: Axes;
  x: Numbers;
  line: Line;
  order: readonly number[];
  paint: { stroke: string; strokeDasharray?: string | undefined };
}) {
  const { low, high } = line;
  if (low && high) {
    const known = order.filter((i) => Number.isFinite(low[i]) && Number.isFinite(high[i]));
    const point = (side: Numbers) => (i: number) =>
      `${across(axes, x[i] as number).toFixed(2)} ${down(axes, side[i] as number).toFixed(2)}`;
    const ends = [...known.map(point(high)), ...[...known].reverse().map(point(low))];
    return ends.length ? <polygon points={ends.join(" ")} fill={paint.stroke} fillOpacity="0.16" /> : null;
  }
  const end = low ?? high;
  if (!end) return null;
  return <path d={pathOf(axes, x, end, thinned(order, end))} fill="none" strokeWidth="0.8" strokeOpacity="0.7" {...paint} />;
}

/** The curve, broken where values are missing. */
export function pathOf(axes: Axes, x: Numbers, y: Numbers, order: readonly number[]): string {
  let path = "";
  let joined = false;
  for (const i of order) {
    const [a, b] = [x[i] as number, y[i] as number];
    if (!Number.isFinite(a) || !Number.isFinite(b)) {
      joined = false;
      continue;
    }
    path += `${joined ? "L" : "M"}${across(axes, a).toFixed(2)} ${down(axes, b).toFixed(2)}`;
    joined = true;
  }
  return path;
}

/** At most MOST_PLACES places: of each block the lowest and the highest. */
export function thinned(order: readonly number[], y: Numbers): readonly number[] {
  if (order.length <= MOST_PLACES) return order;
  const blocks = MOST_PLACES / 2;
  return Array.from({ length: blocks }, (_, block) => {
    const from = Math.floor((block * order.length) / blocks);
    const to = Math.floor(((block + 1) * order.length) / blocks);
    let [low, high] = [-1, -1];
    for (let i = from; i < to; i++) {
      const value = y[order[i] as number] as number;
      if (!Number.isFinite(value)) continue;
      if (low < 0 || value < (y[order[low] as number] as number)) low = i;
      if (high < 0 || value > (y[order[high] as number] as number)) high = i;
    }
    return [...new Set([low, high])].filter((i) => i >= 0).sort((a, b) => a - b);
  })
    .flat()
    .map((i) => order[i] as number);
}

/** The colours of a long numbered series; the palest third is hard to see. */
function seriesScale(panel: Lines): Scale | null {
  const places = panel.lines.map((line) => line.place).filter((place) => place !== undefined);
  if (places.length !== panel.lines.length || places.length <= 8) return null;
  const [low, high] = [Math.min(...places), Math.max(...places)];
  return { name: "sequential", low: low - (high - low) / 3, high };
}

function sortedPlaces(x: Numbers): number[] {
  return Array.from({ length: x.length }, (_, i) => i).sort((a, b) => (x[a] as number) - (x[b] as number) || a - b);
}

function* allY(lines: readonly Line[]): Iterable<number> {
  for (const line of lines)
    for (const side of [line.y, line.low, line.high]) if (side) yield* side as Iterable<number>;
}

function nearest(panel: Lines, axes: Axes, lines: readonly number[], x: number, y: number): At | null {
  let place = -1;
  let best = Infinity;
  for (let i = 0; i < panel.x.length; i++) {
    const away = Math.abs(across(axes, panel.x[i] as number) - x);
    if (away < best) [best, place] = [away, i];
  }
  if (place < 0) return null;
  let line = -1;
  best = Infinity;
  for (const index of lines) {
    const away = Math.abs(down(axes, panel.lines[index]?.y[place] as number) - y);
    if (away < best) [best, line] = [away, index];
  }
  return line < 0 ? null : { line, place };
}

