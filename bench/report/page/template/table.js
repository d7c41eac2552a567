// What a cell of the map says, in words.
byId("heat")?.addEventListener("mouseover", ({ target }) => {
  const cell = target.closest("tbody td");
  if (!cell || cell.title || !cell.textContent) return;
  const [number, ...means] = [...cell.childNodes].map((part) => part.textContent.trim());
  const said = { 0: cell.classList.contains("exact") ? "exact" : "constant so far", "–": "not applicable", "×": "failed" }[number] ?? `${number} times the best variance`;
  const column = cell.closest("table").tHead.rows[0].cells[cell.cellIndex].textContent;
  cell.title = `${cell.parentElement.cells[0].textContent} on ${column}: ${[said, ...means].join(", ")}`;
});

// The table of all numbers: sorted, filtered and copied by DataTables.
const cells = byId("cells");
if (cells) {
  const source = new Blob([byId("tables-module").textContent], { type: "text/javascript" });
  const address = URL.createObjectURL(source);
  const { default: DataTable } = await import(address);
  URL.revokeObjectURL(address);
  const latex = JSON.parse(byId("latex").textContent);
  const escaped = (text) => (/^[[*]/.test(text) ? "{}" : "") + [...text].map((c) => latex[c] ?? c).join("");
  const quoted = (text) => {
    const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const shown = (table) => [
    table.columns(":visible").header().toArray().map((th) => th.textContent.trim()),
    ...table.rows({ search: "applied", order: "applied" }).nodes().toArray().map((row) => (
      [...row.cells].map((cell) => cell.textContent.trim()))),
  ];
  const copy = (text) => {
    const put = document.createElement("textarea");
    put.value = text;
    document.body.append(put);
    put.select();
    document.execCommand("copy");
    put.remove();
  };
  const asCsv = (rows) => rows.map((row) => row.map(quoted).join(",")).join("\n");
  const isLabel = (table) => table.columns(":visible").header().toArray().map((th) => th.classList.contains("label"));
  const asLatex = ([head, ...rows], table) => [
    `\\begin{tabular}{${isLabel(table).map((left) => (left ? "l" : "r")).join("")}}`, "\\toprule", `${head.map(escaped).join(" & ")} \\\\`, "\\midrule",
    ...rows.map((row) => `${row.map(escaped).join(" & ")} \\\\`), "\\bottomrule", "\\end{tabular}"].join("\n");
  const [column, direction] = (state.get("sort") ?? "").split("-");
  const button = (text, made) => ({
    text,
    action: (event, table) => {
      copy(made(shown(table), table));
      const label = event.currentTarget.querySelector("span") ?? event.currentTarget;
      label.textContent = "Copied";
      byId("said").textContent = `${table.rows({ search: "applied" }).count()} rows were copied.`;
      setTimeout(() => { label.textContent = text; }, 1500);
    },
  });
  const table = new DataTable(cells, {
    autoWidth: false,
    paging: cells.tBodies[0].rows.length > 100,
    pageLength: 100,
    order: /^\d+$/.test(column) && column < cells.tHead.rows[0].cells.length ? [[Number(column), direction === "down" ? "desc" : "asc"]] : [],
    search: { search: state.get("find") ?? "" },
    layout: { topStart: { buttons: [button("Copy CSV", asCsv), button("Copy LaTeX", asLatex), "colvis"] }, topEnd: "search" },
    language: { search: "Find", emptyTable: "Nothing was measured." },
  });
  for (const place of state.getAll("without")) {
    if (/^\d+$/.test(place) && place < cells.tHead.rows[0].cells.length) table.column(Number(place)).visible(false);
  }
  table.on("column-visibility", () => {
    state.delete("without");
    table.columns().visible().toArray().forEach((visible, i) => visible || state.append("without", i));
    show();
  });
  table.on("order", () => {
    const [first] = table.order();
    remember("sort", first && first[1] ? `${first[0]}-${first[1] === "desc" ? "down" : "up"}` : "", "");
  });
  table.on("search", () => remember("find", table.search(), ""));
}
