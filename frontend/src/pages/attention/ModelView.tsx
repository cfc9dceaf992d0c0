import { useEffect, useMemo, useRef, useState, type KeyboardEvent, type PointerEvent } from "react";

import type { Theme } from "../../layout/theme";
import { css, steps } from "../../views/palette";
import { number } from "../../views/words";
import { inks, useScrolledCanvas } from "./canvas";
import { HABITS, thumbnail, type AttentionRecord } from "./data";

interface Props {
  record: AttentionRecord;
  layers: readonly number[];
  heads: readonly number[];
  score: string;
  theme: Theme;
  onOpen: (layer: number, head: number) => void;
}

const LABEL = 30;

/** A thumbnail of every head's pattern: layers from top to bottom, heads from left to right. */
export function ModelView({ record, layers, heads, score, theme, onOpen }: Props) {
  const [at, setAt] = useState<{ layer: number; head: number } | null>(null);
  const images = useThumbnails(record, theme);
  const side = useRef(40);
  const largest = useMemo(() => most(record, score), [record, score]);
  const { frame, canvas, seen } = useScrolledCanvas((context, view) => {
    const { ink, muted, accent, rule } = inks();
    const cell = (side.current = Math.max(18, Math.min(76, Math.floor((view.width - LABEL - 8) / Math.max(1, heads.length)))));
    const bar = score ? 6 : 0;
    context.imageSmoothingEnabled = false;
    context.textBaseline = "middle";
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "center";
    heads.forEach((head, column) => {
      context.fillStyle = at?.head === head ? ink : muted;
      if (column % Math.max(1, Math.ceil(18 / cell)) === 0) context.fillText(String(head), LABEL + column * cell + cell / 2, 8 - view.top);
    });
    layers.forEach((layer, row) => {
      const top = 16 + row * (cell + bar) - view.top;
      if (top > view.height || top + cell + bar < 0) return;
      context.fillStyle = at?.layer === layer ? ink : muted;
      context.fillText(String(layer), LABEL / 2, top + cell / 2);
      heads.forEach((head, column) => {
        const left = LABEL + column * cell;
        const image = images.get(layer * record.n_heads + head);
        if (image) context.drawImage(image, left + 1, top + 1, cell - 2, cell - 2);
        context.strokeStyle = rule;
        context.lineWidth = 1;
        context.strokeRect(left + 0.5, top + 0.5, cell - 1, cell - 1);
        const value = valueOf(record, score, layer, head);
        if (bar && value !== null && largest > 0) {
          context.fillStyle = accent;
          context.fillRect(left + 1, top + cell + 1, (cell - 2) * Math.min(1, value / largest), bar - 3);
        }
        if (at?.layer === layer && at.head === head) {
          context.strokeStyle = accent;
          context.lineWidth = 3;
          context.strokeRect(left + 1.5, top + 1.5, cell - 3, cell - 3);
        }
      });
    });
  });
  const pitch = side.current + (score ? 6 : 0);
  const pointed = (event: PointerEvent | React.MouseEvent) => {
    const box = canvas.current?.getBoundingClientRect();
    if (!box) return null;
    const column = Math.floor((event.clientX - box.left - LABEL) / side.current);
    const row = Math.floor((event.clientY - box.top + seen.top - 16) / pitch);
    const [layer, head] = [layers[row], heads[column]];
    return layer === undefined || head === undefined ? null : { layer, head };
  };
  const keys = (event: KeyboardEvent) => {
    const row = at ? layers.indexOf(at.layer) : 0;
    const column = at ? heads.indexOf(at.head) : -1;
    const by = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key];
    if (by) {
      const layer = layers[Math.min(layers.length - 1, Math.max(0, row + by[0]!))];
      const head = heads[Math.min(heads.length - 1, Math.max(0, column + by[1]!))];
      if (layer !== undefined && head !== undefined) setAt({ layer, head });
    } else if ((event.key === "Enter" || event.key === " ") && at) onOpen(at.layer, at.head);
    else return;
    event.preventDefault();
  };
  return (
    <>
      <div
        ref={frame}
        className="attention-frame"
        tabIndex={0}
        role="group"
        aria-label="Thumbnails of all heads. Arrow keys choose a head, Enter opens it."
        onKeyDown={keys}
        onPointerMove={(event) => {
          const found = pointed(event);
          if (found?.layer !== at?.layer || found?.head !== at?.head) setAt(found);
        }}
        onPointerLeave={() => setAt(null)}
        onClick={(event) => {
          const found = pointed(event);
          if (found) onOpen(found.layer, found.head);
        }}
      >
        <div className="attention-long" style={{ height: layers.length * pitch + 24 }}>
          <canvas
            ref={canvas}
            role="img"
            aria-label={`Patterns of ${layers.length} layers and ${heads.length} heads`}
            style={{ width: seen.width || "100%", height: seen.height || 320 }}
          />
        </div>
      </div>
      <p className="pointed-head small" aria-live="polite">
        {at ? (
          <Scores record={record} layer={at.layer} head={at.head} />
        ) : (
          <span className="muted">
            Each square is a head's pattern: queries from top to bottom, keys from left to right; where the text is long, a cell
            is the largest attention among the tokens that it covers. Click to open a head.
          </span>
        )}
      </p>
    </>
  );
}

/** A head's numbers in one line. */
export function Scores({ record, layer, head }: { record: AttentionRecord; layer: number; head: number }) {
  const parts: [string, string, number | null][] = [
    ["entropy", "entropy (nats)", record.entropy[layer]?.[head] ?? null],
    ...HABITS.map(([name]): [string, string, number | null] => [name, name.replaceAll("_", " "), record.scores[name]?.[layer]?.[head] ?? null]),
  ];
  return (
    <>
      <strong>
        Head {layer}.{head}
      </strong>{" "}
      {parts.map(([name, label, value]) => (
        <span key={name} className="score" data-score={name} data-value={value === null ? "" : String(value)}>
          {label} <span className="number">{value === null ? "none" : number(value)}</span>
        </span>
      ))}
    </>
  );
}

function valueOf(record: AttentionRecord, score: string, layer: number, head: number): number | null {
  if (score === "entropy") return record.entropy[layer]?.[head] ?? null;
  return record.scores[score]?.[layer]?.[head] ?? null;
}

function most(record: AttentionRecord, score: string): number {
  if (!score) return 0;
  if (score !== "entropy") return 1;
  return Math.max(0, ...record.entropy.flatMap((layer) => layer.map((value) => value ?? 0)));
}

/** The thumbnails as small pictures, made once. */
function useThumbnails(record: AttentionRecord, theme: Theme): Map<number, HTMLCanvasElement> {
  const [made, setMade] = useState<Map<number, HTMLCanvasElement>>(new Map());
  useEffect(() => {
    const palette = steps("sequential", theme);
    const { side, values } = record.thumbnails;
    const found = new Map<number, HTMLCanvasElement>();
    values.forEach((layer, row) =>
      layer.forEach((text, head) => {
        if (!text) return;
        const picture = document.createElement("canvas");
        picture.width = picture.height = side;
        const context = picture.getContext("2d");
        if (!context) return;
        const image = context.createImageData(side, side);
        thumbnail(text).forEach((value, index) => {
          const [red, green, blue] = palette[Math.round((value / 255) * (palette.length - 1))]!;
          image.data.set([red, green, blue, 255], index * 4);
        });
        context.putImageData(image, 0, 0);
        found.set(row * record.n_heads + head, picture);
      }),
    );
    setMade(found);
  }, [record, theme]);
  return made;
}

/** What the colours of patterns mean. */
export function PatternLegend({ theme }: { theme: Theme }) {
  const colours = steps("sequential", theme).map(css);
  return (
    <span className="pattern-legend small" role="img" aria-label="Colours from no attention to all of it">
      0 <span style={{ background: `linear-gradient(90deg, ${colours.join(",")})` }} /> 1
    </span>
  );
}
