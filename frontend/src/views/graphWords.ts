/** What is said of a node or an arrow of a graph that is pointed at, or walked to. */

import type { Network } from "./framing";
import { figure } from "./words";

interface Node {
  label: string;
  members: readonly number[];
}

interface Edge {
  source: number;
  target: number;
  weight: number;
  members: readonly number[];
}

const STRONGEST = 6;
const MEMBERS = 8;

/** Its ends and its weight; of a folded layer how many arrows it is the sum of. */
export function saidOfEdge(panel: Network, nodes: readonly Node[], edge: Edge, signs: boolean): string {
  const ends = `${nodes[edge.source]?.label} → ${nodes[edge.target]?.label}`;
  const many = edge.members.length > 1 ? `, sum of ${edge.members.length} arrows` : "";
  return panel.weightName ? `${ends}: ${panel.weightName} ${figure(edge.weight, signs)}${many}` : `${ends}${many}`;
}

/** Its name, what it stands for, and its strongest arrows, line by line. */
export function saidOfNode(
  panel: Network,
  nodes: readonly Node[],
  all: readonly Edge[],
  index: number,
  signs: boolean,
): string[] {
  const edges = all.filter((edge) => edge.source === index || edge.target === index);
  const strong = edges.sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight)).slice(0, STRONGEST);
  const node = nodes[index];
  const members = node && node.members.length > 1 ? node.members.map((i) => panel.nodes[i]).slice(0, MEMBERS) : [];
  return [
    node?.label ?? "",
    ...(members.length ? [`${members.join(", ")}${node && node.members.length > MEMBERS ? ", …" : ""}`] : []),
    ...strong.map((edge) => saidOfEdge(panel, nodes, edge, signs)),
    ...(edges.length > strong.length ? [`and ${edges.length - strong.length} more arrows`] : []),
  ];
}
