import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useNavigate } from "react-router";

import { api } from "../../api/client";
import type { ResultRecord } from "../../api/types";
import { Problem } from "../../layout/Problem";

/** The reader's own words about a result: title, tags and a note; and the way to delete it. */
export function About({ record }: { record: ResultRecord }) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const [title, setTitle] = useState(record.title);
  const [tags, setTags] = useState(record.tags.join(", "));
  const [note, setNote] = useState(record.note);
  const [state, setState] = useState<"" | "saving" | "saved">("");
  const [asking, setAsking] = useState(false);
  const [problem, setProblem] = useState<unknown>(null);
  const list = tagsOf(tags);
  const changed = title !== record.title || note !== record.note || list.join() !== record.tags.join();

  const save = async () => {
    setState("saving");
    setProblem(null);
    try {
      await api.updateResult(record.id, { title, tags: list, note });
      await client.invalidateQueries({ queryKey: ["result", record.id] });
      await client.invalidateQueries({ queryKey: ["results"] });
      setState("saved");
    } catch (error) {
      setProblem(error);
      setState("");
    }
  };
  const remove = async () => {
    setProblem(null);
    try {
      await api.deleteResult(record.id);
      await client.invalidateQueries({ queryKey: ["results"] });
      navigate("/results");
    } catch (error) {
      setProblem(error);
    }
  };

  return (
    <section className="panel">
      <h2>Title, tags and note</h2>
      <form
        className="stack"
        onSubmit={(event) => {
          event.preventDefault();
          void save();
        }}
      >
        <div>
          <label htmlFor="title">Title</label>
          <input id="title" value={title} onChange={(event) => setTitle(event.target.value)} />
        </div>
        <div>
          <label htmlFor="tags">Tags</label>
          <input
            id="tags"
            value={tags}
            placeholder="draft, figure 2"
            autoComplete="off"
            onChange={(event) => setTags(event.target.value)}
          />
          <p className="help">Commas between them.</p>
        </div>
        <div>
          <label htmlFor="note">Note</label>
          <textarea id="note" rows={4} value={note} onChange={(event) => setNote(event.target.value)} />
        </div>
        <div className="row">
          <button type="submit" className="primary" disabled={!changed || state === "saving"}>
            {state === "saving" ? "Being saved…" : "Save"}
          </button>
          <span role="status" className="muted small">
            {state === "saved" && !changed ? "Saved" : ""}
          </span>
          <span className="push" />
          {asking ? (
            <span role="alertdialog" aria-label="Delete this result?" className="row">
              <span className="small">Delete it for good?</span>
              <button type="button" className="danger" onClick={() => void remove()}>
                Delete
              </button>
              <button type="button" autoFocus onClick={() => setAsking(false)}>
                Keep it
              </button>
            </span>
          ) : (
            <button type="button" className="danger" onClick={() => setAsking(true)}>
              Delete…
            </button>
          )}
        </div>
        <Problem error={problem} />
      </form>
    </section>
  );
}

/** Tags from a line: cut at commas, each once. */
export function tagsOf(text: string): string[] {
  return [...new Set(text.split(",").map((tag) => tag.trim()))].filter(Boolean);
}
