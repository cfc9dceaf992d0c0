import { describe, expect, it } from "vitest";

import { features, keyHead, layerBoxes, modelBoxes, type Layer } from "./anatomy";
import { anatomyOf, layerOf } from "./anatomy.fixture";

describe("the drawing to scale", () => {
  it.each([0, 4])("gives every part an area that is its share of the parameters (%i experts)", (experts) => {
    const anatomy = anatomyOf(experts);
    const size = { width: 1000, height: 560 };
    const boxes = modelBoxes(anatomy, size);
    const perParameter = (size.width * size.height) / anatomy.parameters;
    for (const box of boxes) expect(box.width * box.height).toBeCloseTo(box.parameters * perParameter, 4);
    expect(boxes.reduce((sum, box) => sum + box.width * box.height, 0)).toBeCloseTo(size.width * size.height, 3);
  });

  it("overlaps nowhere and stays within its frame", () => {
    const boxes = modelBoxes(anatomyOf(), { width: 1000, height: 560 }).filter((box) => box.width > 0);
    for (const [i, a] of boxes.entries()) {
      expect(a.x).toBeGreaterThanOrEqual(0);
      expect(a.x + a.width).toBeLessThanOrEqual(1000 + 1e-9);
      for (const b of boxes.slice(i + 1)) {
        const across = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
        const down = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
        expect(Math.min(across, down)).toBeLessThanOrEqual(1e-9);
      }
    }
  });

  it("puts a layer's parts in the order in which they run", () => {
    const labels = (layer: Layer) => layerBoxes(layer, { width: 100, height: 10 }).map((box) => box.label);
    expect(labels(layerOf(0))).toEqual(["ln_1", "q_proj", "k_proj", "v_proj", "o_proj", "ln_2", "gate_proj", "up_proj", "down_proj"]);
    expect(labels({ ...layerOf(0), post_norm: true }).slice(-1)).toEqual(["ln_2"]);
  });

  it("cuts projections into heads and mixtures into experts", () => {
    const bands = (experts: number) =>
      Object.fromEntries(layerBoxes(layerOf(0, experts), { width: 100, height: 10 }).map((box) => [box.label, box.bands?.count]));
    expect(bands(0)).toMatchObject({ q_proj: 4, k_proj: 2, o_proj: 4, gate_proj: undefined });
    expect(bands(6)).toMatchObject({ gate_up_proj: 6, down_proj: 6, gate: undefined });
  });
});

describe("grouped keys", () => {
  it("are shared by neighbouring heads", () => {
    expect([0, 1, 2, 3, 4, 5, 6, 7, 8].map((head) => keyHead({ n_heads: 9, n_kv_heads: 3 }, head))).toEqual([0, 0, 0, 1, 1, 1, 2, 2, 2]);
    expect(keyHead({ n_heads: 12, n_kv_heads: 12 }, 7)).toBe(7);
  });

  it("and other features are said in words", () => {
    expect(features(layerOf(0))).toContain("4 heads share 2 key/value heads");
    expect(features(layerOf(0, 4))).toContain("4 experts, 2 for each token");
  });
});
