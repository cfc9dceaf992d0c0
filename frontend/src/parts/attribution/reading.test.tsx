/** A map is read step by step: what is coloured, what is explained, what is not seen yet, and what joined tokens have. */

import { fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import { useState } from "react";
import { MemoryRouter, useLocation } from "react-router";
import { describe, expect, it } from "vitest";

import type { NdArray } from "../../api/arrays";
import type { Check, View } from "../../api/types";
import { memorySource, type Held } from "../../views/memory";
import { Reading } from "./Reading";
import { showsContrast, SideBySide } from "./SideBySide";
import { placesOf, showsTokenMap } from "./tokenMap";

const SIZES: Record<string, number> = { prompt: 1, target: 2, position: 4, pair_number: 3 };

function held(name: string, dims: string[], data: NdArray["data"], attrs: Record<string, string> = {}): Held {
  const dtype = Array.isArray(data) ? "string" : "float64";
  const shape = dims.map((dim) => SIZES[dim] as number);
  return { info: { name, dims, shape, dtype, coordinate: dtype === "string", attrs }, data };
}

const map = memorySource("map", { prompt: 1, target: 2, position: 4 }, [
  held("attribution", ["prompt", "target", "position"], Float64Array.of(1, -2, 0.5, NaN, 3, 4, 12, -1), { long_name: "gradient" }),
  held("token", ["prompt", "position"], ["The", " cat", "fish", " sang"]),
  held("target_token", ["prompt", "target"], [" sang", " well"]),
  held("score", ["prompt", "target"], Float64Array.of(0.25, 0.5), { long_name: "log-probability", units: "nats" }),
]);
const view: View = {
  kind: "tokens",
  title: "Gradient",
  roles: { value: "attribution", token: "token" },
  at: { prompt: 0, target: 0 },
  note: "",
  options: {},
};
const check: Check = {
  claim: "The score hangs on them.",
  how: "Take them out.",
  measured: 3,
  control: 0.5,
  interval: [0.25, 1],
  n: 20,
  passed: true,
  unit: "nats",
};

function Read({ checks = [check] }: { checks?: Check[] }) {
  const [at, setAt] = useState<Record<string, number>>({});
  return (
    <>
      <Reading source={map} view={view} checks={checks} at={at} onAt={(dim, to) => setAt({ ...at, [dim]: to })} />
      <output data-testid="address">{useLocation().search}</output>
    </>
  );
}

async function shown(address = "/", checks?: Check[]) {
  render(
    <MemoryRouter initialEntries={[address]}>
      <Read checks={checks} />
    </MemoryRouter>,
  );
  await screen.findByRole("application");
}

const words = () =>
  [...document.querySelectorAll(".cv-word")].map((word) => [
    word.querySelector("b")?.textContent,
    word.getAttribute("data-mark") ?? word.querySelector("i")?.textContent,
  ]);
const address = () => screen.getByTestId("address").textContent;

describe("a map of tokens", () => {
  it("is known by its arrays", () => {
    expect(showsTokenMap(map, view)).toBe(true);
    expect(showsTokenMap(map, { ...view, roles: { value: "score", token: "token" } })).toBe(false);
    expect(showsTokenMap(map, { ...view, kind: "bars" })).toBe(false);
    expect(showsContrast(map)).toBe(false);
  });

  it("shows the text as one step sees it, and the next step with an arrow key's slider or a click on the word", async () => {
    await shown();
    const first = [["The", "+1.00"], ["·cat", "-2.00"], ["fish", "+0.500"], ["·sang", "target"], ["·well", "later"]];
    expect(words()).toEqual(first);
    expect(screen.getByText("·sang: log-probability 0.250 nats")).toBeTruthy();
    const slider = screen.getByRole("slider", { name: "explained token" });
    expect(slider.getAttribute("aria-valuetext")).toBe("1 of 2: ·sang");
    fireEvent.change(slider, { target: { value: "1" } });
    expect(words()).toEqual([["The", "+3.00"], ["·cat", "+4.00"], ["fish", "+12.0"], ["·sang", "-1.00"], ["·well", "target"]]);
    fireEvent.click(screen.getByText("·sang"));
    expect(words()).toEqual(first);
    fireEvent.click(screen.getByRole("button", { name: "Next explained token" }));
    expect(screen.getByText("·well: log-probability 0.500 nats")).toBeTruthy();
    expect(screen.getByRole("button", { name: "Next explained token" }).hasAttribute("disabled")).toBe(true);
  });

  it("keeps words where they are from step to step", async () => {
    await shown();
    const places = () => [...document.querySelectorAll<HTMLElement>(".cv-word")].map((word) => word.style.left);
    const before = places();
    fireEvent.click(screen.getByRole("button", { name: "Next explained token" }));
    expect(places()).toEqual(before);
  });

  it("is read by words, with the sum or the norm, in the address", async () => {
    await shown();
    fireEvent.change(screen.getByRole("combobox", { name: "read by" }), { target: { value: "word" } });
    expect(words().slice(0, 2)).toEqual([["The", "+1.00"], ["·catfish", "-1.50"]]);
    fireEvent.change(screen.getByRole("combobox", { name: "value of what is joined" }), { target: { value: "l2" } });
    expect(words()[1]).toEqual(["·catfish", "2.06"]);
    expect(address()).toBe("?map.by=word&map.how=l2");
  });

  it("joins what the reader chooses with keys, and takes it apart again", async () => {
    await shown();
    const text = screen.getByRole("application");
    fireEvent.click(screen.getByRole("button", { name: "Join tokens" }));
    for (const key of ["ArrowRight", "Enter", "ArrowRight", "ArrowRight", "Enter"]) fireEvent.keyDown(text, { key });
    expect(words()[0]).toEqual(["The·catfish".replace("·", " "), "-0.500"]);
    expect(address()).toBe("?map.join=0-2");
    expect(screen.getByRole("button", { name: "Join tokens" }).getAttribute("aria-pressed")).toBe("false");
    fireEvent.click(screen.getByRole("button", { name: /^Take apart/ }));
    expect(words()).toHaveLength(5);
    expect(address()).toBe("");
  });

  it("forgets a choice that was begun with Escape", async () => {
    await shown();
    fireEvent.click(screen.getByRole("button", { name: "Join tokens" }));
    fireEvent.click(screen.getByText("·cat"));
    expect(document.querySelector("[data-mark=begins]")?.textContent).toContain("·cat");
    fireEvent.keyDown(document, { key: "Escape" });
    expect(document.querySelector("[data-mark=begins]")).toBeNull();
    expect(words()).toHaveLength(5);
  });

  it("has one scale for all steps where that is asked for", async () => {
    await shown();
    const ends = () => document.querySelector(".cv-legend")?.textContent;
    expect(ends()).toBe("-22gradient");
    fireEvent.click(screen.getByRole("checkbox"));
    expect(ends()).toBe("-1212gradient");
    expect(address()).toBe("?map.colours=all");
  });

  it("shows what its test says, in full on demand", async () => {
    await shown();
    const badge = screen.getByRole("button", { name: /passes its test/ });
    expect(badge.textContent).toContain("3.00 nats; random 0.250 to 1.00");
    expect(screen.queryByText("Take them out.")).toBeNull();
    fireEvent.click(badge);
    expect(badge.getAttribute("aria-expanded")).toBe("true");
    expect(screen.getByText("Take them out.")).toBeTruthy();
  });

  it("says that it was not tested", async () => {
    await shown("/", []);
    expect(screen.getByText(/not checked/)).toBeTruthy();
  });
});

it("what a step explains stands behind the last token that it sees", () => {
  const [a, b] = [[1, NaN, NaN], [1, 1, NaN]];
  expect(placesOf(["x", "y", "z"], [a, b, [1, 1, 1]], ["y", "z − q", "end"])).toEqual([1, 2, 3]);
  expect(placesOf(["x", "yz", "w"], [a, b], ["y", "w"])).toEqual([null, 2]);
  expect(placesOf(["x"], [[1]], ["x"])).toEqual([null]);
});

describe("two texts", () => {
  const pairs = ["pair_number"];
  const both = memorySource("both", { target: 2, pair_number: 3 }, [
    held("first", ["target", "pair_number"], Float64Array.of(1, 0, 2, 0, 0, 4)),
    held("second", ["target", "pair_number"], Float64Array.of(3, -1, 2, 0, 0, 1)),
    held("difference", ["target", "pair_number"], Float64Array.of(-2, 1, 0, 0, 0, 3)),
    held("first_token", pairs, ["The", "", " cat"]),
    held("second_token", pairs, ["The", " old", " dog"]),
    held("target_token", ["target"], [" sat", " up"]),
  ]);

  it("stand token under token, in one scale, step by step", async () => {
    expect(showsContrast(both)).toBe(true);
    const moved: number[] = [];
    const { rerender } = render(<SideBySide source={both} checks={[]} at={{}} onAt={(_, to) => moved.push(to)} />);
    const list = await screen.findByRole("list", { name: /aligned/ });
    const said = () => within(list).getAllByRole("listitem").map((item) => item.textContent);
    expect(said()).toEqual(["TheThe-2.00", "nothing·old+1.00", "·cat·dog0"]);
    const colourOf = (text: string) => within(list).getByText(text).style.background;
    expect(colourOf("·cat")).toBe(colourOf("·dog"));
    fireEvent.click(screen.getByRole("button", { name: "Next explained token" }));
    expect(moved).toEqual([1]);
    rerender(<SideBySide source={both} checks={[]} at={{ target: 1 }} onAt={() => {}} />);
    await waitFor(() => expect(said()[2]).toBe("·cat·dog+3.00"));
    expect(colourOf("·cat")).not.toBe(colourOf("·dog"));
  });
});
