"use strict";
// Show the samples of each point in the mosaic, and all content of one point at #run/<its folder's name>.

const points = (() => {
  const byId = (id) => document.getElementById(`point-${id}`);
  const dialog = document.getElementById("point");
  const blocks = new Map([...document.querySelectorAll("script.point")].map((block) => [block.dataset.run, block]));
  const read = (run) => (blocks.has(run) ? JSON.parse(blocks.get(run).textContent) : plain(run)); // on demand: pictures are large
  const rowOf = (run) => DATA.tables.points.runs.indexOf(run);
  let cameFromHere = false;

  // A point of which the page has the columns alone, because there are too many points.
  function plain(run) {
    const text = (name) => DATA.tables.points.columns.find((c) => c.name === name).texts[rowOf(run)];
    return { run, label: run, state: text("status"), reason: "", seeds: [], failure: "", images: {}, epoch: null, left_out: [], curves: [], kl: [] };
  }

  function showSamples(link) {
    const { images, label, state } = read(link.dataset.samples);
    if (!images.samples) return;
    const words = state === "done" ? [] : [element("span", { textContent: state })];
    link.replaceChildren(element("img", { src: images.samples, alt: `samples of ${label}` }), ...words);
  }

  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        watcher.unobserve(target);
        showSamples(target);
      }
    },
    { rootMargin: "600px" },
  );
  const links = [...document.querySelectorAll("[data-samples]")];
  links.forEach((link) => watcher.observe(link));
  addEventListener("beforeprint", () => links.filter((link) => !link.querySelector("img")).forEach(showSamples));

  function drawIn(place, traces, layout) {
    place.parentElement.hidden = traces.length === 0;
    if (traces.length) figures.draw(place, traces, layout);
    else figures.clear(place);
  }

  function fill(point) {
    byId("label").textContent = point.label;
    byId("state").textContent = [point.state, point.reason].filter(Boolean).join(": ");
    const seeds = point.seeds.flatMap(({ run, seed }) => [" ", element("a", { href: toRun(run), textContent: seed })]);
    byId("seeds").replaceChildren(...(seeds.length ? ["Other seeds:", ...seeds] : []));
    byId("failure").textContent = point.failure;
    const when = point.epoch === null ? "" : ` (epoch ${point.epoch})`;
    byId("pictures").replaceChildren(
      ...Object.entries(point.images).map(([name, src]) => {
        const title = name.replaceAll("_", " ") + when;
        return element("figure", {}, element("img", { src, alt: title }), element("figcaption", { textContent: title }));
      }),
    );
    const noPictures = Object.keys(point.images).length ? "" : (!blocks.has(point.run) && `${DATA.not_shown} `) || "No pictures yet. ";
    const leftOut = point.left_out.length ? `Omitted to limit the size of this file: ${point.left_out.join(", ").replaceAll("_", " ")}. ` : "";
    byId("left-out").textContent = `${noPictures}${leftOut}Folder: ${DATA.runs_folder}/${point.run}`;
    const row = rowOf(point.run);
    byId("values").replaceChildren(
      ...DATA.tables.points.columns.flatMap((c) => [element("dt", { textContent: c.name }), element("dd", { textContent: c.texts[row] })]),
    );
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    drawIn(byId("curves"), point.curves, DATA.point_layouts.curves);
    drawIn(byId("kl"), point.kl, DATA.point_layouts.kl);
  }

  function follow() {
    const run = location.hash.startsWith("#run/") ? decodeURIComponent(location.hash.slice(5)) : null;
    if (run !== null && rowOf(run) >= 0) fill(read(run));
    else if (dialog.open) dialog.close();
  }

  // Go back if that stays on this page: the browser then restores the scroll position.
  function leave() {
    if (cameFromHere) history.back();
    else location.hash = "";
  }

  byId("close").onclick = leave;
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    leave();
  });
  addEventListener("hashchange", () => {
    cameFromHere = true;
    follow();
  });
  follow();
})();
