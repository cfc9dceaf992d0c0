/** How far can the map be trusted? What its checks say, in a line; the whole check on demand. */

import { useId, useState } from "react";

import type { Check } from "../../api/types";
import { number } from "../../views/words";
import { CheckCard } from "../CheckCard";

export function Badges({ checks }: { checks: readonly Check[] }) {
  if (!checks.length)
    return (
      <p className="badges">
        <span className="badge">? not checked: no intervention tested this map</span>
      </p>
    );
  return (
    <div className="badges">
      {checks.map((check) => (
        <Badge key={check.claim + check.how} check={check} />
      ))}
    </div>
  );
}

function Badge({ check }: { check: Check }) {
  const [open, setOpen] = useState(false);
  const id = useId();
  const unit = check.unit.length <= 12 && check.unit ? ` ${check.unit}` : "";
  const said = (value: number | null | undefined) => number(value ?? NaN);
  return (
    <>
      <button
        type="button"
        className={check.passed ? "badge holds" : "badge fails"}
        aria-expanded={open}
        aria-controls={id}
        onClick={() => setOpen(!open)}
      >
        <span aria-hidden="true">{open ? "▾" : "▸"}</span>
        <strong>{check.passed ? "✓ passes its test" : "✗ fails its test"}</strong>
        <span className="number">
          {said(check.measured)}
          {unit}; random {said(check.interval[0])} to {said(check.interval[1])}
        </span>
      </button>
      <div id={id} className="badge-detail" hidden={!open}>
        {open && <CheckCard check={check} />}
      </div>
    </>
  );
}
