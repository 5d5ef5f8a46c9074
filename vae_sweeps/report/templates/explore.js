"use strict";
// Any column against any other, coloured by a third: of the means over seeds, if there are several.

(() => {
  const place = document.getElementById("explore-plot");
  if (!place) return;
  const byId = (id) => document.getElementById(`explore-${id}`);
  const { runs, columns } = Object.values(DATA.tables).at(-1);
  const named = new Map(columns.map((column) => [column.name, column]));
  const keys = Object.keys(DATA.palettes);
  const whole = byId("whole");

  const options = (names, first) => names.map((name) => element("option", { textContent: name, selected: name === first }));

  const values = (column) => (column.is_number ? column.numbers : column.texts);
  const labels = runs.map((_, row) => keys.map((key) => `${key}=${named.get(key)?.texts[row] ?? ""}`).join(" "));

  function trace(rows, x, y, marker, name) {
    const of = (column) => rows.map((row) => values(column)[row]);
    return {
      type: "scatter", mode: "markers", x: of(x), y: of(y), customdata: rows.map((row) => runs[row]), name, showlegend: name !== "",
      hovertext: rows.map((row) => `${labels[row]}<br>${x.name} ${x.texts[row]}<br>${y.name} ${y.texts[row]}`),
      hovertemplate: "%{hovertext}<extra></extra>", marker: { size: 9, line: { width: 0.5, color: "#888888" }, ...marker },
    };
  }

  function traces(x, y) {
    const by = named.get(byId("colour").value);
    const rows = [...runs.keys()].filter((row) => values(x)[row] !== null && values(y)[row] !== null);
    const palette = by && DATA.palettes[by.name];
    if (palette) {
      return palette.map(([text, color]) => trace(rows.filter((row) => by.texts[row] === text), x, y, { color }, `${by.name}=${text}`)).filter((one) => one.x.length);
    }
    if (!by) return [trace(rows, x, y, { color: DATA.ramp[0][1] }, "")];
    const color = rows.map((row) => by.numbers[row]);
    return [trace(rows, x, y, { color, colorscale: DATA.ramp, colorbar: { title: { text: by.name, side: "right" }, thickness: 12 } }, "")];
  }

  function axis(column, way) {
    const isLog = byId(`log-${way}`);
    const isPositive = column.is_number && column.numbers.every((value) => value === null || value > 0);
    isLog.disabled = !isPositive;
    const isPossible = column.is_nonnegative ? { rangemode: "nonnegative" } : {};
    return { title: { text: column.name }, type: !column.is_number ? "category" : isLog.checked && isPositive ? "log" : "linear", ...isPossible };
  }

  function show() {
    const [x, y] = ["x", "y"].map((way) => named.get(byId(way).value));
    const layout = { xaxis: axis(x, "x"), yaxis: axis(y, "y"), legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 } };
    const limits = Object.entries({ x: x.clip, y: y.clip }).filter(([way, range]) => range && layout[`${way}axis`].type === "linear");
    const view = { data: traces(x, y), layout, clip: Object.fromEntries(limits) };
    whole.closest("label").hidden = limits.length === 0;
    byId("note").textContent = whole.checked ? "" : marks.clip(view);
    figures.draw(place, view.data, view.layout);
  }

  const shown = columns.filter((column) => column.is_number || keys.includes(column.name)).map((column) => column.name);
  byId("x").append(...options(shown, DATA.explored.across));
  byId("y").append(...options(shown, DATA.explored.up));
  byId("colour").append(element("option", { textContent: "nothing" }), ...options(shown.filter((name) => DATA.palettes[name] || named.get(name).is_number), DATA.explored.colour));
  for (const control of document.querySelectorAll("#explore .controls :is(select, input)")) control.onchange = show;
  new IntersectionObserver((entries, watcher) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watcher.disconnect();
    if (!figures.has(place)) show(); // a control may have drawn it, and drawing again would end a box that is being drawn
  }, { rootMargin: "300px" }).observe(place);
  addEventListener("beforeprint", show);
})();
