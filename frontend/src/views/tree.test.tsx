/** A graph that is a tree of shares is one to look at: cut off, folded, and walked through with keys. */

import { fireEvent, render, screen, waitFor } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import type { View } from "../api/types";
import type { Network } from "./framing";
import { memorySource } from "./memory";
import { leastAt, treeLayout, treeOf, type Tree } from "./treeLayout";
import { ViewPicture } from "./ViewPicture";

const ARROWS: [string, string, number][] = [
  ["(start)", "D", 0.2],
  ["(start)", "A", 0.5],
  ["A", "A-B", 0.4],
  ["A", "A-C", 0.05],
  ["A-B", "A-B-C", 0.3],
];

function network(arrows: readonly (readonly [string, string, number])[]): Network {
  const nodes = [...new Set(arrows.flatMap(([from, to]) => [from, to]))];
  return {
    kind: "graph",
    nodes,
    names: nodes,
    sources: arrows.map(([from]) => nodes.indexOf(from)),
    targets: arrows.map(([, to]) => nodes.indexOf(to)),
    weights: Float64Array.from(arrows, ([, , weight]) => weight),
    weightName: "share",
    edgeDim: "edge",
  };
}

describe("a tree", () => {
  const panel = network(ARROWS);
  const tree = treeOf(panel) as Tree;
  const labels = (least: number, folded: string[] = []) =>
    treeLayout(tree, least, new Set(folded.map((label) => panel.nodes.indexOf(label)))).map(
      ({ node, row, depth, hidden }) => `${panel.nodes[node]} ${row} ${depth}${hidden ? ` +${hidden}` : ""}`,
    );

  it("has its likeliest way in one row, and a row for each leaf", () => {
    expect(labels(0)).toEqual(["(start) 0 0", "A 0 1", "A-B 0 2", "A-B-C 0 3", "A-C 1 2", "D 2 1"]);
    expect(tree.branches[panel.nodes.indexOf("A-B")]?.own).toBe("B");
  });

  it("loses what is small, and what is folded, and says how much", () => {
    expect(labels(0.25)).toEqual(["(start) 0 0 +1", "A 0 1 +1", "A-B 0 2", "A-B-C 0 3"]);
    expect(labels(0, ["A"])).toEqual(["(start) 0 0", "A 0 1 +2", "D 1 1"]);
  });

  it("is cut off in equal ratios from its smallest share to its largest", () => {
    expect([0, 0.5, 1].map((at) => leastAt(tree, at))).toEqual([0.05, expect.closeTo(Math.sqrt(0.05 * 0.5)), 0.5]);
  });

  it.each([
    ["a branch larger than what it grows from", [["r", "a", 0.2], ["a", "b", 0.4]]],
    ["two ways to a node", [["r", "a", 0.5], ["r", "b", 0.5], ["a", "c", 0.2], ["b", "c", 0.2]]],
    ["a negative share", [["r", "a", 0.5], ["a", "b", -0.2]]],
    ["one level", [["r", "a", 0.5], ["r", "b", 0.5]]],
    ["a circle beside it", [["r", "a", 0.5], ["b", "c", 0.2], ["c", "d", 0.2], ["d", "b", 0.2]]],
    ["parts of a model", [["embed", "z[0]", 0.5], ["z[0]", "z[1]", 0.4]]],
  ] as [string, [string, string, number][]][])("is not what has %s", (_, arrows) => {
    expect(treeOf(network(arrows))).toBeNull();
  });
});

describe("its picture", () => {
  const words = (name: string, data: string[]) => ({
    info: { name, dims: ["edge"], shape: [5], dtype: "string", coordinate: false, attrs: {} },
    data,
  });
  const source = memorySource("tree", { edge: 5 }, [
    words("from", ARROWS.map(([from]) => from)),
    words("to", ARROWS.map(([, to]) => to)),
    {
      info: { name: "w", dims: ["edge"], shape: [5], dtype: "float64", coordinate: false, attrs: { long_name: "share" } },
      data: Float64Array.from(ARROWS, ([, , weight]) => weight),
    },
  ]);
  const view: View = {
    kind: "graph",
    title: "Spelling",
    roles: { source: "from", target: "to", weight: "w" },
    at: {},
    note: "",
    options: {},
  };
  const nodes = () => [...document.querySelectorAll("[data-node]")].map((node) => node.getAttribute("data-node"));

  async function shown() {
    render(<ViewPicture result={source} view={view} />);
    await waitFor(() => expect(nodes().length).toBe(6));
  }

  it("is cut off with a slider", async () => {
    await shown();
    const slider = screen.getByRole("slider", { name: /Cut off below/ });
    fireEvent.change(slider, { target: { value: "70" } });
    expect(slider.getAttribute("aria-valuetext")).toBe("0.251");
    expect(nodes()).toEqual(["(start)", "A", "A-B", "A-B-C"]);
    expect(screen.getByText("3 of 5 branches")).toBeTruthy();
  });

  it("is folded with a click or with Enter, and walked through with arrow keys", async () => {
    await shown();
    const tree = screen.getByRole("application");
    for (const key of ["ArrowDown", "ArrowRight", "ArrowRight"]) fireEvent.keyDown(tree, { key });
    const spoken = () => screen.getAllByRole("status").map((node) => node.textContent);
    expect(spoken()).toContain("A-B; share 0.400; 1 branch");
    fireEvent.keyDown(tree, { key: "ArrowDown" });
    expect(spoken()).toContain("A-C; share 0.0500");
    fireEvent.keyDown(tree, { key: "ArrowLeft" });
    fireEvent.keyDown(tree, { key: "Enter" });
    expect(nodes()).toEqual(["(start)", "A", "D"]);
    fireEvent.click(document.querySelector("[data-node=A]") as Element);
    expect(nodes().length).toBe(6);
    fireEvent.click(screen.getByRole("button", { name: "Fold to first branches" }));
    expect(nodes()).toEqual(["(start)", "A", "D"]);
    fireEvent.click(screen.getByRole("button", { name: "Unfold all" }));
    expect(nodes().length).toBe(6);
  });
});
