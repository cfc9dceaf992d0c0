import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api } from "../../api/client";
import type { ResultRecord } from "../../api/types";
import { useTheme } from "../../layout/theme";
import { Problem } from "../../layout/Problem";
import { Copyable } from "../../parts/Copyable";

/** Links that download one picture. */
export function ViewExports({ id, view }: { id: string; view: number }) {
  const [theme] = useTheme();
  return (
    <span className="view-exports small">
      {(["svg", "png", "csv"] as const).map((format) => (
        <a key={format} href={api.exportUrl(id, { format, view, theme })} download>
          {format.toUpperCase()}
        </a>
      ))}
    </span>
  );
}

/** The whole result as a file, the Python lines that make it, and a link to this page as it stands. */
export function Exports({ record }: { record: ResultRecord }) {
  const [theme] = useTheme();
  const [copied, setCopied] = useState(false);
  const python = useQuery({
    queryKey: ["python", record.id],
    queryFn: ({ signal }) => api.python(record.id, signal),
    staleTime: Infinity,
  });
  const link = async () => {
    await navigator.clipboard.writeText(window.location.href);
    setCopied(true);
  };
  return (
    <section className="panel">
      <h2>Take it along</h2>
      <div className="row exports">
        {FORMATS.map(([format, name]) => (
          <a key={format} className="button" href={api.exportUrl(record.id, { format, theme })} download>
            {name}
          </a>
        ))}
        <button onClick={() => void link()}>{copied ? "Copied" : "Copy the link"}</button>
      </div>
      <p className="help">
        NetCDF holds every number and opens in plain xarray. SVG, PNG and CSV of one picture are beside its title.
      </p>
      <Problem error={python.error} />
      {python.data && <Copyable text={python.data.text} label="The Python lines that make it" />}
    </section>
  );
}

const FORMATS = [
  ["nc", "NetCDF"],
  ["html", "HTML page"],
  ["json", "JSON"],
  ["csv", "CSV"],
  ["svg", "SVG"],
  ["png", "PNG"],
] as const;
