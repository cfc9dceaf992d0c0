import { useId } from "react";

import { rangeOf, read, type Field } from "./schema";

interface Props {
  fields: readonly Field[];
  /** The texts of the fields that were written in. */
  texts: Readonly<Record<string, string>>;
  /** `null` goes back to the default. */
  onText: (name: string, text: string | null) => void;
}

/** The parameters of a method or a task as a form. */
export function SchemaForm({ fields, texts, onText }: Props) {
  if (!fields.length) return <p className="muted">There is nothing to set.</p>;
  return (
    <div className="fields">
      {fields.map((field) => (
        <FieldInput key={field.name} field={field} text={texts[field.name]} onText={onText} />
      ))}
    </div>
  );
}

function FieldInput({
  field,
  text: given,
  onText,
}: {
  field: Field;
  text: string | undefined;
  onText: (name: string, text: string | null) => void;
}) {
  const id = useId();
  const text = given ?? field.default;
  const error = given === undefined ? undefined : read(field, text).error;
  const write = (next: string) => onText(field.name, next === field.default ? null : next);
  const described = [`${id}-help`, ...(error ? [`${id}-error`] : [])].join(" ");
  const shared = { id, "aria-describedby": described, "aria-invalid": error ? true : undefined };
  return (
    <div className={field.kind === "boolean" ? "field field-boolean" : "field"}>
      <label htmlFor={id}>
        {field.label}
        {given !== undefined && given !== field.default && <span className="changed-mark"> changed</span>}
      </label>
      {field.kind === "boolean" ? (
        <input
          {...shared}
          type="checkbox"
          checked={text === "true"}
          onChange={(event) => write(String(event.target.checked))}
        />
      ) : field.kind === "choice" ? (
        <select {...shared} value={text} onChange={(event) => write(event.target.value)}>
          {field.optional && <option value="">none</option>}
          {field.choices.map((choice) => (
            <option key={choice}>{choice}</option>
          ))}
        </select>
      ) : (
        <input
          {...shared}
          type={field.kind === "integer" || field.kind === "number" ? "number" : "text"}
          step={field.kind === "integer" ? 1 : "any"}
          min={field.schema.minimum ?? field.schema.exclusiveMinimum}
          max={field.schema.maximum ?? field.schema.exclusiveMaximum}
          placeholder={field.optional ? "none" : undefined}
          spellCheck={false}
          autoComplete="off"
          value={text}
          onChange={(event) => write(event.target.value)}
        />
      )}
      <p id={`${id}-help`} className="help">
        {field.help}
        {hint(field)}
      </p>
      {error && (
        <p id={`${id}-error`} className="field-error" role="alert">
          {error}
        </p>
      )}
    </div>
  );
}

function hint(field: Field): string {
  const parts = [
    field.kind === "integer" || field.kind === "number" ? rangeOf(field.schema) : "",
    field.kind === "list" ? "commas between values" : "",
    field.default !== "" ? `default ${field.default}` : field.optional ? "default none" : "",
  ].filter(Boolean);
  if (field.kind === "boolean" || !parts.length) return "";
  return `${field.help ? " (" : "("}${parts.join("; ")})`;
}
