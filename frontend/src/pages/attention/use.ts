import { useQueries, useQuery } from "@tanstack/react-query";

import { decodeBundle, type Bundle, type NdArray } from "../../api/arrays";
import { get, url } from "../../api/client";
import { whileBusy } from "../../parts/models";
import type { AttentionRecord, Pattern } from "./data";

export interface Texts {
  model: string;
  text: string;
  textB: string;
}

const KEEP = { staleTime: 120_000, gcTime: 120_000, retry: whileBusy, retryDelay: 1500 } as const;

async function read(texts: Texts, sites: readonly string[], signal: AbortSignal): Promise<Bundle> {
  const query = { model: texts.model, text: texts.text, text_b: texts.textB, sites };
  return decodeBundle(await (await get(url("/activations", query), signal)).arrayBuffer());
}

/** Values of some sites on the text. */
export function useSites(texts: Texts, sites: readonly string[], enabled = true) {
  return useQuery({
    queryKey: ["activations", texts, sites.join(",")],
    queryFn: ({ signal }) => read(texts, sites, signal),
    enabled: enabled && texts.text !== "" && sites.length > 0,
    ...KEEP,
  });
}

/** Entropy, habits and thumbnails of all heads. */
export function useHeads(texts: Texts, enabled: boolean) {
  return useQuery({
    queryKey: ["attention", texts],
    queryFn: async ({ signal }): Promise<AttentionRecord> => {
      const query = { model: texts.model, text: texts.text, text_b: texts.textB };
      return (await (await get(url("/attention", query), signal)).json()) as AttentionRecord;
    },
    enabled: enabled && texts.text !== "",
    placeholderData: (before) => (before && before.tokens.length ? before : undefined),
    ...KEEP,
  });
}

export interface Patterns {
  patterns: Pattern[];
  tokens: string[];
  /** Where the second text begins. */
  second: number | null;
  pending: boolean;
  error: Error | null;
}

/** The patterns of some heads of a layer: one slice a request, and only those that are shown. */
export function usePatterns(texts: Texts, layer: number, heads: readonly number[], enabled: boolean): Patterns {
  const queries = useQueries({
    queries: heads.map((head) => ({
      queryKey: ["activations", texts, `pattern[${layer}].head[${head}]`],
      queryFn: ({ signal }: { signal: AbortSignal }) => read(texts, [`pattern[${layer}].head[${head}]`], signal),
      enabled: enabled && texts.text !== "",
      ...KEEP,
    })),
  });
  const found = queries.find((query) => query.data)?.data;
  return {
    patterns: queries.flatMap((query, index) => {
      const array = query.data?.arrays[0];
      return array ? [patternOf(array, heads[index]!)] : [];
    }),
    tokens: found?.tokens ?? [],
    second: typeof found?.facts["second"] === "number" ? found.facts["second"] : null,
    pending: queries.some((query) => query.isFetching),
    error: queries.find((query) => query.error)?.error ?? null,
  };
}

function patternOf(array: NdArray, head: number): Pattern {
  return { head, size: array.shape[1] ?? 0, values: array.data as Pattern["values"] };
}
