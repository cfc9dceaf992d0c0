import type { ReactNode } from "react";

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

interface TableProps {
  name: string;
  columns: readonly string[];
  children: ReactNode;
}

/** Where there is no room for columns a row becomes a card; the roles say that it is a table all the same. */
function Rows({ name, columns, children }: TableProps) {
  return (
    <table className="study-claims" role="table" aria-label={name}>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map((column) => (
            <th key={column} scope="col" role="columnheader">
              {column}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">{children}</tbody>
    </table>
  );
}

const COLUMNS = ["Claim", "Paper", "Ours", "Control", "Has to be", "Verdict"] as const;

/** Each claim of a paper: its figure, ours with the control, the criterion, and the verdict. */
export function Claims({ claims }: { claims: readonly StudyClaim[] }) {
  return (
    <Rows name="Claims" columns={COLUMNS}>
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
    </Rows>
  );
}

/** Each claim on the models that it was run on beside the scale's own. */
export function Elsewhere({ models, claims }: { models: readonly string[]; claims: StudyRecord["elsewhere"] }) {
  return (
    <Rows name="Claims on other models" columns={["Claim", ...models]}>
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
    </Rows>
  );
}
