import { useId, useMemo, useState } from "react";

import type { Job } from "../../api/types";
import { Problem } from "../../layout/Problem";
import { IntervalPicture } from "../../parts/CheckCard";
import { Distribution } from "../../parts/Distribution";
import { percent } from "../../parts/format";
import { ablationSite, partOf } from "../../parts/sites";
import { signed, visible } from "../../views/words";
import type { Ablation } from "./ablation";
import { largestParts, reportOf } from "./report";

interface Props {
  sites: readonly string[];
  onSites: (sites: readonly string[]) => void;
  job: Job | undefined;
  ablation: Ablation;
}

/** Tick heads and MLPs: what does the prediction become without them, and without as many random ones? */
export function AblatePanel({ sites, onSites, job, ablation }: Props) {
  const id = useId();
  const [typed, setTyped] = useState("");
  const [refused, setRefused] = useState("");
  const parts = useMemo(() => {
    const report = reportOf(job?.report);
    return report ? largestParts(report) : [];
  }, [job?.report]);
  const offered = [
    ...parts,
    ...sites.filter((site) => !parts.some((part) => part.site === site)).map((site) => ({ name: site, site })),
  ];
  const toggle = (site: string) =>
    onSites(sites.includes(site) ? sites.filter((other) => other !== site) : [...sites, site]);
  const add = () => {
    const written = typed.trim();
    const part = partOf(written);
    const site = part && (ablationSite(part) ?? written);
    if (!site) {
      setRefused(`There is no part ${written || "without a name"}. Write for example head 9.6, mlp 3 or z[9].head[6].`);
      return;
    }
    setRefused("");
    setTyped("");
    if (!sites.includes(site)) onSites([...sites, site]);
  };
  const { found, stale } = ablation;

  return (
    <section id="ablate" className="panel ablate" aria-labelledby={`${id}-title`}>
      <h2 id={`${id}-title`}>Take parts out</h2>
      <div className={sites.length ? "ablate-columns" : "ablate-columns idle"}>
        <div className="stack">
          {offered.length > 0 ? (
            <fieldset className="ticks">
              <legend>{parts.length ? "Parts that write most for or against the answer" : "Parts"}</legend>
              {offered.map((part) => (
                <label key={part.site} className="inline" title={part.site}>
                  <input type="checkbox" checked={sites.includes(part.site)} onChange={() => toggle(part.site)} />
                  {part.name}
                  {"contribution" in part && (
                    <span className="muted number small">{signed(part.contribution as number)}</span>
                  )}
                </label>
              ))}
            </fieldset>
          ) : (
            <p className="muted small">
              Name a head or an MLP: its output is set to zero, and the prediction without it is shown. After “Explain”,
              the parts that write most of the answer stand here to tick.
            </p>
          )}
          <form
            className="add-site"
            onSubmit={(event) => {
              event.preventDefault();
              add();
            }}
          >
            <label htmlFor={`${id}-site`}>Another part</label>
            <div className="row nowrap">
              <input
                id={`${id}-site`}
                className="mono"
                placeholder="head 9.6, mlp 3"
                value={typed}
                spellCheck={false}
                autoComplete="off"
                aria-invalid={refused ? true : undefined}
                onChange={(event) => setTyped(event.target.value)}
              />
              <button type="submit">Take out</button>
              {sites.length > 0 && (
                <button type="button" onClick={() => onSites([])}>
                  Put all back
                </button>
              )}
            </div>
            {refused && (
              <p className="field-error" role="alert">
                {refused}
              </p>
            )}
          </form>
        </div>
        {sites.length > 0 && (
          <div className={stale ? "stale" : ""} aria-busy={stale} aria-live="polite">
            {ablation.waiting && <p className="muted small">The model works on a job; this waits for it.</p>}
            <Problem error={ablation.error} />
            {!found && ablation.fetching && (
              <p className="muted">
                <span className="spinner" aria-hidden="true" /> Being measured…
              </p>
            )}
            {found && (
              <>
                <p>
                  <code>{visible(found.answer.token)}</code> goes from{" "}
                  <strong className="number">{percent(found.answer.probability_before)}</strong> to{" "}
                  <strong className="number">{percent(found.answer.probability_after)}</strong>
                  {found.control ? (
                    <>
                      . With as many random parts of the same kind set to zero instead:{" "}
                      <span className="number">{percent(found.control.mean)}</span>, 95 % of such sets between{" "}
                      {percent(found.control.low)} and {percent(found.control.high)} (n = {found.control.n}).{" "}
                      {found.control.outside
                        ? "These parts do something that random ones do not."
                        : "Random parts do as much."}
                    </>
                  ) : (
                    ". The model has no other parts of this kind to compare with."
                  )}
                </p>
                {found.control && (
                  <>
                    <IntervalPicture
                      check={{
                        measured: found.answer.probability_after,
                        control: found.control.mean,
                        interval: [found.control.low, found.control.high],
                        unit: "probability of the answer",
                        passed: found.control.outside,
                      }}
                    />
                    <p className="muted small">Dot: without these parts. Grey: without random ones.</p>
                  </>
                )}
                <div className="before-after">
                  <div>
                    <h3>Whole model</h3>
                    <Distribution candidates={found.before} label="With all parts" marked={found.answer.token} />
                  </div>
                  <div>
                    <h3>Without {sites.length === 1 ? "it" : "them"}</h3>
                    <Distribution candidates={found.after} label="Without the parts" marked={found.answer.token} />
                  </div>
                </div>
              </>
            )}
          </div>
        )}
      </div>
    </section>
  );
}
