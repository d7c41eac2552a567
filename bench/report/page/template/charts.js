// The charts: the explorer, whose axes are chosen, and the curves of training. One legend of buttons for each.
const cssOf = (name) => getComputedStyle(root).getPropertyValue(name).trim();
const pending = [];
const draw = (place, spec) => {
  const [ink, line] = [cssOf("--ink"), cssOf("--line")];
  const config = {
    background: "transparent",
    view: { stroke: line },
    axis: { labelColor: ink, titleColor: ink, gridColor: line, domainColor: line, tickColor: line, titleFontWeight: "normal" },
    title: { color: ink, anchor: "start", fontSize: 12, limit: 320 },
  };
  pending.push(vegaEmbed(place, { $schema: "https://vega.github.io/schema/vega-lite/v6.json", config, ...spec }, {
    actions: false, renderer: "svg", tooltip: { theme: isDark() ? "dark" : "light" }, ast: false }));
};
const paths = {
  circle: "M1,0A1,1,0,1,1,-1,0A1,1,0,1,1,1,0Z", square: "M-.9,-.9H.9V.9H-.9Z", diamond: "M0,-1L1,0L0,1L-1,0Z",
  cross: "M-.4,-1H.4V-.4H1V.4H.4V1H-.4V.4H-1V-.4H-.4Z", "triangle-up": "M0,-1L1,.8H-1Z", "triangle-down": "M0,1L1,-.8H-1Z",
  "triangle-left": "M-1,0L.8,-1V1Z", "triangle-right": "M1,0L-.8,-1V1Z",
};
const svg = (name, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};

// Which estimators are hidden, in all charts.
const hidden = new Set(state.getAll("hide"));
const hide = (names) => {
  hidden.clear();
  names.forEach((name) => hidden.add(name));
  state.delete("hide");
  hidden.forEach((name) => state.append("hide", name));
  show();
  redraw();
};
const legend = (place, styles, hasLines) => {
  const names = Object.keys(styles);
  const buttons = names.map((name) => {
    const button = document.createElement("button");
    const sign = svg("svg", hasLines ? { viewBox: "0 0 24 12", width: 24, height: 12 } : { viewBox: "-1.3 -1.3 2.6 2.6", width: 14, height: 14 });
    const { colour, dash, shape } = styles[name];
    sign.append(hasLines ? svg("line", { x1: 0, x2: 24, y1: 6, y2: 6, stroke: colour, "stroke-width": 2, "stroke-dasharray": dash[1] ? dash.join(" ") : "none" })
      : svg("path", { d: paths[shape] ?? shape, fill: colour }));
    button.append(sign, name);
    button.type = "button";
    button.addEventListener("click", (event) => {
      const others = names.filter((other) => other !== name);
      if (event.shiftKey) hide(others.every((other) => hidden.has(other)) ? [] : others);
      else hide(hidden.has(name) ? [...hidden].filter((other) => other !== name) : [...hidden, name]);
    });
    return button;
  });
  const all = document.createElement("button");
  all.textContent = "Show all";
  all.type = "button";
  all.addEventListener("click", () => hide([]));
  byId(place).replaceChildren(...buttons, all);
  return (shown = names) => {
    buttons.forEach((button, i) => {
      button.setAttribute("aria-pressed", String(!hidden.has(names[i])));
      button.hidden = !shown.includes(names[i]);
    });
    all.hidden = !names.some((name) => hidden.has(name));
  };
};
const looks = (styles, names) => (key) => ({ field: "method", type: "nominal", legend: null, scale: { domain: names, range: names.map((name) => styles[name][key]) } });
const columnsOf = (place, least, labels = 85) => {
  const width = byId(place).clientWidth;
  const columns = Math.max(1, Math.floor(width / least));
  return { columns, width: Math.max(120, Math.floor(width / columns) - labels) };
};
const several = (panels, columns) => (panels.length > 1 ? { concat: panels, columns, spacing: 18 } : panels[0]);
const labelExpr = "datum.value != 0 && (abs(datum.value) >= 1e5 || abs(datum.value) < 1e-3) ? format(datum.value, '.2~e') : format(datum.value, ',.3~f')";

const trained = byId("curves-data");
let redrawCurves = () => {};
if (trained) {
  const { problems, styles } = JSON.parse(trained.textContent);
  const names = Object.keys(styles);
  const pressed = legend("curves-legend", styles, true);
  const look = looks(styles, names);
  const titles = Object.fromEntries([...byId("training-x").options].map((option) => [option.value, option.text]));
  let across = "evaluations";
  redrawCurves = () => {
    pressed();
    const { columns, width } = columnsOf("training", 400);
    const panels = problems.map((problem) => {
      const points = problem.curves.filter((curve) => !hidden.has(curve.method)).flatMap((curve) => curve.median.map((median, k) => (
        { estimator: curve.estimator, method: curve.method, x: curve[across][k], median, low: curve.low[k], high: curve.high[k], last: k === curve.median.length - 1, part: curve.part })));
      const values = points.filter((point) => point.x !== null && point.median !== null);
      const y = { type: "quantitative", title: `objective (${problem.better} is better)`, scale: { domain: problem.limits, clamp: true, zero: false }, axis: { labelExpr } };
      const x = { field: "x", type: "quantitative", title: titles[across], axis: { labelExpr, labelOverlap: true, labelFlush: false } };
      const tooltip = [{ field: "estimator" }, { field: "x", title: titles[across], format: ".4~g" }, ...["median", "low", "high"].map((field) => ({ field, format: ".4~g" }))];
      const both = { color: look("colour"), detail: { field: "estimator" } };
      return {
        title: problem.title, width: Math.min(width, 620), height: 240,
        layer: [
          { data: { values: values.filter((point) => point.low !== null && point.high !== null) }, mark: { type: "area", opacity: 0.15 }, encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" }, ...both } },
          { data: { values }, mark: { type: "line", point: { size: 18 } }, encoding: { x, y: { ...y, field: "median" }, strokeDash: look("dash"), tooltip, ...both } },
          { data: { values: values.filter((point) => point.last && point.part) }, mark: { type: "text", align: "right", dx: -2, dy: -7, fontSize: 10, limit: 170 }, encoding: { x, y: { ...y, field: "median" }, text: { field: "part" }, ...both } },
        ].filter((each) => each.data.values.length),
      };
    });
    const filled = panels.filter((panel) => panel.layer.length);
    if (filled.length) draw("#curves", several(filled, columns));
    else byId("curves").textContent = "All curves are hidden.";
  };
  control("training-x", "evaluations", (chosen) => { across = chosen; redrawCurves(); });
}
redraw = redrawCurves;

const held = byId("data");
if (held) {
  const data = JSON.parse(held.textContent);
  const rows = data.objective.map((objective, i) => ({
    objective, estimator: data.estimator[i], method: data.method[i], state: data.state[i],
    ...Object.fromEntries(Object.entries(data.columns).map(([name, values]) => [name, values[i]])),
  }));
  const objectives = [...new Set(data.objective)];
  const methods = Object.keys(data.styles);
  data.axes = { estimator: "names of estimators", ...data.axes };
  const axes = Object.keys(data.axes);
  const pressed = legend("legend", data.styles, false);

  // An axis: its ends, and numbers that a reader can read on it.
  const axisOf = (field, title, log, values, isAcross) => {
    if (!log || !values.length) return { field, type: "quantitative", title, scale: { zero: false, padding: 12 }, axis: { labelExpr, labelOverlap: true } };
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = low === high ? 2 : (high / low) ** 0.07;
    const domain = [low / room, high * room];
    const decades = Math.log10(domain[1] / domain[0]);
    const distinct = [...new Set(values)].sort((a, b) => a - b);
    const first = Math.floor(Math.log10(domain[0]));
    const powers = Array.from({ length: Math.ceil(decades) + 2 }, (_, i) => Number(`1e${first + i}`));
    const step = Math.ceil(decades / 6);
    const marks = isAcross && distinct.length <= 6 ? distinct
      : decades < 0.5 ? powers.flatMap((p) => [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9].map((m) => m * p))
        : decades < 2 ? powers.flatMap((p) => [p, 2 * p, 5 * p])
          : powers.filter((_, i) => (first + i) % step === 0);
    const inside = marks.filter((v) => v >= domain[0] && v <= domain[1]);
    return { field, type: "quantitative", title, scale: { type: "log", domain, nice: false }, axis: { values: inside.length > 1 || isAcross ? inside : [low, high], labelExpr, labelOverlap: "greedy", labelSeparation: 3 } };
  };
  // Markers that would cover each other stand side by side: the pixels by which each is moved.
  const aside = (values, log, height) => {
    const place = (row) => (log ? Math.log(row.y) : row.y);
    const [low, high] = [Math.min(...values.map(place)), Math.max(...values.map(place))];
    const pixels = (row) => (high > low ? ((place(row) - low) / (high - low)) * height * 0.86 : 0);
    const groups = new Map();
    values.forEach((row) => groups.set(row.x, [...(groups.get(row.x) ?? []), row]));
    for (const group of groups.values()) {
      group.sort((a, b) => place(a) - place(b));
      let run = [];
      const settle = () => run.forEach((row, k) => { row.shift = 9 * (k - (run.length - 1) / 2); });
      group.forEach((row) => {
        if (run.length && pixels(row) - pixels(run.at(-1)) > 8) { settle(); run = []; }
        run.push(row);
      });
      settle();
    }
  };

  const fill = (id, entries) => byId(id).replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
  fill("chart-objective", [["", objectives.length > 24 ? "the first 24" : "all"], ...objectives.map((name) => [name, name])]);
  fill("x", Object.entries(data.axes));
  fill("y", Object.entries(data.axes).filter(([name]) => name !== "estimator"));
  const usual = (...names) => names.find((name) => axes.includes(name)) ?? axes.at(-1);
  const chosen = {};
  let isReady = false;
  const explorer = () => {
    if (!isReady || axes.length < 2) return;
    const [x, y] = [chosen.x(), chosen.y()];
    const log = { x: chosen["x-log"]() === "1", y: chosen["y-log"]() === "1" };
    const only = chosen["chart-objective"]();
    pressed(methods.filter((name) => rows.some((row) => row.method === name && (!only || row.objective === only))));
    const fits = (row, name, isLog) => row[name] !== null && row[name] !== undefined && (!isLog || row[name] > 0);
    const isNamed = x === "estimator";
    const mine = rows.filter((row) => (!only || row.objective === only) && !hidden.has(row.method) && (isNamed || fits(row, x, log.x)))
      .map((row) => ({ ...row, x: row[x], y: row[y], low: row[`${y}_low`], high: row[`${y}_high`], shift: 0, line: x === "n" ? row.estimator.replace(/(?<=[:,])n=[^,]*,?/, "") : row.method }));
    const look = looks(data.styles, methods);
    const panelNames = only ? [only] : objectives;
    const labels = panelNames.length === 1 && byId("charts").clientWidth > 900 ? 400 : 210;
    const shift = { expr: "datum.shift" };
    const names = (all) => ({ field: "estimator", type: "nominal", title: null, scale: { domain: [...new Set(all.map((row) => row.estimator))] }, axis: { labelLimit: labels, grid: true } });
    const panel = (name, width, height) => {
      const all = mine.filter((row) => row.objective === name);
      const values = all.filter((row) => fits(row, "y", log.y));
      if (!values.length) return null;
      const absent = all.filter((row) => !fits(row, "y", log.y));
      const bars = values.filter((row) => row.low != null && (!log.y || row.low > 0) && row.high != null);
      if (!isNamed) aside(values, log.y, height);
      // With names, the chart lies on its side: they are the rows, and the number is across.
      const xs = isNamed ? names(all) : axisOf("x", data.axes[x], log.x, all.map((row) => row.x), true);
      const ys = axisOf("y", data.axes[y], log.y, [...values.map((row) => row.y), ...bars.flatMap((row) => [row.low, row.high])], false);
      const numbers = [["x", x], ["y", y]].filter(([, name]) => name !== "estimator").map(([field, name]) => ({ field, title: data.axes[name], format: ".4~g" }));
      const tooltip = [{ field: "estimator" }, { field: "objective" }, ...numbers, { field: "state" }];
      const [across, up] = isNamed ? ["y", "x"] : ["x", "y"];
      const place = { [across]: xs, [up]: ys };
      const bar = { [across]: xs, [up]: { ...ys, field: "low" }, [`${up}2`]: { field: "high" } };
      const edge = isNamed ? { orient: "horizontal", x: 0 } : { orient: "vertical", y: "height" };
      const point = { ...place, color: look("colour"), shape: look("shape"), tooltip };
      const hasLines = x === "n" || x === "dim" || x.includes(".");
      return {
        title: only || objectives.length === 1 ? undefined : name, width, height: isNamed ? { step: 20 } : height,
        layer: [
          { data: { values: hasLines ? values : [] }, mark: { type: "line", strokeWidth: 1.2 }, encoding: { x: xs, y: ys, color: look("colour"), detail: { field: "line" } } },
          { data: { values: bars }, mark: { type: "rule", strokeWidth: 1.5, xOffset: shift }, encoding: { ...bar, color: look("colour") } },
          { data: { values: absent }, mark: { type: "tick", thickness: 2, size: 9, ...edge }, encoding: { [across]: xs, color: look("colour"), tooltip } },
          { data: { values: values.filter((row) => row.state !== "biased") }, mark: { type: "point", filled: true, size: 75, opacity: 0.9, xOffset: shift }, encoding: point },
          { data: { values: values.filter((row) => row.state === "biased") }, mark: { type: "point", filled: false, size: 75, strokeWidth: 1.4, xOffset: shift }, encoding: point },
        ].filter((each) => each.data.values.length),
      };
    };
    const { columns, width } = isNamed ? columnsOf("charts", 560, 250) : columnsOf("charts", 380);
    const panels = panelNames.slice(0, 24).map((name) => (panelNames.length > 1 ? panel(name, width, 220) : panel(name, Math.min(760, byId("charts").clientWidth - (isNamed ? labels + 40 : 90)), 420))).filter(Boolean);
    if (panels.length) draw("#explorer", several(panels, columns));
    else byId("explorer").textContent = "No estimator that is shown has both numbers.";
  };
  chosen["chart-objective"] = control("chart-objective", objectives.length > 12 ? objectives[0] : "", explorer);
  chosen.x = control("x", ["evals", "n", "seconds"].find((name) => new Set(data.columns[name] ?? []).size > 2) ?? "estimator", explorer);
  chosen.y = control("y", usual("variance", "mse"), explorer);
  chosen["x-log"] = control("x-log", "1", explorer);
  chosen["y-log"] = control("y-log", "1", explorer);
  isReady = true;
  explorer();

  // The variance of each coordinate, the noisiest first.
  let profile = () => {};
  const kept = byId("profile-data");
  if (kept) {
    const { rows: gradients, ranks } = JSON.parse(kept.textContent);
    const lines = gradients.map(({ row, size, variance }) => ({ ...rows[row], rank: ranks[size], variance }));
    const names = [...new Set(lines.map((line) => line.objective))];
    fill("profile-objective", names.map((name) => [name, name]));
    const first = lines.find((line) => line.rank.length > 2)?.objective ?? names[0];
    let objective = first;
    profile = () => {
      const shown = lines.filter((line) => line.objective === objective && !hidden.has(line.method));
      const values = shown.flatMap(({ estimator, method, rank, variance }) => variance.map((each, k) => ({ estimator, method, rank: rank[k], variance: each }))).filter((point) => point.variance > 0);
      if (!values.length) {
        byId("profile").textContent = "No estimator that is shown has a variance.";
        return;
      }
      const look = looks(data.styles, methods);
      draw("#profile", {
        width: Math.min(760, byId("charts").clientWidth - 90), height: 320, data: { values },
        mark: { type: "line", point: { size: 14 }, strokeWidth: 1.4 },
        encoding: {
          x: { field: "rank", type: "quantitative", title: "coordinate, the noisiest first", scale: { zero: false, padding: 8 }, axis: { labelExpr, tickMinStep: 1 } },
          y: axisOf("variance", "variance of the coordinate", true, values.map((point) => point.variance), false),
          color: look("colour"), strokeDash: look("dash"), detail: { field: "estimator" },
          tooltip: [{ field: "estimator" }, { field: "rank" }, { field: "variance", format: ".3~g" }],
        },
      });
    };
    control("profile-objective", first, (chosen) => { objective = chosen; profile(); });
  }
  redraw = () => { explorer(); profile(); redrawCurves(); };
}
await Promise.all(pending);
let later = 0;
addEventListener("resize", () => { clearTimeout(later); later = setTimeout(() => redraw(), 200); });
