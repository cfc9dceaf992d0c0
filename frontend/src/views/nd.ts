/** Arrays turned the right way round. */

import { size, type NdArray, type NumberData } from "../api/arrays";

export type Numbers = NumberData | Float64Array;

/** The elements with the dimensions in this order; the same array where they are in it already. */
export function ordered<Data extends ArrayLike<unknown>>(
  array: { dims: readonly string[]; shape: readonly number[] },
  data: Data,
  dims: readonly string[],
): Data {
  if (array.dims.join() === dims.join()) return data;
  const axes = dims.map((dim) => array.dims.indexOf(dim));
  const shape = axes.map((axis) => array.shape[axis] as number);
  const strides = stridesOf(array.shape);
  const steps = axes.map((axis) => strides[axis] as number);
  const turned = (Array.isArray(data) ? new Array(data.length) : new Float64Array(data.length)) as unknown[];
  const index = shape.map(() => 0);
  let from = 0;
  for (let to = 0; to < data.length; to++) {
    turned[to] = data[from];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis] = (index[axis] as number) + 1;
      from += steps[axis] as number;
      if ((index[axis] as number) < (shape[axis] as number)) break;
      from -= (steps[axis] as number) * (shape[axis] as number);
      index[axis] = 0;
    }
  }
  return turned as unknown as Data;
}

/** The numbers of an array; all missing where it holds words. */
export function numbers(array: NdArray): Numbers {
  return array.dtype === "string" ? new Float64Array(size(array.shape)).fill(NaN) : (array.data as NumberData);
}

/** The elements spread over dimensions of which the array has some. */
export function spread<Item>(array: NdArray, dims: readonly string[], shape: readonly number[]): Item[] {
  const strides = stridesOf(array.shape);
  const steps = dims.map((dim) => {
    const axis = array.dims.indexOf(dim);
    return axis < 0 ? 0 : (strides[axis] as number);
  });
  const count = size(shape);
  return Array.from({ length: count }, (_, flat) => {
    let rest = flat;
    let from = 0;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const length = shape[axis] as number;
      from += (rest % length) * (steps[axis] as number);
      rest = Math.floor(rest / length);
    }
    return array.data[from] as Item;
  });
}

/** The index in each dimension of the element with this number. */
export function unravelled(flat: number, dims: readonly string[], shape: readonly number[]): Record<string, number> {
  const found: Record<string, number> = {};
  let rest = flat;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const length = shape[axis] as number;
    found[dims[axis] as string] = rest % length;
    rest = Math.floor(rest / length);
  }
  return found;
}

function stridesOf(shape: readonly number[]): number[] {
  const strides = shape.map(() => 1);
  for (let axis = shape.length - 2; axis >= 0; axis--)
    strides[axis] = (strides[axis + 1] as number) * (shape[axis + 1] as number);
  return strides;
}
