const byId = (id) => document.getElementById(id);
const root = document.documentElement;

// The address bar holds what a reader has chosen: a link shows another reader the same.
const state = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
const show = () => history.replaceState(null, "", state.size ? `#${state}` : location.pathname + location.search);
const remember = (key, value, usual) => {
  if (value === usual || value === "") state.delete(key); else state.set(key, value);
  show();
};
addEventListener("hashchange", () => location.reload());
const go = (id) => {
  const place = byId(id);
  if (!place) return;
  place.tabIndex = -1;
  place.focus({ preventScroll: true });
  place.scrollIntoView();
};
document.querySelectorAll("nav a").forEach((link) => link.addEventListener("click", (event) => {
  const id = link.hash.slice(1);
  event.preventDefault();
  remember("at", id);
  go(id);
}));
const ready = () => {
  document.body.dataset.ready = "1";
  if (state.has("at")) go(state.get("at"));
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
