/**
 * A grid of colours on a canvas: fast for a million cells, sharp for ten.
 *
 * The cells become an image of one pixel a cell, made once for each scale and theme, which the browser stretches
 * over the plot; panning and zooming only move it. Where cells are smaller than a pixel the image holds blocks of
 * cells, each in the colour of its value farthest from zero, so that no peak vanishes because it is narrow.
 */

import type { Grid } from "./framing";
import { MISSING, binOf, css, inkOn, steps, type Rgb, type Theme } from "./palette";
import { cut, roomFor } from "./surroundings";
import { number } from "./words";

/** Where the plot lies in the picture, and how large a cell is when nothing is zoomed. */
export interface Layout {
  left: number;
  plotWidth: number;
  plotHeight: number;
  height: number;
  cellWidth: number;
  cellHeight: number;
  /** Column names are turned where they would not fit. */
  turned: boolean;
}

/** How large cells are now, and where the first one begins, in pixels of the plot. */
export interface Camera {
  cellWidth: number;
  cellHeight: number;
  x: number;
  y: number;
}

export interface Cell {
  row: number;
  column: number;
}

export interface Inks {
  ink: string;
  muted: string;
  rule: string;
  paper: string;
  mono: string;
  sans: string;
}

const LARGEST_CELL = 96;
const CACHED_CELLS = 4_000_000;
const CACHED_SIDE = 8192;

export function layoutOf(panel: Grid, width: number, most: number): Layout {
  const names = panel.rows.length > 400 ? panel.rows.slice(0, 400) : panel.rows;
  const longest = Math.max(0, ...names.map((name) => roomFor(name, 11, panel.wordsOnRows)), roomFor(panel.rows.at(-1) ?? "", 11));
  const left = Math.round(Math.min(150, longest, width * 0.3)) + 30; // whole pixels, or gaps and cells would not meet
  const plotWidth = Math.max(40, width - left - 4);
  const fit = plotWidth / Math.max(1, panel.width);
  const square = panel.kind === "attention" || (panel.wordsOnRows && panel.wordsOnColumns);
  let [cellWidth, cellHeight] = [Math.min(fit, square ? 30 : 40), 0];
  if (panel.text) {
    const wanted = Math.max(24, panel.longest * 6.1 + 8);
    cellWidth = Math.max(Math.min(fit, wanted), Math.min(wanted, 40)); // words want room: the plot is panned instead
    cellHeight = Math.max(14, Math.min(20, most / panel.height));
  } else {
    cellHeight = square && cellWidth >= 4 ? cellWidth : Math.min(Math.max(cellWidth * 0.7, 5), 22);
    if (square && cellHeight * panel.height > most) cellWidth = cellHeight = most / panel.height;
    cellHeight = Math.min(cellHeight, most / Math.max(1, panel.height));
  }
  const shownWidth = Math.min(plotWidth, Math.ceil(cellWidth * panel.width));
  const plotHeight = Math.min(most, Math.max(Math.ceil(cellHeight * panel.height), 1));
  const heads = panel.columns.length > 400 ? panel.columns.slice(0, 400) : panel.columns;
  const head = Math.max(0, ...heads.map((name) => roomFor(name, 11, panel.wordsOnColumns)));
  const turned = panel.wordsOnColumns && head > cellWidth - 2;
  const below = (turned ? Math.min(head, 110) * Math.SQRT1_2 + 12 : 16) + 20;
  return { left, plotWidth: shownWidth, plotHeight, height: plotHeight + below, cellWidth, cellHeight, turned };
}

export function cameraOf(layout: Layout): Camera {
  return { cellWidth: layout.cellWidth, cellHeight: layout.cellHeight, x: 0, y: 0 };
}

/** The camera zoomed by `factor` about a point of the plot. */
export function zoomed(camera: Camera, panel: Grid, layout: Layout, factor: number, x: number, y: number): Camera {
  const cellWidth = bounded(camera.cellWidth * factor, layout.plotWidth / panel.width, LARGEST_CELL, layout.cellWidth);
  const cellHeight = bounded(
    camera.cellHeight * factor,
    layout.plotHeight / panel.height,
    LARGEST_CELL,
    layout.cellHeight,
  );
  const moved = {
    cellWidth,
    cellHeight,
    x: x - ((x - camera.x) / camera.cellWidth) * cellWidth,
    y: y - ((y - camera.y) / camera.cellHeight) * cellHeight,
  };
  return kept(moved, panel, layout);
}

/** The camera moved so that no empty room shows. */
export function kept(camera: Camera, panel: Grid, layout: Layout): Camera {
  const [spareX, spareY] = [
    Math.min(0, layout.plotWidth - camera.cellWidth * panel.width),
    Math.min(0, layout.plotHeight - camera.cellHeight * panel.height),
  ];
  return { ...camera, x: Math.min(0, Math.max(spareX, camera.x)), y: Math.min(0, Math.max(spareY, camera.y)) };
}

/** The camera moved as little as it must for a cell to be seen whole. */
export function showing(camera: Camera, panel: Grid, layout: Layout, cell: Cell): Camera {
  const reach = (at: number, size: number, room: number, from: number) =>
    at * size + from < 0 ? -at * size : (at + 1) * size + from > room ? room - (at + 1) * size : from;
  return kept(
    {
      ...camera,
      x: reach(cell.column, camera.cellWidth, layout.plotWidth, camera.x),
      y: reach(cell.row, camera.cellHeight, layout.plotHeight, camera.y),
    },
    panel,
    layout,
  );
}

/** The cell at a point of the plot, or null. */
export function cellAt(camera: Camera, panel: Grid, layout: Layout, x: number, y: number): Cell | null {
  if (x < 0 || y < 0 || x >= layout.plotWidth || y >= layout.plotHeight) return null;
  const column = Math.floor((x - camera.x) / camera.cellWidth);
  const row = Math.floor((y - camera.y) / camera.cellHeight);
  return row >= 0 && column >= 0 && row < panel.height && column < panel.width ? { row, column } : null;
}

/** Rows and columns of which some part is seen, as [first, end). */
export function visibleCells(camera: Camera, panel: Grid, layout: Layout): { rows: [number, number]; columns: [number, number] } {
  const range = (from: number, size: number, room: number, count: number): [number, number] => [
    Math.max(0, Math.floor(-from / size)),
    Math.min(count, Math.ceil((room - from) / size)),
  ];
  return {
    rows: range(camera.y, camera.cellHeight, layout.plotHeight, panel.height),
    columns: range(camera.x, camera.cellWidth, layout.plotWidth, panel.width),
  };
}

/** Draws one panel in one theme; images are kept between frames. */
export class GridPainter {
  private readonly images = new Map<string, HTMLCanvasElement>();
  private readonly lookup: Uint32Array;
  private readonly colours: readonly Rgb[];
  readonly hasMissing: boolean;

  constructor(
    private readonly panel: Grid,
    private readonly theme: Theme,
  ) {
    this.colours = steps(panel.scale.name, theme);
    this.lookup = Uint32Array.from([MISSING[theme], ...this.colours], packed);
    this.hasMissing = panel.values.some((value: number) => Number.isNaN(value));
  }

  /** The whole picture but for what moves with the pointer. */
  draw(context: CanvasRenderingContext2D, layout: Layout, camera: Camera, inks: Inks, density: number): void {
    const width = context.canvas.width / density;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, layout.height);
    context.save();
    context.beginPath();
    context.rect(layout.left, 0, layout.plotWidth, layout.plotHeight);
    context.clip();
    context.translate(layout.left, 0);
    this.cells(context, layout, camera, density);
    const seen = visibleCells(camera, this.panel, layout);
    const small = Math.min(camera.cellWidth, camera.cellHeight);
    if (small >= 8) this.gaps(context, seen, camera, inks, density);
    if (small >= 5 && this.hasMissing) this.hatches(context, seen, camera, inks);
    if (camera.cellWidth >= 18 && camera.cellHeight >= 12) this.words(context, seen, camera, inks);
    context.restore();
    this.names(context, layout, camera, seen, inks);
  }

  private cells(context: CanvasRenderingContext2D, layout: Layout, camera: Camera, density: number): void {
    const { panel } = this;
    const across = blockOf(camera.cellWidth * density);
    const down = blockOf(camera.cellHeight * density);
    const wide = Math.ceil(panel.width / across);
    const high = Math.ceil(panel.height / down);
    const seen = visibleCells(camera, panel, layout);
    const [c0, c1] = [Math.floor(seen.columns[0] / across), Math.min(wide, Math.ceil(seen.columns[1] / across))];
    const [r0, r1] = [Math.floor(seen.rows[0] / down), Math.min(high, Math.ceil(seen.rows[1] / down))];
    if (c1 <= c0 || r1 <= r0) return;
    const whole = wide * high <= CACHED_CELLS && wide <= CACHED_SIDE && high <= CACHED_SIDE;
    const image = whole
      ? this.image(`${across} ${down}`, down, across, 0, high, 0, wide)
      : this.image("", down, across, r0, r1, c0, c1);
    if (!image) return;
    context.imageSmoothingEnabled = false;
    context.drawImage(
      image,
      whole ? c0 : 0,
      whole ? r0 : 0,
      c1 - c0,
      r1 - r0,
      camera.x + c0 * across * camera.cellWidth,
      camera.y + r0 * down * camera.cellHeight,
      (c1 - c0) * across * camera.cellWidth,
      (r1 - r0) * down * camera.cellHeight,
    );
  }

  /** One pixel a block of cells; kept under its key unless that is empty. */
  private image(
    key: string,
    down: number,
    across: number,
    r0: number,
    r1: number,
    c0: number,
    c1: number,
  ): HTMLCanvasElement | null {
    const known = key && this.images.get(key);
    if (known) return known;
    const canvas = document.createElement("canvas");
    canvas.width = c1 - c0;
    canvas.height = r1 - r0;
    const context = canvas.getContext("2d");
    if (!context) return null;
    const data = context.createImageData(canvas.width, canvas.height);
    const pixels = new Uint32Array(data.data.buffer);
    const { scale } = this.panel;
    for (let row = r0, at = 0; row < r1; row++)
      for (let column = c0; column < c1; column++)
        pixels[at++] = this.lookup[binOf(scale, farthestIn(this.panel, row * down, column * across, down, across)) + 1]!;
    context.putImageData(data, 0, 0);
    if (key) this.images.set(key, canvas);
    return canvas;
  }

  private gaps(context: CanvasRenderingContext2D, seen: Seen, camera: Camera, inks: Inks, density: number): void {
    context.fillStyle = inks.paper;
    const right = camera.x + seen.columns[1] * camera.cellWidth;
    const bottom = camera.y + seen.rows[1] * camera.cellHeight;
    const snapped = (at: number) => Math.round(at * density) / density; // where the browser ends a cell
    for (let row = seen.rows[0] + 1; row < seen.rows[1]; row++)
      context.fillRect(0, snapped(camera.y + row * camera.cellHeight) - 1, right, 1);
    for (let column = seen.columns[0] + 1; column < seen.columns[1]; column++)
      context.fillRect(snapped(camera.x + column * camera.cellWidth) - 1, 0, 1, bottom);
  }

  private hatches(context: CanvasRenderingContext2D, seen: Seen, camera: Camera, inks: Inks): void {
    context.strokeStyle = inks.muted;
    context.lineWidth = 1;
    context.beginPath();
    each(seen, (row, column) => {
      if (!Number.isNaN(this.panel.values[row * this.panel.width + column])) return;
      const x = camera.x + column * camera.cellWidth;
      const y = camera.y + row * camera.cellHeight;
      context.moveTo(x, y + camera.cellHeight - 1);
      context.lineTo(x + camera.cellWidth - 1, y);
    });
    context.stroke();
  }

  /** Words of the cells; where there are none and there is much room, the values. */
  private words(context: CanvasRenderingContext2D, seen: Seen, camera: Camera, inks: Inks): void {
    const { panel } = this;
    if (!panel.text && camera.cellWidth < 44) return;
    context.font = `10px ${inks.mono}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    each(seen, (row, column) => {
      const value = panel.values[row * panel.width + column] as number;
      const said = panel.text ? panel.text(row, column) : Number.isNaN(value) ? "" : number(value || 0, 2);
      if (!said) return;
      const step = binOf(panel.scale, value);
      context.fillStyle = css(inkOn(step < 0 ? MISSING[this.theme] : (this.colours[step] as Rgb)));
      context.fillText(
        cut(said, 10, camera.cellWidth - 3, true),
        camera.x + (column + 0.5) * camera.cellWidth,
        camera.y + (row + 0.5) * camera.cellHeight + 0.5,
      );
    });
  }

  private names(context: CanvasRenderingContext2D, layout: Layout, camera: Camera, seen: Seen, inks: Inks): void {
    const { panel } = this;
    context.textBaseline = "middle";
    context.fillStyle = inks.ink;
    context.textAlign = "right";
    context.font = `11px ${panel.wordsOnRows ? inks.mono : inks.sans}`;
    const everyRow = stepOf(12 / camera.cellHeight, panel.wordsOnRows);
    for (let row = up(seen.rows[0], everyRow); row < seen.rows[1]; row += everyRow) {
      const y = camera.y + (row + 0.5) * camera.cellHeight;
      if (y < 0 || y > layout.plotHeight) continue;
      const name = cut(panel.rows[row] ?? "", 11, layout.left - 28, panel.wordsOnRows);
      context.fillText(name, layout.left - 6, Math.max(6, y + 0.5));
    }
    context.font = `11px ${panel.wordsOnColumns ? inks.mono : inks.sans}`;
    const widest = panel.columns.reduce((most, name) => Math.max(most, name.length), 0) * 6.7 + 6;
    const everyColumn = stepOf((layout.turned ? 13 : widest) / camera.cellWidth, panel.wordsOnColumns);
    for (let column = up(seen.columns[0], everyColumn); column < seen.columns[1]; column += everyColumn) {
      const x = layout.left + camera.x + (column + 0.5) * camera.cellWidth;
      if (x < layout.left || x > layout.left + layout.plotWidth) continue;
      const name = panel.columns[column] ?? "";
      if (layout.turned) {
        context.save();
        context.translate(x + 3, layout.plotHeight + 7);
        context.rotate(-Math.PI / 4);
        context.textAlign = "right";
        context.fillText(cut(name, 11, 110, panel.wordsOnColumns), 0, 0);
        context.restore();
      } else {
        context.textAlign = "center";
        context.fillText(name, x, layout.plotHeight + 10);
      }
    }
    context.fillStyle = inks.muted;
    context.font = `12px ${inks.sans}`;
    context.textAlign = "center";
    context.fillText(panel.columnName, layout.left + layout.plotWidth / 2, layout.height - 8);
    context.save();
    context.translate(10, layout.plotHeight / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(cut(panel.rowName, 12, Math.max(layout.plotHeight, 60)), 0, 0);
    context.restore();
  }
}

type Seen = ReturnType<typeof visibleCells>;

/** The cell under the pointer or the cursor, and the row and column that other pictures point at. */
export function drawMarks(
  context: CanvasRenderingContext2D,
  layout: Layout,
  camera: Camera,
  inks: Inks,
  density: number,
  cursor: Cell | null,
  linked: { row?: number | undefined; column?: number | undefined },
): void {
  context.setTransform(density, 0, 0, density, 0, 0);
  context.clearRect(0, 0, context.canvas.width / density, layout.height);
  context.save();
  context.beginPath();
  context.rect(layout.left - 1, -1, layout.plotWidth + 2, layout.plotHeight + 2);
  context.clip();
  context.translate(layout.left, 0);
  context.strokeStyle = inks.ink;
  context.lineWidth = 1;
  if (linked.row !== undefined)
    context.strokeRect(0, camera.y + linked.row * camera.cellHeight, layout.plotWidth, camera.cellHeight);
  if (linked.column !== undefined)
    context.strokeRect(camera.x + linked.column * camera.cellWidth, 0, camera.cellWidth, layout.plotHeight);
  if (cursor) {
    const [x, y] = [camera.x + cursor.column * camera.cellWidth, camera.y + cursor.row * camera.cellHeight];
    const [wide, high] = [Math.max(4, camera.cellWidth), Math.max(4, camera.cellHeight)];
    // light around dark, so that it is seen on every colour
    for (const [line, colour] of [[5, inks.paper], [2, inks.ink]] as const) {
      context.lineWidth = line;
      context.strokeStyle = colour;
      context.strokeRect(x, y, wide, high);
    }
  }
  context.restore();
}

/** The page's colours and fonts, for a canvas. */
export function inksOf(element: HTMLElement): Inks {
  const style = getComputedStyle(element);
  const of = (name: string, otherwise: string) => style.getPropertyValue(name).trim() || otherwise;
  return {
    ink: of("--ink", "#1b1f24"),
    muted: of("--muted", "#57606a"),
    rule: of("--rule", "#d5dae0"),
    paper: of("--paper", "#ffffff"),
    mono: of("--mono", "monospace"),
    sans: of("--font", "sans-serif"),
  };
}

/** The value farthest from zero of a block of cells; missing when all are. */
export function farthestIn(panel: Grid, row: number, column: number, down: number, across: number): number {
  if (down === 1 && across === 1) return panel.values[row * panel.width + column] as number;
  let found = NaN;
  let most = -1;
  const [lastRow, lastColumn] = [Math.min(panel.height, row + down), Math.min(panel.width, column + across)];
  for (let r = row; r < lastRow; r++)
    for (let c = column; c < lastColumn; c++) {
      const value = panel.values[r * panel.width + c] as number;
      const size = Math.abs(value);
      if (size > most) [found, most] = [value, size];
    }
  return found;
}

/** How many cells share a pixel, as a power of two. */
export function blockOf(pixels: number): number {
  return pixels >= 1 ? 1 : 2 ** Math.ceil(Math.log2(1 / pixels));
}

function bounded(size: number, fit: number, largest: number, start: number): number {
  return Math.min(Math.max(largest, start), Math.max(Math.min(fit, start), size));
}

function each(seen: Seen, act: (row: number, column: number) => void): void {
  for (let row = seen.rows[0]; row < seen.rows[1]; row++)
    for (let column = seen.columns[0]; column < seen.columns[1]; column++) act(row, column);
}

/** Every how many names there is room for one; numbers are counted in round steps. */
export function stepOf(least: number, words: boolean): number {
  if (least <= 1) return 1;
  if (words) return Math.ceil(least);
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least) ?? 10 * power;
}

function up(from: number, step: number): number {
  return Math.ceil(from / step) * step;
}

/** A colour as the 32 bits of a pixel, on a little-endian machine as all browsers run on. */
function packed([red, green, blue]: Rgb): number {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
