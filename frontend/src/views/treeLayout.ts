/**
 * Is a graph a tree of shares, and where do its branches stand? The rules of `cutaway.drawing.shapes.tree`.
 *
 * In a tree of shares one node is the root, one arrow leads to each other node, and no branch has more than the one that
 * it grows from, such as the probabilities of the ways in which a text can go on. Each leaf has a row of its own; what
 * branches stands in the row of its largest branch, so that the likeliest way is a straight line at the top.
 */

import type { Network } from "./framing";
import { siteOf } from "./siteNames";

export interface Branch {
  /** Its name, and what of it its parent's name has not. */
  label: string;
  own: string;
  /** Its share; that of the root is not known. */
  weight: number;
  depth: number;
  parent: number | null;
  /** The largest first. */
  children: number[];
  /** The arrow that leads to it. */
  edge: number | null;
}

export interface Tree {
  root: number;
  /** In the order of the network's nodes. */
  branches: Branch[];
}

export interface Placed {
  node: number;
  row: number;
  depth: number;
  /** How many branches below it are not shown. */
  hidden: number;
}

/** The tree that a network is; null where it is none. */
export function treeOf(panel: Network): Tree | null {
  const count = panel.nodes.length;
  if (count < 3 || panel.sources.length !== count - 1 || panel.names.every((name) => siteOf(name) !== null)) return null;
  const branches = panel.nodes.map(
    (label): Branch => ({ label, own: label, weight: NaN, depth: 0, parent: null, children: [], edge: null }),
  );
  for (let edge = 0; edge < panel.sources.length; edge++) {
    const [from, to] = [panel.sources[edge] as number, panel.targets[edge] as number];
    const branch = branches[to] as Branch;
    const weight = panel.weights[edge] as number;
    if (branch.parent !== null || !(weight > 0)) return null;
    Object.assign(branch, { parent: from, weight, edge });
    branches[from]?.children.push(to);
  }
  const root = branches.findIndex(({ parent }) => parent === null);
  const reached = root < 0 ? [] : [root];
  for (const node of reached) {
    const branch = branches[node] as Branch;
    branch.children.sort((a, b) => (branches[b] as Branch).weight - (branches[a] as Branch).weight || a - b);
    for (const below of branch.children) {
      const child = branches[below] as Branch;
      if (child.weight > branch.weight) return null;
      child.depth = branch.depth + 1;
      if (child.label.startsWith(`${branch.label}-`)) child.own = child.label.slice(branch.label.length + 1);
      reached.push(below);
    }
  }
  const deep = branches.some(({ depth }) => depth > 1);
  return reached.length === count && deep ? { root, branches } : null;
}

/** The branches of at least so large a share, without those below a folded one, from top to bottom. */
export function treeLayout({ root, branches }: Tree, least: number, folded: ReadonlySet<number>): Placed[] {
  const placed: Placed[] = [];
  let rows = 0;
  const place = (node: number): Placed => {
    const branch = branches[node] as Branch;
    const large = branch.children.filter((child) => (branches[child] as Branch).weight >= least);
    const open = folded.has(node) ? [] : large;
    const here: Placed = { node, row: 0, depth: branch.depth, hidden: 0 };
    placed.push(here);
    const below = open.map(place);
    here.row = below[0]?.row ?? rows++;
    here.hidden = branch.children.length - open.length;
    return here;
  };
  place(root);
  return placed;
}

/** The share that a slider from 0 to 1 stands for: equal steps are equal ratios. */
export function leastAt(tree: Tree, at: number): number {
  const weights = tree.branches.map(({ weight }) => weight).filter(Number.isFinite);
  const [low, high] = [Math.min(...weights), Math.max(...weights)];
  return at <= 0 ? low : Math.min(high, low * (high / low) ** at);
}
