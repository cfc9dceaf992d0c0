/** What a picture must know of the page around it: its width, its theme, and whether a slice is still wanted. */

import { useEffect, useRef, useState, type RefObject } from "react";
import type { Theme } from "./palette";

/** The width of an element in whole pixels; `assumed` until it is measured. */
export function useWidth(element: RefObject<HTMLElement | null>, assumed = 720): number {
  const [width, setWidth] = useState(assumed);
  useEffect(() => {
    const node = element.current;
    if (!node) return;
    const measure = () => {
      const found = Math.floor(node.clientWidth);
      if (found > 0) setWidth(found);
    };
    measure();
    if (typeof ResizeObserver === "undefined") return;
    const observer = new ResizeObserver(measure);
    observer.observe(node);
    return () => observer.disconnect();
  }, [element]);
  return width;
}

/** How far an element is scrolled down, and how high the part of it is that is seen. */
export function useScroll(
  element: RefObject<HTMLElement | null>,
  assumed: number,
): { top: number; height: number; onScroll: () => void } {
  const [place, setPlace] = useState({ top: 0, height: assumed });
  const onScroll = () => {
    const node = element.current;
    if (!node) return;
    const height = node.clientHeight || assumed;
    setPlace((old) => (old.top === node.scrollTop && old.height === height ? old : { top: node.scrollTop, height }));
  };
  // what grew since it was scrolled is in sight too
  return { top: place.top, height: Math.max(place.height, assumed), onScroll };
}

/** Light or dark, as the nearest element with `data-theme` says, or the system. */
export function usePageTheme(element: RefObject<HTMLElement | null>, given?: Theme): Theme {
  const [theme, setTheme] = useState<Theme>(given ?? "light");
  useEffect(() => {
    if (given) return setTheme(given);
    const system = window.matchMedia("(prefers-color-scheme: dark)");
    const look = () => {
      const said = element.current?.closest("[data-theme]")?.getAttribute("data-theme");
      setTheme(said === "dark" || said === "light" ? said : system.matches ? "dark" : "light");
    };
    look();
    const observer = new MutationObserver(look);
    observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    system.addEventListener("change", look);
    return () => {
      observer.disconnect();
      system.removeEventListener("change", look);
    };
  }, [element, given]);
  return theme;
}

/** Call `draw` before the next frame, once however often it is asked for. */
export function useFrame(draw: () => void): () => void {
  const latest = useRef(draw);
  latest.current = draw;
  const asked = useRef(0);
  useEffect(() => () => cancelAnimationFrame(asked.current), []);
  const ask = useRef(() => {
    cancelAnimationFrame(asked.current);
    asked.current = requestAnimationFrame(() => latest.current());
  });
  return ask.current;
}

/** About how wide a text is, in pixels: no font is measured, so labels get some room to spare. */
export function roomFor(text: string, size: number, mono = false): number {
  return cells(text) * size * (mono ? 0.61 : 0.6);
}

/** How many letters wide a text is; those of East Asian scripts and emoji are two wide. */
export function cells(text: string): number {
  let count = 0;
  for (const c of text) count += WIDE.test(c) ? 2 : MARK.test(c) ? 0 : 1;
  return count;
}

const WIDE = /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u;
const MARK = /[\p{Mn}\p{Me}]/u;

/** The text, or as much of it as has room, and `…`. */
export function cut(text: string, size: number, room: number, mono = false): string {
  if (roomFor(text, size, mono) <= room + 0.1) return text;
  const letters = [...text];
  while (letters.length && roomFor(`${letters.join("")}…`, size, mono) > room) letters.pop();
  return `${letters.join("")}…`;
}
