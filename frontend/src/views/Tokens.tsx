/** A sentence, each token in the colour of its value, its value below. Only the lines in sight are drawn. */

import { useMemo, useRef, useState, type KeyboardEvent } from "react";
import type { Strip } from "./framing";
import { Empty, Spoken } from "./Hint";
import { Legend } from "./Legend";
import { colour, css, inkOn } from "./palette";
import { cut, roomFor, useScroll, useWidth } from "./surroundings";
import type { Drawn } from "./types";
import { figure } from "./words";

const LINE = 46;

export interface PlacedWord {
  index: number;
  x: number;
  line: number;
  width: number;
}

/** What a word is beside its value: what the values explain, what they do not see yet, or where a choice begins. */
export type Mark = "target" | "later" | "begins";

interface Marked {
  marks?: readonly (Mark | undefined)[] | undefined;
  /** Room for the values that a word may get, so that words stand still while values change. */
  rooms?: readonly number[] | undefined;
}

const SAID: Readonly<Record<Mark, string>> = { target: "is explained", later: "comes later", begins: "is where it begins" };

export function Tokens({
  panel,
  title,
  theme,
  height = 420,
  hover,
  onHover,
  onSelect,
  marks,
  rooms,
}: Drawn<Strip> & Marked) {
  const box = useRef<HTMLDivElement>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const [cursor, setCursor] = useState<number | null>(null);
  const [spoken, setSpoken] = useState("");
  const signs = panel.scale.name === "diverging";
  const placed = useMemo(() => placedWords(panel, width - 14, signs, rooms), [panel, width, signs, rooms]);
  const lines = (placed.at(-1)?.line ?? -1) + 1;
  const shown = Math.min(height, lines * LINE);
  const scroll = useScroll(scroller, shown);
  if (!panel.words.length) return <Empty>There are no tokens to show.</Empty>;

  const said = (index: number) => {
    const mark = marks?.[index];
    const value = panel.values[index] as number;
    return mark && Number.isNaN(value) ? SAID[mark] : figure(value, signs);
  };
  const move = (index: number | null) => {
    setCursor(index);
    onHover?.(index === null ? null : { [panel.dim]: index });
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const here = cursor === null ? null : placed[cursor];
    const upOrDown = (step: number) => nearestIn(placed, here, step);
    const steps: Record<string, () => number> = {
      ArrowRight: () => (cursor === null ? 0 : Math.min(placed.length - 1, cursor + 1)),
      ArrowLeft: () => (cursor === null ? 0 : Math.max(0, cursor - 1)),
      ArrowDown: () => upOrDown(1),
      ArrowUp: () => upOrDown(-1),
      Home: () => 0,
      End: () => placed.length - 1,
    };
    const next = steps[event.key]?.();
    if (event.key === "Enter" && cursor !== null) onSelect?.({ [panel.dim]: cursor });
    if (event.key === "Escape") move(null);
    if (next === undefined) return;
    event.preventDefault();
    move(next);
    setSpoken(`${panel.words[next]} ${said(next)}`);
    const top = (placed[next]?.line ?? 0) * LINE;
    const node = scroller.current;
    if (node && (top < node.scrollTop || top + LINE > node.scrollTop + shown)) node.scrollTop = top - shown / 2;
  };

  const [first, last] = [scroll.top / LINE - 2, (scroll.top + scroll.height) / LINE + 1];
  const linked = hover?.[panel.dim];
  return (
    <div ref={box} className="cv-box cv-picture">
      <div
        ref={scroller}
        className="cv-scroll"
        style={{ height: shown }}
        onScroll={scroll.onScroll}
        tabIndex={0}
        role="application"
        aria-roledescription="coloured tokens"
        aria-label={`${title}: ${panel.words.length} tokens coloured by ${panel.valueName}. Arrow keys move from token to token.`}
        onKeyDown={onKeyDown}
        onPointerLeave={() => move(null)}
        onBlur={() => move(null)}
      >
        <div className="cv-words" style={{ height: lines * LINE }}>
          {placed
            .filter((word) => word.line > first && word.line < last)
            .map(({ index, x, line, width: wide }) => {
              const value = panel.values[index] as number;
              const fill = colour(panel.scale, value, theme);
              const mark = marks?.[index];
              const bare = mark !== undefined && Number.isNaN(value);
              return (
                <span
                  key={index}
                  className="cv-word"
                  data-index={index}
                  data-linked={index === cursor || index === linked}
                  data-missing={!bare && Number.isNaN(value)}
                  data-mark={mark}
                  style={{ left: x, top: line * LINE, width: wide }}
                  title={`${panel.words[index]} ${said(index)}`}
                  onPointerEnter={() => move(index)}
                  onClick={() => onSelect?.({ [panel.dim]: index })}
                >
                  <b style={bare ? undefined : { background: css(fill), color: css(inkOn(fill)) }}>
                    {cut(panel.words[index] ?? "", 13, wide - 4, true)}
                  </b>
                  <i>{bare ? (mark === "target" ? "▲" : "") : said(index)}</i>
                </span>
              );
            })}
        </div>
      </div>
      <Spoken text={spoken} />
      <Legend
        scale={panel.scale}
        name={panel.valueName}
        theme={theme}
        missing={panel.values.some((value: number, index: number) => Number.isNaN(value) && !marks?.[index])}
      />
    </div>
  );
}

/** Words in lines like a text, each as wide as its letters or its value needs. */
export function placedWords(
  panel: Strip,
  width: number,
  signs: boolean,
  rooms?: readonly number[],
): PlacedWord[] {
  let [x, line] = [0, 0];
  return panel.words.map((word, index) => {
    const room = rooms ? (rooms[index] ?? 0) : roomFor(figure(panel.values[index] as number, signs), 10) + 4;
    const wide = Math.min(width, Math.max(roomFor(word, 13, true) + 10, room));
    if (x && x + wide > width) [x, line] = [0, line + 1];
    const placed = { index, x, line, width: wide };
    x += wide + 2;
    return placed;
  });
}

/** The word of the next line that stands below this one. */
function nearestIn(placed: readonly PlacedWord[], here: PlacedWord | null | undefined, step: number): number {
  if (!here) return 0;
  const middle = here.x + here.width / 2;
  const line = placed.filter((word) => word.line === here.line + step);
  if (!line.length) return here.index;
  return line.reduce((best, word) =>
    Math.abs(word.x + word.width / 2 - middle) < Math.abs(best.x + best.width / 2 - middle) ? word : best,
  ).index;
}
