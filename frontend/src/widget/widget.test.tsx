/** The widget shows what Python gave it, and asks the kernel for the rest; what is sent is what Python wrote down. */

import { act, fireEvent, screen, waitFor } from "@testing-library/react";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import widget from "./index";
import { kernelSource, type WidgetModel } from "./kernel";
import { notebookTheme } from "./theme";

const sent = JSON.parse(readFileSync(resolve(process.cwd(), "src/views/fixtures/agreement.json"), "utf8")).widget;

const bytes = (text: string) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

/** anywidget's model, as a notebook gives it: traits, and messages both ways. */
function notebookModel() {
  const listeners = new Set<(content: unknown, buffers: DataView[]) => void>();
  const asked: { request: number; name: string; selection: Record<string, number> }[] = [];
  const traits: Record<string, unknown> = {
    record: sent.record,
    held: Object.fromEntries(Object.entries(sent.buffers as Record<string, string>).map(([name, text]) => [name, bytes(text)])),
  };
  const model: WidgetModel = {
    get: (name) => traits[name],
    send: (message) => void asked.push(message as (typeof asked)[number]),
    on: (_, listener) => void listeners.add(listener as never),
    off: (_, listener) => void listeners.delete(listener as never),
  };
  const answer = (content: object, ...buffers: string[]) => listeners.forEach((take) => take(content, buffers.map(bytes)));
  return { model, asked, answer, listeners };
}

let el: HTMLElement;
let close: (() => void) | undefined;
beforeEach(() => document.body.append((el = document.createElement("div"))));
afterEach(() => {
  act(() => close?.());
  close = undefined;
  el.remove();
});

function rendered(model: WidgetModel) {
  act(() => {
    close = widget.render({ model, el });
  });
}

describe("the widget", () => {
  it("shows pictures, figures, checks and notes of small arrays without a word to the kernel", async () => {
    const { model, asked } = notebookModel();
    rendered(model);
    expect(await screen.findByText("Which words matter")).toBeTruthy();
    await waitFor(() => expect(el.querySelectorAll(".cv-word").length).toBe(15));
    expect(screen.getByText("logit difference")).toBeTruthy();
    expect(screen.getByText("3.46")).toBeTruthy();
    expect(screen.getByText("✗ does not hold")).toBeTruthy();
    expect(screen.getByText(/^Note: 2 prompts were left out/)).toBeTruthy();
    expect(screen.getByText("cutaway run logit-lens --model smollm2 --task ioi")).toBeTruthy();
    expect(asked.map(({ name }) => name)).not.toContain("saliency");
    expect(asked.some(({ name }) => name === "pattern")).toBe(true);
  });

  it("asks for the slice that is shown, and draws the answer", async () => {
    const { model, asked, answer } = notebookModel();
    rendered(model);
    await waitFor(() => expect(asked.find(({ name }) => name === "pattern")).toBeTruthy());
    const question = asked.find(({ name }) => name === "pattern");
    expect(question?.selection).toEqual({ block: 1, head: 2 });
    act(() => answer({ ...sent.answer, request: question?.request }, sent.slice));
    await waitFor(() => expect(screen.getByRole("button", { name: "Lines" })).toBeTruthy());
    const slider = screen.getByLabelText(/^head/);
    fireEvent.change(slider, { target: { value: "0" } });
    await waitFor(() => expect(asked.at(-1)?.selection).toEqual({ block: 1, head: 0 }));
  });

  it("says what the kernel refuses", async () => {
    const { model, asked, answer } = notebookModel();
    rendered(model);
    await waitFor(() => expect(asked.find(({ name }) => name === "pattern")).toBeTruthy());
    act(() => answer({ ...sent.failure, request: asked.find(({ name }) => name === "pattern")?.request }));
    expect((await screen.findByRole("alert")).textContent).toContain("did you mean 'pattern'");
  });

  it("hears and shows nothing more when its cell is cleared", async () => {
    const { model, listeners } = notebookModel();
    rendered(model);
    await screen.findByText("Which words matter");
    expect(listeners.size).toBe(1);
    act(() => close?.());
    close = undefined;
    expect(listeners.size).toBe(0);
    expect(el.innerHTML).toBe("");
  });

  it("keeps its keys from the notebook", async () => {
    const { model } = notebookModel();
    const heard = vi.fn();
    document.body.addEventListener("keydown", heard);
    rendered(model);
    await waitFor(() => expect(el.querySelector("[aria-roledescription='coloured tokens']")).not.toBeNull());
    fireEvent.keyDown(el.querySelector("[aria-roledescription='coloured tokens']") as Element, { key: "ArrowRight" });
    fireEvent.keyDown(el, { key: "a" });
    expect(heard).toHaveBeenCalledTimes(1);
    document.body.removeEventListener("keydown", heard);
  });
});

describe("the kernel's numbers", () => {
  it("come from what travelled along, slices of it too", async () => {
    const { model, asked } = notebookModel();
    const source = kernelSource(model);
    const whole = await source.slice("loss");
    expect(Array.from(whole.data as Float64Array, (value) => value.toFixed(4)).slice(0, 2)).toEqual(["1.0000", "0.7788"]);
    const some = await source.slice("loss", { layer: [1, 8, 3] });
    expect(Array.from(some.data as Float64Array, (value) => value.toFixed(12))).toEqual(
      [1, 4, 7].map((i) => Math.exp(-i / 4).toFixed(12)),
    );
    expect((await source.slice("token", { position: 2 })).data).toEqual([" Mary"]);
    expect(asked).toEqual([]);
  });

  it("come with the answer to the right question, whatever the order", async () => {
    const { model, asked, answer } = notebookModel();
    const source = kernelSource(model);
    const [first, second] = [source.slice("pattern", { block: 1, head: 2 }), source.slice("pattern", { block: 0, head: 0 })];
    answer({ ...sent.answer, request: asked[1]?.request, name: "second" }, sent.slice);
    answer({ ...sent.answer, request: asked[0]?.request, name: "first" }, sent.slice);
    answer({ ...sent.answer, request: 99_999 }, sent.slice); // another view's
    expect([(await first).name, (await second).name]).toEqual(["first", "second"]);
    const { data } = await first;
    const rows = Array.from({ length: 15 }, (_, row) => (data as Float64Array).slice(row * 15, row * 15 + 15));
    for (const row of rows) expect(row.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 10);
  });

  it("may be cancelled, and are not waited for for ever", async () => {
    const { model } = notebookModel();
    const source = kernelSource(model, 20);
    const work = new AbortController();
    const cancelled = source.slice("pattern", { block: 0 }, work.signal);
    work.abort();
    await expect(cancelled).rejects.toThrow("No longer wanted");
    await expect(source.slice("pattern")).rejects.toThrow("The notebook's kernel does not answer. Run the cell again");
  });
});

describe("the notebook's theme", () => {
  const cases: [string, Record<string, string>, string, "light" | "dark"][] = [
    ["JupyterLab", { "data-jp-theme-light": "false" }, "", "dark"],
    ["JupyterLab", { "data-jp-theme-light": "true" }, "", "light"],
    ["VS Code", { class: "vscode-dark" }, "", "dark"],
    ["VS Code", { "data-vscode-theme-kind": "vscode-high-contrast-light" }, "", "light"],
    ["VS Code", { "data-vscode-theme-kind": "vscode-high-contrast" }, "", "dark"],
    ["marimo", {}, "dark", "dark"],
    ["nothing known", {}, "", "light"],
  ];
  it.each(cases)("of %s %o is found", (_, body, around, theme) => {
    const page = document.implementation.createHTMLDocument();
    for (const [name, value] of Object.entries(body)) page.body.setAttribute(name, value);
    const outer = page.createElement("div");
    outer.className = around;
    page.body.append(outer);
    expect(notebookTheme(outer.appendChild(page.createElement("div")), page)).toBe(theme);
  });
});
