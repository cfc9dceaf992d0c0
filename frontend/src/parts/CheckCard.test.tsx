import { render, screen } from "@testing-library/react";
import { expect, it } from "vitest";

import { CheckCard } from "./CheckCard";
import { remaining } from "./job";

const check = {
  claim: "The parts are needed.",
  how: "Take them out.",
  measured: 4.38,
  control: -0.267,
  interval: [-1.33, 3.61],
  n: 20,
  passed: true,
  unit: "logits",
};

it("a check shows the claim, what was measured, and the control beside it", () => {
  const { container } = render(<CheckCard check={check} />);
  expect(screen.getByText("✓ holds")).toBeTruthy();
  expect(screen.getByText("4.38")).toBeTruthy();
  const picture = screen.getByRole("img");
  expect(picture.getAttribute("aria-label")).toBe("Measured 4.38 logits; control -0.267, 95 % between -1.33 and 3.61.");
  const dot = Number(container.querySelector("circle")!.getAttribute("cx"));
  const band = container.querySelector("rect")!;
  const end = Number(band.getAttribute("x")) + Number(band.getAttribute("width"));
  expect(dot).toBeGreaterThan(end); // measured is above the interval
});

it("a check that fails says so, and a missing number is no zero", () => {
  const { container } = render(<CheckCard check={{ ...check, passed: false, measured: null }} />);
  expect(screen.getByText("✗ does not hold")).toBeTruthy();
  expect(screen.getByText("missing")).toBeTruthy();
  expect(container.querySelector("circle")).toBeNull();
});

it("the time that remains follows from the speed since the job was first seen", () => {
  const seen = [
    { at: 1000, fraction: 0.2 },
    { at: 3000, fraction: 0.6 },
  ];
  expect(remaining(seen, 3000)).toBeCloseTo(2);
  expect(remaining(seen, 4000)).toBeCloseTo(1);
  expect(remaining(seen.slice(0, 1), 2000)).toBeNull();
});
