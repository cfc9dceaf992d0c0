import type { StudyClaim } from "../../api/types";
import { SIGNS } from "./verdicts";

export function VerdictMark({ verdict, count }: { verdict: StudyClaim["verdict"]; count?: number }) {
  const { sign, name } = SIGNS[verdict];
  return (
    <span className={`verdict-mark ${name}`}>
      <span aria-hidden="true">{sign}</span> {count !== undefined && `${count} `}
      {verdict}
    </span>
  );
}

/** Each claim of a paper: its figure, ours with the control, the criterion, and the verdict. */
export function Claims({ claims }: { claims: readonly StudyClaim[] }) {
  return (
    // on a narrow screen the table is moved sideways, with keys too
    <div className="scroll" role="region" aria-label="Claims" tabIndex={0}>
      <table className="study-claims">
        <thead>
          <tr>
            <th scope="col">Claim</th>
            <th scope="col">Paper</th>
            <th scope="col">Ours</th>
            <th scope="col">Control</th>
            <th scope="col">Has to be</th>
            <th scope="col">Verdict</th>
          </tr>
        </thead>
        <tbody>
          {claims.map((claim) => (
            <tr key={claim.key} id={`claim-${claim.key}`}>
              <th scope="row">
                {claim.sentence}
                {claim.where && <span className="muted small"> ({claim.where})</span>}
                {claim.note && <span className="muted small block">{claim.note}</span>}
              </th>
              <td title={claim.known}>{claim.theirs}</td>
              <td className="number">{claim.said}</td>
              <td>{claim.control}</td>
              <td>{claim.criterion}</td>
              <td>
                <VerdictMark verdict={claim.verdict} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
