import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { Link, useParams } from "react-router";

import { api } from "../../api/client";
import { ofMethods, ofResult } from "../../api/queries";
import type { Method } from "../../api/types";
import { Problem } from "../../layout/Problem";
import { command, python, type Asked } from "../../parts/commands";
import { Copyable } from "../../parts/Copyable";
import { useJob } from "../../parts/job";
import { JobProgress } from "../../parts/JobProgress";
import { ModelChooser } from "../../parts/ModelChooser";
import { firstModel, useModels } from "../../parts/models";
import { ResultBody } from "../../parts/ResultBody";
import { fieldsOf, readAll } from "../../parts/schema";
import { SchemaForm } from "../../parts/SchemaForm";
import { useUrl, withPrefix } from "../../parts/url";
import { groupTitle, need } from "./catalogue";
import { Citations } from "./Citations";
import { Doc } from "./Doc";
import { jobOf, rowsInUrl, rowsOf } from "./form";
import { TaskChooser, wrongWithRows } from "./TaskChooser";
import "./methods.css";

/** One method: its question, where it comes from, a form from its signature, and what it gives. */
export default function MethodPage() {
  const name = useParams()["*"] ?? "";
  const methods = useQuery(ofMethods);
  const method = methods.data?.find((entry) => entry.name === name);
  return (
    <main className="page">
      <p className="small">
        <Link to="/methods">Methods</Link> {method && <span className="muted">/ {groupTitle(method.group)}</span>}
      </p>
      <Problem error={methods.error} />
      {methods.isPending && <p className="muted">The method is being fetched…</p>}
      {methods.data && !method && (
        <>
          <h1>There is no method {name}</h1>
          <p>
            It may belong to a package that is not installed here. <Link to="/methods">See all methods</Link>
          </p>
        </>
      )}
      {method && <MethodForm key={method.name} method={method} />}
    </main>
  );
}

function MethodForm({ method }: { method: Method }) {
  const { params, set } = useUrl();
  const client = useQueryClient();
  const models = useModels();
  const tasks = useQuery({ queryKey: ["tasks"], queryFn: ({ signal }) => api.tasks(signal) });
  const { job, error: jobError } = useJob(params.get("job"));
  const [problem, setProblem] = useState<unknown>(null);
  const [submitting, setSubmitting] = useState(false);

  const model = params.get("model") ?? firstModel(models.data ?? []);
  const usual = tasks.data?.find((entry) => entry.name === "ioi") ?? tasks.data?.[0];
  const task = params.has("own") || params.has("prompt") ? null : (params.get("task") ?? usual?.name ?? "");
  const rows = useMemo(() => rowsOf(params), [params]);
  const fields = useMemo(() => fieldsOf(method.schema ?? {}), [method.schema]);
  const taskSchema = tasks.data?.find((entry) => entry.name === task)?.schema;
  const taskFields = useMemo(() => (taskSchema ? fieldsOf(taskSchema) : []), [taskSchema]);
  const texts = withPrefix(params, "p");
  const taskTexts = withPrefix(params, "t");
  const parameters = readAll(fields, texts);
  const taskParameters = readAll(taskFields, taskTexts);
  const wrong = task === null ? wrongWithRows(rows, method.needs) : "";
  const known = task === null || (tasks.data !== undefined && task !== ""); // what a task takes is read before it is asked
  const valid =
    model !== "" &&
    known &&
    method.schema !== null &&
    !wrong &&
    !Object.keys(parameters.errors).length &&
    !Object.keys(taskParameters.errors).length;
  const running = job !== undefined && (job.state === "queued" || job.state === "running");
  const asked: Asked = {
    method: method.name,
    model,
    task,
    taskParameters: taskParameters.changed,
    rows,
    parameters: parameters.changed,
  };

  const run = async () => {
    setSubmitting(true);
    setProblem(null);
    try {
      const submitted = await api.submit(
        jobOf(method.name, model, task, taskParameters.changed, rows, parameters.changed),
      );
      void client.invalidateQueries({ queryKey: ["jobs"] });
      set({ model, ...(task === null ? {} : { task }), job: submitted.id }, true);
    } catch (error) {
      setProblem(error);
    } finally {
      setSubmitting(false);
    }
  };
  const chooseTask = (chosen: string | null) => {
    const dropped = Object.fromEntries(Object.keys(taskTexts).map((key) => [`t.${key}`, null]));
    if (chosen === null) set({ task: null, own: "1", ...dropped });
    else set({ task: chosen, own: null, prompt: null, contrast: null, answer: null, wrong: null, ...dropped });
  };

  return (
    <>
      <h1>{method.asks || method.summary}</h1>
      <p>
        <code>{method.name}</code> {method.package !== "cutaway" && <span className="tag">{method.package}</span>}{" "}
        <span className="muted">{method.summary}</span>
      </p>
      {method.problem && (
        <div className="message" role="alert">
          <p>This method cannot be loaded: {method.problem}</p>
        </div>
      )}
      <div className="method-columns">
        <form
          className="stack"
          onSubmit={(event) => {
            event.preventDefault();
            if (valid && !running) void run();
          }}
        >
          <TaskChooser
            tasks={tasks.data ?? []}
            task={task}
            onTask={chooseTask}
            fields={taskFields}
            texts={taskTexts}
            onText={(key, text) => set({ [`t.${key}`]: text })}
            rows={rows}
            onRows={(next) => set(rowsInUrl(next))}
            needs={method.needs}
          />
          <fieldset>
            <legend>Parameters</legend>
            <SchemaForm fields={fields} texts={texts} onText={(key, text) => set({ [`p.${key}`]: text })} />
          </fieldset>
          <ModelChooser value={model} onChange={(chosen) => set({ model: chosen })} />
          {wrong && rows.some((row) => row.prompt) && (
            <p className="field-error" role="alert">
              {wrong}
            </p>
          )}
          <div className="row">
            <button type="submit" className="primary" disabled={!valid || running || submitting}>
              {running ? "Running…" : "Run"}
            </button>
            {Object.keys(texts).length > 0 && (
              <button
                type="button"
                onClick={() => set(Object.fromEntries(Object.keys(texts).map((key) => [`p.${key}`, null])))}
              >
                Defaults
              </button>
            )}
          </div>
          <Problem error={problem ?? tasks.error} />
        </form>
        <aside className="stack">
          <About method={method} />
          <Copyable text={command(asked)} label="The same on the command line" />
          <Copyable text={python(asked)} label="The same in Python" />
        </aside>
      </div>
      <Problem error={jobError} />
      {job && <JobProgress job={job} />}
      {job?.state === "done" && job.results.map((id) => <JobResult key={id} id={id} />)}
    </>
  );
}

function About({ method }: { method: Method }) {
  return (
    <section className="card">
      <h2>About</h2>
      <Doc text={method.doc} without={[method.asks, method.summary]} />
      {method.needs.length > 0 && (
        <p>
          <strong>Needs:</strong> {method.needs.map(need).join(", ")}.
        </p>
      )}
      {method.cites.length > 0 && (
        <>
          <h3>From</h3>
          <Citations keys={method.cites} full />
        </>
      )}
    </section>
  );
}

function JobResult({ id }: { id: string }) {
  const record = useQuery(ofResult(id));
  return (
    <section className="job-result">
      <h2>
        Result <Link to={`/results/${id}`}>open it by itself</Link>
      </h2>
      <Problem error={record.error} />
      {record.data && <ResultBody record={record.data} />}
    </section>
  );
}
