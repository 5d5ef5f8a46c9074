"use strict";
// Mark, in the list of sections, the one that the reader sees.

(() => {
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const sections = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  const seen = new Set();

  function mark() {
    const now = sections.find((section) => seen.has(section));
    for (const [id, link] of links) link.ariaCurrent = id === now?.id ? "location" : null;
    const list = links.get(now?.id)?.parentElement;
    if (list) list.scrollLeft = links.get(now.id).offsetLeft - list.offsetLeft - 40; // the list may be wider than the screen
  }

  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) isIntersecting ? seen.add(target) : seen.delete(target);
      mark();
    },
    { rootMargin: "-60px 0px -50% 0px" }, // the part of the window below the list, down to its middle
  );
  sections.forEach((section) => watcher.observe(section));
})();
