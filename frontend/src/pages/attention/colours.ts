/** A colour for each head: the page's classes while they suffice, evenly spaced hues beyond. */

import type { Theme } from "../../layout/theme";
import { classColour, css } from "../../views/palette";

const CLASSES = 8;

export function headColour(head: number, count: number, theme: Theme): string {
  if (count <= CLASSES) return css(classColour(head, theme));
  // neighbours lie far apart on the circle of hues, and every other one is lighter
  const hue = (head * 137.508) % 360;
  const light = theme === "dark" ? 62 + 12 * (head % 2) : 36 + 12 * (head % 2);
  return `hsl(${hue.toFixed(1)} 75% ${light}%)`;
}
