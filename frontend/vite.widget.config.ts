import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The notebook's widget: one module that brings everything along, and one style sheet.
export default defineConfig({
  plugins: [react()],
  define: { "process.env.NODE_ENV": JSON.stringify("production") },
  publicDir: false,
  build: {
    outDir: "../src/cutaway/web/static/widget",
    emptyOutDir: true,
    sourcemap: false,
    target: "es2022",
    cssCodeSplit: false,
    chunkSizeWarningLimit: 900,
    lib: { entry: "src/widget/index.tsx", formats: ["es"], fileName: () => "widget.js", cssFileName: "widget" },
  },
});
