import { describe, expect, it } from "vitest";

import { headColour } from "./colours";
import { filterOf, listOf, listText, products, rangesOf, thumbnail, topKeys, type Pattern } from "./data";

describe("pairs of texts", () => {
  it("the four filters together are the whole, each pair once", () => {
    const seen = new Map<string, number>();
    for (const filter of ["aa", "ab", "ba", "bb"] as const) {
      const { queries, keys } = rangesOf(filter, 7, 3);
      for (let q = queries[0]; q < queries[1]; q++)
        for (let k = keys[0]; k < keys[1]; k++) seen.set(`${q},${k}`, (seen.get(`${q},${k}`) ?? 0) + 1);
    }
    expect(seen.size).toBe(49);
    expect(new Set(seen.values())).toEqual(new Set([1]));
  });

  it("with one text there is nothing to filter", () => {
    expect(rangesOf("ab", 7, null)).toEqual({ queries: [0, 7], keys: [0, 7] });
    expect(filterOf("nonsense")).toBe("all");
  });
});

describe("lists of layers and heads", () => {
  it.each([
    ["0-2,5", [0, 1, 2, 5]],
    ["7", [7]],
    ["6-99", [6, 7]],
    ["x,3", [3]],
    [null, [0, 1, 2, 3, 4, 5, 6, 7]],
  ])("%s", (text, numbers) => {
    expect(listOf(text, 8)).toEqual(numbers);
  });

  it("are written as they are read", () => {
    for (const numbers of [[0], [0, 1, 2, 5], [1, 3, 5], [6, 7]]) expect(listOf(listText(numbers, 8), 8)).toEqual(numbers);
    expect(listText([0, 1, 2], 3)).toBeNull();
  });
});

describe("patterns", () => {
  const pattern: Pattern = { head: 0, size: 3, values: Float32Array.from([1, 0, 0, 0.25, 0.75, 0, 0.5, 0.2, 0.3]) };

  it("name the keys that a query looks at most", () => {
    expect(topKeys(pattern, 2, [0, 3], 2).map(({ key }) => key)).toEqual([0, 2]);
    expect(topKeys(pattern, 2, [1, 3], 5).map(({ key }) => key)).toEqual([2, 1]);
    expect(topKeys(pattern, 0, [1, 3], 5)).toEqual([]);
  });

  it("thumbnails are bytes", () => {
    expect([...thumbnail(btoa("\u0000\u007f\u00ff"))]).toEqual([0, 127, 255]);
  });

  it("query times key is the sum of the products, scaled", () => {
    const q = Float32Array.from([9, 9, 1, 2]);
    const k = Float32Array.from([3, 4, 5, 6]);
    expect(products(q, k, 2, 1, 0.5, 0)).toEqual({ dot: 11, scaled: 5.5 });
  });
});

it("up to 64 heads have colours of their own", () => {
  const colours = Array.from({ length: 64 }, (_, head) => headColour(head, 64, "light"));
  expect(new Set(colours).size).toBe(64);
});
