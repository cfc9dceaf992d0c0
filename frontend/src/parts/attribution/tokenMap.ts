/** A map of tokens, as every method of attribution returns it: all its steps for one prompt. */

import { useEffect, useState } from "react";

import { arrayOf, type ResultSource } from "../../api/source";
import type { ArrayInfo, View } from "../../api/types";
import { numbers } from "../../views/nd";
import { named, number } from "../../views/words";

export interface TokenMap {
  tokens: string[];
  /** Of each step, the values of the tokens; missing where the step does not see them. */
  steps: Float64Array[];
  /** What each step explains. */
  targets: string[];
  /** Where that stands among the tokens; behind them all, or null where it does not stand there. */
  places: (number | null)[];
  /** The score of each step in words, or "". */
  scores: string[];
  valueName: string;
}

/** Whether the picture shows a map of tokens that can be read step by step. */
export function showsTokenMap(source: ResultSource, view: View): boolean {
  if (view.kind !== "tokens" || view.roles["value"] !== "attribution" || view.roles["token"] !== "token") return false;
  const dims = (name: string) => arrayOf(source, name)?.dims.join();
  return (
    ["prompt,target,position", "prompt,position"].includes(dims("attribution") ?? "") &&
    dims("token") === "prompt,position" &&
    (dims("target_token") ?? "").startsWith("prompt")
  );
}

/** The map of one prompt. */
export async function tokenMap(source: ResultSource, prompt: number, signal?: AbortSignal): Promise<TokenMap> {
  const here = { prompt };
  const info = arrayOf(source, "attribution");
  const score = arrayOf(source, "score");
  const known = score?.dims.every((dim) => dim === "prompt" || dim === "target");
  const [values, token, target, scores] = await Promise.all([
    source.slice("attribution", here, signal),
    source.slice("token", here, signal),
    source.slice("target_token", here, signal),
    known ? source.slice("score", here, signal) : undefined,
  ]);
  const all = numbers(values);
  const width = values.shape.at(-1) ?? 0;
  const written = Array.from(target.data as ArrayLike<string>);
  const texts = Array.from(token.data as ArrayLike<string>);
  const rows = written.map((_, step) => Float64Array.from(all.subarray(step * width, (step + 1) * width)));
  const length = filled(texts, rows);
  const count = Math.max(1, written.findLastIndex((text, step) => text !== "" || rows[step]?.some(Number.isFinite)) + 1);
  const steps = rows.slice(0, count).map((row) => row.subarray(0, length));
  const tokens = texts.slice(0, length);
  const targets = written.slice(0, count);
  const said = scores && score ? Array.from(numbers(scores), (value) => scoreOf(score, value)) : [];
  return {
    tokens,
    steps,
    targets,
    places: placesOf(tokens, steps, targets),
    scores: targets.map((_, step) => said[step] ?? ""),
    valueName: info ? named(info) : "",
  };
}

/** "log-probability -1.2 nats"; a probability has no unit but itself. */
function scoreOf(info: ArrayInfo, value: number): string {
  const [name, unit] = [String(info.attrs["long_name"] || info.name), String(info.attrs["units"] ?? "")];
  return [name, number(value), unit === name ? "" : unit].filter(Boolean).join(" ");
}

/** How many tokens there are without the padding of shorter prompts. */
function filled(texts: readonly string[], rows: readonly Float64Array[]): number {
  let kept = texts.length;
  while (kept && texts[kept - 1] === "" && rows.every((row) => Number.isNaN(row[kept - 1] as number))) kept--;
  return kept;
}

/** A step sees all tokens before the one that it explains: that one stands behind the last that has a value. */
export function placesOf(
  tokens: readonly string[],
  steps: readonly ArrayLike<number>[],
  targets: readonly string[],
): (number | null)[] {
  if (steps.length === 1) return [null];
  return steps.map((values, step) => {
    let seen = values.length;
    while (seen && Number.isNaN(values[seen - 1])) seen--;
    const token = tokens[seen];
    // against a foil a step explains "Mary − John"
    const same = token === undefined ? step === steps.length - 1 : token !== "" && (targets[step] ?? "").startsWith(token);
    return same ? seen : null;
  });
}

export interface Fetched<What> {
  found: What | null;
  error: string;
}

/** What `read` gives, read again when `key` changes. */
export function useFetched<What>(read: (signal: AbortSignal) => Promise<What>, key: readonly unknown[]): Fetched<What> {
  const [state, setState] = useState<Fetched<What>>({ found: null, error: "" });
  useEffect(() => {
    const work = new AbortController();
    read(work.signal).then(
      (found) => !work.signal.aborted && setState({ found, error: "" }),
      (error: unknown) =>
        !work.signal.aborted && setState({ found: null, error: error instanceof Error ? error.message : String(error) }),
    );
    return () => work.abort();
  }, key); // eslint-disable-line react-hooks/exhaustive-deps
  return state;
}
