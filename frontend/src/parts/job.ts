import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import { api, ended, listen } from "../api/client";
import type { Job } from "../api/types";

/** A job, kept up to date by the server's events until it ends. */
export function useJob(id: string | null): { job: Job | undefined; error: Error | null } {
  const client = useQueryClient();
  const [lost, setLost] = useState(false);
  const query = useQuery({
    queryKey: ["job", id],
    queryFn: ({ signal }) => api.job(id as string, signal),
    enabled: id !== null,
    // without events, ask
    refetchInterval: ({ state }) => (lost && state.data && !ended(state.data) ? 2000 : false),
    staleTime: Infinity,
  });
  const listening = query.data !== undefined && !ended(query.data);
  useEffect(() => {
    if (!id || !listening || lost) return;
    return listen(
      id,
      (job) => {
        if (!ended(job)) {
          client.setQueryData(["job", id], job);
          return;
        }
        // the whole job: an event may leave out the report
        void client.invalidateQueries({ queryKey: ["job", id] });
        void client.invalidateQueries({ queryKey: ["jobs"] });
        void client.invalidateQueries({ queryKey: ["results"] });
      },
      () => setLost(true),
    );
  }, [id, listening, lost, client]);
  useEffect(() => setLost(false), [id]);
  return { job: query.data, error: query.error };
}

/**
 * Seconds that a job still needs, from how fast its fraction grew since it was first seen; null while nothing
 * can be said.
 */
export function remaining(seen: readonly { at: number; fraction: number }[], now: number): number | null {
  const first = seen[0];
  const last = seen.at(-1);
  if (!first || !last || last.fraction <= first.fraction) return null;
  const speed = (last.fraction - first.fraction) / (last.at - first.at);
  const since = (now - last.at) / 1000;
  return Math.max(0, (1 - last.fraction) / speed / 1000 - since);
}
