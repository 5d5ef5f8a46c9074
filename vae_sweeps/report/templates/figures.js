"use strict";
// Draw each figure when it comes into view, in the colours of the page, and redraw it for printing.

const figures = (() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const CONFIG = { responsive: true, displaylogo: false, showSendToCloud: false, modeBarButtonsToRemove: ["autoScale2d", "toImage"] };
  const SELECTING = ["select2d", "lasso2d"];
  const FORMATS = ["svg", "png"];
  const PAPER_PX = 660; // fits between the margins of A4 and Letter
  const drawn = new Map(); // place -> what is drawn there
  const savers = new Map(); // place -> its buttons, since plotly draws anew, without the reader's zoom, if they are others
  const controls = (key) => [...document.querySelectorAll(`[data-figure="${key}"]`)];
  const control = (key, what) => controls(key).find((one) => one.dataset.control === what);
  let isPrinted = false;
  let isDrawing = false; // plotly then tells of an empty box, which no reader has drawn

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

  // A button of the figure's toolbar. Pictures are drawn as they are shown, PNG with three times the pixels.
  function saver(place, format) {
    const filename = `${document.title} ${place.dataset.plot ?? place.id}`;
    const click = (figure) => Plotly.downloadImage(figure, { format, filename, scale: format === "png" ? 3 : 1 });
    return { name: `Save as ${format.toUpperCase()}`, icon: format === "svg" ? Plotly.Icons.disk : Plotly.Icons.camera, click };
  }

  function config(place, data) {
    const hasMarkers = data.some((trace) => trace.type === "scatter" && Array.isArray(trace.customdata));
    const removed = [...CONFIG.modeBarButtonsToRemove, ...(hasMarkers ? [] : SELECTING)];
    if (!savers.has(place)) savers.set(place, FORMATS.map((format) => saver(place, format)));
    return { ...CONFIG, modeBarButtonsToRemove: removed, modeBarButtonsToAdd: savers.get(place) };
  }

  // Plotly modifies its arguments, so it gets copies.
  function draw(place, data, layout) {
    const isNew = !drawn.has(place);
    drawn.set(place, { data, layout });
    const dragmode = place.layout?.dragmode ?? layout.dragmode;
    const finalLayout = { ...structuredClone(layout), dragmode, template: template(), width: isPrinted ? PAPER_PX : undefined };
    const revision = JSON.stringify(layout); // a reader's zoom stays until the axes are others
    for (const name of Object.keys(layout).filter((one) => /^[xy]axis/.test(one))) finalLayout[name].uirevision = revision;
    isDrawing = true;
    Plotly.react(place, marks.faded(structuredClone(data)), finalLayout, config(place, data));
    isDrawing = false;
    if (isNew) listen(place);
  }

  function listen(place) {
    place.on("plotly_click", ({ points: [point] }) => {
      const run = point.customdata ?? point.data.meta; // of this marker, or of the whole line
      if (run != null) location.hash = toRun(marks.runOf(run));
    });
    place.on("plotly_selected", (event) => {
      const runs = isDrawing ? null : event?.points.map((point) => point.customdata).filter((run) => run != null);
      if (runs) selection.set("box", runs.map(marks.runOf));
    });
    place.on("plotly_deselect", () => isDrawing || selection.set("box", null));
    place.on("plotly_restyle", () => {
      if (place.data[0].type === "parcoords") selection.set("axes", marks.between(place.data[0]));
    });
  }

  function clear(place) {
    if (drawn.delete(place)) Plotly.purge(place);
  }

  const redraw = () => drawn.forEach(({ data, layout }, place) => draw(place, data, layout));
  const places = [...document.querySelectorAll("[data-plot]")];

  // Draw the chosen view of a figure, as its other controls say.
  function show(place) {
    const key = place.dataset.plot;
    const view = structuredClone(DATA.figures[key][Number(control(key, "view")?.value ?? 0)]);
    const whole = control(key, "whole");
    whole.closest("label").hidden = Object.keys(view.clip).length === 0;
    const note = document.querySelector(`[data-note="${key}"]`);
    note.textContent = whole.checked ? "" : marks.clip(view);
    if (control(key, "against")) {
      marks.smooth(view, Number(control(key, "smooth").value));
      marks.follow(view, control(key, "against").value);
    }
    draw(place, view.data, view.layout);
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
  for (const place of places) {
    for (const one of controls(place.dataset.plot)) one.addEventListener(one.type === "range" ? "input" : "change", () => show(place));
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
  selection.onChange((how) => {
    for (const [place, { data, layout }] of drawn) {
      if (how !== "axes" || data[0]?.type !== "parcoords") draw(place, data, layout); // keeps what is marked on the axes
    }
  });

  return { draw, clear, has: (place) => drawn.has(place) };
})();
