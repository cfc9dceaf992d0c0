import { useId } from "react";

import { Problem } from "../layout/Problem";
import { count } from "./format";
import { useModels } from "./models";

/** Which model: those that can be opened; for the others, how to get them. */
export function ModelChooser({ value, onChange }: { value: string; onChange: (name: string) => void }) {
  const id = useId();
  const models = useModels();
  const chosen = models.data?.find((model) => model.name === value);
  return (
    <div className="model-chooser">
      <label htmlFor={id}>Model</label>
      <select id={id} value={value} onChange={(event) => onChange(event.target.value)}>
        {!chosen && value && <option value={value}>{value}</option>}
        {!value && <option value="">{models.isPending ? "…" : "no model"}</option>}
        {models.data?.map((model) => (
          <option key={model.name} value={model.name}>
            {model.name}
            {model.opened ? " (open)" : model.available ? "" : " (not installed)"}
          </option>
        ))}
      </select>
      <Problem error={models.error} />
      {chosen && (
        <p className="help">
          {[chosen.description, chosen.parameters ? `${count(chosen.parameters)} parameters` : ""]
            .filter(Boolean)
            .join(", ")}
        </p>
      )}
      {chosen && !chosen.available && !chosen.opened && (
        <p className="field-error">
          {chosen.why_not} {chosen.install && <code>{chosen.install}</code>}
        </p>
      )}
    </div>
  );
}
