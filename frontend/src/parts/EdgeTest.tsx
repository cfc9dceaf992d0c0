import { useMutation } from "@tanstack/react-query";
import { useEffect, useId, useState } from "react";

import { api } from "../api/client";
import { Problem } from "../layout/Problem";
import { figure, label, visible } from "../views/words";
import { percent } from "./format";
import { whileBusy } from "./models";

const CONTROLS = 20;

interface Props {
  model: string;
  /** The edge, as `SOURCE -> TARGET`. */
  edge: string;
  /** The tokens at which it is changed, where it is not all of them. */
  tokens?: readonly number[] | undefined;
  /** A text of the result's task and its contrast, where the result names them. */
  texts?: readonly [string, string] | undefined;
  onClose: () => void;
}

/** Does this one edge matter here? It carries what it does for the contrast, and random edges beside it. */
export function EdgeTest({ model, edge, tokens, texts, onClose }: Props) {
  const id = useId();
  const [text, setText] = useState(texts?.[0] ?? "");
  const [contrast, setContrast] = useState(texts?.[1] ?? "");
  const [written, setWritten] = useState((tokens ?? []).join(", "));
  const at = written.split(/[\s,]+/).filter(Boolean);
  const numbers = at.every((one) => /^-?\d+$/.test(one));
  const test = useMutation({
    mutationFn: () =>
      api.edge({
        model,
        text,
        contrast,
        edge,
        ...(at.length && { tokens: at.map(Number) }),
        controls: CONTROLS,
        seed: 0,
      }),
    retry: whileBusy,
    retryDelay: 2000,
  });
  const { reset } = test;
  useEffect(() => reset(), [edge, text, contrast, written, model, reset]);
  const found = test.data;
  return (
    <section className="panel edge-test" aria-labelledby={id}>
      <h2 id={id}>
        Does <code>{label(edge)}</code> matter?
      </h2>
      <p className="small muted">
        The edge alone carries what it carries for the contrast{at.length ? ", at these tokens" : ""}; everything else is as
        it was. {CONTROLS} random edges of the same kinds do so beside it.
      </p>
      {!texts && (
        <p className="small">This result names no pair of texts: write one, and another that differs in what the edge may carry.</p>
      )}
      <div className="stack">
        <label>
          Text <input type="text" value={text} onChange={(event) => setText(event.target.value)} />
        </label>
        <label>
          Contrast <input type="text" value={contrast} onChange={(event) => setContrast(event.target.value)} />
        </label>
        <label>
          At tokens (their numbers from 0; empty: at all){" "}
          <input
            type="text"
            value={written}
            onChange={(event) => setWritten(event.target.value)}
            aria-invalid={!numbers || undefined}
          />
        </label>
        {!numbers && <p className="small">Tokens are numbers with commas between them, such as 3, 4.</p>}
      </div>
      <div className="row">
        <button className="primary" onClick={() => test.mutate()} disabled={test.isPending || !text || !contrast || !numbers}>
          {test.isPending ? "Being measured…" : "Change this edge"}
        </button>
        <button onClick={onClose}>Close</button>
      </div>
      <Problem error={test.error} />
      {found && (
        <div aria-live="polite">
          <p>
            The prediction moves by <strong className="number">{figure(found.kl, false)}</strong> nats
            {found.control
              ? `; ${found.control.n} random edges of the same kinds move it by ${figure(found.control.low, false)} to ${figure(found.control.high, false)}. ${found.control.outside && found.kl > found.control.high ? "This edge stands out." : "This edge does not stand out."}`
              : "; there is no other edge of its kind to compare with."}
          </p>
          <p>
            <code>{visible(found.answer.text)}</code> minus <code>{visible(found.contrast_answer.text)}</code>: from{" "}
            <span className="number">{figure(found.logit_difference.before, true)}</span> to{" "}
            <span className="number">{figure(found.logit_difference.after, true)}</span> logits; the probability of{" "}
            <code>{visible(found.answer.text)}</code> becomes {percent(found.answer.probability)}.
          </p>
        </div>
      )}
    </section>
  );
}
