import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { render, screen, within } from "@testing-library/react";
import { MemoryRouter } from "react-router";
import { expect, it } from "vitest";

import type { StudyClaim, StudyEntry, StudyRecord } from "../../api/types";
import { Claims } from "./Claims";
import { byline } from "./StudiesPage";
import { Study } from "./StudyPage";
import { VERDICTS, chosen, counted, pageOf } from "./verdicts";

function claim(key: string, verdict: StudyClaim["verdict"], ours: number | null = 5.7): StudyClaim {
  return {
    key,
    sentence: `The claim ${key}`,
    theirs: "3.56 (from memory)",
    where: "§2",
    mark: "memory",
    known: "from memory: check the paper before quoting",
    ours,
    said: ours === null ? "–" : `${ours} logits [5.1, 6.3]`,
    low: 5.1,
    high: 6.3,
    control: "0.02 (untrained)",
    criterion: "≥ 3 logits",
    unit: "logits",
    note: "",
    verdict,
  };
}

function entry(item: string, more: Partial<StudyEntry> = {}): StudyEntry {
  return {
    item,
    title: `Paper ${item}`,
    authors: "K. Wang, A. Variengien, A. Conmy",
    year: 2022,
    link: "https://arxiv.org/abs/2211.00593",
    question: `What does ${item} ask?`,
    note: "",
    listed: "",
    study: null,
    status: "to come",
    scale: null,
    methods: [],
    claims: [],
    ...more,
  };
}

const recorded = entry("P34", {
  study: "wang2022_ioi",
  status: "recorded",
  scale: "small",
  methods: [
    { name: "path_patching", exists: true },
    { name: "unheard_of", exists: false },
  ],
  claims: [claim("a", "same phenomenon at small scale"), claim("b", "not reproduced"), claim("c", "not tested here", null)],
});

it("papers are chosen by status, verdict and words", () => {
  const all = [entry("P1"), recorded, entry("A7", { title: "Causal Scrubbing" })];
  const items = (asked: Partial<{ text: string; status: string; verdict: string }>) =>
    chosen(all, { text: "", status: "", verdict: "", ...asked }).map((study) => study.item);
  expect(items({})).toEqual(["P1", "P34", "A7"]);
  expect(items({ status: "recorded" })).toEqual(["P34"]);
  expect(items({ verdict: "not reproduced" })).toEqual(["P34"]);
  expect(items({ verdict: "reproduced" })).toEqual([]);
  expect(items({ text: "scrubbing causal" })).toEqual(["A7"]);
  expect(items({ text: "path_patching" })).toEqual(["P34"]);
});

it("verdicts are counted in the order of their weight", () => {
  expect(counted(recorded.claims)).toEqual([
    ["same phenomenon at small scale", 1],
    ["not reproduced", 1],
    ["not tested here", 1],
  ]);
  expect(VERDICTS).toHaveLength(4);
});

it("a paper without a study has a page by its number", () => {
  expect(pageOf(recorded)).toBe("/studies/wang2022_ioi");
  expect(pageOf(entry("P1"))).toBe("/studies/P1");
});

it("authors are said in short", () => {
  expect(byline(recorded)).toBe("Wang et al. 2022");
  expect(byline({ authors: "S. Marks, M. Tegmark", year: 2023 })).toBe("Marks and Tegmark 2023");
  expect(byline({ authors: "W. Zhang et al.", year: 2023 })).toBe("Zhang et al. 2023");
  expect(byline({ authors: "", year: 0 })).toBe("");
});

it("a claim shows the paper's figure beside ours, and the verdict as a word", () => {
  render(<Claims claims={recorded.claims} />);
  const row = screen.getByRole("row", { name: /The claim a/ });
  const cells = within(row)
    .getAllByRole("cell")
    .map((cell) => cell.textContent);
  expect(cells).toEqual([
    "3.56 (from memory)",
    "5.7 logits [5.1, 6.3]",
    "0.02 (untrained)",
    "≥ 3 logits",
    "≈ same phenomenon at small scale",
  ]);
  expect(within(row).getByTitle("from memory: check the paper before quoting")).toBeTruthy();
  expect(within(screen.getByRole("row", { name: /The claim c/ })).getByText("not tested here", { exact: false })).toBeTruthy();
});

function shown(study: StudyRecord) {
  return render(
    <QueryClientProvider client={new QueryClient()}>
      <MemoryRouter>
        <Study study={study} name="wang2022_ioi" />
      </MemoryRouter>
    </QueryClientProvider>,
  );
}

const full: StudyRecord = {
  ...recorded,
  about: [],
  doc: "",
  command: "cutaway study run wang2022_ioi --scale small",
  differs: "Another model.",
  stale: false,
  record: { models: [{ name: "smollm2" }], versions: { torch: "2.13" }, seed: 0, device: "cpu", seconds: 9, date: "2026-01-02" },
  picture: false,
  other_models: [],
  elsewhere: [],
};

it("a study shows what differs, its command, where it was measured, and which methods exist", () => {
  shown(full);
  expect(screen.getByText("Another model.")).toBeTruthy();
  expect(screen.getByText("cutaway study run wang2022_ioi --scale small")).toBeTruthy();
  expect(screen.getByText("smollm2 · seed 0 · cpu · 9 s · 2026-01-02 · torch 2.13")).toBeTruthy();
  expect(screen.getByRole("link", { name: "path_patching" }).getAttribute("href")).toBe("/methods/path_patching");
  expect(screen.queryByRole("link", { name: /unheard_of/ })).toBeNull();
  expect(screen.queryByText(/changed after this record/)).toBeNull();
});

it("a study shows its claims on other models", () => {
  const figures = [
    { said: "0.4 logits", verdict: "not reproduced" as const },
    { said: "–", verdict: "not tested here" as const },
  ];
  shown({ ...full, other_models: ["gemma3-270m", "gpt2"], elsewhere: [{ sentence: "The claim a", figures }] });
  const table = screen.getByRole("table", { name: "Claims on other models" });
  expect(within(table).getAllByRole("columnheader").map((cell) => cell.textContent)).toEqual(["Claim", "gemma3-270m", "gpt2"]);
  expect(within(table).getAllByRole("cell")[0]?.textContent).toMatch(/^0\.4 logits .*not reproduced$/);
});

it("a study that changed since its record says so", () => {
  shown({ ...full, stale: true });
  expect(screen.getByText(/changed after this record/)).toBeTruthy();
});

it("a paper without a study says so and has no command", () => {
  shown({ ...full, ...entry("P1"), command: "", record: null, differs: "" });
  expect(screen.getByText("There is no study of this paper yet.")).toBeTruthy();
  expect(screen.queryByText("Repeat it")).toBeNull();
});
