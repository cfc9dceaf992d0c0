/** Columns over bins of equal width; groups lie over each other, with outlines in dashes of their own. */

import { useRef, useState, type KeyboardEvent } from "react";
import { Frame, across, axesOf, below, down } from "./axes";
import type { Counts } from "./framing";
import { Empty, Hint, Spoken, type Pointed } from "./Hint";
import { ClassKey } from "./Legend";
import { DASHES, classColour, css } from "./palette";
import { useWidth } from "./surroundings";
import type { Drawn } from "./types";
import { number, whole } from "./words";

export function Histogram({ panel, title, theme, height }: Drawn<Counts>) {
  const box = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const [at, setAt] = useState<number | null>(null);
  const [pointed, setPointed] = useState<Pointed | null>(null);
  const [spoken, setSpoken] = useState("");
  const most = Math.max(0, ...panel.counts.flat());
  if (!most) return <Empty>{`There are no values to count.${panel.leftOut && ` ${panel.leftOut}`}`}</Empty>;

  const { edges, counts, groups } = panel;
  const axes = axesOf([edges[0] as number, edges.at(-1) as number], [0, most * 1.05], width, Math.min(height ?? 260, 400));
  const full = axes.top + axes.height + below(axes);
  const bins = edges.length - 1;
  const floor = down(axes, 0);
  const left = (bin: number) => across(axes, edges[bin] as number);
  const linesOf = (bin: number) => [
    `${number(edges[bin] as number)} to ${number(edges[bin + 1] as number)}`,
    ...counts.map((counted, group) => {
      const count = counted[bin] as number;
      const said = `${whole(count)} ${count === 1 ? "value" : "values"}`;
      return groups.length ? `${groups[group]}: ${said}` : said;
    }),
  ];
  const move = (bin: number | null, speak = false) => {
    if (bin === at && !speak) return;
    setAt(bin);
    if (bin === null) return setPointed(null);
    const lines = linesOf(bin);
    const top = Math.max(...counts.map((counted) => counted[bin] as number));
    setPointed({ x: left(bin + 1), y: down(axes, top), lines });
    if (speak) setSpoken(lines.join(", "));
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Escape") move(null);
    if (step === undefined) return;
    event.preventDefault();
    move(Math.min(bins - 1, Math.max(0, (at ?? -1) + step)), true);
  };
  const total = counts.flat().reduce((sum, count) => sum + count, 0);
  return (
    <div ref={box} className="cv-box cv-picture">
      <svg
        width={width}
        height={full}
        role="application"
        aria-roledescription="histogram"
        aria-label={`${title}: ${whole(total)} values of ${panel.valueName} in ${bins} bins. Arrow keys move from bin to bin.`}
        tabIndex={0}
        onKeyDown={onKeyDown}
        onPointerLeave={() => move(null)}
        onBlur={() => move(null)}
      >
        <Frame axes={axes} xName={panel.valueName} yName="how many" />
        {counts.map((counted, group) => {
          const fill = css(classColour(group, theme));
          const outline = counted.map(
            (count, bin) => `${left(bin).toFixed(2)} ${down(axes, count).toFixed(2)} ${left(bin + 1).toFixed(2)} ${down(axes, count).toFixed(2)}`,
          );
          return (
            <g key={group}>
              {counted.map((count, bin) => (
                <rect
                  key={bin}
                  x={left(bin)}
                  y={down(axes, count)}
                  width={Math.max(0, left(bin + 1) - left(bin) - (groups.length ? 0 : 0.6))}
                  height={floor - down(axes, count)}
                  fill={fill}
                  fillOpacity={groups.length ? 0.22 : at === bin ? 1 : 0.85}
                />
              ))}
              {groups.length > 0 && (
                <polyline
                  points={`${left(0)} ${floor} ${outline.join(" ")} ${left(bins)} ${floor}`}
                  fill="none"
                  stroke={fill}
                  strokeWidth="1.5"
                  strokeDasharray={DASHES[group % DASHES.length] || undefined}
                />
              )}
            </g>
          );
        })}
        {at !== null && (
          <rect
            x={left(at)}
            y={axes.top}
            width={left(at + 1) - left(at)}
            height={axes.height}
            fill="none"
            className="cv-muted-line"
          />
        )}
        {edges.slice(1).map((_, bin) => (
          <rect
            key={bin}
            x={left(bin)}
            y={axes.top}
            width={left(bin + 1) - left(bin)}
            height={axes.height}
            fill="transparent"
            onPointerEnter={() => move(bin)}
          />
        ))}
      </svg>
      <Hint pointed={pointed} />
      <Spoken text={spoken} />
      {groups.length > 0 && <ClassKey names={groups} theme={theme} dashed />}
      {panel.leftOut && <p className="cv-note">{panel.leftOut}</p>}
    </div>
  );
}
