/** A map of tokens, read step by step: the text in the colours of one explained token, or of words and stretches of it. */

import { useEffect, useMemo, useState, type ReactNode } from "react";

import { type ResultSource } from "../../api/source";
import type { Check, View } from "../../api/types";
import { useTheme } from "../../layout/theme";
import type { Strip } from "../../views/framing";
import { scaleOf, type Scale } from "../../views/palette";
import { roomFor } from "../../views/surroundings";
import { Tokens, type Mark } from "../../views/Tokens";
import type { Hover } from "../../views/types";
import { anyNegative, figure, label } from "../../views/words";
import { useUrl } from "../url";
import { Badges } from "./Badge";
import {
  BY,
  HOW,
  joined,
  piecesOf,
  readStretches,
  withStretch,
  writtenStretches,
  type By,
  type How,
  type Piece,
  type Stretch,
} from "./pieces";
import { Steps } from "./Steps";
import { tokenMap, useFetched, type TokenMap } from "./tokenMap";
import "./attribution.css";

interface Props {
  source: ResultSource;
  view: View;
  checks: readonly Check[];
  at: Readonly<Record<string, number>>;
  onAt: (dim: string, index: number) => void;
  hover?: Hover | undefined;
  onHover?: ((hover: Hover) => void) | undefined;
  height?: number | undefined;
  children?: ReactNode;
}

export function Reading({ source, view, checks, at, onAt, hover, onHover, height, children }: Props) {
  const prompts = source.dims["prompt"] ?? 1;
  const prompt = Math.min(prompts - 1, at["prompt"] ?? 0);
  const { found, error } = useFetched((signal) => tokenMap(source, prompt, signal), [source, prompt]);
  const step = Math.min((found?.steps.length ?? 1) - 1, at["target"] ?? 0);
  return (
    <figure className="picture">
      <figcaption>
        <span>{view.title}</span>
        {children}
      </figcaption>
      <div className="cv reading" aria-busy={!found && !error}>
        {prompts > 1 && (
          <Steps name="prompt" count={prompts} at={prompt} said={`${prompt + 1} of ${prompts}`} onAt={(to) => onAt("prompt", to)} />
        )}
        {error && (
          <p className="cv-failed" role="alert">
            {error}
          </p>
        )}
        {!found && !error && <p className="cv-note reading-wait">Reading the numbers …</p>}
        {found && (
          <Read
            key={prompt}
            map={found}
            title={view.title}
            step={step}
            onStep={(to) => onAt("target", to)}
            hover={hover}
            onHover={onHover}
            height={height}
          />
        )}
        <Badges checks={checks} />
      </div>
    </figure>
  );
}

interface ReadProps {
  map: TokenMap;
  title: string;
  step: number;
  onStep: (step: number) => void;
  hover?: Hover | undefined;
  onHover?: ((hover: Hover) => void) | undefined;
  height?: number | undefined;
}

function Read({ map, title, step, onStep, hover, onHover, height }: ReadProps) {
  const [theme] = useTheme();
  const choice = useChoice(map.tokens.length);
  const [joining, setJoining] = useState(false);
  const [first, setFirst] = useState<number | null>(null);
  const { pieces, values, scale } = useJoined(map, choice, step);
  const shown = useMemo(() => stripOf(map, pieces, values[step], step, scale), [map, pieces, values, step, scale]);
  const rooms = useMemo(() => roomsOf(values, scale), [values, scale]);
  const stop = () => {
    setJoining(false);
    setFirst(null);
  };
  useEffect(() => {
    if (!joining) return;
    const leave = (event: KeyboardEvent) => event.key === "Escape" && stop();
    document.addEventListener("keydown", leave);
    return () => document.removeEventListener("keydown", leave);
  }, [joining]);

  const choose = (index: number) => {
    const piece = pieces[index];
    if (!joining) {
      const next = piece ? stepIn(map, piece, step) : map.steps.length - 1;
      if (next !== null) onStep(next);
    } else if (piece && first === null) setFirst(index);
    else if (piece && first !== null) {
      const begin = pieces[first] as Piece;
      choice.join([Math.min(begin.start, piece.start), Math.max(begin.end, piece.end)]);
      stop();
    }
  };
  const marks = shown.marks.map((mark, index) => (index === first ? "begins" : mark));
  const pointed = (each: Hover) => {
    const piece = each && pieces[each["piece"] as number];
    onHover?.(piece && piece.end === piece.start + 1 ? { position: piece.start } : null);
  };
  const place = hover?.["position"];
  const linked = place === undefined ? -1 : pieces.findIndex(({ start, end }) => start <= place && place < end);
  return (
    <>
      {map.steps.length > 1 && (
        <Steps
          name="explained token"
          count={map.steps.length}
          at={step}
          said={`${step + 1} of ${map.steps.length}: ${label(map.targets[step] ?? "")}`}
          onAt={onStep}
        />
      )}
      <Choosing
        choice={choice}
        several={map.steps.length > 1}
        grouped={pieces.length < map.tokens.length}
        joining={joining}
        onJoining={() => (joining ? stop() : setJoining(true))}
      />
      <p className="reading-said small" aria-live="polite">
        {joining
          ? first === null
            ? "Choose the first token of the stretch (a click, or arrow keys and Enter)."
            : `From ${label(pieces[first]?.text ?? "")} to …: choose the last token. Escape stops.`
          : [label(map.targets[step] ?? ""), map.scores[step]].filter(Boolean).join(": ")}
      </p>
      <Tokens
        panel={shown.strip}
        title={title}
        theme={theme}
        height={height}
        marks={marks}
        rooms={rooms}
        hover={linked < 0 ? null : { piece: linked }}
        onHover={pointed}
        onSelect={(chosen) => choose(chosen["piece"] as number)}
      />
      <Stretches map={map} choice={choice} />
    </>
  );
}

interface Choice {
  by: By;
  how: How;
  stretches: readonly Stretch[];
  /** One scale of colours for all steps. */
  alike: boolean;
  set: (change: { by?: By; how?: How; alike?: boolean }) => void;
  join: (stretch: Stretch) => void;
  part: (stretch: Stretch) => void;
}

/** How the reader wants the map to be read, kept in the page's address. */
function useChoice(length: number): Choice {
  const { params, set } = useUrl();
  const written = params.get("map.join") ?? "";
  const stretches = useMemo(() => readStretches(written, length), [written, length]);
  const keep = (next: readonly Stretch[]) => set({ "map.join": writtenStretches(next) || null });
  return {
    by: BY.find((by) => by === params.get("map.by")) ?? "token",
    how: (Object.keys(HOW) as How[]).find((how) => how === params.get("map.how")) ?? "sum",
    alike: params.get("map.colours") === "all",
    stretches,
    set: ({ by, how, alike }) =>
      set({
        ...(by && { "map.by": by === "token" ? null : by }),
        ...(how && { "map.how": how === "sum" ? null : how }),
        ...(alike !== undefined && { "map.colours": alike ? "all" : null }),
      }),
    join: (stretch) => keep(withStretch(stretches, stretch)),
    part: (stretch) => keep(stretches.filter((each) => each !== stretch)),
  };
}

function Choosing({
  choice,
  several,
  grouped,
  joining,
  onJoining,
}: {
  choice: Choice;
  several: boolean;
  grouped: boolean;
  joining: boolean;
  onJoining: () => void;
}) {
  return (
    <div className="cv-controls">
      <label>
        read by
        <select value={choice.by} onChange={(event) => choice.set({ by: event.target.value as By })}>
          {BY.map((by) => (
            <option key={by}>{by}</option>
          ))}
        </select>
      </label>
      <button type="button" aria-pressed={joining} onClick={onJoining}>
        Join tokens
      </button>
      <label>
        value of what is joined
        <select value={choice.how} disabled={!grouped} onChange={(event) => choice.set({ how: event.target.value as How })}>
          {Object.entries(HOW).map(([how, name]) => (
            <option key={how} value={how}>
              {name}
            </option>
          ))}
        </select>
      </label>
      {several && (
        <label>
          <input type="checkbox" checked={choice.alike} onChange={(event) => choice.set({ alike: event.target.checked })} />
          same colours for all steps
        </label>
      )}
    </div>
  );
}

/** What the reader joined, to be taken apart again. */
function Stretches({ map, choice }: { map: TokenMap; choice: Choice }) {
  if (!choice.stretches.length) return null;
  return (
    <div className="cv-controls reading-stretches" role="group" aria-label="Joined stretches">
      {choice.stretches.map((stretch) => {
        const text = label(map.tokens.slice(...stretch).join(""));
        return (
          <button key={stretch.join()} type="button" aria-label={`Take apart ${text}`} onClick={() => choice.part(stretch)}>
            <span className="reading-stretch">{text}</span> <span aria-hidden="true">✕</span>
          </button>
        );
      })}
    </div>
  );
}

/** The text in pieces, their values in every step, and the scale of this step or of all. */
function useJoined(map: TokenMap, { by, how, stretches, alike }: Choice, step: number) {
  const pieces = useMemo(() => piecesOf(map.tokens, by, stretches), [map, by, stretches]);
  const values = useMemo(() => map.steps.map((each) => joined(each, pieces, how)), [map, pieces, how]);
  const scale = useMemo(
    () => scaleOf(alike ? values.flatMap((each) => Array.from(each)) : (values[step] ?? [])),
    [values, alike, step],
  );
  return { pieces, values, scale };
}

/** The step that explains a token of the piece: the next one where the piece has several; null where it has none. */
function stepIn(map: TokenMap, { start, end }: Piece, step: number): number | null {
  const here = map.places.flatMap((place, each) => (place !== null && start <= place && place < end ? [each] : []));
  return here.find((each) => each > step) ?? here[0] ?? null;
}

/** The words with their values, behind them what is explained where it stands nowhere else, and what is not seen yet. */
export function stripOf(
  map: TokenMap,
  pieces: readonly Piece[],
  values: Float64Array | undefined,
  step: number,
  scale: Scale,
): { strip: Strip; marks: (Mark | undefined)[] } {
  const place = map.places[step] ?? null;
  const seen = place ?? map.tokens.length;
  const last = map.steps.length - 1;
  const behind = place === null || map.places[last] === map.tokens.length;
  const target = place === null ? step : last;
  const words = pieces.map(({ text }) => label(text));
  const marks = pieces.map(({ start, end }): Mark | undefined =>
    place !== null && start <= place && place < end ? "target" : start >= seen ? "later" : undefined,
  );
  return {
    strip: {
      kind: "tokens",
      words: behind ? [...words, label(map.targets[target] ?? "")] : words,
      values: Float64Array.from([...(values ?? []), ...(behind ? [NaN] : [])]),
      scale,
      valueName: map.valueName,
      dim: "piece",
    },
    marks: behind ? [...marks, target === step ? "target" : "later"] : marks,
  };
}

const MOST_ROOMS = 200_000;

/** How much room the longest value of each piece needs in any step; a long text takes the room of a usual one. */
function roomsOf(values: readonly Float64Array[], scale: Scale): number[] {
  const width = values[0]?.length ?? 0;
  if (values.length * width > MOST_ROOMS) return Array.from({ length: width }, () => 50);
  const signs = scale.name === "diverging" || values.some(anyNegative);
  return Array.from({ length: width }, (_, piece) =>
    values.reduce((room, row) => {
      const value = row[piece] as number;
      return Number.isNaN(value) ? room : Math.max(room, roomFor(figure(value, signs), 10) + 4);
    }, 0),
  );
}
