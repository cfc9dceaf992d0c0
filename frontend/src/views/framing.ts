/**
 * What exactly is in the picture? Arrays in the order they are drawn, labels to be read, and the scale, found once
 * for all components, by the rules of `cutaway.drawing.framing`.
 *
 * Padding that fills up short prompts (empty words without values, at the end) is taken off here.
 */

import type { NdArray } from "../api/arrays";
import type { ViewKind, View } from "../api/types";
import { numbers, ordered, spread, type Numbers } from "./nd";
import { scaleOf, widened, type Scale } from "./palette";
import type { Resolved } from "./resolve";
import { column, label, labels, named, number, whole, type Item } from "./words";

export interface Strip {
  kind: "tokens";
  words: string[];
  values: Numbers;
  scale: Scale;
  valueName: string;
  dim: string;
}

export interface Grid {
  kind: "heatmap" | "attention";
  /** [row, column] in C order. */
  values: Numbers;
  height: number;
  width: number;
  rows: string[];
  columns: string[];
  rowName: string;
  columnName: string;
  valueName: string;
  scale: Scale;
  /** The words of a cell; absent where there are none. */
  text?: ((row: number, column: number) => string) | undefined;
  /** How many letters the longest of them has. */
  longest: number;
  wordsOnRows: boolean;
  wordsOnColumns: boolean;
  rowDim: string;
  columnDim: string;
  /** The dimension of the words that label both sides. */
  tokenDim?: string | undefined;
}

export interface Line {
  name: string;
  y: Numbers;
  low?: Numbers | undefined;
  high?: Numbers | undefined;
  /** Orders the line among the others where the series is a number. */
  place?: number | undefined;
}

export interface Lines {
  kind: "curves";
  lines: Line[];
  x: Numbers;
  /** Where x is words, then x counts them. */
  xLabels?: string[] | undefined;
  xName: string;
  valueName: string;
  seriesName: string;
  xDim: string;
  seriesDim?: string | undefined;
}

export interface BarsPanel {
  kind: "bars";
  labels: string[];
  /** [label, group] in C order. */
  values: Numbers;
  low?: Numbers | undefined;
  high?: Numbers | undefined;
  width: number;
  valueName: string;
  labelName: string;
  groups: string[];
  /** The group of each label where groups colour single bars. */
  classes?: number[] | undefined;
  labelDim: string;
  groupDim?: string | undefined;
}

export interface Points {
  kind: "scatter";
  x: Numbers;
  y: Numbers;
  xName: string;
  yName: string;
  labels?: string[] | undefined;
  values?: Numbers | undefined;
  valueName: string;
  scale?: Scale | undefined;
  dims: string[];
  shape: number[];
}

export interface Counts {
  kind: "histogram";
  edges: number[];
  /** [group][bin] */
  counts: number[][];
  valueName: string;
  groups: string[];
  leftOut: string;
}

export interface Network {
  kind: "graph";
  nodes: string[];
  /** The names as they are in the data. */
  names: string[];
  sources: number[];
  targets: number[];
  weights: Numbers;
  weightName: string;
  /** The dimension of the names of the nodes, where the view names them. */
  nodeDim?: string | undefined;
  /** The dimension of the arrows. */
  edgeDim?: string | undefined;
  /** Names of positions in their order, and what stands above each, where nodes are sites at them. */
  positions?: string[] | undefined;
  headings?: string[] | undefined;
}

export interface TablePanel {
  kind: "table";
  names: string[];
  numeric: boolean[];
  values: (Numbers | string[])[];
  said: (column: number, row: number) => string;
  height: number;
  dim: string;
}

export interface Texts {
  kind: "text";
  texts: string[];
  labels: string[];
  dim?: string | undefined;
}

export type Panel = Strip | Grid | Lines | BarsPanel | Points | Counts | Network | TablePanel | Texts;

type Arrays = Readonly<Record<string, NdArray>>;

/** The panel that shows these arrays; `labelsOf` holds the labels of a text's dimension. */
export function panelOf(view: View, resolved: Resolved, arrays: Arrays, labelsOf?: NdArray): Panel {
  const framed: Record<ViewKind, () => Panel> = {
    tokens: () => strip(view, resolved, arrays),
    heatmap: () => heatmap(view, resolved, arrays),
    attention: () => attention(view, resolved, arrays),
    curves: () => lines(resolved, arrays),
    bars: () => bars(resolved, arrays),
    scatter: () => points(view, resolved, arrays),
    histogram: () => counts(view, resolved, arrays),
    graph: () => network(resolved, arrays),
    table: () => table(resolved, arrays),
    text: () => texts(arrays, labelsOf),
  };
  return framed[view.kind]();
}

function strip(view: View, resolved: Resolved, arrays: Arrays): Strip {
  const values = numbers(need(arrays, "value"));
  const token = need(arrays, "token");
  const kept = withoutPadding(token, (i) => Number.isNaN(values[i]));
  const shown = values.subarray(0, kept);
  return {
    kind: "tokens",
    words: labels(token).slice(0, kept),
    values: shown,
    scale: scaleOf(shown, wanted(view)),
    valueName: nameOf(resolved, "value"),
    dim: need(arrays, "value").dims[0] ?? "",
  };
}

function heatmap(view: View, resolved: Resolved, arrays: Arrays): Grid {
  const [x, y] = [need(arrays, "x"), need(arrays, "y")];
  const names: [string, string] = [nameOf(resolved, "y"), nameOf(resolved, "x")];
  return { ...grid(view, resolved, arrays, [y, x], [y.dims[0] ?? "", x.dims[0] ?? ""], names), kind: "heatmap" };
}

function attention(view: View, resolved: Resolved, arrays: Arrays): Grid {
  const [query, key] = [need(arrays, "query"), need(arrays, "key")];
  const token = arrays["token"];
  const sides: [NdArray, NdArray] = [token ?? query, arrays["key_token"] ?? token ?? key];
  const dims: [string, string] = [query.dims[0] ?? "", key.dims[0] ?? ""];
  const names: [string, string] = ["query (attends)", "key (is attended to)"];
  const framed = grid(view, resolved, arrays, sides, dims, names);
  return { ...framed, kind: "attention", tokenDim: arrays["key_token"] ? undefined : token?.dims[0] };
}

function grid(
  view: View,
  resolved: Resolved,
  arrays: Arrays,
  [rows, columns]: [NdArray, NdArray],
  dims: [string, string],
  [rowName, columnName]: [string, string],
): Grid {
  const array = need(arrays, "value");
  const all = ordered(array, numbers(array), dims);
  const [fullHeight, fullWidth] = dims.map((dim) => array.shape[array.dims.indexOf(dim)] ?? 0) as [number, number];
  const missing = (row: number, col: number) => Number.isNaN(all[row * fullWidth + col]);
  const height = withoutPadding(rows, (row) => every(fullWidth, (col) => missing(row, col)));
  const width = withoutPadding(columns, (col) => every(fullHeight, (row) => missing(row, col)));
  const values = width === fullWidth ? all.subarray(0, height * width) : cropped(all, fullWidth, height, width);
  const texts = arrays["text"];
  const words = texts && ordered<ArrayLike<Item>>(texts, texts.data, dims);
  return {
    kind: "heatmap",
    values,
    height,
    width,
    rows: labels(rows).slice(0, height),
    columns: labels(columns).slice(0, width),
    rowName,
    columnName,
    valueName: nameOf(resolved, "value"),
    scale: scaleOf(values, wanted(view)),
    text: words && ((row, col) => label(words[row * fullWidth + col] as Item, texts.dtype)),
    longest: words ? longestOf(words) : 0,
    wordsOnRows: rows.dtype === "string",
    wordsOnColumns: columns.dtype === "string",
    rowDim: dims[0],
    columnDim: dims[1],
  };
}

function lines(resolved: Resolved, arrays: Arrays): Lines {
  const [x, series, value] = [need(arrays, "x"), arrays["series"], need(arrays, "value")];
  const order = [...(series?.dims ?? []), ...x.dims];
  const across = x.shape[0] ?? 0;
  const words = x.dtype === "string";
  const rowOf = (role: string, index: number): Numbers | undefined => {
    const array = arrays[role];
    return array && ordered(array, numbers(array), order).subarray(index * across, (index + 1) * across);
  };
  const names = series ? Array.from(series.data as ArrayLike<Item>) : [""];
  return {
    kind: "curves",
    lines: names.map((name, index) => ({
      name: name === "" ? "" : label(name, series?.dtype),
      y: rowOf("value", index) ?? new Float64Array(),
      low: rowOf("low", index),
      high: rowOf("high", index),
      place: typeof name === "number" ? name : undefined,
    })),
    x: words ? Float64Array.from({ length: across }, (_, i) => i) : numbers(x),
    xLabels: words ? labels(x) : undefined,
    xName: nameOf(resolved, "x"),
    valueName: nameOf(resolved, "value"),
    seriesName: series ? nameOf(resolved, "series") : "",
    xDim: x.dims[0] ?? value.dims[0] ?? "",
    seriesDim: series?.dims[0],
  };
}

function bars(resolved: Resolved, arrays: Arrays): BarsPanel {
  const [labelled, group, value] = [need(arrays, "label"), arrays["group"], need(arrays, "value")];
  const order = [...labelled.dims, ...value.dims.filter((dim) => !labelled.dims.includes(dim))];
  const sameDim = group?.dims.join() === labelled.dims.join();
  const sideOf = (role: string): Numbers | undefined => {
    const array = arrays[role];
    return array && ordered(array, numbers(array), order);
  };
  const members = group ? labels(group) : [];
  const groups = sameDim ? [...new Set(members)] : members;
  return {
    kind: "bars",
    labels: labels(labelled),
    values: sideOf("value") ?? new Float64Array(),
    low: sideOf("low"),
    high: sideOf("high"),
    width: group && !sameDim ? (group.shape[0] ?? 1) : 1,
    valueName: nameOf(resolved, "value"),
    labelName: nameOf(resolved, "label"),
    groups,
    classes: sameDim ? members.map((member) => groups.indexOf(member)) : undefined,
    labelDim: labelled.dims[0] ?? "",
    groupDim: sameDim ? undefined : group?.dims[0],
  };
}

function points(view: View, resolved: Resolved, arrays: Arrays): Points {
  const [x, y, named, value] = [need(arrays, "x"), need(arrays, "y"), arrays["label"], arrays["value"]];
  const values = value && Float64Array.from(spread<number>(value, x.dims, x.shape));
  return {
    kind: "scatter",
    x: numbers(x),
    y: ordered(y, numbers(y), x.dims),
    xName: nameOf(resolved, "x"),
    yName: nameOf(resolved, "y"),
    labels: named && spread<Item>(named, x.dims, x.shape).map((item) => label(item, named.dtype)),
    values,
    valueName: value ? nameOf(resolved, "value") : "",
    scale: values && scaleOf(values, wanted(view)),
    dims: x.dims,
    shape: x.shape,
  };
}

function counts(view: View, resolved: Resolved, arrays: Arrays): Counts {
  const [value, group] = [need(arrays, "value"), arrays["group"]];
  const values = numbers(value);
  const words = group ? spread<Item>(group, value.dims, value.shape).map((item) => label(item, group.dtype)) : [];
  const groups = [...new Set(words)];
  const places = new Map(groups.map((name, index) => [name, index]));
  const finite = Array.from(values as ArrayLike<number>).filter(Number.isFinite);
  const edges = edgesOf(finite, Math.max(1, Number(view.options["bins"] ?? 30)));
  const found = (groups.length ? groups : [""]).map(() => edges.slice(1).map(() => 0));
  for (let i = 0; i < values.length; i++) {
    const at = values[i] as number;
    if (!Number.isFinite(at)) continue;
    const counted = found[group ? (places.get(words[i] as string) as number) : 0] as number[];
    const bin = binAt(edges, at);
    counted[bin] = (counted[bin] as number) + 1;
  }
  const lost = values.length - finite.length;
  const leftOut = lost ? `${whole(lost)} of ${whole(values.length)} values are missing or infinite.` : "";
  return { kind: "histogram", edges, counts: found, valueName: nameOf(resolved, "value"), groups, leftOut };
}

/** Edges of so many bins of equal width; of one where floating point has no numbers between the values. */
function edgesOf(values: readonly number[], bins: number): number[] {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) [low, high] = [0, 1];
  const [start, end] = low === high ? [low - 0.5, high + 0.5] : [low, high];
  const step = end / bins - start / bins;
  const edges = Array.from({ length: bins + 1 }, (_, i) => (i === bins ? end : start + i * step));
  return edges.every((edge, i) => i === 0 || edge > (edges[i - 1] as number)) ? edges : widened(low, high);
}

/** The bin of a value; the last one holds its upper edge too. */
function binAt(edges: readonly number[], value: number): number {
  const last = edges.length - 2;
  const [low, high] = [edges[0] as number, edges[last + 1] as number];
  let bin = Math.min(last, Math.max(0, Math.floor((value / 2 - low / 2) / (high / 2 - low / 2) * (last + 1))));
  while (bin > 0 && value < (edges[bin] as number)) bin--;
  while (bin < last && value >= (edges[bin + 1] as number)) bin++;
  return bin;
}

function network(resolved: Resolved, arrays: Arrays): Network {
  const node = arrays["node"];
  const known = node ? Array.from(node.data as ArrayLike<Item>) : [];
  const sides = ["source", "target"].map((role) => need(arrays, role));
  const byIndex = known.length > 0 && sides.every((side) => side.dtype !== "string");
  const ends = sides.map((side) =>
    Array.from(side.data as ArrayLike<Item>, (end) =>
      byIndex && typeof end === "number" ? (known.at(end) ?? end) : end,
    ),
  ) as [Item[], Item[]];
  const nodes = [...new Set([...known, ...ends[0], ...ends[1]])];
  const place = new Map(nodes.map((item, index) => [item, index]));
  const weight = arrays["weight"];
  const dtype = (node ?? sides[0])?.dtype;
  return {
    kind: "graph",
    nodes: nodes.map((item) => label(item, dtype)),
    names: nodes.map(String),
    sources: ends[0].map((end) => place.get(end) as number),
    targets: ends[1].map((end) => place.get(end) as number),
    weights: weight ? numbers(weight) : new Float64Array(ends[0].length).fill(1),
    weightName: weight ? nameOf(resolved, "weight") : "",
    nodeDim: node?.dims[0],
    edgeDim: sides[0]?.dims[0],
    positions: words(arrays["position"]),
    headings: words(arrays["heading"]),
  };
}

function words(array: NdArray | undefined): string[] | undefined {
  return array && Array.from(array.data as ArrayLike<Item>, String);
}

function table(resolved: Resolved, arrays: Arrays): TablePanel {
  const columns = Object.keys(resolved.parts).map((role) => need(arrays, role));
  const said = columns.map((array): ((row: number) => string) => {
    const format = /^float/.test(array.dtype) ? column(array.data as Numbers) : undefined;
    return (row) => {
      const item = array.data[row] as Item;
      return format && typeof item === "number" ? format(item) : label(item, array.dtype);
    };
  });
  return {
    kind: "table",
    names: Object.keys(resolved.parts).map((role) => nameOf(resolved, role)),
    numeric: columns.map((array) => array.dtype !== "string" && array.dtype !== "bool"),
    values: columns.map((array) => array.data as Numbers | string[]),
    said: (index, row) => said[index]?.(row) ?? "",
    height: columns[0]?.shape[0] ?? 0,
    dim: columns[0]?.dims[0] ?? "",
  };
}

function texts(arrays: Arrays, labelsOf: NdArray | undefined): Texts {
  const value = need(arrays, "value");
  const said = Array.from(value.data as ArrayLike<Item>, (item) =>
    typeof item === "string" ? item : /^float/.test(value.dtype) ? number(item) : label(item, value.dtype),
  );
  const dim = value.dims[0];
  const places = labelsOf ? labels(labelsOf) : said.map((_, i) => whole(i));
  return { kind: "text", texts: said, labels: dim ? places.map((place) => `${dim} ${place}`) : [""], dim };
}

function need(arrays: Arrays, role: string): NdArray {
  const array = arrays[role];
  if (!array) throw new Error(`The picture does not say what its ${role} is.`);
  return array;
}

function nameOf(resolved: Resolved, role: string): string {
  const part = resolved.parts[role];
  return part ? named(part.info) : "";
}

function wanted(view: View): string {
  return String(view.options["scale"] ?? "auto");
}

/** How many are left when the empty words without values at the end, which fill up short prompts, go. */
function withoutPadding(words: NdArray, missing: (index: number) => boolean): number {
  let kept = words.shape[0] ?? 0;
  while (kept && words.data[kept - 1] === "" && missing(kept - 1)) kept--;
  return kept;
}

function every(count: number, holds: (index: number) => boolean): boolean {
  for (let i = 0; i < count; i++) if (!holds(i)) return false;
  return true;
}

function cropped(values: Numbers, from: number, height: number, width: number): Float64Array {
  const kept = new Float64Array(height * width);
  for (let row = 0; row < height; row++)
    for (let col = 0; col < width; col++) kept[row * width + col] = values[row * from + col] as number;
  return kept;
}

function longestOf(words: ArrayLike<Item>): number {
  let longest = 0;
  for (let i = 0; i < words.length; i++) longest = Math.max(longest, String(words[i]).length);
  return longest;
}

/** Indices of the values farthest from zero, at most so many, in their own order. */
export function farthest(values: Numbers, most: number): number[] {
  const all = Array.from({ length: values.length }, (_, i) => i);
  if (values.length <= most) return all;
  const strength = (i: number) => (Number.isNaN(values[i]) ? -1 : Math.abs(values[i] as number));
  return all
    .sort((a, b) => strength(b) - strength(a) || a - b)
    .slice(0, most)
    .sort((a, b) => a - b);
}

/** The edges of an axis that shows all finite values, with some room; undefined when there are none. */
export function span(values: Iterable<number>, room = 0.04): [number, number] | undefined {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return undefined;
  if (low === high) return widened(low, high);
  const extra = high * room - low * room;
  const largest = Number.MAX_VALUE;
  // room below zero would look like values
  const start = low >= 0 && low < extra ? 0 : Math.max(low - extra, -largest);
  return [start, high > -extra && high <= 0 ? 0 : Math.min(high + extra, largest)];
}

