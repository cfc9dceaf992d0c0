import { expect, it } from "vitest";

import { differences } from "./LiveTokens";
import { largestParts, reportOf } from "./report";

const record = {
  prompt: "a b",
  sections: [
    {
      name: "parts",
      data: {
        kind: { dims: ["part"], values: ["embedding", "head", "head", "mlp"] },
        part_layer: { dims: ["part"], values: [-1, 3, 4, 4] },
        part_head: { dims: ["part"], values: [-1, 0, 7, -1] },
        contribution: { dims: ["prompt", "part"], values: [[9, -2, 0.5, 1]] },
      },
    },
  ],
};

it("the parts to tick are heads and MLPs, largest first", () => {
  expect(largestParts(reportOf(record)!)).toEqual([
    { name: "head 3.0", site: "z[3].head[0]", contribution: -2 },
    { name: "MLP 4", site: "mlp_out[4]", contribution: 1 },
    { name: "head 4.7", site: "z[4].head[7]", contribution: 0.5 },
  ]);
});

it("a record that is no report is none", () => {
  for (const other of [null, undefined, 3, {}, { prompt: "x" }]) expect(reportOf(other)).toBeNull();
  expect(largestParts(reportOf({ prompt: "x", sections: [] })!)).toEqual([]);
});

it("two texts differ where their tokens do, and where one is longer", () => {
  expect([...differences([1, 2, 3], [1, 9, 3, 4])]).toEqual([1, 3]);
});
