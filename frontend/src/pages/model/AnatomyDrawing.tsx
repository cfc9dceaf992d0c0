import { useRef, type KeyboardEvent } from "react";

import { count } from "../../parts/format";
import { keyHead, layerBoxes, modelBoxes, type Anatomy, type Box, type Layer } from "./anatomy";

const SIZE = { width: 1000, height: 560 };

interface Props {
  anatomy: Anatomy;
  onLayer: (layer: number) => void;
  onHover: (box: Box | null) => void;
}

/** The whole model: an area is a share of the parameters. */
export function ModelDrawing({ anatomy, onLayer, onHover }: Props) {
  const boxes = modelBoxes(anatomy, SIZE);
  const byLayer = new Map<number, Box[]>();
  for (const box of boxes) if (box.layer !== undefined) byLayer.set(box.layer, [...(byLayer.get(box.layer) ?? []), box]);
  const ends = boxes.filter((box) => box.layer === undefined);
  const thin = ends.filter((box) => box.width <= 70 && box.width > 0);
  const drawing = useRef<SVGSVGElement>(null);
  const move = (event: KeyboardEvent, index: number) => {
    const next = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: anatomy.n_layers - 1 }[event.key];
    if (event.key === "Enter" || event.key === " ") onLayer(index);
    else if (next === undefined) return;
    else drawing.current?.querySelector<SVGGElement>(`[data-layer="${Math.min(anatomy.n_layers - 1, Math.max(0, next))}"]`)?.focus();
    event.preventDefault();
  };
  return (
    <svg
      ref={drawing}
      className="anatomy"
      viewBox={`-4 0 ${SIZE.width + (anatomy.unembed?.tied ? 48 : 8)} ${SIZE.height + 16 + 16 * thin.length}`}
      role="group"
      aria-label={`${anatomy.model} to scale: ${count(anatomy.parameters)} parameters in ${anatomy.n_layers} layers`}
      onPointerLeave={() => onHover(null)}
    >
      {[...byLayer].map(([index, parts]) => {
        const first = parts[0]!;
        const last = parts[parts.length - 1]!;
        const layer = anatomy.layers[index]!;
        return (
          <g
            key={index}
            className="anatomy-layer"
            data-layer={index}
            tabIndex={index === 0 ? 0 : -1}
            role="button"
            aria-label={`Layer ${index}: ${count(layer.parameters)} parameters. Open it.`}
            onClick={() => onLayer(index)}
            onKeyDown={(event) => move(event, index)}
          >
            {parts.map((box) => (
              <Rectangle key={box.id} box={box} onHover={onHover} />
            ))}
            <rect className="anatomy-frame" x={first.x} y={first.y} width={last.x + last.width - first.x} height={first.height} />
            {first.height >= 9 && (
              <text className="anatomy-index" x={first.x + 4} y={first.y + first.height / 2 + 4}>
                {index}
              </text>
            )}
          </g>
        );
      })}
      {ends.map((box) => (
        <g key={box.id}>
          <Rectangle box={box} onHover={onHover} />
          {box.width > 70 && (
            <text className="anatomy-label" x={box.x + box.width / 2} y={SIZE.height / 2}>
              {box.label}
              <tspan x={box.x + box.width / 2} dy="1.4em" className="anatomy-small">
                {box.detail}
              </tspan>
            </text>
          )}
          {box.width <= 70 && box.width > 0 && <Callout box={box} place={thin.indexOf(box)} />}
        </g>
      ))}
      {anatomy.unembed?.tied && (
        <g>
          <rect className="anatomy-tied" x={SIZE.width + 6} y={0} width={26} height={SIZE.height} />
          <text className="anatomy-small" transform={`translate(${SIZE.width + 16} ${SIZE.height / 2}) rotate(90)`} textAnchor="middle">
            unembedding: the same weights as the embedding
          </text>
        </g>
      )}
    </svg>
  );
}

function Rectangle({ box, onHover }: { box: Box; onHover: (box: Box | null) => void }) {
  return (
    <rect
      className={`anatomy-part ${box.group}`}
      data-path={box.id}
      data-parameters={box.parameters}
      x={box.x}
      y={box.y}
      width={box.width}
      height={box.height}
      onPointerEnter={() => onHover(box)}
    >
      <title>{`${box.id}\n${box.detail}\n${box.parameters.toLocaleString("en-GB")} parameters`}</title>
    </rect>
  );
}

/** The name of a part that is too thin to hold it, below the drawing. */
function Callout({ box, place }: { box: Box; place: number }) {
  const x = box.x + box.width / 2;
  const below = box.y + box.height + 16 + 16 * place;
  const end = x > SIZE.width * 0.75;
  return (
    <g className="anatomy-callout">
      <line x1={x} x2={x} y1={box.y} y2={below} />
      <text x={end ? x - 5 : x + 5} y={below} textAnchor={end ? "end" : "start"}>
        {box.label} {box.detail && `(${box.detail})`}
      </text>
    </g>
  );
}

const LAYER = { width: 1000, height: 420 };
/** A part narrower than this has its name beside a line below the drawing. */
const THIN = 16;

/** A part's name: below it, inside it from bottom to top, or beside a line that leads to it. */
function Name({ box, bands, place }: { box: Box; bands: Box["bands"]; place: number }) {
  const x = box.x + box.width / 2;
  if (box.width > 70)
    return (
      <text className="anatomy-label" x={x} y={LAYER.height + 18}>
        {box.label}
        <tspan className="anatomy-small" x={x} dy="1.35em">
          {box.detail}
        </tspan>
        <tspan className="anatomy-small" x={x} dy="1.35em">
          {count(box.parameters)}
          {bands ? ` · ${bands.count} ${bands.what}s` : ""}
        </tspan>
      </text>
    );
  if (box.width >= THIN)
    return (
      <text className="anatomy-inside" transform={`translate(${x + 4} ${LAYER.height - 10}) rotate(-90)`}>
        {box.label} <tspan className="anatomy-small">{box.detail}</tspan>
      </text>
    );
  const below = LAYER.height + 66 + 16 * place;
  const end = x > LAYER.width * 0.75;
  return (
    <g className="anatomy-callout">
      <line x1={x} x2={x} y1={0} y2={below} />
      <text x={end ? x - 5 : x + 5} y={below} textAnchor={end ? "end" : "start"}>
        {box.label} ({box.detail})
      </text>
    </g>
  );
}

interface LayerProps {
  layer: Layer;
  head: number | null;
  onHead: (head: number | null) => void;
  onHover: (box: Box | null) => void;
}

/** One layer: its projections cut into heads or experts. */
export function LayerDrawing({ layer, head, onHead, onHover }: LayerProps) {
  const boxes = layerBoxes(layer, LAYER);
  const attention = layer.attention;
  const group = (box: Box, band: number) =>
    attention && (box.part?.role === "k" || box.part?.role === "v") ? band : attention ? keyHead(attention, band) : 0;
  const chosen = (box: Box, band: number) => {
    if (head === null || !attention) return false;
    return box.part?.role === "k" || box.part?.role === "v" ? band === keyHead(attention, head) : band === head;
  };
  let thin = 0;
  return (
    <svg
      className="anatomy layer"
      viewBox={`-4 0 ${LAYER.width + 8} ${LAYER.height + 72 + 16 * boxes.filter((box) => box.width < THIN).length}`}
      role="group"
      aria-label={`Layer ${layer.index} to scale: ${count(layer.parameters)} parameters`}
      onPointerLeave={() => onHover(null)}
    >
      {boxes.map((box) => {
        const bands = box.bands && box.bands.count <= 256 ? box.bands : undefined;
        const height = bands ? box.height / bands.count : 0;
        return (
          <g key={box.id}>
            <Rectangle box={box} onHover={onHover} />
            {bands &&
              Array.from({ length: bands.count }, (_, band) => (
                <rect
                  key={band}
                  className={`anatomy-band group-${bands.what === "head" ? group(box, band) % 2 : band % 2}${bands.what === "head" && chosen(box, band) ? " chosen" : ""}`}
                  x={box.x}
                  y={box.y + band * height}
                  width={box.width}
                  height={height}
                  data-band={band}
                  onPointerEnter={() => onHover(box)}
                  onClick={bands.what === "head" && box.part?.role !== "k" && box.part?.role !== "v" ? () => onHead(head === band ? null : band) : undefined}
                >
                  <title>{`${bands.what} ${band} of ${box.label}\n${Math.round(box.parameters / bands.count).toLocaleString("en-GB")} parameters each`}</title>
                </rect>
              ))}
            <Name box={box} bands={bands} place={box.width < THIN ? thin++ : 0} />
          </g>
        );
      })}
    </svg>
  );
}
