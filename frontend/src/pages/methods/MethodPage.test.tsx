/** A method is run with what the page shows, and not before the page knows it. */

import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { fireEvent, render, screen, waitFor } from "@testing-library/react";
import { MemoryRouter, Route, Routes } from "react-router";
import { afterEach, expect, it, vi } from "vitest";

import { api } from "../../api/client";
import type { Method, ModelEntry, TaskEntry } from "../../api/types";
import MethodPage from "./MethodPage";

const method = {
  name: "patching",
  group: "intervene",
  asks: "Where does it matter?",
  summary: "Patch.",
  doc: "",
  cites: [],
  needs: [],
  package: "cutaway",
  problem: null,
  schema: { type: "object", properties: {} },
} as unknown as Method;
const model = { name: "smollm2", available: true, opened: true } as unknown as ModelEntry;
const task = {
  name: "ioi",
  schema: { type: "object", properties: { n: { type: "integer", default: 1, description: "prompts" } } },
} as unknown as TaskEntry;

afterEach(() => vi.restoreAllMocks());

it("waits for the tasks before it can be run", async () => {
  let come: (tasks: TaskEntry[]) => void = () => {};
  vi.spyOn(api, "methods").mockResolvedValue([method]);
  vi.spyOn(api, "models").mockResolvedValue([model]);
  vi.spyOn(api, "tasks").mockReturnValue(new Promise((resolve) => (come = resolve)));
  const submit = vi.spyOn(api, "submit").mockReturnValue(new Promise(() => {}));
  render(
    <QueryClientProvider client={new QueryClient()}>
      <MemoryRouter initialEntries={["/methods/patching?t.n=200"]}>
        <Routes>
          <Route path="/methods/*" element={<MethodPage />} />
        </Routes>
      </MemoryRouter>
    </QueryClientProvider>,
  );
  const run = await screen.findByRole<HTMLButtonElement>("button", { name: "Run" });
  await waitFor(() => expect(screen.getAllByText(/smollm2/).length).toBeGreaterThan(0));
  fireEvent.click(run);
  expect(run.disabled).toBe(true);
  expect(submit).not.toHaveBeenCalled();
  come([task]);
  await waitFor(() => expect(run.disabled).toBe(false));
  fireEvent.click(run);
  await waitFor(() => expect(submit.mock.calls[0]?.[0]).toMatchObject({ task: "ioi", task_parameters: { n: 200 } }));
});
