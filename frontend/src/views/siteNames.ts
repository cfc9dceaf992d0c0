/** Which layer does a node belong to? Names of nodes that are sites (`z[9].head[6]@-1`) say it themselves. */

/** The kinds of sites in the order in which a layer computes them, as in `cutaway.core.site`. */
export const KINDS = [
  "embed",
  "resid_pre",
  "attn_in",
  "q_pre_rope",
  "k_pre_rope",
  "q",
  "k",
  "v",
  "k_per_query_head",
  "v_per_query_head",
  "scores",
  "pattern",
  "z",
  "attn_out",
  "attn_contrib",
  "resid_mid",
  "mlp_in",
  "mlp_pre",
  "mlp_act",
  "router",
  "expert_out",
  "mlp_out",
  "mlp_contrib",
  "resid_post",
  "final",
  "logits",
] as const;

export interface SiteName {
  stack: string;
  kind: string;
  layer: number | null;
  head: number | null;
  unit: number | null;
  expert: number | null;
  /** A number, or the name of a position; null for all. */
  position: number | string | null;
}

const SITE = /^(?:(encoder|cross)\.)?([a-z_]+)(?:\[(\d+)\])?((?:\.[a-z]+\[\d+\])*)(?:@(.+))?$/;

/** The site of this name, or null where the name is none (or a pattern of several). */
export function siteOf(name: string): SiteName | null {
  const found = SITE.exec(name);
  if (!found) return null;
  const [, stack = "", kind = "", layer, parts = "", position] = found;
  if (!(KINDS as readonly string[]).includes(kind)) return null;
  const ends = kind === "embed" || kind === "final" || kind === "logits";
  if (ends !== (layer === undefined)) return null;
  const part = (what: string) => {
    const number = new RegExp(`\\.${what}\\[(\\d+)\\]`).exec(parts)?.[1];
    return number === undefined ? null : Number(number);
  };
  return {
    stack,
    kind,
    layer: layer === undefined ? null : Number(layer),
    head: part("head"),
    unit: part("unit"),
    expert: part("expert"),
    position: position === undefined ? null : /^-?\d+$/.test(position) ? Number(position) : position,
  };
}

/** The column in which a site stands: its layer, with the ends of the model before and after all layers. */
export function columnOf(site: SiteName): string {
  if (site.layer === null) return site.kind === "embed" ? `${prefix(site)}embed` : site.kind;
  return `${prefix(site)}layer ${site.layer}`;
}

const SHORT: Readonly<Record<string, string>> = { z: "", mlp_contrib: "mlp", mlp_out: "mlp", attn_contrib: "attn", attn_out: "attn" };

/** What a site is called below a heading that names its layer: `head 6`, `mlp`, `q head 3`. */
export function shortName(site: SiteName): string {
  const { head, unit, expert, position, kind } = site;
  const parts = Object.entries({ head, unit, expert }).flatMap(([what, at]) => (at === null ? [] : [`${what} ${at}`]));
  const said = [parts.length || kind !== "z" ? (SHORT[kind] ?? kind) : kind, ...parts].filter(Boolean).join(" ");
  return position === null ? said : `${said}@${position}`;
}

/** Compares two sites by where in the model they are computed. */
export function before(a: SiteName, b: SiteName): number {
  const rank = (site: SiteName) => [
    site.stack === "encoder" ? 0 : 1,
    site.kind === "embed" ? -1 : (site.layer ?? Infinity),
    (KINDS as readonly string[]).indexOf(site.kind),
  ];
  const [x, y] = [rank(a), rank(b)];
  for (let i = 0; i < x.length; i++) if (x[i] !== y[i]) return (x[i] as number) - (y[i] as number);
  return 0;
}

function prefix(site: SiteName): string {
  return site.stack ? `${site.stack} ` : "";
}
