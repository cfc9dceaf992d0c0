/** Two maps of the same continuation after two texts, aligned: token under token, and what the first has more. */

import { arrayOf, type ResultSource } from "../../api/source";
import type { Check } from "../../api/types";
import { useTheme } from "../../layout/theme";
import { Legend } from "../../views/Legend";
import { numbers } from "../../views/nd";
import { colour, css, inkOn, scaleOf, type Scale, type Theme } from "../../views/palette";
import { figure, label } from "../../views/words";
import { Badges } from "./Badge";
import { Steps } from "./Steps";
import { useFetched } from "./tokenMap";
import "./attribution.css";

const MOST = 1000;
const ROWS = ["first", "second", "difference"] as const;

interface Contrast {
  tokens: [string[], string[]];
  /** Of each row, the values of all steps: [target, pair]. */
  rows: Float64Array[];
  targets: string[];
}

/** Whether a result sets two maps side by side. */
export function showsContrast(source: ResultSource): boolean {
  return (
    ROWS.every((name) => arrayOf(source, name)?.dims.join() === "target,pair_number") &&
    ["first_token", "second_token"].every((name) => arrayOf(source, name)?.dims.join() === "pair_number")
  );
}

async function contrastOf(source: ResultSource, signal: AbortSignal): Promise<Contrast> {
  const words = async (name: string) => Array.from((await source.slice(name, {}, signal)).data as ArrayLike<string>);
  const [first, second, targets, ...rows] = await Promise.all([
    words("first_token"),
    words("second_token"),
    words("target_token"),
    ...ROWS.map(async (name) => Float64Array.from(numbers(await source.slice(name, {}, signal)))),
  ]);
  return { tokens: [first, second], rows, targets };
}

export function SideBySide({
  source,
  checks,
  at,
  onAt,
}: {
  source: ResultSource;
  checks: readonly Check[];
  at: Readonly<Record<string, number>>;
  onAt: (dim: string, index: number) => void;
}) {
  const [theme] = useTheme();
  const { found, error } = useFetched((signal) => contrastOf(source, signal), [source]);
  const count = source.dims["target"] ?? 1;
  const step = Math.min(count - 1, Math.max(0, at["target"] ?? 0));
  return (
    <figure className="picture" id="side-by-side">
      <figcaption>
        <span>Both texts side by side</span>
      </figcaption>
      <div className="cv reading" aria-busy={!found && !error}>
        {error && (
          <p className="cv-failed" role="alert">
            {error}
          </p>
        )}
        {!found && !error && <p className="cv-note reading-wait">Reading the numbers …</p>}
        {found && (
          <>
            {count > 1 && (
              <Steps
                name="explained token"
                count={count}
                at={step}
                said={`${step + 1} of ${count}: ${label(found.targets[step] ?? "")}`}
                onAt={(to) => onAt("target", to)}
              />
            )}
            <Aligned found={found} step={step} theme={theme} />
          </>
        )}
        <Badges checks={checks} />
      </div>
    </figure>
  );
}

function Aligned({ found, step, theme }: { found: Contrast; step: number; theme: Theme }) {
  const width = found.tokens[0].length;
  const rows = found.rows.map((row) => row.subarray(step * width, (step + 1) * width));
  const scale = scaleOf(rows.flatMap((row) => Array.from(row)), "diverging");
  const pairs = Array.from({ length: Math.min(MOST, width) }, (_, pair) => pair);
  return (
    <>
      <ul className="aligned" aria-label="Tokens of both texts, aligned">
        <li className="aligned-key" aria-hidden="true">
          <span>first</span>
          <span>second</span>
          <span>first − second</span>
        </li>
        {pairs.map((pair) => {
          const [first, second] = found.tokens.map((tokens) => tokens[pair] ?? "") as [string, string];
          const [mine, theirs, difference] = rows.map((row) => row[pair] as number) as [number, number, number];
          return (
            <li key={pair} title={`${label(first) || "nothing"} ${figure(mine, true)}; ${label(second) || "nothing"} ${figure(theirs, true)}`}>
              <Word text={first} value={mine} scale={scale} theme={theme} />
              <Word text={second} value={theirs} scale={scale} theme={theme} />
              <i>{figure(difference, true)}</i>
            </li>
          );
        })}
      </ul>
      {width > MOST && (
        <p className="cv-note">
          {MOST} of {width} places are shown; the pictures below have all.
        </p>
      )}
      <Legend scale={scale} name="attribution, one scale for both texts" theme={theme} missing={false} />
    </>
  );
}

function Word({ text, value, scale, theme }: { text: string; value: number; scale: Scale; theme: Theme }) {
  if (!text)
    return (
      <b data-absent="true">
        <span className="cv-hidden">nothing</span>
      </b>
    );
  const fill = colour(scale, value, theme);
  return <b style={{ background: css(fill), color: css(inkOn(fill)) }}>{label(text)}</b>;
}
