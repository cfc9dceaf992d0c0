/** What became of papers and claims, in words and counts. */

import type { StudyClaim, StudyEntry } from "../../api/types";

export const STATUSES = ["recorded", "not run yet", "to come"] as const;
export const VERDICTS = [
  "reproduced",
  "same phenomenon at small scale",
  "not reproduced",
  "not tested here",
] as const satisfies readonly StudyClaim["verdict"][];
export type Verdict = (typeof VERDICTS)[number];

/** A sign and a class for a verdict: colour alone says nothing to some readers. */
export const SIGNS: Record<Verdict, { sign: string; name: string }> = {
  reproduced: { sign: "✓", name: "reproduced" },
  "same phenomenon at small scale": { sign: "≈", name: "phenomenon" },
  "not reproduced": { sign: "✗", name: "failed" },
  "not tested here": { sign: "–", name: "untested" },
};

/** How many claims have each verdict; verdicts that none has are left out. */
export function counted(claims: readonly StudyClaim[]): [Verdict, number][] {
  return VERDICTS.map((verdict): [Verdict, number] => [
    verdict,
    claims.filter((claim) => claim.verdict === verdict).length,
  ]).filter(([, count]) => count > 0);
}

/** The papers that have a status and a verdict (all where it is ""), and in which every word of `text` occurs. */
export function chosen(
  studies: readonly StudyEntry[],
  asked: { text: string; status: string; verdict: string },
): StudyEntry[] {
  const words = asked.text.toLowerCase().split(/\s+/).filter(Boolean);
  return studies.filter((study) => {
    const said = [study.item, study.title, study.authors, study.year, study.question, study.study ?? ""]
      .concat(study.methods.map((method) => method.name))
      .join(" ")
      .toLowerCase();
    return (
      (!asked.status || study.status === asked.status) &&
      (!asked.verdict || study.claims.some((claim) => claim.verdict === asked.verdict)) &&
      words.every((word) => said.includes(word))
    );
  });
}

/** Where a paper's page is: by the name of its study, or by its number on the list. */
export function pageOf(study: StudyEntry): string {
  return `/studies/${study.study ?? study.item}`;
}
