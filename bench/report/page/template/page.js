"use strict";
(async () => {
  const byId = (id) => document.getElementById(id);
  const root = document.documentElement;

  // The address bar holds what a reader has chosen: a link shows another reader the same.
  const state = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  const remember = (key, value, usual) => {
    if (value === usual || value === "") state.delete(key); else state.set(key, value);
    history.replaceState(null, "", state.size ? `#${state}` : location.pathname + location.search);
  };
  const control = (id, usual, changed) => {
    const element = byId(id);
    if (!element) return usual;
    const isBox = element.type === "checkbox";
    const wanted = state.get(id);
    if (isBox) element.checked = wanted === null ? usual === "1" : wanted === "1";
    else if (wanted !== null && [...element.options].some((option) => option.value === wanted)) element.value = wanted;
    else element.value = usual;
    const read = () => (isBox ? (element.checked ? "1" : "0") : element.value);
    element.addEventListener("change", () => { remember(id, read(), usual); changed(read()); });
    changed(read());
    return read;
  };

  control("unit", document.body.dataset.unit ?? "evaluations", (unit) => { document.body.dataset.unit = unit; });
  const isDark = () => {
    const theme = root.dataset.theme;
    return theme === "dark" || (theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  };
  let redraw = () => {};
  control("theme", "auto", (theme) => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    root.classList.toggle("dark", isDark());
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    root.classList.toggle("dark", isDark());
    redraw();
  });

  // The table of all numbers: sorted, filtered and copied by DataTables.
  const cells = byId("cells");
  if (cells) {
    const source = new Blob([byId("tables-module").textContent], { type: "text/javascript" });
    const address = URL.createObjectURL(source);
    const { default: DataTable } = await import(address);
    URL.revokeObjectURL(address);
    const escaped = (text) => text.replace(/[\\{}$&#_%^~]/g, (c) => (
      { "\\": "\\textbackslash{}", "^": "\\textasciicircum{}", "~": "\\textasciitilde{}" }[c] ?? `\\${c}`));
    const quoted = (text) => {
      const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
      return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
    };
    const shown = (table) => [
      table.columns(":visible").header().toArray().map((th) => th.textContent.trim()),
      ...table.rows({ search: "applied", order: "applied" }).nodes().toArray().map((row) => (
        [...row.cells].map((cell) => cell.textContent.trim()))),
    ];
    const copy = (table, text) => {
      const put = document.createElement("textarea");
      put.value = text;
      document.body.append(put);
      put.select();
      document.execCommand("copy");
      put.remove();
    };
    const asCsv = (rows) => rows.map((row) => row.map(quoted).join(",")).join("\n");
    const asLatex = ([head, ...rows]) => [
      `\\begin{tabular}{${"l".repeat(head.length)}}`, "\\toprule", `${head.map(escaped).join(" & ")} \\\\`, "\\midrule",
      ...rows.map((row) => `${row.map(escaped).join(" & ")} \\\\`), "\\bottomrule", "\\end{tabular}"].join("\n");
    const [column, direction] = (state.get("sort") ?? "").split("-");
    const button = (text, made) => ({ text, action: (_event, table) => copy(table, made(shown(table))) });
    const table = new DataTable(cells, {
      autoWidth: false,
      paging: cells.tBodies[0].rows.length > 100,
      pageLength: 100,
      order: /^\d+$/.test(column) && column < cells.tHead.rows[0].cells.length ? [[Number(column), direction === "down" ? "desc" : "asc"]] : [],
      search: { search: state.get("find") ?? "" },
      layout: { topStart: { buttons: [button("Copy CSV", asCsv), button("Copy LaTeX", asLatex), "colvis"] }, topEnd: "search" },
      language: { search: "Find", emptyTable: "Nothing was measured." },
    });
    table.on("order", () => {
      const [first] = table.order();
      remember("sort", first && first[1] ? `${first[0]}-${first[1] === "desc" ? "down" : "up"}` : "", "");
    });
    table.on("search", () => remember("find", table.search(), ""));
  }

  // The charts.
  const colours = () => ({
    background: "transparent",
    view: { stroke: getComputedStyle(root).getPropertyValue("--line") },
    axis: { labelColor: "ink", titleColor: "ink", gridColor: "line", domainColor: "line", tickColor: "line" },
    legend: { labelColor: "ink", titleColor: "ink" },
    title: { color: "ink" },
    header: { labelColor: "ink", titleColor: "ink" },
  });
  const themed = () => {
    const style = getComputedStyle(root);
    const of = { ink: style.getPropertyValue("--ink").trim(), line: style.getPropertyValue("--line").trim() };
    return JSON.parse(JSON.stringify(colours()), (_, value) => of[value] ?? value);
  };
  const draw = (place, spec) => {
    const whole = { $schema: "https://vega.github.io/schema/vega-lite/v6.json", config: themed(), ...spec };
    return vegaEmbed(place, whole, { actions: false, renderer: "svg", tooltip: true, ast: false });
  };

  const trained = byId("curves-data");
  let redrawCurves = () => {};
  if (trained) {
    const { problems, styles } = JSON.parse(trained.textContent);
    const domain = Object.keys(styles);
    const scale = (key) => ({ field: "method", type: "nominal", title: null, scale: { domain, range: domain.map((name) => styles[name][key]) }, legend: { labelLimit: 260, symbolType: "stroke", symbolOpacity: 1, symbolStrokeWidth: 2, symbolSize: 300 } });
    const titles = Object.fromEntries([...byId("training-x").options].map((option) => [option.value, option.text]));
    let across = "evaluations";
    redrawCurves = () => {
      const panels = problems.map((problem, i) => {
        const points = problem.curves.flatMap((curve) => curve.median.map((median, k) => ({ estimator: curve.estimator, method: curve.method, x: curve[across][k], median, low: curve.low[k], high: curve.high[k] })));
        const values = points.filter((point) => point.x !== null && point.median !== null);
        const y = { type: "quantitative", title: `objective (${problem.better} is better)`, scale: { domain: problem.limits, clamp: true, zero: false } };
        const x = { field: "x", type: "quantitative", title: titles[across] };
        const opacity = (value) => ({ condition: { param: "trained", value }, value: value / 12 });
        return {
          title: { text: problem.title, anchor: "start", fontSize: 12, limit: 300 }, width: 320, height: 240,
          layer: [
            { data: { values: values.filter((point) => point.low !== null && point.high !== null) }, mark: { type: "area" }, encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" }, color: scale("colour"), detail: { field: "estimator" }, opacity: opacity(0.15) } },
            { data: { values }, params: i ? undefined : [{ name: "trained", select: { type: "point", fields: ["method"] }, bind: "legend" }], mark: { type: "line", point: { size: 18 } }, encoding: { x, y: { ...y, field: "median" }, color: scale("colour"), strokeDash: scale("dash"), detail: { field: "estimator" }, opacity: opacity(0.95), tooltip: [{ field: "estimator" }, { field: "x", title: titles[across], format: ".4g" }, { field: "median", format: ".4g" }, { field: "low", format: ".4g" }, { field: "high", format: ".4g" }] } },
          ],
        };
      });
      const columns = Math.max(1, Math.floor((byId("training").clientWidth - 200) / 400));
      draw("#curves", panels.length > 1 ? { concat: panels, columns, resolve: { scale: { color: "shared" } } } : panels[0]);
    };
    control("training-x", "evaluations", (chosen) => { across = chosen; redrawCurves(); });
  }

  const held = byId("data");
  if (!held) {
    redraw = redrawCurves;
    document.body.dataset.ready = "1";
    return;
  }
  const data = JSON.parse(held.textContent);
  const size = data.objective.length;
  const rows = Array.from({ length: size }, (_, i) => {
    const row = { objective: data.objective[i], estimator: data.estimator[i], method: data.method[i], state: data.state[i] };
    for (const [name, values] of Object.entries(data.columns)) row[name] = values[i];
    return row;
  });
  const objectives = [...new Set(data.objective)];
  const methods = Object.keys(data.styles);
  const number = (id) => ({ field: id, type: "quantitative" });

  const heat = () => {
    if (objectives.length < 2) return;
    const columns = objectives.slice(0, 60);
    const best = new Map();
    for (const row of rows) {
      if (!(row.variance > 0) || row.state !== "unbiased") continue;
      best.set(row.objective, Math.min(best.get(row.objective) ?? Infinity, row.variance));
    }
    const values = rows.filter((row) => row.variance > 0 && best.has(row.objective) && row.state !== "exact" && columns.includes(row.objective)).map((row) => (
      { objective: row.objective, estimator: row.estimator, ratio: row.variance / best.get(row.objective), state: row.state }));
    if (!values.length) return;
    const text = (v) => (v < 10 ? v.toPrecision(2) : v < 1e4 ? Math.round(v).toLocaleString("en") : v.toExponential(0));
    values.forEach((v) => { v.text = text(v.ratio) + (v.state === "biased" ? "*" : ""); v.pale = v.ratio < 100; });
    draw("#heat", {
      title: { text: "Variance relative to the best unbiased estimator of each column (1 = best)", subtitle: `*: biased. Cost is not included.${objectives.length > columns.length ? ` The first ${columns.length} of ${objectives.length} objectives.` : ""}`, anchor: "start", subtitleColor: themed().title.color },
      data: { values },
      width: { step: 58 }, height: { step: 22 },
      encoding: {
        x: { field: "objective", type: "nominal", sort: columns, title: null, axis: { labelAngle: -38, labelLimit: 220, orient: "top" } },
        y: { field: "estimator", type: "nominal", sort: [...new Set(data.estimator)], title: null, axis: { labelLimit: 320 } },
        tooltip: [{ field: "objective" }, { field: "estimator" }, { field: "ratio", format: ".3g", title: "times the best variance" }, { field: "state" }],
      },
      layer: [
        { mark: "rect", encoding: { color: { field: "ratio", type: "quantitative", scale: { type: "log", domain: [1, 1e4], clamp: true, scheme: "cividis", reverse: true }, legend: { title: "times", format: "~s" } } } },
        { mark: { type: "text", fontSize: 10 }, encoding: { text: { field: "text" }, color: { condition: { test: "datum.pale", value: "#1a1a1a" }, value: "#ffffff" } } },
      ],
    });
  };

  const fill = (id, entries) => {
    byId(id).replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
  };
  fill("chart-objective", [["", "all"], ...objectives.map((name) => [name, name])]);
  fill("x", Object.entries(data.axes));
  fill("y", Object.entries(data.axes));
  const axes = Object.keys(data.axes);
  const usual = (...names) => names.find((name) => axes.includes(name)) ?? axes[0];
  const chosen = {};
  let ready = false;
  const explorer = () => {
    if (!ready || !axes.length) return;
    const [x, y] = [chosen.x(), chosen.y()];
    const on = { x: chosen["x-log"]() === "1", y: chosen["y-log"]() === "1" };
    const only = chosen["chart-objective"]();
    const fits = (row, name, log) => row[name] !== null && row[name] !== undefined && (!log || row[name] > 0);
    const mine = rows.filter((row) => !only || row.objective === only);
    const values = mine.filter((row) => fits(row, x, on.x) && fits(row, y, on.y));
    const absent = mine.filter((row) => fits(row, x, on.x) && !fits(row, y, on.y));
    const panels = [...new Set(mine.map((row) => row.objective))];
    const many = panels.length > 1;
    const domain = methods.filter((name) => values.some((row) => row.method === name) || absent.some((row) => row.method === name));
    const look = (key) => ({ field: "method", type: "nominal", title: null, scale: { domain, range: domain.map((name) => data.styles[name][key]) }, legend: { symbolLimit: 80, labelLimit: 260, columns: domain.length > 24 ? 2 : 1 } });
    const axis = (name, log) => ({ field: name, type: "quantitative", title: data.axes[name], scale: log ? { type: "log" } : { type: "linear", zero: false }, axis: { format: "~g", labelOverlap: true } });
    const opacity = { condition: { param: "method", value: 0.9 }, value: 0.06 };
    const hover = [{ field: "estimator" }, { field: "objective" }, { ...number(x), title: data.axes[x], format: ".4g" }, { ...number(y), title: data.axes[y], format: ".4g" }, { field: "state" }];
    const bars = values.filter((row) => row[`${y}_low`] !== undefined && row[`${y}_low`] !== null && (!on.y || row[`${y}_low`] > 0) && row[`${y}_high`] !== null);
    const lines = x === "n" || x === "dim" || x.includes(".");
    const layer = [
      { data: { values: bars }, mark: { type: "rule", strokeWidth: 1.5 }, encoding: { x: axis(x, on.x), y: { ...axis(y, on.y), field: `${y}_low` }, y2: { field: `${y}_high` }, color: look("colour"), opacity } },
      { data: { values: absent }, mark: { type: "tick", orient: "vertical", thickness: 2, size: 9, y: "height" }, encoding: { x: axis(x, on.x), color: look("colour"), opacity, tooltip: hover } },
      { data: { values: values.filter((row) => row.state !== "biased") }, params: [{ name: "method", select: { type: "point", fields: ["method"] }, bind: "legend" }], mark: { type: "point", filled: true, size: 70 }, encoding: { x: axis(x, on.x), y: axis(y, on.y), color: look("colour"), shape: look("shape"), opacity, tooltip: hover } },
      { data: { values: values.filter((row) => row.state === "biased") }, mark: { type: "point", filled: false, size: 70, strokeWidth: 1.6 }, encoding: { x: axis(x, on.x), y: axis(y, on.y), color: look("colour"), shape: look("shape"), opacity, tooltip: hover } },
    ];
    if (lines) {
      const part = (row) => row.estimator.replace(/(?<=[:,])(n|dim)=[^,]*,?/, "");
      layer.unshift({ data: { values: values.map((row) => ({ ...row, line: x === "n" ? part(row) : row.method })) }, mark: { type: "line", strokeWidth: 1.2 }, encoding: { x: axis(x, on.x), y: axis(y, on.y), color: look("colour"), detail: { field: "line" }, opacity } });
    }
    if (!values.length) {
      byId("explorer").textContent = "No cell has both numbers.";
      return;
    }
    const panel = (name) => ({
      title: many ? { text: name, anchor: "start", fontSize: 12, limit: 300 } : undefined,
      width: many ? 300 : Math.min(760, Math.max(280, byId("charts").clientWidth - 320)),
      height: many ? 220 : 440,
      layer: layer.map((each, i) => ({
        ...each,
        params: name === panels[0] ? each.params : undefined,
        data: { values: each.data.values.filter((row) => row.objective === name) },
      })).filter((each) => each.data.values.length),
    });
    const shownPanels = panels.slice(0, 24).map(panel).filter((each) => each.layer.length);
    if (shownPanels.length && !shownPanels.some((each) => each.layer.some((l) => l.params))) {
      shownPanels[0].layer.at(-1).params = layer.find((each) => each.params).params;
    }
    const spec = many ? { concat: shownPanels, columns: Math.max(1, Math.floor((byId("charts").clientWidth - 200) / 370)), resolve: { scale: { color: "shared", shape: "shared" } } } : shownPanels[0];
    draw("#explorer", spec);
  };
  const alone = objectives.length > 12 ? objectives[0] : "";
  chosen["chart-objective"] = control("chart-objective", alone, explorer);
  chosen.x = control("x", usual("evals", "n", "seconds"), explorer);
  chosen.y = control("y", usual("variance", "mse"), explorer);
  chosen["x-log"] = control("x-log", "1", explorer);
  chosen["y-log"] = control("y-log", "1", explorer);
  ready = true;
  redraw = () => { heat(); explorer(); redrawCurves(); };
  heat();
  explorer();
  document.body.dataset.ready = "1";
})();
