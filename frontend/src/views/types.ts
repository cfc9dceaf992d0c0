/** What every picture takes: where its numbers are, what they are in the picture, and what the reader points at. */

import type { ResultSource } from "../api/source";
import type { View } from "../api/types";

/** What the reader points at: an index in each dimension that is known, shared between pictures. */
export type Hover = Readonly<Record<string, number>> | null;

export interface PictureProps {
  /** Where the numbers come from. */
  result: ResultSource;
  /** Which arrays play which part. */
  view: View;
  /** Where the picture stands instead of `view.at`: dimension -> index. */
  at?: Readonly<Record<string, number>> | undefined;
  /** The reader moved a slider; without it the picture keeps the place itself. */
  onAt?: ((dim: string, index: number) => void) | undefined;
  hover?: Hover | undefined;
  onHover?: ((hover: Hover) => void) | undefined;
  /** The reader chose something: a click, or Enter on the cell under the cursor. */
  onSelect?: ((chosen: Readonly<Record<string, number>>) => void) | undefined;
  /** How high the picture may be, in pixels; what is higher scrolls or is panned. */
  height?: number | undefined;
  /** Light or dark; found out from the page when absent. */
  theme?: "light" | "dark" | undefined;
}

/** What a component that draws a panel takes. */
export interface Drawn<Panel> {
  panel: Panel;
  title: string;
  theme: "light" | "dark";
  height?: number | undefined;
  hover?: Hover | undefined;
  onHover?: ((hover: Hover) => void) | undefined;
  onSelect?: ((chosen: Readonly<Record<string, number>>) => void) | undefined;
}
