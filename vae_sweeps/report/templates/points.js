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
    return { run, label: run, state: text("status"), reason: "", seeds: [], num_more_seeds: 0, failure: "", images: {}, earlier: {}, epoch: null, left_out: [], curves: [], kl: [], recipe: null };
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
  selection.onChange(() => links.forEach((link) => link.classList.toggle("faded", !selection.has(link.dataset.samples))));
  addEventListener("beforeprint", () => links.filter((link) => !link.querySelector("img")).forEach(showSamples));

  function drawIn(place, traces, layout) {
    place.parentElement.hidden = traces.length === 0;
    if (traces.length) figures.draw(place, traces, layout);
    else figures.clear(place);
  }

  // What is empty is left out; what all points share stands at the top of the page.
  function showRecipe(recipe) {
    const place = byId("recipe");
    place.hidden = recipe === null;
    if (recipe === null) return;
    const code = (text) => element("code", { textContent: text });
    const settings = Object.entries(recipe.config).flatMap(([key, value]) => [code(`${key}=${value}`), element("br")]);
    const lines = [
      ...(recipe.command ? [["command", [code(recipe.command)]]] : []),
      ...(settings.length ? [["config", settings]] : []),
      ...Object.entries(recipe.about),
    ];
    place.querySelector("dl").replaceChildren(
      ...lines.flatMap(([name, content]) => [element("dt", { textContent: name }), element("dd", {}, ...[content].flat())]),
    );
    byId("diff").hidden = recipe.diff === null;
    byId("diff").open = false;
    byId("diff").querySelector("pre").textContent = recipe.diff === null ? "" : DATA.diffs[recipe.diff];
  }

  // What shows the samples as they were earlier in training, if there are any.
  function slider({ earlier, images }, image, caption) {
    const shown = [...Object.entries(earlier).map(([at, src]) => [`samples (epoch ${at})`, src]), [caption.textContent, images.samples]];
    if (shown.length === 1) return [];
    const max = shown.length - 1;
    const control = element("input", { type: "range", max, value: max, ariaLabel: "samples during training" });
    control.oninput = () => {
      [image.alt, image.src] = shown[control.value];
      caption.textContent = image.alt;
    };
    return [control];
  }

  function fill(point) {
    byId("label").textContent = point.label;
    byId("state").textContent = [point.state, point.reason].filter(Boolean).join(": ");
    const seeds = point.seeds.flatMap(({ run, seed }) => [" ", element("a", { href: toRun(run), textContent: seed })]);
    const more = point.num_more_seeds ? [` and ${point.num_more_seeds} more`] : [];
    byId("seeds").replaceChildren(...(seeds.length ? ["Other seeds:", ...seeds, ...more] : []));
    byId("failure").textContent = point.failure;
    const when = point.epoch === null ? "" : ` (epoch ${point.epoch})`;
    byId("pictures").replaceChildren(
      ...Object.entries(point.images).map(([name, src]) => {
        const title = name.replaceAll("_", " ") + when;
        const [image, caption] = [element("img", { src, alt: title }), element("figcaption", { textContent: title })];
        return element("figure", {}, image, caption, ...(name === "samples" ? slider(point, image, caption) : []));
      }),
    );
    const noPictures = Object.keys(point.images).length ? "" : (!blocks.has(point.run) && `${DATA.not_shown} `) || "No pictures yet. ";
    const leftOut = point.left_out.length ? `Omitted to limit the size of this file: ${point.left_out.join(", ").replaceAll("_", " ")}. ` : "";
    byId("left-out").textContent = `${noPictures}${leftOut}Folder: ${DATA.runs_folder}/${point.run}`;
    showRecipe(point.recipe);
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
