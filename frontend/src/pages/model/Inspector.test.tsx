import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, it, vi } from "vitest";

import type { CellRecord } from "./cells";
import { Inspector } from "./Inspector";

const cell: CellRecord = {
  site: "resid_mid[3].unit[7]@5",
  value: 0.481,
  formula: "resid_mid = resid_pre + attn_contrib",
  numbers: "0.512 + -0.031",
  computed: 0.481,
  operands: [
    { name: "resid_pre", value: 0.512, site: "resid_pre[3].unit[7]@5" },
    { name: "attn_contrib", value: -0.031, site: "attn_contrib[3].unit[7]@5" },
  ],
};
const shared = { loaded: true, pending: false, error: null, token: " Mary", pinned: false };

it("shows the number and its formula with the numbers that went in, readable by a machine", async () => {
  const pin = vi.fn();
  const { container } = render(<Inspector site={cell.site} value={0.481} cell={cell} onPin={pin} {...shared} />);
  expect(container.querySelector(".inspector-value")).toHaveProperty("dataset.value", "0.481");
  expect(container.querySelector(".inspector-value")).toHaveProperty("dataset.site", cell.site);
  expect(screen.getByText("resid_mid = resid_pre + attn_contrib")).toBeTruthy();
  const rows = [...container.querySelectorAll<HTMLElement>("tr[data-site]")];
  expect(rows.map((row) => Number(row.dataset["value"]))).toEqual([0.512, -0.031]);
  await userEvent.click(screen.getByRole("button", { name: "attn_contrib" }));
  expect(pin).toHaveBeenCalledWith("attn_contrib[3].unit[7]@5");
});

it("does not show the formula of another cell", () => {
  render(<Inspector site="resid_mid[3].unit[8]@5" value={1} cell={cell} onPin={() => undefined} {...shared} />);
  expect(screen.queryByText(/resid_pre \+ attn_contrib/)).toBeNull();
});

it("says why there is no formula, and what is masked", () => {
  const unknown: CellRecord = { site: "x", value: null, formula: null, why: "No formula that is known here gives mlp_in." };
  render(<Inspector site="x" value={null} cell={unknown} onPin={() => undefined} {...shared} />);
  expect(screen.getByText("masked")).toBeTruthy();
  expect(screen.getByText(/No formula that is known/)).toBeTruthy();
});
