import type { StudyClaim, StudyRecord } from "../../api/types";
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

const COLUMNS = ["Claim", "Paper", "Ours", "Control", "Has to be", "Verdict"] as const;

/** Each claim of a paper: its figure, ours with the control, the criterion, and the verdict. */
export function Claims({ claims }: { claims: readonly StudyClaim[] }) {
  return (
    // where there is no room for columns a row becomes a card; the roles say that it is a table all the same
    <table className="study-claims" role="table" aria-label="Claims">
      <thead role="rowgroup">
        <tr role="row">
          {COLUMNS.map((name) => (
            <th key={name} scope="col" role="columnheader">
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {claims.map((claim) => (
          <tr key={claim.key} id={`claim-${claim.key}`} role="row">
            <th scope="row" role="rowheader">
              {claim.sentence}
              {claim.where && <span className="muted small"> ({claim.where})</span>}
              {claim.note && <span className="muted small block">{claim.note}</span>}
            </th>
            <td role="cell" data-label="Paper" title={claim.known}>
              {claim.theirs}
            </td>
            <td role="cell" data-label="Ours" className="number">
              {claim.said}
            </td>
            <td role="cell" data-label="Control">
              {claim.control}
            </td>
            <td role="cell" data-label="Has to be">
              {claim.criterion}
            </td>
            <td role="cell" data-label="Verdict">
              <VerdictMark verdict={claim.verdict} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** Each claim on the models that it was run on beside the scale's own. */
export function Elsewhere({ models, claims }: { models: readonly string[]; claims: StudyRecord["elsewhere"] }) {
  return (
    <table className="study-claims" role="table" aria-label="Claims on other models">
      <thead role="rowgroup">
        <tr role="row">
          {["Claim", ...models].map((name) => (
            <th key={name} scope="col" role="columnheader">
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {claims.map((claim) => (
          <tr key={claim.sentence} role="row">
            <th scope="row" role="rowheader">
              {claim.sentence}
            </th>
            {claim.figures.map((figure, index) => (
              <td key={models[index]} role="cell" data-label={models[index]}>
                <div>
                  <span className="number block">{figure.said}</span> <VerdictMark verdict={figure.verdict} />
                </div>
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
