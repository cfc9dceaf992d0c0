import { useEffect, useRef, useState } from "react";

import { ModelChooser } from "../../parts/ModelChooser";

export interface Question {
  model: string;
  prompt: string;
  instead: string;
  answer: string;
}

interface Props {
  question: Question;
  onChange: (change: Partial<Question>) => void;
  onRun: () => void;
  canRun: boolean;
  running: boolean;
}

const EXAMPLES: { name: string; prompt: string; instead: string }[] = [
  {
    name: "Who gets the drink?",
    prompt: "When Mary and John went to the store, John gave a drink to",
    instead: "When Mary and John went to the store, Mary gave a drink to",
  },
  { name: "A capital", prompt: "The capital of France is", instead: "The capital of Italy is" },
  {
    name: "One key or many",
    prompt: "The keys to the cabinet",
    instead: "The key to the cabinet",
  },
];

/** The question: prompt, contrast, answer and model. */
export function QuestionForm({ question, onChange, onRun, canRun, running }: Props) {
  return (
    <form
      className="stack"
      onSubmit={(event) => {
        event.preventDefault();
        if (canRun) onRun();
      }}
    >
      <TextArea
        id="prompt"
        label="Prompt"
        help="A text that stops where the model should go on."
        value={question.prompt}
        onChange={(prompt) => onChange({ prompt })}
        onEnter={() => canRun && onRun()}
        rows={3}
        autoFocus
      />
      {!question.prompt && (
        <p className="row small">
          <span className="muted">For example:</span>
          {EXAMPLES.map((example) => (
            <button
              key={example.name}
              type="button"
              onClick={() => onChange({ prompt: example.prompt, instead: example.instead, answer: "" })}
            >
              {example.name}
            </button>
          ))}
        </p>
      )}
      <TextArea
        id="instead"
        label="Contrast (optional)"
        help="The prompt with one thing changed, as many tokens long: it shows where the difference lives."
        value={question.instead}
        onChange={(instead) => onChange({ instead })}
        onEnter={() => canRun && onRun()}
        rows={2}
      />
      <div className="question-row">
        <div>
          <label htmlFor="answer">Answer (optional)</label>
          <LocalInput id="answer" value={question.answer} onChange={(answer) => onChange({ answer })} />
          <p className="help">
            The word to explain, with its leading space; the likeliest one when empty. Or choose one on the list of next
            tokens.
          </p>
        </div>
        <ModelChooser value={question.model} onChange={(model) => onChange({ model })} />
      </div>
      <div className="row">
        <button type="submit" className="primary" disabled={!canRun}>
          {running ? "Being explained…" : "Explain"}
        </button>
        <span className="muted small">Ctrl + Enter in a text does the same.</span>
      </div>
    </form>
  );
}

function TextArea({
  id,
  label,
  help,
  value,
  onChange,
  onEnter,
  rows,
  autoFocus = false,
}: {
  id: string;
  label: string;
  help: string;
  value: string;
  onChange: (text: string) => void;
  onEnter: () => void;
  rows: number;
  autoFocus?: boolean;
}) {
  const [text, write] = useLocal(value, onChange);
  return (
    <div>
      <label htmlFor={id}>{label}</label>
      <textarea
        id={id}
        rows={rows}
        value={text}
        autoFocus={autoFocus && window.matchMedia("(pointer: fine)").matches}
        spellCheck={false}
        aria-describedby={`${id}-help`}
        onChange={(event) => write(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
            event.preventDefault();
            onEnter();
          }
        }}
      />
      <p id={`${id}-help`} className="help">
        {help}
      </p>
    </div>
  );
}

function LocalInput({ id, value, onChange }: { id: string; value: string; onChange: (text: string) => void }) {
  const [text, write] = useLocal(value, onChange);
  return (
    <input
      id={id}
      className="mono"
      value={text}
      spellCheck={false}
      autoComplete="off"
      onChange={(event) => write(event.target.value)}
    />
  );
}

/** What is being typed, written to the page's address at once, and taken from it when it changes elsewhere. */
function useLocal(value: string, onChange: (text: string) => void): [string, (text: string) => void] {
  const [text, setText] = useState(value);
  const own = useRef(value);
  useEffect(() => {
    if (value !== own.current) {
      own.current = value;
      setText(value);
    }
  }, [value]);
  return [
    text,
    (next) => {
      own.current = next;
      setText(next);
      onChange(next);
    },
  ];
}
