import { Link } from "react-router";

import { nameOf, partOf, pathOf, type Part } from "./sites";

const MENTION =
  /\b\w+\[\d+\](?:\.head\[\d+\])?(?:@-?\w+)?|\bheads? \d+\.\d+(?:(?:,| and|, and) \d+\.\d+)*|\bmlp \d+\b|\blayers? \d+\b/gi;

interface Piece {
  text: string;
  part: Part | null;
}

/** A sentence cut where it names parts of the model. */
export function pieces(text: string): Piece[] {
  const found: Piece[] = [];
  let from = 0;
  const plain = (to: number) => {
    if (to > from) found.push({ text: text.slice(from, to), part: null });
  };
  for (const match of text.matchAll(MENTION)) {
    const mention = match[0];
    if (/^heads? /i.test(mention)) {
      for (const each of mention.matchAll(/\d+\.\d+/g)) {
        const start = match.index + each.index;
        const part = partOf(`head ${each[0]}`);
        // "head 9.6" is a link as a whole; in "heads 9.6, 9.9" each number is one
        const whole = /^head \d/i.test(mention) && each.index <= 5;
        plain(whole ? match.index : start);
        found.push({ text: whole ? text.slice(match.index, start + each[0].length) : each[0], part });
        from = start + each[0].length;
      }
      continue;
    }
    const part = partOf(mention);
    if (!part) continue;
    plain(match.index);
    found.push({ text: mention, part });
    from = match.index + mention.length;
  }
  plain(text.length);
  return found;
}

/** A sentence whose heads, MLPs and layers are links to the pages that show them. */
export function Linked({ text, model, prompt }: { text: string; model: string; prompt: string }) {
  const where = { model, text: prompt };
  return (
    <>
      {pieces(text).map((piece, index) =>
        piece.part ? (
          <Link key={index} to={pathOf(piece.part, where)} title={`Open ${nameOf(piece.part)}`}>
            {piece.text}
          </Link>
        ) : (
          <span key={index}>{piece.text}</span>
        ),
      )}
    </>
  );
}
