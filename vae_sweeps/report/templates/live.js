"use strict";
// Only on the page that `vae-sweeps watch` serves: shows a newer page as soon as there is one, where the reader is.

(() => {
  const EVERY_MS = 3000;
  const KEPT = "vae-sweeps live";
  const bar = document.getElementById("live");
  const [text, button] = [bar.querySelector("span"), bar.querySelector("button")];
  const controls = () => [...document.querySelectorAll(".controls :is(select, input)")];
  const nameOf = (control) => control.id || `${control.dataset.figure} ${control.dataset.control}`;

  // The choices of a menu by their texts: a newer page may have more of them.
  function chosen(control) {
    if (control.type === "checkbox") return control.checked;
    return control.options ? control.selectedOptions[0]?.text : control.value;
  }

  function choose(control, wanted) {
    if (control.type === "checkbox") control.checked = wanted;
    else if (!control.options) control.value = wanted;
    else control.selectedIndex = Math.max(0, [...control.options].findIndex((option) => option.text === wanted));
    control.dispatchEvent(new Event(control.type === "search" ? "input" : "change"));
  }

  function keep() {
    const values = Object.fromEntries(controls().map((control) => [nameOf(control), chosen(control)]));
    sessionStorage.setItem(KEPT, JSON.stringify({ values, top: scrollY }));
  }

  function restore() {
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
    sessionStorage.removeItem(KEPT);
    if (!kept) return;
    for (const control of controls()) {
      const wanted = kept.values[nameOf(control)];
      if (wanted !== undefined && wanted !== chosen(control)) choose(control, wanted);
    }
    scrollTo({ top: kept.top, behavior: "instant" });
  }

  // A reload would close what the reader has open, and drop what is being typed.
  const isBusy = () =>
    document.querySelector("dialog[open]") !== null ||
    selection.isActive("table") || // a newer page keeps the search, but no box
    document.activeElement?.matches("input, select") ||
    [...document.querySelectorAll("thead input")].some((input) => input.value) ||
    String(getSelection()) !== "";

  function renew() {
    keep();
    location.reload();
  }

  async function look() {
    try {
      const answer = await fetch("version", { cache: "no-store" });
      const { version, counts } = await answer.json();
      text.textContent = counts;
      const isNew = version !== Number(bar.dataset.version);
      button.hidden = !isNew;
      if (isNew && !isBusy()) return renew();
    } catch {
      text.textContent = "no longer served: this is the last page";
      button.hidden = true;
    }
    setTimeout(look, EVERY_MS);
  }

  button.onclick = renew;
  restore();
  setTimeout(look, EVERY_MS);
})();
