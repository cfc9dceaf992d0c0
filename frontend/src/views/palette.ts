/**
 * Which colour says which number? The same scales as `cutaway.drawing.palette`, step for step.
 *
 * Colours are mixed in OKLab, where equal distances look equal. Values of both signs get blue below zero and
 * orange above it, centred on zero; others get one scale from pale to dark.
 */

export type Theme = "light" | "dark";
export type ScaleName = "diverging" | "sequential";
export type Rgb = readonly [number, number, number];

export interface Scale {
  readonly name: ScaleName;
  readonly low: number;
  readonly high: number;
}

/** Steps of a scale; odd, so that the middle one is zero. */
export const BINS = 33;

export const MISSING: Readonly<Record<Theme, Rgb>> = { light: [225, 225, 225], dark: [58, 62, 68] };

export const CLASSES: Readonly<Record<Theme, readonly Rgb[]>> = {
  light: [
    [0, 114, 178],
    [213, 94, 0],
    [0, 138, 101],
    [178, 84, 138],
    [168, 116, 0],
    [38, 145, 200],
    [95, 95, 95],
    [100, 70, 170],
  ],
  dark: [
    [86, 180, 233],
    [242, 133, 52],
    [32, 190, 145],
    [222, 143, 190],
    [230, 170, 40],
    [140, 205, 245],
    [175, 180, 186],
    [176, 156, 240],
  ],
};

/** Dashes of lines, so that classes are told apart without colour. */
export const DASHES = ["", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 2", "6 2 1 2"] as const;

const ANCHORS: Readonly<Record<`${ScaleName} ${Theme}`, readonly string[]>> = {
  "diverging light": ["#0b4a8f", "#4f97d3", "#b5d5ee", "#f6f6f4", "#f9cfa4", "#e5812f", "#9a3d00"],
  "diverging dark": ["#9fd0ff", "#4a94dc", "#2b4d70", "#22262c", "#6b4526", "#d9772b", "#ffc48a"],
  "sequential light": ["#f8f9f3", "#cfe7d6", "#8bc9c6", "#45a0bd", "#2a72ab", "#254587", "#1c2257"],
  "sequential dark": ["#20242b", "#24405c", "#236582", "#2b8d97", "#5cb59b", "#a5d8a0", "#eef5c0"],
};

type Matrix = readonly [Rgb, Rgb, Rgb];

const TO_CONE: Matrix = [
  [0.4122214708, 0.5363325363, 0.0514459929],
  [0.2119034982, 0.6806995451, 0.1073969566],
  [0.0883024619, 0.2817188376, 0.6299787005],
];
const TO_LAB: Matrix = [
  [0.2104542553, 0.793617785, -0.0040720468],
  [1.9779984951, -2.428592205, 0.4505937099],
  [0.0259040371, 0.7827717662, -0.808675766],
];
const FROM_CONE = inverse(TO_CONE);
const FROM_LAB = inverse(TO_LAB);

/** The scale for these values: diverging where both signs occur, sequential otherwise. */
export function scaleOf(values: ArrayLike<number>, wanted: string = "auto"): Scale {
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return { name: "sequential", low: 0, high: 0 };
  if (wanted === "diverging" || (wanted === "auto" && low < 0 && high > 0)) {
    const reach = Math.max(Math.abs(low), Math.abs(high));
    return { name: "diverging", low: reach ? -reach : 0, high: reach };
  }
  if (low === high) return { name: "sequential", low: Math.min(low, 0), high: Math.max(low, 0) };
  const nearZero = low >= 0 && low <= high / 2; // a scale that starts at zero shows proportions
  return { name: "sequential", low: nearZero ? 0 : low, high };
}

/** How far the value lies from `low` (0) to `high` (1), whatever their size. */
export function share(value: number, low: number, high: number): number {
  const size = Math.max(Math.abs(low), Math.abs(high)); // the distance of two large numbers could be infinite
  return (value / size - low / size) / (high / size - low / size);
}

/** Where the value lies on the scale, from 0 to 1; values beyond the ends lie at the ends. */
export function placeOn(scale: Scale, value: number): number {
  if (scale.high === scale.low) return scale.high === 0 ? 0 : 1;
  return Math.min(1, Math.max(0, share(value, scale.low, scale.high)));
}

/** The step of the scale, from 0 to BINS - 1; -1 for a missing value. */
export function binOf(scale: Scale, value: number): number {
  return Number.isNaN(value) ? -1 : halfEven(placeOn(scale, value) * (BINS - 1));
}

/** The ends, with some room around them where they are equal. */
export function widened(low: number, high: number): [number, number] {
  const room = low === high ? Math.max(0.5, Math.abs(low) * 0.1) : 0;
  return [low - room, high + room];
}

export function colour(scale: Scale, value: number, theme: Theme = "light"): Rgb {
  const step = binOf(scale, value);
  return step < 0 ? MISSING[theme] : (steps(scale.name, theme)[step] as Rgb);
}

const known = new Map<string, readonly Rgb[]>();

/** All BINS colours of a scale, from its low end to its high end. */
export function steps(name: ScaleName, theme: Theme = "light"): readonly Rgb[] {
  const key = `${name} ${theme}` as const;
  let made = known.get(key);
  if (!made) known.set(key, (made = mixed(name, ANCHORS[key])));
  return made;
}

export function classColour(index: number, theme: Theme = "light"): Rgb {
  const colours = CLASSES[theme];
  return colours[index % colours.length] as Rgb;
}

/** Contrast of text, by the web's accessibility guidelines (level AA). */
const READABLE = 4.5;

/** Nearly black or white, whichever is easier to read on the background; all black where neither stands out enough. */
export function inkOn(background: Rgb): Rgb {
  const light = luminance(background) + 0.05;
  const [dark, white] = [light / 0.0591, 1.05 / light];
  if (Math.max(dark, white) < READABLE) return [0, 0, 0];
  return dark >= white ? [20, 24, 28] : [255, 255, 255];
}

/** Relative luminance as the web's accessibility guidelines define it, from 0 to 1. */
export function luminance(rgb: Rgb): number {
  const [red, green, blue] = linear(rgb);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** The colour as CSS writes it. */
export function css(rgb: Rgb): string {
  return `#${rgb.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

/** The nearest whole number, the even one of two that are equally near, as Python rounds. */
export function halfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

function mixed(name: ScaleName, anchors: readonly string[]): readonly Rgb[] {
  const labs = anchors.map((text) => toOklab(fromHex(text)));
  // places along the anchors by the distance between their colours, so that steps look equally wide
  let lengths = labs.slice(1).map((lab, i) => Math.hypot(...lab.map((part, j) => part - (labs[i] as Rgb)[j]!)));
  if (name === "diverging") {
    const half = Math.floor(lengths.length / 2);
    const halves = [lengths.slice(0, half), lengths.slice(half)];
    lengths = halves.flatMap((side) => side.map((length) => length / sum(side)));
  }
  const along = [0];
  for (const length of lengths) along.push(along[along.length - 1]! + length);
  const whole = sum(lengths);
  return Array.from({ length: BINS }, (_, step) => {
    const wanted = step / (BINS - 1);
    let i = 0;
    while (i < along.length - 2 && wanted > along[i + 1]! / whole) i++;
    const [start, end] = [along[i]! / whole, along[i + 1]! / whole];
    const part = Math.min(1, Math.max(0, (wanted - start) / (end - start)));
    return fromOklab(mapped((j) => labs[i]![j]! + (labs[i + 1]![j]! - labs[i]![j]!) * part));
  });
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function mapped(of: (index: 0 | 1 | 2) => number): Rgb {
  return [of(0), of(1), of(2)];
}

function fromHex(text: string): Rgb {
  return mapped((i) => parseInt(text.slice(1 + 2 * i, 3 + 2 * i), 16));
}

function linear(rgb: Rgb): Rgb {
  return mapped((i) => {
    const encoded = rgb[i] / 255;
    return encoded <= 0.04045 ? encoded / 12.92 : ((encoded + 0.055) / 1.055) ** 2.4;
  });
}

function toOklab(rgb: Rgb): Rgb {
  const cone = times(TO_CONE, linear(rgb));
  return times(TO_LAB, mapped((i) => Math.cbrt(cone[i])));
}

function fromOklab(lab: Rgb): Rgb {
  const cone = times(FROM_LAB, lab);
  const light = times(FROM_CONE, mapped((i) => cone[i] ** 3));
  return mapped((i) => {
    const inside = Math.min(1, Math.max(0, light[i]));
    return halfEven((inside <= 0.0031308 ? inside * 12.92 : 1.055 * inside ** (1 / 2.4) - 0.055) * 255);
  });
}

function times(matrix: Matrix, vector: Rgb): Rgb {
  return mapped((i) => matrix[i][0] * vector[0] + matrix[i][1] * vector[1] + matrix[i][2] * vector[2]);
}

function inverse(m: Matrix): Matrix {
  const minor = (i: number, j: number): number => {
    const [a, b] = [0, 1, 2].filter((row) => row !== i) as [number, number];
    const [c, d] = [0, 1, 2].filter((column) => column !== j) as [number, number];
    return m[a]![c]! * m[b]![d]! - m[a]![d]! * m[b]![c]!;
  };
  const cofactor = (i: number, j: number) => ((i + j) % 2 ? -1 : 1) * minor(i, j);
  const determinant = [0, 1, 2].reduce((total, j) => total + m[0][j]! * cofactor(0, j), 0);
  const row = (i: number): Rgb => mapped((j) => cofactor(j, i) / determinant);
  return [row(0), row(1), row(2)];
}
