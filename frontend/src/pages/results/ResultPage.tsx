import { useQuery } from "@tanstack/react-query";
import { useCallback, useState } from "react";
import { Link, useParams } from "react-router";

import { ofResult } from "../../api/queries";
import type { Json, ResultRecord } from "../../api/types";
import { Problem } from "../../layout/Problem";
import { Copyable } from "../../parts/Copyable";
import { bytes, duration, moment, words } from "../../parts/format";
import type { Hover } from "../../parts/Pictures";
import { modelOf, ResultBody } from "../../parts/ResultBody";
import { placesOf, useUrl } from "../../parts/url";
import { About } from "./About";
import { formOf } from "./again";
import { Exports, ViewExports } from "./Exports";
import "./results.css";

/** One result: all its pictures, checks and numbers, where it comes from, and how to take it along. */
export default function ResultPage() {
  const id = useParams()["id"] ?? "";
  const record = useQuery(ofResult(id));
  return (
    <main className="page">
      <p className="small">
        <Link to="/results">Results</Link>
      </p>
      <Problem error={record.error} />
      {record.isPending && <p className="muted">The result is being fetched…</p>}
      {record.data && <Opened record={record.data} />}
    </main>
  );
}

function Opened({ record }: { record: ResultRecord }) {
  const { params, set } = useUrl();
  const [hover, setHover] = useState<Hover>(null);
  const wanted = params.get("view");
  const view = wanted !== null && /^\d+$/.test(wanted) && record.views[Number(wanted)] ? Number(wanted) : null;
  const at = placesOf(params);
  const again = formOf(record);
  const setAt = useCallback((dim: string, index: number) => set({ [`at.${dim}`]: index }), [set]);
  return (
    <>
      <h1>{record.title || words(record.method) || "Result"}</h1>
      <p className="muted">
        {record.method && <Link to={`/methods/${record.method}`}>{words(record.method)}</Link>}
        {record.task && ` on ${record.task}`}
        {modelOf(record) && `, ${modelOf(record)}`} · {moment(record.created)}
        {record.seconds ? ` · took ${duration(record.seconds)}` : ""} · {bytes(record.bytes)}
        {record.job && (!record.method || record.task === "explain") && (
          <>
            {" "}
            · <Link to={`/explain?job=${record.job}`}>part of an explanation</Link>
          </>
        )}
      </p>
      {again && (
        <p className="small">
          <Link to={again}>Change something and run it again</Link>
        </p>
      )}
      {record.views.length > 1 && (
        <div className="row view-tabs" role="group" aria-label="Which picture">
          <button aria-pressed={view === null} onClick={() => set({ view: null })}>
            All {record.views.length}
          </button>
          {record.views.map((each, index) => (
            <button key={index} aria-pressed={view === index} onClick={() => set({ view: index })}>
              {each.title}
            </button>
          ))}
        </div>
      )}
      <ResultBody
        record={record}
        view={view}
        at={at}
        onAt={setAt}
        hover={hover}
        onHover={setHover}
        tools={(index) => <ViewExports id={record.id} view={index} />}
      />
      <div className="result-foot">
        <div className="stack">
          <About key={record.id} record={record} />
          <Exports record={record} />
        </div>
        <Provenance record={record} />
      </div>
    </>
  );
}

function Provenance({ record }: { record: ResultRecord }) {
  return (
    <section className="panel">
      <h2>Where it comes from</h2>
      {record.command && <Copyable text={record.command} label="The command that makes it again" />}
      <dl className="provenance-list">{rows(record.provenance)}</dl>
      <details>
        <summary>Arrays ({record.arrays.length})</summary>
        <div className="scroll-x">
          <table className="plain">
            <thead>
              <tr>
                <th scope="col">name</th>
                <th scope="col">dimensions</th>
                <th scope="col">type</th>
              </tr>
            </thead>
            <tbody>
              {record.arrays.map((array) => (
                <tr key={array.name}>
                  <td>
                    <code>{array.name}</code>
                    {array.coordinate && <span className="muted small"> coordinate</span>}
                  </td>
                  <td className="mono">
                    {array.dims.map((dim, index) => `${dim} ${array.shape[index]}`).join(" × ") || "one value"}
                  </td>
                  <td className="mono">{array.dtype}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </details>
    </section>
  );
}

function rows(values: Readonly<Record<string, Json>>, prefix = ""): React.ReactElement[] {
  return Object.entries(values).flatMap(([name, value]) => {
    if (value === null || value === "" || name === "command") return [];
    if (typeof value === "object" && !Array.isArray(value)) return rows(value, `${prefix}${name} `);
    return [
      <div key={prefix + name}>
        <dt>{words(prefix + name)}</dt>
        <dd>{Array.isArray(value) ? JSON.stringify(value) : String(value)}</dd>
      </div>,
    ];
  });
}
