/** A whole result: its pictures, figures, checks and notes; what is pointed at in one picture shows in all. */

import { useState } from "react";
import type { ResultSource } from "../api/source";
import type { Theme } from "../views/palette";
import type { Hover } from "../views/types";
import { ViewPicture } from "../views/ViewPicture";
import { visibleText } from "../views/words";
import type { WidgetRecord } from "./kernel";

export function ResultWidget({ source, record, theme }: { source: ResultSource; record: WidgetRecord; theme: Theme }) {
  const [hover, setHover] = useState<Hover>(null);
  const metrics = Object.entries(record.metrics);
  return (
    <div className="cutaway-widget" data-theme={theme}>
      {record.views.map((view, index) => (
        <figure key={index}>
          <figcaption>{visibleText(view.title)}</figcaption>
          <ViewPicture result={source} view={view} theme={theme} hover={hover} onHover={setHover} />
        </figure>
      ))}
      {metrics.length > 0 && (
        <dl>
          {metrics.map(([name, said]) => (
            <div key={name}>
              <dt>{visibleText(name)}</dt>
              <dd>{visibleText(said)}</dd>
            </div>
          ))}
        </dl>
      )}
      {record.checks.map((check, index) => (
        <section key={index} className={check.passed ? "cutaway-check" : "cutaway-check cutaway-fails"}>
          <p>
            <strong>{check.verdict}</strong> {visibleText(check.claim)}
          </p>
          <p>{visibleText(check.how)}</p>
          <p>{visibleText(check.figures)}</p>
        </section>
      ))}
      {record.notes.map((note, index) => (
        <p key={index} className="cutaway-note">
          Note: {visibleText(note)}
        </p>
      ))}
      <footer>
        {record.command && (
          <p>
            Again: <code>{visibleText(record.command)}</code>
          </p>
        )}
        <p>{record.origin}</p>
      </footer>
    </div>
  );
}
