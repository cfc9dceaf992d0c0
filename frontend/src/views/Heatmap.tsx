/** A grid of colours, with words on its cells where the view names some. */

import { Empty } from "./Hint";
import { GridPicture } from "./GridPicture";
import type { Grid } from "./framing";
import type { Drawn } from "./types";

export function Heatmap({ panel, ...drawn }: Drawn<Grid>) {
  if (!panel.values.length) return <Empty>{`There are no cells to show (${panel.height} × ${panel.width}).`}</Empty>;
  return <GridPicture panel={panel} {...drawn} />;
}
