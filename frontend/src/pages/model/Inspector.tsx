import { useId } from "react";

import { Problem } from "../../layout/Problem";
import { number, visible } from "../../views/words";
import type { CellRecord } from "./cells";

interface Props {
  site: string | null;
  /** The number in the tensor that is drawn. */
  value: number | null;
  /** The tensor is there: a number that is not is masked. */
  loaded: boolean;
  cell: CellRecord | undefined;
  pending: boolean;
  error: Error | null;
  token: string | undefined;
  pinned: boolean;
  onPin: (site: string | null) => void;
}

/** One cell: its number, the formula that the network made it by, and the numbers that went into it. */
export function Inspector({ site, value, loaded, cell, pending, error, token, pinned, onPin }: Props) {
  const id = useId();
  if (!site)
    return (
      <section className="panel inspector" aria-labelledby={id}>
        <h2 id={id}>A cell</h2>
        <p className="muted">
          Point at a cell to read its number and how the network made it. Click to keep it. With the drawing focused,
          arrow keys move from cell to cell and <kbd>[</kbd> <kbd>]</kbd> from tensor to tensor.
        </p>
      </section>
    );
  const known = cell?.site === site ? cell : undefined;
  const shown = value ?? known?.value ?? null;
  return (
    <section className="panel inspector" aria-labelledby={id} aria-busy={pending}>
      <h2 id={id}>
        <code>{addressOf(site)}</code>
      </h2>
      <p className="inspector-value" data-site={site} data-value={shown === null ? "" : String(shown)}>
        <span className="number">{shown === null ? (loaded || known ? "masked" : "…") : number(shown, 6)}</span>
        {token !== undefined && (
          <span className="muted">
            {" "}
            at token <code>{visible(token)}</code>
          </span>
        )}
      </p>
      <Problem error={error} />
      {pending && !known && <p className="muted small">Being traced…</p>}
      {known?.formula && (
        <div className="formula" data-formula={known.formula} data-computed={String(known.computed)}>
          <p className="mono formula-text">{known.formula}</p>
          <p className="mono formula-numbers">
            = {known.numbers} = <strong>{number(known.computed ?? NaN, 5)}</strong>
          </p>
        </div>
      )}
      {known && !known.formula && <p className="muted">{known.why}</p>}
      {known?.operands && known.operands.length > 0 && (
        <table className="operands">
          <caption className="visually-hidden">Numbers that go into it</caption>
          <tbody>
            {known.operands.map((operand, index) => (
              <tr key={index} data-site={operand.site} data-name={operand.name} data-value={String(operand.value)}>
                <th scope="row">
                  {operand.site ? (
                    <button className="quiet link" onClick={() => onPin(operand.site)} title={`Go to ${operand.site}`}>
                      {operand.name}
                    </button>
                  ) : (
                    operand.name
                  )}
                </th>
                <td className="number">{number(operand.value, 5)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {known?.terms && known.terms.length > 0 && (
        <table className="operands terms">
          <caption>
            Largest of {known.count?.toLocaleString("en-GB")} products
          </caption>
          <tbody>
            {known.terms.map((term, index) => (
              <tr key={index} data-left={term.left} data-right={term.right}>
                <th scope="row">{term.name}</th>
                <td className="number">
                  {number(term.left)} · {number(term.right)}
                </td>
                <td className="number">{number(term.product)}</td>
              </tr>
            ))}
            {(known.count ?? 0) > known.terms.length && (
              <tr>
                <th scope="row">the other {((known.count ?? 0) - known.terms.length).toLocaleString("en-GB")}</th>
                <td />
                <td className="number">{number(known.rest ?? 0)}</td>
              </tr>
            )}
          </tbody>
        </table>
      )}
      <p>
        <button aria-pressed={pinned} onClick={() => onPin(pinned ? null : site)}>
          {pinned ? "Let go" : "Keep this cell"}
        </button>
      </p>
    </section>
  );
}

/** A cell of a pattern is one key of a query's row: the library reads the row, so the key stands beside the address. */
export function addressOf(site: string): string {
  const found = /^((?:pattern|scores)\[\d+\]\.head\[\d+\])\.unit\[(\d+)\](@\d+)$/.exec(site);
  return found ? `${found[1]}${found[3]}, key ${found[2]}` : site;
}
