"use strict";
// The table of points, sorted and filtered. It shows a page of rows at a time: thousands of cells are slow to lay out.

const PAGE_ROWS = 100;

const table = (() => {
  const byId = (id) => document.getElementById(`table-${id}`);
  const shown = document.getElementById("points-table");
  if (!shown) return { print() {} };
  const [head, body] = [shown.tHead, shown.tBodies[0]];
  const names = Object.keys(DATA.tables);
  let now = { name: names[0], sorted: null, falls: false, filters: new Map(), page: 0 };
  let isPrinted = false;

  const columns = () => DATA.tables[now.name].columns.filter((c) => c.is_shown || (byId("all").checked && !isPrinted));

  // "> -120" compares numbers, "=2" matches the whole text, and anything else matches part of the text.
  function test(column, wanted) {
    const [, sign, rest] = wanted.trim().match(/^(<=|>=|<|>|=)?\s*(.*)$/);
    const bound = Number(rest);
    if (!sign) return (row) => column.texts[row].toLowerCase().includes(rest.toLowerCase());
    if (!column.is_number || rest === "" || Number.isNaN(bound)) return (row) => rest === "" || column.texts[row] === rest;
    const holds = { "<": (a) => a < bound, ">": (a) => a > bound, "<=": (a) => a <= bound, ">=": (a) => a >= bound, "=": (a) => a === bound }[sign];
    return (row) => column.numbers[row] !== null && holds(column.numbers[row]);
  }

  function visibleRows() {
    const { runs, columns: all } = DATA.tables[now.name];
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const tests = all.filter((c) => now.filters.get(c.name)).map((c) => test(c, now.filters.get(c.name)));
    const rows = [...runs.keys()].filter(
      (row) => selection.has(runs[row], "table") && tests.every((holds) => holds(row)) && words.every((word) => all.some((c) => c.texts[row].toLowerCase().includes(word))),
    );
    const by = all.find((c) => c.name === now.sorted);
    if (!by) return rows;
    const sign = now.falls ? -1 : 1;
    const numbers = (a, b) => {
      const [x, y] = [by.numbers[a], by.numbers[b]];
      return x === null || y === null ? (x === null) - (y === null) : sign * (x - y); // missing values stay last
    };
    const texts = (a, b) => sign * by.texts[a].localeCompare(by.texts[b], "en", { numeric: true });
    return rows.sort(by.is_number ? numbers : texts);
  }

  const classOf = (column, row) => (column.is_number ? (column.best.includes(row) ? "number best" : "number") : "");

  function drawBody() {
    const { runs } = DATA.tables[now.name];
    const rows = visibleRows();
    const numPages = Math.max(1, Math.ceil(rows.length / PAGE_ROWS));
    now.page = Math.min(now.page, numPages - 1);
    const first = now.page * PAGE_ROWS;
    const onPage = isPrinted ? rows : rows.slice(first, first + PAGE_ROWS);
    body.replaceChildren(
      ...onPage.map((row) => {
        const link = element("a", { href: toRun(runs[row]), textContent: row + 1, title: runs[row] });
        const cells = columns().map((c) => element("td", { textContent: c.texts[row], className: classOf(c, row) }));
        return element("tr", {}, element("td", { className: "number" }, link), ...cells);
      }),
    );
    const part = numPages > 1 ? `, ${first + 1} to ${Math.min(first + PAGE_ROWS, rows.length)} shown` : "";
    byId("count").textContent = `${rows.length} of ${runs.length}${part}`;
    byId("previous").disabled = now.page === 0;
    byId("next").disabled = now.page === numPages - 1;
    byId("previous").parentElement.hidden = numPages === 1;
  }

  // Other parts of the page show the rows that pass the filters, too.
  function filter() {
    drawBody();
    const isFiltered = byId("search").value.trim() !== "" || [...now.filters.values()].some((wanted) => wanted.trim() !== "");
    selection.set("table", isFiltered ? visibleRows().map((row) => DATA.tables[now.name].runs[row]) : null);
  }

  // The rows of all pages, in the order shown.
  function asText() {
    const [all, rows] = [columns(), visibleRows()];
    return exported[byId("format").value]({
      names: all.map((c) => c.name),
      areNumbers: all.map((c) => c.is_number),
      rows: rows.map((row) => all.map((c) => c.texts[row])),
    });
  }

  function sortBy(column) {
    now.falls = now.sorted === column.name && !now.falls;
    now.sorted = column.name;
    for (const th of head.rows[0].cells) {
      th.ariaSort = th.dataset.column === column.name ? (now.falls ? "descending" : "ascending") : null;
    }
    drawBody();
  }

  function drawHead() {
    const headings = columns().map((column) => {
      const parts = column.name.split("/").flatMap((part, i) => (i ? ["/", element("br"), part] : [part]));
      const button = element("button", { type: "button", title: column.about ?? "", onclick: () => sortBy(column) }, ...parts);
      const th = element("th", { className: column.is_number ? "number" : "" }, button);
      th.dataset.column = column.name;
      if (column.name === now.sorted) th.ariaSort = now.falls ? "descending" : "ascending";
      return th;
    });
    const filters = columns().map((column) => {
      const input = element("input", { value: now.filters.get(column.name) ?? "", placeholder: "filter", ariaLabel: `filter ${column.name}` });
      input.oninput = () => {
        now.filters.set(column.name, input.value);
        filter();
      };
      return element("th", {}, input);
    });
    head.replaceChildren(element("tr", {}, element("th"), ...headings), element("tr", {}, element("th"), ...filters));
  }

  function draw() {
    drawHead();
    drawBody();
  }

  byId("name").append(...names.map((name) => element("option", { textContent: name })));
  byId("name").parentElement.hidden = names.length === 1;
  byId("name").onchange = () => {
    now = { ...now, name: byId("name").value, sorted: null, filters: new Map(), page: 0 };
    draw();
    filter();
  };
  byId("search").oninput = filter;
  selection.onChange((how) => {
    if (how === "clear") {
      now.filters.clear();
      byId("search").value = "";
      draw();
    } else if (how !== "table") drawBody();
  });
  byId("save").onclick = () => exported.save(`${document.title}.${byId("format").value}`, asText());
  byId("copy").onclick = () => {
    byId("said").textContent = exported.copy(asText()) ? "copied" : "this browser does not allow it; save it instead";
  };
  byId("all").onchange = draw;
  byId("previous").onclick = () => drawBody(now.page--);
  byId("next").onclick = () => drawBody(now.page++);
  draw();

  return {
    print(on) {
      isPrinted = on;
      draw();
    },
  };
})();
