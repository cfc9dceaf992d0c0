import type { TaskEntry } from "../../api/types";
import type { PromptRow } from "../../parts/commands";
import type { Field } from "../../parts/schema";
import { SchemaForm } from "../../parts/SchemaForm";

export const EMPTY: PromptRow = { prompt: "", contrast: "", answer: "", wrong: "" };

interface Props {
  tasks: readonly TaskEntry[];
  /** The named task, or null for prompts of one's own. */
  task: string | null;
  onTask: (name: string | null) => void;
  fields: readonly Field[];
  texts: Readonly<Record<string, string>>;
  onText: (name: string, text: string | null) => void;
  rows: readonly PromptRow[];
  onRows: (rows: readonly PromptRow[]) => void;
  needs: readonly string[];
}

/** What the model is asked: a named task with its parameters, or prompts of one's own. */
export function TaskChooser({ tasks, task, onTask, fields, texts, onText, rows, onRows, needs }: Props) {
  const chosen = tasks.find((entry) => entry.name === task);
  return (
    <fieldset>
      <legend>What the model is asked</legend>
      <div className="row" role="radiogroup" aria-label="Where the prompts come from">
        <label className="inline">
          <input type="radio" name="source" checked={task !== null} onChange={() => onTask(tasks[0]?.name ?? "ioi")} />a
          named task
        </label>
        <label className="inline">
          <input type="radio" name="source" checked={task === null} onChange={() => onTask(null)} />
          prompts of my own
        </label>
      </div>
      {task !== null ? (
        <div className="stack">
          <div className="field">
            <label htmlFor="task">task</label>
            <select id="task" value={task} onChange={(event) => onTask(event.target.value)}>
              {!chosen && <option>{task}</option>}
              {tasks.map((entry) => (
                <option key={entry.name} value={entry.name}>
                  {entry.name}
                </option>
              ))}
            </select>
            {chosen && (
              <p className="help">
                {chosen.asks} {chosen.summary}
              </p>
            )}
          </div>
          <SchemaForm fields={fields} texts={texts} onText={onText} />
        </div>
      ) : (
        <PromptRows rows={rows} onRows={onRows} needs={needs} />
      )}
    </fieldset>
  );
}

const COLUMNS: { name: keyof PromptRow; title: string; help: string }[] = [
  { name: "prompt", title: "prompt", help: "The capital of France is" },
  { name: "contrast", title: "contrast", help: "The capital of Italy is" },
  { name: "answer", title: "answer", help: " Paris" },
  { name: "wrong", title: "wrong answer", help: " Rome" },
];

function PromptRows({
  rows,
  onRows,
  needs,
}: {
  rows: readonly PromptRow[];
  onRows: (rows: readonly PromptRow[]) => void;
  needs: readonly string[];
}) {
  const write = (index: number, name: keyof PromptRow, text: string) =>
    onRows(rows.map((row, i) => (i === index ? { ...row, [name]: text } : row)));
  const required = new Set<keyof PromptRow>(["prompt"]);
  if (needs.includes("contrast")) required.add("contrast");
  if (needs.includes("answers")) required.add("answer");
  return (
    <div className="stack">
      {rows.map((row, index) => (
        <div key={index} className="prompt-row" role="group" aria-label={`Prompt ${index + 1}`}>
          {COLUMNS.map((column) => (
            <div key={column.name}>
              <label htmlFor={`${column.name}-${index}`}>
                {column.title}
                {!required.has(column.name) && <span className="muted"> (optional)</span>}
              </label>
              <input
                id={`${column.name}-${index}`}
                className="mono"
                value={row[column.name]}
                placeholder={column.help}
                spellCheck={false}
                autoComplete="off"
                onChange={(event) => write(index, column.name, event.target.value)}
              />
            </div>
          ))}
          {rows.length > 1 && (
            <button
              type="button"
              className="quiet"
              aria-label={`Remove prompt ${index + 1}`}
              onClick={() => onRows(rows.filter((_, i) => i !== index))}
            >
              ✕
            </button>
          )}
        </div>
      ))}
      <div className="row">
        <button type="button" onClick={() => onRows([...rows, EMPTY])}>
          Add a prompt
        </button>
        <span className="help">
          An answer starts with its space, as the text goes on: “ Paris”. Several answers to one prompt are joined by |.
        </span>
      </div>
    </div>
  );
}

const NAMED = { contrast: "a contrast", answer: "an answer", wrong: "a wrong answer" } as const;

/** What is wrong with the prompts, for a method with these needs; "" when nothing is. */
export function wrongWithRows(rows: readonly PromptRow[], needs: readonly string[]): string {
  if (rows.some((row) => !row.prompt.trim())) return "Each prompt has one word or more.";
  const every = (column: keyof PromptRow) => rows.every((row) => row[column] !== "");
  const some = (column: keyof PromptRow) => rows.some((row) => row[column] !== "");
  if (needs.includes("contrast") && !every("contrast")) return "This method needs a contrast for each prompt.";
  if (needs.includes("answers") && !every("answer")) return "This method needs an answer to each prompt.";
  for (const column of ["contrast", "answer", "wrong"] as const)
    if (some(column) && !every(column)) return `Either every prompt has ${NAMED[column]} or none has.`;
  if (some("wrong") && !some("answer")) return "A wrong answer needs an answer to be held against.";
  return "";
}
