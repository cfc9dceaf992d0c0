/**
 * How are numbers and tokens put into words? The same way as `cutaway.drawing.words`, character for character.
 *
 * A token is shown so that every character of it can be seen: a space is `·`, a line break `↵`, a character that
 * would steer the screen or the reading direction is written as its name. The data keep the true strings.
 */

import type { NdArray } from "../api/arrays";
import type { ArrayInfo } from "../api/types";

const SHOWN: Readonly<Record<string, string>> = { " ": "·", "\n": "↵", "\t": "⇥" };
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/u;
const SPACES = /\p{Zs}/u;
const BETWEEN = /(?<=[^ ]) /; // the first space after something else
const JOINERS = "\u200c\u200d"; // of Persian words and of emoji; harmless

/** The token with every character to be seen. */
export function visible(token: string): string {
  let text = "";
  for (const c of token) text += SHOWN[c] ?? (SPACES.test(c) ? byCode(c) : printable(c));
  return text;
}

/** The text with its spaces and line breaks as they are, and all else to be seen. */
export function readable(text: string): string {
  let said = "";
  for (const c of text) said += c === " " || c === "\n" ? c : c === "\t" ? "    " : printable(c);
  return said;
}

/** The text on one line, with spaces as they are. */
export function visibleText(text: string): string {
  return readable(text.replaceAll("\n", "↵"));
}

/** A number with so many significant digits. */
export function number(value: number, digits = 3): string {
  if (Number.isNaN(value)) return "missing";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return exponential(value, digits - 1);
  const places = size ? Math.max(0, digits - 1 - Math.floor(Math.log10(size))) : 0;
  return fixed(value, Math.min(places, digits + 3));
}

/** A whole number in full, with commas between thousands. */
export function whole(value: number): string {
  return fixed(value, 0);
}

/** A number on an axis: whole ones without decimal places. */
export function tick(value: number): string {
  return Number.isInteger(value) ? whole(value) : number(value);
}

/** A number with its sign. */
export function signed(value: number, digits = 3): string {
  return value > 0 ? `+${number(value, digits)}` : number(value, digits);
}

/** A value of a picture: with its sign where the picture has both signs, and plain where it has not. */
export function figure(value: number, signs: boolean): string {
  return signs ? signed(value) : number(value);
}

/** Whether a picture of these values has values below zero. */
export function anyNegative(values: ArrayLike<number>): boolean {
  for (let i = 0; i < values.length; i++) if ((values[i] as number) < 0) return true;
  return false;
}

/** Numbers below each other, with the same decimal places where that loses none of them. */
export function column(values: ArrayLike<number>): (value: number) => string {
  let largest = 0;
  let smallest = Infinity;
  let allWhole = true;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (!Number.isFinite(value)) continue;
    if (!Number.isInteger(value)) allWhole = false;
    if (value === 0) continue;
    largest = Math.max(largest, Math.abs(value));
    smallest = Math.min(smallest, Math.abs(value));
  }
  if (allWhole && largest < 1e7) return tick;
  const places = Math.max(0, 3 - Math.floor(Math.log10(largest)));
  if (places > 6 || smallest < 10 ** -places || largest >= 1e7) return (value) => number(value, 4);
  return (value) => (Number.isFinite(value) ? fixed(value, places) : number(value));
}

export type Item = string | number;

/**
 * A label of an axis: a token, a name, or a number. Spaces that could be overlooked are `·`; one between two words
 * stays. `dtype` is that of the array that holds it.
 */
export function label(value: Item, dtype = "float64"): string {
  if (typeof value === "string") {
    const inner = value.replace(/^ +| +$/g, "");
    if (!inner) return visible(value);
    const before = value.length - value.replace(/^ +/, "").length;
    const shown = inner.split(BETWEEN).map(visible).join(" ");
    return "·".repeat(before) + shown + "·".repeat(value.length - before - inner.length);
  }
  if (dtype === "bool") return value ? "yes" : "no";
  return isWhole(dtype) ? whole(value) : number(value, 4);
}

/** Labels of a whole array. */
export function labels(array: NdArray): string[] {
  return Array.from(array.data as ArrayLike<Item>, (item) => label(item, array.dtype));
}

export function isWhole(dtype: string): boolean {
  return /^u?int\d*$/.test(dtype);
}

/** What a variable is called: its long name or its name, with its unit. */
export function named(info: Pick<ArrayInfo, "name" | "attrs">): string {
  const name = String(info.attrs["long_name"] || info.name).replaceAll("_", " ");
  const units = info.attrs["units"];
  return visibleText(units ? `${name} (${String(units)})` : name);
}

/** The text, or its beginning and `…`. */
export function shortened(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, Math.max(0, length - 1))}…`;
}

/** Round numbers between the ends. */
export function ticks(low: number, high: number, about = 6): number[] {
  const rough = high / about - low / about;
  const power = rough > 0 && Number.isFinite(rough) ? 10 ** Math.floor(Math.log10(rough)) : 0;
  if (!power) return [low];
  const step = [1, 2, 5, 10].map((factor) => power * factor).find((size) => size >= rough * 0.8) ?? power * 10;
  const found = [];
  for (let i = Math.ceil(low / step); i <= Math.floor(high / step); i++)
    found.push(step > 1e-9 ? Number((i * step).toFixed(12)) : i * step);
  return found;
}

/** The places with their numbers, all with the same decimal places. */
export function labelled(places: readonly number[]): [number, string][] {
  const largest = Math.max(0, ...places.map(Math.abs));
  const decimals = Math.max(0, ...places.map((at) => (at.toFixed(6).replace(/0+$/, "").split(".")[1] ?? "").length));
  if (largest >= 1e6 || (largest > 0 && largest < 1e-3)) return places.map((at) => [at, number(at)]);
  return places.map((at) => [at, fixed(at, decimals)]);
}

function fixed(value: number, places: number): string {
  const [whole = "", rest] = evenly(value.toFixed(places), value, places).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  return rest === undefined ? grouped : `${grouped}.${rest}`;
}

function exponential(value: number, places: number): string {
  const [mantissa = "", exponent = "0"] = value.toExponential(places).split("e");
  const power = Number(exponent);
  return `${mantissa}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
}

/** Python rounds an exact half to the even digit, `toFixed` away from zero. */
function evenly(text: string, value: number, places: number): string {
  const exact = Math.abs(value).toFixed(Math.min(100, places + 30));
  const rest = exact.slice(exact.indexOf(".") + 1 + places);
  if (!/^50*$/.test(rest) || Number(text.at(-1)) % 2 === 0) return Object.is(value, -0) ? `-${text}` : text;
  const kept = places ? exact.slice(0, exact.length - rest.length) : exact.slice(0, exact.indexOf("."));
  return value < 0 ? `-${kept}` : kept;
}

function printable(character: string): string {
  const code = character.codePointAt(0) as number;
  const nothing = (code & 0xfffe) === 0xfffe; // two code points of each plane are promised never to be characters
  if (JOINERS.includes(character) || !(nothing || HIDDEN.test(character))) return character;
  return byCode(character);
}

function byCode(character: string): string {
  const code = character.codePointAt(0) as number;
  return `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
}
