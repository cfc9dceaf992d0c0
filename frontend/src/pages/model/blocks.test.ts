import { describe, expect, it } from "vitest";

import { anatomyOf } from "./anatomy.fixture";
import { arrange, cellOf, cellSite, requests, type Block } from "./blocks";
import { isMissing, rangeOf } from "./colours";

const dense = anatomyOf();
const mixed = anatomyOf(4);

function byKind(blocks: readonly Block[], kind: string): Block[] {
  return blocks.filter((block) => block.kind === kind);
}

describe("the tensors of a layer", () => {
  const { blocks } = arrange(dense, dense.layers[1]!, 5);

  it("have one plane for each head, and keys for each key head", () => {
    expect(byKind(blocks, "q").map((block) => block.site)).toEqual([0, 1, 2, 3].map((head) => `q[1].head[${head}]`));
    expect(byKind(blocks, "k")).toHaveLength(2);
    expect(byKind(blocks, "pattern").every((block) => block.rows === 5 && block.columns === 5)).toBe(true);
  });

  it("put a key head among the query heads that share it", () => {
    const depth = (kind: string) => byKind(blocks, kind).map((block) => block.z);
    expect(depth("k")[0]).toBeCloseTo((depth("q")[0]! + depth("q")[1]!) / 2);
    expect(depth("k")[1]).toBeCloseTo((depth("q")[2]! + depth("q")[3]!) / 2);
  });

  it("say what they are made of, head by head", () => {
    const scores = blocks.find((block) => block.site === "scores[1].head[3]");
    expect(scores?.from).toEqual(["q[1].head[3]", "k[1].head[1]"]);
    expect(blocks.find((block) => block.kind === "resid_mid")?.from).toEqual(["resid_pre[1]", "attn_out[1]"]);
    const sites = new Set(blocks.flatMap((block) => [block.site, block.site.split(".")[0]!]));
    for (const block of blocks) for (const source of block.from) expect(sites).toContain(source);
  });

  it("do not cover each other", () => {
    for (const [i, a] of blocks.entries())
      for (const b of blocks.slice(i + 1)) {
        if (a.kind === b.kind || Math.abs(a.z - b.z) > 1) continue;
        const apart = Math.abs(a.x - b.x) >= (a.width + b.width) / 2 || Math.abs(a.y - b.y) >= (a.height + b.height) / 2;
        expect(apart, `${a.site} and ${b.site}`).toBe(true);
      }
  });

  it("hold a mixture's router and experts instead of neurons", () => {
    const found = arrange(mixed, mixed.layers[0]!, 5).blocks;
    expect(byKind(found, "expert_out").map((block) => block.site)).toEqual([0, 1, 2, 3].map((e) => `expert_out[0].expert[${e}]`));
    expect(byKind(found, "router")[0]).toMatchObject({ columns: 4, columnName: "expert" });
    expect(byKind(found, "mlp_act")).toEqual([]);
    expect(byKind(found, "mlp_out")[0]?.from).toEqual(["expert_out[0]"]);
  });

  it("leave out what the model does not serve", () => {
    const layer = { ...dense.layers[0]!, sites: ["resid_pre", "resid_post", "z"] };
    expect(new Set(arrange(dense, layer, 5).blocks.map((block) => block.kind))).toEqual(new Set(["resid_pre", "resid_post", "z"]));
  });
});

describe("cells", () => {
  const { blocks } = arrange(mixed, mixed.layers[0]!, 5);

  it("are found again by their sites", () => {
    for (const block of blocks) {
      const site = cellSite(block, 4, block.columns - 1);
      expect(cellOf(blocks, site)).toEqual({ block, row: 4, column: block.columns - 1 });
    }
  });

  it("are named as the library names them", () => {
    const site = (kind: string) => cellSite(byKind(blocks, kind)[1] ?? byKind(blocks, kind)[0]!, 3, 2);
    expect(site("q")).toBe("q[0].head[1].unit[2]@3");
    expect(site("pattern")).toBe("pattern[0].head[1].unit[2]@3");
    expect(site("router")).toBe("router[0].expert[2]@3");
    expect(site("expert_out")).toBe("expert_out[0].unit[2].expert[1]@3");
    expect(cellOf(blocks, "expert_out[0].expert[1].unit[2]@3")).toEqual(cellOf(blocks, "expert_out[0].unit[2].expert[1]@3"));
  });

  it.each(["resid_mid[0].unit[99]@1", "resid_mid[0].unit[1]@9", "resid_mid[7].unit[1]@1", "nonsense", ""])("that do not exist are none: %s", (site) => {
    expect(cellOf(blocks, site)).toBeNull();
  });
});

describe("what is asked for", () => {
  it("names all heads at once, and patterns apart from the rest", () => {
    const { blocks } = arrange(dense, dense.layers[1]!, 5);
    const { sites, left } = requests(blocks);
    expect(left).toEqual([]);
    expect(sites[0]).toContain("q[1].head[*]");
    expect(sites[0]).toContain("resid_mid[1]");
    expect(new Set(sites[1])).toEqual(new Set(["scores[1].head[*]", "pattern[1].head[*]"]));
  });

  it("leaves the largest tensors until they are pointed at", () => {
    const { blocks } = arrange(dense, dense.layers[1]!, 300);
    const { sites, left } = requests(blocks, 200_000);
    expect(left.length).toBeGreaterThan(0);
    const asked = blocks.filter((block) => !left.includes(block)).reduce((sum, block) => sum + block.rows * block.columns, 0);
    expect(asked).toBeLessThanOrEqual(200_000);
    expect(sites.flat().some((site) => site.startsWith("z[1]"))).toBe(true);
  });
});

describe("colours", () => {
  it("are centred on zero where both signs occur", () => {
    expect(rangeOf("resid_pre", [-2, 1, 0])).toMatchObject({ low: -2, high: 2, name: "diverging" });
    expect(rangeOf("mlp_act", [0, 1, 3])).toMatchObject({ low: 0, high: 3, name: "sequential" });
    expect(rangeOf("pattern", [0.2])).toMatchObject({ low: 0, high: 1 });
  });

  it("do not follow one huge value, and leave masks out", () => {
    const values: number[] = Array.from({ length: 1000 }, (_, i) => (i % 2 ? 1 : -1));
    values[5] = 1e6;
    values[6] = -3.4e38;
    const found = rangeOf("resid_pre", values);
    expect(found.high).toBe(1);
    expect(found.clipped).toBeGreaterThan(0);
    expect(isMissing(-3.4e38) && isMissing(NaN) && !isMissing(-1e20)).toBe(true);
  });
});
