"use strict";
// Changes to the traces of a view before they are drawn: outliers, what is not chosen, smoothing and other x axes.

const marks = (() => {
  const MARGIN = 0.06; // of the range, on each side
  const FADED = 0.12;
  const AXES = { epochs: "epoch", hours: "hours of training, in the point's share of its pack" };

  const runOf = (mark) => (typeof mark === "number" ? DATA.tables.points.runs[mark] : mark);
  const isMarked = (trace) => trace.type === "scatter" && trace.mode?.startsWith("markers") && Array.isArray(trace.customdata);

  function padded([low, high], axis) {
    const margin = MARGIN * (high - low) || 0.5;
    return [axis.rangemode === "nonnegative" ? Math.max(0, low - margin) : low - margin, high + margin];
  }

  // Show the ranges of `view.clip` only, mark the points beyond them at the edge, and say how many they are.
  function clip(view) {
    const { data, layout, clip: limits } = view;
    let num = 0;
    if (limits.z) {
      const [low, high] = limits.z;
      for (const trace of data) {
        Object.assign(trace, { zmin: low, zmax: high });
        const markOf = (z) => (!beyond(z, low, high) ? "" : z > high ? " ▲" : " ▼");
        trace.text = trace.text?.map((row, r) => row.map((text, c) => text + markOf(trace.z[r][c])));
        num += trace.z.flat().filter((z) => beyond(z, low, high)).length;
      }
    }
    for (const trace of data.filter((one) => one.type === "parcoords")) {
      for (const axis of trace.dimensions.filter((one) => limits[one.label])) {
        const [low, high] = limits[axis.label];
        num += axis.values.filter((value) => beyond(value, low, high)).length;
        axis.range = [low, high];
        axis.values = axis.values.map((value) => Math.min(Math.max(value, low), high)); // at the end of the axis
      }
      return num ? `${num} values beyond the scale are at the ends of their axes.` : "";
    }
    const ranges = Object.fromEntries(["x", "y"].filter((way) => limits[way]).map((way) => [way, padded(limits[way], layout[`${way}axis`])]));
    for (const [way, range] of Object.entries(ranges)) layout[`${way}axis`].range = range;
    const edges = Object.keys(ranges).length ? data.filter(isMarked).map((trace) => atEdges(trace, ranges)).filter((trace) => trace.x.length) : [];
    data.push(...edges);
    num += edges.reduce((sum, trace) => sum + trace.x.length, 0);
    if (num) return `${num} beyond the scale, marked ▲ ▼ ◀ ▶.`;
    return Object.keys(limits).length ? "Some values lie beyond the scale." : "";
  }

  const beyond = (value, low, high) => value !== null && (value < low || value > high);

  // The points of a trace outside of `ranges`, as triangles at the edge.
  function atEdges(trace, ranges) {
    const edge = { ...structuredClone(trace), x: [], y: [], customdata: [], hovertext: [], text: undefined, mode: "markers", showlegend: false, hovertemplate: "%{hovertext}<extra></extra>" };
    for (const way of ["error_x", "error_y"]) delete edge[way];
    edge.marker.symbol = [];
    edge.marker.size = 11;
    trace.x.forEach((x, i) => {
      const y = trace.y[i];
      const [toX, toY] = [within(x, ranges.x), within(y, ranges.y)];
      if (toX === x && toY === y) return;
      edge.x.push(toX);
      edge.y.push(toY);
      edge.customdata.push(trace.customdata[i]);
      edge.hovertext.push(`${trace.hovertext?.[i] ?? ""}<br>${shown(x)}, ${shown(y)} (beyond the scale)`);
      edge.marker.symbol.push(toY < y ? "triangle-up" : toY > y ? "triangle-down" : toX < x ? "triangle-right" : "triangle-left");
    });
    return edge;
  }

  const shown = (value) => (typeof value === "number" ? value.toLocaleString("en", { maximumSignificantDigits: 6 }) : value);

  function within(value, range) {
    if (!range || typeof value !== "number") return value;
    const inset = 0.015 * (range[1] - range[0]);
    return value < range[0] ? range[0] + inset : value > range[1] ? range[1] - inset : value;
  }

  // Fade what the reader has not chosen.
  function faded(data) {
    if (!selection.isActive()) return data;
    for (const trace of data) {
      if (trace.type === "parcoords") {
        const kept = trace.customdata.flatMap((mark, i) => (selection.has(runOf(mark), "axes") ? [i] : []));
        for (const axis of [...trace.dimensions, trace.line]) axis[axis.values ? "values" : "color"] = kept.map((i) => (axis.values ?? axis.color)[i]);
        trace.customdata = kept.map((i) => trace.customdata[i]);
      } else if (trace.type === "heatmap") {
        const isShown = (r, c) => trace.customdata[r][c] !== null && selection.has(runOf(trace.customdata[r][c]));
        trace.z = trace.z.map((row, r) => row.map((z, c) => (isShown(r, c) ? z : null)));
        trace.text = trace.text?.map((row, r) => row.map((text, c) => (isShown(r, c) ? text : "")));
      } else if (Array.isArray(trace.customdata)) {
        trace.selectedpoints = trace.customdata.flatMap((mark, i) => (selection.has(runOf(mark)) ? [i] : []));
      } else if (trace.meta && !selection.has(trace.meta)) trace.opacity = FADED;
    }
    return data;
  }

  // The runs that pass the ranges marked on the axes of parallel coordinates; null if none is marked.
  function between(trace) {
    const marked = trace.dimensions.filter((axis) => axis.constraintrange);
    if (!marked.length) return null;
    const rangesOf = (axis) => (Array.isArray(axis.constraintrange[0]) ? axis.constraintrange : [axis.constraintrange]);
    const passes = (i) => marked.every((axis) => rangesOf(axis).some(([low, high]) => axis.values[i] >= low && axis.values[i] <= high));
    return trace.customdata.filter((_, i) => passes(i)).map(runOf);
  }

  // Curves as exponential moving averages, with the values themselves behind them.
  function smooth(view, weight) {
    if (!weight) return;
    view.data = view.data.flatMap((trace) => {
      if (!trace.meta || !trace.mode.startsWith("lines")) return [trace];
      let [sum, total] = [0, 0];
      const y = trace.y.map((value) => {
        if (value === null) return null;
        [sum, total] = [weight * sum + (1 - weight) * value, weight * total + (1 - weight)];
        return sum / total;
      });
      return [{ ...structuredClone(trace), opacity: 0.25, showlegend: false, hoverinfo: "skip", hovertemplate: undefined }, { ...trace, y }];
    });
  }

  // Curves by epoch or by hours; what belongs to no run of its own has steps only, and is left out.
  function follow(view, unit) {
    if (unit === "step") return;
    const at = (run, step) => {
      const { steps, [unit]: values } = DATA.clocks[run];
      if (steps.length < 2) return values[0];
      const later = steps.findIndex((s) => s >= step);
      const i = later < 0 ? steps.length - 1 : Math.max(1, later);
      return values[i - 1] + ((step - steps[i - 1]) / (steps[i] - steps[i - 1])) * (values[i] - values[i - 1]);
    };
    view.data = view.data.filter((trace) => trace.meta || trace.customdata);
    for (const trace of view.data) trace.x = trace.x.map((step, i) => at(trace.meta ?? trace.customdata[i], step));
    for (const trace of view.data) if (trace.hovertemplate) trace.hovertemplate = trace.hovertemplate.replace("%{x:,}", "%{x:,.3~f}");
    view.layout.xaxis.title.text = AXES[unit];
    view.layout.shapes = [];
  }

  return { runOf, clip, faded, between, smooth, follow };
})();
