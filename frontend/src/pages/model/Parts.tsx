import { count } from "../../parts/format";
import { shapeText, type Anatomy, type Box, type Layer, type Part } from "./anatomy";

/** The parts of a layer as a table: the drawing in numbers. */
export function LayerParts({ layer }: { layer: Layer }) {
  const rows: [string, Part][] = [
    ...(layer.attention?.parts ?? []).map((part): [string, Part] => ["attention", part]),
    ...(layer.mlp?.parts ?? []).map((part): [string, Part] => ["MLP", part]),
    ...layer.norms.map((part): [string, Part] => ["norm", part]),
    ...layer.other.map((part): [string, Part] => ["other", part]),
  ];
  return (
    <div className="scroll">
      <table className="parts">
        <caption className="visually-hidden">Parts of layer {layer.index}</caption>
        <thead>
          <tr>
            <th scope="col">Part</th>
            <th scope="col">Belongs to</th>
            <th scope="col">Shape</th>
            <th scope="col" className="right">
              Parameters
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map(([group, part]) => (
            <tr key={part.path}>
              <th scope="row">
                <code title={part.path}>{part.path.slice(layer.path.length + 1) || part.name}</code>
              </th>
              <td>{group}</td>
              <td className="number">{shapeText(part.shape)}</td>
              <td className="number right">{part.parameters.toLocaleString("en-GB")}</td>
            </tr>
          ))}
        </tbody>
        <tfoot>
          <tr>
            <th scope="row">Layer {layer.index}</th>
            <td />
            <td />
            <td className="number right">{layer.parameters.toLocaleString("en-GB")}</td>
          </tr>
        </tfoot>
      </table>
    </div>
  );
}

/** What the pointer is on. */
export function Pointed({ box, anatomy }: { box: Box | null; anatomy: Anatomy }) {
  return (
    <p className="pointed small" aria-live="polite">
      {box ? (
        <>
          <code>{box.id}</code> {box.part ? <span className="muted">{box.part.type}</span> : null} {box.detail}{" "}
          <span className="number">
            {box.parameters.toLocaleString("en-GB")} parameters ({((100 * box.parameters) / anatomy.parameters).toPrecision(3)} % of
            the model)
          </span>
        </>
      ) : (
        <span className="muted">Areas are shares of {count(anatomy.parameters)} parameters. Point at a part; open a layer.</span>
      )}
    </p>
  );
}

const GROUPS = [
  ["embed", "embedding"],
  ["attention", "attention"],
  ["mlp", "MLP"],
  ["norms", "norms"],
  ["unembed", "unembedding"],
  ["other", "other"],
] as const;

/** Which colour is which, with each group's share. */
export function Key({ anatomy }: { anatomy: Anatomy }) {
  const sums: Record<string, number> = {
    embed: anatomy.embed?.parameters ?? 0,
    unembed: anatomy.unembed?.parameters ?? 0,
    norms: (anatomy.final_norm?.parameters ?? 0) + total(anatomy.layers.flatMap((layer) => layer.norms)),
    attention: anatomy.layers.reduce((sum, layer) => sum + (layer.attention?.parameters ?? 0), 0),
    mlp: anatomy.layers.reduce((sum, layer) => sum + (layer.mlp?.parameters ?? 0), 0),
    other: total(anatomy.other) + total(anatomy.layers.flatMap((layer) => layer.other)),
  };
  return (
    <ul className="anatomy-key small" aria-label="Colours and shares">
      {GROUPS.filter(([group]) => sums[group]).map(([group, name]) => (
        <li key={group}>
          <svg width="12" height="12" aria-hidden="true">
            <rect width="12" height="12" className={`anatomy-part ${group}`} />
          </svg>{" "}
          {name} <span className="muted number">{((100 * (sums[group] ?? 0)) / anatomy.parameters).toPrecision(3)} %</span>
        </li>
      ))}
    </ul>
  );
}

function total(parts: readonly Part[]): number {
  return parts.reduce((sum, part) => sum + part.parameters, 0);
}
