// The page: its parts, going to a Value, zoom, keys.

// Open what a Value lies in; returns what shows it.
function reveal(side, box) {
  const { homes, flows } = data.networks[side];
  const place = flows[homes.get(box)]?.place;
  if (!place) return null;
  if (place.owner !== undefined) {
    const region = reveal(side, place.owner)?.view.regions.get(place.path);
    return region ? shown(region.set(true), box) : null;
  }
  const row = rows[side][place.card][place.row];
  unfold(side, row);
  const inside = row.set(true)[place.block];
  return shown(inside instanceof Fold ? inside.set(true) : inside, box);
}

const shown = (view, box) => ({ view, button: view.find(box) });

function unfold(side, row) {
  const { band } = cardOf(side, row);
  if (bands[band].isFolded) foldBands([band], false);
}

// Pick a Value and bring into view what makes it, or the row that is given. An operator without
// results is gone to by its box; nothing is picked then.
function go(side, value, row = null, box = valueOf(side, value)?.b) {
  if (row) unfold(side, row);
  const target = row ? row.main : reveal(side, box)?.button;
  pick(side, value);
  resize();
  if (!target) return say("it lies in no block");
  target.scrollIntoView({ block: "center", inline: "nearest" });
  target.focus({ preventScroll: true });
}

// Pan and zoom: the browser scrolls, the picture is scaled.
const sizer = el("div", { id: "sizer" }, board);
const view = el("main", { id: "view", tabindex: -1 }, sizer);
let scale = 1;

function zoom(to, x = view.clientWidth / 2, y = 0) {
  const left = (view.scrollLeft + x) / scale;
  const top = (view.scrollTop + y) / scale;
  scale = Math.min(3, Math.max(0.2, to));
  board.style.transform = scale === 1 ? "" : `scale(${scale})`;
  resize();
  view.scrollTo(left * scale - x, top * scale - y);
  level.textContent = `${Math.round(scale * 100)} %`;
}

function resize() {
  sizer.style.width = `${board.offsetWidth * scale}px`;
  sizer.style.height = `${board.offsetHeight * scale}px`;
  drawLines();
}

const fit = () => zoom(Math.min(1, Math.max(0.6, (view.clientWidth - 4) / board.offsetWidth)), 0);

view.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  const { left, top } = view.getBoundingClientRect();
  zoom(scale * Math.exp(-event.deltaY / 400), event.clientX - left, event.clientY - top);
}, { passive: false });

view.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || event.target.closest("button")) return;
  view.classList.add("panning");
  view.setPointerCapture(event.pointerId);
});
view.addEventListener("pointermove", (event) => {
  if (view.classList.contains("panning")) view.scrollBy(-event.movementX, -event.movementY);
});
for (const end of ["pointerup", "pointercancel"])
  view.addEventListener(end, () => view.classList.remove("panning"));

const level = el("button", { id: "level", title: "real size: 1", onclick: () => zoom(1) }, "100 %");

const foldAll = () => foldBands([...bands.keys()]);

function switchTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
}

const LEGEND = [
  ["a row", "a block, or × n equal ones; open it to see its operators"],
  ["↓2", "the resolution is halved there"],
  ["params, MACs", "parameters, and multiply-adds for one sample; the bar compares them"],
  ["number", "a pair, by rank; 256 ← 24 are the channels of teacher and student"],
  ["✓", "the pair is in the recipe"],
  ["dashed", "a pair of your own: pick a Value in each network and add it"],
];
const KEYS = [
  ["/", "search"],
  ["↑ ↓", "row above, below"],
  ["→ ←", "open, close"],
  ["Enter", "pick a Value, choose a pair"],
  ["+ − 0 1", "zoom, fit, real size"],
  ["f", "fold or unfold all"],
];

function legend() {
  const lines = (items) => el("dl", {}, ...items.flatMap(([name, said]) => [
    el("dt", {}, name), el("dd", {}, said)]));
  const swatches = [...data.panels.keys()].map((side) =>
    el("span", { class: `swatch ${roleOf(side)}` }, roleOf(side)));
  const pair = hasPairs ? span("swatch pair", "pair") : null;
  const inner = el("div", { class: "legend" }, el("div", {}, ...swatches, pair), lines(LEGEND),
    lines(KEYS));
  return el("details", { id: "legend" }, el("summary", {}, "legend and keys"), inner);
}

function header() {
  const button = (id, text, title, onclick) => el("button", { id, title, onclick }, text);
  return el(
    "header",
    {},
    el("h1", {}, data.panels.map((panel) => panel.name).join(" → ")),
    el("div", { class: "find" }, query, results),
    button("fold", "fold", "fold or unfold all: f", foldAll),
    el(
      "span",
      { class: "zoom" },
      button("out", "−", "smaller: -", () => zoom(scale / 1.2)),
      level,
      button("in", "+", "larger: +", () => zoom(scale * 1.2)),
      button("fit", "fit", "fit the width: 0", fit),
    ),
    button("theme", "◐", "dark or light", switchTheme),
    legend(),
    status,
  );
}

// Keys: rows above and below of the same network, opening and closing, zoom.
function step(button, by) {
  const role = data.panels.find((panel) => button.closest(`.cell.${panel.role}`)).role;
  const all = [...board.querySelectorAll(`.cell.${role} :is(.main, .box)`)].filter(
    (other) => other.offsetParent);
  all[all.indexOf(button) + by]?.focus();
}

// Open or close; what is closed already, or cannot be, goes to what it lies in.
function openOrClose(button, isOpening) {
  const { fold } = button;
  if (button.closest(".title") && isOpening !== (button.getAttribute("aria-expanded") === "true"))
    button.click();
  else if (fold && fold.isOpen !== isOpening) fold.set(isOpening);
  else if (!isOpening)
    button.closest(".inner")?.parentElement.querySelector(":scope > .head > .main").focus();
}

function stepResult(event) {
  const all = [query, ...results.querySelectorAll("button")];
  const at = all.indexOf(document.activeElement);
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === "Escape") results.hidden = true;
  else if (event.key === "Enter" && at === 0) all[1]?.click();
  else if (!by || at < 0) return;
  else all[at + by]?.focus();
  event.preventDefault();
}

const ZOOMS = {
  "+": () => zoom(scale * 1.2),
  "=": () => zoom(scale * 1.2),
  "-": () => zoom(scale / 1.2),
  0: fit,
  1: () => zoom(1),
  f: foldAll,
  "/": () => query.focus(),
};

document.addEventListener("keydown", (event) => {
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (target.closest(".find")) {
    if (["ArrowDown", "ArrowUp", "Escape", "Enter"].includes(event.key) && target === query)
      stepResult(event);
    else if (["ArrowDown", "ArrowUp", "Escape"].includes(event.key)) stepResult(event);
    return;
  }
  if (target.matches("button.main, button.box")) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const open = { ArrowRight: true, ArrowLeft: false }[event.key];
    if (by) step(target, by);
    else if (open !== undefined) openOrClose(target, open);
    if (by || open !== undefined) return event.preventDefault();
  }
  if (ZOOMS[event.key]) {
    ZOOMS[event.key]();
    event.preventDefault();
  }
});

query.addEventListener("input", drawResults);
document.addEventListener("pointerdown", (event) => {
  if (!event.target.closest(".find")) results.hidden = true;
});

drawBoard();
const isReport = data.marks.length > 0;
const aside = el("aside", {}, isReport ? findings() : null, hasPairs ? pairsPane : null, details);
const notes = data.notes.map((note) => el("p", { class: "note" }, note));
document.body.append(header(), el("div", { id: "parts" }, view, aside), ...notes);
results.hidden = true;
board.classList.toggle("rails", hasRails);
update();
drawDetails();
fit();
const MOST_OPEN = 2000;
const boxesInAll = data.networks.flatMap(({ boxes }) => boxes).length;
if (data.start === "stage") foldAll();
if (data.focus) {
  const [side, name] = data.focus;
  go(side, data.networks[side].values.findIndex((value) => value.n === name));
} else if (data.start === "open" && boxesInAll <= MOST_OPEN) {
  for (const row of rows.flat(2)) row.set(true);
}
new ResizeObserver(resize).observe(board);
