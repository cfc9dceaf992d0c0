/** Which position attends to which: as a matrix, or as lines from each token to the tokens that it attends to. */

import { useState } from "react";
import { AttentionLines } from "./AttentionLines";
import type { Grid } from "./framing";
import { GridPicture } from "./GridPicture";
import { Empty } from "./Hint";
import type { Drawn } from "./types";

export function Attention({ panel, ...drawn }: Drawn<Grid>) {
  const [mode, setMode] = useState<"matrix" | "lines">("matrix");
  if (!panel.values.length)
    return <Empty>{`There are no positions to show (${panel.height} × ${panel.width}).`}</Empty>;
  return (
    <>
      <div className="cv-controls">
        <div className="cv-group" role="group" aria-label="How attention is drawn">
          <button type="button" aria-pressed={mode === "matrix"} onClick={() => setMode("matrix")}>
            Matrix
          </button>
          <button type="button" aria-pressed={mode === "lines"} onClick={() => setMode("lines")}>
            Lines
          </button>
        </div>
      </div>
      {mode === "matrix" ? <GridPicture panel={panel} {...drawn} /> : <AttentionLines panel={panel} {...drawn} />}
    </>
  );
}
