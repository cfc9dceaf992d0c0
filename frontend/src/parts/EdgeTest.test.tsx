/** An edge that was clicked is tested on the result's own pair, beside random edges. */

import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { fireEvent, render, screen, waitFor } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";

import { api } from "../api/client";
import type { EdgeTested } from "../api/types";
import { memorySource } from "../views/memory";
import { edgeChosen } from "./edges";
import { EdgeTest } from "./EdgeTest";

const token = (text: string, probability: number) => ({ id: 1, text, probability, logit: 2 });
const found: EdgeTested = {
  edge: "z[0].head[1] -> mlp_in[1]",
  tokens: null,
  before: [],
  after: [],
  answer: token(" Mary", 0.25),
  contrast_answer: token(" John", 0.5),
  logit_difference: { before: 3, after: -1 },
  kl: 0.9,
  control: { middle: 0.01, low: 0, high: 0.1, n: 20, outside: true },
};

const info = (name: string, dims: string[], shape: number[]) => ({
  name,
  dims,
  shape,
  dtype: "string",
  attrs: {},
  coordinate: false,
});

function shown(tokens?: number[]) {
  render(
    <QueryClientProvider client={new QueryClient()}>
      <EdgeTest model="smollm2" edge={found.edge} tokens={tokens} texts={["a b", "a c"]} onClose={() => {}} />
    </QueryClientProvider>,
  );
}

afterEach(() => vi.restoreAllMocks());

describe("testing an edge", () => {
  it("asks with the pair of the result and says whether the edge stands out", async () => {
    const asked = vi.spyOn(api, "edge").mockResolvedValue(found);
    shown();
    fireEvent.click(screen.getByRole("button", { name: "Change this edge" }));
    expect(await screen.findByText(/This edge stands out/)).toBeTruthy();
    expect(asked.mock.calls[0]?.[0]).toMatchObject({ text: "a b", contrast: "a c", edge: found.edge, model: "smollm2" });
    fireEvent.change(screen.getByLabelText("Contrast"), { target: { value: "a d" } });
    // Another text: what was found does not hold for it.
    await waitFor(() => expect(screen.queryByText(/stands out/)).toBeNull());
  });

  it("does not call an edge special that moves as much as random ones", async () => {
    vi.spyOn(api, "edge").mockResolvedValue({ ...found, kl: 0.05 });
    shown();
    fireEvent.click(screen.getByRole("button", { name: "Change this edge" }));
    expect(await screen.findByText(/does not stand out/)).toBeTruthy();
  });
});

describe("an edge at some tokens", () => {
  it("is changed there, and at others where the reader writes so", async () => {
    const asked = vi.spyOn(api, "edge").mockResolvedValue(found);
    shown([1, 3]);
    fireEvent.click(screen.getByRole("button", { name: "Change this edge" }));
    expect(await screen.findByText(/This edge stands out/)).toBeTruthy();
    expect(asked.mock.calls[0]?.[0]).toMatchObject({ tokens: [1, 3] });
    const field = screen.getByLabelText(/At tokens/);
    fireEvent.change(field, { target: { value: "two" } });
    expect(screen.getByText(/Tokens are numbers/)).toBeTruthy();
    expect(screen.getByRole("button", { name: "Change this edge" })).toHaveProperty("disabled", true);
    fireEvent.change(field, { target: { value: "" } });
    fireEvent.click(screen.getByRole("button", { name: "Change this edge" }));
    await waitFor(() => expect(asked).toHaveBeenCalledTimes(2));
    expect(asked.mock.calls[1]?.[0]).not.toHaveProperty("tokens");
  });
});

describe("an edge that was chosen in a picture", () => {
  const source = memorySource("circuit", { arrow: 2, tested: 2 }, [
    { info: info("from", ["arrow"], [2]), data: ["embed", "z[0].head[1]"] },
    { info: info("circuit_edge", ["arrow"], [2]), data: ["embed -> logits", found.edge] },
    { info: info("tested_text", ["tested"], [2]), data: ["a b", "a c"] },
  ] as never);

  it("is named by the array of edges, with the pair to test it on", async () => {
    expect(await edgeChosen(source, { arrow: 1 })).toEqual({ edge: found.edge, texts: ["a b", "a c"] });
  });

  it("is none where nothing along the dimension is an edge", async () => {
    expect(await edgeChosen(source, { tested: 0 })).toBeNull();
  });

  it("at a position is at the tokens that have its name in the tested text", async () => {
    const arrays = [
      { info: info("circuit_edge", ["arrow"], [3]), data: [found.edge + "@s2", found.edge + "@none", "attention"] },
      { info: info("tested_position", ["tested_token"], [4]), data: ["io", "s2", "elsewhere", "s2"] },
    ];
    const placed = memorySource("circuit", { arrow: 3, tested_token: 4 }, arrays as never);
    expect(await edgeChosen(placed, { arrow: 0 })).toEqual({ edge: found.edge, tokens: [1, 3], texts: undefined });
    expect(await edgeChosen(placed, { arrow: 1 })).toEqual({ edge: `${found.edge}@none`, texts: undefined });
    expect(await edgeChosen(placed, { arrow: 2 })).toBeNull();
    const unnamed = memorySource("circuit", { arrow: 3 }, arrays.slice(0, 1) as never);
    expect(await edgeChosen(unnamed, { arrow: 0 })).toEqual({ edge: `${found.edge}@s2`, texts: undefined });
  });
});
