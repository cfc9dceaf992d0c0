/** Words, sentences and stretches get what `aggregated` in Python gives them (tests/web/test_pieces.py writes the cases). */

import { describe, expect, it } from "vitest";

import written from "./fixtures/pieces.json";
import { joined, piecesOf, readStretches, withStretch, writtenStretches, type By, type How, type Stretch } from "./pieces";

const numberOf = (value: number | null) => value ?? NaN;

describe("pieces", () => {
  for (const { tokens, values, joins } of written)
    for (const { by, how, spans, ...wanted } of joins)
      it(`${tokens.join("").slice(0, 12)} by ${by}, ${how}${spans.length ? ", with stretches" : ""}`, () => {
        const pieces = piecesOf(tokens, by as By, spans as unknown as Stretch[]);
        expect(pieces.map(({ text }) => text)).toEqual(wanted.texts);
        const found = Array.from(joined(values.map(numberOf), pieces, how as How));
        expect(found.map((value) => (Number.isNaN(value) ? null : Number(value.toFixed(5))))).toEqual(
          wanted.values.map((value) => (value === null ? null : Number(value.toFixed(5)))),
        );
      });

  it("are cut where a stretch begins, and every token is in one of them", () => {
    const pieces = piecesOf(["un", "believ", "able", " cat"], "word", [[1, 2]]);
    expect(pieces.map(({ text }) => text)).toEqual(["un", "believ", "able", " cat"]);
    const beside = piecesOf(["a", "b", "c", "d"], "token", [
      [0, 2],
      [2, 4],
    ]);
    expect(beside.map(({ text }) => text)).toEqual(["ab", "cd"]);
  });
});

describe("stretches", () => {
  it("survive an address", () => {
    const all: Stretch[] = [
      [1, 3],
      [7, 8],
    ];
    expect(writtenStretches(all)).toBe("1-2,7-7");
    expect(readStretches("1-2,7-7", 9)).toEqual(all);
  });

  it("that no text has are left out, and later ones take the place of those that they overlap", () => {
    expect(readStretches("5-2,x,3-99,,-1-2,1-4,4-6", 10)).toEqual([[4, 7]]);
    expect(withStretch([[1, 3], [5, 8]], [4, 2])).toEqual([
      [2, 4],
      [5, 8],
    ]);
  });
});
