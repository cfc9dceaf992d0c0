/** A graph of parts at positions: rows are layers, columns positions, and what attention moves has no weight. */

import { fireEvent, render, screen, waitFor } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import type { Network } from "./framing";
import { Graph } from "./Graph";
import { memorySource } from "./memory";
import { positionLayout, sitesAtPositions } from "./positionLayout";
import type { SiteName } from "./siteNames";
import { ViewPicture } from "./ViewPicture";

type Arrow = readonly [source: string, target: string, weight: number];

const ARROWS: readonly Arrow[] = [
  ["embed@s1", "v[0].head[0]@s1", 1],
  ["embed@s1", "mlp_contrib[0]@s1", -0.5],
  ["v[0].head[0]@s1", "z[0].head[1]@end", NaN],
  ["v[0].head[0]@s1", "z[0].head[0]@end", NaN],
  ["z[0].head[1]@end", "logits@end", 2],
  ["z[0].head[0]@end", "logits@end", 0.25],
];

function network(arrows: readonly Arrow[] = ARROWS, positions: string[] | undefined = ["s1", "s2", "end"]): Network {
  const names = [...new Set(arrows.flatMap(([source, target]) => [source, target]))];
  return {
    kind: "graph",
    nodes: names,
    names,
    sources: arrows.map(([source]) => names.indexOf(source)),
    targets: arrows.map(([, target]) => names.indexOf(target)),
    weights: Float64Array.from(arrows, ([, , weight]) => weight),
    weightName: "score",
    edgeDim: "arrow",
    positions,
    headings: positions?.map((name) => `the ${name}`),
  };
}

function laidOut(panel: Network, most = 100, folded: readonly string[] = []) {
  return positionLayout(panel, sitesAtPositions(panel) as SiteName[], most, new Set(folded));
}

describe("nodes at positions", () => {
  it("stand in the row of their layer and the column of their position", () => {
    const { nodes, rows, headings } = laidOut(network());
    const place = Object.fromEntries(nodes.map(({ label, row, column, short }) => [label, [row, column, short]]));
    expect(place).toEqual({
      "embed@s1": [0, 0, "embed"],
      "v[0].head[0]@s1": [1, 0, "v 0"],
      "z[0].head[1]@end": [2, 2, "head 1"],
      "z[0].head[0]@end": [2, 2, "head 0"],
      "mlp_contrib[0]@s1": [3, 0, "mlp"],
      "logits@end": [4, 2, "logits"],
    });
    expect(rows).toEqual(["embed", "layer 0", "layer 0", "layer 0", "logits"]);
    expect(headings).toEqual(["the s1", "the s2", "the end"]);
  });

  it("are told from other graphs", () => {
    expect(sitesAtPositions(network(ARROWS, []))).toBeNull();
    expect(sitesAtPositions({ ...network(), positions: undefined })).toBeNull();
    expect(sitesAtPositions(network([...ARROWS, ["a", "b", 1]]))).toBeNull();
    expect(sitesAtPositions(network([...ARROWS, ["embed@s9", "logits@end", 1]]))).toBeNull();
    expect(sitesAtPositions(network([...ARROWS, ["embed", "logits@end", 1]]))).toBeNull();
  });

  it("have arrows, and attention where both its ends are shown", () => {
    const { edges, moves, count, kept } = laidOut(network());
    expect([edges.length, moves.length, count, kept]).toEqual([4, 2, 4, 4]);
    const few = laidOut(network(), 2);
    expect(few.edges.map(({ weight }) => weight)).toEqual([2, 1]);
    expect([few.kept, few.moves.length]).toEqual([2, 1]); // head 0 is gone, and with it what leads to it
    expect(laidOut(network(), 1).moves.length).toBe(0);
  });

  it("of a folded layer are one at each position, with attention between them", () => {
    const { nodes, edges, moves, rows } = laidOut(network(), 100, ["layer 0"]);
    expect(rows).toEqual(["embed", "layer 0", "logits"]);
    expect(nodes.map(({ label }) => label).sort()).toEqual(["embed@s1", "layer 0 at end (2)", "layer 0 at s1 (2)", "logits@end"]);
    expect(edges.map(({ weight, members }) => [weight, members.length]).sort()).toEqual([
      [0.5, 2],
      [2.25, 2],
    ]);
    expect(moves.length).toBe(1);
  });
});

describe("the picture", () => {
  const drawn = { title: "circuit", theme: "light" as const };

  it("goes up, from left to right, with its positions above", () => {
    const { container } = render(<Graph panel={network()} {...drawn} />);
    const said = [...container.querySelectorAll("svg text")].map((node) => node.textContent);
    expect(said.slice(0, 3)).toEqual(["the s1", "the s2", "the end"]);
    const box = (word: string) => {
      const text = [...container.querySelectorAll("svg text")].find((node) => node.textContent === word) as Element;
      return [Number(text.getAttribute("x")), Number(text.getAttribute("y"))] as const;
    };
    const rises = ["embed", "v 0", "head 0", "mlp", "logits"].map((word) => box(word)[1]);
    const lastLogits = [...container.querySelectorAll("svg g:not([role]) text")].find((node) => node.textContent === "logits") as Element;
    expect(rises.slice(0, 4)).toEqual([...rises.slice(0, 4)].sort((a, b) => b - a));
    expect(Number(lastLogits.getAttribute("y"))).toBeLessThan(rises[3] as number);
    expect(box("head 0")[0]).toBeLessThan(box("head 1")[0]);
    expect(box("v 0")[0]).toBeLessThan(box("head 0")[0]);
    expect(container.querySelectorAll("[data-attention]").length).toBe(2);
    expect(container.querySelectorAll("[data-attention] title")[0]?.textContent).toBe("attention: v[0].head[0]@s1 → z[0].head[1]@end");
  });

  it("is filtered by score, folded by layer, and gives an arrow that is clicked to the page", async () => {
    const chosen: Readonly<Record<string, number>>[] = [];
    const source = memorySource("circuit", { arrow: 6, column: 3 }, [
      { info: info("from", ["arrow"], 6), data: ARROWS.map(([name]) => name) },
      { info: info("to", ["arrow"], 6), data: ARROWS.map(([, name]) => name) },
      { info: { ...info("w", ["arrow"], 6), dtype: "float64" }, data: Float64Array.from(ARROWS, ([, , weight]) => weight) },
      { info: info("place", ["column"], 3), data: ["s1", "s2", "end"] },
    ]);
    const roles = { source: "from", target: "to", weight: "w", position: "place", heading: "place" };
    const view = { kind: "graph" as const, title: "circuit", roles, at: {}, note: "", options: {} };
    const { container } = render(<ViewPicture result={source} view={view} onSelect={(one) => chosen.push(one)} />);
    await waitFor(() => expect(container.querySelectorAll("[data-arrow]").length).toBe(4));
    fireEvent.click(container.querySelector('[data-arrow="4"]') as Element);
    expect(chosen).toEqual([{ arrow: 4 }]);
    fireEvent.change(screen.getByLabelText(/^Strongest arrows/), { target: { value: "2" } });
    expect(container.querySelectorAll("[data-arrow]").length).toBe(2);
    expect(screen.getByText(/2 of 4 arrows are drawn: the strongest, from 1\.00 up/)).toBeTruthy();
    fireEvent.change(screen.getByLabelText(/^Strongest arrows/), { target: { value: "4" } });
    fireEvent.click(screen.getByRole("button", { name: "Fold layer 0" }));
    expect(screen.getAllByText("2 parts").length).toBe(2);
    const level = container.querySelectorAll("[data-attention]");
    expect(level.length).toBe(1);
    const [start, end] = (level[0]?.getAttribute("d") ?? "").split("L").map((at) => at.split(" ")[1]);
    expect(start).toBe(end); // from side to side
    fireEvent.click(screen.getByRole("button", { name: "Unfold all layers" }));
    expect(container.querySelectorAll("[data-arrow]").length).toBe(4);
  });

  it("leaves out empty columns where there are many", () => {
    const many = Array.from({ length: 20 }, (_, i) => String(i));
    const { container } = render(<Graph panel={network([["embed@3", "mlp_contrib[0]@3", 1], ["embed@9", "logits@9", 1]], many)} {...drawn} />);
    const said = [...container.querySelectorAll("svg text.cv-mono")].map((node) => node.textContent);
    expect(said.slice(0, 3)).toEqual(["the 3", "the 9", "embed"]);
  });

  it("is walked by keys: up the layers and along the positions", () => {
    const { container } = render(<Graph panel={network()} {...drawn} />);
    const svg = screen.getByRole("application");
    const spoken = () => container.querySelector("[aria-live]")?.textContent ?? "";
    fireEvent.keyDown(svg, { key: "ArrowUp" });
    expect(spoken()).toMatch(/^embed@s1; embed@s1 → v\[0\]\.head\[0\]@s1: score \+1\.00/);
    fireEvent.keyDown(svg, { key: "ArrowUp" });
    expect(spoken()).toMatch(/^v\[0\]\.head\[0\]@s1/);
    fireEvent.keyDown(svg, { key: "ArrowRight" });
    expect(spoken()).toMatch(/^z\[0\]\.head\[0\]@end/);
    fireEvent.keyDown(svg, { key: "Escape" });
    expect(container.querySelector(".cv-hint")).toBeNull();
  });
});

function info(name: string, dims: string[], size: number) {
  return { name, dims, shape: [size], dtype: "string", attrs: {}, coordinate: false };
}
