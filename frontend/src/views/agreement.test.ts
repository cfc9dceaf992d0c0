/** The web's pictures mean the same as the terminal's, the page's and the paper's: Python's own panels say so. */

import { describe, expect, it } from "vitest";
import { numberOf, sourceOf, written } from "./fixtures/results";
import type { Counts, Grid, Lines, Network, Panel, Points, Strip, TablePanel, Texts, BarsPanel } from "./framing";
import { span } from "./framing";
import { binOf, colour, css, inkOn, scaleOf, steps, type Rgb, type Scale, type ScaleName, type Theme } from "./palette";
import { load } from "./usePanel";
import { column, label, labelled, number, readable, signed, tick, ticks, visible } from "./words";

// eslint-disable-next-line @typescript-eslint/no-explicit-any
const told = written() as any;

describe("words", () => {
  it("writes numbers as Python does", () => {
    expect(told.numbers.length).toBeGreaterThan(20);
    for (const one of told.numbers) {
      const value = numberOf(one.value);
      if (one.tick !== undefined) expect(tick(value)).toBe(one.tick);
      else expect([number(value), signed(value), label(value)]).toEqual([one.number, one.signed, one.label]);
    }
  });

  it("shows every character of a token as Python does", () => {
    expect(told.tokens.length).toBeGreaterThan(10);
    for (const { text, ...said } of told.tokens)
      expect({ visible: visible(text), readable: readable(text), label: label(text) }).toEqual(said);
  });

  it("writes columns and axes with the same decimal places", () => {
    for (const { values, said } of told.columns) {
      const numbers = values.map(numberOf);
      expect(numbers.map(column(numbers))).toEqual(said);
    }
    for (const { values, ...axis } of told.axes) {
      const ends = span(values) as [number, number];
      expect(ends).toEqual(axis.span.map(near));
      expect(ticks(...ends)).toEqual(axis.ticks.map(near));
      expect(labelled(ticks(...ends)).map(([, said]) => said)).toEqual(axis.labelled.map(([, said]: [number, string]) => said));
    }
  });

  it("rounds an exact half to the even digit", () => {
    expect([number(0.0625, 1), number(2.5, 1), number(3.5, 1)]).toEqual(["0.06", "2", "4"]);
  });
});

describe("colours", () => {
  it("are the same in all steps of all scales", () => {
    for (const [key, colours] of Object.entries(told.colours)) {
      const [name, theme] = key.split(" ") as [ScaleName, Theme];
      expect(steps(name, theme).map(css)).toEqual(colours);
    }
    for (const { ground, ink } of told.inks) expect(inkOn(ground as Rgb)).toEqual(ink);
  });

  it("follow the same rules for the scale", () => {
    expect(told.scales.length).toBeGreaterThan(30);
    for (const one of told.scales) {
      const scale = scaleOf(one.values.map(numberOf), one.wanted);
      expect(scale).toEqual({ name: one.scale.name, low: near(one.scale.low), high: near(one.scale.high) });
      for (const [i, place] of one.places.map(numberOf).entries()) {
        expect(binOf(scale, place), `${place} of ${JSON.stringify(one)}`).toBe(one.bins[i] ?? -1);
        expect(css(colour(scale, place))).toBe(one.colours[i]);
      }
    }
  });
});

describe("panels", () => {
  const cases = written().results.flatMap((result) =>
    result.framed.map(({ view, panel }) => ({ result, view, panel, name: `${view.kind}: ${view.title} (${result.id})` })),
  );
  it("are there for all kinds", () => {
    expect(new Set(cases.map(({ view }) => view.kind)).size).toBe(10);
  });
  it.each(cases)("$name", async ({ result, view, panel }) => {
    const { panel: ours } = await load(sourceOf(result), view, {});
    compare(ours, panel);
  });
});

// eslint-disable-next-line @typescript-eslint/no-explicit-any
function compare(ours: Panel, theirs: any): void {
  const compared: { [K in Panel["kind"]]: () => void } = {
    tokens: () => {
      const { words, values, scale, valueName } = ours as Strip;
      expect(words).toEqual(theirs.words);
      same(values, theirs.values);
      sameScale(scale, theirs.scale);
      expect(valueName).toBe(theirs.value_name);
    },
    heatmap: () => sameGrid(ours as Grid, theirs),
    attention: () => sameGrid(ours as Grid, theirs),
    curves: () => {
      const panel = ours as Lines;
      expect([panel.xName, panel.valueName, panel.seriesName]).toEqual([theirs.x_name, theirs.value_name, theirs.series_name]);
      expect(panel.xLabels ?? null).toEqual(theirs.x_labels);
      expect(panel.lines.length).toBe(theirs.lines.length);
      for (const [i, line] of theirs.lines.entries()) {
        expect(panel.lines[i]?.name).toBe(line.name);
        expect(panel.lines[i]?.place ?? null).toBe(line.place);
        same(panel.x, line.x);
        for (const side of ["y", "low", "high"] as const)
          if (line[side]) same(panel.lines[i]?.[side] ?? [], line[side]);
          else expect(panel.lines[i]?.[side]).toBeUndefined();
      }
    },
    bars: () => {
      const panel = ours as BarsPanel;
      expect([panel.labels, panel.groups, panel.classes ?? null]).toEqual([theirs.labels, theirs.groups, theirs.classes]);
      expect([panel.valueName, panel.labelName]).toEqual([theirs.value_name, theirs.label_name]);
      same(panel.values, theirs.values.flat());
      for (const side of ["low", "high"] as const)
        if (theirs[side]) same(panel[side] ?? [], theirs[side].flat());
        else expect(panel[side]).toBeUndefined();
    },
    scatter: () => {
      const panel = ours as Points;
      same(panel.x, theirs.x);
      same(panel.y, theirs.y);
      expect(panel.labels ?? null).toEqual(theirs.labels);
      if (theirs.values) same(panel.values ?? [], theirs.values);
      if (theirs.scale) sameScale(panel.scale as Scale, theirs.scale);
      expect([panel.xName, panel.yName, panel.valueName]).toEqual([theirs.x_name, theirs.y_name, theirs.value_name]);
    },
    histogram: () => {
      const panel = ours as Counts;
      same(panel.edges, theirs.edges);
      expect(panel.counts).toEqual(theirs.counts);
      expect([panel.groups, panel.valueName, panel.leftOut]).toEqual([theirs.groups, theirs.value_name, theirs.left_out]);
    },
    graph: () => {
      const panel = ours as Network;
      expect([panel.nodes, panel.sources, panel.targets]).toEqual([theirs.nodes, theirs.sources, theirs.targets]);
      same(panel.weights, theirs.weights);
      expect(panel.weightName).toBe(theirs.weight_name);
      expect([panel.positions ?? [], panel.headings ?? []]).toEqual([theirs.positions, theirs.headings]);
    },
    table: () => {
      const panel = ours as TablePanel;
      expect([panel.names, panel.numeric]).toEqual([theirs.names, theirs.numeric]);
      const said = panel.names.map((_, c) => Array.from({ length: panel.height }, (_, row) => panel.said(c, row)));
      expect(said).toEqual(theirs.columns);
    },
    text: () => expect([(ours as Texts).texts, (ours as Texts).labels]).toEqual([theirs.texts, theirs.labels]),
  };
  compared[ours.kind]();
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any
function sameGrid(panel: Grid, theirs: any): void {
  expect([panel.rows, panel.columns]).toEqual([theirs.rows, theirs.columns]);
  expect([panel.rowName, panel.columnName, panel.valueName]).toEqual([theirs.row_name, theirs.column_name, theirs.value_name]);
  if (panel.height) expect([panel.wordsOnRows, panel.wordsOnColumns]).toEqual([theirs.words_on_rows, theirs.words_on_columns]);
  same(panel.values, theirs.values.flat());
  sameScale(panel.scale, theirs.scale);
  const texts = panel.text && panel.rows.map((_, row) => panel.columns.map((_, col) => panel.text?.(row, col)));
  if (panel.height) expect(texts ?? null).toEqual(theirs.texts);
}

function same(ours: ArrayLike<number>, theirs: unknown[]): void {
  expect(Array.from(ours, (value) => value)).toEqual(theirs.map((value) => near(numberOf(value))));
}

function sameScale(ours: Scale, theirs: { name: string; low: unknown; high: unknown }): void {
  expect(ours).toEqual({ name: theirs.name, low: near(numberOf(theirs.low)), high: near(numberOf(theirs.high)) });
}

/** The fixture's numbers have nine digits. */
function near(value: number): unknown {
  if (!Number.isFinite(value) || value === 0) return value === 0 ? { asymmetricMatch: (other: number) => other === 0 } : value;
  return { asymmetricMatch: (other: number) => Math.abs(other - value) <= Math.abs(value) * 1e-7 };
}
