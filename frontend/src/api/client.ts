/** The server's endpoints as typed functions. Every failure is an ApiError with the server's sentence. */

import { decodeBundle, type Bundle } from "./arrays";
import type {
  Ablation,
  EdgeTested,
  Edit,
  ExplainJob,
  Generated,
  Health,
  Job,
  JobState,
  Json,
  Method,
  MethodJob,
  ModelEntry,
  Next,
  Page,
  Reference,
  ResultRecord,
  ResultSummary,
  StudyEntry,
  StudyPicture,
  StudyRecord,
  TaskEntry,
  Tokenized,
} from "./types";

/** What went wrong, what is allowed, and what to do instead. */
export class ApiError extends Error {
  constructor(
    readonly what: string,
    readonly expected: string,
    readonly instead: string,
    readonly status: number,
    /** The job that is in the way, where one is. */
    readonly job: string | null = null,
  ) {
    super([what, expected, instead].filter(Boolean).join(" "));
    this.name = "ApiError";
  }
}

type Query = Record<string, string | number | boolean | readonly string[] | null | undefined>;

/** A path of the API with its query; empty values are left out, lists joined by commas. */
export function url(path: string, query: Query = {}): string {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(query))
    if (value !== undefined && value !== null && value !== "")
      parts.set(name, Array.isArray(value) ? value.join(",") : String(value));
  const text = parts.toString();
  return `/api${path}${text && `?${text}`}`;
}

/** Fetch from the API; throws an ApiError unless the answer is a success. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path.startsWith("/api") ? path : `/api${path}`, { credentials: "same-origin", ...init });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer.", "", "Is `cutaway serve` still running?", 0);
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function errorOf(response: Response): Promise<ApiError> {
  try {
    const body = (await response.json()) as {
      error?: { what?: string; expected?: string; instead?: string; job?: string | null };
      detail?: unknown;
    };
    if (body.error) {
      const { what = "", expected = "", instead = "", job = null } = body.error;
      return new ApiError(what, expected, instead, response.status, job);
    }
    if (body.detail) return new ApiError(JSON.stringify(body.detail), "", "", response.status);
  } catch {
    // an answer without JSON: the status says what there is to say
  }
  return new ApiError(`The server answered ${response.status} ${response.statusText}.`, "", "", response.status);
}

export function get(path: string, signal?: AbortSignal): Promise<Response> {
  return request(path, { signal: signal ?? null });
}

async function json<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await get(path, signal)).json() as Promise<T>;
}

async function send<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const response = await request(path, {
    method,
    headers: { "content-type": "application/json" },
    body: body === undefined ? null : JSON.stringify(body),
    signal: signal ?? null,
  });
  const text = await response.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

/** Where the server has a study; the slash in the name of a plug-in's is written `--`. */
export function studyPlace(name: string): string {
  return `/studies/${encodeURIComponent(name.replace("/", "--"))}`;
}

export interface ResultsQuery {
  text?: string;
  method?: string;
  model?: string;
  task?: string;
  tag?: string;
  order?: string;
  limit?: number;
  offset?: number;
}

export const api = {
  health: (signal?: AbortSignal) => json<Health>("/health", signal),
  methods: (signal?: AbortSignal) => json<Method[]>("/methods", signal),
  studies: (signal?: AbortSignal) => json<StudyEntry[]>("/studies", signal),
  study: (name: string, signal?: AbortSignal) => json<StudyRecord>(studyPlace(name), signal),
  studyPicture: (name: string, signal?: AbortSignal) => json<StudyPicture>(`${studyPlace(name)}/picture`, signal),
  tasks: (signal?: AbortSignal) => json<TaskEntry[]>("/tasks", signal),
  references: (signal?: AbortSignal) => json<Record<string, Reference>>("/references", signal),
  models: (signal?: AbortSignal) => json<ModelEntry[]>("/models", signal),
  openModel: (model: string) => send<{ anatomy: Json }>("POST", "/models/open", { model }),
  closeModel: (model: string) => send<void>("POST", "/models/close", { model }),
  /** The anatomy of an opened model; the model page says what is in it. */
  anatomy: <T>(model: string, signal?: AbortSignal) => json<T>(url("/anatomy", { model }), signal),

  tokenize: (body: { model: string; text: string }, signal?: AbortSignal) =>
    send<Tokenized>("POST", "/tokenize", body, signal),
  next: (body: { model: string; text: string; top?: number; edit?: Edit[] }, signal?: AbortSignal) =>
    send<Next>("POST", "/next", body, signal),
  ablate: (
    body: { model: string; text: string; sites: string[]; answer?: string; controls?: number; seed?: number },
    signal?: AbortSignal,
  ) => send<Ablation>("POST", "/ablate", body, signal),
  edge: (
    body: { model: string; text: string; contrast: string; edge: string; tokens?: number[]; controls?: number; seed?: number },
    signal?: AbortSignal,
  ) => send<EdgeTested>("POST", "/edge", body, signal),
  generate: (body: { model: string; text: string; max_new_tokens: number }, signal?: AbortSignal) =>
    send<Generated>("POST", "/generate", body, signal),
  activations: async (
    query: { model: string; text: string; sites: readonly string[] },
    signal?: AbortSignal,
  ): Promise<Bundle> => decodeBundle(await (await get(url("/activations", query), signal)).arrayBuffer()),
  /** Scores and entropies of all heads on a text; the attention page says what is in it. */
  attention: <T>(query: { model: string; text: string; text_b?: string }, signal?: AbortSignal) =>
    json<T>(url("/attention", query), signal),

  submit: (body: MethodJob | ExplainJob) => send<Job>("POST", "/jobs", body),
  job: (id: string, signal?: AbortSignal) => json<Job>(`/jobs/${encodeURIComponent(id)}`, signal),
  jobs: (state = "", signal?: AbortSignal) => json<Job[] | Page<Job>>(url("/jobs", { state }), signal).then(itemsOf),
  cancel: (id: string) => send<Job>("POST", `/jobs/${encodeURIComponent(id)}/cancel`),

  results: (query: ResultsQuery, signal?: AbortSignal) =>
    json<Page<ResultSummary>>(url("/results", { ...query }), signal),
  result: (id: string, signal?: AbortSignal) => json<ResultRecord>(`/results/${encodeURIComponent(id)}`, signal),
  updateResult: (id: string, change: { title?: string; tags?: string[]; note?: string }) =>
    send<ResultRecord>("PATCH", `/results/${encodeURIComponent(id)}`, change),
  deleteResult: (id: string) => send<void>("DELETE", `/results/${encodeURIComponent(id)}`),
  python: (id: string, signal?: AbortSignal) =>
    json<{ text: string }>(`/results/${encodeURIComponent(id)}/python`, signal),
  exportUrl: (
    id: string,
    query: { format: "svg" | "png" | "csv" | "nc" | "json" | "html"; view?: number; theme?: string },
  ) => url(`/results/${encodeURIComponent(id)}/export`, query),
};

function itemsOf<T>(answer: T[] | Page<T>): T[] {
  return Array.isArray(answer) ? answer : answer.items;
}

const ENDED: ReadonlySet<JobState> = new Set(["done", "failed", "cancelled", "interrupted"]);

export function ended(job: Pick<Job, "state">): boolean {
  return ENDED.has(job.state);
}

/** Listen to a job until it ends. Returns a function that stops listening. */
export function listen(id: string, onJob: (job: Job) => void, onLost: () => void): () => void {
  const events = new EventSource(`/api/jobs/${encodeURIComponent(id)}/events`);
  let failures = 0;
  const take = (event: MessageEvent<string>) => {
    failures = 0;
    const job = JSON.parse(event.data) as Job;
    onJob(job);
    if (ended(job)) events.close();
  };
  events.addEventListener("progress", take);
  events.addEventListener("state", take);
  events.onerror = () => {
    // the browser tries again by itself, for as long as nobody stops it
    failures += 1;
    if (failures >= 10) events.close();
    if (events.readyState === EventSource.CLOSED) onLost();
  };
  return () => events.close();
}
