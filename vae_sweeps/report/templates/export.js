"use strict";
// The table as a text for a paper, a document or a program: its visible rows and columns.

const exported = (() => {
  // Characters that mean something to LaTeX or Markdown.
  const LATEX = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$", "−": "$-$" };
  const latex = (text) => text.replace(/[\\~^±−]/g, (c) => LATEX[c]).replace(/(?<!\\)[&%#_]/g, "\\$&").replace(/^-(?=\d)/, "$-$");
  const markdown = (text) => text.replace(/[|\\`*_<]/g, "\\$&");
  const csv = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  return {
    csv: ({ names, rows }) => [names, ...rows].map((row) => `${row.map(csv).join(",")}\n`).join(""),
    md({ names, rows, areNumbers }) {
      const line = (cells) => `| ${cells.join(" | ")} |\n`;
      return [names.map(markdown), areNumbers.map((is) => (is ? "---:" : "---")), ...rows.map((row) => row.map(markdown))].map(line).join("");
    },
    tex({ names, rows, areNumbers }) {
      const line = (cells) => `  ${cells.map(latex).join(" & ")} \\\\\n`;
      const columns = areNumbers.map((is) => (is ? "r" : "l")).join("");
      return `% needs \\usepackage{booktabs}\n\\begin{tabular}{${columns}}\n  \\toprule\n${line(names)}  \\midrule\n${rows.map(line).join("")}  \\bottomrule\n\\end{tabular}\n`;
    },
    save(name, text) {
      const link = element("a", { href: URL.createObjectURL(new Blob([text], { type: "text/plain" })), download: name });
      link.click();
      URL.revokeObjectURL(link.href);
    },
    // Pages of files have no navigator.clipboard in all browsers.
    copy(text) {
      const area = element("textarea", { value: text, readOnly: true });
      document.body.append(area);
      area.select();
      const isCopied = document.execCommand("copy");
      area.remove();
      return isCopied;
    },
  };
})();
