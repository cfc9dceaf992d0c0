import { afterEach, describe, expect, it, vi } from "vitest";

import { decode, decodeBundle, flatten, half, selectionQuery } from "./arrays";
import { ApiError, request, url } from "./client";
import { httpSource } from "./source";

afterEach(() => vi.unstubAllGlobals());

describe("numbers as the server sends them", () => {
  it("are decoded by their type", () => {
    const floats = new Float32Array([1.5, NaN, -Infinity]);
    expect(Array.from(decode(floats.buffer, "float32", 3))).toEqual([1.5, NaN, -Infinity]);
    const long = new BigInt64Array([-5n, 2n ** 40n]);
    expect(Array.from(decode(long.buffer, "int64", 2))).toEqual([-5, 2 ** 40]);
    expect(Array.from(decode(new Uint8Array([1, 0]).buffer, "bool", 2))).toEqual([1, 0]);
  });

  it("may start anywhere in the bytes", () => {
    const bytes = new Uint8Array(9);
    bytes.set(new Uint8Array(new Float32Array([2.5, -1]).buffer), 1);
    expect(Array.from(decode(bytes.buffer, "float32", 2, 1))).toEqual([2.5, -1]);
  });

  it("are refused when bytes are missing or the type is unknown", () => {
    expect(() => decode(new ArrayBuffer(7), "float32", 2)).toThrow("7 bytes; 8 were expected");
    expect(() => decode(new ArrayBuffer(8), "complex64", 1)).toThrow("complex64");
  });

  it.each([
    [0x3c00, 1],
    [0xc000, -2],
    [0x3555, 0.333251953125],
    [0x0001, 2 ** -24],
    [0x7c00, Infinity],
    [0x7e00, NaN],
  ])("16 bits %i are %d", (bits, value) => {
    expect(half(bits)).toBe(value);
  });

  it("come several to a bundle", () => {
    const header = `${JSON.stringify({
      arrays: [
        { name: "a", dims: ["x"], shape: [2], dtype: "float32", offset: 0, bytes: 8 },
        { name: "b", dims: [], shape: [], dtype: "float64", offset: 8, bytes: 8 },
      ],
      tokens: ["ä", " b"],
      facts: { n: 1 },
    })}\n`;
    const head = new TextEncoder().encode(header);
    const bytes = new Uint8Array(head.length + 16);
    bytes.set(head);
    bytes.set(new Uint8Array(new Float32Array([1, 2]).buffer), head.length);
    bytes.set(new Uint8Array(new Float64Array([-7]).buffer), head.length + 8);
    const bundle = decodeBundle(bytes.buffer);
    expect(bundle.arrays.map((array) => Array.from(array.data as Float32Array))).toEqual([[1, 2], [-7]]);
    expect(bundle.tokens).toEqual(["ä", " b"]);
    expect(bundle.facts).toEqual({ facts: { n: 1 } });
  });
});

describe("a slice", () => {
  const info = {
    name: "p",
    dims: ["layer", "head", "query"],
    shape: [2, 3, 4],
    dtype: "float32",
    coordinate: false,
    attrs: {},
  };

  it("is asked for by the dimensions of its array only", () => {
    const query = selectionQuery(info, { query: [0, 100, 2], layer: 3, other: 1 });
    expect(query.toString()).toBe("layer=3&query=0%3A100%3A2");
  });

  it("is fetched once and decoded by its headers", async () => {
    const asked: string[] = [];
    vi.stubGlobal("fetch", (path: string) => {
      asked.push(path);
      return Promise.resolve(
        new Response(new Float32Array([1, 2, 3]).buffer, {
          headers: {
            "X-Dims": "head",
            "X-Shape": "3",
            "X-Dtype": "float32",
            "content-type": "application/octet-stream",
          },
        }),
      );
    });
    const source = httpSource({ id: "ab", dims: {}, arrays: [info] });
    const slice = await source.slice("p", { layer: 1, query: 0 });
    await source.slice("p", { layer: 1, query: 0 });
    expect(asked).toEqual(["/api/results/ab/array/p?layer=1&query=0"]);
    expect(slice).toMatchObject({ dims: ["head"], shape: [3] });
    expect(Array.from(slice.data as Float32Array)).toEqual([1, 2, 3]);
  });

  it("of words is a list in C order", () => {
    expect(
      flatten([
        ["a", "b"],
        ["c", null],
      ]),
    ).toEqual(["a", "b", "c", ""]);
  });
});

describe("a failure", () => {
  it("carries the server's sentence", async () => {
    const body = { error: { what: "No such method.", expected: "", instead: "Try ablate.", job: "j1" } };
    vi.stubGlobal("fetch", () => Promise.resolve(new Response(JSON.stringify(body), { status: 404 })));
    const error = await request("/methods").catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ what: "No such method.", instead: "Try ablate.", status: 404, job: "j1" });
    expect((error as ApiError).message).toBe("No such method. Try ablate.");
  });

  it("of the connection says so", async () => {
    vi.stubGlobal("fetch", () => Promise.reject(new TypeError("failed")));
    await expect(request("/health")).rejects.toMatchObject({ status: 0, what: "The server does not answer." });
  });
});

it("addresses leave empty values out", () => {
  expect(url("/results", { text: "", tag: "a b", offset: 0, limit: undefined })).toBe("/api/results?tag=a+b&offset=0");
});
