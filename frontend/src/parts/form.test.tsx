import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { useState } from "react";
import { expect, it } from "vitest";

import { rowsInUrl, rowsOf, jobOf } from "../pages/methods/form";
import { wrongWithRows } from "../pages/methods/TaskChooser";
import { fieldsOf } from "./schema";
import { SchemaForm } from "./SchemaForm";
import { changed } from "./url";

const fields = fieldsOf({
  properties: {
    top: { default: 5, maximum: 10, minimum: 1, type: "integer", description: "how many" },
    how: { default: "mean", enum: ["mean", "zero"] },
    together: { default: false, type: "boolean" },
  },
});

function Form({ onTexts }: { onTexts: (texts: Record<string, string>) => void }) {
  const [texts, setTexts] = useState<Record<string, string>>({});
  return (
    <SchemaForm
      fields={fields}
      texts={texts}
      onText={(name, text) => {
        const next = { ...texts };
        if (text === null) delete next[name];
        else next[name] = text;
        setTexts(next);
        onTexts(next);
      }}
    />
  );
}

it("a form made of a schema has labels, help, defaults and validation", async () => {
  const user = userEvent.setup();
  let texts: Record<string, string> = {};
  render(<Form onTexts={(next) => (texts = next)} />);
  const top = screen.getByLabelText("top");
  expect(top).toHaveProperty("value", "5");
  expect(screen.getByText("how many (1 to 10; default 5)")).toBeTruthy();
  await user.clear(top);
  await user.type(top, "99");
  expect(screen.getByRole("alert").textContent).toBe("Write a whole number, 1 to 10.");
  expect(top.getAttribute("aria-invalid")).toBe("true");
  await user.clear(top);
  await user.type(top, "5");
  expect(screen.queryByRole("alert")).toBeNull();
  await user.selectOptions(screen.getByLabelText("how"), "zero");
  await user.click(screen.getByLabelText("together"));
  expect(texts).toEqual({ how: "zero", together: "true" });
});

it("prompts go into the address and come back", () => {
  const rows = [
    { prompt: "a", contrast: "", answer: " x", wrong: "" },
    { prompt: "b", contrast: "", answer: " y|z", wrong: "" },
  ];
  const params = changed(new URLSearchParams("own=1"), rowsInUrl(rows));
  expect(rowsOf(params)).toEqual(rows);
  expect(jobOf("ablate", "m", null, {}, rows, { top: 3 })).toEqual({
    kind: "method",
    method: "ablate",
    model: "m",
    parameters: { top: 3 },
    prompts: { prompts: ["a", "b"], answers: [[" x"], [" y", "z"]] },
  });
});

it("prompts that a method cannot use are refused with a reason", () => {
  const row = { prompt: "a", contrast: "", answer: "", wrong: "" };
  expect(wrongWithRows([row], [])).toBe("");
  expect(wrongWithRows([{ ...row, prompt: " " }], [])).toContain("one word or more");
  expect(wrongWithRows([row], ["contrast"])).toContain("needs a contrast");
  expect(wrongWithRows([{ ...row, answer: " x" }, row], [])).toContain("every prompt has an answer");
  expect(wrongWithRows([{ ...row, wrong: " x" }], [])).toContain("held against");
});
