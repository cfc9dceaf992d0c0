import { isRouteErrorResponse, useRouteError } from "react-router";

import { Problem } from "./Problem";

/** What is shown in place of a page that broke. */
export function Failure() {
  const error = useRouteError();
  const shown = isRouteErrorResponse(error) ? new Error(`${error.status} ${error.statusText}`) : error;
  return (
    <main className="page">
      <h1>This page could not be shown</h1>
      <Problem error={shown} />
      <p>
        <button onClick={() => location.reload()}>Load it again</button>
      </p>
    </main>
  );
}
