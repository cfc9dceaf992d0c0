import { useEffect, useSyncExternalStore } from "react";

export type Theme = "light" | "dark";

const KEY = "cutaway-theme";
const listeners = new Set<() => void>();

/** The theme that the page is shown in now. */
export function currentTheme(): Theme {
  return document.documentElement.getAttribute("data-theme") === "dark" ? "dark" : "light";
}

function show(theme: Theme): void {
  document.documentElement.setAttribute("data-theme", theme);
  listeners.forEach((listener) => listener());
}

/** Choose a theme and keep the choice for the next visit. */
export function chooseTheme(theme: Theme): void {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // a browser that keeps nothing shows the theme for this visit
  }
  show(theme);
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The theme, and how to change it. Follows the system until one is chosen. */
export function useTheme(): [Theme, (theme: Theme) => void] {
  const theme = useSyncExternalStore(subscribe, currentTheme, () => "light" as const);
  useEffect(() => {
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    const follow = () => {
      let chosen: string | null = null;
      try {
        chosen = localStorage.getItem(KEY);
      } catch {
        chosen = null;
      }
      if (chosen !== "light" && chosen !== "dark") show(dark.matches ? "dark" : "light");
    };
    dark.addEventListener("change", follow);
    return () => dark.removeEventListener("change", follow);
  }, []);
  return [theme, chooseTheme];
}
