import { useQuery } from "@tanstack/react-query";

import { api } from "../../api/client";
import { short } from "./Citations";

/** A docstring: paragraphs, with its lists of arguments as they stand. `without`: what the page says elsewhere. */
export function Doc({ text, without = [] }: { text: string; without?: readonly string[] }) {
  const said = new Set(without.map(plain));
  return (
    <>
      {paragraphs(text)
        .filter((paragraph) => !said.has(plain(paragraph)))
        .map((paragraph, index) =>
          /\n\s{2,}/.test(paragraph) ? (
            <pre key={index} className="doc">
              {paragraph}
            </pre>
          ) : (
            <p key={index}>
              <Inline text={paragraph} />
            </p>
          ),
        )}
    </>
  );
}

export function paragraphs(text: string): string[] {
  return text
    .split(/\n\s*\n/)
    .map((paragraph) => paragraph.replace(/^\n+|\s+$/g, ""))
    .filter((paragraph) => paragraph.trim());
}

function plain(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}

/** `code`, *emphasis* and [@citations] of a paragraph. */
function Inline({ text }: { text: string }) {
  const references = useQuery({
    queryKey: ["references"],
    queryFn: ({ signal }) => api.references(signal),
    staleTime: Infinity,
  });
  return text.split(/(`[^`]+`|\[@[^\]]+\]|\*[^\s*][^*]*\*)/).map((piece, index) => {
    if (piece.startsWith("`") && piece.endsWith("`") && piece.length > 2)
      return <code key={index}>{piece.slice(1, -1)}</code>;
    if (/^\*[^*]+\*$/.test(piece)) return <em key={index}>{piece.slice(1, -1)}</em>;
    if (!piece.startsWith("[@")) return piece;
    const keys = piece.slice(1, -1).split(/[;,]\s*/);
    const named = keys.map((key) => {
      const reference = references.data?.[key.replace("@", "")];
      return reference ? short(reference) : key.replace("@", "");
    });
    return <span key={index}>({named.join("; ")})</span>;
  });
}
