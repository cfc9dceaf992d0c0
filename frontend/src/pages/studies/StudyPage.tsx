import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { Link, useParams } from "react-router";

import { api, ApiError, studyPlace } from "../../api/client";
import { httpSource } from "../../api/source";
import type { StudyPicture, StudyRecord } from "../../api/types";
import { Problem } from "../../layout/Problem";
import { CheckCard } from "../../parts/CheckCard";
import { Copyable } from "../../parts/Copyable";
import { Picture, type Hover } from "../../parts/Pictures";
import { Claims, Elsewhere, VerdictMark } from "./Claims";
import { counted } from "./verdicts";
import "./studies.css";

/** One paper: what it claims, what came out here, the picture that shows it, and what differs. */
export default function StudyPage() {
  const name = useParams()["*"] ?? "";
  const study = useQuery({ queryKey: ["study", name], queryFn: ({ signal }) => api.study(name, signal) });
  const absent = study.error instanceof ApiError && study.error.status === 404;
  return (
    <main className="page">
      <p className="small">
        <Link to="/studies">Studies</Link> {study.data && <span className="muted">/ {study.data.item}</span>}
      </p>
      {absent ? <h1>There is no study {name}</h1> : null}
      <Problem error={study.error} />
      {study.isPending && <p className="muted">The study is being fetched…</p>}
      {study.data && <Study study={study.data} name={name} />}
    </main>
  );
}

export function Study({ study, name }: { study: StudyRecord; name: string }) {
  return (
    <>
      <h1>{study.question}</h1>
      <p>
        {study.link ? (
          <a href={study.link} target="_blank" rel="noreferrer">
            {study.title}
          </a>
        ) : (
          study.title
        )}
        <span className="muted">
          {study.authors && ` · ${study.authors}`}
          {study.year > 0 && ` (${study.year})`}
        </span>
      </p>
      {study.note && <p className="muted small">{study.note}</p>}
      <p className="study-counts">
        {study.status === "recorded" ? (
          counted(study.claims).map(([verdict, count]) => <VerdictMark key={verdict} verdict={verdict} count={count} />)
        ) : (
          <span className="tag">{study.status}</span>
        )}
        {study.scale && <span className="muted small">at {study.scale} scale</span>}
      </p>
      {study.stale && (
        <p className="message">The study was changed after this record was made: its figures are of the version before.</p>
      )}
      {study.status === "to come" && <p>There is no study of this paper yet.</p>}
      {study.claims.length > 0 && <Claims claims={study.claims} />}
      {study.other_models.length > 0 && (
        <section className="study-section">
          <h2>On other models</h2>
          <Elsewhere models={study.other_models} claims={study.elsewhere} />
        </section>
      )}
      {study.differs && (
        <section className="study-section">
          <h2>What differs from the paper</h2>
          <p>{study.differs}</p>
        </section>
      )}
      {study.picture && <Pictures name={name} />}
      <Methods study={study} />
      {study.command && <Copyable text={study.command} label={study.record ? "Repeat it" : "Run it"} />}
      {study.record && <Machine record={study.record} />}
    </>
  );
}

function Methods({ study }: { study: StudyRecord }) {
  if (!study.methods.length) return null;
  return (
    <p>
      <strong>Methods:</strong>{" "}
      {study.methods.map((method, index) => (
        <span key={method.name}>
          {index > 0 && ", "}
          {method.exists ? <Link to={`/methods/${method.name}`}>{method.name}</Link> : `${method.name} (to come)`}
        </span>
      ))}
    </p>
  );
}

function Pictures({ name }: { name: string }) {
  const picture = useQuery({
    queryKey: ["study picture", name],
    queryFn: ({ signal }) => api.studyPicture(name, signal),
  });
  return (
    <section className="study-section">
      <h2>Pictures</h2>
      <Problem error={picture.error} />
      {picture.data && <Drawn picture={picture.data} name={name} />}
    </section>
  );
}

function Drawn({ picture, name }: { picture: StudyPicture; name: string }) {
  const source = useMemo(() => httpSource(picture, studyPlace(name)), [picture, name]);
  const [hover, setHover] = useState<Hover>(null);
  const [at, setAt] = useState<Record<string, number>>({});
  return (
    <div className="stack">
      {picture.views.map((view, index) => (
        <Picture
          key={index}
          source={source}
          view={view}
          at={at}
          onAt={(dim, place) => setAt((old) => ({ ...old, [dim]: place }))}
          hover={hover}
          onHover={setHover}
          height={440}
        />
      ))}
      {picture.checks.map((check) => (
        <CheckCard key={check.claim} check={check} />
      ))}
      {picture.notes.map((note) => (
        <p key={note} className="muted small">
          Note: {note}
        </p>
      ))}
    </div>
  );
}

/** Where the figures were measured. */
function Machine({ record }: { record: Record<string, unknown> }) {
  const models = (record["models"] ?? []) as { name: string }[];
  const versions = Object.entries((record["versions"] ?? {}) as Record<string, string>);
  const parts = [
    [...new Set(models.map((model) => model.name))].join(", "),
    `seed ${String(record["seed"])}`,
    String(record["device"]),
    `${String(record["seconds"])} s`,
    String(record["date"]).slice(0, 10),
    versions.map(([what, version]) => `${what} ${version}`).join(", "),
  ];
  return <p className="muted small">{parts.filter(Boolean).join(" · ")}</p>;
}
