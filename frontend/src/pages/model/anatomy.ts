/** The anatomy of a model as the server describes it, and where each part lies in a drawing to scale. */

export interface Part {
  name: string;
  path: string;
  type: string;
  shape: number[];
  parameters: number;
  role?: string;
  heads?: number;
}

export interface AttentionPart {
  path: string;
  type: string;
  n_heads: number;
  n_kv_heads: number;
  d_head: number;
  rotary: boolean;
  softcap: number | null;
  sinks: boolean;
  scaling: number | null;
  parameters: number;
  parts: Part[];
}

export interface MlpPart {
  path: string;
  gated: boolean;
  activation: string;
  d_mlp: number | null;
  experts: number | null;
  experts_per_token: number | null;
  parameters: number;
  parts: Part[];
}

export interface Layer {
  index: number;
  path: string;
  type: string;
  parameters: number;
  window: number | null;
  parallel: boolean;
  post_norm: boolean;
  attention: AttentionPart | null;
  mlp: MlpPart | null;
  norms: Part[];
  other: Part[];
  sites: string[];
}

export interface End {
  path: string;
  shape?: number[];
  type?: string;
  parameters: number;
  tied?: boolean;
}

export interface Anatomy {
  model: string;
  class_name: string;
  source: string;
  n_layers: number;
  n_heads: number;
  n_kv_heads: number;
  d_model: number;
  d_head: number;
  d_mlp: number;
  vocab_size: number;
  causal: boolean;
  has_unembedding: boolean;
  parameters: number;
  dtype: string;
  device: string;
  attention_implementation: string;
  features: string[];
  memory: Record<string, number>;
  embed: End | null;
  unembed: End | null;
  final_norm: End | null;
  layers: Layer[];
  other: Part[];
  refused: { site: string; reason: string }[];
}

export type Group = "embed" | "attention" | "mlp" | "norms" | "other" | "unembed";

/** A rectangle of the drawing: its area is its share of the parameters. */
export interface Box {
  id: string;
  label: string;
  detail: string;
  group: Group;
  parameters: number;
  x: number;
  y: number;
  width: number;
  height: number;
  /** Set on what belongs to one layer. */
  layer?: number;
  /** Equal bands from top to bottom: heads of a projection, experts of a mixture. */
  bands?: { count: number; what: "head" | "expert" };
  part?: Part;
}

export interface Size {
  width: number;
  height: number;
}

interface Piece extends Omit<Box, "x" | "y" | "width" | "height"> {}

/** Side by side from left to right, each as wide as its share of all parameters. */
function across(pieces: readonly Piece[], left: number, top: number, size: Size): Box[] {
  const total = pieces.reduce((sum, piece) => sum + piece.parameters, 0);
  let x = left;
  return pieces.map((piece) => {
    const width = total ? (size.width * piece.parameters) / total : 0;
    const box = { ...piece, x, y: top, width, height: size.height };
    x += width;
    return box;
  });
}

/** The whole model: embedding, layers from top to bottom, and the end, in the order in which they run. */
export function modelBoxes(anatomy: Anatomy, size: Size): Box[] {
  const layers = anatomy.layers.reduce((sum, layer) => sum + layer.parameters, 0);
  const before = anatomy.other.filter((part) => /embed|wpe|position|token_type/i.test(part.path));
  const after = anatomy.other.filter((part) => !before.includes(part));
  const columns: Piece[] = [];
  if (anatomy.embed)
    columns.push({ id: "embed", label: "embedding", detail: shapeText(anatomy.embed.shape), group: "embed", parameters: anatomy.embed.parameters });
  columns.push(...before.map((part) => piece(part, "other")));
  columns.push({ id: "layers", label: "layers", detail: "", group: "other", parameters: layers });
  if (anatomy.final_norm)
    columns.push({ id: "final_norm", label: "final norm", detail: anatomy.final_norm.type ?? "", group: "norms", parameters: anatomy.final_norm.parameters });
  columns.push(...after.map((part) => piece(part, "other")));
  if (anatomy.unembed)
    columns.push({ id: "unembed", label: "unembedding", detail: shapeText(anatomy.unembed.shape), group: "unembed", parameters: anatomy.unembed.parameters });
  return across(columns, 0, 0, size).flatMap((column) =>
    column.id === "layers" ? layerRows(anatomy.layers, column, layers) : [column],
  );
}

function layerRows(layers: readonly Layer[], column: Box, total: number): Box[] {
  let y = column.y;
  return layers.flatMap((layer) => {
    const height = total ? (column.height * layer.parameters) / total : 0;
    const boxes = layerBoxes(layer, { width: column.width, height }, column.x, y);
    y += height;
    return boxes;
  });
}

/** One layer: its norms, projections and neurons in the order in which they run. */
export function layerBoxes(layer: Layer, size: Size, left = 0, top = 0): Box[] {
  const attention = (layer.attention?.parts ?? []).map((part) => piece(part, "attention", layer));
  const mlp = (layer.mlp?.parts ?? []).map((part) => piece(part, "mlp", layer));
  const norms = layer.norms.map((part) => piece(part, "norms", layer));
  const other = layer.other.map((part) => piece(part, "other", layer));
  return across([...inOrder(layer, norms, ordered(attention), ordered(mlp)), ...other], left, top, size);
}

function inOrder(layer: Layer, norms: Piece[], attention: Piece[], mlp: Piece[]): Piece[] {
  if (norms.length === 4) return [norms[0]!, ...attention, norms[1]!, norms[2]!, ...mlp, norms[3]!];
  if (norms.length === 2)
    return layer.post_norm
      ? [...attention, norms[0]!, ...mlp, norms[1]!]
      : [norms[0]!, ...attention, norms[1]!, ...mlp];
  return [...norms, ...attention, ...mlp];
}

const ORDER = ["q", "kv", "k", "v", "qkv", "norm", "", "o", "router", "gate", "gate_up", "up", "down"];

function ordered(pieces: Piece[]): Piece[] {
  const rank = (one: Piece) => ORDER.indexOf(one.part?.role ?? "");
  return [...pieces].sort((a, b) => rank(a) - rank(b));
}

function piece(part: Part, group: Group, layer?: Layer): Piece {
  const found: Piece = {
    id: part.path,
    label: part.name,
    detail: shapeText(part.shape),
    group,
    parameters: part.parameters,
    part,
  };
  if (layer) found.layer = layer.index;
  const experts = layer?.mlp?.experts ?? 0;
  if (part.heads && part.heads > 1) found.bands = { count: part.heads, what: "head" };
  else if (group === "mlp" && experts > 1 && part.shape[0] === experts && part.shape.length === 3)
    found.bands = { count: experts, what: "expert" };
  return found;
}

export function shapeText(shape: readonly number[] | undefined): string {
  return shape ? shape.map((length) => length.toLocaleString("en-GB")).join(" × ") : "";
}

/** What a layer is like, in a few words. */
export function features(layer: Layer): string[] {
  const found: string[] = [];
  const { attention, mlp } = layer;
  if (attention) {
    found.push(
      attention.n_kv_heads && attention.n_kv_heads !== attention.n_heads
        ? `${attention.n_heads} heads share ${attention.n_kv_heads} key/value head${attention.n_kv_heads === 1 ? "" : "s"}`
        : `${attention.n_heads} heads`,
    );
    found.push(`${attention.d_head} wide`);
    if (attention.rotary) found.push("rotary positions");
    if (attention.softcap) found.push(`scores capped at ±${attention.softcap}`);
    if (attention.sinks) found.push("attention sinks");
  }
  if (layer.window) found.push(`sees the last ${layer.window} tokens`);
  if (mlp) {
    const neurons = mlp.d_mlp ? `${mlp.d_mlp.toLocaleString("en-GB")} neurons` : "MLP";
    found.push(
      mlp.experts ? `${mlp.experts} experts, ${mlp.experts_per_token ?? "?"} for each token` : neurons,
      `${mlp.gated ? "gated " : ""}${mlp.activation}`.trim(),
    );
  }
  if (layer.parallel) found.push("attention and MLP side by side");
  if (layer.post_norm) found.push("norms after the sums");
  return found.filter(Boolean);
}

/** The key/value head that a query head uses. */
export function keyHead(attention: Pick<AttentionPart, "n_heads" | "n_kv_heads">, head: number): number {
  return Math.floor(head / Math.max(1, attention.n_heads / Math.max(1, attention.n_kv_heads)));
}
