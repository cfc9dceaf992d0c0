/** Light or dark, as the notebook around the widget is. */

import type { Theme } from "../views/palette";

/** What JupyterLab, VS Code, marimo and others say of their theme; the system's choice where they say nothing. */
export function notebookTheme(element: Element, page: Document = document): Theme {
  const { body, documentElement } = page;
  const lab = body.getAttribute("data-jp-theme-light");
  if (lab !== null) return lab === "false" ? "dark" : "light";
  const code = body.getAttribute("data-vscode-theme-kind") ?? body.className;
  if (/vscode-(dark|high-contrast(?!-light))/.test(code)) return "dark";
  if (/vscode-(light|high-contrast-light)/.test(code)) return "light";
  const said = element.closest("[data-theme]")?.getAttribute("data-theme") ?? documentElement.getAttribute("data-theme");
  if (said === "dark" || said === "light") return said;
  if (element.closest(".dark, .dark-theme") || documentElement.classList.contains("dark") || body.classList.contains("dark"))
    return "dark";
  if (documentElement.classList.contains("light") || body.classList.contains("light")) return "light";
  return window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/** Calls `changed` when the notebook's theme may have changed; returns what stops it. */
export function watchTheme(changed: () => void): () => void {
  const observer = new MutationObserver(changed);
  for (const node of [document.documentElement, document.body])
    observer.observe(node, { attributes: true, attributeFilter: ["class", "data-theme", "data-jp-theme-light", "data-vscode-theme-kind"] });
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", changed);
  return () => {
    observer.disconnect();
    system.removeEventListener("change", changed);
  };
}
