import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { api } from "../api/client";

/** What runs now, on every page: it links to the page that shows it. */
export function Jobs() {
  const jobs = useQuery({
    queryKey: ["jobs"],
    queryFn: ({ signal }) => api.jobs("", signal),
    refetchInterval: (query) => (query.state.data?.some(active) ? 1500 : 15_000),
    staleTime: 0,
  });
  const busy = jobs.data?.filter(active) ?? [];
  const first = busy.find((job) => job.state === "running") ?? busy[0];
  if (!first) return null;
  const percent = first.fraction === null ? "" : ` ${Math.round(first.fraction * 100)} %`;
  return (
    <Link className="jobs-badge" to={jobPath(first)}>
      <span className="spinner" aria-hidden="true" />
      {busy.length === 1 ? `1 job${percent}` : `${busy.length} jobs${percent}`}
    </Link>
  );
}

function active(job: { state: string }): boolean {
  return job.state === "running" || job.state === "queued";
}

function jobPath(job: { id: string; kind: string; spec: Record<string, unknown> }): string {
  const query = new URLSearchParams({ job: job.id });
  return job.kind === "explain" ? `/explain?${query}` : `/methods/${String(job.spec["method"])}?${query}`;
}
