/** Words as they are: one text, or several, each under the label of where it stands. */

import type { Texts } from "./framing";
import { Empty } from "./Hint";
import { useState } from "react";
import type { Drawn } from "./types";
import { readable } from "./words";

const MOST_TEXTS = 50;

export function Text({ panel, hover, onHover, onSelect }: Drawn<Texts>) {
  const [all, setAll] = useState(false);
  if (!panel.texts.length) return <Empty>There are no texts to show.</Empty>;
  const shown = all ? panel.texts : panel.texts.slice(0, MOST_TEXTS);
  const at = (index: number) => (panel.dim === undefined ? null : { [panel.dim]: index });
  return (
    <div className="cv-text cv-picture">
      {shown.map((text, index) => (
        <section
          key={index}
          data-linked={panel.dim !== undefined && hover?.[panel.dim] === index}
          onPointerEnter={() => onHover?.(at(index))}
          onPointerLeave={() => onHover?.(null)}
          onClick={() => {
            const chosen = at(index);
            if (chosen) onSelect?.(chosen);
          }}
        >
          {panel.labels[index] && <h4>{panel.labels[index]}</h4>}
          <pre>{readable(text)}</pre>
        </section>
      ))}
      {shown.length < panel.texts.length && (
        <button type="button" onClick={() => setAll(true)}>
          Show all {panel.texts.length} texts
        </button>
      )}
    </div>
  );
}
