(() => {
  "use strict";
  // The browser's own hints are slow and small: take them over. Text only ever goes in as text.
  for (const title of document.querySelectorAll(".cutaway svg title")) {
    const mark = title.parentNode;
    if (mark.tagName.toLowerCase() === "svg") continue;
    mark.setAttribute("data-hint", title.textContent);
    title.remove();
  }
  const box = document.createElement("div");
  box.className = "cutaway-hint";
  box.hidden = true;
  document.body.append(box);
  const show = (event) => {
    const mark = event.target.closest ? event.target.closest("[data-hint]") : null;
    box.hidden = !mark;
    if (!mark) return;
    box.textContent = mark.getAttribute("data-hint");
    const right = event.clientX + 14 + box.offsetWidth > window.innerWidth;
    const low = event.clientY + 16 + box.offsetHeight > window.innerHeight;
    box.style.left = (right ? Math.max(4, event.clientX - box.offsetWidth - 10) : event.clientX + 14) + "px";
    box.style.top = (low ? Math.max(4, event.clientY - box.offsetHeight - 10) : event.clientY + 16) + "px";
  };
  // A sentence at several places: one is shown, and a slider goes through them (its arrow keys are the browser's).
  for (const steps of document.querySelectorAll(".cutaway .steps")) {
    const all = [...steps.children];
    const label = document.createElement("label");
    const slider = document.createElement("input");
    const said = document.createElement("output");
    slider.type = "range";
    slider.max = String(all.length - 1);
    const go = () => {
      const at = Number(slider.value);
      all.forEach((step, index) => { step.hidden = index !== at; });
      const name = all[at].getAttribute("data-name");
      said.textContent = name;
      slider.setAttribute("aria-valuetext", name);
    };
    slider.addEventListener("input", go);
    label.append(steps.getAttribute("data-name") + " ", slider);
    const bar = document.createElement("p");
    bar.className = "slider";
    bar.append(label, said);
    for (const step of all) step.querySelector("h3").remove();
    slider.value = String(Math.max(0, all.findIndex((step) => step.hasAttribute("data-first"))));
    steps.prepend(bar);
    go();
  }
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", () => { box.hidden = true; }, true);
})();
