/**
 * Which array plays which part of a picture, and where does the picture stand? The rules of `cutaway.core.roles`.
 *
 * Only names and sizes are needed for that, and the coordinates that a label is looked up in; the numbers come
 * later, one slice of them.
 */

import type { NdArray, Picked } from "../api/arrays";
import { arrayOf, type ResultSource } from "../api/source";
import type { ArrayInfo, Place, View } from "../api/types";
import { label } from "./words";

export interface Part {
  /** The variable, or the dimension that stands for its own indices. */
  info: ArrayInfo;
  /** Dimensions that are left when the picture stands where it stands. */
  dims: string[];
  picked: Readonly<Record<string, Picked>>;
}

/** A dimension that the view fixes, and the place at which it does. */
export interface Standing {
  dim: string;
  index: number;
  size: number;
}

export interface Resolved {
  parts: Readonly<Record<string, Part>>;
  standing: readonly Standing[];
}

/** A view that names what the data do not have. */
export class ViewError extends Error {
  override readonly name = "ViewError";
}

const ROLE_DIMS: Readonly<Record<string, Readonly<Record<string, readonly number[]>>>> = {
  tokens: { value: [1], token: [1] },
  heatmap: { value: [2], x: [1], y: [1], text: [2] },
  attention: { value: [2], query: [1], key: [1], token: [1], key_token: [1] },
  curves: { value: [1, 2], x: [1], series: [1], low: [1, 2], high: [1, 2] },
  bars: { value: [1, 2], label: [1], low: [1, 2], high: [1, 2], group: [1] },
  scatter: { x: [1, 2], y: [1, 2], label: [1, 2], value: [1, 2] },
  histogram: { value: [], group: [] },
  graph: { source: [1], target: [1], weight: [1], node: [1], position: [1], heading: [1] },
  table: {},
  text: { value: [0, 1] },
};

/** The parts of a view; `at` moves the places of its own `at` to other indices. */
export async function resolve(
  source: ResultSource,
  view: View,
  at: Readonly<Record<string, number>> = {},
  signal?: AbortSignal,
): Promise<Resolved> {
  const standing: Standing[] = [];
  for (const [dim, place] of Object.entries(view.at)) {
    const size = source.dims[dim];
    if (size === undefined) throw new ViewError(`The picture stands at “${dim}”, which is no dimension of the data.`);
    const moved = at[dim];
    const index = moved === undefined ? await indexOf(source, dim, place, signal) : inside(moved, size);
    standing.push({ dim, index, size });
  }
  const parts: Record<string, Part> = {};
  for (const [role, name] of Object.entries(view.roles)) parts[role] = partOf(source, view, role, name, standing);
  const used = new Set(Object.values(parts).flatMap((part) => part.info.dims));
  return { parts, standing: standing.filter((each) => used.has(each.dim)) };
}

/** The numbers and words of every part. */
export async function fetchParts(
  source: ResultSource,
  resolved: Resolved,
  signal?: AbortSignal,
): Promise<Record<string, NdArray>> {
  const entries = Object.entries(resolved.parts).map(async ([role, part]): Promise<[string, NdArray]> => {
    if (!arrayOf(source, part.info.name)) return [role, counted(part)];
    return [role, typed(await source.slice(part.info.name, part.picked, signal), part.info.dtype)];
  });
  return Object.fromEntries(await Promise.all(entries));
}

/** Whole numbers travel in other types than they are kept in; very large ones as their digits. */
function typed(array: NdArray, dtype: string): NdArray {
  if (array.dtype === dtype || dtype === "string") return array;
  if (array.dtype === "string") return { ...array, dtype, data: Float64Array.from(array.data as string[], Number) };
  return { ...array, dtype };
}

/** Where in a dimension a place is: see `View.at` in Python. */
export async function indexOf(source: ResultSource, dim: string, place: Place, signal?: AbortSignal): Promise<number> {
  const size = source.dims[dim] ?? 0;
  if (typeof place === "string") {
    const along = source.arrays.filter((array) => array.dtype === "string" && array.dims.join() === dim);
    along.sort((a, b) => Number(b.name === dim) - Number(a.name === dim));
    for (const array of along) {
      const index = ((await source.slice(array.name, {}, signal)).data as string[]).indexOf(place);
      if (index >= 0) return index;
    }
    throw new ViewError(`The picture stands at ${dim} “${place}”, which ${dim} does not have.`);
  }
  const own = arrayOf(source, dim);
  if (own && own.dtype !== "string" && own.dtype !== "bool") {
    const values = (await source.slice(dim, {}, signal)).data as ArrayLike<number | string>;
    const index = Array.from(values, Number).indexOf(place);
    if (index >= 0) return index;
    if (place >= 0) throw new ViewError(`The picture stands at ${dim} ${place}, which ${dim} does not have.`);
  }
  if (!Number.isInteger(place) || place < -size || place >= size)
    throw new ViewError(`The picture stands at ${dim} ${place}; it has the indices 0 to ${size - 1}.`);
  return place < 0 ? place + size : place;
}

/**
 * The name of a place: its label where the dimension has labels, its index otherwise; behind a number, the word that
 * stands there in what the picture shows (`others` says where the other dimensions stand).
 */
export async function placeName(
  source: ResultSource,
  dim: string,
  index: number,
  signal?: AbortSignal,
  others: readonly Standing[] = [],
): Promise<string> {
  const known = Object.fromEntries(others.filter((each) => each.dim !== dim).map((each) => [each.dim, each.index]));
  const own = arrayOf(source, dim);
  const words = source.arrays.find(
    (array) =>
      array.dtype === "string" &&
      array.coordinate &&
      array.dims.includes(dim) &&
      array.dims.every((other) => other === dim || other in known),
  );
  const at = async (info: ArrayInfo) => {
    const rest = Object.fromEntries(info.dims.filter((other) => other !== dim).map((other) => [other, known[other] ?? 0]));
    const value = (await source.slice(info.name, rest, signal)).data[index];
    return value === undefined ? "" : label(value, info.dtype);
  };
  const number = own && own.dims.join() === dim ? await at(own) : "";
  if (!words || own?.dtype === "string") return number || String(index);
  const word = await at(words);
  if (!own && words.dims.length === 1) return word || String(index);
  const counted = number || String(index);
  return word.startsWith(`${counted} `) ? word : `${counted} ${word}`.trim();
}

function partOf(
  source: ResultSource,
  view: View,
  role: string,
  name: string,
  standing: readonly Standing[],
): Part {
  const size = source.dims[name];
  const info =
    arrayOf(source, name) ??
    (size === undefined
      ? undefined
      : { name, dims: [name], shape: [size], dtype: "int64", coordinate: false, attrs: {} });
  if (!info)
    throw new ViewError(
      `The picture takes its ${role} from “${name}”, which the data do not have; ` +
        `they have ${source.arrays.map((array) => array.name).join(", ") || "nothing"}.`,
    );
  const picked: Record<string, Picked> = {};
  for (const { dim, index } of standing) if (info.dims.includes(dim)) picked[dim] = index;
  const dims = info.dims.filter((dim) => !(dim in picked));
  const allowed = view.kind === "table" ? [1] : (ROLE_DIMS[view.kind]?.[role] ?? []);
  if (allowed.length && !allowed.includes(dims.length))
    throw new ViewError(
      `The picture shows “${name}” as its ${role}, which has ${dims.length} dimensions ` +
        `(${dims.join(", ") || "none"}) where it stands; ${role} has ${allowed.join(" or ")}.`,
    );
  return { info, dims, picked };
}

/** A dimension without a variable is its own indices. */
function counted(part: Part): NdArray {
  const { name, dtype } = part.info;
  const fixed = part.picked[name];
  if (typeof fixed === "number") return { name, dims: [], shape: [], dtype, data: Float64Array.of(fixed) };
  const size = part.info.shape[0] ?? 0;
  return { name, dims: [name], shape: [size], dtype, data: Float64Array.from({ length: size }, (_, i) => i) };
}

function inside(index: number, size: number): number {
  return Math.min(size - 1, Math.max(0, Math.round(index)));
}
