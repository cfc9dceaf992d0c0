/**
 * What do words, sentences or chosen stretches of a text get of what its tokens have? The rules of
 * `cutaway.methods.attribution_aggregation`, so that the page and `aggregated(result, by="word")` say the same.
 */

export type By = "token" | "word" | "sentence";
export type How = "sum" | "mean" | "absmax" | "l2";
/** First place, and the one after the last. */
export type Stretch = readonly [number, number];

export interface Piece {
  start: number;
  end: number;
  text: string;
}

export const BY: readonly By[] = ["token", "word", "sentence"];
export const HOW: Readonly<Record<How, string>> = {
  sum: "sum",
  mean: "mean",
  absmax: "farthest from zero",
  l2: "L2 norm",
};

const LETTER_FIRST = /^[\p{L}\p{N}]/u;
const LETTER_LAST = /[\p{L}\p{N}]$/u;
const SENTENCE_END = /[.!?…。]["'”’)]*\s*$|\n\s*$/u;

/** For each token the number of the word that it belongs to. */
export function wordsOf(texts: readonly string[]): number[] {
  let number = -1;
  return texts.map((text, place) => {
    const before = place ? (texts[place - 1] as string) : "";
    const joins = before === " " || (LETTER_LAST.test(before) && LETTER_FIRST.test(text));
    if (!place || !joins) number++;
    return number;
  });
}

/** For each token the number of the sentence that it belongs to. */
export function sentencesOf(texts: readonly string[]): number[] {
  let number = 0;
  return texts.map((_, place) => {
    if (place && SENTENCE_END.test(texts[place - 1] as string)) number++;
    return number;
  });
}

/** The text cut into pieces; the places of a chosen stretch are one piece, whatever they are otherwise. */
export function piecesOf(texts: readonly string[], by: By, stretches: readonly Stretch[] = []): Piece[] {
  const numbers = by === "word" ? wordsOf(texts) : by === "sentence" ? sentencesOf(texts) : texts.map((_, place) => place);
  const keyOf = (place: number) => {
    const chosen = stretches.findIndex(([start, end]) => start <= place && place < end);
    return chosen < 0 ? `${numbers[place]}` : `chosen ${chosen}`;
  };
  const pieces: Piece[] = [];
  texts.forEach((text, place) => {
    const last = pieces.at(-1);
    if (last && keyOf(place) === keyOf(place - 1)) {
      last.end = place + 1;
      last.text += text;
    } else pieces.push({ start: place, end: place + 1, text });
  });
  return pieces;
}

/** The value of each piece; missing values do not count, and a piece of nothing else is missing. */
export function joined(values: ArrayLike<number>, pieces: readonly Piece[], how: How): Float64Array {
  return Float64Array.from(pieces, ({ start, end }) => {
    const known = [];
    for (let place = start; place < end; place++) {
      const value = values[place] ?? NaN;
      if (!Number.isNaN(value)) known.push(value);
    }
    return known.length ? together(known, how) : NaN;
  });
}

function together(values: readonly number[], how: How): number {
  const sum = values.reduce((total, value) => total + value, 0);
  switch (how) {
    case "sum":
      return sum;
    case "mean":
      return sum / values.length;
    case "absmax":
      return values.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best));
    case "l2":
      return Math.sqrt(values.reduce((total, value) => total + value ** 2, 0));
  }
}

/** With one more stretch; those that it overlaps give way. */
export function withStretch(stretches: readonly Stretch[], [a, b]: Stretch): Stretch[] {
  const added: Stretch = [Math.min(a, b), Math.max(a, b)];
  const apart = stretches.filter(([start, end]) => end <= added[0] || added[1] <= start);
  return [...apart, added].sort((x, y) => x[0] - y[0]);
}

/** Stretches as they stand in an address: `3-7,9-12`, first and last place. */
export function writtenStretches(stretches: readonly Stretch[]): string {
  return stretches.map(([start, end]) => `${start}-${end - 1}`).join(",");
}

/** The stretches of an address; what is no stretch of a text of so many tokens is left out. */
export function readStretches(written: string, length: number): Stretch[] {
  let found: Stretch[] = [];
  for (const each of written.split(",")) {
    const [, first, last] = /^(\d+)-(\d+)$/.exec(each) ?? [];
    if (first === undefined || last === undefined) continue;
    if (Number(first) <= Number(last) && Number(last) < length) found = withStretch(found, [Number(first), Number(last) + 1]);
  }
  return found;
}
