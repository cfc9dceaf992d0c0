/** Every kind of picture as a reader meets it: what it says, where the keyboard leads, what it tells other pictures. */

import { act, fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { useState } from "react";
import { describe, expect, it, vi } from "vitest";
import type { NdArray, Selection } from "../api/arrays";
import type { ResultSource } from "../api/source";
import type { View } from "../api/types";
import { example, sourceOf, written } from "./fixtures/results";
import { memorySource } from "./memory";
import type { Hover } from "./types";
import { ViewPicture } from "./ViewPicture";

const { source, viewOf, result } = example();

async function shown(kind: string, nth = 0, more: Partial<Parameters<typeof ViewPicture>[0]> = {}) {
  const hovers: Hover[] = [];
  const made = render(<ViewPicture result={source} view={viewOf(kind, nth)} onHover={(hover) => hovers.push(hover)} {...more} />);
  await waitFor(() => expect(made.container.querySelector(".cv")?.getAttribute("aria-busy")).toBe("false"));
  return { ...made, hovers };
}

const spoken = () => screen.getAllByRole("status").map((node) => node.textContent).join("");

describe("every kind", () => {
  const kinds = result.framed.map(({ view }, index) => ({ view, index, name: `${view.kind}: ${view.title}` }));
  it.each(kinds)("$name is drawn without a complaint", async ({ view }) => {
    const complaints = vi.spyOn(console, "error");
    render(<ViewPicture result={source} view={view} />);
    await waitFor(() => expect(document.querySelector(".cv-picture")).not.toBeNull());
    expect(screen.queryByRole("alert")).toBeNull();
    expect(complaints).not.toHaveBeenCalled();
    if (view.note) expect(screen.getByText(view.note)).toBeTruthy();
  });

  const empty = written().results.filter((each) => each.dims["x"] === 0);
  it.each(empty.map((each) => ({ each, name: each.framed[0]?.view.kind })))("an empty $name says so", async ({ each }) => {
    render(<ViewPicture result={sourceOf(each)} view={each.framed[0]?.view as View} />);
    expect(await screen.findByText(/^There are no /)).toBeTruthy();
    expect(screen.queryByRole("application")).toBeNull();
  });
  it("is tried empty", () => expect(empty.length).toBe(10));

  it.each(written().results.map((each) => ({ each, name: `${each.framed[0]?.view.kind} ${each.id}` })))(
    "$name of awkward numbers is drawn",
    async ({ each }) => {
      for (const { view } of each.framed) {
        const { unmount, container } = render(<ViewPicture result={sourceOf(each)} view={view} />);
        await waitFor(() => expect(container.querySelector(".cv")?.getAttribute("aria-busy")).toBe("false"));
        expect(screen.queryByRole("alert"), view.kind).toBeNull();
        expect(container.innerHTML).not.toMatch(/NaN|Infinity|undefined/);
        unmount();
      }
    },
  );
});

describe("heat map", () => {
  it("is read cell by cell with the arrow keys", async () => {
    const { hovers } = await shown("heatmap");
    const grid = screen.getByRole("application");
    expect(grid.getAttribute("aria-label")).toContain("12 rows (layer) by 15 columns (token)");
    fireEvent.keyDown(grid, { key: "ArrowDown" });
    fireEvent.keyDown(grid, { key: "ArrowDown" });
    fireEvent.keyDown(grid, { key: "ArrowRight" });
    const probability = (result.values["probability"] as number[])[15 + 1] as number;
    expect(spoken()).toContain(`layer 1, token When, probability ${probability.toFixed(3)}`);
    expect(hovers.at(-1)).toEqual({ layer: 1, position: 1 });
    fireEvent.keyDown(grid, { key: "End", ctrlKey: true });
    expect(hovers.at(-1)).toEqual({ layer: 11, position: 14 });
    fireEvent.keyDown(grid, { key: "Escape" });
    expect(hovers.at(-1)).toBeNull();
  });

  it("says the words of a cell first, and a missing value by name", async () => {
    await shown("heatmap");
    fireEvent.keyDown(screen.getByRole("application"), { key: "ArrowDown" });
    expect(spoken()).toMatch(/^<\|im_start\|>, layer 0/);
    const missing = written().results.find((each) => each.framed[0]?.view.kind === "heatmap" && each.values["vv"]?.[0] === "NaN");
    document.body.innerHTML = "";
    render(<ViewPicture result={sourceOf(missing!)} view={missing!.framed[0]!.view} />);
    fireEvent.keyDown(await screen.findByRole("application"), { key: "ArrowDown" });
    expect(spoken()).toContain("vv missing");
    expect(screen.getByText("missing")).toBeTruthy(); // in the legend
  });

  it("tells what was chosen with Enter", async () => {
    const onSelect = vi.fn();
    await shown("heatmap", 0, { onSelect });
    const grid = screen.getByRole("application");
    fireEvent.keyDown(grid, { key: "ArrowDown" });
    fireEvent.keyDown(grid, { key: "Enter" });
    expect(onSelect).toHaveBeenCalledWith({ layer: 0, position: 0 });
  });
});

describe("tokens", () => {
  it("keeps to the lines in sight, however long the list", async () => {
    const n = 20_000;
    const words = Array.from({ length: n }, (_, i) => ` word${i}`);
    const long = memorySource("long", { position: n }, [
      { info: info("value", ["position"], [n], "float64"), data: Float64Array.from(words, (_, i) => i) },
      { info: info("token", ["position"], [n], "string"), data: words },
    ]);
    const { container } = render(<ViewPicture result={long} view={view("tokens", { value: "value", token: "token" })} />);
    await waitFor(() => expect(container.querySelectorAll(".cv-word").length).toBeGreaterThan(20));
    expect(container.querySelectorAll(".cv-word").length).toBeLessThan(300);
    const list = screen.getByRole("application");
    fireEvent.keyDown(list, { key: "End" });
    expect(spoken()).toContain("·word19999");
    fireEvent.scroll(list);
    await waitFor(() => expect(container.querySelector("[data-index='19999']")).not.toBeNull());
    expect(container.querySelector("[data-index='0']")).toBeNull();
  });

  it("outlines the token that another picture points at", async () => {
    const { container } = await shown("tokens", 0, { hover: { position: 2 } });
    expect(container.querySelector("[data-linked='true']")?.textContent).toContain("·Mary");
  });

  it("shows what can steer a screen by its name", async () => {
    const words = ["\u202eabc", "<img src=x onerror=alert(1)>"];
    const odd = memorySource("odd", { position: 2 }, [
      { info: info("value", ["position"], [2], "float64"), data: Float64Array.of(1, NaN) },
      { info: info("token", ["position"], [2], "string"), data: words },
    ]);
    const { container } = render(<ViewPicture result={odd} view={view("tokens", { value: "value", token: "token" })} />);
    expect(await screen.findByText("⟨U+202E⟩abc")).toBeTruthy();
    expect(container.querySelector("img")).toBeNull();
    expect(container.querySelector("[data-missing='true']")?.textContent).toContain("missing");
  });
});

describe("where the picture stands", () => {
  it("is moved by a slider, and only the slice shown is fetched; one no longer wanted is cancelled", async () => {
    const asked: { name: string; selection: Selection; signal: AbortSignal | undefined; answer: (array: NdArray) => void }[] = [];
    const size = 1024;
    const huge: ResultSource = {
      id: "huge",
      dims: { layer: 32, head: 32, query: size, key: size },
      arrays: [info("pattern", ["layer", "head", "query", "key"], [32, 32, size, size], "float32")],
      slice: (name, selection = {}, signal) =>
        new Promise((answer) => asked.push({ name, selection, signal, answer })),
    };
    const answer = (which: number) =>
      act(async () =>
        asked[which]?.answer({
          name: "pattern",
          dims: ["query", "key"],
          shape: [size, size],
          dtype: "float32",
          data: new Float32Array(size * size).fill(which + 1),
        }),
      );
    const attention = view("attention", { value: "pattern", query: "query", key: "key" }, { layer: 3, head: 5 });
    render(<ViewPicture result={huge} view={attention} />);
    await waitFor(() => expect(asked.length).toBe(1));
    expect(asked[0]).toMatchObject({ name: "pattern", selection: { layer: 3, head: 5 } });
    await answer(0);
    const slider = screen.getByLabelText(/^head/);
    expect(slider.getAttribute("max")).toBe("31");
    fireEvent.change(slider, { target: { value: "6" } });
    await waitFor(() => expect(asked.length).toBe(2));
    expect((slider as HTMLInputElement).value).toBe("6"); // at once, or a held key would stay where it is
    fireEvent.change(slider, { target: { value: "7" } });
    await waitFor(() => expect(asked.length).toBe(3));
    expect(asked[1]?.signal?.aborted).toBe(true);
    expect(asked[2]?.selection).toEqual({ layer: 3, head: 7 });
    await answer(2);
    await answer(1); // too late: it must not replace what is shown
    fireEvent.keyDown(screen.getByRole("application"), { key: "ArrowDown" });
    expect(spoken()).toContain("pattern 3.00");
  });

  it("is the page's to keep where the page wants it", async () => {
    const onAt = vi.fn();
    await shown("attention", 0, { at: { head: 1 }, onAt });
    const slider = screen.getByLabelText(/^head/) as HTMLInputElement;
    expect(slider.value).toBe("1");
    fireEvent.change(slider, { target: { value: "3" } });
    expect(onAt).toHaveBeenCalledWith("head", 3);
    expect(slider.value).toBe("1");
  });

  it("says what the data do not have", async () => {
    render(<ViewPicture result={source} view={view("tokens", { value: "salience", token: "token" })} />);
    expect((await screen.findByRole("alert")).textContent).toContain("“salience”, which the data do not have");
  });

  it("says that an array cannot be read", async () => {
    const broken: ResultSource = { ...source, slice: () => Promise.reject(new Error("The server does not answer.")) };
    render(<ViewPicture result={broken} view={viewOf("tokens")} />);
    expect((await screen.findByRole("alert")).textContent).toContain("The server does not answer.");
  });
});

describe("attention", () => {
  it("is drawn as lines too, with the weights of one token", async () => {
    const { hovers, container } = await shown("attention");
    await userEvent.click(screen.getByRole("button", { name: "Lines" }));
    const lines = screen.getByRole("application");
    fireEvent.keyDown(lines, { key: "ArrowDown" });
    fireEvent.keyDown(lines, { key: "ArrowDown" });
    fireEvent.keyDown(lines, { key: "ArrowDown" });
    expect(hovers.at(-1)).toEqual({ position: 2, query: 2 });
    expect(spoken()).toMatch(/^query ·Mary: /);
    const weights = [...container.querySelectorAll(".cv-lines-token small")].map((node) => Number(node.textContent));
    expect(weights.length).toBeGreaterThan(0); // those that are not nothing
    expect(weights.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 1);
  });
});

describe("table", () => {
  const column = (container: HTMLElement, index: number) =>
    [...container.querySelectorAll(".cv-row")].map((row) => row.children[index]?.textContent ?? "");

  it("is sorted, filtered and walked", async () => {
    const { container, hovers } = await shown("table");
    const user = userEvent.setup();
    const contributions = () => column(container, 1).map(Number);
    await user.click(screen.getByRole("button", { name: /x/ }));
    const xs = column(container, 2).map(Number);
    expect(xs).toEqual([...xs].sort((a, b) => b - a));
    await user.click(screen.getByRole("button", { name: /contribution/ }));
    await user.click(screen.getByRole("button", { name: /contribution/ }));
    expect(contributions()).toEqual([...contributions()].sort((a, b) => a - b));
    expect(within(screen.getByRole("grid")).getAllByRole("columnheader")[1]?.getAttribute("aria-sort")).toBe("ascending");
    fireEvent.change(screen.getByRole("searchbox"), { target: { value: "Z[1] head[1]" } });
    expect(column(container, 0)).toEqual(["z[1].head[1]"]);
    fireEvent.keyDown(screen.getByRole("grid"), { key: "ArrowDown" });
    expect(hovers.at(-1)).toEqual({ part: 1 });
    expect(spoken()).toContain("row 1, part: z[1].head[1]");
    await user.type(screen.getByRole("searchbox"), " nothing like it");
    expect(screen.getByText("No row holds these words.")).toBeTruthy();
  });

  it("draws the rows in sight of a hundred thousand", async () => {
    const n = 100_000;
    const long = memorySource("long", { row: n }, [
      { info: info("v", ["row"], [n], "float64"), data: Float64Array.from({ length: n }, (_, i) => (i % 7 ? i / 3 : NaN)) },
    ]);
    const { container } = render(<ViewPicture result={long} view={view("table", { "column 1": "v" })} />);
    await waitFor(() => expect(container.querySelectorAll(".cv-row").length).toBeGreaterThan(10));
    expect(container.querySelectorAll(".cv-row").length).toBeLessThan(60);
    fireEvent.click(screen.getByRole("button", { name: /v/ }));
    expect(column(container, 0)[0]).not.toBe("missing"); // missing values come last either way
    fireEvent.click(screen.getByRole("button", { name: /v/ }));
    expect(column(container, 0)[0]).not.toBe("missing");
  });
});

describe("bars", () => {
  it("says value and interval, and shows the ones farthest from zero of many", async () => {
    await shown("bars");
    const bars = screen.getByRole("application");
    fireEvent.keyDown(bars, { key: "ArrowDown" });
    expect(spoken()).toMatch(/^part z\[0\]\.head\[0\], contribution \(logits\) \+\d\.\d\d, interval \d\.\d+ to \d\.\d+$/);
    const n = 300;
    const many = memorySource("many", { part: n }, [
      { info: info("v", ["part"], [n], "float64"), data: Float64Array.from({ length: n }, (_, i) => i) },
    ]);
    document.body.innerHTML = "";
    render(<ViewPicture result={many} view={view("bars", { value: "v", label: "part" })} />);
    expect(await screen.findByText(/^80 of 300 bars are shown: the ones farthest from zero/)).toBeTruthy();
    fireEvent.keyDown(screen.getByRole("application"), { key: "End" });
    fireEvent.keyDown(screen.getByRole("application"), { key: "Home" });
    expect(spoken()).toContain("part 220, v 220");
    await userEvent.click(screen.getByRole("button", { name: "Show all" }));
    expect(screen.getByText(/^All 300 bars/)).toBeTruthy();
  });
});

describe("curves", () => {
  it("are walked, and hidden one by one", async () => {
    const { hovers, container } = await shown("curves");
    const svg = screen.getByRole("application");
    fireEvent.keyDown(svg, { key: "ArrowRight" });
    fireEvent.keyDown(svg, { key: "ArrowRight" });
    fireEvent.keyDown(svg, { key: "ArrowDown" });
    expect(hovers.at(-1)).toEqual({ layer: 1, model: 1 });
    expect(spoken()).toContain("model gemma3-270m, layer 1, accuracy");
    const paths = () => container.querySelectorAll("path[fill='none'][stroke-linejoin]").length;
    expect(paths()).toBe(3);
    await userEvent.click(screen.getByRole("button", { name: "random" }));
    expect(paths()).toBe(2);
  });

  it("of a place that another picture points at are marked", async () => {
    const { container } = await shown("curves", 0, { hover: { layer: 4 } });
    expect(container.querySelector("line[stroke-dasharray='3 3']")).not.toBeNull();
  });
});

describe("histogram and scatter", () => {
  it("say bins with their counts", async () => {
    await shown("histogram");
    fireEvent.keyDown(screen.getByRole("application"), { key: "ArrowRight" });
    expect(spoken()).toMatch(/ to .*, ABBA: \d+ values?, BABA: \d+ values?$/);
  });
  it("walk from point to point by x and by y", async () => {
    const { hovers } = await shown("scatter");
    const xs = result.values["x"] as number[];
    const order = xs.map((_, i) => i).sort((a, b) => (xs[a] as number) - (xs[b] as number));
    const plot = screen.getByRole("application");
    fireEvent.keyDown(plot, { key: "ArrowRight" });
    fireEvent.keyDown(plot, { key: "ArrowRight" });
    expect(hovers.at(-1)).toEqual({ part: order[1] });
    fireEvent.keyDown(plot, { key: "End" });
    expect(hovers.at(-1)).toEqual({ part: order.at(-1) });
  });
});

describe("graph", () => {
  const sites = ["embed@1", "z[1].head[6]@1", "mlp_out[1]@2", "z[5].head[5]@2", "logits@-1"];
  const circuit = memorySource("circuit", { edge: 6 }, [
    { info: info("from", ["edge"], [6], "string"), data: [0, 0, 1, 1, 2, 3].map((i) => sites[i] as string) },
    { info: info("to", ["edge"], [6], "string"), data: [1, 2, 3, 2, 3, 4].map((i) => sites[i] as string) },
    { info: info("w", ["edge"], [6], "float64"), data: Float64Array.of(0.5, -0.25, 2, 0.125, 0.1, 3) },
  ]);
  const graph = view("graph", { source: "from", target: "to", weight: "w" });

  it("is filtered by weight and folded by layer", async () => {
    const { container } = render(<ViewPicture result={circuit} view={graph} />);
    const arrows = () => container.querySelectorAll("svg path title").length;
    await waitFor(() => expect(arrows()).toBe(6));
    fireEvent.change(screen.getByLabelText(/^Strongest arrows/), { target: { value: "2" } });
    expect(arrows()).toBe(2);
    expect(screen.getByText(/2 of 6 arrows are drawn: the strongest, from 2\.00 up/)).toBeTruthy();
    fireEvent.change(screen.getByLabelText(/^Strongest arrows/), { target: { value: "6" } });
    fireEvent.click(screen.getByRole("button", { name: "Fold layer 1" }));
    expect(screen.getByText("layer 1 (2)")).toBeTruthy();
    const said = [...container.querySelectorAll("svg path title")].map((node) => node.textContent);
    expect(said).toContain("embed@1 → layer 1 (2): w +0.250, sum of 2 arrows");
    expect(said).toContain("layer 1 (2) → z[5].head[5]@2: w +2.10, sum of 2 arrows");
    expect(said.length).toBe(3); // the arrow within the layer is not drawn
  });

  it("gives an arrow that is clicked to the page, and no sum of several", async () => {
    const chosen: Readonly<Record<string, number>>[] = [];
    const { container } = render(<ViewPicture result={circuit} view={graph} onSelect={(one) => chosen.push(one)} />);
    await waitFor(() => expect(container.querySelectorAll("[data-arrow]").length).toBe(6));
    fireEvent.click(container.querySelector('[data-arrow="2"]') as Element);
    expect(chosen).toEqual([{ edge: 2 }]);
    fireEvent.click(screen.getByRole("button", { name: "Fold layer 1" }));
    expect(container.querySelectorAll("[data-arrow]").length).toBe(1); // the others are sums of two
  });

  it("is walked from column to column", async () => {
    render(<ViewPicture result={circuit} view={graph} />);
    const svg = await screen.findByRole("application");
    fireEvent.keyDown(svg, { key: "ArrowRight" });
    fireEvent.keyDown(svg, { key: "ArrowRight" });
    expect(spoken()).toMatch(/^z\[1\]\.head\[6\]@1; z\[1\]\.head\[6\]@1 → z\[5\]\.head\[5\]@2: w \+2\.00/);
  });
});

describe("two pictures", () => {
  function Two() {
    const [hover, setHover] = useState<Hover>(null);
    return (
      <>
        <ViewPicture result={source} view={viewOf("heatmap", 1)} hover={hover} onHover={setHover} />
        <ViewPicture result={source} view={viewOf("tokens")} hover={hover} onHover={setHover} />
      </>
    );
  }
  it("show what is pointed at in either", async () => {
    const { container } = render(<Two />);
    const [grid] = await screen.findAllByRole("application");
    await waitFor(() => expect(container.querySelectorAll(".cv-word").length).toBe(15));
    fireEvent.keyDown(grid as HTMLElement, { key: "ArrowDown" });
    fireEvent.keyDown(grid as HTMLElement, { key: "ArrowRight" });
    fireEvent.keyDown(grid as HTMLElement, { key: "ArrowRight" });
    expect(container.querySelector(".cv-word[data-linked='true']")?.textContent).toContain("·Mary");
  });
});

function info(name: string, dims: string[], shape: number[], dtype: string) {
  return { name, dims, shape, dtype, coordinate: false, attrs: {} };
}

function view(kind: View["kind"], roles: Record<string, string>, at: View["at"] = {}): View {
  return { kind, title: `A ${kind}`, roles, at, note: "", options: {} };
}
