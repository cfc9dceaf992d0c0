/**
 * Where do the nodes of a graph stand? In columns, so that arrows point forwards and cross seldom.
 *
 * Nodes that are sites stand in a column for their layer and kind, in the order in which the model computes them. Others
 * stand one column after the last node that points to them; arrows that would close a circle do not count for that. The
 * nodes of a column then move towards their neighbours, which undoes most crossings (Sugiyama et al. 1981).
 */

import type { Network } from "./framing";
import { before, columnOf, shortName, siteOf, type SiteName } from "./siteNames";

export interface GraphNode {
  /** Its name. */
  label: string;
  /** What is written on it: without the layer, which stands above its column. */
  short: string;
  /** The nodes of the network that it stands for: one, or all of a folded layer. */
  members: number[];
  column: number;
  row: number;
}

export interface GraphEdge {
  source: number;
  target: number;
  weight: number;
  /** The arrows of the network that it stands for. */
  members: number[];
  /** Where it passes the columns between its ends. */
  stops: GraphStop[];
}

/** A place in a column that an arrow passes, beside the nodes. */
export interface GraphStop {
  column: number;
  row: number;
}

export interface GraphLayout {
  nodes: GraphNode[];
  edges: GraphEdge[];
  /** The layer of each column; empty where columns have none. */
  columns: string[];
  /** What stands in each column, from top to bottom. */
  order: (GraphNode | GraphStop)[][];
  /** How many arrows there are with a weight as large as asked for. */
  kept: number;
  bySite: boolean;
}

/** The graph of the `most` strongest arrows, with the layers named in `folded` as one node each. */
export function graphLayout(panel: Network, most: number, folded: ReadonlySet<string> = new Set()): GraphLayout {
  const strength = (i: number) => Math.abs(panel.weights[i] as number) || 0;
  const chosen = panel.sources
    .map((_, i) => i)
    .sort((a, b) => strength(b) - strength(a) || a - b)
    .slice(0, most);
  const sites = panel.names.map(siteOf);
  const bySite = panel.names.length > 0 && sites.every((site) => site !== null);
  const whole = chosen.length === panel.sources.length;
  const used = new Set(chosen.flatMap((i) => [panel.sources[i] as number, panel.targets[i] as number]));
  const shown = panel.nodes.map((_, i) => i).filter((i) => whole || used.has(i));

  const nodes: GraphNode[] = [];
  const placeOf = new Map<number, number>();
  const groups = new Map<string, number>();
  for (const member of shown) {
    const column = bySite ? columnOf(sites[member] as SiteName) : "";
    const known = groups.get(column);
    if (folded.has(column) && known !== undefined) {
      nodes[known]?.members.push(member);
      placeOf.set(member, known);
      continue;
    }
    if (folded.has(column)) groups.set(column, nodes.length);
    placeOf.set(member, nodes.length);
    const label = panel.nodes[member] ?? "";
    nodes.push({ label, short: bySite ? shortName(sites[member] as SiteName) : label, members: [member], column: 0, row: 0 });
  }
  for (const [column, place] of groups) {
    const node = nodes[place] as GraphNode;
    if (node.members.length > 1) node.label = node.short = `${column} (${node.members.length})`;
  }
  const edges = mergedEdges(panel, chosen, placeOf);
  const columns = bySite ? siteColumns(nodes, sites as SiteName[], folded) : [];
  if (!bySite) depthColumns(nodes, edges);
  return { nodes, edges, columns, order: ordered(nodes, edges), kept: chosen.length, bySite };
}

/** Arrows between the same two nodes become one, with the sum of their weights; those inside a node vanish. */
function mergedEdges(panel: Network, chosen: readonly number[], placeOf: ReadonlyMap<number, number>): GraphEdge[] {
  const merged = new Map<string, GraphEdge>();
  for (const i of chosen) {
    const ends = [panel.sources[i] as number, panel.targets[i] as number];
    const [source, target] = ends.map((end) => placeOf.get(end) as number) as [number, number];
    const folded = ends[0] !== ends[1] && source === target;
    if (folded) continue;
    const key = `${source} ${target}`;
    const known = merged.get(key);
    const weight = panel.weights[i] as number;
    if (!known) merged.set(key, { source, target, weight, members: [i], stops: [] });
    else {
      known.weight += weight;
      known.members.push(i);
    }
  }
  return [...merged.values()];
}

/** A column for each kind of each layer, or one for a folded layer; the layers of the columns. */
function siteColumns(nodes: GraphNode[], sites: readonly SiteName[], folded: ReadonlySet<string>): string[] {
  const of = (node: GraphNode) => sites[node.members[0] as number] as SiteName;
  const keyOf = (node: GraphNode) => {
    const layer = columnOf(of(node));
    return folded.has(layer) ? layer : `${layer} ${of(node).kind}`;
  };
  const layers = new Map<string, string>();
  for (const node of [...nodes].sort((a, b) => before(of(a), of(b)))) layers.set(keyOf(node), columnOf(of(node)));
  const keys = [...layers.keys()];
  for (const node of nodes) node.column = keys.indexOf(keyOf(node));
  return [...layers.values()];
}

/** For each node the length of the longest way to it, without arrows that close a circle. */
function depthColumns(nodes: GraphNode[], edges: readonly GraphEdge[]): void {
  const forward = withoutCircles(nodes.length, edges);
  for (let round = 0; round < nodes.length; round++) {
    let moved = false;
    for (const { source, target } of forward) {
      const [from, to] = [nodes[source] as GraphNode, nodes[target] as GraphNode];
      if (to.column > from.column) continue;
      to.column = from.column + 1;
      moved = true;
    }
    if (!moved) return;
  }
}

/** The arrows without those that lead back to a node on the way to them. */
export function withoutCircles(count: number, edges: readonly GraphEdge[]): GraphEdge[] {
  const after: GraphEdge[][] = Array.from({ length: count }, () => []);
  for (const edge of edges) after[edge.source]?.push(edge);
  const kept = new Set<GraphEdge>();
  const state = new Uint8Array(count); // 1 on the way, 2 done
  for (let root = 0; root < count; root++) {
    if (state[root]) continue;
    const way: [number, number][] = [[root, 0]];
    state[root] = 1;
    while (way.length) {
      const top = way[way.length - 1] as [number, number];
      const edge = after[top[0]]?.[top[1]++];
      if (!edge) {
        state[top[0]] = 2;
        way.pop();
      } else if (state[edge.target] !== 1) {
        kept.add(edge);
        if (state[edge.target] === 0) {
          state[edge.target] = 1;
          way.push([edge.target, 0]);
        }
      }
    }
  }
  return edges.filter((edge) => kept.has(edge));
}

/** Nodes and stops of each column, ordered by the middles of their neighbours. */
function ordered(nodes: GraphNode[], edges: GraphEdge[]): (GraphNode | GraphStop)[][] {
  type Place = GraphNode | GraphStop;
  const columns: Place[][] = [];
  const near = new Map<Place, Place[]>();
  const add = (place: Place) => {
    (columns[place.column] ??= []).push(place);
    near.set(place, []);
  };
  nodes.forEach(add);
  for (const edge of edges) {
    const [source, target] = [nodes[edge.source] as GraphNode, nodes[edge.target] as GraphNode];
    for (let column = source.column + 1; column < target.column; column++) edge.stops.push({ column, row: 0 });
    edge.stops.forEach(add);
    const way: Place[] = [source, ...edge.stops, target];
    for (let i = 1; i < way.length; i++) {
      near.get(way[i - 1] as Place)?.push(way[i] as Place);
      near.get(way[i] as Place)?.push(way[i - 1] as Place);
    }
  }
  const height = new Map<Place, number>();
  const settle = (column: Place[]) =>
    column.forEach((place, row) => {
      place.row = row;
      height.set(place, (row + 0.5) / column.length);
    });
  columns.forEach(settle);
  const middleOf = (place: Place) => {
    const around = near.get(place) ?? [];
    const sum = around.reduce((total, other) => total + (height.get(other) ?? 0), 0);
    return around.length ? sum / around.length : (height.get(place) ?? 0);
  };
  for (let round = 0; round < 6; round++)
    for (const column of columns) {
      const middle = new Map(column.map((place) => [place, middleOf(place)]));
      column.sort((a, b) => (middle.get(a) ?? 0) - (middle.get(b) ?? 0));
      settle(column);
    }
  return columns;
}
