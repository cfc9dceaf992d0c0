import { useQuery } from "@tanstack/react-query";
import { useCallback, useMemo, useState } from "react";
import { Link, useParams } from "react-router";

import { ofResult } from "../../api/queries";
import type { ResultSource } from "../../api/source";
import type { ResultRecord, View } from "../../api/types";
import { Problem } from "../../layout/Problem";
import { CheckCard } from "../../parts/CheckCard";
import { differenceSource, differenceView, labelsDiffer, sameView, whyNoDifference } from "../../parts/difference";
import { moment, words } from "../../parts/format";
import { Picture, useSource, type Hover } from "../../parts/Pictures";
import { modelOf } from "../../parts/ResultBody";
import { placesOf, useUrl } from "../../parts/url";
import { number, readable, signed } from "../../views/words";
import "../results/results.css";
import "./compare.css";

/** Two results side by side: the same picture of both, what is between them, and their figures. */
export default function ComparePage() {
  const { a = "", b = "" } = useParams();
  const first = useQuery(ofResult(a));
  const second = useQuery(ofResult(b));
  return (
    <main className="page wide">
      <p className="small">
        <Link to="/results">Results</Link>
      </p>
      <h1>Two results</h1>
      <Problem error={first.error ?? second.error} />
      {(first.isPending || second.isPending) && <p className="muted">The results are being fetched…</p>}
      {first.data && second.data && <Compared a={first.data} b={second.data} />}
    </main>
  );
}

function Compared({ a, b }: { a: ResultRecord; b: ResultRecord }) {
  const { params, set } = useUrl();
  const [hover, setHover] = useState<Hover>(null);
  const [sourceA, sourceB] = [useSource(a), useSource(b)];
  const wanted = Number(params.get("view") ?? 0);
  const index = a.views[wanted] ? wanted : 0;
  const view = a.views[index];
  const matched = view ? sameView(view, b.views) : -1;
  const other = b.views[matched];
  const at = placesOf(params);
  const setAt = useCallback((dim: string, place: number) => set({ [`at.${dim}`]: place }), [set]);
  const difference = useMemo(
    () => (sourceA && sourceB ? differenceSource(sourceA, sourceB) : null),
    [sourceA, sourceB],
  );
  const why = view && sourceA && sourceB ? whyNoDifference(sourceA, sourceB, view) : "";
  const labels = useQuery({
    queryKey: ["labels", a.id, b.id, index, at],
    queryFn: () => labelsDiffer(sourceA as ResultSource, sourceB as ResultSource, view as View, at),
    enabled: Boolean(view && sourceA && sourceB && !why),
    staleTime: Infinity,
  });
  if (!sourceA || !sourceB || !difference) return null;
  const linked = { at, onAt: setAt, hover, onHover: setHover };
  return (
    <>
      <div className="row view-tabs" role="group" aria-label="Which picture">
        {a.views.map((each, i) => (
          <button key={i} aria-pressed={i === index} onClick={() => set({ view: i || null })}>
            {each.title}
            {sameView(each, b.views) < 0 && " (A only)"}
          </button>
        ))}
      </div>
      <div className="two">
        <section aria-label="Result A">
          <Heading letter="A" record={a} />
          {view && <Picture source={sourceA} view={view} height={440} {...linked} />}
        </section>
        <section aria-label="Result B">
          <Heading letter="B" record={b} />
          {other ? (
            <Picture source={sourceB} view={other} height={440} {...linked} />
          ) : (
            <p className="card">B has no picture like this one.</p>
          )}
        </section>
      </div>
      {view && (
        <section className="difference" aria-label="Difference">
          <h2>Difference, A − B</h2>
          {why || !other ? (
            <p className="card">
              {why ? `They cannot be subtracted: ${why}` : "B has no picture like this one, so nothing is subtracted."}
            </p>
          ) : (
            <>
              {labels.data && (
                <p className="muted small">
                  The results differ in their words or labels too; those in this picture are A's.
                </p>
              )}
              <Picture source={difference} view={differenceView(view)} height={480} {...linked} />
            </>
          )}
        </section>
      )}
      <MetricsTable a={a} b={b} />
      {(a.checks.length > 0 || b.checks.length > 0) && (
        <>
          <h2 className="compare-part">Checks</h2>
          <div className="two">
            <div className="stack">
              {a.checks.map((check) => (
                <CheckCard key={check.claim} check={check} />
              ))}
              {!a.checks.length && <p className="muted">A has no checks.</p>}
            </div>
            <div className="stack">
              {b.checks.map((check) => (
                <CheckCard key={check.claim} check={check} />
              ))}
              {!b.checks.length && <p className="muted">B has no checks.</p>}
            </div>
          </div>
        </>
      )}
      <p className="compare-part">
        <Link to={`/compare/${b.id}/${a.id}?${params}`}>Swap A and B</Link>
      </p>
    </>
  );
}

function Heading({ letter, record }: { letter: string; record: ResultRecord }) {
  return (
    <header className="compare-heading">
      <h2>
        <span className="letter">{letter}</span>{" "}
        <Link to={`/results/${record.id}`}>{record.title || words(record.method) || "Result"}</Link>
      </h2>
      <p className="muted small">
        {[words(record.method), record.task, modelOf(record), moment(record.created)].filter(Boolean).join(" · ")}
      </p>
    </header>
  );
}

function MetricsTable({ a, b }: { a: ResultRecord; b: ResultRecord }) {
  const names = [...new Set([...Object.keys(a.metrics), ...Object.keys(b.metrics)])];
  if (!names.length) return null;
  return (
    <>
      <h2>Figures</h2>
      <div className="scroll-x">
        <table className="plain figures">
          <thead>
            <tr>
              <th scope="col">figure</th>
              <th scope="col" className="number">
                A
              </th>
              <th scope="col" className="number">
                B
              </th>
              <th scope="col" className="number">
                A − B
              </th>
            </tr>
          </thead>
          <tbody>
            {names.map((name) => {
              const [ours, theirs] = [a.metrics[name], b.metrics[name]];
              return (
                <tr key={name}>
                  <th scope="row">{words(name)}</th>
                  <td className="number">{shown(ours)}</td>
                  <td className="number">{shown(theirs)}</td>
                  <td className="number">
                    {typeof ours === "number" && typeof theirs === "number" ? signed(ours - theirs) : ""}
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </>
  );
}

function shown(value: number | string | null | undefined): string {
  if (value === undefined) return "–";
  return typeof value === "string" ? readable(value) : number(value ?? NaN);
}
