"use strict";
// Draw each figure when it comes into view, in the colours of the page, and redraw it for printing.

const figures = (() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  const PAPER_PX = 660; // fits between the margins of A4 and Letter
  const drawn = new Map(); // place -> what is drawn there
  let isPrinted = false;

  function template() {
    const isDark = dark.matches && !isPrinted;
    const [ink, rule, raised] = isDark ? ["#e7eaee", "#343b44", "#1e2329"] : ["#1b1f24", "#d9dde2", "#ffffff"];
    const axis = { gridcolor: rule, linecolor: rule, zerolinecolor: rule, automargin: true, title: { standoff: 8 } };
    return {
      layout: {
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: ink, size: isPrinted ? 9 : 12, family: "system-ui, Roboto, DejaVu Sans, sans-serif" },
        hoverlabel: { bgcolor: raised, font: { color: ink }, align: "left" },
        margin: { l: 50, r: 14, t: 26, b: 44 },
        xaxis: axis,
        yaxis: axis,
      },
    };
  }

  // Plotly modifies its arguments, so it gets copies.
  function draw(place, data, layout) {
    const isNew = !drawn.has(place);
    drawn.set(place, { data, layout });
    const finalLayout = { ...structuredClone(layout), template: template(), width: isPrinted ? PAPER_PX : undefined };
    Plotly.react(place, structuredClone(data), finalLayout, CONFIG);
    if (isNew) {
      place.on("plotly_click", ({ points: [point] }) => {
        const run = point.customdata ?? point.data.meta; // of this marker, or of the whole line
        if (run != null) location.hash = toRun(typeof run === "number" ? DATA.tables.points.runs[run] : run);
      });
    }
  }

  function clear(place) {
    if (drawn.delete(place)) Plotly.purge(place);
  }

  const redraw = () => drawn.forEach(({ data, layout }, place) => draw(place, data, layout));
  const places = [...document.querySelectorAll("[data-plot]")];

  function show(place) {
    const select = document.querySelector(`select[data-figure="${place.dataset.plot}"]`);
    const { data, layout } = DATA.figures[place.dataset.plot][select ? Number(select.value) : 0];
    draw(place, data, layout);
  }

  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        watcher.unobserve(target);
        if (!drawn.has(target)) show(target);
      }
    },
    { rootMargin: "300px" },
  );
  places.forEach((place) => watcher.observe(place));
  for (const select of document.querySelectorAll("select[data-figure]")) {
    select.onchange = () => show(document.querySelector(`[data-plot="${select.dataset.figure}"]`));
  }

  function print(on) {
    isPrinted = on;
    table.print(on);
    if (on) places.filter((place) => !drawn.has(place)).forEach(show);
    redraw();
  }
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  dark.addEventListener("change", redraw);

  return { draw, clear };
})();
