import { useMutation, useQuery } from "@tanstack/react-query";
import { useEffect, useId, useState } from "react";

import { api } from "../../api/client";
import type { Candidate, Tokenized } from "../../api/types";
import { Problem } from "../../layout/Problem";
import { Distribution } from "../../parts/Distribution";
import { whileBusy } from "../../parts/models";
import { visible } from "../../views/words";
import type { Anatomy } from "./anatomy";

interface Props {
  anatomy: Anatomy;
  prompt: string;
  tokenized: Tokenized | undefined;
  marked: number | null;
  onPrompt: (prompt: string, push: boolean) => void;
}

/** The text so far, and what comes next: write on token by token and see every tensor change. */
export function Steps({ anatomy, prompt, tokenized, marked, onPrompt }: Props) {
  const id = useId();
  const model = anatomy.model;
  const predicts = anatomy.causal && anatomy.has_unembedding && !anatomy.features.includes("encoder_decoder");
  const [draft, setDraft] = useState(prompt);
  useEffect(() => setDraft(prompt), [prompt]);
  const next = useQuery({
    queryKey: ["next", model, prompt, 8],
    queryFn: ({ signal }) => api.next({ model, text: prompt, top: 8 }, signal),
    enabled: predicts && prompt !== "",
    placeholderData: (before) => before,
    staleTime: 60_000,
    retry: whileBusy,
    retryDelay: 1500,
  });
  const step = useMutation({
    mutationFn: () => api.generate({ model, text: prompt, max_new_tokens: 1 }),
    onSuccess: (made) => made.ids.length && onPrompt(made.text, true),
  });
  const spans = tokenized?.spans ?? [];
  const last = spans[spans.length - 1];
  return (
    <section className="panel" aria-labelledby={id}>
      <h2 id={id}>The text</h2>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          onPrompt(draft, true);
        }}
      >
        <label htmlFor={`${id}-text`} className="visually-hidden">
          Text that the model reads
        </label>
        <textarea
          id={`${id}-text`}
          rows={3}
          value={draft}
          onChange={(event) => setDraft(event.target.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter" && !event.shiftKey) {
              event.preventDefault();
              onPrompt(draft, true);
            }
          }}
        />
        <div className="row">
          <button type="submit" disabled={draft === prompt}>
            Run
          </button>
          {predicts && (
            <>
              <button type="button" className="primary" onClick={() => step.mutate()} disabled={step.isPending || !prompt}>
                Next token
              </button>
              <button
                type="button"
                disabled={!last || (tokenized?.tokens.length ?? 0) < 2}
                onClick={() => last && onPrompt(prompt.slice(0, last[0]), true)}
              >
                Take one back
              </button>
            </>
          )}
        </div>
      </form>
      <Problem error={step.error ?? next.error} />
      <ol className="forward-tokens mono" aria-label="Tokens">
        {(tokenized?.tokens ?? []).map((token, position) => (
          <li key={position} className={position === marked ? "marked" : ""} title={`token ${position}`}>
            {visible(token)}
          </li>
        ))}
      </ol>
      {predicts && next.data && (
        <div className={next.isPlaceholderData ? "stale" : ""}>
          <h3>Likely next</h3>
          <Distribution
            candidates={next.data.tokens}
            label="Likely next tokens; choose one to write it"
            onChoose={(candidate: Candidate) => onPrompt(prompt + candidate.text, true)}
          />
        </div>
      )}
      {!predicts && <p className="muted small">This model reads a text as a whole and predicts no next token.</p>}
    </section>
  );
}
