/** A run as the page's address holds it, and as the server takes it. */

import type { Json, MethodJob } from "../../api/types";
import type { PromptRow } from "../../parts/commands";
import type { Change } from "../../parts/url";

const COLUMNS = ["prompt", "contrast", "answer", "wrong"] as const;

/** The prompts that an address holds: one value of each name a prompt. */
export function rowsOf(params: URLSearchParams): PromptRow[] {
  const columns = COLUMNS.map((name) => params.getAll(name));
  const length = Math.max(1, ...columns.map((column) => column.length));
  return Array.from({ length }, (_, index) => ({
    prompt: columns[0]?.[index] ?? "",
    contrast: columns[1]?.[index] ?? "",
    answer: columns[2]?.[index] ?? "",
    wrong: columns[3]?.[index] ?? "",
  }));
}

/** What an address must hold for these prompts; columns that are empty throughout are left out. */
export function rowsInUrl(rows: readonly PromptRow[]): Change {
  return Object.fromEntries(
    COLUMNS.map((name) => {
      const column = rows.map((row) => row[name]);
      return [name, column.some(Boolean) || (name === "prompt" && rows.length > 1) ? column : null];
    }),
  );
}

/** The request that starts the run. */
export function jobOf(
  method: string,
  model: string,
  task: string | null,
  taskParameters: Record<string, Json>,
  rows: readonly PromptRow[],
  parameters: Record<string, Json>,
): MethodJob {
  const job: MethodJob = { kind: "method", method, model, parameters };
  if (task !== null) return { ...job, task, task_parameters: taskParameters };
  const column = (name: keyof PromptRow) => rows.map((row) => row[name]);
  const given = (name: keyof PromptRow) => rows.some((row) => row[name] !== "");
  const several = (name: keyof PromptRow) => column(name).map((text) => text.split("|"));
  return {
    ...job,
    prompts: {
      prompts: column("prompt"),
      ...(given("contrast") ? { contrasts: column("contrast") } : {}),
      ...(given("answer") ? { answers: several("answer") } : {}),
      ...(given("wrong") ? { wrong: several("wrong") } : {}),
    },
  };
}
