/** A result whose numbers come from the notebook's kernel: small arrays at once, slices of the others when asked. */

import { decode, size, type NdArray, type Selection } from "../api/arrays";
import type { ResultSource } from "../api/source";
import type { ArrayInfo, View } from "../api/types";
import { sliced } from "../views/memory";

/** What the widget needs of anywidget's model. */
export interface WidgetModel {
  get(name: string): unknown;
  send(message: unknown, callbacks?: unknown, buffers?: ArrayBuffer[]): void;
  on(event: string, listener: (...given: never[]) => void): void;
  off(event: string, listener: (...given: never[]) => void): void;
}

/** What `cutaway.drawing.widget.shown` wrote down. */
export interface WidgetRecord {
  id: string;
  title: string;
  dims: Record<string, number>;
  arrays: ArrayInfo[];
  views: View[];
  metrics: Record<string, string>;
  checks: { claim: string; how: string; passed: boolean; verdict: string; figures: string }[];
  notes: string[];
  command: string;
  origin: string;
  held: Record<string, { dtype: string; words: string[] | null }>;
}

interface Answer {
  kind: "slice" | "failed";
  request: number;
  name: string;
  dims: string[];
  shape: number[];
  dtype: string;
  words: string[] | null;
  error: string;
}

interface Waiting {
  take: (array: NdArray) => void;
  fail: (error: Error) => void;
  timer: ReturnType<typeof setTimeout>;
}

export interface KernelSource extends ResultSource {
  close(): void;
}

/** How long a kernel may take, in milliseconds; one that runs another cell answers after it. */
const PATIENCE = 30_000;
let requests = 0;

export function kernelSource(model: WidgetModel, patience = PATIENCE): KernelSource {
  const record = model.get("record") as WidgetRecord;
  const buffers = (model.get("held") ?? {}) as Record<string, DataView>;
  const held = new Map<string, NdArray>();
  for (const info of record.arrays) {
    const about = record.held[info.name];
    if (!about) continue;
    const data = about.words ?? decode(bytesOf(buffers[info.name]), about.dtype, size(info.shape));
    held.set(info.name, { name: info.name, dims: info.dims, shape: info.shape, dtype: about.dtype, data });
  }
  const waiting = new Map<number, Waiting>();
  const settle = (request: number): Waiting | undefined => {
    const found = waiting.get(request);
    waiting.delete(request);
    if (found) clearTimeout(found.timer);
    return found;
  };
  const listen = (answer: Answer, sent: DataView[]) => {
    const asked = settle(answer.request);
    if (!asked) return; // the reader has moved on, or another view of the same widget asked
    if (answer.kind === "failed") return asked.fail(new Error(answer.error));
    const { name, dims, shape, dtype, words } = answer;
    asked.take({ name, dims, shape, dtype, data: words ?? decode(bytesOf(sent[0]), dtype, size(shape)) });
  };
  model.on("msg:custom", listen as (...given: never[]) => void);

  return {
    id: record.id,
    dims: record.dims,
    arrays: record.arrays,
    slice(name: string, selection: Selection = {}, signal?: AbortSignal): Promise<NdArray> {
      const here = held.get(name);
      if (here) return Promise.resolve(sliced(here, selection));
      const request = ++requests;
      return new Promise((take, fail) => {
        const said = "The notebook's kernel does not answer. Run the cell again to explore large arrays.";
        const timer = setTimeout(() => settle(request)?.fail(new Error(said)), patience);
        waiting.set(request, { take, fail, timer });
        signal?.addEventListener("abort", () => settle(request)?.fail(new DOMException("No longer wanted.", "AbortError")));
        model.send({ kind: "slice", request, name, selection });
      });
    },
    close() {
      model.off("msg:custom", listen as (...given: never[]) => void);
      for (const request of [...waiting.keys()]) settle(request)?.fail(new DOMException("Closed.", "AbortError"));
    },
  };
}

function bytesOf(view: DataView | ArrayBuffer | undefined): ArrayBuffer {
  if (!view) throw new Error("The notebook's kernel sent no numbers.");
  if (view instanceof ArrayBuffer) return view;
  return view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) as ArrayBuffer;
}
