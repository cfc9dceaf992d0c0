import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { ofStudies } from "../../api/queries";
import type { StudyClaim, StudyEntry } from "../../api/types";
import { Problem } from "../../layout/Problem";
import { useUrl } from "../../parts/url";
import { VerdictMark } from "./Claims";
import { STATUSES, VERDICTS, chosen, counted, pageOf } from "./verdicts";
import "../methods/methods.css";
import "./studies.css";

/** Every paper and article of the list, with what became of it here. */
export default function StudiesPage() {
  const { params, set } = useUrl();
  const studies = useQuery(ofStudies);
  const asked = {
    text: params.get("text") ?? "",
    status: params.get("status") ?? "",
    verdict: params.get("verdict") ?? "",
  };
  const found = chosen(studies.data ?? [], asked);
  return (
    <main className="page">
      <h1>Studies</h1>
      <p className="muted">
        The papers and articles of the public list of language-model interpretability: what each claims, and what comes
        out here. A verdict follows from our figure, from a criterion that was fixed before the run, and from the scale.
      </p>
      <div className="filters">
        <div className="grow">
          <label htmlFor="search">Search</label>
          <input
            id="search"
            type="search"
            value={asked.text}
            placeholder="a question, a title, an author, a method"
            onChange={(event) => set({ text: event.target.value })}
          />
        </div>
        <Chooser name="status" value={asked.status} options={STATUSES} onChange={(status) => set({ status })} />
        <Chooser name="verdict" value={asked.verdict} options={VERDICTS} onChange={(verdict) => set({ verdict })} />
      </div>
      <Problem error={studies.error} />
      {studies.isPending && <p className="muted">The studies are being fetched…</p>}
      {studies.data && (
        <p className="muted small" role="status">
          {found.length} of {studies.data.length} papers
        </p>
      )}
      {studies.data && !found.length && (
        <p>
          No paper matches.{" "}
          <button onClick={() => set({ text: null, status: null, verdict: null })}>Show all</button>
        </p>
      )}
      <ul className="method-list">
        {found.map((study) => (
          <li key={`${study.item} ${study.study ?? ""}`} className="panel method-card">
            <StudyCard study={study} />
          </li>
        ))}
      </ul>
    </main>
  );
}

function Chooser({
  name,
  value,
  options,
  onChange,
}: {
  name: string;
  value: string;
  options: readonly string[];
  onChange: (value: string) => void;
}) {
  return (
    <div>
      <label htmlFor={name}>{name[0]?.toUpperCase() + name.slice(1)}</label>
      <select id={name} value={value} onChange={(event) => onChange(event.target.value)}>
        <option value="">all</option>
        {options.map((option) => (
          <option key={option}>{option}</option>
        ))}
      </select>
    </div>
  );
}

function StudyCard({ study }: { study: StudyEntry }) {
  return (
    <>
      <Link to={pageOf(study)} className="method-link">
        {study.question}
      </Link>
      <p className="small">
        <span className="tag">{study.item}</span> {study.title}
        <span className="muted">{byline(study) && ` · ${byline(study)}`}</span>
      </p>
      {study.status === "recorded" ? (
        <>
          <p className="study-counts">
            {counted(study.claims).map(([verdict, count]) => (
              <VerdictMark key={verdict} verdict={verdict} count={count} />
            ))}
            <span className="muted small">at {study.scale} scale</span>
          </p>
          <Figures claims={study.claims} />
        </>
      ) : (
        <p className="muted small">
          {study.status === "to come" ? "to come" : `not run yet · ${study.claims.length} claims`}
        </p>
      )}
    </>
  );
}

/** The paper's figure beside ours, of the first claims that have both. */
function Figures({ claims }: { claims: readonly StudyClaim[] }) {
  const shown = claims.filter((claim) => claim.ours !== null).slice(0, 3);
  if (!shown.length) return null;
  return (
    <dl className="study-figures">
      {shown.map((claim) => (
        <div key={claim.key} title={claim.sentence}>
          <dt>{claim.key.replaceAll("_", " ")}</dt>
          <dd>
            <span className="muted">paper</span> {claim.theirs}
          </dd>
          <dd className="number">
            <span className="muted">ours</span> {claim.said}
          </dd>
        </div>
      ))}
    </dl>
  );
}

/** "Wang et al. 2022": who wrote it, in short. */
export function byline(study: Pick<StudyEntry, "authors" | "year">): string {
  const names = study.authors.split(",").map((name) => name.trim());
  const family = (name: string) => name.replace(/^(?:\p{Lu}\.[- ]?)+/u, "").replace(/ et al\.$/, "");
  const first = family(names[0] ?? "");
  const several = names.length > 2 || study.authors.endsWith("et al.");
  const who = several ? `${first} et al.` : names.map(family).join(" and ");
  return `${who} ${study.year || ""}`.trim();
}
