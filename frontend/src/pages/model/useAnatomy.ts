import { useQuery } from "@tanstack/react-query";

import { api } from "../../api/client";
import { useOpened, whileBusy } from "../../parts/models";
import type { Anatomy } from "./anatomy";

/** A model being opened, and what it is made of once it is. */
export function useAnatomy(model: string) {
  const opened = useOpened(model);
  const anatomy = useQuery({
    queryKey: ["anatomy", model],
    // the model's own name may be shorter than the one it is asked for by
    queryFn: async ({ signal }) => ({ ...(await api.anatomy<Anatomy>(model, signal)), model }),
    enabled: opened.ready,
    staleTime: Infinity,
    retry: whileBusy,
    retryDelay: 1500,
  });
  return { opened, anatomy };
}
