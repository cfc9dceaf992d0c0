/** Parts of a model that texts and pictures name, and the pages that show them. */

import type { NdArray } from "../api/arrays";
import type { ResultSource } from "../api/source";

export interface Part {
  kind: "head" | "mlp" | "stream" | "layer";
  layer: number;
  head?: number | undefined;
  position?: number | undefined;
}

const SITE = /^(\w+)\[(\d+)\](?:\.head\[(\d+)\])?(?:\.unit\[\d+\])?(?:@(-?\d+|\w+))?$/;
const NAMED = /^(head|mlp|attention|layer)s? (\d+)(?:\.(\d+))?$/i;

/** The part that a site string (`z[9].head[6]@3`) or a short name ("head 9.6", "mlp 28") names. */
export function partOf(text: string): Part | null {
  const site = SITE.exec(text);
  if (site) {
    const [, kind = "", layer, head, at] = site;
    const position = at !== undefined && /^\d+$/.test(at) ? Number(at) : undefined;
    const found =
      head !== undefined ? "head" : kind.startsWith("mlp") ? "mlp" : kind.startsWith("resid") ? "stream" : "layer";
    return { kind: found, layer: Number(layer), head: head === undefined ? undefined : Number(head), position };
  }
  const named = NAMED.exec(text);
  if (!named) return null;
  const [, what = "", layer, head] = named;
  if (head !== undefined) return { kind: "head", layer: Number(layer), head: Number(head) };
  return { kind: what.toLowerCase() === "mlp" ? "mlp" : "layer", layer: Number(layer) };
}

/** The site that an ablation of the part writes; null where there is none. */
export function ablationSite(part: Part): string | null {
  if (part.kind === "head" && part.head !== undefined) return `z[${part.layer}].head[${part.head}]`;
  return part.kind === "mlp" ? `mlp_out[${part.layer}]` : null;
}

/** The part in words. */
export function nameOf(part: Part): string {
  const at = part.position === undefined ? "" : ` at token ${part.position}`;
  switch (part.kind) {
    case "head":
      return `head ${part.head} of layer ${part.layer}${at}`;
    case "mlp":
      return `MLP of layer ${part.layer}${at}`;
    case "stream":
      return `the stream at layer ${part.layer}${at}`;
    default:
      return `layer ${part.layer}${at}`;
  }
}

/** Where the part can be looked at. */
export function pathOf(part: Part, where: { model: string; text: string }): string {
  if (part.kind === "head") {
    const query = new URLSearchParams({
      model: where.model,
      text: where.text,
      layers: String(part.layer),
      heads: String(part.head),
    });
    return `/attention?${query}`;
  }
  const query = new URLSearchParams({ model: where.model, layer: String(part.layer), prompt: where.text });
  return `/model?${query}`;
}

/** The part that the reader chose in a picture: by its layer and head, or by the label of what was chosen. */
export async function partChosen(source: ResultSource, chosen: Readonly<Record<string, number>>): Promise<Part | null> {
  const value = async (dim: string): Promise<number | undefined> => {
    const index = chosen[dim];
    if (index === undefined) return undefined;
    const labels = source.arrays.find(
      (array) => array.name === dim && array.dims.length === 1 && array.dtype !== "string",
    );
    return labels ? Number(item(await source.slice(dim, { [dim]: index }))) : index;
  };
  const layer = await value("layer");
  if (layer !== undefined) {
    const head = await value("head");
    const position = await value("position");
    return { kind: head === undefined ? (position === undefined ? "layer" : "stream") : "head", layer, head, position };
  }
  for (const [dim, index] of Object.entries(chosen))
    for (const array of source.arrays) {
      if (array.dtype !== "string" || array.dims.length !== 1 || array.dims[0] !== dim) continue;
      const part = partOf(String(item(await source.slice(array.name, { [dim]: index }))));
      if (part) return part;
    }
  return null;
}

function item(array: NdArray): string | number {
  return array.data[0] ?? "";
}
