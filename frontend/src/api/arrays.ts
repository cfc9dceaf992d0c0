/** Numbers as the server sends them: little-endian, C order, decoded without a copy where the alignment allows. */

import type { ArrayInfo } from "./types";

export type NumberData =
  Float32Array | Float64Array | Int8Array | Int16Array | Int32Array | Uint8Array | Uint16Array | Uint32Array;

export interface NdArray {
  name: string;
  dims: string[];
  shape: number[];
  /** "string" when `data` holds text, "bool" when it holds zeros and ones. */
  dtype: string;
  data: NumberData | string[];
}

/** `3` stands at one index and drops the dimension; `[start, stop]` and `[start, stop, step]` keep it. */
export type Picked = number | readonly [number, number] | readonly [number, number, number];
export type Selection = Readonly<Record<string, Picked>>;

const BYTES: Record<string, number> = {
  float64: 8,
  float32: 4,
  float16: 2,
  int64: 8,
  uint64: 8,
  int32: 4,
  uint32: 4,
  int16: 2,
  uint16: 2,
  int8: 1,
  uint8: 1,
  bool: 1,
};

/** Decode `bytes` (from `offset`) as `count` elements of a NumPy type. */
export function decode(bytes: ArrayBuffer, dtype: string, count: number, offset = 0): NumberData {
  const width = BYTES[dtype];
  if (width === undefined) throw new Error(`The server sent numbers of an unknown type: ${dtype}.`);
  if (offset + count * width > bytes.byteLength)
    throw new Error(`The server sent ${bytes.byteLength - offset} bytes; ${count * width} were expected.`);
  // a typed array must start at a multiple of its element's width
  const [buffer, from] = offset % width === 0 ? [bytes, offset] : [bytes.slice(offset, offset + count * width), 0];
  switch (dtype) {
    case "float64":
      return new Float64Array(buffer, from, count);
    case "float32":
      return new Float32Array(buffer, from, count);
    case "float16":
      return Float32Array.from(new Uint16Array(buffer, from, count), half);
    case "int64":
      return Float64Array.from(new BigInt64Array(buffer, from, count), Number);
    case "uint64":
      return Float64Array.from(new BigUint64Array(buffer, from, count), Number);
    case "int32":
      return new Int32Array(buffer, from, count);
    case "uint32":
      return new Uint32Array(buffer, from, count);
    case "int16":
      return new Int16Array(buffer, from, count);
    case "uint16":
      return new Uint16Array(buffer, from, count);
    case "int8":
      return new Int8Array(buffer, from, count);
    default:
      return new Uint8Array(buffer, from, count);
  }
}

/** A 16-bit float as a number. */
export function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

export function size(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}

/** Several named arrays in one answer, such as the activations of a prompt. */
export interface Bundle {
  arrays: NdArray[];
  tokens: string[];
  /** Whatever else the header says. */
  facts: Record<string, unknown>;
}

/** A bundle: a line of JSON, then the bytes of all its arrays; offsets count from after the line. */
export function decodeBundle(bytes: ArrayBuffer): Bundle {
  const line = new Uint8Array(bytes).indexOf(10);
  if (line < 0) throw new Error("The server's answer has no header line.");
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 0, line))) as {
    arrays: { name: string; dims: string[]; shape: number[]; dtype: string; offset: number; bytes: number }[];
    tokens?: string[];
  } & Record<string, unknown>;
  const { arrays, tokens, ...facts } = header;
  return {
    arrays: arrays.map((entry) => ({
      name: entry.name,
      dims: entry.dims,
      shape: entry.shape,
      dtype: entry.dtype,
      data: decode(bytes, entry.dtype, size(entry.shape), line + 1 + entry.offset),
    })),
    tokens: tokens ?? [],
    facts,
  };
}

/** The part of a selection that concerns an array, as the server's query string writes it. */
export function selectionQuery(info: Pick<ArrayInfo, "dims">, selection: Selection): URLSearchParams {
  const query = new URLSearchParams();
  for (const dim of info.dims) {
    const picked = selection[dim];
    if (picked !== undefined) query.set(dim, typeof picked === "number" ? String(picked) : picked.join(":"));
  }
  return query;
}

/** All leaves of a nested list in C order. */
export function flatten(nested: unknown): string[] {
  return Array.isArray(nested) ? nested.flatMap(flatten) : [nested === null ? "" : String(nested)];
}
