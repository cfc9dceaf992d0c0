import { useQueries, useQuery } from "@tanstack/react-query";
import { useCallback, useEffect, useMemo, useRef, useState, type KeyboardEvent } from "react";

import { decodeBundle, type Bundle } from "../../api/arrays";
import { api, get, url } from "../../api/client";
import { Problem } from "../../layout/Problem";
import { useTheme } from "../../layout/theme";
import { isBusy, whileBusy } from "../../parts/models";
import { useSettled } from "../../parts/time";
import { steps } from "../../views/palette";
import { number } from "../../views/words";
import type { Anatomy } from "./anatomy";
import { arrange, cellOf, cellSite, requests, type Block } from "./blocks";
import { cellsOf, type CellRecord } from "./cells";
import { isMissing } from "./colours";
import { Inspector } from "./Inspector";
import { Steps } from "./Steps";
import { TensorScene, type Cell, type Link } from "./scene";

interface Props {
  anatomy: Anatomy;
  layer: number;
  prompt: string;
  cell: string | null;
  onLayer: (layer: number) => void;
  onPrompt: (prompt: string, push: boolean) => void;
  onCell: (site: string | null, layer?: number) => void;
}

const KEEP = { staleTime: 60_000, retry: whileBusy, retryDelay: 1500 } as const;
/** More numbers than these in the streams of all layers are not drawn beside the open layer. */
const TOWER = 3_000_000;

/** A real forward pass of the prompt: the tensors of one layer in space, each cell with its number and its formula. */
export default function Forward({ anatomy, layer: index, prompt, cell: pinned, onLayer, onPrompt, onCell }: Props) {
  const model = anatomy.model;
  const [theme] = useTheme();
  const host = useRef<HTMLDivElement>(null);
  const scene = useRef<TensorScene | null>(null);
  const [hovered, setHovered] = useState<Cell | null>(null);
  const [extra, setExtra] = useState<readonly string[]>([]);
  const [filled, setFilled] = useState(0);

  const tokenized = useQuery({
    queryKey: ["tokenize", model, prompt],
    queryFn: ({ signal }) => api.tokenize({ model, text: prompt }, signal),
    enabled: prompt !== "",
    placeholderData: (before) => before,
    ...KEEP,
  });
  const tokens = tokenized.data?.tokens ?? [];
  const layer = anatomy.layers[index];
  const arrangement = useMemo(
    () => (layer && tokens.length ? arrange(anatomy, layer, tokens.length) : null),
    [anatomy, layer, tokens.length],
  );
  const tower = useMemo(
    () => (arrangement && layer ? towerOf(anatomy, arrangement, tokens.length, index) : []),
    [anatomy, arrangement, layer, tokens.length, index],
  );
  const wanted = useMemo(() => (arrangement ? requests(arrangement.blocks) : { sites: [], left: [] }), [arrangement]);
  const small = tokens.length * anatomy.d_model * anatomy.n_layers <= TOWER && tower.length > 0;
  const waiting = useMemo(
    () => new Set([...wanted.left, ...(small ? [] : tower)].map((block) => block.site)),
    [wanted, small, tower],
  );
  const asked = [
    ...wanted.sites,
    ...(small ? [["resid_post[*]"]] : []),
    ...extra.filter((site) => waiting.has(site)).map((site) => [site]),
  ];
  const bundles = useQueries({
    queries: asked.map((sites) => ({
      queryKey: ["activations", model, prompt, sites.join(",")],
      queryFn: async ({ signal }: { signal: AbortSignal }): Promise<Bundle> =>
        decodeBundle(await (await get(url("/activations", { model, text: prompt, sites }), signal)).arrayBuffer()),
      enabled: prompt !== "" && !tokenized.isPlaceholderData,
      ...KEEP,
    })),
  });
  const arrays = useMemo(() => {
    const found = new Map<string, Float32Array>();
    for (const { data } of bundles)
      for (const array of data?.arrays ?? [])
        if (array.data instanceof Float32Array) found.set(array.name, array.data);
        else if (array.data instanceof Float64Array) found.set(array.name, Float32Array.from(array.data));
    return found;
  }, [bundles.map((bundle) => bundle.dataUpdatedAt).join()]); // eslint-disable-line react-hooks/exhaustive-deps
  const failed = bundles.find((bundle) => bundle.error)?.error ?? tokenized.error;
  const loading = bundles.some((bundle) => bundle.isFetching);

  // --- the drawing -----------------------------------------------------------------------------------------
  const latest = useRef({ onCell, onLayer, pinned, waiting });
  latest.current = { onCell, onLayer, pinned, waiting };
  useEffect(() => {
    const element = host.current;
    if (!element) return;
    const load = (block: Block) => {
      if (latest.current.waiting.has(block.site)) setExtra((sites) => (sites.includes(block.site) ? sites : [...sites, block.site]));
    };
    const made = new TensorScene(element, {
      hover: (cell) => {
        if (cell) load(cell.block);
        setHovered((before) =>
          before && cell && before.block.site === cell.block.site && before.row === cell.row && before.column === cell.column ? before : cell,
        );
      },
      pick: (cell) => {
        const site = cellSite(cell.block, cell.row, cell.column);
        latest.current.onCell(site === latest.current.pinned ? null : site);
      },
      open: (block) => {
        const found = /\[(\d+)\]/.exec(block.site);
        if (found) latest.current.onLayer(Number(found[1]));
      },
    });
    scene.current = made;
    return () => {
      made.dispose();
      scene.current = null;
    };
  }, []);
  const shape = arrangement ? `${model} ${tokens.length > 40} ${anatomy.layers.length}` : "";
  useEffect(() => {
    if (!arrangement || !scene.current) return;
    const names = new Map(tower.map((block) => [block, `tower:${block.site}`]));
    scene.current.show([...arrangement.blocks, ...tower], names);
    setFilled((count) => count + 1);
  }, [arrangement, tower]);
  useEffect(() => scene.current?.home(), [shape]);
  useEffect(() => scene.current?.setTheme(theme), [theme, filled]);
  useEffect(() => {
    for (const [site, values] of arrays) {
      scene.current?.fill(site, values);
      scene.current?.fill(`tower:${site}`, values);
    }
    setFilled((count) => count + 1);
  }, [arrays, arrangement, tower]);

  // --- the cell --------------------------------------------------------------------------------------------
  const all = useMemo(() => [...(arrangement?.blocks ?? []), ...tower], [arrangement, tower]);
  const kept = useMemo(() => (pinned ? cellOf(all, pinned) : null), [all, pinned]);
  const active = hovered && all.includes(hovered.block) ? hovered : kept;
  const site = active ? cellSite(active.block, active.row, active.column) : pinned;
  const values = active ? arrays.get(active.block.site) : undefined;
  const value = active && values ? (values[active.row * active.block.columns + active.column] ?? null) : null;
  const shown = value !== null && isMissing(value) ? null : value;
  const settled = useSettled(site, 120);
  const traced = useQuery({
    queryKey: ["cell", model, prompt, settled],
    queryFn: async ({ signal }): Promise<CellRecord | null> => {
      const answer = await get(url("/activations", { model, text: prompt, sites: [settled ?? ""] }), signal);
      const [found] = Object.values(cellsOf(decodeBundle(await answer.arrayBuffer()).facts));
      return found ? { ...found, site: settled ?? "" } : null; // the server may write the site's parts in another order
    },
    enabled: Boolean(settled) && prompt !== "",
    ...KEEP,
  });
  const record = traced.data && traced.data.site === site ? traced.data : undefined;
  useEffect(() => scene.current?.mark(active), [active, filled]);
  useEffect(() => {
    scene.current?.connectCells(active && record ? linksOf(all, active, record, index) : []);
  }, [active, record, all, index, filled]);

  const pin = useCallback(
    (next: string | null) => {
      const found = /\[(\d+)\]/.exec(next ?? "");
      const other = found ? Number(found[1]) : index;
      onCell(next, next && other !== index && !cellOf(all, next) ? other : undefined);
    },
    [all, index, onCell],
  );
  const keys = (event: KeyboardEvent) => {
    const from = kept ?? active ?? firstCell(arrangement?.blocks ?? []);
    if (!from || event.ctrlKey || event.metaKey || event.altKey) return;
    const far = event.shiftKey ? 10 : 1;
    const move = (rows: number, columns: number) => ({
      block: from.block,
      row: Math.min(from.block.rows - 1, Math.max(0, from.row + rows)),
      column: Math.min(from.block.columns - 1, Math.max(0, from.column + columns)),
    });
    const moves: Record<string, () => Cell | null> = {
      ArrowUp: () => move(-far, 0),
      ArrowDown: () => move(far, 0),
      ArrowLeft: () => move(0, -far),
      ArrowRight: () => move(0, far),
      "[": () => beside(arrangement?.blocks ?? [], from, -1),
      "]": () => beside(arrangement?.blocks ?? [], from, 1),
    };
    const cell = moves[event.key]?.();
    if (cell) {
      setHovered(null);
      onCell(cellSite(cell.block, cell.row, cell.column));
    } else if (event.key === "+" || event.key === "=") scene.current?.zoom(0.8);
    else if (event.key === "-") scene.current?.zoom(1.25);
    else if (event.key === "Home") scene.current?.home();
    else if (event.key === "Enter") scene.current?.lookAt(from);
    else if (event.key === "Escape") onCell(null);
    else if (event.key === "PageDown") onLayer(Math.min(anatomy.n_layers - 1, index + 1));
    else if (event.key === "PageUp") onLayer(Math.max(0, index - 1));
    else return;
    event.preventDefault();
  };
  const range = active ? scene.current?.range(active.block.site) : null;

  return (
    <div className="forward">
      <div className="forward-main">
        <div className="row forward-tools">
          <button onClick={() => onLayer(Math.max(0, index - 1))} disabled={index === 0}>
            Layer before
          </button>
          <label className="inline" htmlFor="forward-layer">
            Layer{" "}
            <select id="forward-layer" value={index} onChange={(event) => onLayer(Number(event.target.value))}>
              {anatomy.layers.map((one) => (
                <option key={one.index} value={one.index}>
                  {one.index}
                </option>
              ))}
            </select>
          </label>
          <button onClick={() => onLayer(Math.min(anatomy.n_layers - 1, index + 1))} disabled={index === anatomy.n_layers - 1}>
            Layer after
          </button>
          <span className="forward-view row">
            <button onClick={() => scene.current?.zoom(0.75)} aria-label="Nearer" title="Nearer (+)">
              +
            </button>
            <button onClick={() => scene.current?.zoom(1.33)} aria-label="Farther" title="Farther (−)">
              −
            </button>
            <button onClick={() => scene.current?.turn(0.25)} aria-label="Turn to the left" title="Turn">
              ⟲
            </button>
            <button onClick={() => scene.current?.turn(-0.25)} aria-label="Turn to the right" title="Turn">
              ⟳
            </button>
            <button onClick={() => scene.current?.home()} title="See all (Home)">
              See all
            </button>
          </span>
        </div>
        <div
          ref={host}
          className="scene"
          tabIndex={0}
          role="application"
          aria-roledescription="tensors in space"
          aria-label={`The tensors of layer ${index} on ${tokens.length} tokens. Arrow keys move from cell to cell, brackets from tensor to tensor.`}
          data-loaded={arrangement ? arrangement.blocks.filter((block) => arrays.has(block.site)).length : 0}
          data-blocks={arrangement?.blocks.length ?? 0}
          aria-busy={loading}
          onKeyDown={keys}
        >
          {loading && (
            <p className="scene-note">
              <span className="spinner" aria-hidden="true" /> Running the model…
            </p>
          )}
        </div>
        <p className="muted small">
          Drag to turn, right-drag to move, wheel to come nearer; double-click a layer of the tower to open it. Tokens run
          from top to bottom in each tensor, units from left to right; heads stand one behind the other.
        </p>
        {range && active && (
          <ColourBar kind={active.block.kind} low={range.low} high={range.high} name={range.name} clipped={range.clipped} theme={theme} />
        )}
        {isBusy(failed ?? null) ? <p className="muted">The model works on a job; this waits for it.</p> : <Problem error={failed} />}
        {wanted.left.length > 0 && (
          <p className="muted small">
            {wanted.left.length} of {arrangement?.blocks.length} tensors are large on {tokens.length} tokens and are read when
            you point at them.
          </p>
        )}
      </div>
      <div className="forward-side stack" aria-live="polite">
        <Inspector
          site={site}
          value={shown}
          loaded={values !== undefined}
          cell={record}
          pending={traced.isFetching}
          error={traced.error}
          token={active ? tokens[active.row] : undefined}
          pinned={pinned !== null && (pinned === site || (kept !== null && active === kept))}
          onPin={pin}
        />
        <Steps anatomy={anatomy} prompt={prompt} tokenized={tokenized.data} onPrompt={onPrompt} marked={active?.row ?? null} />
      </div>
    </div>
  );
}

function ColourBar(props: { kind: string; low: number; high: number; name: "diverging" | "sequential"; clipped: number; theme: "light" | "dark" }) {
  const colours = steps(props.name, props.theme).map(([r, g, b]) => `rgb(${r} ${g} ${b})`);
  return (
    <p className="colour-bar small" role="img" aria-label={`Colours of ${props.kind} from ${number(props.low)} to ${number(props.high)}`}>
      <code>{props.kind}</code> <span className="number">{number(props.low)}</span>
      <span className="colour-bar-scale" style={{ background: `linear-gradient(90deg, ${colours.join(",")})` }} />
      <span className="number">{number(props.high)}</span>
      {props.clipped > 0 && <span className="muted"> a few larger values take the colours of the ends</span>}
    </p>
  );
}

/** The stream after every layer, as a tower beside the open layer. */
function towerOf(anatomy: Anatomy, arrangement: { blocks: Block[]; width: number; height: number }, tokens: number, open: number): Block[] {
  const share = arrangement.height / Math.max(1, anatomy.n_layers);
  const width = Math.min(Math.max(320, anatomy.d_model), Math.max(120, arrangement.width * 0.28));
  const left = -Math.max(arrangement.width / 2, 200) - width / 2 - 120;
  return anatomy.layers
    .filter((layer) => layer.sites.includes("resid_post"))
    .map((layer) => ({
      site: `resid_post[${layer.index}]`,
      kind: "resid_post",
      title: `stream after layer ${layer.index}`,
      rows: tokens,
      columns: anatomy.d_model,
      rowName: "position" as const,
      columnName: "unit" as const,
      x: left + (layer.index === open ? 34 : 0),
      y: arrangement.height / 2 - (layer.index + 0.5) * share,
      z: 0,
      width,
      height: share * 0.72,
      from: [],
    }));
}

function firstCell(blocks: readonly Block[]): Cell | null {
  const block = blocks[0];
  return block ? { block, row: 0, column: 0 } : null;
}

function beside(blocks: readonly Block[], from: Cell, by: number): Cell | null {
  const at = blocks.indexOf(from.block);
  const block = blocks[Math.min(blocks.length - 1, Math.max(0, at + by))];
  return block ? { block, row: Math.min(from.row, block.rows - 1), column: Math.min(from.column, block.columns - 1) } : null;
}

/** Lines from the cells that the formula names, as far as they are drawn. */
function linksOf(blocks: readonly Block[], to: Cell, record: CellRecord, layer: number): Link[] {
  const sites = (record.operands ?? []).map((operand) => operand.site).filter(Boolean);
  for (const term of record.terms ?? []) {
    const named = /(?:^|· )(\w+)(\.head\[\d+\])?\.unit\[(\d+)\]/.exec(term.name);
    if (named) sites.push(`${named[1]}[${layer}]${named[2] ?? ""}.unit[${named[3]}]@${to.row}`);
    const key = /pattern\[key (\d+)\]/.exec(term.name);
    if (key && to.block.head !== undefined) sites.push(`pattern[${layer}].head[${to.block.head}].unit[${key[1]}]@${to.row}`);
  }
  return sites.flatMap((site) => {
    const from = cellOf(blocks, site);
    return from ? [{ from, to }] : [];
  });
}
