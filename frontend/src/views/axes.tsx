/** Two axes with round numbers: the frame of curves, points and counts. Linear axes only. */

import { share } from "./palette";
import { cut, roomFor } from "./surroundings";
import { labelled, ticks } from "./words";

export interface Axes {
  x: readonly [number, number];
  y: readonly [number, number];
  left: number;
  top: number;
  width: number;
  height: number;
}

export function axesOf(
  x: readonly [number, number],
  y: readonly [number, number],
  width: number,
  height: number,
): Axes {
  const longest = Math.max(20, ...labelled(ticks(...y)).map(([, said]) => roomFor(said, 11)));
  const left = Math.min(90, longest) + 30;
  return { x, y, left, top: 8, width: Math.max(40, width - left - 14), height };
}

export function across(axes: Axes, value: number): number {
  return axes.left + share(value, ...axes.x) * axes.width;
}

export function down(axes: Axes, value: number): number {
  return axes.top + (1 - share(value, ...axes.y)) * axes.height;
}

/** How much room the names under the axis take. */
export function below(axes: Axes, labels?: readonly string[]): number {
  if (!labels) return 42;
  const longest = Math.max(0, ...labels.map((name) => roomFor(name, 11, true)));
  return (longest > axes.width / Math.max(1, labels.length) - 4 ? Math.min(longest, 110) * 0.71 + 14 : 18) + 24;
}

interface FrameProps {
  axes: Axes;
  xName: string;
  yName: string;
  labels?: readonly string[] | undefined;
}

export function Frame({ axes, xName, yName, labels }: FrameProps) {
  const bottom = axes.top + axes.height;
  const right = axes.left + axes.width;
  const apart = axes.width / Math.max(1, labels?.length ?? 1);
  const turned = labels?.some((name) => roomFor(name, 11, true) > apart - 4);
  const every = Math.max(1, Math.ceil(14 / apart));
  const about = Math.max(2, Math.min(8, Math.floor(axes.width / 70)));
  return (
    <g aria-hidden="true">
      {labelled(ticks(...axes.y)).map(([at, said]) => (
        <g key={at}>
          <line className="cv-rule-line" x1={axes.left} x2={right} y1={down(axes, at)} y2={down(axes, at)} />
          <text x={axes.left - 8} y={down(axes, at) + 4} textAnchor="end">
            {said}
          </text>
        </g>
      ))}
      {axes.y[0] < 0 && axes.y[1] > 0 && (
        <line className="cv-muted-line" x1={axes.left} x2={right} y1={down(axes, 0)} y2={down(axes, 0)} />
      )}
      <line className="cv-muted-line" x1={axes.left} x2={right} y1={bottom} y2={bottom} />
      {!labels &&
        labelled(ticks(...axes.x, about)).map(([at, said]) => (
          <text key={at} x={across(axes, at)} y={bottom + 16} textAnchor="middle">
            {said}
          </text>
        ))}
      {labels?.map((name, index) => {
        if (index % every) return null;
        const [x, y] = [across(axes, index), bottom + 16];
        return (
          <text
            key={index}
            className="cv-mono"
            x={x + (turned ? 4 : 0)}
            y={y}
            textAnchor={turned ? "end" : "middle"}
            transform={turned ? `rotate(-45 ${x + 4} ${y})` : undefined}
          >
            {cut(name, 11, 110, true)}
          </text>
        );
      })}
      <text className="cv-muted" x={axes.left + axes.width / 2} y={bottom + below(axes, labels) - 6} textAnchor="middle">
        {xName}
      </text>
      <text
        className="cv-muted"
        textAnchor="middle"
        transform={`translate(12 ${axes.top + axes.height / 2}) rotate(-90)`}
      >
        {cut(yName, 12, axes.height)}
      </text>
    </g>
  );
}
