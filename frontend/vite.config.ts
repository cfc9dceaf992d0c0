/// <reference types="vitest/config" />
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// `npm run dev` serves the pages with hot reload and passes /api on to a running `cutaway serve --port 8321`.
const server = process.env["CUTAWAY_SERVER"] ?? "http://127.0.0.1:8321";

export default defineConfig({
  plugins: [react()],
  base: "/",
  build: {
    outDir: "../src/cutaway/web/static",
    emptyOutDir: true,
    sourcemap: false,
    target: "es2022",
    assetsInlineLimit: 0, // the Content-Security-Policy allows no data: scripts
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 900,
  },
  // the server takes requests from its own pages only, so they must look as if they came from there
  server: { proxy: { "/api": { target: server, changeOrigin: true, headers: { origin: server } } } },
  test: { environment: "jsdom", globals: true, setupFiles: ["src/setup.test-env.ts"], css: false },
});
