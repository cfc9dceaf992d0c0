/** A bar a line, to the right above zero and to the left below, with a whisker for its interval. */

import { useMemo, useRef, useState, type KeyboardEvent } from "react";
import { farthest, type BarsPanel } from "./framing";
import { Empty, Hint, Spoken, type Pointed } from "./Hint";
import { ClassKey } from "./Legend";
import { classColour, colour, css, share, type Theme } from "./palette";
import { cut, roomFor, useScroll, useWidth } from "./surroundings";
import type { Drawn } from "./types";
import { anyNegative, figure, number } from "./words";

const MOST_BARS = 80;
const SIGNS = { name: "diverging", low: -1, high: 1 } as const;

export function Bars({ panel, title, theme, height = 720, hover, onHover, onSelect }: Drawn<BarsPanel>) {
  const box = useRef<HTMLDivElement>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const width = useWidth(box) - 12;
  const [all, setAll] = useState(false);
  const [at, setAt] = useState<number | null>(null);
  const [pointed, setPointed] = useState<Pointed | null>(null);
  const [spoken, setSpoken] = useState("");
  const kept = useMemo(() => farthest(panel.values, all ? Infinity : MOST_BARS), [panel, all]);
  const signs = useMemo(() => anyNegative(panel.values), [panel]);
  const high = panel.groups.length < 2 || panel.classes ? 20 : 15;
  const tops = useMemo(() => topsOf(kept, panel.width, high), [kept, panel.width, high]);
  const full = (tops.at(-1) ?? 0) + high + 8;
  const shown = Math.min(height, full);
  const scroll = useScroll(scroller, shown);
  if (!panel.values.length) return <Empty>There are no bars to show.</Empty>;

  const labelOf = (bar: number) => Math.floor(bar / panel.width);
  const groupOf = (bar: number) => (panel.groups.length ? (panel.classes?.[labelOf(bar)] ?? bar % panel.width) : null);
  const valueSaid = (bar: number) => figure(panel.values[bar] as number, signs);
  const longest = Math.max(...kept.map((bar) => roomFor(panel.labels[labelOf(bar)] ?? "", 12, true)));
  const left = Math.min(200, width * 0.34, longest) + 10;
  const ending = Math.max(...kept.map((bar) => roomFor(valueSaid(bar), 11))) + 12;
  const [low, top] = endsOf(panel, kept);
  const place = (value: number) =>
    left + share(Math.min(top, Math.max(low, value)), low, top) * Math.max(30, width - left - ending);
  const linesOf = (bar: number): string[] => {
    const group = groupOf(bar);
    const ends = [panel.low?.[bar], panel.high?.[bar]];
    return [
      `${panel.labelName} ${panel.labels[labelOf(bar)]}`,
      ...(group === null ? [] : [panel.groups[group] ?? ""]),
      `${panel.valueName} ${valueSaid(bar)}`,
      ...(panel.low || panel.high
        ? [`interval ${ends.map((end) => (end === undefined ? "" : number(end))).join(" to ")}`]
        : []),
    ];
  };
  const hoverOf = (bar: number) => ({
    [panel.labelDim]: labelOf(bar),
    ...(panel.groupDim !== undefined && { [panel.groupDim]: bar % panel.width }),
  });
  const move = (rank: number | null, speak = false) => {
    setAt(rank);
    const bar = rank === null ? undefined : kept[rank];
    if (rank === null || bar === undefined) {
      setPointed(null);
      return onHover?.(null);
    }
    const lines = linesOf(bar);
    setPointed({ x: left + 30, y: (tops[rank] ?? 0) + high - scroll.top + 20, lines });
    if (speak) setSpoken(lines.join(", "));
    onHover?.(hoverOf(bar));
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Enter" && at !== null) onSelect?.(hoverOf(kept[at] as number));
    if (event.key === "Escape") move(null);
    if (step === undefined) return;
    event.preventDefault();
    const next = Math.min(kept.length - 1, Math.max(0, (at ?? -1) + step));
    move(next, true);
    const [y, node] = [tops[next] ?? 0, scroller.current];
    if (node && (y < node.scrollTop || y + high > node.scrollTop + shown)) node.scrollTop = y - shown / 2;
  };
  const linked = hover?.[panel.labelDim];
  return (
    <div ref={box} className="cv-box cv-picture">
      <div className="cv-note" style={{ margin: `0 0 2px ${left}px` }}>
        {panel.valueName}
      </div>
      <div
        ref={scroller}
        className="cv-scroll"
        style={{ height: shown }}
        onScroll={scroll.onScroll}
        tabIndex={0}
        role="application"
        aria-roledescription="bars"
        aria-label={`${title}: ${kept.length} bars of ${panel.valueName} by ${panel.labelName}. Arrow keys move from bar to bar.`}
        onKeyDown={onKeyDown}
        onPointerLeave={() => move(null)}
        onBlur={() => move(null)}
      >
        <svg width={width} height={full} aria-hidden="true" style={{ display: "block" }}>
          {kept.map((bar, rank) => {
            const y = tops[rank] ?? 0;
            if (y < scroll.top - 60 || y > scroll.top + scroll.height + 60) return null;
            const value = panel.values[bar] as number;
            const starts = rank === 0 || labelOf(kept[rank - 1] as number) !== labelOf(bar);
            const own = rank === at || (at === null && linked === labelOf(bar));
            const [a, b] = [place(0), Number.isNaN(value) ? place(0) : place(value)];
            const ends = [panel.low?.[bar], panel.high?.[bar]].filter((end): end is number => Number.isFinite(end));
            const beyond = Math.max(a, b, ...ends.map(place));
            return (
              <g key={bar} onPointerEnter={() => move(rank)} onClick={() => onSelect?.(hoverOf(bar))}>
                <rect x="0" y={y - 1} width={width} height={high} fill={own ? "var(--hover)" : "transparent"} />
                {starts && (
                  <text className="cv-mono" x={left - 8} y={y + high / 2 + 3} textAnchor="end">
                    {cut(panel.labels[labelOf(bar)] ?? "", 11, left - 10, true)}
                  </text>
                )}
                <rect
                  x={Math.min(a, b)}
                  y={y}
                  width={Math.abs(b - a)}
                  height={high - 4}
                  rx="1.5"
                  fill={paintOf(groupOf(bar), value, signs, theme)}
                />
                <Whisker ends={ends.length === 1 ? [...ends, value] : ends} place={place} y={y + high / 2 - 2} />
                <text className="cv-muted" x={beyond + 6} y={y + high / 2 + 2}>
                  {valueSaid(bar)}
                </text>
              </g>
            );
          })}
          <line className="cv-muted-line" x1={place(0)} x2={place(0)} y1="0" y2={full - 4} />
        </svg>
      </div>
      <Hint pointed={pointed} />
      <Spoken text={spoken} />
      {panel.groups.length > 1 && <ClassKey names={panel.groups} theme={theme} />}
      {panel.values.length > MOST_BARS && (
        <p className="cv-note">
          {all
            ? `All ${panel.values.length} bars are shown. `
            : `${kept.length} of ${panel.values.length} bars are shown: the ones farthest from zero. `}
          <button type="button" onClick={() => setAll(!all)}>
            {all ? "Show fewer" : "Show all"}
          </button>
        </p>
      )}
    </div>
  );
}

function Whisker({ ends, place, y }: { ends: readonly number[]; place: (value: number) => number; y: number }) {
  if (ends.length !== 2 || ends.some(Number.isNaN)) return null;
  const [start, end] = [Math.min(...ends), Math.max(...ends)].map(place) as [number, number];
  return (
    <path
      className="cv-ink-line"
      strokeWidth="1.2"
      fill="none"
      d={`M${start} ${y}H${end}M${start} ${y - 3.5}V${y + 3.5}M${end} ${y - 3.5}V${y + 3.5}`}
    />
  );
}

/** The two ends of the field in which the bars lie; zero is in it. */
function endsOf(panel: BarsPanel, kept: readonly number[]): [number, number] {
  let [low, high] = [0, 0];
  for (const side of [panel.values, panel.low, panel.high])
    for (const bar of side ? kept : []) {
      const value = side?.[bar] as number;
      if (Number.isFinite(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
    }
  return [low, high > low ? high : low + 1];
}

/** Bars of one label stand close together. */
function topsOf(kept: readonly number[], width: number, high: number): number[] {
  let y = 2;
  return kept.map((bar, rank) => {
    const before = kept[rank - 1];
    if (before !== undefined) y += high + (Math.floor(before / width) === Math.floor(bar / width) ? 0 : 4);
    return y;
  });
}

function paintOf(group: number | null, value: number, signs: boolean, theme: Theme): string {
  if (group === null && signs) return css(colour(SIGNS, value >= 0 ? 0.65 : -0.65, theme));
  return css(classColour(group ?? 0, theme));
}
