import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";

import { api } from "../../api/client";
import { Problem } from "../../layout/Problem";
import { CheckCard } from "../../parts/CheckCard";
import { Copyable } from "../../parts/Copyable";
import { duration, percent } from "../../parts/format";
import { Linked } from "../../parts/Linked";
import { Picture, useSource, type Hover } from "../../parts/Pictures";
import { ablationSite, nameOf, partChosen, pathOf, type Part } from "../../parts/sites";
import { TokenStrip } from "../../parts/TokenStrip";
import { readable, visible } from "../../views/words";
import type { Ablation } from "./ablation";
import type { ExplainRecord, Section } from "./report";

interface Props {
  report: ExplainRecord;
  /** Ids of the sections' results, in their order. */
  results: readonly string[];
  model: string;
  hover: Hover;
  onHover: (hover: Hover) => void;
  sites: readonly string[];
  onSites: (sites: readonly string[]) => void;
  ablation: Ablation;
}

/** The same report as `cutaway explain`, with pictures that answer to the reader. */
export function Report({ report, results, model, hover, onHover, sites, onSites, ablation }: Props) {
  const [part, setPart] = useState<Part | null>(null);
  const provenance = report.provenance;
  const where = { model, prompt: report.prompt };
  return (
    <article id="report" className="report" tabIndex={-1}>
      <h2>
        {model} continues “{readable(report.prompt)}” with <code>{visible(report.answer.token)}</code>
      </h2>
      <div className="card summary">
        <h3>In short</h3>
        <ul>
          {report.summary.map((line) => (
            <li key={line}>
              <Linked text={readable(line)} {...where} />
            </li>
          ))}
        </ul>
      </div>
      <div className="report-tokens">
        <TokenStrip
          tokens={report.tokens}
          label="Tokens of the explained prompt"
          hovered={hover?.["position"]}
          onHover={(position) => onHover(position === null ? null : { position })}
        />
      </div>
      {report.sections.map((section, index) => (
        <SectionView
          key={section.name}
          number={index + 1}
          section={section}
          result={section.result ?? results[index]}
          where={where}
          hover={hover}
          onHover={onHover}
          onPart={setPart}
        />
      ))}
      {report.notes.map((note) => (
        <p key={note} className="muted small">
          Note: {readable(note)}
        </p>
      ))}
      <h2>Look deeper</h2>
      {provenance.command && <Copyable text={provenance.command} label="This report on the command line" />}
      {report.commands.map((line) => (
        <Copyable key={line} text={line} label={`cutaway run ${line.split(" ")[2] ?? ""}`} />
      ))}
      <p className="muted small provenance">{origin(report)}</p>
      {part && (
        <ChosenPart
          part={part}
          where={where}
          sites={sites}
          onSites={onSites}
          ablation={ablation}
          onClose={() => setPart(null)}
        />
      )}
    </article>
  );
}

interface SectionProps {
  number: number;
  section: Section;
  result: string | undefined;
  where: { model: string; prompt: string };
  hover: Hover;
  onHover: (hover: Hover) => void;
  onPart: (part: Part | null) => void;
}

function SectionView({ number, section, result, where, hover, onHover, onPart }: SectionProps) {
  const record = useQuery({
    queryKey: ["result", result],
    queryFn: ({ signal }) => api.result(result as string, signal),
    enabled: result !== undefined,
    staleTime: Infinity,
  });
  const source = useSource(record.data);
  const [all, setAll] = useState(false);
  const [places, setPlaces] = useState<Record<string, number>>({});
  const views = record.data?.views ?? [];
  const shown = section.shown ?? views.map((_, index) => index).slice(0, 2);
  const others = views.length - shown.length;
  const visibleViews = views.flatMap((view, index) => (all || shown.includes(index) ? [{ view, index }] : []));
  return (
    <section id={section.name} className="report-section">
      <h2>
        {number}. {section.title}
      </h2>
      {section.says.map((line) => (
        <p key={line}>
          <Linked text={readable(line)} {...where} />
        </p>
      ))}
      <div className={section.checks.length ? "claims" : ""}>
        <div className={section.checks.length ? "" : "side-by-side"}>
          <Problem error={record.error} />
          {!source && record.isPending && result && <p className="muted">The pictures are being fetched…</p>}
          {source &&
            visibleViews.map(({ view, index }) => (
              <Picture
                key={index}
                source={source}
                view={view}
                at={places}
                onAt={(dim, place) => setPlaces((old) => ({ ...old, [dim]: place }))}
                hover={hover}
                onHover={onHover}
                onSelect={(chosen) => void partChosen(source, chosen).then(onPart)}
                height={420}
              />
            ))}
          <div className="row small section-foot">
            {others > 0 && (
              <button onClick={() => setAll(!all)} aria-expanded={all}>
                {all ? "Fewer pictures" : others === 1 ? "One more picture" : `${others} more pictures`}
              </button>
            )}
            {result && <Link to={`/results/${result}`}>Open this result</Link>}
          </div>
        </div>
        {section.checks.length > 0 && (
          <div className="stack">
            {/* the kept result says the verdict too */}
            {(record.data?.checks ?? section.checks).map((check) => (
              <CheckCard key={check.claim} check={check} links={where} />
            ))}
          </div>
        )}
      </div>
      {section.notes.map((note) => (
        <p key={note} className="muted small">
          Note: {readable(note)}
        </p>
      ))}
    </section>
  );
}

/** What the reader clicked in a picture: where it can be looked at, and taken out. */
function ChosenPart({
  part,
  where,
  sites,
  onSites,
  ablation,
  onClose,
}: {
  part: Part;
  where: { model: string; prompt: string };
  sites: readonly string[];
  onSites: (sites: readonly string[]) => void;
  ablation: Ablation;
  onClose: () => void;
}) {
  const at = { model: where.model, text: where.prompt };
  const site = ablationSite(part);
  const layer: Part = { kind: "layer", layer: part.layer };
  return (
    <div className="chosen-part" role="region" aria-label="Chosen part">
      <strong>{sentence(nameOf(part))}</strong>
      {part.kind === "head" && (
        <Link className="button" to={pathOf(part, at)}>
          Open its attention
        </Link>
      )}
      <Link className="button" to={pathOf(layer, at)}>
        Open layer {part.layer}
      </Link>
      {site && (
        <label className="inline">
          <input
            type="checkbox"
            checked={sites.includes(site)}
            onChange={() => onSites(sites.includes(site) ? sites.filter((other) => other !== site) : [...sites, site])}
          />
          take it out
        </label>
      )}
      {ablation.found && (
        <a href="#ablate" className={ablation.stale ? "stale number" : "number"}>
          {visible(ablation.found.answer.token)} {percent(ablation.found.answer.probability_before)} →{" "}
          {percent(ablation.found.answer.probability_after)}
          {ablation.found.control && `, random ${percent(ablation.found.control.mean)}`}
        </a>
      )}
      <button className="quiet" onClick={onClose} aria-label="Close">
        ✕
      </button>
    </div>
  );
}

function origin({ provenance }: ExplainRecord): string {
  const { model, versions, seed, controls, seconds } = provenance;
  return [
    model && `${model.name} (${model.source || "source unknown"})`,
    model && `${model.dtype} on ${model.device}, ${model.attention} attention`,
    seed !== undefined && `seed ${seed}, ${controls} random controls`,
    seconds !== undefined && duration(seconds),
    versions &&
      Object.entries(versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(", "),
  ]
    .filter(Boolean)
    .join(" · ");
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
