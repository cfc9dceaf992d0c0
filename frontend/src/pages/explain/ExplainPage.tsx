import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useMemo, useState } from "react";

import { api } from "../../api/client";
import type { Candidate } from "../../api/types";
import { Problem } from "../../layout/Problem";
import { useJob } from "../../parts/job";
import { JobProgress } from "../../parts/JobProgress";
import { firstModel, isBusy, useModels, useOpened, whileBusy } from "../../parts/models";
import type { Hover } from "../../parts/Pictures";
import { useSettled } from "../../parts/time";
import { useUrl } from "../../parts/url";
import { useAblation } from "./ablation";
import { AblatePanel } from "./AblatePanel";
import { differences, LiveTokens } from "./LiveTokens";
import { NextToken } from "./NextToken";
import { QuestionForm, type Question } from "./QuestionForm";
import { Report } from "./Report";
import { reportOf } from "./report";
import "./explain.css";

/** Type a prompt, see what the model reads and says; ask why, and read the answer beside its tests. */
export default function ExplainPage() {
  const { params, set } = useUrl();
  const client = useQueryClient();
  const models = useModels();
  const jobId = params.get("job");
  const { job, error: jobError } = useJob(jobId);

  const question: Question = {
    model: params.get("model") ?? (jobId && !job ? "" : said(job?.spec["model"]) || firstModel(models.data ?? [])),
    prompt: params.get("prompt") ?? said(job?.spec["prompt"]),
    instead: params.get("instead") ?? said(job?.spec["instead"]),
    answer: params.get("answer") ?? said(job?.spec["answer"]),
  };
  const { model } = question;
  const available = models.data?.find((entry) => entry.name === model)?.available ?? true;
  const opened = useOpened(available && question.prompt.trim() ? model : "");
  const text = useSettled(question.prompt, 250);
  const live = opened.ready && text.trim() !== "";

  const next = useQuery({
    queryKey: ["next", model, text],
    queryFn: ({ signal }) => api.next({ model, text, top: 10 }, signal),
    enabled: live,
    staleTime: Infinity,
    placeholderData: (before) => before,
    retry: whileBusy,
    retryDelay: 2000,
  });
  const tokens = useQuery({
    queryKey: ["tokenize", model, text],
    queryFn: ({ signal }) => api.tokenize({ model, text }, signal),
    enabled: live,
    staleTime: Infinity,
    placeholderData: (before) => before,
    retry: whileBusy,
    retryDelay: 2000,
  });
  const instead = useSettled(question.instead, 250);
  const other = useQuery({
    queryKey: ["tokenize", model, instead],
    queryFn: ({ signal }) => api.tokenize({ model, text: instead }, signal),
    enabled: opened.ready && instead.trim() !== "",
    staleTime: Infinity,
    placeholderData: (before) => before,
    retry: whileBusy,
    retryDelay: 2000,
  });

  const [hover, setHover] = useState<Hover>(null);
  const hoverPosition = useCallback((position: number | null) => setHover(position === null ? null : { position }), []);
  const sites = useMemo(() => (params.get("ablate") ?? "").split(",").filter(Boolean), [params]);
  const setSites = useCallback((chosen: readonly string[]) => set({ ablate: chosen.join(",") }), [set]);
  const ablation = useAblation(live, { model, text, answer: question.answer, sites });
  const [submitting, setSubmitting] = useState(false);
  const [problem, setProblem] = useState<unknown>(null);

  const run = async () => {
    setSubmitting(true);
    setProblem(null);
    try {
      const submitted = await api.submit({
        kind: "explain",
        model,
        prompt: question.prompt,
        ...(question.instead.trim() ? { instead: question.instead } : {}),
        ...(question.answer ? { answer: question.answer } : {}),
      });
      void client.invalidateQueries({ queryKey: ["jobs"] });
      set({ ...question, job: submitted.id }, true);
    } catch (error) {
      setProblem(error);
    } finally {
      setSubmitting(false);
    }
  };

  // such as an encoder, which predicts no next token
  const refused = next.isError && !isBusy(next.error);
  const report = reportOf(job?.report);
  const earlier =
    job !== undefined &&
    (said(job.spec["prompt"]) !== question.prompt ||
      said(job.spec["instead"]) !== question.instead ||
      said(job.spec["answer"]) !== question.answer ||
      said(job.spec["model"]) !== model);
  const running = job !== undefined && (job.state === "queued" || job.state === "running");
  const misaligned =
    live &&
    question.instead.trim() !== "" &&
    !tokens.isPlaceholderData &&
    !other.isPlaceholderData &&
    tokens.data !== undefined &&
    other.data !== undefined &&
    instead === question.instead &&
    text === question.prompt &&
    (tokens.data.ids.length !== other.data.ids.length || differences(tokens.data.ids, other.data.ids).size === 0);

  return (
    <main className="page explain">
      <h1>Why does the model say that?</h1>
      <div className="explain-top">
        <div className="stack">
          <QuestionForm
            question={question}
            onChange={set}
            onRun={run}
            canRun={
              Boolean(model && available && question.prompt.trim()) &&
              !submitting &&
              !running &&
              !misaligned &&
              !refused
            }
            running={running}
          />
          <Problem error={problem} />
          <LiveTokens
            tokens={text.trim() ? tokens.data : undefined}
            other={instead.trim() ? other.data : undefined}
            hovered={hover?.["position"]}
            onHover={hoverPosition}
          />
          <Problem error={tokens.error ?? other.error} />
        </div>
        <NextToken
          next={text.trim() ? next.data : undefined}
          stale={next.isPlaceholderData || text !== question.prompt}
          opening={opened.opening ? model : ""}
          waiting={isBusy(next.failureReason) || isBusy(tokens.failureReason)}
          error={opened.error ?? next.error}
          answer={question.answer}
          onAnswer={(candidate: Candidate) =>
            set({ answer: candidate.text === question.answer ? null : candidate.text })
          }
        />
      </div>
      <Problem error={jobError} />
      {job && <JobProgress job={job} />}
      <p className="visually-hidden" role="status">
        {job?.state === "done" ? "The explanation is ready." : ""}
      </p>
      {live && !refused && <AblatePanel sites={sites} onSites={setSites} job={job} ablation={ablation} />}
      {report && job && (
        <>
          {earlier && (
            <p className="card small" role="note">
              The report below is about “{report.prompt}”, which is not what stands above now.
            </p>
          )}
          <Report
            report={report}
            results={job.results}
            model={said(job.spec["model"])}
            hover={hover}
            onHover={setHover}
            sites={sites}
            onSites={setSites}
            ablation={ablation}
          />
        </>
      )}
    </main>
  );
}

function said(value: unknown): string {
  return typeof value === "string" ? value : "";
}
