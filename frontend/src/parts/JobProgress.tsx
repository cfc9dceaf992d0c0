import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";

import { api, ended } from "../api/client";
import type { Job } from "../api/types";
import { Problem } from "../layout/Problem";
import { duration } from "./format";
import { remaining } from "./job";
import { useNow } from "./time";

/** How far a job is, how long it still takes, and a button to end it. */
export function JobProgress({ job }: { job: Job }) {
  const running = !ended(job);
  const now = useNow(running);
  const client = useQueryClient();
  const [asked, setAsked] = useState(false);
  const [problem, setProblem] = useState<unknown>(null);
  const seen = useRef<{ id: string; points: { at: number; fraction: number }[] }>({ id: "", points: [] });
  useEffect(() => {
    if (seen.current.id !== job.id) seen.current = { id: job.id, points: [] };
    if (job.fraction !== null && job.state === "running")
      seen.current.points.push({ at: Date.now(), fraction: job.fraction });
  }, [job]);

  if (job.state === "done") return null;
  if (!running)
    return (
      <div className={job.state === "failed" ? "message" : "card"} role={job.state === "failed" ? "alert" : "status"}>
        <p>{ENDED[job.state]}</p>
        {job.error && <p style={{ whiteSpace: "pre-wrap" }}>{job.error}</p>}
      </div>
    );

  const cancel = async () => {
    setAsked(true);
    try {
      await api.cancel(job.id);
      await client.invalidateQueries({ queryKey: ["job", job.id] });
    } catch (error) {
      setAsked(false);
      setProblem(error);
    }
  };
  const left = job.state === "running" ? remaining(seen.current.points, now) : null;
  const elapsed = job.started ? Math.max(0, (now - Date.parse(job.started)) / 1000) : null;
  const steps = job.total ? `${job.done} of ${job.total}` : job.done ? `${job.done}` : "";
  return (
    <div className="card job" role="status">
      <div className="row">
        <strong>{job.state === "queued" ? "Waiting for its turn" : sentence(job.what || "running")}</strong>
        <span className="muted number">
          {[job.fraction ? `${Math.round(100 * job.fraction)} %` : "", steps].filter(Boolean).join(" · ")}
        </span>
        <span className="muted number job-time">
          {elapsed !== null && `${duration(elapsed)} so far`}
          {left !== null && `, about ${duration(left)} left`}
        </span>
        <button onClick={cancel} disabled={asked}>
          {asked ? "Being cancelled…" : "Cancel"}
        </button>
      </div>
      <progress aria-label="Progress" max={1} value={job.fraction ?? undefined} />
      <Problem error={problem} />
    </div>
  );
}

const ENDED: Record<string, string> = {
  failed: "The job failed.",
  cancelled: "The job was cancelled; nothing of it was kept.",
  interrupted: "The server was stopped while the job ran. Run it again.",
};

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
