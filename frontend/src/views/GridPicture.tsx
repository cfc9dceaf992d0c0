/** A grid of colours that is panned, zoomed and read cell by cell with the pointer or the keyboard. */

import { useEffect, useMemo, useRef, useState, type KeyboardEvent, type PointerEvent } from "react";
import type { Grid } from "./framing";
import {
  GridPainter,
  cameraOf,
  cellAt,
  drawMarks,
  inksOf,
  kept,
  layoutOf,
  showing,
  zoomed,
  type Camera,
  type Cell,
} from "./gridDrawing";
import { Hint, Spoken, type Pointed } from "./Hint";
import { Legend } from "./Legend";
import type { Theme } from "./palette";
import { useFrame, useWidth } from "./surroundings";
import type { Hover } from "./types";
import { figure } from "./words";

interface GridPictureProps {
  panel: Grid;
  title: string;
  theme: Theme;
  height?: number | undefined;
  hover?: Hover | undefined;
  onHover?: ((hover: Hover) => void) | undefined;
  onSelect?: ((chosen: Readonly<Record<string, number>>) => void) | undefined;
}

const ARROWS: Readonly<Record<string, readonly [number, number]>> = {
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
  PageUp: [-10, 0],
  PageDown: [10, 0],
};

export function GridPicture({ panel, title, theme, height = 560, hover, onHover, onSelect }: GridPictureProps) {
  const box = useRef<HTMLDivElement>(null);
  const base = useRef<HTMLCanvasElement>(null);
  const marks = useRef<HTMLCanvasElement>(null);
  const width = useWidth(box);
  const layout = useMemo(() => layoutOf(panel, width, height), [panel, width, height]);
  const painter = useMemo(() => new GridPainter(panel, theme), [panel, theme]);
  const camera = useRef<Camera>(cameraOf(layout));
  const cursor = useRef<Cell | null>(null);
  const pointers = useRef(new Map<number, { x: number; y: number }>());
  const dragged = useRef(false);
  const [pointed, setPointed] = useState<Pointed | null>(null);
  const [spoken, setSpoken] = useState("");
  const [isZoomed, setZoomed] = useState(false);

  const density = typeof window === "undefined" ? 1 : Math.min(3, window.devicePixelRatio || 1);
  const linked = linkedIn(panel, hover);

  const drawMarksNow = useFrame(() => {
    const context = marks.current?.getContext("2d");
    if (context && box.current)
      drawMarks(context, layout, camera.current, inksOf(box.current), density, cursor.current, linked);
  });
  const draw = useFrame(() => {
    const context = base.current?.getContext("2d");
    if (context && box.current) painter.draw(context, layout, camera.current, inksOf(box.current), density);
    drawMarksNow();
  });

  // a picture of other sizes starts anew; another slice of the same sizes stays where it was looked at
  const shape = `${panel.height} ${panel.width} ${layout.plotWidth} ${layout.plotHeight} ${layout.cellWidth}`;
  useEffect(() => {
    camera.current = cameraOf(layout);
    cursor.current = null;
    setZoomed(false);
    setPointed(null);
  }, [shape]); // eslint-disable-line react-hooks/exhaustive-deps
  useEffect(draw, [draw, painter, layout, theme, density]);
  useEffect(drawMarksNow, [drawMarksNow, linked.row, linked.column]);

  const look = (next: Camera) => {
    camera.current = kept(next, panel, layout);
    setZoomed(camera.current.cellWidth !== layout.cellWidth || camera.current.cellHeight !== layout.cellHeight);
    draw();
  };
  const zoom = (factor: number, x = layout.plotWidth / 2, y = layout.plotHeight / 2) =>
    look(zoomed(camera.current, panel, layout, factor, x, y));

  const larger =
    layout.cellWidth * panel.width > layout.plotWidth + 1 || layout.cellHeight * panel.height > layout.plotHeight + 1;
  const pannable = isZoomed || larger;

  // React listens passively to the wheel; a zoom must keep the page from zooming too
  useEffect(() => {
    const node = marks.current;
    if (!node) return;
    const turn = (event: WheelEvent) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const place = placeOf(event, node, layout.left);
      zoom(Math.exp(-event.deltaY / 250), place.x, place.y);
    };
    node.addEventListener("wheel", turn, { passive: false });
    return () => node.removeEventListener("wheel", turn);
  });

  const moveTo = (cell: Cell | null, from?: { x: number; y: number }) => {
    if (cell?.row === cursor.current?.row && cell?.column === cursor.current?.column && from === undefined) return;
    cursor.current = cell;
    drawMarksNow();
    if (!cell) {
      setPointed(null);
      onHover?.(null);
      return;
    }
    const lines = linesOf(panel, cell);
    const { x, y, cellWidth, cellHeight } = camera.current;
    const at = from ?? { x: x + (cell.column + 1) * cellWidth, y: y + (cell.row + 1) * cellHeight };
    setPointed({ x: layout.left + at.x, y: at.y, lines });
    if (!from) setSpoken(lines.join(", "));
    onHover?.(hoverOf(panel, cell));
  };

  const onPointerMove = (event: PointerEvent<HTMLCanvasElement>) => {
    const place = placeOf(event.nativeEvent, event.currentTarget, layout.left);
    const held = pointers.current.get(event.pointerId);
    if (!held) return moveTo(cellAt(camera.current, panel, layout, place.x, place.y), place);
    const others = [...pointers.current].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    pointers.current.set(event.pointerId, place);
    const other = others[0];
    if (other) {
      const [before, now] = [distance(held, other), distance(place, other)];
      if (before > 0) zoom(now / before, (place.x + other.x) / 2, (place.y + other.y) / 2);
      return;
    }
    const [dx, dy] = [place.x - held.x, place.y - held.y];
    if (Math.abs(dx) + Math.abs(dy) > 0) {
      dragged.current = true;
      const { x, y } = camera.current;
      look({ ...camera.current, x: x + dx, y: y + dy });
      setPointed(null);
    }
  };
  const release = (event: PointerEvent<HTMLCanvasElement>) => {
    const place = placeOf(event.nativeEvent, event.currentTarget, layout.left);
    const cell = cellAt(camera.current, panel, layout, place.x, place.y);
    if (pointers.current.delete(event.pointerId) && !dragged.current && cell) {
      moveTo(cell, place);
      onSelect?.(hoverOf(panel, cell));
    }
    if (!pointers.current.size) dragged.current = false;
  };

  const onKeyDown = (event: KeyboardEvent<HTMLDivElement>) => {
    const next = keyed(event.key, event.ctrlKey || event.metaKey, cursor.current, panel);
    if (next) {
      event.preventDefault();
      camera.current = showing(camera.current, panel, layout, next);
      draw();
      return moveTo(next);
    }
    if (event.key === "Enter" && cursor.current) onSelect?.(hoverOf(panel, cursor.current));
    else if (event.key === "Escape") moveTo(null);
    else if (event.key === "+" || event.key === "=") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else if (event.key === "0") look(cameraOf(layout));
    else return;
    event.preventDefault();
  };

  const what = panel.kind === "attention" ? "attention pattern" : "heat map";
  const said =
    `${title}: ${what} of ${panel.valueName}, ${panel.height} rows (${panel.rowName}) by ` +
    `${panel.width} columns (${panel.columnName}). Arrow keys move from cell to cell.`;
  return (
    <div ref={box} className="cv-box cv-picture">
      <div className="cv-grid-tools">
        <button type="button" aria-label="Zoom in" title="Zoom in (+, or Ctrl and wheel)" onClick={() => zoom(1.5)}>
          +
        </button>
        <button type="button" aria-label="Zoom out" title="Zoom out (-)" onClick={() => zoom(1 / 1.5)}>
          −
        </button>
        {isZoomed && (
          <button type="button" onClick={() => look(cameraOf(layout))}>
            Reset
          </button>
        )}
      </div>
      <div
        className="cv-grid"
        style={{ height: layout.height }}
        role="application"
        aria-roledescription={what}
        aria-label={said}
        tabIndex={0}
        onKeyDown={onKeyDown}
        onBlur={() => moveTo(null)}
      >
        {[base, marks].map((canvas, index) => (
          <canvas
            key={index}
            ref={canvas}
            width={Math.round(width * density)}
            height={Math.round(layout.height * density)}
            role={index ? undefined : "img"}
            aria-label={index ? undefined : `${title}: ${what}`}
            aria-hidden={index ? true : undefined}
            style={{
              width,
              height: layout.height,
              touchAction: pannable ? "none" : "pan-y",
              cursor: pannable ? "grab" : "default",
            }}
            {...(index && {
              onPointerMove,
              onPointerDown: (event: PointerEvent<HTMLCanvasElement>) => {
                pointers.current.set(event.pointerId, placeOf(event.nativeEvent, event.currentTarget, layout.left));
                event.currentTarget.setPointerCapture?.(event.pointerId);
              },
              onPointerUp: release,
              onPointerCancel: release,
              onPointerLeave: () => !pointers.current.size && moveTo(null),
              onDoubleClick: (event: React.MouseEvent<HTMLCanvasElement>) => {
                const place = placeOf(event.nativeEvent, event.currentTarget, layout.left);
                zoom(2, place.x, place.y);
              },
            })}
          />
        ))}
        <Hint pointed={pointed} />
      </div>
      <Spoken text={spoken} />
      <Legend scale={panel.scale} name={panel.valueName} theme={theme} missing={painter.hasMissing} />
    </div>
  );
}

/** What is said of a cell. */
export function linesOf(panel: Grid, { row, column }: Cell): string[] {
  const value = panel.values[row * panel.width + column] as number;
  const lines = [
    `${panel.rowName} ${panel.rows[row] ?? row}`,
    `${panel.columnName} ${panel.columns[column] ?? column}`,
    `${panel.valueName} ${figure(value, panel.scale.name === "diverging")}`,
  ];
  const text = panel.text?.(row, column);
  return text ? [text, ...lines] : lines;
}

function hoverOf(panel: Grid, { row, column }: Cell): Record<string, number> {
  const token = panel.tokenDim ? { [panel.tokenDim]: row } : {};
  return { ...token, [panel.rowDim]: row, [panel.columnDim]: column };
}

function linkedIn(panel: Grid, hover: Hover | undefined): { row?: number | undefined; column?: number | undefined } {
  const token = panel.tokenDim === undefined ? undefined : hover?.[panel.tokenDim];
  const [row, column] = [hover?.[panel.rowDim] ?? token, hover?.[panel.columnDim] ?? token];
  return {
    row: row !== undefined && row < panel.height ? row : undefined,
    column: column !== undefined && column < panel.width ? column : undefined,
  };
}

/** The cell to which a key leads. */
function keyed(key: string, far: boolean, from: Cell | null, panel: Grid): Cell | null {
  const step = ARROWS[key];
  const start = from ?? { row: 0, column: 0 };
  if (key === "Home") return { row: far ? 0 : start.row, column: 0 };
  if (key === "End") return { row: far ? panel.height - 1 : start.row, column: panel.width - 1 };
  if (!step) return null;
  if (!from) return start;
  const within = (at: number, count: number) => Math.min(count - 1, Math.max(0, at));
  return { row: within(start.row + step[0], panel.height), column: within(start.column + step[1], panel.width) };
}

function placeOf(event: MouseEvent, element: Element, left: number): { x: number; y: number } {
  const corner = element.getBoundingClientRect();
  return { x: event.clientX - corner.left - left, y: event.clientY - corner.top };
}

function distance(a: { x: number; y: number }, b: { x: number; y: number }): number {
  return Math.hypot(a.x - b.x, a.y - b.y);
}
