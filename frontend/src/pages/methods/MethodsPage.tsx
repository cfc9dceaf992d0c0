import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { Link } from "react-router";

import { ofMethods } from "../../api/queries";
import type { Method } from "../../api/types";
import { Problem } from "../../layout/Problem";
import { useUrl } from "../../parts/url";
import { GROUPS, groupTitle, matching, need } from "./catalogue";
import { Citations } from "./Citations";
import "./methods.css";

/** Every method of the registry, by the question that it answers. */
export default function MethodsPage() {
  const { params, set } = useUrl();
  const methods = useQuery(ofMethods);
  const text = params.get("text") ?? "";
  const group = params.get("group") ?? "";
  const groups = useMemo(() => groupsOf(methods.data ?? []), [methods.data]);
  const found = matching(methods.data ?? [], text).filter((method) => !group || method.group === group);
  return (
    <main className="page">
      <h1>Methods</h1>
      <div className="filters">
        <div className="grow">
          <label htmlFor="search">Search</label>
          <input
            id="search"
            type="search"
            value={text}
            placeholder="a question, a name, a citation"
            onChange={(event) => set({ text: event.target.value })}
          />
        </div>
        <div>
          <label htmlFor="group">Kind of question</label>
          <select id="group" value={group} onChange={(event) => set({ group: event.target.value })}>
            <option value="">all</option>
            {groups.map((name) => (
              <option key={name} value={name}>
                {groupTitle(name)}
              </option>
            ))}
          </select>
        </div>
      </div>
      <Problem error={methods.error} />
      {methods.isPending && <p className="muted">The methods are being fetched…</p>}
      {methods.data && (
        <p className="muted small" role="status">
          {found.length} of {methods.data.length} methods
        </p>
      )}
      {methods.data && !found.length && (
        <p>
          No method matches. <button onClick={() => set({ text: null, group: null })}>Show all</button>
        </p>
      )}
      {groups
        .filter((name) => found.some((method) => method.group === name))
        .map((name) => (
          <section key={name}>
            <h2 className="group-title">{groupTitle(name)}</h2>
            <ul className="method-list">
              {found
                .filter((method) => method.group === name)
                .map((method) => (
                  <li key={method.name} className="panel method-card">
                    <Link to={`/methods/${method.name}`} className="method-link">
                      {method.asks || method.summary}
                    </Link>
                    <p className="method-name">
                      <code>{method.name}</code>
                      {method.package !== "cutaway" && <span className="tag">{method.package}</span>}
                    </p>
                    <p className="muted small">{method.summary}</p>
                    <Citations keys={method.cites} />
                    {method.needs.length > 0 && (
                      <p className="muted small">Needs: {method.needs.map(need).join(", ")}.</p>
                    )}
                  </li>
                ))}
            </ul>
          </section>
        ))}
    </main>
  );
}

function groupsOf(methods: readonly Method[]): string[] {
  const names = [...new Set(methods.map((method) => method.group))];
  const order = Object.keys(GROUPS);
  const place = (name: string) => (order.includes(name) ? order.indexOf(name) : order.length);
  return names.sort((a, b) => place(a) - place(b) || a.localeCompare(b));
}
