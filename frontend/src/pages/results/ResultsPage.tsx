import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { Link, useNavigate } from "react-router";

import { api } from "../../api/client";
import type { ResultSummary } from "../../api/types";
import { Problem } from "../../layout/Problem";
import { bytes, duration, moment, words } from "../../parts/format";
import { useSettled } from "../../parts/time";
import { useUrl } from "../../parts/url";
import "./results.css";

const SHOWN = 50;
const ORDERS: [string, string][] = [
  ["-created", "newest first"],
  ["created", "oldest first"],
  ["method", "by method"],
  ["model", "by model"],
  ["task", "by task"],
  ["title", "by title"],
  ["-seconds", "longest run first"],
  ["-bytes", "largest first"],
];
const FILTERS = ["method", "model", "task", "tag"] as const;

/** Everything that was kept: find it, open it, put two side by side. */
export default function ResultsPage() {
  const { params, set } = useUrl();
  const navigate = useNavigate();
  const [chosen, setChosen] = useState<readonly string[]>([]);
  const [typed, setTyped] = useState(params.get("text") ?? "");
  const settled = useSettled(typed, 250);
  useEffect(() => {
    if (settled !== (params.get("text") ?? "")) set({ text: settled, page: null });
    // only what was typed changes the address here
    // eslint-disable-next-line
  }, [settled]);

  const page = Math.max(1, Number(params.get("page")) || 1);
  const query = {
    text: params.get("text") ?? "",
    method: params.get("method") ?? "",
    model: params.get("model") ?? "",
    task: params.get("task") ?? "",
    tag: params.get("tag") ?? "",
    order: params.get("order") ?? "-created",
    limit: SHOWN,
    offset: (page - 1) * SHOWN,
  };
  const results = useQuery({
    queryKey: ["results", query],
    queryFn: ({ signal }) => api.results(query, signal),
    placeholderData: keepPreviousData,
    staleTime: 5_000,
  });
  const items = results.data?.items ?? [];
  const total = results.data?.total ?? 0;
  const pages = Math.max(1, Math.ceil(total / SHOWN));
  const options = useMemo(() => optionsOf(items), [items]);
  const filtered = Boolean(query.text || FILTERS.some((name) => query[name]));
  const toggle = (id: string) =>
    setChosen((old) => (old.includes(id) ? old.filter((other) => other !== id) : [...old, id].slice(-2)));

  return (
    <main className="page">
      <h1>Results</h1>
      <div className="filters">
        <div className="grow">
          <label htmlFor="search">Search</label>
          <input
            id="search"
            type="search"
            value={typed}
            placeholder="title, note, method"
            onChange={(event) => setTyped(event.target.value)}
          />
        </div>
        {FILTERS.map((name) => (
          <div key={name}>
            <label htmlFor={`filter-${name}`}>{name.charAt(0).toUpperCase() + name.slice(1)}</label>
            <input
              id={`filter-${name}`}
              list={`options-${name}`}
              value={query[name]}
              placeholder="all"
              autoComplete="off"
              onChange={(event) => set({ [name]: event.target.value, page: null })}
            />
            <datalist id={`options-${name}`}>
              {options[name].map((value) => (
                <option key={value} value={value} />
              ))}
            </datalist>
          </div>
        ))}
        <div>
          <label htmlFor="order">Order</label>
          <select id="order" value={query.order} onChange={(event) => set({ order: event.target.value, page: null })}>
            {ORDERS.map(([value, name]) => (
              <option key={value} value={value}>
                {name}
              </option>
            ))}
          </select>
        </div>
      </div>
      <Problem error={results.error} />
      <div className="row results-bar">
        <span className="muted small" role="status">
          {results.isPending ? "The results are being fetched…" : total === 1 ? "1 result" : `${total} results`}
        </span>
        {chosen.length > 0 && (
          <>
            <button
              className="primary"
              disabled={chosen.length !== 2}
              onClick={() => navigate(`/compare/${chosen[0]}/${chosen[1]}`)}
            >
              {chosen.length === 2 ? "Compare the two" : "Tick one more to compare"}
            </button>
            <button onClick={() => setChosen([])}>Untick</button>
          </>
        )}
      </div>
      {results.data && !items.length && (
        <div className="card">
          {filtered ? (
            <p>
              No result matches.{" "}
              <button
                onClick={() => {
                  setTyped("");
                  set({ text: null, method: null, model: null, task: null, tag: null, page: null });
                }}
              >
                Show all
              </button>
            </p>
          ) : (
            <p>
              Nothing has been kept yet. <Link to="/explain">Explain a prompt</Link> or{" "}
              <Link to="/methods">run a method</Link>; what it finds is kept here.
            </p>
          )}
        </div>
      )}
      {items.length > 0 && (
        <table className={results.isPlaceholderData ? "results stale" : "results"}>
          <thead>
            <tr>
              <th scope="col">
                <span className="visually-hidden">Compare</span>
              </th>
              <th scope="col">Result</th>
              <th scope="col">Task</th>
              <th scope="col">Model</th>
              <th scope="col">Checks</th>
              <th scope="col" className="number">
                Made
              </th>
              <th scope="col" className="number">
                Took
              </th>
              <th scope="col" className="number">
                Size
              </th>
            </tr>
          </thead>
          <tbody>
            {items.map((item) => (
              <Row key={item.id} item={item} ticked={chosen.includes(item.id)} onTick={() => toggle(item.id)} />
            ))}
          </tbody>
        </table>
      )}
      {pages > 1 && (
        <nav className="row" aria-label="More results">
          <button disabled={page <= 1} onClick={() => set({ page: page > 2 ? page - 1 : null }, true)}>
            Newer page
          </button>
          <span className="number">
            {page} of {pages}
          </span>
          <button disabled={page >= pages} onClick={() => set({ page: page + 1 }, true)}>
            Next page
          </button>
        </nav>
      )}
    </main>
  );
}

function Row({ item, ticked, onTick }: { item: ResultSummary; ticked: boolean; onTick: () => void }) {
  const title = item.title || words(item.method) || item.id.slice(0, 12);
  return (
    <tr>
      <td>
        <input type="checkbox" checked={ticked} onChange={onTick} aria-label={`Compare ${title}`} />
      </td>
      <td className="results-title">
        <Link to={`/results/${item.id}`}>{title}</Link>{" "}
        {item.title && item.method && <span className="muted small">{words(item.method)}</span>}{" "}
        {item.tags.map((tag) => (
          <span key={tag} className="tag">
            {tag}
          </span>
        ))}
        {item.note && <p className="muted small results-note">{item.note}</p>}
      </td>
      <td data-label="task">{item.task}</td>
      <td data-label="model">{item.model}</td>
      <td data-label="checks">
        {item.checks > 0 ? (
          <span className={item.checks_passed === item.checks ? "good" : "bad"}>
            {item.checks_passed} of {item.checks} hold
          </span>
        ) : (
          <span className="muted">none</span>
        )}
      </td>
      <td data-label="made" className="number nowrap">
        <time dateTime={item.created}>{moment(item.created)}</time>
      </td>
      <td data-label="took" className="number">
        {item.seconds ? duration(item.seconds) : ""}
      </td>
      <td data-label="size" className="number">
        {bytes(item.bytes)}
      </td>
    </tr>
  );
}

function optionsOf(items: readonly ResultSummary[]): Record<(typeof FILTERS)[number], string[]> {
  const distinct = (values: string[]) => [...new Set(values.filter(Boolean))].sort();
  return {
    method: distinct(items.map((item) => item.method)),
    model: distinct(items.map((item) => item.model)),
    task: distinct(items.map((item) => item.task)),
    tag: distinct(items.flatMap((item) => item.tags)),
  };
}
