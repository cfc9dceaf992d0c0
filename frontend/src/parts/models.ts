import { useQuery } from "@tanstack/react-query";

import { api, ApiError } from "../api/client";
import type { ModelEntry } from "../api/types";

export function useModels() {
  return useQuery({ queryKey: ["models"], queryFn: ({ signal }) => api.models(signal) });
}

/** The model that a page starts with: one that is open, else the first that can be opened. */
export function firstModel(models: readonly ModelEntry[]): string {
  return (models.find((model) => model.opened) ?? models.find((model) => model.available) ?? models[0])?.name ?? "";
}

/** Open a model and keep it open; `ready` when it answers. */
export function useOpened(name: string): { ready: boolean; opening: boolean; error: Error | null } {
  const query = useQuery({
    queryKey: ["open", name],
    queryFn: async () => {
      await api.openModel(name);
      return name;
    },
    enabled: name !== "",
    staleTime: 5 * 60_000,
    retry: whileBusy,
    retryDelay: 2000,
  });
  return { ready: query.isSuccess, opening: query.isFetching && !query.isSuccess, error: query.error };
}

/** A model that works on a job refuses quick questions until it is done: ask again. */
export function whileBusy(count: number, error: Error): boolean {
  if (!(error instanceof ApiError)) return false;
  if (error.status === 0) return count < 2;
  return isBusy(error) && count < 300;
}

export function isBusy(error: Error | null): boolean {
  return error instanceof ApiError && (error.job !== null || error.status === 503 || error.status === 429);
}
