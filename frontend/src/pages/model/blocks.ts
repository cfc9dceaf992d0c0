/** The tensors of one layer as planes in space: which sites, how large, and where they stand. */

import { keyHead, type Anatomy, type Layer } from "./anatomy";

export interface Block {
  /** The site whose values it shows, such as `q[3].head[2]`. */
  site: string;
  kind: string;
  title: string;
  rows: number;
  columns: number;
  rowName: "position" | "query";
  columnName: "unit" | "key" | "expert";
  /** Centre, in units of one cell's width. */
  x: number;
  y: number;
  z: number;
  width: number;
  height: number;
  head?: number;
  expert?: number;
  /** Sites that it is made of: drawn as lines. */
  from: string[];
}

export interface Arrangement {
  blocks: Block[];
  width: number;
  height: number;
  depth: number;
}

const BETWEEN = 64; // tensors that follow each other
const APART = 22; // queries, keys and values
const LINE = 84; // lines of the drawing
const STEP = 64; // depth between heads
const WIDER = 2.2; // a head's few units are drawn wider than those of the stream
const NARROWEST = 320; // of the stream, so that a tiny model is no bundle of threads

/** How many experts are drawn; the rest are reached through the router. */
export const EXPERTS_SHOWN = 16;

/** Tensors that stand at one place: one, or one for each head or expert. */
interface Stand {
  kind: string;
  title: string;
  columns: number;
  width: number;
  rowName: Block["rowName"];
  columnName: Block["columnName"];
  /** Depths of the heads or experts; null for a tensor of the whole layer. */
  depths: { name: "head" | "expert"; at: readonly number[] } | null;
  from: (number: number) => string[];
  gap: number;
}

/**
 * Place the tensors of a layer. The stream runs down the left; attention and the MLP leave it to the right and come
 * back on the line below, where what they give is added. Heads and experts stand one behind the other.
 */
export function arrange(anatomy: Anatomy, layer: Layer, tokens: number): Arrangement {
  const height = tokens * Math.min(28, Math.max(2, 400 / Math.max(1, tokens)));
  const lines = standsOf(anatomy, layer, height);
  const blocks: Block[] = [];
  let width = 0;
  lines.forEach((line, row) => {
    let x = 0;
    for (const stand of line) {
      if (stand && layer.sites.includes(stand.kind)) blocks.push(...planes(stand, layer, tokens, x, -row * (height + LINE), height));
      else if (stand) continue;
      x += (stand?.width ?? streamWidth(anatomy.d_model, anatomy.d_model)) + (stand?.gap ?? BETWEEN);
    }
    width = Math.max(width, x - BETWEEN);
  });
  const drawn = new Set(blocks.map((block) => block.kind));
  const middle = ((lines.length - 1) * (height + LINE)) / 2;
  for (const block of blocks) {
    block.x -= width / 2;
    block.y += middle;
    block.from = block.from.filter((site) => drawn.has(site.split("[")[0]!));
  }
  return {
    blocks,
    width: blocks.length ? width : 0,
    height: blocks.length ? lines.length * (height + LINE) - LINE : 0,
    depth: -Math.min(0, ...blocks.map((block) => block.z)),
  };
}

function planes(stand: Stand, layer: Layer, tokens: number, left: number, y: number, height: number): Block[] {
  const { kind, title, columns, width, rowName, columnName, depths } = stand;
  const shared = { kind, title, rows: tokens, columns: columnName === "key" ? tokens : columns, rowName, columnName, x: left + width / 2, y, width, height };
  const whole = `${kind}[${layer.index}]`;
  if (!depths) return [{ ...shared, site: whole, z: 0, from: stand.from(0) }];
  return depths.at.map((z, number) => ({
    ...shared,
    site: `${whole}.${depths.name}[${number}]`,
    [depths.name]: number,
    z,
    from: stand.from(number),
  }));
}

/** What stands on each line, from left to right; null leaves the stream's place empty. */
function standsOf(anatomy: Anatomy, layer: Layer, height: number): (Stand | null)[][] {
  const has = (kind: string) => layer.sites.includes(kind);
  const site = (kind: string) => `${kind}[${layer.index}]`;
  const stream = (kind: string, title: string, from: string[], columns = anatomy.d_model, columnName: Block["columnName"] = "unit"): Stand => ({
    kind, title, columns, width: streamWidth(columns, anatomy.d_model), rowName: "position", columnName, depths: null,
    from: () => from.filter(has).map(site), gap: BETWEEN,
  });
  const added = (part: "attn" | "mlp") => (needsContribution(layer, part) ? `${part}_contrib` : `${part}_out`);
  const contribution = (part: "attn" | "mlp", title: string) => (needsContribution(layer, part) ? [stream(`${part}_contrib`, title, [`${part}_out`])] : []);
  const middle = has("resid_mid") ? "resid_mid" : "resid_pre";
  const mlp = mlpStands(anatomy, layer, stream);
  return [
    [stream("resid_pre", "stream before the layer", []), stream("attn_in", "normalised", ["resid_pre"]), ...projections(anatomy, layer)],
    [
      has("resid_mid") ? stream("resid_mid", "stream after attention", ["resid_pre", added("attn")]) : null,
      ...contribution("attn", "what attention adds"),
      stream("attn_out", "heads through W_O", ["z"]),
      ...looks(anatomy, layer, height),
    ],
    [null, stream("mlp_in", "normalised", [middle]), ...mlp.first],
    [
      has("resid_post") ? stream("resid_post", "stream after the layer", [middle, ...(has("resid_mid") ? [] : [added("attn")]), added("mlp")]) : null,
      ...contribution("mlp", "what the MLP adds"),
      stream("mlp_out", "MLP's output", [layer.mlp?.d_mlp ? "mlp_act" : "expert_out"]),
      ...mlp.second,
    ],
  ];
}

type MakeStream = (kind: string, title: string, from: string[], columns?: number, columnName?: Block["columnName"]) => Stand;

function mlpStands(anatomy: Anatomy, layer: Layer, stream: MakeStream): { first: Stand[]; second: Stand[] } {
  const mlp = layer.mlp;
  const first: Stand[] = [];
  const second: Stand[] = [];
  if (mlp?.d_mlp) {
    first.push(stream("mlp_pre", mlp.gated ? "gate before the activation" : "neurons before the activation", ["mlp_in"], mlp.d_mlp));
    second.push(stream("mlp_act", mlp.gated ? "act(gate) × up" : "neurons", ["mlp_pre"], mlp.d_mlp));
  }
  if (mlp?.experts) {
    first.push(stream("router", "router", ["mlp_in"], mlp.experts, "expert"));
    const shown = Math.min(mlp.experts, EXPERTS_SHOWN);
    const title = shown < mlp.experts ? `the first ${shown} of ${mlp.experts} experts` : "experts";
    second.push({
      ...stream("expert_out", title, ["router"], anatomy.d_model),
      depths: { name: "expert", at: Array.from({ length: shown }, (_, expert) => -expert * STEP) },
    });
  }
  return { first, second };
}

/** Queries, keys and values, before and after rotary embedding. */
function projections(anatomy: Anatomy, layer: Layer): Stand[] {
  const attention = layer.attention;
  if (!attention?.n_heads) return [];
  const input = layer.sites.includes("attn_in") ? [`attn_in[${layer.index}]`] : [`resid_pre[${layer.index}]`];
  const before = (kind: string) => (head: number) =>
    layer.sites.includes(`${kind}_pre_rope`) ? [`${kind}_pre_rope[${layer.index}].head[${head}]`] : input;
  const stand = (kind: string, title: string, from: Stand["from"], gap: number): Stand => ({
    kind, title, columns: attention.d_head, width: headWidth(anatomy, attention.d_head), rowName: "position", columnName: "unit",
    depths: { name: "head", at: kind.startsWith("q") ? queryDepths(attention) : keyDepths(attention) }, from, gap,
  });
  return [
    stand("q_pre_rope", "before rotation", () => input, APART),
    stand("k_pre_rope", "before rotation", () => input, BETWEEN),
    stand("q", "queries", before("q"), APART),
    stand("k", "keys", before("k"), APART),
    stand("v", "values", () => input, BETWEEN),
  ];
}

/** What becomes of them: z, from the pattern, from the scores. */
function looks(anatomy: Anatomy, layer: Layer, height: number): Stand[] {
  const attention = layer.attention;
  if (!attention?.n_heads) return [];
  const L = layer.index;
  const depths = { name: "head" as const, at: queryDepths(attention) };
  const square = { columns: 0, width: height, rowName: "query" as const, columnName: "key" as const, depths, gap: BETWEEN };
  const key = (head: number) => keyHead(attention, head);
  return [
    {
      kind: "z", title: "pattern · v", columns: attention.d_head, width: headWidth(anatomy, attention.d_head), rowName: "position", columnName: "unit", depths,
      from: (head) => [`pattern[${L}].head[${head}]`, `v[${L}].head[${key(head)}]`], gap: BETWEEN,
    },
    { ...square, kind: "pattern", title: "softmax of the scores", from: (head) => [`scores[${L}].head[${head}]`] },
    { ...square, kind: "scores", title: "q · k, scaled", from: (head) => [`q[${L}].head[${head}]`, `k[${L}].head[${key(head)}]`] },
  ];
}

function queryDepths({ n_heads }: { n_heads: number }): number[] {
  return Array.from({ length: n_heads }, (_, head) => -head * STEP);
}

/** Each key head stands in the middle of the query heads that share it. */
function keyDepths({ n_heads, n_kv_heads }: { n_heads: number; n_kv_heads: number }): number[] {
  const group = n_heads / Math.max(1, n_kv_heads);
  return Array.from({ length: n_kv_heads }, (_, head) => -(head * group + (group - 1) / 2) * STEP);
}

/** Neurons are drawn narrower than units of the stream, a router's few experts wider. */
function streamWidth(columns: number, stream: number): number {
  const unit = unitWidth(stream);
  if (columns > stream) return unit * Math.min(columns, Math.max(stream * 1.5, columns / 4));
  return columns === stream ? unit * columns : Math.max(columns, Math.min(columns * 12, (unit * stream) / 2));
}

/** How wide a head's vectors are drawn: a few units wider than those of the stream, many as wide. */
function headWidth(anatomy: Anatomy, units: number): number {
  return Math.min(units * WIDER, Math.max(units, anatomy.d_model * 0.35)) * unitWidth(anatomy.d_model);
}

/** How wide one unit of the stream is drawn. */
function unitWidth(stream: number): number {
  return Math.max(1, NARROWEST / Math.max(1, stream));
}

/** Where a norm or a factor stands between a part's output and what is added, both are drawn. */
function needsContribution(layer: Layer, part: "attn" | "mlp"): boolean {
  return layer.sites.includes(`${part}_contrib`) && (layer.norms.length > 2 || !layer.sites.includes(`${part}_out`));
}

/** The site of one cell of a block, written as the library writes it. */
export function cellSite(block: Pick<Block, "site" | "columnName">, row: number, column: number): string {
  if (block.columnName === "expert") return `${block.site}.expert[${column}]@${row}`;
  const expert = /\.expert\[\d+\]$/.exec(block.site)?.[0] ?? "";
  return `${block.site.slice(0, block.site.length - expert.length)}.unit[${column}]${expert}@${row}`;
}

/** The block and the cell that a cell's site names; null where this layer does not show it. */
export function cellOf(blocks: readonly Block[], site: string): { block: Block; row: number; column: number } | null {
  const match = /^(\w+(?:\[\d+\])?)((?:\.\w+\[\d+\])*)@(\d+)$/.exec(site);
  if (!match) return null;
  const parts = new Map([...match[2]!.matchAll(/\.(\w+)\[(\d+)\]/g)].map(([, name, number]) => [name!, Number(number)]));
  const row = Number(match[3]);
  for (const block of blocks) {
    if (!block.site.startsWith(match[1]!) || block.site.split(".")[0] !== match[1]) continue;
    const column = parts.get(block.columnName === "expert" ? "expert" : "unit");
    if (column === undefined || block.head !== parts.get("head")) continue;
    if (block.columnName !== "expert" && block.expert !== parts.get("expert")) continue;
    return row < block.rows && column < block.columns ? { block, row, column } : null;
  }
  return null;
}

/** Sites to ask for, in two requests: streams first, then what needs the model's slower attention. */
export function requests(blocks: readonly Block[], room = 6_000_000): { sites: string[][]; left: Block[] } {
  const left: Block[] = [];
  let total = 0;
  const plain: Block[] = [];
  const scores: Block[] = [];
  for (const block of [...blocks].sort((a, b) => a.rows * a.columns - b.rows * b.columns)) {
    total += block.rows * block.columns;
    if (total > room) left.push(block);
    else (block.kind === "scores" || block.kind === "pattern" ? scores : plain).push(block);
  }
  return { sites: [plain, scores].filter((some) => some.length > 0).map((some) => patterns(some, blocks)), left };
}

/** The sites of blocks, with `*` where all heads (or all that exist of the experts) of a kind are among them. */
function patterns(wanted: readonly Block[], all: readonly Block[]): string[] {
  const found = new Set<string>();
  for (const block of wanted) {
    const together = (blocks: readonly Block[]) => blocks.filter((one) => one.kind === block.kind).length;
    const every = block.head !== undefined && together(wanted) === together(all);
    found.add(every ? block.site.replace(/head\[\d+\]/, "head[*]") : block.site);
  }
  return [...found];
}
