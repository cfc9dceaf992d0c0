import type { Method } from "../../api/types";

/** The folders of methods, in the order in which one meets their questions. */
export const GROUPS: Readonly<Record<string, string>> = {
  observe: "Observe: what is in there?",
  attribute: "Attribute: which words matter?",
  intervene: "Intervene: what causes what?",
  circuits: "Circuits: which parts work together?",
  probe: "Probe: what can be read off?",
  decompose: "Decompose: which directions mean something?",
  describe: "Describe: what is a part for, in words?",
  edit: "Edit: change what it knows",
  merge: "Merge: join models",
  dynamics: "Dynamics: what happens in training?",
};

export function groupTitle(group: string): string {
  return GROUPS[group] ?? (group || "Others");
}

/** Methods in which each word of the search occurs. */
export function matching(methods: readonly Method[], search: string): Method[] {
  const wanted = search.toLowerCase().split(/\s+/).filter(Boolean);
  return methods.filter((method) => {
    const text = [
      method.name,
      method.name.replaceAll("_", " "),
      method.asks,
      method.summary,
      method.group,
      method.package,
    ]
      .concat(method.cites, method.needs)
      .join(" ")
      .toLowerCase();
    return wanted.every((word) => text.includes(word));
  });
}

const NEEDS: Readonly<Record<string, string>> = {
  unembedding: "a model that scores tokens",
  causal: "a causal model",
  attention: "a model with attention",
  contrast: "a contrast for each prompt",
  answers: "an answer to each prompt",
};

/** What a method asks of the model or the task, in words. */
export function need(name: string): string {
  return NEEDS[name] ?? name.replaceAll("_", " ");
}
