import { useQuery } from "@tanstack/react-query";

import { api } from "../../api/client";
import type { Reference } from "../../api/types";

/** The papers that a method comes from. */
export function Citations({ keys, full = false }: { keys: readonly string[]; full?: boolean }) {
  const references = useQuery({
    queryKey: ["references"],
    queryFn: ({ signal }) => api.references(signal),
    staleTime: Infinity,
  });
  if (!keys.length) return null;
  if (full)
    return (
      <ul className="citations">
        {keys.map((key) => {
          const reference = references.data?.[key];
          return (
            <li key={key}>
              {reference ? (
                <>
                  {reference.authors} ({reference.year}). <Title reference={reference} />
                </>
              ) : (
                <code>{key}</code>
              )}
            </li>
          );
        })}
      </ul>
    );
  return (
    <p className="muted small">
      {keys.map((key, index) => {
        const reference = references.data?.[key];
        return (
          <span key={key} title={reference?.title}>
            {index > 0 && "; "}
            {reference ? short(reference) : key}
          </span>
        );
      })}
    </p>
  );
}

function Title({ reference }: { reference: Reference }) {
  if (!/^https?:\/\//.test(reference.url)) return <em>{reference.title}</em>;
  return (
    <a href={reference.url} target="_blank" rel="noreferrer">
      {reference.title}
    </a>
  );
}

/** "Elhage et al. 2021": the family name of the first of several authors. */
export function short(reference: Reference): string {
  const authors = reference.authors
    .split(",")
    .map((author) => author.trim())
    .filter((author) => author && author !== "others");
  const family = (author: string) => author.split(" ").at(-1) ?? author;
  const first = family(authors[0] ?? "");
  const several = authors.length > 2 || /\bothers\b/.test(reference.authors);
  const who = several ? `${first} et al.` : authors.map(family).join(" and ");
  return `${who} ${reference.year}`.trim();
}
