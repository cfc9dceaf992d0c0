import { useMutation } from "@tanstack/react-query";
import { useEffect, useId } from "react";

import { api } from "../../api/client";
import { Problem } from "../../layout/Problem";
import { IntervalPicture } from "../../parts/CheckCard";
import { Distribution } from "../../parts/Distribution";
import { percent } from "../../parts/format";
import { whileBusy } from "../../parts/models";
import { visible } from "../../views/words";

const CONTROLS = 20;

interface Props {
  model: string;
  text: string;
  layer: number;
  heads: readonly number[];
}

/** Does it matter what this head does? Take it out, and as many random ones beside it. */
export function HeadCheck({ model, text, layer, heads }: Props) {
  const id = useId();
  const sites = heads.map((head) => `z[${layer}].head[${head}]`);
  const key = sites.join(",");
  const check = useMutation({
    mutationFn: () => api.ablate({ model, text, sites, controls: CONTROLS, seed: 0 }),
    retry: whileBusy,
    retryDelay: 2000,
  });
  const { reset } = check;
  useEffect(() => reset(), [key, text, model, reset]);
  const name = heads.length === 1 ? `head ${layer}.${heads[0]}` : `${heads.length} heads of layer ${layer}`;
  const found = check.data;
  const control = found?.control as { mean: number; low: number; high: number; n: number; outside?: boolean } | null | undefined;
  return (
    <section className="panel head-check" aria-labelledby={id}>
      <h2 id={id}>Does it matter here?</h2>
      <p className="small muted">
        A pattern shows where a head looks, not whether the answer depends on it. Put zero in place of what {name}{" "}
        {heads.length === 1 ? "writes" : "write"}, and in place of what as many random heads write.
      </p>
      <button className="primary" onClick={() => check.mutate()} disabled={check.isPending || !heads.length || !text}>
        {check.isPending ? "Being measured…" : `Take ${name} out`}
      </button>
      <Problem error={check.error} />
      {found && (
        <div aria-live="polite" data-sites={key}>
          <p>
            <code>{visible(found.answer.token)}</code> goes from{" "}
            <strong className="number" data-value={String(found.answer.probability_before)} data-name="before">
              {percent(found.answer.probability_before)}
            </strong>{" "}
            to{" "}
            <strong className="number" data-value={String(found.answer.probability_after)} data-name="after">
              {percent(found.answer.probability_after)}
            </strong>
            .
          </p>
          {control ? (
            <>
              <p className="small">
                Without {heads.length === 1 ? "a random head" : "as many random heads"}: {percent(control.mean)}, 95 % between{" "}
                {percent(control.low)} and {percent(control.high)}, n = {control.n}.{" "}
                {control.outside
                  ? "This does more than random heads do."
                  : "This does no more than random heads do."}
              </p>
              <IntervalPicture
                check={{
                  measured: found.answer.probability_after,
                  control: control.mean,
                  interval: [control.low, control.high],
                  unit: "probability of the answer",
                }}
              />
            </>
          ) : (
            <p className="small muted">There are no other heads to compare with.</p>
          )}
          <h3>Without it</h3>
          <Distribution candidates={found.after.slice(0, 5)} label="Next tokens without the head" marked={found.answer.token} />
        </div>
      )}
    </section>
  );
}
