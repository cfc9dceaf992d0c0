import { useEffect, useMemo, type KeyboardEvent, type PointerEvent } from "react";

import type { NumberData } from "../../api/arrays";
import { Problem } from "../../layout/Problem";
import type { Theme } from "../../layout/theme";
import { colour, css, scaleOf, type Scale } from "../../views/palette";
import { number, visible } from "../../views/words";
import type { Layer } from "../model/anatomy";
import { keyHead } from "../model/anatomy";
import { fitted, inks, useScrolledCanvas, type Seen } from "./canvas";
import { products, rangesOf, type Filter } from "./data";
import { useSites, type Texts } from "./use";

interface Props {
  texts: Texts;
  layer: Layer;
  head: number;
  /** Which token looks; null for the last one. */
  query: number | null;
  filter: Filter;
  theme: Theme;
  onQuery: (query: number) => void;
  keyAt: number | null;
  onKey: (key: number | null) => void;
}

const ROW = 18;
const WORD = 120;

/** One query against every key: the vectors, their products element by element, the score and the softmax. */
export function QueryKeyView({ texts, layer, head, query: wanted, filter, theme, onQuery, keyAt, onKey }: Props) {
  const attention = layer.attention!;
  const shared = keyHead(attention, head);
  const index = layer.index;
  const served = ["q", "k", "scores", "pattern"].every((kind) => layer.sites.includes(kind));
  const sites = [`q[${index}].head[${head}]`, `k[${index}].head[${shared}]`, `scores[${index}].head[${head}]`, `pattern[${index}].head[${head}]`];
  const read = useSites(texts, sites, served);
  const tokens = read.data?.tokens ?? [];
  const last = Math.max(0, tokens.length - 1);
  const query = Math.min(wanted ?? last, last);
  const facts = read.data?.facts["second"];
  const ranges = useMemo(
    () => rangesOf(filter, tokens.length, typeof facts === "number" ? facts : null),
    [filter, tokens.length, facts],
  );
  const [q, k, scores, pattern] = (read.data?.arrays ?? []).map((array) => array.data as NumberData);
  const width = attention.d_head;
  const scale = attention.scaling ?? width ** -0.5;
  const rows = useMemo(() => {
    const found: number[] = [];
    for (let key = ranges.keys[0]; key < Math.min(ranges.keys[1], tokens.length); key++)
      if (!scores || (scores[query * tokens.length + key] ?? NaN) > -1e30) found.push(key);
    return found;
  }, [ranges, scores, query, tokens.length]);
  const scales = useMemo(() => {
    if (!q || !k) return null;
    const row = q.slice(query * width, (query + 1) * width) as NumberData;
    const all = new Float32Array(rows.length * width);
    rows.forEach((key, place) => {
      for (let i = 0; i < width; i++) all[place * width + i] = row[i]! * k[key * width + i]!;
    });
    return { vectors: scaleOf([...row, ...(k as Float32Array)], "diverging"), products: scaleOf(all, "diverging") };
  }, [q, k, query, rows, width]);
  const { frame, canvas, seen } = useScrolledCanvas((context, view) => {
    if (q && k && scores && pattern && scales)
      draw(context, view, { tokens, query, rows, width, scale, q, k, scores, pattern, scales, theme, keyAt });
  });
  useEffect(() => {
    const element = frame.current;
    if (!element || keyAt === null) return;
    const top = rows.indexOf(keyAt) * ROW;
    if (top < element.scrollTop) element.scrollTop = Math.max(0, top);
    else if (top + 3 * ROW > element.scrollTop + element.clientHeight) element.scrollTop = top + 3 * ROW - element.clientHeight;
  }, [keyAt, rows, frame]);
  if (!served)
    return <p className="message">The queries and keys of this layer cannot be read on this model.</p>;
  const pointed = (event: PointerEvent) => {
    const box = canvas.current?.getBoundingClientRect();
    if (!box) return null;
    const y = event.clientY - box.top;
    return y < 2 * ROW ? null : (rows[Math.floor((y - 2 * ROW + seen.top) / ROW)] ?? null);
  };
  const keys = (event: KeyboardEvent) => {
    const place = keyAt === null ? -1 : rows.indexOf(keyAt);
    if (event.key === "ArrowDown" || event.key === "ArrowUp")
      onKey(rows[Math.min(rows.length - 1, Math.max(0, place + (event.key === "ArrowDown" ? 1 : -1)))] ?? null);
    else if (event.key === "ArrowLeft" || event.key === "ArrowRight")
      onQuery(Math.min(tokens.length - 1, Math.max(0, query + (event.key === "ArrowRight" ? 1 : -1))));
    else return;
    event.preventDefault();
  };
  const chosen = keyAt !== null && rows.includes(keyAt) ? keyAt : null;
  const found = chosen !== null && q && k ? products(q, k, width, query, scale, chosen) : null;
  const score = chosen !== null && scores ? scores[query * tokens.length + chosen]! : NaN;
  const share = chosen !== null && pattern ? pattern[query * tokens.length + chosen]! : NaN;
  const plain = found !== null && Math.abs(found.scaled - score) <= 1e-3 * Math.max(1, Math.abs(score));
  return (
    <div>
      <div className="row">
        <label className="inline" htmlFor="query-token">
          Query
          <select id="query-token" value={query} onChange={(event) => onQuery(Number(event.target.value))}>
            {tokens.map((token, position) => (
              <option key={position} value={position}>
                {position}: {visible(token)}
              </option>
            ))}
          </select>
        </label>
        {attention.n_heads !== attention.n_kv_heads && (
          <span className="muted small">
            Head {head} uses the keys of key head {shared}, which {attention.n_heads / attention.n_kv_heads} heads share.
          </span>
        )}
      </div>
      <Problem error={read.error} />
      {read.isPending && !read.error && <p className="muted small">The model is being run…</p>}
      <div
        ref={frame}
        className="attention-frame query-key"
        tabIndex={0}
        role="group"
        aria-label={`Query ${visible(tokens[query] ?? "")} against ${rows.length} keys. Up and down choose a key, left and right the query.`}
        aria-busy={read.isFetching}
        onKeyDown={keys}
        onPointerMove={(event) => {
          const key = pointed(event);
          if (key !== keyAt) onKey(key);
        }}
      >
        <div className="attention-long" style={{ height: (rows.length + 2) * ROW + 6 }}>
          <canvas ref={canvas} role="img" aria-label="q, k, q × k, score and softmax" style={{ width: seen.width || "100%", height: seen.height || 320 }} />
        </div>
      </div>
      <p className="small query-key-sum" aria-live="polite">
        {found && chosen !== null ? (
          <span data-query={query} data-key={chosen} data-dot={String(found.dot)} data-scaled={String(found.scaled)} data-score={String(score)} data-value={String(share)}>
            <code>{visible(tokens[query] ?? "")}</code> → <code>{visible(tokens[chosen] ?? "")}</code>: q·k ={" "}
            <span className="number">{number(found.dot, 4)}</span>, × {number(scale, 3)} ={" "}
            <span className="number">{number(found.scaled, 4)}</span>, score in the model{" "}
            <span className="number">{number(score, 4)}</span>, softmax <strong className="number">{number(share, 4)}</strong>
            {!plain && " (the model changes the score further: a bias, a soft-cap or a shift of the whole row)"}
          </span>
        ) : (
          <span className="muted">Point at a key to read its numbers.</span>
        )}
      </p>
    </div>
  );
}

interface Drawing {
  tokens: readonly string[];
  query: number;
  rows: readonly number[];
  width: number;
  scale: number;
  q: NumberData;
  k: NumberData;
  scores: NumberData;
  pattern: NumberData;
  scales: { vectors: Scale; products: Scale };
  theme: Theme;
  keyAt: number | null;
}

function draw(context: CanvasRenderingContext2D, seen: Seen, drawing: Drawing): void {
  const { tokens, query, rows, width, q, k, scores, pattern, scales, theme, keyAt } = drawing;
  const { ink, muted, highlight, paper, accent, mono } = inks();
  const numbers = 112;
  const word = Math.min(WORD, seen.width * 0.22);
  const strip = Math.max(40, (seen.width - word - numbers - 40) / 2);
  const [keysAt, productsAt] = [word + 8, word + 8 + strip + 14];
  const numbersAt = productsAt + strip + 12;
  context.font = `12px ${mono}`;
  context.textBaseline = "middle";
  const vector = (values: NumberData, row: number, left: number, y: number, scale: Scale, times?: number) => {
    for (let i = 0; i < width; i++) {
      const value = times === undefined ? values[row * width + i]! : values[row * width + i]! * q[times * width + i]!;
      context.fillStyle = css(colour(scale, value, theme));
      const from = Math.floor((i * strip) / width);
      context.fillRect(left + from, y - ROW / 2 + 2, Math.max(1, Math.ceil(((i + 1) * strip) / width) - from), ROW - 4);
    }
  };
  const first = Math.max(0, Math.floor(seen.top / ROW));
  const last = Math.min(rows.length, Math.ceil((seen.top + seen.height) / ROW));
  const size = tokens.length;
  for (let place = first; place < last; place++) {
    const key = rows[place]!;
    const y = (place + 2) * ROW - seen.top + ROW / 2;
    if (y < 2 * ROW) continue;
    if (key === keyAt) {
      context.fillStyle = highlight;
      context.fillRect(0, y - ROW / 2, seen.width, ROW);
    }
    context.fillStyle = ink;
    context.textAlign = "right";
    context.fillText(fitted(context, visible(tokens[key] ?? ""), word - 6), word, y);
    vector(k, key, keysAt, y, scales.vectors);
    vector(k, key, productsAt, y, scales.products, query);
    const value = pattern[query * size + key]!;
    context.fillStyle = accent;
    context.globalAlpha = 0.75;
    context.fillRect(numbersAt + 52, y - ROW / 2 + 3, Math.max(0, value) * (numbers - 54), ROW - 6);
    context.globalAlpha = 1;
    context.fillStyle = ink;
    context.fillText(number(scores[query * size + key]!, 3), numbersAt + 44, y);
  }
  // the query stays in sight above its keys
  context.fillStyle = paper;
  context.fillRect(0, 0, seen.width, 2 * ROW);
  context.fillStyle = muted;
  context.textAlign = "left";
  context.font = "11px system-ui, sans-serif";
  context.fillText("query, then keys", keysAt, ROW / 2);
  context.fillText("query × key", productsAt, ROW / 2);
  context.fillText("score, softmax", numbersAt, ROW / 2);
  context.font = `12px ${mono}`;
  context.fillStyle = ink;
  context.textAlign = "right";
  context.fillText(fitted(context, visible(tokens[query] ?? ""), word - 6), word, 1.5 * ROW);
  vector(q, query, keysAt, 1.5 * ROW, scales.vectors);
  context.strokeStyle = muted;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(0, 2 * ROW - 0.5);
  context.lineTo(seen.width, 2 * ROW - 0.5);
  context.stroke();
}
