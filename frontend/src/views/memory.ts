/** A result whose arrays are all here. */

import { size, type NdArray, type Selection } from "../api/arrays";
import type { ResultSource } from "../api/source";
import type { ArrayInfo } from "../api/types";

export interface Held {
  info: ArrayInfo;
  data: NdArray["data"];
}

export function memorySource(id: string, dims: Readonly<Record<string, number>>, held: readonly Held[]): ResultSource {
  return {
    id,
    dims,
    arrays: held.map((each) => each.info),
    async slice(name, selection = {}) {
      const found = held.find((each) => each.info.name === name);
      if (!found) throw new Error(`The result has no array named ${name}.`);
      return sliced({ ...found.info, data: found.data }, selection);
    },
  };
}

/** The part of an array that the selection picks. */
export function sliced(array: NdArray, selection: Selection): NdArray {
  const picked = array.dims.map((dim, axis): number[] | number => {
    const length = array.shape[axis] as number;
    const wanted = selection[dim];
    if (typeof wanted === "number") return wanted;
    const [start, stop, step = 1] = wanted ?? [0, length];
    const places = [];
    for (let i = start; i < Math.min(stop, length); i += step) places.push(i);
    return places;
  });
  const dims = array.dims.filter((_, axis) => typeof picked[axis] !== "number");
  const shape = picked.filter((places) => typeof places !== "number").map((places) => places.length);
  const { name, dtype } = array;
  if (dims.length === array.dims.length && size(shape) === array.data.length)
    return { name, dims, shape, dtype, data: array.data };
  const strides = array.shape.map((_, axis) => size(array.shape.slice(axis + 1)));
  let places = [0];
  picked.forEach((wanted, axis) => {
    const stride = strides[axis] as number;
    const steps = typeof wanted === "number" ? [wanted] : wanted;
    places = places.flatMap((from) => steps.map((step) => from + step * stride));
  });
  const { data } = array;
  if (Array.isArray(data)) return { name, dims, shape, dtype, data: places.map((place) => data[place] as string) };
  const kept = new (data.constructor as new (length: number) => typeof data)(places.length);
  places.forEach((place, i) => (kept[i] = data[place] as number));
  return { name, dims, shape, dtype, data: kept };
}
