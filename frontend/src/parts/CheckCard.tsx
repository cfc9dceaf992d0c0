import type { Check } from "../api/types";
import { number, readable } from "../views/words";
import { Linked } from "./Linked";

/** A claim, the intervention that tests it, and the control, side by side with the verdict. */
export function CheckCard({ check, links }: { check: Check; links?: { model: string; prompt: string } | undefined }) {
  const unit = check.unit ? ` ${check.unit}` : "";
  return (
    <article className={check.passed ? "check" : "check fails"}>
      <p className="check-claim">
        <span className="verdict">{check.passed ? "✓ holds" : "✗ does not hold"}</span>{" "}
        {links ? <Linked text={readable(check.claim)} {...links} /> : readable(check.claim)}
      </p>
      <IntervalPicture check={check} />
      <dl className="check-figures">
        <dt className="key-measured">measured</dt>
        <dd className="number">
          <strong>{said(check.measured)}</strong>
          {unit}
        </dd>
        <dt className="key-control">control</dt>
        <dd className="number">
          {said(check.control)}
          {unit}, 95 % in [{said(check.interval[0])}, {said(check.interval[1])}], n = {check.n}
        </dd>
        {check.place && (
          <>
            <dt>so</dt>
            <dd>measured is {check.place} the interval of the control</dd>
          </>
        )}
        <dt>how</dt>
        <dd className="muted">{readable(check.how)}</dd>
      </dl>
    </article>
  );
}

/** The measured value as a dot against the interval of the control on one axis. */
export function IntervalPicture({
  check,
}: {
  check: Pick<Check, "measured" | "control" | "interval" | "unit"> & { passed?: boolean };
}) {
  const [measured, control] = [check.measured ?? NaN, check.control ?? NaN];
  const interval: [number, number] = [check.interval[0] ?? NaN, check.interval[1] ?? NaN];
  const values = [measured, control, ...interval].filter(Number.isFinite);
  const low = Math.min(0, ...values);
  const high = Math.max(0, ...values);
  const reach = high - low || 1;
  const width = 320;
  const place = (value: number) => 8 + ((value - low) / reach) * (width - 16);
  const said = `Measured ${number(measured)}${check.unit ? ` ${check.unit}` : ""}; control ${number(control)}, 95 % between ${number(interval[0])} and ${number(interval[1])}.`;
  return (
    <svg className="interval" viewBox={`0 0 ${width} 34`} role="img" aria-label={said}>
      <title>{said}</title>
      <line x1="8" x2={width - 8} y1="13" y2="13" className="interval-axis" />
      <line x1={place(0)} x2={place(0)} y1="4" y2="22" className="interval-zero" />
      {values.length > 0 && (
        <text x={place(0)} y="32" textAnchor={place(0) < 20 ? "start" : place(0) > width - 20 ? "end" : "middle"}>
          0
        </text>
      )}
      {interval.every(Number.isFinite) && (
        <rect
          x={place(interval[0])}
          width={Math.max(2, place(interval[1]) - place(interval[0]))}
          y="8"
          height="10"
          rx="2"
          className="interval-control"
        />
      )}
      {Number.isFinite(control) && (
        <line x1={place(control)} x2={place(control)} y1="6" y2="20" className="interval-mean" />
      )}
      {Number.isFinite(measured) && (
        <circle
          cx={place(measured)}
          cy="13"
          r="5.5"
          className={check.passed === false ? "interval-dot fails" : "interval-dot"}
        />
      )}
    </svg>
  );
}

function said(value: number | null | undefined): string {
  return number(value ?? NaN);
}
