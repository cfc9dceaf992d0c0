import { useState } from "react";
import { useNavigate } from "react-router";

import type { Json, ResultRecord, View } from "../api/types";
import { number, readable } from "../views/words";
import { Reading } from "./attribution/Reading";
import { showsContrast, SideBySide } from "./attribution/SideBySide";
import { showsTokenMap } from "./attribution/tokenMap";
import { CheckCard } from "./CheckCard";
import { edgeChosen, type EdgeChosen } from "./edges";
import { EdgeTest } from "./EdgeTest";
import { Picture, useSource, type Hover } from "./Pictures";
import { partChosen, pathOf } from "./sites";

interface Props {
  record: ResultRecord;
  /** Show one view only. */
  view?: number | null | undefined;
  at?: Readonly<Record<string, number>> | undefined;
  onAt?: ((dim: string, index: number) => void) | undefined;
  hover?: Hover | undefined;
  onHover?: ((hover: Hover) => void) | undefined;
  /** What stands beside a view's title. */
  tools?: ((index: number) => React.ReactNode) | undefined;
}

/** The pictures of a result with its metrics, checks and notes. */
export function ResultBody({ record, view, at, onAt, hover, onHover, tools }: Props) {
  const source = useSource(record);
  const navigate = useNavigate();
  const [ownHover, setOwnHover] = useState<Hover>(null);
  const [ownAt, setOwnAt] = useState<Record<string, number>>({});
  const [edge, setEdge] = useState<(EdgeChosen & { view: number }) | null>(null);
  if (!source) return null;
  const shown = record.views
    .map((each, index) => ({ each, index }))
    .filter(({ index }) => view == null || index === view);
  const [places, move] = [at ?? ownAt, onAt ?? ((dim: string, place: number) => setOwnAt((old) => ({ ...old, [dim]: place })))];
  const isMap = (each: View) => showsTokenMap(source, each);
  const reads = record.views.some(isMap) || showsContrast(source);
  // what can be read step by step comes first
  shown.sort((a, b) => Number(isMap(b.each)) - Number(isMap(a.each)));
  const open = async (chosen: Readonly<Record<string, number>>, view: number) => {
    if (reads && chosen["target"] !== undefined) return move("target", chosen["target"]);
    const arrow = await edgeChosen(source, chosen);
    if (arrow) return setEdge({ ...arrow, view });
    const part = await partChosen(source, chosen);
    if (part) navigate(pathOf(part, { model: modelOf(record), text: "" }));
  };
  return (
    <div className="result-body">
      <Metrics metrics={record.metrics} />
      <div className={record.checks.length ? "claims" : ""}>
        <div>
          {view == null && showsContrast(source) && (
            <SideBySide source={source} checks={record.checks} at={places} onAt={move} />
          )}
          {shown.map(({ each, index }) => {
            const shared = {
              source,
              view: each,
              at: places,
              onAt: move,
              hover: hover === undefined ? ownHover : hover,
              onHover: onHover ?? setOwnHover,
              height: view == null ? 440 : 680,
              children: tools?.(index),
            };
            return (
              <div key={index} id={`view-${index}`}>
                {isMap(each) ? (
                  <Reading {...shared} checks={record.checks} />
                ) : (
                  <Picture {...shared} onSelect={(chosen) => void open(chosen, index)} />
                )}
                {edge?.view === index && (
                  <EdgeTest
                    key={`${edge.edge} ${edge.tokens}`}
                    model={modelOf(record)}
                    edge={edge.edge}
                    tokens={edge.tokens}
                    texts={edge.texts}
                    onClose={() => setEdge(null)}
                  />
                )}
              </div>
            );
          })}
          {!record.views.length && <p className="muted">This result has no pictures.</p>}
        </div>
        {record.checks.length > 0 && (
          <div className="stack" id="checks">
            {record.checks.map((check) => (
              <CheckCard key={check.claim} check={check} />
            ))}
          </div>
        )}
      </div>
      {record.notes.map((note) => (
        <p key={note} className="muted small">
          Note: {readable(note)}
        </p>
      ))}
    </div>
  );
}

export function Metrics({ metrics }: { metrics: Readonly<Record<string, number | string | null>> }) {
  const entries = Object.entries(metrics);
  if (!entries.length) return null;
  return (
    <dl className="metrics">
      {entries.map(([name, value]) => (
        <div key={name}>
          <dt>{name.replaceAll("_", " ")}</dt>
          <dd className="number">{typeof value === "string" ? readable(value) : number(value ?? NaN)}</dd>
        </div>
      ))}
    </dl>
  );
}

/** The model as it was opened. */
export function modelOf(record: Pick<ResultRecord, "model" | "provenance">): string {
  const model: Json | undefined = record.provenance["model"];
  if (model && typeof model === "object" && !Array.isArray(model) && typeof model["name"] === "string")
    return model["name"];
  return record.model;
}
