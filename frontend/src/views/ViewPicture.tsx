/** One picture of a result, whatever its kind, with the sliders for where it stands and its note. */

import { Component, useRef, useState, type ReactNode } from "react";
import { Attention } from "./Attention";
import { Bars } from "./Bars";
import { Curves } from "./Curves";
import type { Panel } from "./framing";
import { Graph } from "./Graph";
import { Heatmap } from "./Heatmap";
import { Histogram } from "./Histogram";
import { Scatter } from "./Scatter";
import { usePageTheme } from "./surroundings";
import { Table } from "./Table";
import { Text } from "./Text";
import { Tokens } from "./Tokens";
import type { Drawn, PictureProps } from "./types";
import { usePanel, type NamedStanding } from "./usePanel";
import { visibleText } from "./words";
import "./views.css";

export function ViewPicture({ result, view, at, onAt, theme: given, ...rest }: PictureProps) {
  const root = useRef<HTMLDivElement>(null);
  const [own, setOwn] = useState<Readonly<Record<string, number>>>({});
  const theme = usePageTheme(root, given);
  const places = onAt ? (at ?? {}) : { ...at, ...own };
  const { panel, standing, loading, error } = usePanel(result, view, places);
  const move = onAt ?? ((dim: string, index: number) => setOwn((old) => ({ ...old, [dim]: index })));
  return (
    <div ref={root} className={`cv cv-${view.kind}${loading && panel ? " cv-stale" : ""}`} aria-busy={loading}>
      <Sliders standing={standing} at={places} onAt={move} />
      {error && (
        <p className="cv-failed" role="alert">
          {visibleText(error)}
        </p>
      )}
      {!panel && loading && <p className="cv-note">Reading the numbers …</p>}
      {panel && !error && (
        <Guard key={`${view.kind} ${view.title}`}>
          <Picture panel={panel} title={view.title} theme={theme} {...rest} />
        </Guard>
      )}
      {view.note && <p className="cv-note">{visibleText(view.note)}</p>}
    </div>
  );
}

/** The component that draws a panel. */
export function Picture({ panel, ...drawn }: Drawn<Panel>) {
  switch (panel.kind) {
    case "tokens":
      return <Tokens panel={panel} {...drawn} />;
    case "heatmap":
      return <Heatmap panel={panel} {...drawn} />;
    case "attention":
      return <Attention panel={panel} {...drawn} />;
    case "curves":
      return <Curves panel={panel} {...drawn} />;
    case "bars":
      return <Bars panel={panel} {...drawn} />;
    case "scatter":
      return <Scatter panel={panel} {...drawn} />;
    case "histogram":
      return <Histogram panel={panel} {...drawn} />;
    case "graph":
      return <Graph panel={panel} {...drawn} />;
    case "table":
      return <Table panel={panel} {...drawn} />;
    case "text":
      return <Text panel={panel} {...drawn} />;
  }
}

/** A slider for each dimension that the view fixes. */
export function Sliders({
  standing,
  at,
  onAt,
}: {
  standing: readonly NamedStanding[];
  /** The places asked for, where the numbers are still on their way. */
  at: Readonly<Record<string, number>>;
  onAt: (dim: string, index: number) => void;
}) {
  const movable = standing.filter(({ size }) => size > 1);
  if (!movable.length) return null;
  return (
    <div className="cv-controls" role="group" aria-label="Where the picture stands">
      {movable.map(({ dim, index, size, name }) => {
        const place = Math.min(size - 1, Math.max(0, at[dim] ?? index));
        const said = place === index ? name : "…";
        return (
          <label key={dim}>
            {dim.replaceAll("_", " ")}
            <input
              type="range"
              min={0}
              max={size - 1}
              value={place}
              aria-valuetext={said}
              onChange={(event) => onAt(dim, Number(event.target.value))}
            />
            <span className="cv-output">{said}</span>
          </label>
        );
      })}
    </div>
  );
}

/** A picture that cannot be drawn leaves the page standing. */
class Guard extends Component<{ children: ReactNode }, { error: string }> {
  override state = { error: "" };
  static getDerivedStateFromError(error: unknown) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
  override render() {
    if (!this.state.error) return this.props.children;
    return (
      <p className="cv-failed" role="alert">
        This picture cannot be drawn: {visibleText(this.state.error)}
      </p>
    );
  }
}
