import { useCallback, useEffect, useId, useState } from "react";
import { Link } from "react-router";

import { Problem } from "../../layout/Problem";
import { useTheme, type Theme } from "../../layout/theme";
import { ModelChooser } from "../../parts/ModelChooser";
import { firstModel, isBusy, useModels } from "../../parts/models";
import { useUrl } from "../../parts/url";
import { useAnatomy } from "../model/useAnatomy";
import type { Anatomy } from "../model/anatomy";
import "./attention.css";
import { headColour } from "./colours";
import { FILTERS, filterOf, HABITS, listOf, listText, rangesOf, type Filter } from "./data";
import { HeadCheck } from "./HeadCheck";
import { HeadView, Looks } from "./HeadView";
import { ModelView, PatternLegend, Scores } from "./ModelView";
import { QueryKeyView } from "./QueryKeyView";
import { useHeads, usePatterns, type Texts } from "./use";

const TEXT = "When Mary and John went to the store, John gave a drink to";
const MODES = [
  ["heads", "Heads"],
  ["model", "All heads"],
  ["qk", "Queries and keys"],
] as const;
type Mode = (typeof MODES)[number][0];
/** From this many tokens on, one head is shown until more are asked for. */
const LONG = 96;

/** Where does each head look, and does it matter? */
export default function AttentionPage() {
  const { params, set } = useUrl();
  const models = useModels();
  const model = params.get("model") ?? (models.data ? firstModel(models.data) : "");
  const { opened, anatomy } = useAnatomy(model);
  const text = params.get("text") ?? TEXT;
  const textB = params.get("text_b") ?? "";
  return (
    <main className="page attention-page">
      <h1>Attention</h1>
      <TextForm
        model={model}
        text={text}
        textB={textB}
        onModel={(name) => set({ model: name, layers: null, heads: null, at: null }, true)}
        onText={(next, other) => set({ text: next, text_b: other, at: null, key: null }, true)}
      />
      {opened.opening && (
        <p className="muted">
          <span className="spinner" aria-hidden="true" /> {model} is being opened…
        </p>
      )}
      <Problem error={opened.error ?? anatomy.error ?? models.error} />
      {anatomy.data && anatomy.data.n_heads === 0 && (
        <p className="message">{anatomy.data.model} has no attention heads, so there is nothing to show here.</p>
      )}
      {anatomy.data && anatomy.data.n_heads > 0 && text !== "" && <Views anatomy={anatomy.data} texts={{ model, text, textB }} />}
    </main>
  );
}

interface FormProps {
  model: string;
  text: string;
  textB: string;
  onModel: (model: string) => void;
  onText: (text: string, textB: string) => void;
}

function TextForm({ model, text, textB, onModel, onText }: FormProps) {
  const id = useId();
  const [draft, setDraft] = useState(text);
  const [draftB, setDraftB] = useState(textB);
  const [two, setTwo] = useState(textB !== "");
  useEffect(() => setDraft(text), [text]);
  useEffect(() => {
    setDraftB(textB);
    if (textB) setTwo(true);
  }, [textB]);
  const other = two ? draftB : "";
  const submit = () => onText(draft, other);
  return (
    <form
      className="attention-form panel"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <ModelChooser value={model} onChange={onModel} />
      <div>
        <label htmlFor={`${id}-a`}>{two ? "First text" : "Text"}</label>
        <textarea
          id={`${id}-a`}
          rows={2}
          value={draft}
          onChange={(event) => setDraft(event.target.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.shiftKey) return;
            event.preventDefault();
            submit();
          }}
        />
        {two && (
          <>
            <label htmlFor={`${id}-b`}>Second text</label>
            <textarea id={`${id}-b`} rows={2} value={draftB} onChange={(event) => setDraftB(event.target.value)} />
          </>
        )}
        <div className="row">
          <button type="submit" className="primary" disabled={draft === text && other === textB}>
            Read
          </button>
          <label className="inline">
            <input type="checkbox" checked={two} onChange={(event) => setTwo(event.target.checked)} /> a pair of texts
          </label>
        </div>
      </div>
    </form>
  );
}

function Views({ anatomy, texts }: { anatomy: Anatomy; texts: Texts }) {
  const { params, set } = useUrl();
  const [theme] = useTheme();
  const asked = params.get("mode");
  const mode: Mode = MODES.find(([name]) => name === asked)?.[0] ?? "heads";
  const layers = listOf(params.get("layers"), anatomy.n_layers);
  const layerIndex = params.get("layers") ? (layers[0] ?? 0) : 0;
  const layer = anatomy.layers[layerIndex]!;
  const count = layer.attention?.n_heads ?? anatomy.n_heads;
  const long = (texts.text.length + texts.textB.length) / 4 > LONG; // about four characters a token
  const chosen = params.get("heads") ? listOf(params.get("heads"), count) : long ? [0] : listOf(null, count);
  const served = layer.sites.includes("pattern");
  const found = usePatterns(texts, layerIndex, chosen, mode === "heads" && served);
  const [measured, setMeasured] = useState(""); // the text whose heads shall all be measured, however long it is
  const wants = measured === `${texts.model} ${texts.text} ${texts.textB}`;
  const ready = mode === "qk" || (!found.pending && found.patterns.length > 0);
  const record = useHeads(texts, mode === "model" || (ready && (!long || wants)));
  const tokens = found.tokens.length ? found.tokens : (record.data?.tokens ?? []);
  const second = record.data?.token_b_start ?? found.second;
  const filter = filterOf(params.get("filter"));
  const ranges = rangesOf(filter, tokens.length, second);
  const setHeads = useCallback((heads: readonly number[]) => set({ heads: heads.length === count ? `0-${count - 1}` : (listText(heads, count) ?? `0-${count - 1}`) }), [count, set]);

  return (
    <>
      <div className="row attention-tools">
        <div className="row" role="group" aria-label="View">
          {MODES.map(([name, label]) => (
            <button key={name} aria-pressed={mode === name} onClick={() => set({ mode: name === "heads" ? null : name }, true)}>
              {label}
            </button>
          ))}
        </div>
        {mode !== "model" && (
          <div className="row" role="group" aria-label="Layer">
            <button disabled={layerIndex === 0} onClick={() => set({ layers: layerIndex - 1 })} aria-label="Layer before">
              ‹
            </button>
            <label className="inline" htmlFor="attention-layer">
              Layer
              <select id="attention-layer" value={layerIndex} onChange={(event) => set({ layers: event.target.value })}>
                {anatomy.layers.map((one) => (
                  <option key={one.index} value={one.index}>
                    {one.index}
                  </option>
                ))}
              </select>
            </label>
            <button disabled={layerIndex === anatomy.n_layers - 1} onClick={() => set({ layers: layerIndex + 1 })} aria-label="Layer after">
              ›
            </button>
          </div>
        )}
        {texts.textB && mode !== "model" && (
          <label className="inline" htmlFor="attention-filter">
            Pairs
            <select id="attention-filter" value={filter} onChange={(event) => set({ filter: event.target.value === "all" ? null : event.target.value })}>
              {FILTERS.map(([name, label]) => (
                <option key={name} value={name}>
                  {label}
                </option>
              ))}
            </select>
          </label>
        )}
        {(found.pending || record.isFetching) && <span className="spinner" role="status" aria-label="Running the model" />}
      </div>
      {texts.textB && (
        <p className="small muted">Both texts are read as one sequence, without the segment ids that some encoders were trained with.</p>
      )}
      {texts.textB && found.patterns.length > 0 && found.second === null && (
        <p className="message">The server read the first text only: it does not take pairs.</p>
      )}
      {isBusy(found.error) ? <p className="muted">The model works on a job; this waits for it.</p> : <Problem error={found.error ?? (mode === "model" ? record.error : null)} />}
      {!served && mode !== "model" && (
        <p className="message">
          Layer {layerIndex} has no pattern to show: {record.data?.refused[String(layerIndex)] ?? "it makes no attention call that can be read"}.
        </p>
      )}
      {mode === "model" ? (
        <WholeModel anatomy={anatomy} record={record.data} layers={layers} theme={theme} />
      ) : (
        <OneLayer
          {...{ anatomy, texts, mode, theme, layerIndex, count, chosen, setHeads, tokens, second, ranges, served }}
          patterns={found.patterns}
          record={record.data}
          filter={filter}
          onMeasure={long && !wants && !record.data ? () => setMeasured(`${texts.model} ${texts.text} ${texts.textB}`) : null}
        />
      )}
    </>
  );
}

function WholeModel({ anatomy, record, layers, theme }: { anatomy: Anatomy; record: ReturnType<typeof useHeads>["data"]; layers: number[]; theme: Theme }) {
  const { params, set } = useUrl();
  const id = useId();
  const score = params.get("score") ?? "";
  const heads = listOf(params.get("heads"), anatomy.n_heads);
  return (
    <div className="panel">
      <div className="row model-view-tools">
        <label className="inline" htmlFor={`${id}-score`}>
          Score under each head
          <select id={`${id}-score`} value={score} onChange={(event) => set({ score: event.target.value })}>
            <option value="">none</option>
            <option value="entropy">entropy of its attention</option>
            {HABITS.map(([name, label]) => (
              <option key={name} value={name}>
                {label}
              </option>
            ))}
          </select>
        </label>
        <Subset name="layers" label="Layers" count={anatomy.n_layers} />
        <Subset name="heads" label="Heads" count={anatomy.n_heads} />
        <PatternLegend theme={theme} />
      </div>
      {record ? (
        <ModelView
          record={record}
          layers={layers}
          heads={heads}
          score={score}
          theme={theme}
          onOpen={(layer, head) => set({ mode: null, layers: layer, heads: head }, true)}
        />
      ) : (
        <p className="muted">The model is being run…</p>
      )}
      {record && score && <Best record={record} score={score} />}
    </div>
  );
}

/** Which layers or heads: `0-3,7`. */
function Subset({ name, label, count }: { name: string; label: string; count: number }) {
  const { params, set } = useUrl();
  const id = useId();
  const [draft, setDraft] = useState(params.get(name) ?? "");
  useEffect(() => setDraft(params.get(name) ?? ""), [params, name]);
  const keep = () => set({ [name]: draft.trim() ? listText(listOf(draft, count), count) : null });
  return (
    <label className="inline subset" htmlFor={id}>
      {label}
      <input
        id={id}
        value={draft}
        placeholder={`0-${count - 1}`}
        onChange={(event) => setDraft(event.target.value)}
        onBlur={keep}
        onKeyDown={(event) => event.key === "Enter" && keep()}
      />
    </label>
  );
}

/** The heads with the largest scores, as links. */
function Best({ record, score }: { record: NonNullable<ReturnType<typeof useHeads>["data"]>; score: string }) {
  const { set } = useUrl();
  const table = score === "entropy" ? record.entropy : (record.scores[score] ?? []);
  const heads = table.flatMap((row, layer) => row.flatMap((value, head) => (value === null ? [] : [{ layer, head, value }])));
  const best = heads.sort((a, b) => b.value - a.value).slice(0, 8);
  return (
    <p className="small">
      Largest:{" "}
      {best.map(({ layer, head, value }) => (
        <button key={`${layer}.${head}`} className="quiet link" onClick={() => set({ mode: null, layers: layer, heads: head }, true)}>
          {layer}.{head} <span className="muted number">{value.toFixed(2)}</span>
        </button>
      ))}
    </p>
  );
}

interface LayerProps {
  anatomy: Anatomy;
  texts: Texts;
  mode: Mode;
  theme: Theme;
  layerIndex: number;
  count: number;
  chosen: number[];
  setHeads: (heads: readonly number[]) => void;
  tokens: readonly string[];
  second: number | null;
  ranges: ReturnType<typeof rangesOf>;
  served: boolean;
  patterns: ReturnType<typeof usePatterns>["patterns"];
  record: ReturnType<typeof useHeads>["data"];
  filter: Filter;
  /** Set where the scores of a long text wait to be asked for: they take a run of all layers. */
  onMeasure: (() => void) | null;
}

function OneLayer(props: LayerProps) {
  const { anatomy, texts, mode, theme, layerIndex, count, chosen, setHeads, tokens, second, ranges, served, patterns, record, filter, onMeasure } = props;
  const { params, set } = useUrl();
  const kept = placeOf(params.get("at"), tokens.length);
  const [hovered, setHovered] = useState<ReturnType<typeof placeOf>>(null);
  const at = hovered ?? kept;
  const layer = anatomy.layers[layerIndex]!;
  const predicts = anatomy.causal && anatomy.has_unembedding && !texts.textB;
  const key = params.get("key");
  const [keyHovered, setKey] = useState<number | null>(null);
  const one = chosen[0] ?? 0;
  const where = new URLSearchParams({ model: texts.model, layer: String(layerIndex), prompt: texts.text, "3d": "1" });
  return (
    <>
      <HeadChips {...{ count, chosen, setHeads, theme, single: mode === "qk" }} />
      <div className="attention-columns">
        <div className="panel attention-main">
          {mode === "heads" && served && tokens.length > 0 && (
            <HeadView
              {...{ tokens, patterns, ranges, second, count, theme, at }}
              label={`Attention of ${chosen.length} heads of layer ${layerIndex} on ${tokens.length} tokens`}
              onAt={(next, keep) => {
                if (keep) {
                  setHovered(null);
                  set({ at: next ? `${next.side === "key" ? "k" : ""}${next.token}` : null });
                } else setHovered(next);
              }}
            />
          )}
          {mode === "qk" && (
            <QueryKeyView
              {...{ texts, layer, filter, theme }}
              head={one}
              query={kept?.token ?? null}
              onQuery={(token) => set({ at: token })}
              keyAt={keyHovered ?? (key !== null && /^\d+$/.test(key) ? Number(key) : null)}
              onKey={setKey}
            />
          )}
        </div>
        <div className="stack attention-side">
          <section className="panel" aria-label="Looks">
            {mode === "heads" && at && tokens.length > 0 && patterns.length > 0 ? (
              <Looks {...{ tokens, patterns, ranges, at, count, theme }} />
            ) : (
              <p className="muted small">
                Point at a token to see its attention alone; click to keep it. The line's strength is the attention, its colour
                the head.{tokens.length > 80 && " Of a long text, the lines of the tokens in view are drawn."}
              </p>
            )}
            {record && chosen.length > 0 && (
              <ul className="plain small head-scores">
                {chosen.slice(0, 12).map((head) => (
                  <li key={head}>
                    <Scores record={record} layer={layerIndex} head={head} />
                  </li>
                ))}
              </ul>
            )}
            {onMeasure && (
              <p>
                <button onClick={onMeasure}>Measure entropy and scores</button>
              </p>
            )}
            <p className="small">
              <Link to={`/model?${where}`}>The tensors of layer {layerIndex} in 3-D</Link>
            </p>
          </section>
          {predicts ? (
            <HeadCheck model={texts.model} text={texts.text} layer={layerIndex} heads={mode === "qk" ? [one] : chosen} />
          ) : (
            <p className="muted small">
              {texts.textB ? "With a pair of texts" : "On a model that predicts no next token"} there is no prediction that
              taking a head out could change.
            </p>
          )}
        </div>
      </div>
    </>
  );
}

function HeadChips({ count, chosen, setHeads, theme, single }: { count: number; chosen: number[]; setHeads: (heads: readonly number[]) => void; theme: Theme; single: boolean }) {
  const toggle = (head: number) => {
    if (single) setHeads([head]);
    else if (!chosen.includes(head)) setHeads([...chosen, head]);
    else if (chosen.length > 1) setHeads(chosen.filter((other) => other !== head)); // one always stays
  };
  return (
    <div className="row head-chips" role="group" aria-label="Heads">
      <span className="label">{single ? "Head" : "Heads"}</span>
      {Array.from({ length: count }, (_, head) => {
        const on = single ? chosen[0] === head : chosen.includes(head);
        return (
          <button
            key={head}
            aria-pressed={on}
            style={on ? { borderColor: headColour(head, count, theme), boxShadow: `inset 0 -4px 0 ${headColour(head, count, theme)}` } : undefined}
            onClick={() => toggle(head)}
            onDoubleClick={() => setHeads([head])}
            title={single ? `Head ${head}` : `Head ${head}; double-click for this one only`}
          >
            {head}
          </button>
        );
      })}
      {!single && count > 1 && <button onClick={() => setHeads(Array.from({ length: count }, (_, head) => head))}>All</button>}
    </div>
  );
}

/** `7` is a query, `k7` a key. */
function placeOf(text: string | null, tokens: number): { side: "query" | "key"; token: number } | null {
  const match = /^(k?)(\d+)$/.exec(text ?? "");
  if (!match) return null;
  const token = Number(match[2]);
  return tokens && token >= tokens ? null : { side: match[1] ? "key" : "query", token };
}
