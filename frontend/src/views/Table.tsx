/** Columns of numbers and words that are sorted and filtered; only the rows in sight are drawn. */

import { useId, useMemo, useRef, useState, type KeyboardEvent } from "react";
import type { TablePanel } from "./framing";
import { Empty, Spoken } from "./Hint";
import { cells, useScroll } from "./surroundings";
import type { Drawn } from "./types";
import { whole } from "./words";

const ROW = 28;

export interface Order {
  column: number;
  down: boolean;
}

export function Table({ panel, title, height = 480, hover, onHover, onSelect }: Drawn<TablePanel>) {
  const scroller = useRef<HTMLDivElement>(null);
  const id = useId();
  const [order, setOrder] = useState<Order | null>(null);
  const [wanted, setWanted] = useState("");
  const [cursor, setCursor] = useState<{ row: number; column: number } | null>(null);
  const [spoken, setSpoken] = useState("");
  const rows = useMemo(() => rowsOf(panel, wanted, order), [panel, wanted, order]);
  const widths = useMemo(() => widthsOf(panel), [panel]);
  const shown = Math.min(height, (rows.length + 1) * ROW + 2);
  const scroll = useScroll(scroller, shown);
  if (!panel.height) return <Empty>There are no rows to show.</Empty>;

  const sort = (column: number) =>
    setOrder((old) =>
      old?.column !== column ? { column, down: panel.numeric[column] ?? false } : old.down === (panel.numeric[column] ?? false) ? { column, down: !old.down } : null,
    );
  const move = (next: { row: number; column: number }) => {
    setCursor(next);
    const row = rows[next.row] as number;
    setSpoken(`row ${next.row + 1}, ${panel.names[next.column]}: ${panel.said(next.column, row)}`);
    onHover?.({ [panel.dim]: row });
    const node = scroller.current;
    const top = next.row * ROW;
    if (node && (top < node.scrollTop || top + 2 * ROW > node.scrollTop + shown)) node.scrollTop = Math.max(0, top - shown / 2);
  };
  const onKeyDown = (event: KeyboardEvent<HTMLDivElement>) => {
    if (event.target !== event.currentTarget || !rows.length) return;
    const at = cursor ?? { row: -1, column: 0 };
    const within = (row: number, column: number) => ({
      row: Math.min(rows.length - 1, Math.max(0, row)),
      column: Math.min(panel.names.length - 1, Math.max(0, column)),
    });
    const steps: Record<string, () => { row: number; column: number }> = {
      ArrowDown: () => within(at.row + 1, at.column),
      ArrowUp: () => within(at.row - 1, at.column),
      ArrowLeft: () => within(at.row, at.column - 1),
      ArrowRight: () => within(at.row, at.column + (cursor ? 1 : 0)),
      PageDown: () => within(at.row + 10, at.column),
      PageUp: () => within(at.row - 10, at.column),
      Home: () => within(event.ctrlKey ? 0 : at.row, 0),
      End: () => within(event.ctrlKey ? rows.length - 1 : at.row, panel.names.length - 1),
    };
    if (event.key === "Enter" && cursor) onSelect?.({ [panel.dim]: rows[cursor.row] as number });
    const next = steps[event.key]?.();
    if (!next) return;
    event.preventDefault();
    move(next);
  };

  const first = Math.max(0, Math.floor(scroll.top / ROW) - 4);
  const last = Math.min(rows.length, Math.ceil((scroll.top + scroll.height) / ROW) + 4);
  const template = widths.map((width) => `${width}px`).join(" ");
  const linked = hover?.[panel.dim];
  return (
    <div className="cv-box cv-picture">
      <div className="cv-controls">
        <label htmlFor={`${id}-filter`}>
          Filter rows
          <input
            id={`${id}-filter`}
            type="search"
            value={wanted}
            onChange={(event) => {
              setWanted(event.target.value);
              setCursor(null);
            }}
          />
        </label>
        <span className="cv-note" style={{ margin: 0 }}>
          {rows.length === panel.height
            ? `${whole(panel.height)} ${panel.height === 1 ? "row" : "rows"}`
            : `${whole(rows.length)} of ${whole(panel.height)} rows`}
        </span>
      </div>
      <div
        ref={scroller}
        className="cv-scroll"
        style={{ height: shown }}
        onScroll={scroll.onScroll}
        tabIndex={0}
        role="grid"
        aria-label={title}
        aria-rowcount={rows.length + 1}
        aria-colcount={panel.names.length}
        aria-activedescendant={cursor ? `${id}-${cursor.row}-${cursor.column}` : undefined}
        onKeyDown={onKeyDown}
        onPointerLeave={() => onHover?.(null)}
      >
        <div className="cv-table" style={{ height: (rows.length + 1) * ROW }}>
          <div className="cv-head" role="row" aria-rowindex={1} style={{ display: "grid", gridTemplateColumns: template }}>
            {panel.names.map((name, column) => (
              <div
                key={column}
                role="columnheader"
                data-numeric={panel.numeric[column]}
                aria-sort={order?.column === column ? (order.down ? "descending" : "ascending") : "none"}
              >
                <button type="button" title={`Sort by ${name}`} onClick={() => sort(column)}>
                  {name}
                  <span aria-hidden="true">{order?.column === column ? (order.down ? " ▼" : " ▲") : ""}</span>
                </button>
              </div>
            ))}
          </div>
          {rows.slice(first, last).map((row, i) => {
            const place = first + i;
            return (
              <div
                key={row}
                className="cv-row"
                role="row"
                aria-rowindex={place + 2}
                data-linked={row === linked}
                style={{ top: (place + 1) * ROW, gridTemplateColumns: template }}
                onPointerEnter={() => onHover?.({ [panel.dim]: row })}
                onClick={() => onSelect?.({ [panel.dim]: row })}
              >
                {panel.names.map((_, column) => {
                  const said = panel.said(column, row);
                  return (
                    <div
                      key={column}
                      id={`${id}-${place}-${column}`}
                      className="cv-cell"
                      role="gridcell"
                      data-numeric={panel.numeric[column]}
                      data-cursor={cursor?.row === place && cursor.column === column}
                      title={said}
                    >
                      {said}
                    </div>
                  );
                })}
              </div>
            );
          })}
        </div>
      </div>
      {!rows.length && <Empty>No row holds these words.</Empty>}
      <Spoken text={spoken} />
    </div>
  );
}

/** Rows that hold the words, in their order; missing values come last either way. */
export function rowsOf(panel: TablePanel, wanted: string, order: Order | null): number[] {
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  const all = Array.from({ length: panel.height }, (_, row) => row);
  const texts = (row: number) =>
    panel.names
      .map((_, column) => `${panel.said(column, row)}\n${String(panel.values[column]?.[row] ?? "")}`)
      .join("\n")
      .toLowerCase();
  const found = words.length
    ? all.filter((row) => {
        const text = texts(row);
        return words.every((word) => text.includes(word));
      })
    : all;
  if (!order) return found;
  const values = panel.values[order.column] ?? [];
  const sign = order.down ? -1 : 1;
  return [...found].sort((a, b) => {
    const [x, y] = [values[a], values[b]];
    if (typeof x === "string" || typeof y === "string") return sign * String(x).localeCompare(String(y)) || a - b;
    const [lost, lostToo] = [Number.isNaN(x), Number.isNaN(y)];
    if (lost || lostToo) return Number(lost) - Number(lostToo) || a - b;
    return sign * ((x as number) - (y as number)) || a - b;
  });
}

/** Columns as wide as the longest of their first thousand cells. */
function widthsOf(panel: TablePanel): number[] {
  return panel.names.map((name, column) => {
    let longest = cells(name) + 3;
    for (let row = 0; row < Math.min(panel.height, 1000); row++)
      longest = Math.max(longest, cells(panel.said(column, row)));
    return Math.min(360, Math.max(56, Math.ceil(longest * 7.9) + 16));
  });
}
