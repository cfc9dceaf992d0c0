/** What was fetched is kept here, for all pages. */

import { QueryClient } from "@tanstack/react-query";

import { api, ApiError } from "./client";

export const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 30_000,
      refetchOnWindowFocus: false,
      // a refusal stays a refusal; only a server that is away is asked again
      retry: (count, error) => count < 2 && error instanceof ApiError && error.status === 0,
    },
  },
});

export const ofResult = (id: string) => ({
  queryKey: ["result", id],
  queryFn: ({ signal }: { signal: AbortSignal }) => api.result(id, signal),
});

export const ofMethods = {
  queryKey: ["methods"],
  queryFn: ({ signal }: { signal: AbortSignal }) => api.methods(signal),
};

export const ofStudies = {
  queryKey: ["studies"],
  queryFn: ({ signal }: { signal: AbortSignal }) => api.studies(signal),
};

/** Begin to fetch a result while the page that shows it is still loading. */
export function expectResult(id: string | undefined): void {
  if (id) void queries.prefetchQuery(ofResult(id));
}
