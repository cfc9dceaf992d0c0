/** A form from a JSON Schema: which fields it has, how their text is read, and what is wrong with it. */

import type { Json, Schema } from "../api/types";

export type FieldKind = "integer" | "number" | "text" | "boolean" | "choice" | "list" | "json";

export interface Field {
  name: string;
  label: string;
  help: string;
  kind: FieldKind;
  /** For `choice`: the texts to choose from. */
  choices: string[];
  /** Whether "none" is a value: the field may be left empty. */
  optional: boolean;
  required: boolean;
  /** The text of the default. */
  default: string;
  /** The schema of the value itself, without "or none". */
  schema: Schema;
}

export function fieldsOf(schema: Schema): Field[] {
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).map(([name, written]) => {
    const property = resolved(written, schema);
    const variants = (property.anyOf ?? [property]).map((variant) => resolved(variant, schema));
    const values = variants.filter((variant) => variant.type !== "null");
    const only = (values.length === 1 ? values[0] : undefined) ?? ({} as Schema);
    const choices = (only.enum ?? (only.const === undefined ? [] : [only.const])).map(textOf);
    const optional = values.length < variants.length;
    return {
      name,
      label: name.replaceAll("_", " "),
      help: property.description ?? only.description ?? "",
      kind: kindOf(only, values.length),
      choices,
      optional,
      required: required.has(name),
      default: "default" in property ? emptied(textOf(property.default ?? null), optional) : "",
      schema: only,
    };
  });
}

function resolved(schema: Schema, root: Schema): Schema {
  const name = schema.$ref?.replace("#/$defs/", "");
  return name ? { ...root.$defs?.[name], ...schema } : schema;
}

function kindOf(schema: Schema, variants: number): FieldKind {
  if (variants !== 1) return "json";
  if (schema.enum || schema.const !== undefined) return "choice";
  switch (schema.type) {
    case "integer":
    case "number":
    case "boolean":
      return schema.type;
    case "string":
      return "text";
    case "array":
      return "list";
    default:
      return "json";
  }
}

function emptied(text: string, optional: boolean): string {
  return optional && text === "none" ? "" : text;
}

/** A value as the command line writes it. */
export function textOf(value: Json): string {
  if (value === null) return "none";
  if (typeof value === "string") return value;
  if (Array.isArray(value))
    return value.every((item) => typeof item === "number") ? value.join(", ") : JSON.stringify(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

export type Reading = { value: Json; error?: undefined } | { value?: undefined; error: string };

/** The value that a text stands for, or what is wrong with it. */
export function read(field: Field, text: string): Reading {
  const trimmed = text.trim();
  if (field.optional && (trimmed === "" || trimmed === "none")) return { value: null };
  switch (field.kind) {
    case "boolean":
      return { value: trimmed === "true" };
    case "integer":
    case "number":
      return readNumber(field, trimmed);
    case "choice": {
      const index = field.choices.indexOf(text);
      if (index < 0) return { error: `Choose one of ${field.choices.join(", ")}.` };
      return { value: (field.schema.enum ?? [field.schema.const ?? null])[index] ?? null };
    }
    case "list":
      return readList(field, trimmed);
    case "json":
      return readJson(trimmed);
    case "text":
      return readText(field, text);
  }
}

function readNumber(field: Field, text: string): Reading {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = field.schema;
  const value = text === "" ? NaN : Number(text);
  const whole = field.kind === "integer";
  const fits =
    Number.isFinite(value) &&
    (!whole || Number.isInteger(value)) &&
    !(minimum !== undefined && value < minimum) &&
    !(maximum !== undefined && value > maximum) &&
    !(exclusiveMinimum !== undefined && value <= exclusiveMinimum) &&
    !(exclusiveMaximum !== undefined && value >= exclusiveMaximum);
  if (fits) return { value };
  const range = rangeOf(field.schema);
  return { error: `Write a ${whole ? "whole " : ""}number${range && `, ${range}`}.` };
}

/** What the limits of a number say, such as "1 to 100". */
export function rangeOf(schema: Schema): string {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema;
  if (minimum !== undefined && maximum !== undefined) return `${minimum} to ${maximum}`;
  if (exclusiveMinimum !== undefined && exclusiveMaximum !== undefined)
    return `more than ${exclusiveMinimum} and less than ${exclusiveMaximum}`;
  const parts = [
    minimum !== undefined ? `${minimum} or more` : "",
    exclusiveMinimum !== undefined ? `more than ${exclusiveMinimum}` : "",
    maximum !== undefined ? `${maximum} or less` : "",
    exclusiveMaximum !== undefined ? `less than ${exclusiveMaximum}` : "",
  ];
  return parts.filter(Boolean).join(" and ");
}

function readList(field: Field, text: string): Reading {
  const item = field.schema.items?.type;
  let values: Json;
  if (text.startsWith("[")) {
    const whole = readJson(text);
    if (whole.error !== undefined) return whole;
    values = whole.value;
  } else {
    const parts = text === "" ? [] : text.split(",").map((part) => part.trim());
    values = item === "integer" || item === "number" ? parts.map((part) => (part === "" ? NaN : Number(part))) : parts;
  }
  if (!Array.isArray(values)) return { error: "Write values with commas between them." };
  if (item === "integer" || item === "number") {
    const whole = item === "integer";
    if (
      !values.every(
        (value) => typeof value === "number" && Number.isFinite(value) && (!whole || Number.isInteger(value)),
      )
    )
      return { error: `Write ${whole ? "whole " : ""}numbers with commas between them.` };
  }
  const { minItems, maxItems } = field.schema;
  if (minItems !== undefined && values.length < minItems) return { error: `Write ${minItems} or more values.` };
  if (maxItems !== undefined && values.length > maxItems) return { error: `Write ${maxItems} values or fewer.` };
  return { value: values };
}

function readJson(text: string): Reading {
  try {
    return { value: JSON.parse(text) as Json };
  } catch {
    return { error: 'Write a JSON value, such as 3, "text" or [1, 2].' };
  }
}

function readText(field: Field, text: string): Reading {
  const { minLength, maxLength, pattern } = field.schema;
  if (minLength !== undefined && text.length < minLength)
    return { error: minLength === 1 ? "Write something here." : `Write ${minLength} characters or more.` };
  if (maxLength !== undefined && text.length > maxLength) return { error: `Write ${maxLength} characters or fewer.` };
  if (pattern !== undefined && !new RegExp(pattern, "u").test(text)) return { error: `Write it as ${pattern}.` };
  return { value: text };
}

export interface Readings {
  /** All values, of the fields that differ from their default only. */
  changed: Record<string, Json>;
  errors: Record<string, string>;
}

/** Read a whole form: `texts` holds the fields that were written in. */
export function readAll(fields: readonly Field[], texts: Readonly<Record<string, string>>): Readings {
  const found: Readings = { changed: {}, errors: {} };
  for (const field of fields) {
    const text = texts[field.name] ?? field.default;
    if (text === field.default && !(field.required && text === "")) continue;
    const reading = read(field, text);
    if (reading.error !== undefined) found.errors[field.name] = reading.error;
    else found.changed[field.name] = reading.value;
  }
  return found;
}
