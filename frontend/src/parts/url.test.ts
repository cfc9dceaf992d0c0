import { describe, expect, it } from "vitest";

import { changed, placesOf, withPrefix } from "./url";

describe("the query of an address", () => {
  it("sets, repeats and takes out names and leaves the others", () => {
    const before = new URLSearchParams("model=smollm2&job=1");
    const after = changed(before, { job: null, prompt: ["a b", "c&d"], view: 3 });
    expect(after.toString()).toBe("model=smollm2&prompt=a+b&prompt=c%26d&view=3");
    expect(before.toString()).toBe("model=smollm2&job=1");
  });

  it("leaves an empty text out, but keeps an emptied field of a form", () => {
    expect(changed(new URLSearchParams("answer=x&p.top=3"), { answer: "", "p.top": "" }).toString()).toBe("p.top=");
  });

  it("reads names with a prefix, and only whole numbers as places", () => {
    const params = new URLSearchParams("p.top=3&at.layer=7&at.head=x&at.prompt=-1&top=9");
    expect(withPrefix(params, "p")).toEqual({ top: "3" });
    expect(placesOf(params)).toEqual({ layer: 7 });
  });
});
