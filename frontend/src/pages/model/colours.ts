/** The range of colours for a tensor: most values within it, the few largest at its ends. */

export interface Range {
  low: number;
  high: number;
  name: "diverging" | "sequential";
  /** The share of values beyond the ends. */
  clipped: number;
}

/** What masks and missing values are uploaded as. */
export const NOTHING = -3e38;

export function isMissing(value: number): boolean {
  return !Number.isFinite(value) || value <= -1e30;
}

const SAMPLE = 20_000;

/** Ends that hold 99.5 % of the values; a pattern always goes from 0 to 1. */
export function rangeOf(kind: string, values: ArrayLike<number>): Range {
  if (kind === "pattern") return { low: 0, high: 1, name: "sequential", clipped: 0 };
  const step = Math.max(1, Math.floor(values.length / SAMPLE));
  const sizes: number[] = [];
  let negative = false;
  let positive = false;
  for (let i = 0; i < values.length; i += step) {
    const value = values[i]!;
    if (isMissing(value)) continue;
    sizes.push(Math.abs(value));
    negative ||= value < 0;
    positive ||= value > 0;
  }
  if (!sizes.length) return { low: 0, high: 1, name: "sequential", clipped: 0 };
  sizes.sort((a, b) => a - b);
  const high = sizes[Math.min(sizes.length - 1, Math.floor(sizes.length * 0.995))]! || sizes[sizes.length - 1]! || 1;
  const clipped = sizes.filter((size) => size > high).length / sizes.length;
  if (negative) return { low: -high, high: positive ? high : 0, name: positive ? "diverging" : "sequential", clipped };
  return { low: 0, high, name: "sequential", clipped };
}
