"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
const toRun = (run) => `#run/${encodeURIComponent(run)}`;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// The points that the reader has chosen by a box, a lasso, an axis or the table's filters; all parts of the page follow.

const selection = (() => {
  const chosen = new Map(); // how -> the first runs of the chosen groups of seeds
  const followers = [];
  const firstOf = (run) => DATA.groups[run] ?? run;
  const note = document.getElementById("selection");

  function tell(how) {
    const num = DATA.first_runs.filter((run) => has(run)).length;
    note.hidden = chosen.size === 0;
    note.querySelector("span").textContent = `${num} of ${DATA.first_runs.length} chosen`;
    followers.forEach((follow) => follow(how));
  }

  // Whether a run is chosen, by all means but `except`.
  function has(run, except = null) {
    return [...chosen].every(([how, runs]) => how === except || runs.has(firstOf(run)));
  }

  function set(how, runs) {
    if (runs === null && !chosen.has(how)) return;
    if (runs === null) chosen.delete(how);
    else chosen.set(how, new Set(runs.map(firstOf)));
    tell(how);
  }

  note.querySelector("button").onclick = () => {
    chosen.clear();
    tell("clear");
  };
  return { has, set, isActive: (except = null) => [...chosen.keys()].some((how) => how !== except), onChange: (follow) => followers.push(follow) };
})();
