/** The numbers of a view, fetched when it or its place changes; a slice that is no longer wanted is cancelled. */

import { useEffect, useState } from "react";
import { arrayOf, type ResultSource } from "../api/source";
import type { View } from "../api/types";
import { panelOf, type Panel } from "./framing";
import { fetchParts, placeName, resolve, type Standing } from "./resolve";

export interface NamedStanding extends Standing {
  /** The label of the place. */
  name: string;
}

export interface Loaded {
  panel: Panel | null;
  standing: readonly NamedStanding[];
  /** The place that the panel shows is not the one asked for: a slice is on its way. */
  loading: boolean;
  error: string;
}

const NOTHING: Loaded = { panel: null, standing: [], loading: true, error: "" };

/** Everything that one picture shows. */
export async function load(
  source: ResultSource,
  view: View,
  at: Readonly<Record<string, number>>,
  signal?: AbortSignal,
): Promise<{ panel: Panel; standing: NamedStanding[] }> {
  const resolved = await resolve(source, view, at, signal);
  const labelDim = view.kind === "text" ? resolved.parts["value"]?.dims[0] : undefined;
  const [arrays, labels, names] = await Promise.all([
    fetchParts(source, resolved, signal),
    labelDim && arrayOf(source, labelDim) ? source.slice(labelDim, {}, signal) : undefined,
    Promise.all(resolved.standing.map(({ dim, index }) => placeName(source, dim, index, signal, resolved.standing))),
  ]);
  const standing = resolved.standing.map((each, i) => ({ ...each, name: names[i] ?? String(each.index) }));
  return { panel: panelOf(view, resolved, arrays, labels), standing };
}

export function usePanel(source: ResultSource, view: View, at: Readonly<Record<string, number>>): Loaded {
  const [loaded, setLoaded] = useState<Loaded>(NOTHING);
  const wanted = JSON.stringify([view.kind, view.roles, view.at, view.options]);
  const place = JSON.stringify(at);
  useEffect(() => setLoaded(NOTHING), [source, wanted]);
  useEffect(() => {
    const work = new AbortController();
    setLoaded((old) => ({ ...old, loading: true, error: "" }));
    load(source, view, at, work.signal).then(
      (found) => {
        if (!work.signal.aborted) setLoaded({ ...found, loading: false, error: "" });
      },
      (error: unknown) => {
        if (work.signal.aborted) return;
        const said = error instanceof Error ? error.message : String(error);
        setLoaded((old) => ({ ...old, loading: false, error: said }));
      },
    );
    return () => work.abort();
  }, [source, wanted, place]); // eslint-disable-line react-hooks/exhaustive-deps
  return loaded;
}
