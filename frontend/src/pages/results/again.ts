/** The form of a method filled in as it was for a result. */

import type { Json, ResultRecord } from "../../api/types";
import { modelOf } from "../../parts/ResultBody";
import { textOf } from "../../parts/schema";

/** Names of tasks that were made of prompts and not by a builder. */
const UNNAMED = new Set(["", "prompts", "explain"]);

/** The address of the form; "" where no form can say how the result was made. */
export function formOf(record: Pick<ResultRecord, "method" | "task" | "model" | "provenance">): string {
  const task = recordOf(record.provenance["task"]);
  if (!record.method || UNNAMED.has(record.task)) return "";
  const query = new URLSearchParams({ model: modelOf(record), task: record.task });
  for (const [name, value] of Object.entries(recordOf(task["parameters"]))) query.set(`t.${name}`, written(value));
  for (const [name, value] of Object.entries(recordOf(record.provenance["parameters"])))
    query.set(`p.${name}`, written(value));
  return `/methods/${record.method}?${query}`;
}

function written(value: Json): string {
  return value === null ? "" : textOf(value);
}

function recordOf(value: Json | undefined): Record<string, Json> {
  return value && typeof value === "object" && !Array.isArray(value) ? value : {};
}
