import { describe, expect, it } from "vitest";

import { command, python, shell, type Asked } from "./commands";

const asked: Asked = {
  method: "logit_lens",
  model: "smollm2",
  task: "ioi",
  taskParameters: { n: 20 },
  rows: [],
  parameters: { top: 3, sites: "resid_post[*]@-1", doses: [1, -2.5], steps: null, together: true },
};

describe("the command line", () => {
  it("is what `cutaway run` takes", () => {
    expect(command(asked)).toBe(
      "cutaway run logit_lens --model smollm2 --task ioi task.n=20 top=3 'sites=resid_post[*]@-1' 'doses=[1, -2.5]' steps=none together=true",
    );
  });

  it("quotes as a shell needs it", () => {
    expect(shell(["a b", "it's", "", "x=1"])).toBe(`'a b' 'it'"'"'s' '' x=1`);
  });

  it("has a word for each prompt, and protects one that looks like an option", () => {
    const rows = [
      { prompt: "The capital of France is", contrast: "", answer: " Paris", wrong: "" },
      { prompt: "-1 plus 1 is", contrast: "", answer: " 0| zero", wrong: "" },
    ];
    expect(command({ ...asked, task: null, rows, parameters: {} })).toBe(
      "cutaway run logit_lens --model smollm2 --prompt 'The capital of France is' '--prompt=-1 plus 1 is' --answer ' Paris' --answer ' 0| zero'",
    );
  });
});

describe("the Python lines", () => {
  it("call the method on the named task", () => {
    expect(python(asked)).toBe(
      [
        "import cutaway as ca",
        "",
        'model = ca.open("smollm2")',
        "task = ca.tasks.ioi(n=20)",
        'result = ca.logit_lens(model, task, top=3, sites="resid_post[*]@-1", doses=[1, -2.5], steps=None, together=True)',
        "result.show()",
      ].join("\n"),
    );
  });

  it("take a stranger's method from the registry, and prompts of one's own", () => {
    const rows = [{ prompt: "a", contrast: "b", answer: " x| y", wrong: "" }];
    expect(python({ ...asked, method: "lab/probe", task: null, rows, parameters: {} })).toBe(
      [
        "import cutaway as ca",
        "from cutaway.core import registry",
        "",
        'model = ca.open("smollm2")',
        "task = ca.Task.from_prompts(",
        '    ["a"],',
        '    contrasts=["b"],',
        '    answers=[[" x", " y"]],',
        ")",
        'result = registry.get("method", "lab/probe")(model, task)',
        "result.show()",
      ].join("\n"),
    );
  });
});
