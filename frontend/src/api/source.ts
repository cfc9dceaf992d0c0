/** Where a picture gets its numbers from: a result on the server here, the notebook's kernel in the widget. */

import { decode, flatten, selectionQuery, size, type NdArray, type Selection } from "./arrays";
import { get } from "./client";
import type { ArrayInfo, ResultRecord } from "./types";

export interface ResultSource {
  /** Changes when the data change; the same id and name and selection give the same slice. */
  readonly id: string;
  /** Length of each dimension. */
  readonly dims: Readonly<Record<string, number>>;
  /** All variables and coordinates, without their numbers. */
  readonly arrays: readonly ArrayInfo[];
  /** The part of an array that `selection` picks; dimensions that it does not name come whole. */
  slice(name: string, selection?: Selection, signal?: AbortSignal): Promise<NdArray>;
}

export type { NdArray, Selection } from "./arrays";

/** The metadata of an array of a source, or undefined. */
export function arrayOf(source: ResultSource, name: string): ArrayInfo | undefined {
  return source.arrays.find((array) => array.name === name);
}

/** A result of the server, found at `place`. Slices that were asked for are kept, the newest `limit` of them. */
export function httpSource(
  record: Pick<ResultRecord, "id" | "dims" | "arrays">,
  place = `/results/${record.id}`,
  limit = 200,
): ResultSource {
  const kept = new Map<string, NdArray>();
  return {
    id: record.id,
    dims: record.dims,
    arrays: record.arrays,
    async slice(name, selection = {}, signal) {
      const info = record.arrays.find((array) => array.name === name);
      if (!info) throw new Error(`The result has no array named ${name}.`);
      const query = selectionQuery(info, selection).toString();
      const path = `${place}/array/${encodeURIComponent(name)}${query && `?${query}`}`;
      const known = kept.get(path);
      if (known) {
        kept.delete(path);
        kept.set(path, known);
        return known;
      }
      const array = await readArray(name, await get(path, signal));
      kept.set(path, array);
      for (const oldest of kept.keys()) {
        if (kept.size <= limit) break;
        kept.delete(oldest);
      }
      return array;
    },
  };
}

/** An array from an answer: its dimensions are in the headers. */
export async function readArray(name: string, response: Response): Promise<NdArray> {
  const dims = list(response.headers.get("x-dims"));
  const shape = list(response.headers.get("x-shape")).map(Number);
  const dtype = response.headers.get("x-dtype") ?? "float32";
  if ((response.headers.get("content-type") ?? "").startsWith("application/json"))
    return { name, dims, shape, dtype: "string", data: flatten(await response.json()) };
  return { name, dims, shape, dtype, data: decode(await response.arrayBuffer(), dtype, size(shape)) };
}

function list(header: string | null): string[] {
  return header ? header.split(",").map((part) => decodeURIComponent(part.trim())) : [];
}
