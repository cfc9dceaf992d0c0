import { createBrowserRouter, type RouteObject } from "react-router";

import { expectResult, ofMethods, ofStudies, queries } from "./api/queries";
import { Failure } from "./layout/Failure";
import { Shell } from "./layout/Shell";

// each page is a bundle of its own, so that the first one does not wait for the others
const explain = () => import("./pages/explain/ExplainPage");
const methods = () => import("./pages/methods/MethodsPage");
const method = () => import("./pages/methods/MethodPage");
const studies = () => import("./pages/studies/StudiesPage");
const study = () => import("./pages/studies/StudyPage");
const results = () => import("./pages/results/ResultsPage");
const result = () => import("./pages/results/ResultPage");
const compare = () => import("./pages/compare/ComparePage");
const model = () => import("./pages/model/ModelPage");
const attention = () => import("./pages/attention/AttentionPage");

/** Fetch the pages that are small; the drawing in three dimensions waits until it is asked for. */
export function loadPages(): void {
  for (const page of [explain, methods, method, studies, study, results, result, compare, attention]) page().catch(() => undefined); // a page that cannot be fetched now is tried again when it is opened
}

type Page = () => Promise<{ default: React.ComponentType }>;

/** A page, with what it will ask for fetched at the same time as its code. */
function page(load: Page, expect: (params: Record<string, string | undefined>) => void = () => undefined): RouteObject {
  return {
    lazy: { Component: async () => (await load()).default },
    loader: ({ params }) => {
      expect(params);
      return null;
    },
    // the query of the address belongs to the page alone
    shouldRevalidate: () => false,
  };
}

const expectMethods = () => void queries.prefetchQuery(ofMethods);

export const routes: RouteObject[] = [
  {
    path: "/",
    Component: Shell,
    ErrorBoundary: Failure,
    HydrateFallback: () => null,
    children: [
      {
        ErrorBoundary: Failure,
        children: [
          { index: true, ...page(explain) } as RouteObject,
          { path: "explain", ...page(explain) },
          { path: "methods", ...page(methods, expectMethods) },
          { path: "methods/*", ...page(method, expectMethods) },
          { path: "studies", ...page(studies, () => void queries.prefetchQuery(ofStudies)) },
          { path: "studies/*", ...page(study) },
          { path: "results", ...page(results) },
          { path: "results/:id", ...page(result, ({ id }) => expectResult(id)) },
          {
            path: "compare/:a/:b",
            ...page(compare, ({ a, b }) => {
              expectResult(a);
              expectResult(b);
            }),
          },
          { path: "model", ...page(model) },
          { path: "attention", ...page(attention) },
          { path: "*", Component: NotFound },
        ] as RouteObject[],
      },
    ],
  },
];

function NotFound() {
  return (
    <main className="page">
      <h1>There is no such page</h1>
      <p>
        The pages are <a href="/explain">Explain</a>, <a href="/methods">Methods</a>, <a href="/studies">Studies</a>,{" "}
        <a href="/results">Results</a>, <a href="/model">Model</a> and <a href="/attention">Attention</a>.
      </p>
    </main>
  );
}

export const router = createBrowserRouter(routes);
