/** The record of `cutaway explain --json`, read with care: the page shows what is there. */

import type { Check } from "../../api/types";

export interface Section {
  name: string;
  title: string;
  says: string[];
  metrics: Record<string, number | string | null>;
  checks: Check[];
  notes: string[];
  data: Record<string, { dims: string[]; values: unknown }>;
  /** Which of the result's views a report shows; absent in older records. */
  shown?: number[];
  /** The id of the section's result, where the server says it. */
  result?: string;
}

export interface ExplainRecord {
  prompt: string;
  contrast: string | null;
  tokens: string[];
  answer: { token: string; id: number; probability: number };
  held_against: { token: string; id: number; probability: number };
  logit_difference: number;
  summary: string[];
  sections: Section[];
  notes: string[];
  commands: string[];
  provenance: {
    model?: { name?: string; source?: string; dtype?: string; device?: string; attention?: string };
    versions?: Record<string, string>;
    seed?: number;
    controls?: number;
    seconds?: number;
    command?: string;
  };
}

export function reportOf(record: unknown): ExplainRecord | null {
  if (typeof record !== "object" || record === null) return null;
  const found = record as Partial<ExplainRecord>;
  return typeof found.prompt === "string" && Array.isArray(found.sections) ? (found as ExplainRecord) : null;
}

export interface Written {
  /** What a reader calls it: "head 23.3", "MLP 28". */
  name: string;
  site: string;
  contribution: number;
}

/** The heads and MLPs that write most for or against the answer, from the section that measures it. */
export function largestParts(report: ExplainRecord, limit = 16): Written[] {
  const data = report.sections.find((section) => section.name === "parts")?.data;
  const [layers, heads, contributions] = ["part_layer", "part_head", "contribution"].map(
    (name) => data?.[name]?.values,
  );
  const kinds = data?.["kind"]?.values;
  if (!Array.isArray(layers) || !Array.isArray(heads) || !Array.isArray(kinds) || !Array.isArray(contributions))
    return [];
  const written = (Array.isArray(contributions[0]) ? contributions[0] : contributions) as (number | null)[];
  const parts: Written[] = [];
  written.forEach((contribution, index) => {
    const [kind, layer, head] = [String(kinds[index]), Number(layers[index]), Number(heads[index])];
    if (contribution === null || layer < 0) return;
    if (kind === "head") parts.push({ name: `head ${layer}.${head}`, site: `z[${layer}].head[${head}]`, contribution });
    else if (kind.startsWith("mlp")) parts.push({ name: `MLP ${layer}`, site: `mlp_out[${layer}]`, contribution });
  });
  return parts.sort((a, b) => Math.abs(b.contribution) - Math.abs(a.contribution)).slice(0, limit);
}
