/** A tree of shares: each branch with its share, small ones cut off, and any of them folded. */

import { useMemo, useRef, useState, type KeyboardEvent } from "react";
import type { Network } from "./framing";
import { Hint, Spoken, type Pointed } from "./Hint";
import { colour, css } from "./palette";
import { roomFor, useWidth } from "./surroundings";
import { leastAt, treeLayout, type Branch, type Placed, type Tree as Grown } from "./treeLayout";
import type { Drawn } from "./types";
import { number, whole } from "./words";

const ROW = 26;
const HIGH = 22;
const STEPS = 100;
const SCALE = { name: "sequential", low: 0, high: 1 } as const;

export function Tree({ panel, tree, title, theme, height = 620, onSelect }: Drawn<Network> & { tree: Grown }) {
  const box = useRef<HTMLDivElement>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const [cut, setCut] = useState(0);
  const [folded, setFolded] = useState<ReadonlySet<number>>(new Set());
  const [at, setAt] = useState<number | null>(null);
  const [pointed, setPointed] = useState<Pointed | null>(null);
  const [spoken, setSpoken] = useState("");
  const least = leastAt(tree, cut / STEPS);
  const placed = useMemo(() => treeLayout(tree, least, folded), [tree, least, folded]);
  const places = useMemo(() => new Map(placed.map((each) => [each.node, each])), [placed]);
  const { wide, gap } = useMemo(() => columnsOf(tree, width), [tree, width]);
  const deepest = Math.max(...placed.map(({ depth }) => depth));
  const rows = Math.max(...placed.map(({ row }) => row)) + 1;
  const branchOf = (node: number) => tree.branches[node] as Branch;
  const spot = ({ depth, row }: Placed) => ({ x: 2 + depth * (wide + gap), y: row * ROW + ROW / 2 + 2 });
  const said = (node: number): string[] => {
    const { label, weight, children } = branchOf(node);
    const hidden = places.get(node)?.hidden ?? 0;
    return [
      label,
      ...(Number.isNaN(weight) ? [] : [`${panel.weightName} ${number(weight)}`]),
      ...(children.length ? [`${whole(children.length)} ${children.length === 1 ? "branch" : "branches"}${hidden ? `, ${whole(hidden)} not shown` : ""}`] : []),
    ];
  };
  const move = (node: number | null, speak = false) => {
    setAt(node);
    const place = node === null ? undefined : places.get(node);
    if (node === null || !place) return setPointed(null);
    const { x, y } = spot(place);
    const view = scroller.current;
    if (speak && view && (y < view.scrollTop + ROW || y > view.scrollTop + view.clientHeight - ROW))
      view.scrollTop = y - view.clientHeight / 2;
    if (speak && view && (x < view.scrollLeft || x + wide > view.scrollLeft + view.clientWidth))
      view.scrollLeft = x - view.clientWidth / 2;
    setPointed({ x: x + wide / 2 - (view?.scrollLeft ?? 0), y: y + 34 - (view?.scrollTop ?? 0), lines: said(node) });
    if (speak) setSpoken(said(node).join("; "));
  };
  const fold = (node: number) => {
    const { children, edge } = branchOf(node);
    if (edge !== null && panel.edgeDim !== undefined) onSelect?.({ [panel.edgeDim]: edge });
    if (!children.length) return;
    setFolded((old) => {
      const next = new Set(old);
      if (!next.delete(node)) next.add(node);
      return next;
    });
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Escape") return move(null);
    if (at !== null && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      return fold(at);
    }
    const go = STEPS_OF[event.key];
    if (!go) return;
    event.preventDefault();
    const order = [...placed].sort((a, b) => a.row - b.row);
    move(at === null || !places.has(at) ? tree.root : (go(at, tree, places, order) ?? at), true);
  };
  const leaves = tree.branches.filter(({ children }) => !children.length).length;
  const strongest = Math.max(...tree.branches.map(({ weight }) => weight || 0));
  return (
    <div ref={box} className="cv-box cv-picture">
      <div className="cv-controls">
        <label>
          Cut off below
          <input
            type="range"
            min={0}
            max={STEPS}
            value={cut}
            aria-valuetext={number(least)}
            onChange={(event) => setCut(Number(event.target.value))}
          />
          <span className="cv-output cv-least">{number(least)}</span>
        </label>
        <button
          type="button"
          aria-pressed={folded.size > 0}
          onClick={() => setFolded(new Set(folded.size ? [] : branchOf(tree.root).children))}
        >
          {folded.size ? "Unfold all" : "Fold to first branches"}
        </button>
        <span className="cv-count" role="status">
          {whole(placed.length - 1)} of {whole(tree.branches.length - 1)} branches
        </span>
      </div>
      <div ref={scroller} className="cv-scroll" style={{ height: Math.min(height, leaves * ROW + 8) }}>
        <svg
          width={(deepest + 1) * (wide + gap) - gap + 4}
          height={rows * ROW + 6}
          role="application"
          aria-roledescription="tree"
          aria-label={`${title}: ${placed.length} places. Right arrow leads into a branch, left arrow back, up and down along; Enter folds.`}
          tabIndex={0}
          onKeyDown={onKeyDown}
          onBlur={() => move(null)}
          style={{ display: "block" }}
        >
          {placed.map((each) => {
            const branch = branchOf(each.node);
            const parent = branch.parent === null ? undefined : places.get(branch.parent);
            if (!parent) return null;
            const [from, to] = [spot(parent), spot(each)];
            const middle = from.x + wide + gap / 2;
            return (
              <path
                key={each.node}
                d={`M${from.x + wide} ${from.y}C${middle} ${from.y} ${middle} ${to.y} ${to.x} ${to.y}`}
                fill="none"
                stroke={css(colour(SCALE, 0.35 + 0.5 * (branch.weight / strongest), theme))}
                strokeWidth={1 + 6 * (branch.weight / strongest)}
              />
            );
          })}
          {placed.map((each) => {
            const branch = branchOf(each.node);
            const { x, y } = spot(each);
            const own = each.node === at;
            return (
              <g
                key={each.node}
                data-node={branch.label}
                onPointerEnter={() => move(each.node)}
                onPointerLeave={() => move(null)}
                onClick={() => fold(each.node)}
                style={branch.children.length ? { cursor: "pointer" } : undefined}
              >
                <rect
                  x={x}
                  y={y - HIGH / 2}
                  width={wide}
                  height={HIGH}
                  rx="5"
                  fill={own ? "var(--accent-soft)" : each.hidden ? "var(--card)" : "var(--paper)"}
                  stroke={own ? "var(--focus)" : "var(--muted)"}
                  strokeWidth={own ? 2 : 1}
                />
                <text className="cv-mono" x={x + 8} y={y + 4} fontWeight="600">
                  {branch.own}
                </text>
                <text className="cv-muted" x={x + wide - 8} y={y + 4} textAnchor="end">
                  {each.hidden ? `▸${each.hidden} ` : ""}
                  {Number.isNaN(branch.weight) ? "" : number(branch.weight, 2)}
                </text>
              </g>
            );
          })}
        </svg>
      </div>
      <Hint pointed={pointed} />
      <Spoken text={spoken} />
      <p className="cv-note">
        The number is {panel.weightName || "the share"}; so is the thickness. ▸ counts branches that are folded or cut off.
      </p>
    </div>
  );
}

type Go = (at: number, tree: Grown, places: ReadonlyMap<number, Placed>, order: readonly Placed[]) => number | undefined;

const along =
  (by: number): Go =>
  (at, _, places, order) => {
    const column = order.filter(({ depth }) => depth === places.get(at)?.depth);
    return column[column.findIndex(({ node }) => node === at) + by]?.node;
  };

const STEPS_OF: Readonly<Record<string, Go>> = {
  ArrowRight: (at, tree, places) => tree.branches[at]?.children.find((child) => places.has(child)),
  ArrowLeft: (at, tree) => tree.branches[at]?.parent ?? undefined,
  ArrowDown: along(1),
  ArrowUp: along(-1),
  Home: (_, tree) => tree.root,
};

/** How wide a column is, and the gap behind it: the tree is as wide as its box where that is enough. */
function columnsOf({ branches }: Grown, room: number): { wide: number; gap: number } {
  const needs = ({ own, weight, children }: Branch) =>
    roomFor(own, 11, true) + (Number.isNaN(weight) ? 0 : roomFor(number(weight, 2), 11)) + (children.length ? 40 : 22);
  const wide = Math.min(220, Math.max(...branches.map(needs)));
  const columns = Math.max(...branches.map(({ depth }) => depth)) + 1;
  return { wide, gap: Math.max(18, Math.min(90, (room - wide * columns - 8) / Math.max(1, columns - 1))) };
}
