import { describe, expect, it } from "vitest";

import type { NumberData } from "../api/arrays";
import type { ResultSource } from "../api/source";
import type { View } from "../api/types";
import { differenceSource, differenceView, labelsDiffer, sameView, whyNoDifference } from "./difference";

function source(id: string, effect: number[], tokens: string[]): ResultSource {
  return {
    id,
    dims: { position: effect.length },
    arrays: [
      { name: "effect", dims: ["position"], shape: [effect.length], dtype: "float32", coordinate: false, attrs: {} },
      { name: "token", dims: ["position"], shape: [tokens.length], dtype: "string", coordinate: false, attrs: {} },
      { name: "position", dims: ["position"], shape: [effect.length], dtype: "int64", coordinate: true, attrs: {} },
    ],
    slice: (name) =>
      Promise.resolve({
        name,
        dims: ["position"],
        shape: [effect.length],
        dtype: name === "token" ? "string" : "float32",
        data: name === "token" ? tokens : Float32Array.from(name === "effect" ? effect : effect.map((_, i) => i)),
      }),
  };
}

const view: View = {
  kind: "bars",
  title: "Effect",
  roles: { value: "effect", label: "token", low: "low", high: "high" },
  at: {},
  note: "",
  options: {},
};

describe("the difference of two results", () => {
  const a = source("a", [3, 1, NaN], ["x", "y", "z"]);
  const b = source("b", [1, 4, 2], ["p", "q", "r"]);

  it("subtracts variables, and leaves words and coordinates as they are", async () => {
    const difference = differenceSource(a, b);
    expect(Array.from((await difference.slice("effect")).data as NumberData)).toEqual([2, -3, NaN]);
    expect((await difference.slice("token")).data).toEqual(["x", "y", "z"]);
    expect(Array.from((await difference.slice("position")).data as NumberData)).toEqual([0, 1, 2]);
  });

  it("is centred on zero and has no intervals", () => {
    const shown = differenceView(view);
    expect(shown.options["scale"]).toBe("diverging");
    expect(Object.keys(shown.roles)).toEqual(["value", "label"]);
  });

  it("says why there is none", () => {
    expect(whyNoDifference(a, b, view)).toBe("");
    expect(whyNoDifference(a, source("c", [1], ["x"]), view)).toBe("position is 3 long in A and 1 in B.");
    expect(whyNoDifference(a, b, { ...view, kind: "table" })).toContain("has no difference");
    expect(whyNoDifference(a, b, { ...view, roles: { value: "other" } })).toContain("an array named other");
  });

  it("says when the words beside the numbers differ", async () => {
    expect(await labelsDiffer(a, b, view, {})).toBe(true);
    expect(await labelsDiffer(a, source("c", [0, 0, 0], ["x", "y", "z"]), view, {})).toBe(false);
  });

  it("finds the same picture: by its title, then by its parts", () => {
    const other = { ...view, title: "Another" };
    expect(sameView(view, [other, view])).toBe(1);
    expect(sameView(view, [other])).toBe(0);
    expect(sameView(view, [{ ...view, kind: "heatmap" }])).toBe(-1);
  });
});
