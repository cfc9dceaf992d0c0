import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { RouterProvider } from "react-router/dom";

import { queries } from "./api/queries";
import { loadPages, router } from "./routes";
import "./theme.css";
import "./layout/layout.css";
import "./parts/parts.css";

createRoot(document.getElementById("root") as HTMLElement).render(
  <StrictMode>
    <QueryClientProvider client={queries}>
      <RouterProvider router={router} />
    </QueryClientProvider>
  </StrictMode>,
);

// once the first page stands, the others are fetched, so that they open at once
if ("requestIdleCallback" in window) requestIdleCallback(() => loadPages(), { timeout: 4000 });
else setTimeout(loadPages, 2000);
