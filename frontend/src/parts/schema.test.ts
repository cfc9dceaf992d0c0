import { describe, expect, it } from "vitest";

import type { Schema } from "../api/types";
import { fieldsOf, read, readAll } from "./schema";

// as pydantic writes it
const schema: Schema = {
  type: "object",
  properties: {
    sites: { default: "resid_post[*]", description: "which sites", type: "string" },
    top: { default: 5, maximum: 100, minimum: 1, type: "integer" },
    share: { default: 0.2, exclusiveMaximum: 1, exclusiveMinimum: 0, type: "number" },
    steps: { anyOf: [{ maximum: 10000, minimum: 1, type: "integer" }, { type: "null" }], default: null },
    rule: { default: "midpoint", enum: ["midpoint", "trapezoid"], type: "string" },
    together: { default: false, type: "boolean" },
    doses: { default: [-1, 0, 2.5], items: { type: "number" }, minItems: 2, type: "array" },
    level: { default: 2, enum: [1, 2, 3] },
    label: { type: "string", minLength: 1 },
  },
  required: ["label"],
};
const fields = fieldsOf(schema);
const field = (name: string) => fields.find((each) => each.name === name)!;

describe("fields of a form", () => {
  it("have the kind, the default and the limits of the schema", () => {
    expect(fields.map((each) => [each.name, each.kind, each.default])).toEqual([
      ["sites", "text", "resid_post[*]"],
      ["top", "integer", "5"],
      ["share", "number", "0.2"],
      ["steps", "integer", ""],
      ["rule", "choice", "midpoint"],
      ["together", "boolean", "false"],
      ["doses", "list", "-1, 0, 2.5"],
      ["level", "choice", "2"],
      ["label", "text", ""],
    ]);
    expect(field("steps").optional).toBe(true);
    expect(field("label").required).toBe(true);
  });

  it("follow references into the definitions", () => {
    const found = fieldsOf({
      properties: { how: { $ref: "#/$defs/How", default: "mean" } },
      $defs: { How: { enum: ["mean", "zero"] } },
    });
    expect(found[0]).toMatchObject({ kind: "choice", choices: ["mean", "zero"], default: "mean" });
  });
});

describe("reading a field", () => {
  it.each([
    ["top", "7", 7],
    ["share", "0.5", 0.5],
    ["steps", "", null],
    ["steps", "20", 20],
    ["together", "true", true],
    ["doses", "1, 2", [1, 2]],
    ["doses", "[1, -2.5]", [1, -2.5]],
    ["level", "3", 3],
    ["sites", " z[3] ", " z[3] "],
  ])("%s from %j gives %j", (name, text, value) => {
    expect(read(field(name), text)).toEqual({ value });
  });

  it.each([
    ["top", "0", "Write a whole number, 1 to 100."],
    ["top", "2.5", "Write a whole number, 1 to 100."],
    ["top", "", "Write a whole number, 1 to 100."],
    ["share", "1", "Write a number, more than 0 and less than 1."],
    ["rule", "simpson", "Choose one of midpoint, trapezoid."],
    ["doses", "1, x", "Write numbers with commas between them."],
    ["doses", "1", "Write 2 or more values."],
    ["label", "", "Write something here."],
  ])("%s from %j is refused: %s", (name, text, error) => {
    expect(read(field(name), text)).toEqual({ error });
  });
});

describe("reading a form", () => {
  it("gives what differs from the defaults, and every error", () => {
    const found = readAll(fields, { top: "5", rule: "trapezoid", share: "9", label: "x" });
    expect(found.changed).toEqual({ rule: "trapezoid", label: "x" });
    expect(found.errors).toEqual({ share: "Write a number, more than 0 and less than 1." });
  });

  it("misses what is required", () => {
    expect(readAll(fields, {}).errors).toEqual({ label: "Write something here." });
  });
});
