import { describe, expect, it } from "vitest";

import type { NdArray } from "../api/arrays";
import type { ResultSource } from "../api/source";
import { pieces } from "./Linked";
import { ablationSite, nameOf, partChosen, partOf, pathOf } from "./sites";

describe("parts of a model", () => {
  it.each([
    ["z[23].head[3]", { kind: "head", layer: 23, head: 3 }, "z[23].head[3]"],
    ["z[23].head[3]@5", { kind: "head", layer: 23, head: 3, position: 5 }, "z[23].head[3]"],
    ["head 23.3", { kind: "head", layer: 23, head: 3 }, "z[23].head[3]"],
    ["mlp 28", { kind: "mlp", layer: 28 }, "mlp_out[28]"],
    ["mlp_act[4].unit[12]", { kind: "mlp", layer: 4 }, "mlp_out[4]"],
    ["resid_pre[16]@9", { kind: "stream", layer: 16, position: 9 }, null],
  ])("%s", (text, part, site) => {
    const found = partOf(text)!;
    expect(found).toMatchObject(part);
    expect(ablationSite(found)).toBe(site);
  });

  it("are not found in other words", () => {
    for (const text of ["embed", "other", "", "head", "z[x]"]) expect(partOf(text)).toBeNull();
  });

  it("have a name and a page", () => {
    const head = partOf("head 23.3")!;
    expect(nameOf(head)).toBe("head 3 of layer 23");
    expect(pathOf(head, { model: "m", text: "a b" })).toBe("/attention?model=m&text=a+b&layers=23&heads=3");
    expect(pathOf(partOf("mlp 28")!, { model: "m", text: "a" })).toBe("/model?model=m&layer=28&prompt=a");
  });
});

describe("a sentence", () => {
  it("is cut where it names parts, and loses no character", () => {
    const text = "The parts (head 23.3, mlp 28) and heads 29.1, 20.0 live in resid_pre[16]@9, layer 7.";
    const found = pieces(text);
    expect(found.map((piece) => piece.text).join("")).toBe(text);
    expect(found.filter((piece) => piece.part).map((piece) => piece.text)).toEqual([
      "head 23.3",
      "mlp 28",
      "29.1",
      "20.0",
      "resid_pre[16]@9",
      "layer 7",
    ]);
  });

  it("without parts stays whole", () => {
    expect(pieces("Nothing here, 23.3 %.")).toEqual([{ text: "Nothing here, 23.3 %.", part: null }]);
  });
});

describe("what was chosen in a picture", () => {
  const array = (name: string, data: string[] | number[]): NdArray => ({
    name,
    dims: [],
    shape: [],
    dtype: typeof data[0] === "string" ? "string" : "int32",
    data: typeof data[0] === "string" ? (data as string[]) : Int32Array.from(data as number[]),
  });
  const values: Record<string, (string | number)[]> = { layer: [10, 11, 12], cell: ["z[3].head[1]", "mlp_out[4]"] };
  const source: ResultSource = {
    id: "x",
    dims: { layer: 3, head: 4, cell: 2 },
    arrays: [
      { name: "layer", dims: ["layer"], shape: [3], dtype: "int64", coordinate: true, attrs: {} },
      { name: "cell", dims: ["cell"], shape: [2], dtype: "string", coordinate: true, attrs: {} },
    ],
    slice: (name, selection) =>
      Promise.resolve(array(name, [values[name]![selection![name] as number]] as string[] | number[])),
  };

  it("is a layer by the value of its coordinate, and a head by its index", async () => {
    expect(await partChosen(source, { layer: 2, head: 3 })).toMatchObject({ kind: "head", layer: 12, head: 3 });
  });

  it("is the site that the label says", async () => {
    expect(await partChosen(source, { cell: 0 })).toMatchObject({ kind: "head", layer: 3, head: 1 });
    expect(await partChosen(source, { cell: 1 })).toMatchObject({ kind: "mlp", layer: 4 });
  });

  it("may be nothing that has a page", async () => {
    expect(await partChosen(source, { prompt: 0 })).toBeNull();
  });
});
