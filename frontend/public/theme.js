// Runs before the first paint, so that a page in the dark theme never flashes white.
(function () {
  var chosen = null;
  try {
    chosen = localStorage.getItem("cutaway-theme");
  } catch (error) {
    chosen = null;
  }
  if (chosen !== "light" && chosen !== "dark") {
    chosen = window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }
  document.documentElement.setAttribute("data-theme", chosen);
})();
