import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, expect, it, vi } from "vitest";

import { HeadCheck } from "./HeadCheck";

const token = { id: 5, text: " Mary", probability: 0.9, logit: 3 };
const answer = { token: " Mary", probability_before: 0.9, probability_after: 0.4 };

function answered(control: unknown) {
  const asked: unknown[] = [];
  vi.stubGlobal("fetch", async (_path: string, init: RequestInit) => {
    asked.push(JSON.parse(String(init.body)));
    return new Response(JSON.stringify({ before: [token], after: [token], answer, control }), { status: 200 });
  });
  render(
    <QueryClientProvider client={new QueryClient()}>
      <HeadCheck model="tiny" text="When" layer={9} heads={[6]} />
    </QueryClientProvider>,
  );
  return asked;
}

afterEach(() => vi.unstubAllGlobals());

it("takes the head out at its z, and shows the effect beside the random heads", async () => {
  const asked = answered({ mean: 0.88, low: 0.8, high: 0.92, n: 20, outside: true });
  await userEvent.click(screen.getByRole("button", { name: "Take head 9.6 out" }));
  expect(await screen.findByText("40 %")).toBeTruthy();
  expect(asked).toMatchObject([{ model: "tiny", text: "When", sites: ["z[9].head[6]"], seed: 0 }]);
  expect(screen.getByText(/more than random heads do/)).toBeTruthy();
  expect(screen.getByText(/n = 20/)).toBeTruthy();
});

it("says so where there is nothing to compare with", async () => {
  answered(null);
  await userEvent.click(screen.getByRole("button", { name: "Take head 9.6 out" }));
  expect(await screen.findByText(/no other heads to compare with/)).toBeTruthy();
});
