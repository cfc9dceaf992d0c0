/** One result minus another, as a source of pictures: where their dimensions agree. */

import type { NdArray, NumberData, Selection } from "../api/arrays";
import { arrayOf, type ResultSource } from "../api/source";
import type { ArrayInfo, View } from "../api/types";

const MAIN: readonly string[] = ["value", "low", "high", "weight"];

/** The view of `b` that shows the same as a view of `a`: of the same kind and title, else of the same kind and parts. */
export function sameView(view: View, others: readonly View[]): number {
  const exact = others.findIndex((other) => other.kind === view.kind && other.title === view.title);
  if (exact >= 0) return exact;
  const roles = JSON.stringify(Object.entries(view.roles).sort());
  return others.findIndex(
    (other) => other.kind === view.kind && JSON.stringify(Object.entries(other.roles).sort()) === roles,
  );
}

/** Why a view of both results has no difference; "" when it has one. */
export function whyNoDifference(a: ResultSource, b: ResultSource, view: View): string {
  if (view.kind === "table" || view.kind === "text" || view.kind === "graph" || view.kind === "scatter")
    return `A picture of kind ${view.kind} has no difference; compare the two side by side.`;
  const name = view.roles["value"] ?? "";
  const [ours, theirs] = [arrayOf(a, name), arrayOf(b, name)];
  if (!ours || !theirs) return `Both results must have an array named ${name}.`;
  if (ours.dims.join() !== theirs.dims.join())
    return `${name} has the dimensions (${ours.dims.join(", ")}) in A and (${theirs.dims.join(", ")}) in B.`;
  const odd = ours.dims.findIndex((_, index) => ours.shape[index] !== theirs.shape[index]);
  if (odd >= 0) return `${ours.dims[odd]} is ${ours.shape[odd]} long in A and ${theirs.shape[odd]} in B.`;
  return "";
}

/** A minus B: numbers of variables are subtracted, coordinates and words are those of A. */
export function differenceSource(a: ResultSource, b: ResultSource): ResultSource {
  const subtracted = (info: ArrayInfo): boolean => {
    const other = arrayOf(b, info.name);
    return (
      !info.coordinate &&
      info.dtype !== "string" &&
      other !== undefined &&
      other.dtype !== "string" &&
      other.shape.join() === info.shape.join()
    );
  };
  return {
    id: `${a.id}-${b.id}`,
    dims: a.dims,
    arrays: a.arrays.map((info) =>
      subtracted(info)
        ? { ...info, dtype: "float64", attrs: { ...info.attrs, long_name: `A − B: ${nameOf(info)}` } }
        : info,
    ),
    async slice(name, selection, signal) {
      const info = arrayOf(a, name);
      const ours = await a.slice(name, selection, signal);
      if (!info || !subtracted(info)) return ours;
      return subtract(ours, await b.slice(name, selection, signal));
    },
  };
}

/** Whether the words beside the numbers differ: then those of the difference are A's alone. */
export async function labelsDiffer(
  a: ResultSource,
  b: ResultSource,
  view: View,
  selection: Selection,
): Promise<boolean> {
  for (const [role, name] of Object.entries(view.roles)) {
    const [ours, theirs] = [arrayOf(a, name), arrayOf(b, name)];
    if (MAIN.includes(role) || !ours || !theirs || ours.dims.join() !== theirs.dims.join()) continue;
    const [x, y] = await Promise.all([a.slice(name, selection), b.slice(name, selection)]);
    if (x.data.length !== y.data.length || x.data.some((item, i) => item !== y.data[i])) return true;
  }
  return false;
}

function nameOf(info: ArrayInfo): string {
  return String(info.attrs["long_name"] ?? info.name.replaceAll("_", " "));
}

function subtract(ours: NdArray, theirs: NdArray): NdArray {
  const x = ours.data as NumberData;
  const y = theirs.data as NumberData;
  const data = new Float64Array(x.length);
  for (let i = 0; i < data.length; i++) data[i] = (x[i] as number) - (y[i] as number);
  return { ...ours, dtype: "float64", data };
}

/** The view of the difference: centred on zero; bands and intervals do not subtract and are left out. */
export function differenceView(view: View): View {
  const roles = Object.fromEntries(Object.entries(view.roles).filter(([role]) => role !== "low" && role !== "high"));
  const options = MAIN.some((role) => role in view.roles) ? { ...view.options, scale: "diverging" } : view.options;
  return { ...view, roles, options, title: `A − B: ${view.title}`, note: "" };
}
