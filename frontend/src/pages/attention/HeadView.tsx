import { useEffect, useRef, type KeyboardEvent, type PointerEvent } from "react";

import type { Theme } from "../../layout/theme";
import { number, visible } from "../../views/words";
import { headColour } from "./colours";
import { fitted, inks, useScrolledCanvas, type Seen } from "./canvas";
import { topKeys, weight, type Pattern, type Ranges } from "./data";

interface Props {
  tokens: readonly string[];
  patterns: readonly Pattern[];
  ranges: Ranges;
  second: number | null;
  /** How many heads the layer has. */
  count: number;
  theme: Theme;
  /** The token that is looked from (or at) now. */
  at: { side: "query" | "key"; token: number } | null;
  onAt: (at: { side: "query" | "key"; token: number } | null, kept: boolean) => void;
  label: string;
}

const WORD = 170;
const SWATCHES = 64;
/** Lines lighter than this are not drawn: they could not be seen. */
const FAINT = 0.02;

/** Lines from each token to the tokens that it attends to, a colour for each head. */
export function HeadView({ tokens, patterns, ranges, second, count, theme, at, onAt, label }: Props) {
  const row = tokens.length > 120 ? 16 : tokens.length > 40 ? 19 : 22;
  const height = tokens.length * row + 8;
  const drawn = useRef({ word: WORD });
  const { frame, canvas, seen } = useScrolledCanvas((context, view) => {
    drawn.current.word = Math.min(WORD, view.width * 0.32);
    draw(context, view, { tokens, patterns, ranges, second, count, theme, at, row, word: drawn.current.word });
  });
  useEffect(() => {
    const element = frame.current;
    if (!element || !at) return;
    const top = at.token * row;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + row > element.scrollTop + element.clientHeight) element.scrollTop = top + row - element.clientHeight;
  }, [at, row, frame]);
  const pointed = (event: PointerEvent): { side: "query" | "key"; token: number } | null => {
    const box = canvas.current?.getBoundingClientRect();
    if (!box) return null;
    const token = Math.floor((event.clientY - box.top + seen.top - 4) / row);
    const x = event.clientX - box.left;
    if (token < 0 || token >= tokens.length) return null;
    if (x < drawn.current.word + 12) return { side: "query", token };
    return x > seen.width - drawn.current.word - SWATCHES - 12 ? { side: "key", token } : null;
  };
  const keys = (event: KeyboardEvent) => {
    const from = at ?? { side: "query" as const, token: -1 };
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (by !== undefined) onAt({ side: from.side, token: Math.min(tokens.length - 1, Math.max(0, from.token + by)) }, true);
    else if (event.key === "ArrowLeft" || event.key === "ArrowRight")
      onAt({ side: event.key === "ArrowLeft" ? "query" : "key", token: Math.max(0, from.token) }, true);
    else if (event.key === "Home" || event.key === "End") onAt({ side: from.side, token: event.key === "Home" ? 0 : tokens.length - 1 }, true);
    else if (event.key === "Escape") onAt(null, true);
    else return;
    event.preventDefault();
  };
  return (
    <div
      ref={frame}
      className="attention-frame"
      tabIndex={0}
      role="group"
      aria-label={`${label}. Up and down arrows choose a token, left and right its side.`}
      onKeyDown={keys}
      onPointerMove={(event) => {
        const found = pointed(event);
        if (found?.token !== at?.token || found?.side !== at?.side) onAt(found, false);
      }}
      onPointerLeave={() => onAt(null, false)}
      onClick={(event) => onAt(pointed(event as unknown as PointerEvent), true)}
    >
      <div style={{ height }} className="attention-long">
        <canvas
          ref={canvas}
          role="img"
          aria-label={label}
          style={{ top: 0, width: seen.width || "100%", height: seen.height || 320 }}
        />
      </div>
    </div>
  );
}

interface Drawing extends Pick<Props, "tokens" | "patterns" | "ranges" | "second" | "count" | "theme" | "at"> {
  row: number;
  word: number;
}

function draw(context: CanvasRenderingContext2D, seen: Seen, drawing: Drawing): void {
  const { tokens, patterns, ranges, second, count, theme, at, row, word } = drawing;
  const { ink, muted, highlight, mono, rule, paper } = inks();
  const first = Math.max(0, Math.floor(seen.top / row) - 1);
  const last = Math.min(tokens.length, Math.ceil((seen.top + seen.height) / row) + 1);
  const y = (token: number) => token * row - seen.top + row / 2 + 4;
  const left = word + 10;
  const right = seen.width - word - SWATCHES - 10;
  const inQueries = (token: number) => token >= ranges.queries[0] && token < ranges.queries[1];
  const inKeys = (token: number) => token >= ranges.keys[0] && token < ranges.keys[1];
  context.font = `${Math.min(13, row - 5)}px ${mono}`;
  context.textBaseline = "middle";

  // lines first, so that words stand above them
  // of a long text the lines of the tokens in view: all at once would be a grey area, and slow
  const some: readonly [number, number] = tokens.length > 80 ? [Math.max(ranges.queries[0], first), Math.min(ranges.queries[1], last)] : ranges.queries;
  const queries = at?.side === "query" ? [at.token] : range(at ? ranges.queries : some);
  const crowd = patterns.length > 1 ? 0.8 : 1;
  context.lineCap = "round";
  patterns.forEach((pattern, place) => {
    const lane = patterns.length > 1 ? ((place + 0.5) / patterns.length - 0.5) * row * 0.6 : 0; // heads side by side
    context.strokeStyle = headColour(pattern.head, count, theme);
    for (const query of queries) {
      if (!inQueries(query)) continue;
      const fromY = y(query) + lane;
      const keys = at?.side === "key" ? [at.token] : null;
      for (let key = keys ? keys[0]! : ranges.keys[0]; key < (keys ? keys[0]! + 1 : ranges.keys[1]); key++) {
        if (!inKeys(key)) continue;
        const value = weight(pattern, query, key);
        if (!(value > FAINT)) continue;
        const toY = y(key) + lane;
        if ((fromY < 0 && toY < 0) || (fromY > seen.height && toY > seen.height)) continue;
        context.globalAlpha = Math.min(1, value) * crowd;
        context.lineWidth = 0.75 + 2.25 * value;
        context.beginPath();
        context.moveTo(left, fromY);
        context.bezierCurveTo(left + (right - left) / 3, fromY, right - (right - left) / 3, toY, right, toY);
        context.stroke();
      }
    }
  });
  context.globalAlpha = 1;

  for (let token = first; token < last; token++) {
    const text = fitted(context, visible(tokens[token] ?? ""), word - 12);
    if (at?.token === token) {
      context.fillStyle = highlight;
      if (at.side === "query") context.fillRect(0, y(token) - row / 2, word + 6, row);
      else context.fillRect(right + 4, y(token) - row / 2, word, row);
    }
    context.fillStyle = inQueries(token) ? ink : muted;
    context.globalAlpha = inQueries(token) ? 1 : 0.4;
    context.textAlign = "right";
    context.fillText(text, word + 2, y(token));
    context.fillStyle = inKeys(token) ? ink : muted;
    context.globalAlpha = inKeys(token) ? 1 : 0.4;
    context.textAlign = "left";
    context.fillText(text, right + 8, y(token));
    context.globalAlpha = 1;
    if (at) swatches(context, drawing, token, right + word + 14, y(token), rule, paper);
  }
  if (second !== null) {
    context.strokeStyle = muted;
    context.lineWidth = 1;
    context.setLineDash([4, 4]);
    const line = second * row - seen.top + 4;
    context.beginPath();
    context.moveTo(0, line);
    context.lineTo(seen.width, line);
    context.stroke();
    context.setLineDash([]);
  }
}

/** Beside each word one square for each head: how much of that head's attention goes there (or comes from there). */
function swatches(context: CanvasRenderingContext2D, drawing: Drawing, token: number, left: number, y: number, rule: string, paper: string): void {
  const { patterns, at, ranges, count, theme, row } = drawing;
  const width = Math.max(2, Math.min(10, (SWATCHES - 14) / Math.max(1, patterns.length)));
  const side = at!.side === "query" ? ranges.keys : ranges.queries;
  if (token < side[0] || token >= side[1]) return;
  patterns.forEach((pattern, place) => {
    const value = at!.side === "query" ? weight(pattern, at!.token, token) : weight(pattern, token, at!.token);
    context.fillStyle = paper;
    context.fillRect(left + place * width, y - row / 2 + 1, width - 0.5, row - 2);
    context.globalAlpha = Number.isFinite(value) ? Math.min(1, value) : 0;
    context.fillStyle = headColour(pattern.head, count, theme);
    context.fillRect(left + place * width, y - row / 2 + 1, width - 0.5, row - 2);
    context.globalAlpha = 1;
    context.strokeStyle = rule;
    context.lineWidth = 0.5;
    context.strokeRect(left + place * width, y - row / 2 + 1, width - 0.5, row - 2);
  });
}

function range([from, to]: readonly [number, number]): number[] {
  return Array.from({ length: Math.max(0, to - from) }, (_, index) => from + index);
}

interface LooksProps {
  tokens: readonly string[];
  patterns: readonly Pattern[];
  ranges: Ranges;
  at: { side: "query" | "key"; token: number };
  count: number;
  theme: Theme;
}

/** In words: what the chosen token looks at, head by head. */
export function Looks({ tokens, patterns, ranges, at, count, theme }: LooksProps) {
  const said = (token: number) => visible(tokens[token] ?? "");
  return (
    <div aria-live="polite">
      <p>
        <code>{said(at.token)}</code> <span className="muted">token {at.token}</span>{" "}
        {at.side === "query" ? "looks at" : "is looked at by"}
      </p>
      <table className="looks">
        <tbody>
          {patterns.slice(0, 16).map((pattern) => {
            const found =
              at.side === "query"
                ? topKeys(pattern, at.token, ranges.keys, 3)
                : topKeys(transposed(pattern, at.token), 0, ranges.queries, 3);
            return (
              <tr key={pattern.head}>
                <th scope="row">
                  <span className="swatch" style={{ background: headColour(pattern.head, count, theme) }} /> {pattern.head}
                </th>
                <td>
                  {found.length
                    ? found.map(({ key, value }) => (
                        <span key={key} className="look" data-query={at.token} data-key={key} data-head={pattern.head} data-value={String(value)}>
                          <code>{said(key)}</code> <span className="number muted">{number(value, 2)}</span>
                        </span>
                      ))
                    : "nothing here"}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

/** A key's column as the one row of a pattern. */
function transposed(pattern: Pattern, key: number): Pattern {
  const values = Float32Array.from({ length: pattern.size }, (_, query) => weight(pattern, query, key));
  return { head: pattern.head, size: pattern.size, values };
}
