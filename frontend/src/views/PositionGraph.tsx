/** Parts at positions: rows are layers, columns positions. Arrows go up, and thin dashed lines between columns are attention. */

import { useMemo, useRef, useState, type KeyboardEvent } from "react";
import type { Network } from "./framing";
import { Arrow, FIRST_ARROWS, GraphControls, HIGH, LayerName, NodeBox, thickness } from "./graphParts";
import { saidOfEdge, saidOfNode } from "./graphWords";
import { Empty, Hint, Spoken, type Pointed } from "./Hint";
import { positionLayout, type PositionEdge, type PositionLayout } from "./positionLayout";
import type { SiteName } from "./siteNames";
import { cut, roomFor, useWidth } from "./surroundings";
import type { Drawn } from "./types";
import { anyNegative, figure, label, whole } from "./words";

const BESIDE = 3;
const GAP = 6;
const ROW = 30;
const HEAD = 24;
/** Of more positions than these, those without a node are left out. */
const FEW_COLUMNS = 8;

export function PositionGraph({
  panel,
  sites,
  title,
  theme,
  height = 620,
  hover,
  onHover,
  onSelect,
}: Drawn<Network> & { sites: readonly SiteName[] }) {
  const box = useRef<HTMLDivElement>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const [most, setMost] = useState(FIRST_ARROWS);
  const [folded, setFolded] = useState<ReadonlySet<string>>(new Set());
  const [at, setAt] = useState<number | null>(null);
  const [pointed, setPointed] = useState<Pointed | null>(null);
  const [spoken, setSpoken] = useState("");
  const layout = useMemo(() => positionLayout(panel, sites, most, folded), [panel, sites, most, folded]);
  const places = useMemo(() => placesOf(layout, width), [layout, width]);
  const signs = useMemo(() => anyNegative(panel.weights), [panel]);
  if (!layout.count) return <Empty>There are no arrows to show.</Empty>;

  const linked = panel.nodeDim === undefined ? undefined : hover?.[panel.nodeDim];
  const strongest = Math.max(...layout.edges.map(({ weight }) => Math.abs(weight) || 0), 0) || 1;
  const weakest = layout.edges.length ? Math.min(...layout.edges.map(({ weight }) => Math.abs(weight) || 0)) : 0;
  const layers = [...new Set(layout.rows)];
  const order = [...layout.edges].sort((a, b) => (Math.abs(a.weight) || 0) - (Math.abs(b.weight) || 0));
  const near = (ends: { source: number; target: number }) => at === null || ends.source === at || ends.target === at;
  const move = (index: number | null, speak = false) => {
    setAt(index);
    const place = index === null ? undefined : places.nodes[index];
    if (index === null || !place) {
      setPointed(null);
      return onHover?.(null);
    }
    const view = scroller.current;
    if (speak && view && (place.y < view.scrollTop + HIGH || place.y > view.scrollTop + view.clientHeight - 3 * HIGH))
      view.scrollTop = place.y - view.clientHeight / 2;
    const lines = saidOfNode(panel, layout.nodes, layout.edges, index, signs);
    setPointed({ x: place.x - (view?.scrollLeft ?? 0), y: place.y + 68 - (view?.scrollTop ?? 0), lines });
    if (panel.nodeDim !== undefined) onHover?.({ [panel.nodeDim]: layout.nodes[index]?.members[0] as number });
    if (speak) setSpoken(lines.join("; "));
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Escape") return move(null);
    const here = at === null ? undefined : places.nodes[at];
    if (event.key === "Enter" && at !== null) onSelect?.({ node: layout.nodes[at]?.members[0] as number });
    const way = WAYS[event.key];
    if (!way) return;
    event.preventDefault();
    move(here ? (nextIn(places.nodes, at as number, way) ?? at) : lowest(layout), true);
  };
  const dim = panel.edgeDim;
  const choose = onSelect && dim !== undefined ? (arrow: number) => onSelect({ [dim]: arrow }) : undefined;
  return (
    <div ref={box} className="cv-box cv-picture">
      <GraphControls
        most={most}
        count={layout.count}
        kept={layout.kept}
        onMost={setMost}
        layers={layout.rows}
        folded={folded}
        onFolded={setFolded}
      />
      <div ref={scroller} className="cv-scroll" style={{ maxHeight: height }}>
        <svg
          width={places.width}
          height={HEAD}
          aria-hidden="true"
          style={{ display: "block", position: "sticky", top: 0, background: "var(--paper)", zIndex: 1 }}
        >
          {layout.headings.map((heading, i) =>
            places.columns[i] === undefined ? null : (
              <text key={i} className="cv-mono" x={places.columns[i]} y="15" textAnchor="middle">
                {cut(label(heading), 11, places.rooms[i] as number, true)}
              </text>
            ),
          )}
        </svg>
        <svg
          width={places.width}
          height={places.height}
          role="application"
          aria-roledescription="graph"
          aria-label={`${title}: ${layout.nodes.length} nodes at ${layout.headings.length} positions, and ${layout.edges.length} arrows. Arrow keys move from node to node.`}
          tabIndex={0}
          onKeyDown={onKeyDown}
          onBlur={() => move(null)}
          style={{ display: "block" }}
        >
          {places.ends.slice(0, -1).map((x) => (
            <line key={x} x1={x} x2={x} y1="0" y2={places.height} stroke="var(--rule)" />
          ))}
          {layers.map((layer) => (
            <LayerName
              key={layer}
              layer={layer}
              folded={folded}
              onFolded={setFolded}
              x={0}
              y={(places.layers.get(layer) as number) - 10}
              width={places.left - 8}
              height={20}
            />
          ))}
          {layout.moves.map((ends) => (
            <path
              key={`${ends.source} ${ends.target}`}
              d={across(places.nodes[ends.source] as Spot, places.nodes[ends.target] as Spot, places.wide)}
              fill="none"
              stroke="var(--muted)"
              strokeWidth="1.1"
              strokeDasharray="2 3"
              opacity={near(ends) ? 1 : 0.15}
              data-attention=""
            >
              <title>{`attention: ${layout.nodes[ends.source]?.label} → ${layout.nodes[ends.target]?.label}`}</title>
            </path>
          ))}
          {order.map((edge, turn) => {
            const thick = thickness(edge.weight, strongest);
            const [from, to] = [places.nodes[edge.source], places.nodes[edge.target]] as [Spot, Spot];
            return (
              <Arrow
                key={`${edge.source} ${edge.target}`}
                weight={edge.weight}
                thick={thick}
                theme={theme}
                path={upward(from, to, bowOf(edge, places, turn), 5 + thick)}
                head={headOf(to, thick)}
                said={saidOfEdge(panel, layout.nodes, edge, signs)}
                opacity={near(edge) ? 1 : 0.12}
                members={edge.members}
                onChoose={choose}
              />
            );
          })}
          {layout.nodes.map((node, index) => {
            const { x, y } = places.nodes[index] as Spot;
            const own = index === at || (at === null && linked !== undefined && node.members.includes(linked));
            return (
              <NodeBox
                key={node.members[0]}
                x={x - places.wide / 2}
                y={y}
                width={places.wide}
                own={own}
                several={node.members.length > 1}
                onPoint={(on) => move(on ? index : null)}
                onChoose={() => onSelect?.({ node: node.members[0] as number })}
              >
                {node.short}
              </NodeBox>
            );
          })}
        </svg>
      </div>
      <Hint pointed={pointed} />
      <Spoken text={spoken} />
      <p className="cv-note">
        {panel.weightName && `Thickness shows ${panel.weightName}${signs ? "; dashed is negative" : ""}. `}
        {layout.moves.length > 0 && "Thin dashed lines are attention. "}
        {layout.kept < layout.count &&
          `${whole(layout.kept)} of ${whole(layout.count)} arrows are drawn: the strongest${folded.size ? "" : `, from ${figure(weakest, false)} up`}. `}
        {folded.size > 0 && "A folded layer is one node at each position; its arrows are sums, and those within it are not drawn."}
      </p>
    </div>
  );
}

interface Spot {
  x: number;
  y: number;
}

interface Places {
  nodes: Spot[];
  /** Whether a node is left (-1) or right (1) of its column's middle. */
  sides: number[];
  /** Middles of the columns; undefined where one is left out. */
  columns: (number | undefined)[];
  rooms: number[];
  ends: number[];
  layers: ReadonlyMap<string, number>;
  left: number;
  wide: number;
  width: number;
  height: number;
}

function placesOf(layout: PositionLayout, room: number): Places {
  const cells = new Map<string, number[]>();
  layout.nodes.forEach(({ row, column }, index) => {
    const key = `${row} ${column}`;
    cells.set(key, [...(cells.get(key) ?? []), index]);
  });
  const inCell = (row: number, column: number) => cells.get(`${row} ${column}`) ?? [];
  const wide = Math.max(...layout.nodes.map(({ short }) => roomFor(short, 11, true))) + 12;
  const left = Math.max(...layout.rows.map((layer) => roomFor(`▸ ${layer}`, 12))) + 20;
  const needed = layout.headings.map((heading, column) => {
    const most = Math.max(0, ...layout.rows.map((_, row) => Math.min(BESIDE, inCell(row, column).length)));
    if (!most && layout.headings.length > FEW_COLUMNS) return 0;
    return Math.max(most * (wide + GAP), Math.min(120, roomFor(label(heading), 11, true))) + 18;
  });
  const shown = Math.max(1, needed.filter((own) => own > 0).length);
  const spare = Math.max(0, Math.min(60, (room - left - needed.reduce((a, b) => a + b, 0) - 4) / shown));
  const [columns, ends, rooms]: [(number | undefined)[], number[], number[]] = [[], [], []];
  let x = left;
  for (const own of needed) {
    if (!own) {
      columns.push(undefined);
      rooms.push(0);
      continue;
    }
    columns.push(x + (own + spare) / 2);
    rooms.push(own + spare - 8);
    ends.push((x += own + spare));
  }
  const lines = layout.rows.map((_, row) => Math.max(...layout.headings.map((_, column) => Math.ceil(inCell(row, column).length / BESIDE))));
  const middles: number[] = [];
  let y = 4;
  for (let row = layout.rows.length - 1; row >= 0; row--) {
    const own = (lines[row] as number) * (HIGH + GAP) + ROW;
    middles[row] = y + own / 2;
    y += own;
  }
  const [nodes, sides]: [Spot[], number[]] = [[], []];
  for (const [key, some] of cells) {
    const [row, column] = key.split(" ").map(Number) as [number, number];
    some.forEach((node, i) => {
      const beside = Math.min(BESIDE, some.length - Math.floor(i / BESIDE) * BESIDE);
      const across = ((i % BESIDE) - (beside - 1) / 2) * (wide + GAP);
      const down = (Math.floor(i / BESIDE) - (Math.ceil(some.length / BESIDE) - 1) / 2) * (HIGH + GAP);
      nodes[node] = { x: (columns[column] as number) + across, y: (middles[row] as number) + down };
      sides[node] = Math.sign(Math.round(across));
    });
  }
  const layers = new Map<string, number>();
  for (const layer of new Set(layout.rows)) {
    const own = middles.filter((_, row) => layout.rows[row] === layer);
    layers.set(layer, own.reduce((a, b) => a + b, 0) / own.length);
  }
  return { nodes, sides, columns, rooms, ends, layers, left, wide, width: x + 2, height: y + 4 };
}

/** How far an arrow leaves its column's middle to pass beside the nodes between its ends. */
function bowOf(edge: PositionEdge, places: Places, turn: number): number {
  const [from, to] = [places.nodes[edge.source], places.nodes[edge.target]] as [Spot, Spot];
  if (from.y - to.y <= HIGH + GAP + ROW + 2) return 0;
  const aside = places.sides[edge.source] || places.sides[edge.target] || (turn % 2 ? 1 : -1);
  return aside * (places.wide * 0.7 + 10 + 5 * (turn % 3));
}

/** From node to node of attention: upwards, or within a folded layer from side to side. */
function across(from: Spot, to: Spot, wide: number): string {
  if (from.y - to.y > HIGH) return upward(from, to, 0, 0);
  const side = (Math.sign(to.x - from.x) * wide) / 2;
  return `M${from.x + side} ${from.y}L${to.x - side} ${to.y}`;
}

/** A path that leaves a node upright at its top and arrives at another's bottom, `short` of it. */
function upward(from: Spot, to: Spot, bow: number, short: number): string {
  const [y1, y2] = [from.y - HIGH / 2, to.y + HIGH / 2 + short];
  const bend = Math.max(12, (y1 - y2) * (bow ? 0.3 : 0.45));
  return `M${from.x} ${y1}C${from.x + bow} ${y1 - bend} ${to.x + bow} ${y2 + bend} ${to.x} ${y2}`;
}

function headOf({ x, y }: Spot, thick: number): string {
  const [tip, half] = [y + HIGH / 2, 3 + thick * 0.7];
  const back = tip + 6 + thick;
  return `${x} ${tip} ${x - half} ${back} ${x + half} ${back}`;
}

const WAYS: Readonly<Record<string, readonly [number, number]>> = {
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
};

/** The nearest node in a direction; the way across counts three times. */
function nextIn(nodes: readonly Spot[], from: number, [right, down]: readonly [number, number]): number | undefined {
  const here = nodes[from] as Spot;
  const far = nodes.map(({ x, y }) => {
    const [dx, dy] = [x - here.x, y - here.y];
    const along = dx * right + dy * down;
    return along > 1 ? along + 3 * Math.abs(right ? dy : dx) : Infinity;
  });
  const best = far.indexOf(Math.min(...far));
  return far[best] === Infinity ? undefined : best;
}

function lowest(layout: PositionLayout): number {
  const rows = layout.nodes.map(({ row, column }) => row * 1000 + column);
  return rows.indexOf(Math.min(...rows));
}
