import { useQuery } from "@tanstack/react-query";

import { api } from "../../api/client";
import type { Ablation as Answer } from "../../api/types";
import { isBusy, whileBusy } from "../../parts/models";
import { useSettled } from "../../parts/time";

export interface Ablation {
  sites: readonly string[];
  found: Answer | undefined;
  /** Whether `found` belongs to an earlier choice. */
  stale: boolean;
  fetching: boolean;
  waiting: boolean;
  error: Error | null;
}

/** The prediction without some parts, measured anew when they change; an answer that comes too late is dropped. */
export function useAblation(
  ready: boolean,
  { model, text, answer, sites }: { model: string; text: string; answer: string; sites: readonly string[] },
): Ablation {
  const wanted = useSettled(sites.join(","), 150);
  const query = useQuery({
    queryKey: ["ablate", model, text, wanted, answer],
    queryFn: ({ signal }) =>
      api.ablate(
        { model, text, sites: wanted.split(","), ...(answer ? { answer } : {}), controls: 8, seed: 0 },
        signal,
      ),
    enabled: ready && wanted !== "",
    staleTime: Infinity,
    placeholderData: (before) => before,
    retry: whileBusy,
    retryDelay: 2000,
  });
  return {
    sites,
    found: sites.length ? query.data : undefined,
    stale: query.isPlaceholderData || wanted !== sites.join(","),
    fetching: query.isFetching,
    waiting: isBusy(query.failureReason),
    error: sites.length ? query.error : null,
  };
}
