import { useQuery } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { NavLink, Outlet, ScrollRestoration, useLocation, useNavigation } from "react-router";

import { api } from "../api/client";
import { Jobs } from "./Jobs";
import { useTheme } from "./theme";

const PAGES: [string, string][] = [
  ["/explain", "Explain"],
  ["/methods", "Methods"],
  ["/studies", "Studies"],
  ["/results", "Results"],
  ["/model", "Model"],
  ["/attention", "Attention"],
];

/** What every page has around it: the name, the pages, the jobs and the theme. */
export function Shell() {
  const [theme, setTheme] = useTheme();
  const { pathname } = useLocation();
  const loading = useNavigation().state === "loading";
  const health = useQuery({ queryKey: ["health"], queryFn: ({ signal }) => api.health(signal) });
  const main = useRef<HTMLDivElement>(null);

  useEffect(() => {
    const page = PAGES.find(([path]) => pathname.startsWith(path) || (pathname === "/" && path === "/explain"))?.[1];
    document.title = page ? `${page} · Cutaway` : "Cutaway";
  }, [pathname]);

  return (
    <>
      <a
        className="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          main.current?.focus();
        }}
      >
        Skip to the page
      </a>
      <header className="top">
        <NavLink to="/" className="brand" end>
          <img src="/icon.svg" alt="" width="22" height="22" /> Cutaway
        </NavLink>
        <nav aria-label="Pages">
          {PAGES.map(([path, name]) => (
            <NavLink
              key={path}
              to={path}
              className={({ isActive }) => (isActive || (pathname === "/" && path === "/explain") ? "active" : "")}
            >
              {name}
            </NavLink>
          ))}
        </nav>
        <div className="top-end">
          <Jobs />
          <button
            className="quiet"
            onClick={() => setTheme(theme === "dark" ? "light" : "dark")}
            aria-label={`Use the ${theme === "dark" ? "light" : "dark"} theme`}
            title={`Use the ${theme === "dark" ? "light" : "dark"} theme`}
          >
            <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
              <circle cx="8" cy="8" r="6.5" fill="none" stroke="currentColor" strokeWidth="1.5" />
              <path d="M8 1.5a6.5 6.5 0 0 1 0 13z" fill="currentColor" />
            </svg>
          </button>
        </div>
        {loading && <div className="loading" role="progressbar" aria-label="Loading the page" />}
      </header>
      <div id="main" ref={main} tabIndex={-1}>
        {health.isError && (
          <div className="page">
            <div className="message" role="alert">
              <p>{health.error.message}</p>
            </div>
          </div>
        )}
        <Outlet />
      </div>
      <footer className="foot">
        {health.data && (
          <>
            Cutaway {health.data.version}
            {health.data.loopback ? " · reachable from this machine only" : " · reachable from other machines"}
          </>
        )}
      </footer>
      <ScrollRestoration getKey={(location) => location.pathname} />
    </>
  );
}
