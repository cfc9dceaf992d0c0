/** Which edge of a circuit did the reader choose, and on which texts can it be tested? */

import type { ResultSource } from "../api/source";

export interface EdgeChosen {
  /** As `SOURCE -> TARGET`; with `@POSITION` only where the result does not say which tokens that is. */
  edge: string;
  /** The tokens at which the edge is; undefined for all. */
  tokens?: readonly number[] | undefined;
  texts?: readonly [string, string] | undefined;
}

const AT_POSITION = /^(.* -> .*)@([^@]+)$/;
const ARROW = " -> ";

/** The edge along the chosen dimension, where an array there holds edges (`SOURCE -> TARGET`); null where none does. */
export async function edgeChosen(
  source: ResultSource,
  chosen: Readonly<Record<string, number>>,
): Promise<EdgeChosen | null> {
  for (const [dim, index] of Object.entries(chosen))
    for (const array of source.arrays) {
      if (array.dtype !== "string" || array.dims.length !== 1 || array.dims[0] !== dim) continue;
      const said = String((await source.slice(array.name, { [dim]: index })).data[0] ?? "");
      if (said.includes(ARROW)) return { ...(await placed(source, said)), texts: await textsOf(source) };
    }
  return null;
}

/** The edge without its position, and the tokens that have it in the text on which the edge can be tested. */
async function placed(source: ResultSource, said: string): Promise<EdgeChosen> {
  const [, edge, position] = AT_POSITION.exec(said) ?? [];
  if (edge === undefined || !source.arrays.some((array) => array.name === "tested_position")) return { edge: said };
  const names = (await source.slice("tested_position")).data;
  const tokens = [...names].flatMap((name, token) => (String(name) === position ? [token] : []));
  return tokens.length ? { edge, tokens } : { edge: said };
}

/** The pair on which the result says that its edges can be tested. */
async function textsOf(source: ResultSource): Promise<readonly [string, string] | undefined> {
  if (!source.arrays.some((array) => array.name === "tested_text")) return undefined;
  const [text, contrast] = (await source.slice("tested_text")).data;
  return [String(text), String(contrast)];
}
