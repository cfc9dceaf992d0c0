/** What a reader sees who points at a mark, and what a screen reader says of the mark under the cursor. */

import { useLayoutEffect, useRef, useState } from "react";

export interface Pointed {
  /** In pixels from the corner of the picture's box. */
  x: number;
  y: number;
  lines: readonly string[];
}

/** A box beside the pointer that stays inside the picture. */
export function Hint({ pointed }: { pointed: Pointed | null }) {
  const box = useRef<HTMLDivElement>(null);
  const [place, setPlace] = useState({ left: 0, top: 0 });
  useLayoutEffect(() => {
    const node = box.current;
    const around = node?.offsetParent;
    if (!node || !pointed) return;
    const width = around?.clientWidth ?? 720;
    const right = pointed.x + 14 + node.offsetWidth > width;
    const low = pointed.y + 18 + node.offsetHeight > (around?.clientHeight ?? 600);
    setPlace({
      left: Math.max(0, right ? pointed.x - node.offsetWidth - 10 : pointed.x + 14),
      top: low ? Math.max(0, pointed.y - node.offsetHeight - 10) : pointed.y + 18,
    });
  }, [pointed]);
  if (!pointed) return null;
  return (
    <div ref={box} className="cv-hint" style={place} aria-hidden="true">
      {pointed.lines.map((line, i) => (
        <div key={i}>{line}</div>
      ))}
    </div>
  );
}

/** Says what is under the cursor, when it moves. */
export function Spoken({ text }: { text: string }) {
  return (
    <div className="cv-hidden" role="status" aria-live="polite">
      {text}
    </div>
  );
}

/** A picture of nothing says so in a sentence. */
export function Empty({ children }: { children: string }) {
  return <p className="cv-note">{children}</p>;
}
