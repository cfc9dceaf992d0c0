import { lazy, Suspense, useEffect, useState, type KeyboardEvent } from "react";
import { Link } from "react-router";

import { Problem } from "../../layout/Problem";
import { bytes, count } from "../../parts/format";
import { ModelChooser } from "../../parts/ModelChooser";
import { firstModel, useModels } from "../../parts/models";
import { useUrl } from "../../parts/url";
import { useAnatomy } from "./useAnatomy";
import { features, type Anatomy, type Box } from "./anatomy";
import { LayerDrawing, ModelDrawing } from "./AnatomyDrawing";
import { Key, LayerParts, Pointed } from "./Parts";
import "./model.css";
import { webGL } from "./webgl";

const Forward = lazy(() => import("./Forward"));
const PROMPT = "When Mary and John went to the store, John gave a drink to";

/** What is this model made of, and what goes on in it on this text? */
export default function ModelPage() {
  const { params, set } = useUrl();
  const models = useModels();
  const model = params.get("model") ?? (models.data ? firstModel(models.data) : "");
  const { opened, anatomy } = useAnatomy(model);
  const space = params.get("3d") === "1";
  const prompt = params.get("prompt") ?? PROMPT;
  return (
    <main className="page model-page">
      <div className="model-head">
        <h1>Model</h1>
        <ModelChooser value={model} onChange={(name) => set({ model: name, layer: null, cell: null, head: null }, true)} />
        <div className="row model-ways" role="group" aria-label="Way of looking">
          <button aria-pressed={!space} onClick={() => set({ "3d": null, cell: null }, true)}>
            To scale
          </button>
          <button aria-pressed={space} onClick={() => set({ "3d": 1, layer: params.get("layer") ?? 0, prompt }, true)}>
            A forward pass in 3-D
          </button>
        </div>
      </div>
      {opened.opening && (
        <p className="muted">
          <span className="spinner" aria-hidden="true" /> {model} is being opened…
        </p>
      )}
      <Problem error={opened.error ?? anatomy.error ?? models.error} />
      {anatomy.data && <Opened anatomy={anatomy.data} space={space} prompt={prompt} />}
    </main>
  );
}

function Opened({ anatomy, space, prompt }: { anatomy: Anatomy; space: boolean; prompt: string }) {
  const { params, set } = useUrl();
  const wanted = params.get("layer");
  const layer = wanted !== null && /^\d+$/.test(wanted) && Number(wanted) < anatomy.n_layers ? Number(wanted) : null;
  const supported = webGL();
  if (space && supported)
    return (
      <Suspense fallback={<p className="muted">The drawing is being loaded…</p>}>
        <Forward
          anatomy={anatomy}
          layer={layer ?? 0}
          prompt={prompt}
          cell={params.get("cell")}
          onLayer={(next) => set({ layer: next, cell: null }, true)}
          onPrompt={(next, push) => set({ prompt: next }, push)}
          onCell={(site, other) => set(other === undefined ? { cell: site } : { cell: site, layer: other })}
        />
      </Suspense>
    );
  return (
    <>
      {space && (
        <div className="message">
          <p>This browser draws no WebGL 2, which the forward pass in 3-D needs. Here is the drawing to scale.</p>
        </div>
      )}
      {layer === null ? <Whole anatomy={anatomy} /> : <One anatomy={anatomy} index={layer} prompt={prompt} />}
    </>
  );
}

function Whole({ anatomy }: { anatomy: Anatomy }) {
  const { set } = useUrl();
  const [box, setBox] = useState<Box | null>(null);
  const facts: [string, string][] = [
    ["Class", anatomy.class_name],
    ["Parameters", `${anatomy.parameters.toLocaleString("en-GB")} (${bytes(anatomy.memory["weights_bytes"] ?? 0)} as ${anatomy.dtype})`],
    ["Layers", String(anatomy.n_layers)],
    ["Heads", anatomy.n_heads ? `${anatomy.n_heads} of width ${anatomy.d_head}, ${anatomy.n_kv_heads} for keys and values` : "none"],
    ["Stream", `${anatomy.d_model} wide`],
    ["Neurons", anatomy.d_mlp ? `${anatomy.d_mlp.toLocaleString("en-GB")} a layer` : "in experts, or none"],
    ["Vocabulary", `${anatomy.vocab_size.toLocaleString("en-GB")} tokens`],
    ["Reads", anatomy.causal ? "from left to right" : "both ways"],
    ["Keys and values", `${bytes(anatomy.memory["cache_bytes_per_token"] ?? 0)} a token`],
    ["Runs on", `${anatomy.device}, ${anatomy.attention_implementation} attention`],
  ];
  return (
    <>
      <div className="panel">
        <ModelDrawing anatomy={anatomy} onLayer={(layer) => set({ layer }, true)} onHover={setBox} />
        <Pointed box={box} anatomy={anatomy} />
        <Key anatomy={anatomy} />
      </div>
      <div className="model-columns">
        <section className="panel">
          <h2>Sizes</h2>
          <dl className="facts">
            {facts.map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
          <p className="muted small">{anatomy.source}</p>
        </section>
        <section className="panel">
          <h2>Layers</h2>
          <ol className="layer-list" start={0}>
            {anatomy.layers.map((layer) => (
              <li key={layer.index}>
                <button className="quiet link" onClick={() => set({ layer: layer.index }, true)}>
                  Layer {layer.index}
                </button>{" "}
                <span className="muted small">
                  {count(layer.parameters)} · {features(layer).join(", ")}
                </span>
              </li>
            ))}
          </ol>
        </section>
        {anatomy.other.length > 0 && (
          <section className="panel">
            <h2>Beside the layers</h2>
            <ul className="plain">
              {anatomy.other.map((part) => (
                <li key={part.path}>
                  <code>{part.path}</code> <span className="muted small">{count(part.parameters)}</span>
                </li>
              ))}
            </ul>
          </section>
        )}
        {anatomy.refused.length > 0 && (
          <section className="panel">
            <h2>What cannot be read here</h2>
            <ul className="plain small">
              {anatomy.refused.map((entry) => (
                <li key={`${entry.site}${entry.reason}`}>
                  <code>{entry.site}</code> <span className="muted">{entry.reason}</span>
                </li>
              ))}
            </ul>
          </section>
        )}
      </div>
    </>
  );
}

function One({ anatomy, index, prompt }: { anatomy: Anatomy; index: number; prompt: string }) {
  const { params, set } = useUrl();
  const [box, setBox] = useState<Box | null>(null);
  const layer = anatomy.layers[index]!;
  const asked = params.get("head");
  const head = asked !== null && /^\d+$/.test(asked) ? Number(asked) : null;
  const heads = layer.attention?.n_heads ?? 0;
  useEffect(() => {
    const keys = (event: globalThis.KeyboardEvent) => {
      if (event.key === "Escape" && !(event.target instanceof HTMLInputElement)) set({ layer: null, head: null }, true);
    };
    window.addEventListener("keydown", keys);
    return () => window.removeEventListener("keydown", keys);
  }, [set]);
  const go = (event: KeyboardEvent) => {
    const next = { ArrowUp: index - 1, ArrowDown: index + 1 }[event.key];
    if (next === undefined || next < 0 || next >= anatomy.n_layers) return;
    set({ layer: next });
    event.preventDefault();
  };
  const where = new URLSearchParams({ model: anatomy.model, text: prompt, layers: String(index) });
  if (head !== null) where.set("heads", String(head));
  return (
    <>
      <nav className="row crumbs" aria-label="Place in the model" onKeyDown={go}>
        <button onClick={() => set({ layer: null, head: null }, true)}>Whole model</button>
        <button disabled={index === 0} onClick={() => set({ layer: index - 1 }, true)}>
          Layer before
        </button>
        <strong>Layer {index}</strong>
        <button disabled={index === anatomy.n_layers - 1} onClick={() => set({ layer: index + 1 }, true)}>
          Layer after
        </button>
        <span className="muted">{features(layer).join(" · ")}</span>
      </nav>
      <div className="panel">
        <LayerDrawing layer={layer} head={head} onHead={(next) => set({ head: next })} onHover={setBox} />
        <Pointed box={box} anatomy={anatomy} />
        {heads > 0 && (
          <div className="row heads" role="group" aria-label="Heads">
            <span className="label">Heads</span>
            {Array.from({ length: heads }, (_, number) => (
              <button key={number} aria-pressed={head === number} onClick={() => set({ head: head === number ? null : number })}>
                {number}
              </button>
            ))}
            <Link className="button" to={`/attention?${where}`}>
              Where {head === null ? "its heads look" : `head ${head} looks`}
            </Link>
            <button onClick={() => set({ "3d": 1, layer: index, prompt }, true)}>Its tensors in 3-D</button>
          </div>
        )}
      </div>
      <div className="model-columns">
        <section className="panel wide">
          <h2>Parts</h2>
          <p className="muted small">
            <code>{layer.path}</code> {layer.type}
          </p>
          <LayerParts layer={layer} />
        </section>
        <section className="panel">
          <h2>What can be read here</h2>
          <ul className="sites">
            {layer.sites.map((kind) => (
              <li key={kind}>
                <code>{`${kind}[${index}]`}</code>
              </li>
            ))}
          </ul>
        </section>
      </div>
    </>
  );
}
