import { expect, it } from "vitest";

import { tagsOf } from "./About";
import { formOf } from "./again";

const record = {
  method: "logit_lens",
  task: "ioi",
  model: "smollm2",
  provenance: {
    model: { name: "smollm2" },
    task: { name: "ioi", parameters: { n: 4 } },
    parameters: { top: 3, steps: null, doses: [-1, 2] },
  },
};

it("a result leads back to its form, filled in", () => {
  const address = new URL(formOf(record), "http://x");
  expect(address.pathname).toBe("/methods/logit_lens");
  expect(Object.fromEntries(address.searchParams)).toEqual({
    model: "smollm2",
    task: "ioi",
    "t.n": "4",
    "p.top": "3",
    "p.steps": "",
    "p.doses": "-1, 2",
  });
});

it("a result of prompts, or of no method, has no form to go back to", () => {
  expect(formOf({ ...record, task: "prompts" })).toBe("");
  expect(formOf({ ...record, method: "" })).toBe("");
});

it("tags are cut at commas, each once", () => {
  expect(tagsOf(" draft,figure 2,, draft ")).toEqual(["draft", "figure 2"]);
});
