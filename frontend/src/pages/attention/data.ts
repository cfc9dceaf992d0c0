/** What the attention page knows of heads and patterns, without any drawing. */

import type { NumberData } from "../../api/arrays";

export interface AttentionRecord {
  tokens: string[];
  ids: number[];
  token_b_start: number | null;
  n_layers: number;
  n_heads: number;
  causal: boolean;
  entropy: (number | null)[][];
  scores: Record<string, (number | null)[][]>;
  thumbnails: { side: number; values: (string | null)[][] };
  refused: Record<string, string>;
}

/** Which pairs of tokens are shown when there are two texts. */
export type Filter = "all" | "aa" | "ab" | "ba" | "bb";
export const FILTERS: readonly [Filter, string][] = [
  ["all", "all"],
  ["aa", "first → first"],
  ["ab", "first → second"],
  ["ba", "second → first"],
  ["bb", "second → second"],
];

export interface Ranges {
  queries: readonly [number, number];
  keys: readonly [number, number];
}

/** The tokens that look, and those looked at; the second text begins at `start`. */
export function rangesOf(filter: Filter, tokens: number, start: number | null): Ranges {
  const whole = [0, tokens] as const;
  if (filter === "all" || start === null) return { queries: whole, keys: whole };
  const side = (name: string | undefined) => (name === "a" ? ([0, start] as const) : ([start, tokens] as const));
  return { queries: side(filter[0]), keys: side(filter[1]) };
}

export function filterOf(text: string | null): Filter {
  return FILTERS.find(([name]) => name === text)?.[0] ?? "all";
}

/** `0-3,7` as numbers below `count`; every number where the text is empty. */
export function listOf(text: string | null, count: number): number[] {
  const every = Array.from({ length: count }, (_, index) => index);
  if (!text) return every;
  const wanted = new Set<number>();
  for (const part of text.split(",")) {
    const match = /^\s*(\d+)(?:\s*-\s*(\d+))?\s*$/.exec(part);
    if (!match) continue;
    const [from, to] = [Number(match[1]), Number(match[2] ?? match[1])];
    for (let index = from; index <= Math.min(to, count - 1); index++) wanted.add(index);
  }
  return every.filter((index) => wanted.has(index));
}

/** Numbers as `0-3,7`; null where all of `count` are named. */
export function listText(numbers: readonly number[], count: number): string | null {
  const sorted = [...new Set(numbers)].sort((a, b) => a - b);
  if (sorted.length === count) return null;
  const parts: string[] = [];
  for (let i = 0; i < sorted.length; ) {
    let j = i;
    while (j + 1 < sorted.length && sorted[j + 1] === sorted[j]! + 1) j++;
    parts.push(i === j ? String(sorted[i]) : `${sorted[i]}-${sorted[j]}`);
    i = j + 1;
  }
  return parts.join(",");
}

/** One head's pattern: a row for each query. */
export interface Pattern {
  head: number;
  size: number;
  values: NumberData;
}

export function weight(pattern: Pattern, query: number, key: number): number {
  return pattern.values[query * pattern.size + key] ?? NaN;
}

/** The keys that a query looks at most. */
export function topKeys(pattern: Pattern, query: number, keys: readonly [number, number], count: number): { key: number; value: number }[] {
  const found: { key: number; value: number }[] = [];
  for (let key = keys[0]; key < keys[1]; key++) {
    const value = weight(pattern, query, key);
    if (value > 0) found.push({ key, value });
  }
  return found.sort((a, b) => b.value - a.value).slice(0, count);
}

/** Bytes of a thumbnail. */
export function thumbnail(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

export const HABITS: readonly [string, string][] = [
  ["previous_token", "looks at the token before"],
  ["first_token", "rests on the first token"],
  ["duplicate_token", "looks at the same token earlier"],
  ["induction", "looks at what followed this token earlier (induction)"],
];


/** Query times key for every key: the products, their sum, and the sum times the scale. */
export function products(
  query: ArrayLike<number>, keys: ArrayLike<number>, width: number, from: number, scale: number, row: number,
): { dot: number; scaled: number } {
  let dot = 0;
  for (let i = 0; i < width; i++) dot += query[from * width + i]! * keys[row * width + i]!;
  return { dot, scaled: dot * scale };
}
