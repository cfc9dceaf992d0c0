/** The notebook's widget, as anywidget wants it: a module with a `render`. */

import { createRoot } from "react-dom/client";
import { kernelSource, type WidgetModel, type WidgetRecord } from "./kernel";
import { ResultWidget } from "./ResultWidget";
import { notebookTheme, watchTheme } from "./theme";
import "./widget.css";

export function render({ model, el }: { model: WidgetModel; el: HTMLElement }): () => void {
  const record = model.get("record") as WidgetRecord;
  const source = kernelSource(model);
  const root = createRoot(el);
  const draw = () => root.render(<ResultWidget source={source} record={record} theme={notebookTheme(el)} />);
  draw();
  const stop = watchTheme(draw);
  // keys that move the cursor of a picture must not move the notebook's selection
  const keep = (event: KeyboardEvent) => {
    const target = event.composedPath()[0];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target instanceof Element && target.closest(".cv, input")) event.stopPropagation();
  };
  el.addEventListener("keydown", keep);
  return () => {
    stop();
    el.removeEventListener("keydown", keep);
    source.close();
    root.unmount();
  };
}

export default { render };
