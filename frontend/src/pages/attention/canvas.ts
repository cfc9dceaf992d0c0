/** A canvas as large as what is seen of a long drawing: it is drawn anew when scrolled, never stretched. */

import { useEffect, useLayoutEffect, useRef, useState } from "react";

export interface Seen {
  width: number;
  height: number;
  top: number;
}

export function useScrolledCanvas(draw: (context: CanvasRenderingContext2D, seen: Seen) => void): {
  frame: React.RefObject<HTMLDivElement | null>;
  canvas: React.RefObject<HTMLCanvasElement | null>;
  seen: Seen;
} {
  const frame = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [seen, setSeen] = useState<Seen>({ width: 0, height: 0, top: 0 });
  useEffect(() => {
    const element = frame.current;
    if (!element) return;
    const look = () => setSeen({ width: element.clientWidth, height: element.clientHeight, top: element.scrollTop });
    look();
    element.addEventListener("scroll", look, { passive: true });
    const observer = typeof ResizeObserver === "undefined" ? null : new ResizeObserver(look);
    observer?.observe(element);
    return () => {
      element.removeEventListener("scroll", look);
      observer?.disconnect();
    };
  }, []);
  useLayoutEffect(() => {
    const element = canvas.current;
    if (!element || !seen.width || !seen.height) return;
    const context = element.getContext("2d");
    if (!context) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(seen.width * ratio), Math.round(seen.height * ratio)];
    if (element.width !== width) element.width = width;
    if (element.height !== height) element.height = height;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, seen.width, seen.height);
    draw(context, seen);
  });
  return { frame, canvas, seen };
}

/** The colours of the page as a canvas needs them. */
export function inks(): { ink: string; muted: string; rule: string; accent: string; highlight: string; paper: string; mono: string } {
  const style = getComputedStyle(document.documentElement);
  const of = (name: string, otherwise: string) => style.getPropertyValue(name).trim() || otherwise;
  return {
    ink: of("--ink", "#111"),
    muted: of("--muted", "#666"),
    rule: of("--rule", "#ccc"),
    accent: of("--accent", "#06c"),
    highlight: of("--highlight", "#fe9"),
    paper: of("--paper", "#fff"),
    mono: of("--mono", "monospace"),
  };
}

/** The text, cut to fit. */
export function fitted(context: CanvasRenderingContext2D, text: string, width: number): string {
  if (context.measureText(text).width <= width) return text;
  let end = text.length - 1;
  while (end > 0 && context.measureText(`${text.slice(0, end)}…`).width > width) end--;
  return `${text.slice(0, end)}…`;
}
