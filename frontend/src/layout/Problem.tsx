import { ApiError } from "../api/client";

/** What went wrong, what is allowed, what to do instead. */
export function Problem({ error }: { error: unknown }) {
  if (!error) return null;
  if (error instanceof ApiError)
    return (
      <div className="message" role="alert">
        <p>
          {error.what} {error.expected}
        </p>
        {error.instead && <p>{error.instead}</p>}
      </div>
    );
  return (
    <div className="message" role="alert">
      <p>{error instanceof Error ? error.message : String(error)}</p>
    </div>
  );
}
