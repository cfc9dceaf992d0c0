/** Where cells, words, nodes and lines stand, and which of them are drawn. */

import { describe, expect, it } from "vitest";
import { linesIn } from "./AttentionLines";
import { pathOf, thinned } from "./Curves";
import type { Grid, Network, Strip } from "./framing";
import {
  blockOf,
  cameraOf,
  cellAt,
  farthestIn,
  kept,
  layoutOf,
  showing,
  stepOf,
  visibleCells,
  zoomed,
} from "./gridDrawing";
import { graphLayout, withoutCircles } from "./graphLayout";
import { sliced } from "./memory";
import { ordered, spread, unravelled } from "./nd";
import { indexOf } from "./resolve";
import { before, columnOf, shortName, siteOf, type SiteName } from "./siteNames";
import { cells, cut, roomFor } from "./surroundings";
import { placedWords } from "./Tokens";
import { memorySource } from "./memory";

function grid(height: number, width: number, values = new Float64Array(height * width), words = false): Grid {
  const names = (count: number) => Array.from({ length: count }, (_, i) => (words ? `·w${i}` : String(i)));
  return {
    kind: "heatmap",
    values,
    height,
    width,
    rows: names(height),
    columns: names(width),
    rowName: "y",
    columnName: "x",
    valueName: "v",
    scale: { name: "diverging", low: -1, high: 1 },
    longest: 0,
    wordsOnRows: words,
    wordsOnColumns: words,
    rowDim: "y",
    columnDim: "x",
  };
}

describe("a grid", () => {
  it.each([
    [100, 1000, 720],
    [12, 15, 900],
    [1, 1, 300],
    [3000, 4, 360],
    [1024, 1024, 1200],
  ])("of %i x %i fits into %i pixels", (height, width, room) => {
    const panel = grid(height, width);
    const layout = layoutOf(panel, room, 560);
    expect(layout.left + layout.plotWidth).toBeLessThanOrEqual(room);
    expect(layout.plotHeight).toBeLessThanOrEqual(560);
    const camera = cameraOf(layout);
    expect(visibleCells(camera, panel, layout)).toEqual({ rows: [0, height], columns: [0, width] });
    expect(cellAt(camera, panel, layout, camera.cellWidth * width - 0.001, camera.cellHeight * height - 0.001)).toEqual({
      row: height - 1,
      column: width - 1,
    });
    expect(cellAt(camera, panel, layout, -1, 5)).toBeNull();
  });

  it("is square where words stand on both sides", () => {
    const layout = layoutOf(grid(40, 40, undefined, true), 900, 560);
    expect(layout.cellWidth).toBe(layout.cellHeight);
    expect(layout.turned).toBe(true);
  });

  it("is zoomed about the pointer, never out of the picture", () => {
    const panel = grid(100, 1000);
    const layout = layoutOf(panel, 1000, 560);
    const start = cameraOf(layout);
    const at = cellAt(start, panel, layout, 400, 200);
    const near = zoomed(start, panel, layout, 8, 400, 200);
    expect(cellAt(near, panel, layout, 400, 200)).toEqual(at);
    expect(near.cellWidth).toBeCloseTo(start.cellWidth * 8);
    const back = zoomed(near, panel, layout, 1 / 1000, 3, 3);
    expect(back).toEqual(start);
    const far = kept({ ...near, x: -1e9, y: 1e9 }, panel, layout);
    expect(visibleCells(far, panel, layout).columns[1]).toBe(1000);
    expect(visibleCells(far, panel, layout).rows[0]).toBe(0);
  });

  it("is moved as little as it must to show a cell", () => {
    const panel = grid(100, 1000);
    const layout = layoutOf(panel, 1000, 560);
    const near = zoomed(cameraOf(layout), panel, layout, 20, 0, 0);
    for (const cell of [
      { row: 99, column: 999 },
      { row: 0, column: 500 },
      { row: 50, column: 0 },
    ]) {
      const { rows, columns } = visibleCells(showing(near, panel, layout, cell), panel, layout);
      expect(cell.row >= rows[0] && cell.row < rows[1] && cell.column >= columns[0] && cell.column < columns[1]).toBe(true);
    }
    expect(showing(near, panel, layout, { row: 0, column: 0 })).toEqual(near);
  });

  it("keeps its peaks where cells are smaller than a pixel", () => {
    expect([2, 1, 0.9, 0.5, 0.3, 0.01].map(blockOf)).toEqual([1, 1, 2, 2, 4, 128]);
    const panel = grid(2, 4, Float64Array.of(0, 0.5, NaN, NaN, 0.1, -2, NaN, NaN));
    expect(farthestIn(panel, 0, 0, 2, 2)).toBe(-2);
    expect(farthestIn(panel, 0, 2, 2, 2)).toBeNaN();
    expect(farthestIn(panel, 0, 0, 8, 8)).toBe(-2);
  });

  it("counts numbers in round steps", () => {
    expect([0.3, 1, 1.1, 3, 7, 23, 130].map((least) => stepOf(least, false))).toEqual([1, 1, 2, 5, 10, 50, 200]);
    expect(stepOf(7.2, true)).toBe(8);
  });
});

describe("lines of attention", () => {
  const values = new Float64Array(50 * 50).map((_, i) => ((i * 7919) % 50) / 50);
  it("are those in sight, the strongest last, and never too many", () => {
    const all = linesIn(grid(50, 50, values), 0, 50, null, 1);
    expect(all.length).toBeGreaterThan(2000);
    expect(all.every((line, i) => i === 0 || line.value >= (all[i - 1]?.value ?? 0))).toBe(true);
    const some = linesIn(grid(50, 50, values), 10, 12, null, 1);
    expect(some.every(({ row, column }) => [10, 11].includes(row) || [10, 11].includes(column))).toBe(true);
    expect(linesIn(grid(200, 200, new Float64Array(40_000).fill(1)), 0, 200, null, 1).length).toBe(3000);
  });
  it("are those of the token pointed at, even weak ones", () => {
    const found = linesIn(grid(50, 50, values), 0, 50, { side: "key", index: 3 }, 1);
    expect(found.every(({ column }) => column === 3)).toBe(true);
    expect(found.length).toBe(values.filter((value, i) => i % 50 === 3 && value >= 0.004).length);
  });
});

describe("curves", () => {
  it("keep the lowest and the highest of every block", () => {
    const y = new Float64Array(100_000).map((_, i) => Math.sin(i / 50));
    y[77_777] = 9;
    y[33_333] = -9;
    const order = Array.from({ length: y.length }, (_, i) => i);
    const some = thinned(order, y);
    expect(some.length).toBeLessThanOrEqual(1500);
    expect(some).toContain(77_777);
    expect(some).toContain(33_333);
  });
  it("break where values are missing", () => {
    const axes = { x: [0, 3], y: [0, 1], left: 0, top: 0, width: 30, height: 10 } as const;
    expect(pathOf(axes, Float64Array.of(0, 1, 2, 3), Float64Array.of(0, NaN, 1, 0), [0, 1, 2, 3])).toBe(
      "M0.00 10.00M20.00 0.00L30.00 10.00",
    );
  });
});

describe("words in lines", () => {
  it("follow each other without covering each other", () => {
    const words = Array.from({ length: 500 }, (_, i) => "·word".repeat(1 + (i % 4)));
    const strip: Strip = {
      kind: "tokens",
      words,
      values: new Float64Array(500).fill(0.25),
      scale: { name: "sequential", low: 0, high: 1 },
      valueName: "v",
      dim: "position",
    };
    const placed = placedWords(strip, 400, false);
    for (const [i, word] of placed.entries()) {
      expect(word.x + word.width).toBeLessThanOrEqual(400.001);
      const last = placed[i - 1];
      if (last) expect(word.line > last.line ? word.x : word.x - last.x - last.width).toBeGreaterThanOrEqual(0);
    }
  });
  it("have room for wide letters, and are cut where they have not", () => {
    expect(cells("日本a")).toBe(5);
    expect(roomFor("日", 10, true)).toBe(roomFor("aa", 10, true));
    expect(cut("abcdefgh", 10, 31, true)).toBe("abcd…");
    expect(cut("ab", 10, 31, true)).toBe("ab");
  });
});

describe("sites as names of nodes", () => {
  it("are read", () => {
    expect(siteOf("z[9].head[6]@-1")).toEqual({
      stack: "",
      kind: "z",
      layer: 9,
      head: 6,
      unit: null,
      expert: null,
      position: -1,
    });
    expect(siteOf("encoder.mlp_act[3].unit[512]@subject")).toMatchObject({ stack: "encoder", unit: 512, position: "subject" });
    expect(siteOf("embed")).toMatchObject({ kind: "embed", layer: null });
    for (const none of ["a9.h9", "z", "z[*]", "embed[3]", "q[1:3]", "", "Mary", "logits[2]"]) expect(siteOf(none)).toBeNull();
  });
  it("stand in the order of computation", () => {
    const names = ["logits", "mlp_out[2]", "z[2].head[1]", "embed@1", "resid_pre[10]", "z[9]"];
    const sorted = names.map((name) => siteOf(name)!).sort(before);
    expect(sorted.map(columnOf)).toEqual(["embed", "layer 2", "layer 2", "layer 9", "layer 10", "logits"]);
    expect(sorted[1]?.kind).toBe("z");
  });
});

it("a part of a layer is named shortly below its layer", () => {
  const short = (name: string) => shortName(siteOf(name) as SiteName);
  const names = ["z[9].head[6]", "mlp_contrib[3]", "q[1].head[2]@-1", "mlp_act[3].unit[512]", "z[4]", "embed", "logits@end"];
  expect(names.map(short)).toEqual(["head 6", "mlp", "q head 2@-1", "mlp_act unit 512", "z", "embed", "logits@end"]);
});

describe("a graph", () => {
  const network = (names: string[], edges: [number, number, number][]): Network => ({
    kind: "graph",
    nodes: names,
    names,
    sources: edges.map(([source]) => source),
    targets: edges.map(([, target]) => target),
    weights: Float64Array.from(edges, ([, , weight]) => weight),
    weightName: "w",
  });
  it("of other names points forwards, circles or not", () => {
    const { nodes, edges } = graphLayout(network(["a", "b", "c", "d"], [[0, 1, 1], [1, 2, 1], [2, 0, 1], [0, 3, 1]]), 10);
    expect(nodes.map(({ column }) => column)).toEqual([0, 1, 2, 1]);
    expect(edges.length).toBe(4);
    expect(withoutCircles(4, edges).length).toBe(3);
  });
  it("passes arrows beside the nodes between", () => {
    const { edges, order } = graphLayout(network(["a", "b", "c"], [[0, 1, 1], [1, 2, 1], [0, 2, 1]]), 10);
    expect(edges.find(({ source, target }) => source === 0 && target === 2)?.stops.length).toBe(1);
    expect(order.map((column) => column.length)).toEqual([1, 2, 1]);
  });
  it("shows the strongest arrows and only their nodes", () => {
    const { nodes, kept: count } = graphLayout(network(["a", "b", "c"], [[0, 1, -5], [1, 2, 1]]), 1);
    expect(nodes.map(({ label }) => label)).toEqual(["a", "b"]);
    expect(count).toBe(1);
  });
});

describe("arrays", () => {
  const array = { name: "v", dims: ["a", "b", "c"], shape: [2, 3, 4], dtype: "float64", data: Float64Array.from({ length: 24 }, (_, i) => i) };
  const at = (a: number, b: number, c: number) => a * 12 + b * 4 + c;
  it("are turned", () => {
    const turned = ordered(array, array.data, ["c", "a", "b"]);
    for (let a = 0; a < 2; a++) for (let b = 0; b < 3; b++) for (let c = 0; c < 4; c++) expect(turned[c * 6 + a * 3 + b]).toBe(at(a, b, c));
    expect(ordered(array, array.data, ["a", "b", "c"])).toBe(array.data);
  });
  it("are sliced", () => {
    const part = sliced(array, { a: 1, c: [1, 9, 2] });
    expect([part.dims, part.shape, Array.from(part.data as Float64Array)]).toEqual([["b", "c"], [3, 2], [13, 15, 17, 19, 21, 23]]);
    expect(sliced(array, {}).data).toBe(array.data);
    expect(sliced(array, { a: 0, b: 0, c: 3 })).toMatchObject({ dims: [], shape: [], data: Float64Array.of(3) });
  });
  it("are spread, and their elements found again", () => {
    const b = { name: "w", dims: ["b"], shape: [3], dtype: "string", data: ["x", "y", "z"] };
    expect(spread<string>(b, ["b", "c"], [3, 2])).toEqual(["x", "x", "y", "y", "z", "z"]);
    expect(unravelled(17, ["a", "b", "c"], [2, 3, 4])).toEqual({ a: 1, b: 1, c: 1 });
  });
  it("are stood at by label, by value and by index", async () => {
    const info = (name: string, dtype: string) => ({ name, dims: ["layer"], shape: [3], dtype, coordinate: true, attrs: {} });
    const labelled = memorySource("l", { layer: 3, head: 4 }, [
      { info: info("layer", "int64"), data: Int32Array.of(4, 8, 12) },
      { info: info("name", "string"), data: ["one", "two", "three"] },
    ]);
    expect(await indexOf(labelled, "layer", 8)).toBe(1);
    expect(await indexOf(labelled, "layer", -1)).toBe(2);
    expect(await indexOf(labelled, "layer", "three")).toBe(2);
    expect(await indexOf(labelled, "head", 3)).toBe(3);
    await expect(indexOf(labelled, "layer", 1)).rejects.toThrow("stands at layer 1, which layer does not have");
    await expect(indexOf(labelled, "layer", "four")).rejects.toThrow("“four”, which layer does not have");
    await expect(indexOf(labelled, "head", 4)).rejects.toThrow("indices 0 to 3");
  });
});
