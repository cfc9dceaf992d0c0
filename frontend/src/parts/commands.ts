/** The command and the Python lines that do what a form does. */

import type { Json } from "../api/types";

/** Texts given one by one; answers to one prompt are joined by `|`, as the command line has them. */
export interface PromptRow {
  prompt: string;
  contrast: string;
  answer: string;
  wrong: string;
}

export interface Asked {
  method: string;
  model: string;
  task: string | null;
  taskParameters: Readonly<Record<string, Json>>;
  rows: readonly PromptRow[];
  parameters: Readonly<Record<string, Json>>;
}

/** Words as a shell takes them, quoted the way Python's `shlex.join` does. */
export function shell(words: readonly string[]): string {
  return words
    .map((word) => (word !== "" && /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`))
    .join(" ");
}

/** A value as `key=value` takes it. */
export function argument(value: Json): string {
  if (value === null) return "none";
  if (Array.isArray(value)) return `[${value.map((item) => JSON.stringify(item)).join(", ")}]`;
  return String(value);
}

export function command(asked: Asked): string {
  const words = ["cutaway", "run", asked.method, "--model", asked.model];
  if (asked.task) {
    words.push("--task", asked.task);
    for (const [name, value] of Object.entries(asked.taskParameters)) words.push(`task.${name}=${argument(value)}`);
  } else {
    const columns: [string, keyof PromptRow][] = [
      ["--prompt", "prompt"],
      ["--contrast", "contrast"],
      ["--answer", "answer"],
      ["--wrong", "wrong"],
    ];
    for (const [option, column] of columns) {
      if (!asked.rows.some((row) => row[column])) continue;
      for (const row of asked.rows)
        if (row[column].startsWith("-")) words.push(`${option}=${row[column]}`);
        else words.push(option, row[column]);
    }
  }
  for (const [name, value] of Object.entries(asked.parameters)) words.push(`${name}=${argument(value)}`);
  return shell(words);
}

/** A value as Python writes it. */
export function literal(value: Json): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object")
    return `{${Object.entries(value)
      .map(([name, item]) => `${JSON.stringify(name)}: ${literal(item)}`)
      .join(", ")}}`;
  return JSON.stringify(value);
}

export function python(asked: Asked): string {
  const stranger = asked.method.includes("/");
  const strangeTask = asked.task?.includes("/") ?? false;
  const lines = ["import cutaway as ca"];
  if (stranger || strangeTask) lines.push("from cutaway.core import registry");
  lines.push("", `model = ca.open(${literal(asked.model)})`);
  if (asked.task) {
    const builder = strangeTask ? `registry.get("task", ${literal(asked.task)})` : `ca.tasks.${asked.task}`;
    lines.push(`task = ${builder}(${keywords(asked.taskParameters)})`);
  } else lines.push(...taskLines(asked.rows));
  const method = stranger ? `registry.get("method", ${literal(asked.method)})` : `ca.${asked.method}`;
  const options = keywords(asked.parameters);
  lines.push(`result = ${method}(model, task${options && `, ${options}`})`, "result.show()");
  return lines.join("\n");
}

function taskLines(rows: readonly PromptRow[]): string[] {
  const texts = (column: keyof PromptRow) => rows.map((row) => row[column]);
  const lines = [`    ${literal(texts("prompt"))},`];
  const given = (column: keyof PromptRow) => rows.some((row) => row[column]);
  if (given("contrast")) lines.push(`    contrasts=${literal(texts("contrast"))},`);
  for (const [name, column] of [
    ["answers", "answer"],
    ["wrong", "wrong"],
  ] as const)
    if (given(column)) lines.push(`    ${name}=${literal(texts(column).map((text) => text.split("|")))},`);
  return ["task = ca.Task.from_prompts(", ...lines, ")"];
}

function keywords(values: Readonly<Record<string, Json>>): string {
  return Object.entries(values)
    .map(([name, value]) => `${name}=${literal(value)}`)
    .join(", ");
}
