/**
 * Where does a node stand that is a site at a position? In the row of its layer and the column of its position: the rules
 * of `cutaway.drawing.positions`. Positions run from left to right, layers from below to above; what is read (keys, values)
 * stands below what a layer's heads write. An arrow from what a head reads is attention's, and has no weight of its own.
 */

import type { Network } from "./framing";
import { KINDS, columnOf, shortName, siteOf, type SiteName } from "./siteNames";

export interface PositionNode {
  /** Its name. */
  label: string;
  /** What is written on it: its layer and position stand beside it. */
  short: string;
  /** The nodes of the network that it stands for: one, or all of a folded layer at its position. */
  members: number[];
  /** 0 is the lowest. */
  row: number;
  column: number;
}

export interface PositionEdge {
  source: number;
  target: number;
  weight: number;
  /** The arrows of the network that it stands for. */
  members: number[];
}

export interface PositionLayout {
  nodes: PositionNode[];
  edges: PositionEdge[];
  /** Where attention moves something: from node to node. */
  moves: { source: number; target: number }[];
  /** The layer of each row, from below to above. */
  rows: string[];
  /** What stands above each column. */
  headings: string[];
  /** How many arrows there are, and how many of them are as strong as asked for. */
  count: number;
  kept: number;
}

const READ: readonly string[] = ["q", "k", "v", "attn_in"];

/** The sites of all nodes, where the view names positions and each is a site at one of them; null otherwise. */
export function sitesAtPositions(panel: Network): SiteName[] | null {
  const { positions } = panel;
  if (!positions?.length || !panel.names.length) return null;
  const sites = panel.names.map(siteOf);
  const all = sites.every((site) => site !== null && site.position !== null && positions.includes(String(site.position)));
  return all ? (sites as SiteName[]) : null;
}

/** The `most` strongest arrows by layer and position, with the layers named in `folded` as one node at each position. */
export function positionLayout(
  panel: Network,
  sites: readonly SiteName[],
  most: number,
  folded: ReadonlySet<string> = new Set(),
): PositionLayout {
  const strength = (i: number) => Math.abs(panel.weights[i] as number) || 0;
  const every = panel.sources.map((_, i) => i);
  const attends = (i: number) => READ.includes((sites[panel.sources[i] as number] as SiteName).kind);
  const arrows = every.filter((i) => !attends(i));
  const chosen = [...arrows].sort((a, b) => strength(b) - strength(a) || a - b).slice(0, most);
  const used = new Set(chosen.flatMap((i) => [panel.sources[i] as number, panel.targets[i] as number]));
  const ends = (i: number) => [panel.sources[i] as number, panel.targets[i] as number] as const;

  const nodes: PositionNode[] = [];
  const placeOf = new Map<number, number>();
  const known = new Map<string, number>();
  const ranks = [...used].map((member) => rankOf(sites[member] as SiteName, folded));
  const order = [...new Map(ranks.map((rank) => [rank.key, rank])).values()].sort((a, b) => a.layer - b.layer || a.within - b.within);
  for (const member of [...used].sort((a, b) => compare(sites[a] as SiteName, sites[b] as SiteName))) {
    const site = sites[member] as SiteName;
    const layer = columnOf(site);
    const column = panel.positions?.indexOf(String(site.position)) ?? 0;
    const key = `${layer} ${column}`;
    const there = folded.has(layer) ? known.get(key) : undefined;
    if (there !== undefined) {
      nodes[there]?.members.push(member);
      placeOf.set(member, there);
      continue;
    }
    known.set(key, nodes.length);
    placeOf.set(member, nodes.length);
    const row = order.findIndex((rank) => rank.key === rankOf(site, folded).key);
    nodes.push({ label: panel.nodes[member] ?? "", short: wordOf(site), members: [member], row, column });
  }
  for (const node of nodes)
    if (node.members.length > 1) {
      node.label = `${order[node.row]?.name} at ${panel.positions?.[node.column]} (${node.members.length})`;
      node.short = `${node.members.length} parts`;
    }

  const merged = new Map<string, PositionEdge>();
  for (const i of chosen) {
    const [source, target] = ends(i).map((end) => placeOf.get(end) as number) as [number, number];
    if (source === target) continue;
    const weight = panel.weights[i] as number;
    const edge = merged.get(`${source} ${target}`);
    if (!edge) merged.set(`${source} ${target}`, { source, target, weight, members: [i] });
    else {
      edge.weight += weight;
      edge.members.push(i);
    }
  }
  const moves = new Map<string, { source: number; target: number }>();
  for (const i of every.filter(attends)) {
    const [source, target] = ends(i).map((end) => placeOf.get(end));
    if (source === undefined || target === undefined || source === target) continue;
    moves.set(`${source} ${target}`, { source, target });
  }
  return {
    nodes,
    edges: [...merged.values()],
    moves: [...moves.values()],
    rows: order.map(({ name }) => name),
    headings: panel.positions?.map((name, i) => panel.headings?.[i] ?? name) ?? [],
    count: arrows.length,
    kept: chosen.length,
  };
}

/** `head 2`, `k 0`, `mlp`: a node where its layer and position stand beside it. */
function wordOf(site: SiteName): string {
  return READ.includes(site.kind) && site.head !== null ? `${site.kind} ${site.head}` : shortName({ ...site, position: null });
}

function rankOf(site: SiteName, folded: ReadonlySet<string>) {
  const name = columnOf(site);
  const layer = site.layer ?? (site.kind === "embed" ? -1 : Infinity);
  const within = folded.has(name) ? 0 : READ.includes(site.kind) ? -1 : (KINDS as readonly string[]).indexOf(site.kind);
  return { key: `${layer} ${within}`, layer: layer === Infinity ? 1e9 : layer, within, name };
}

function compare(a: SiteName, b: SiteName): number {
  const kinds = KINDS as readonly string[];
  return kinds.indexOf(a.kind) - kinds.indexOf(b.kind) || (a.head ?? 0) - (b.head ?? 0);
}
