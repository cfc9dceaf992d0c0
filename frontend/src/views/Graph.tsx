/** Nodes in columns and arrows between them: thick is strong, dashed is negative. */

import { useMemo, useRef, useState, type KeyboardEvent } from "react";
import type { Network } from "./framing";
import { graphLayout, type GraphEdge, type GraphLayout, type GraphStop } from "./graphLayout";
import { Arrow, FIRST_ARROWS, GraphControls, LayerName, NodeBox, thickness } from "./graphParts";
import { saidOfEdge, saidOfNode } from "./graphWords";
import { Empty, Hint, Spoken, type Pointed } from "./Hint";
import { PositionGraph } from "./PositionGraph";
import { sitesAtPositions } from "./positionLayout";
import { cut, roomFor, useWidth } from "./surroundings";
import { Tree } from "./Tree";
import { treeOf } from "./treeLayout";
import type { Drawn } from "./types";
import { anyNegative, figure, whole } from "./words";


/** A graph in columns, by layer and position where it names positions, or a tree where it is one. */
export function Graph(props: Drawn<Network>) {
  const sites = useMemo(() => sitesAtPositions(props.panel), [props.panel]);
  const tree = useMemo(() => treeOf(props.panel), [props.panel]);
  if (sites) return <PositionGraph {...props} sites={sites} />;
  return tree ? <Tree {...props} tree={tree} /> : <Columns {...props} />;
}

function Columns({ panel, title, theme, height = 620, hover, onHover, onSelect }: Drawn<Network>) {
  const box = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const count = panel.sources.length;
  const [most, setMost] = useState(Math.min(count, FIRST_ARROWS));
  const [folded, setFolded] = useState<ReadonlySet<string>>(new Set());
  const [at, setAt] = useState<number | null>(null);
  const [pointed, setPointed] = useState<Pointed | null>(null);
  const [spoken, setSpoken] = useState("");
  const layout = useMemo(() => graphLayout(panel, most, folded), [panel, most, folded]);
  const signs = useMemo(() => anyNegative(panel.weights), [panel]);
  const places = useMemo(() => placesOf(layout, width), [layout, width]);
  if (!panel.nodes.length) return <Empty>There are no nodes to show.</Empty>;

  const linked = panel.nodeDim === undefined ? undefined : hover?.[panel.nodeDim];
  const strongest = Math.max(...layout.edges.map(({ weight }) => Math.abs(weight) || 0), 0) || 1;
  const nodeOf = (index: number) => layout.nodes[index];
  const saidEdge = (edge: GraphEdge) => saidOfEdge(panel, layout.nodes, edge, signs);
  const saidNode = (index: number) => saidOfNode(panel, layout.nodes, layout.edges, index, signs);
  const move = (index: number | null, speak = false) => {
    setAt(index);
    const place = index === null ? undefined : places.nodes[index];
    if (index === null || !place) {
      setPointed(null);
      return onHover?.(null);
    }
    const lines = saidNode(index);
    setPointed({ x: place.x + places.wide / 2, y: place.y + 40, lines });
    if (panel.nodeDim !== undefined) onHover?.({ [panel.nodeDim]: nodeOf(index)?.members[0] as number });
    if (speak) setSpoken(lines.join("; "));
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const here = at === null ? undefined : nodeOf(at);
    const inColumn = (column: number, row: number) => {
      const column_ = layout.nodes.map((node, index) => ({ node, index })).filter(({ node }) => node.column === column);
      return column_.sort((a, b) => Math.abs(a.node.row - row) - Math.abs(b.node.row - row))[0]?.index;
    };
    const steps: Record<string, () => number | undefined> = {
      ArrowRight: () => here && inColumn(here.column + 1, here.row),
      ArrowLeft: () => here && inColumn(here.column - 1, here.row),
      ArrowDown: () => here && inColumn(here.column, here.row + 1),
      ArrowUp: () => here && inColumn(here.column, here.row - 1),
    };
    if (event.key === "Enter" && here) onSelect?.({ node: here.members[0] as number });
    if (event.key === "Escape") move(null);
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    move(here ? (step() ?? at) : (inColumn(0, 0) ?? 0), true);
  };
  const touches = (edge: GraphEdge) => at === null || edge.source === at || edge.target === at;
  const weakest = layout.edges.length ? Math.min(...layout.edges.map(({ weight }) => Math.abs(weight) || 0)) : 0;
  const order = [...layout.edges].sort((a, b) => Math.abs(a.weight) - Math.abs(b.weight));
  const dim = panel.edgeDim;
  const choose = onSelect && dim !== undefined ? (arrow: number) => onSelect({ [dim]: arrow }) : undefined;
  return (
    <div ref={box} className="cv-box cv-picture">
      <GraphControls
        most={most}
        count={count}
        kept={layout.kept}
        onMost={setMost}
        layers={layout.bySite ? layout.columns : []}
        folded={folded}
        onFolded={setFolded}
      />
      <div className="cv-scroll" style={{ maxHeight: height }}>
        <svg
          width={places.width}
          height={places.height}
          role="application"
          aria-roledescription="graph"
          aria-label={`${title}: ${layout.nodes.length} nodes and ${layout.edges.length} arrows. Arrow keys move from node to node.`}
          tabIndex={0}
          onKeyDown={onKeyDown}
          onBlur={() => move(null)}
          style={{ display: "block" }}
        >
          {layout.columns.map((layer, i) => {
            if (layer === layout.columns[i - 1]) return null;
            const end = layout.columns.lastIndexOf(layer);
            const [left, right] = [places.columns[i] ?? 0, (places.columns[end] ?? 0) + places.wide];
            return (
              <LayerName
                key={layer}
                layer={layer}
                folded={folded}
                onFolded={setFolded}
                x={left}
                y={0}
                width={right - left}
                height={18}
              />
            );
          })}
          {order.map((edge) => {
            const thick = thickness(edge.weight, strongest);
            const way = wayOf(edge, places);
            return (
              <Arrow
                key={`${edge.source} ${edge.target}`}
                weight={edge.weight}
                thick={thick}
                theme={theme}
                path={way.path}
                head={headOf(way.tip, thick)}
                said={saidEdge(edge)}
                opacity={touches(edge) ? 1 : 0.12}
                members={edge.members}
                onChoose={choose}
              />
            );
          })}
          {layout.nodes.map((node, index) => {
            const place = places.nodes[index];
            if (!place) return null;
            const own = index === at || (at === null && linked !== undefined && node.members.includes(linked));
            return (
              <NodeBox
                key={node.members[0]}
                x={place.x}
                y={place.y}
                width={places.wide}
                own={own}
                several={node.members.length > 1}
                onPoint={(on) => move(on ? index : null)}
                onChoose={() => onSelect?.({ node: node.members[0] as number })}
              >
                {cut(node.short, 11, places.wide - 8, true)}
              </NodeBox>
            );
          })}
        </svg>
      </div>
      <Hint pointed={pointed} />
      <Spoken text={spoken} />
      <p className="cv-note">
        {panel.weightName && `Thickness shows ${panel.weightName}${signs ? "; dashed is negative" : ""}. `}
        {layout.kept < count &&
          `${whole(layout.kept)} of ${whole(count)} arrows are drawn: the strongest${folded.size ? "" : `, from ${figure(weakest, false)} up`}. `}
        {folded.size > 0 && "A folded layer is one node; its arrows are sums, and those within it are not drawn."}
      </p>
    </div>
  );
}

interface Point {
  x: number;
  y: number;
}

interface Places {
  nodes: Point[];
  stops: ReadonlyMap<GraphStop, Point>;
  columns: number[];
  wide: number;
  width: number;
  height: number;
}

const ROOM_OF_NODE = 34;
const ROOM_OF_STOP = 14;

function placesOf(layout: GraphLayout, room: number): Places {
  const wide = Math.min(170, Math.max(60, ...layout.nodes.map((node) => roomFor(node.short, 11, true) + 16)));
  const count = Math.max(1, layout.order.length);
  const gap = Math.max(26, Math.min(120, (room - wide * count - 16) / Math.max(1, count - 1)));
  const head = layout.columns.length ? 26 : 6;
  const roomOf = (place: object) => ("members" in place ? ROOM_OF_NODE : ROOM_OF_STOP);
  const needed = layout.order.map((column) => column.reduce((sum, place) => sum + roomOf(place), 0));
  const height = Math.max(...needed, ROOM_OF_NODE) + 8;
  const columns = layout.order.map((_, column) => 2 + column * (wide + gap));
  const found = new Map<object, Point>();
  layout.order.forEach((column, i) => {
    const spare = (height - (needed[i] as number)) / column.length;
    let y = head;
    for (const place of column) {
      const own = roomOf(place) + spare;
      found.set(place, { x: columns[i] as number, y: y + own / 2 });
      y += own;
    }
  });
  return {
    nodes: layout.nodes.map((node) => found.get(node) as Point),
    stops: found as Map<GraphStop, Point>,
    columns,
    wide,
    width: count * (wide + gap) - gap + 4,
    height: head + height + 6,
  };
}

/** Out of its source, past the columns between, into its target; one that points back arrives in a loop. */
function wayOf(edge: GraphEdge, places: Places): { path: string; tip: Point } {
  const [from, to] = [places.nodes[edge.source], places.nodes[edge.target]] as [Point, Point];
  const past = edge.stops.flatMap((stop) => {
    const { x, y } = places.stops.get(stop) as Point;
    return [{ x, y }, { x: x + places.wide, y }];
  });
  const points = [{ x: from.x + places.wide, y: from.y }, ...past, { x: to.x - 6, y: to.y }];
  let path = `M${points[0]?.x} ${points[0]?.y}`;
  for (let i = 1; i < points.length; i++) {
    const [a, b] = [points[i - 1], points[i]] as [Point, Point];
    const forward = b.x > a.x;
    const [bend, drop] = forward ? [(b.x - a.x) / 2, 0] : [60, 34];
    path += `C${a.x + bend} ${a.y + drop} ${b.x - bend} ${b.y + drop} ${b.x} ${b.y}`;
  }
  return { path, tip: to };
}

function headOf(tip: Point, thick: number): string {
  const half = 3 + thick * 0.7;
  const back = tip.x - 6 - thick * 0.6;
  return `${tip.x} ${tip.y} ${back} ${tip.y - half} ${back} ${tip.y + half}`;
}
