import { useCallback, useEffect, useRef } from "react";
import { useSearchParams } from "react-router";

export type Change = Record<string, string | number | readonly string[] | null | undefined>;

/** The query of the page's address: what matters for a link is kept there. */
export function useUrl(): {
  params: URLSearchParams;
  /** Change some names; null takes a name out, and "" too unless it is `prefix.name`. Replaces the address unless `push`. */
  set: (change: Change, push?: boolean) => void;
} {
  const [params, setParams] = useSearchParams();
  const latest = useRef(params);
  useEffect(() => {
    latest.current = params;
  }, [params]);
  const set = useCallback(
    (change: Change, push = false) => {
      const next = changed(latest.current, change);
      if (next.toString() === latest.current.toString()) return;
      latest.current = next; // a second change before the next render starts from this one
      // at once, not as a transition: a box that was ticked must not look unticked meanwhile
      setParams(next, { replace: !push, preventScrollReset: true, flushSync: true });
    },
    [setParams],
  );
  return { params, set };
}

/** A query with some names changed. */
export function changed(params: URLSearchParams, change: Change): URLSearchParams {
  const next = new URLSearchParams(params);
  for (const [name, value] of Object.entries(change)) {
    next.delete(name);
    if (Array.isArray(value)) for (const item of value) next.append(name, item);
    // an empty field of a form is not its default, so `p.name=` stays
    else if (value !== null && value !== undefined && (value !== "" || name.includes(".")))
      next.set(name, String(value));
  }
  return next;
}

/** All `prefix.NAME=VALUE` of a query as a record. */
export function withPrefix(params: URLSearchParams, prefix: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [name, value] of params) if (name.startsWith(`${prefix}.`)) found[name.slice(prefix.length + 1)] = value;
  return found;
}

/** The `at.DIM=INDEX` of a query: where pictures stand. */
export function placesOf(params: URLSearchParams): Record<string, number> {
  const places: Record<string, number> = {};
  for (const [dim, text] of Object.entries(withPrefix(params, "at")))
    if (/^\d+$/.test(text)) places[dim] = Number(text);
  return places;
}
