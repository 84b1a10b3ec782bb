// The picture: cards in bands, rows that open, pills between them, and the lines.

const SVG = "http://www.w3.org/2000/svg";

// Text is always text: there is no way here to write markup, or what cannot be seen.
function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : visibleLines(String(value)));
  }
  const held = children.filter((child) => child !== null && child !== undefined);
  element.append(...held.map((child) => (typeof child === "string" ? visible(child) : child)));
  return element;
}

const span = (kind, text) => el("span", { class: kind }, text);
const roleOf = (side) => data.panels[side].role;

function line(kind, d) {
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("class", kind);
  path.setAttribute("d", d);
  return path;
}

// What opens: made when it is first opened.
class Fold {
  constructor(kind, side, value, contents, build) {
    this.build = build;
    this.value = value;
    this.toggle = el("button", { class: "toggle", tabindex: -1, "aria-label": "open or close" });
    this.main = el("button", { class: "main", "data-v": `${side}:${value}` }, ...contents);
    this.head = el("div", { class: "head" }, this.toggle, this.main);
    this.element = el("div", { class: kind }, this.head);
    this.toggle.addEventListener("click", () => this.set(!this.isOpen));
    this.main.addEventListener("dblclick", () => this.set(!this.isOpen));
    this.main.addEventListener("click", () => pick(side, value));
    this.main.fold = this;
    this.set(false);
  }

  get isOpen() {
    return this.main.getAttribute("aria-expanded") === "true";
  }

  set(open) {
    this.main.setAttribute("aria-expanded", open);
    this.element.classList.toggle("open", open);
    if (open && !this.inner) {
      this.inner = el("div", { class: "inner" });
      this.contents = this.build(this.inner);
      this.element.append(this.inner);
      tint();
    }
    return this.contents;
  }
}

// A block's boxes: where the engine put them; else one under the other, many in parts that open.
const MOST_LISTED = 150;

function drawFlow(side, place, parent) {
  const flow = data.networks[side].flows[place];
  const layout = data.layouts[flow.l];
  const boxes = new Map();
  const draw = (box) => {
    boxes.set(box, boxButton(side, box));
    return boxes.get(box);
  };
  let parts = [];
  if (layout) {
    const inputs = (flow.i ?? []).map((box) => inputButton(side, box));
    parent.append(drawLayout(layout, [...flow.b.map(draw), ...inputs]));
  } else if (flow.b.length <= MOST_LISTED) {
    parent.append(listOf(flow.b.map(draw)));
  } else {
    parts = listParts(side, flow.b, draw);
    parent.append(...parts.map((part) => part.element));
  }
  const find = (box) => {
    if (!boxes.has(box)) parts[Math.floor(flow.b.indexOf(box) / MOST_LISTED)]?.set(true);
    return boxes.get(box);
  };
  return { find, regions: drawRegions(side, flow, parent) };
}

const listOf = (buttons) => el("ol", {}, ...buttons.map((button) => el("li", {}, button)));

function listParts(side, boxes, draw) {
  const parts = [];
  for (let at = 0; at < boxes.length; at += MOST_LISTED) {
    const held = boxes.slice(at, at + MOST_LISTED);
    const count = span("note", `operators ${at + 1} – ${at + held.length} of ${boxes.length}`);
    const { n, o: [value] } = boxOf(side, held.at(-1));
    const name = span("name", valueOf(side, value)?.n ?? n ?? "");
    parts.push(new Fold("block", side, value, [name, count], (inner) =>
      inner.append(listOf(held.map(draw)))));
  }
  return parts;
}

function drawRegions(side, flow, parent) {
  const { regions } = data.networks[side];
  const inside = new Map();
  for (const box of flow.b)
    for (const path of boxOf(side, box).g ?? []) {
      const region = regions[path];
      if (!region) continue;
      const value = boxOf(side, box).o[0];
      const title = [span("name", region.title), span("note", "region")];
      const fold = new Fold("region", side, value, title, (inner) =>
        drawFlow(side, region.flow, inner));
      inside.set(path, fold);
      parent.append(fold.element);
    }
  return inside;
}

function drawLayout(layout, buttons) {
  const [width, height] = layout.size;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  svg.append(...layout.paths.map((d) => line("edge", d)));
  buttons.forEach((button, index) => {
    const [x, y] = layout.at[index];
    Object.assign(button.style, { left: `${x}px`, top: `${y}px` });
  });
  const drawing = el("div", { class: "flow" }, svg, ...buttons);
  Object.assign(drawing.style, { width: `${width}px`, height: `${height}px` });
  return drawing;
}

function boxButton(side, place) {
  const box = boxOf(side, place);
  const value = valueOf(side, box.o[0]);
  const name = value?.n ?? box.n;
  const contents = [
    el("span", { class: "pad" }, span("kind", box.t), span("name", name === box.t ? "" : name)),
    el("span", { class: "pad" }, span("lines", box.l ?? ""), span("shape", dims(value?.s))),
  ];
  const of = value ? { "data-v": `${side}:${box.o[0]}` } : {};
  const title = [name, box.l, dims(value?.s)].filter(Boolean).join("\n");
  const onclick = () => pick(side, box.o[0]);
  return el("button", { class: "box", title, ...of, onclick }, ...contents);
}

function inputButton(side, place) {
  const value = boxOf(side, place).o[0];
  const name = valueOf(side, value)?.n ?? boxOf(side, place).t;
  return el("button", { class: "input", onclick: () => go(side, value) }, `from ${name}`);
}

const board = el("div", { id: "board", class: data.panels.length > 1 ? "two" : "one" });
const overlay = document.createElementNS(SVG, "svg");
overlay.setAttribute("id", "lines");
overlay.setAttribute("aria-hidden", "true");
const rows = data.panels.map((panel) => panel.cards.map((card) => card.rows.map(() => null)));
const cards = data.panels.map((panel) => panel.cards.map(() => ({ cells: [] })));
const heads = [];
const bands = [];
const pills = [];

function drawBoard() {
  board.append(overlay);
  data.panels.forEach((panel, side) => {
    if (side === 1) board.append(gutterHead());
    heads.push(panelHead(panel));
    board.append(heads.at(-1));
  });
  data.bands.forEach(drawBand);
}

function panelHead(panel) {
  const said = [panel.role, panel.state, panel.inputs].filter(Boolean).join(" · ");
  const titles = ["", "block", "×", panel.unit, "params", "MACs", "of MACs"];
  return el(
    "div",
    { class: `panel ${panel.role}` },
    el("div", { class: "said" }, said, span("", `${panel.parameters} parameters`)),
    el("div", { class: "said" }, el("h2", {}, panel.name), el("b", {}, `${panel.macs} MACs`)),
    el("div", { class: "columns" }, ...titles.map((title) => span("", title))),
  );
}

function gutterHead() {
  const [title, said] = data.headline;
  const kind = `count is-${data.worst}`;
  return el("div", { class: "gutter" }, el("div", { class: kind }, el("b", {}, title), said));
}

function drawBand(band, index) {
  const held = { summary: el("div", { class: "gutter" }), lines: [], isFolded: false };
  bands.push(held);
  board.append(el("div", { class: "gap" }));
  const firsts = band.cards.map((_, side) =>
    band.lines.findIndex((one) => one.rows[side] !== null));
  const lasts = band.cards.map((_, side) =>
    band.lines.findLastIndex((one) => one.rows[side] !== null));
  for (let at = -1; at < band.lines.length; at++) {
    const cells = band.cards.map((card, side) => {
      if (card === null) return el("div");
      if (at === firsts[side] - 1) return titleCell(side, card, index);
      if (at < firsts[side] || lasts[side] < at) return el("div");
      return rowCell(side, card, band.lines[at].rows[side], at === lasts[side]);
    });
    if (cells.length > 1)
      cells.splice(1, 0, at < 0 ? held.summary : pillCell(band.lines[at], index));
    if (at >= 0) held.lines.push(...cells.filter((cell) => !cell.classList.contains("title")));
    board.append(...cells);
  }
}

function titleCell(side, card, band) {
  const { title, size, parameters, macs, share } = data.panels[side].cards[card];
  const sums = [title, "", size, parameters, macs, share].map((text) => span("", text));
  const button = el(
    "button",
    { class: "main", "aria-expanded": "true", onclick: () => foldBands([band]) },
    ...sums,
  );
  const head = el("div", { class: "head" }, span("toggle", ""), button);
  const cell = el("div", { class: `cell title ${roleOf(side)}` }, head);
  cards[side][card].cells.push(cell);
  cards[side][card].band = band;
  return cell;
}

function rowCell(side, card, row, isLast) {
  const kind = `cell ${roleOf(side)}${isLast ? " last" : ""}`;
  let cell = el("div", { class: kind });
  if (row !== null) {
    const fold = rowFold(side, data.panels[side].cards[card].rows[row], kind);
    rows[side][card][row] = fold;
    cell = fold.element;
  }
  cards[side][card].cells.push(cell);
  return cell;
}

function rowFold(side, row, kind) {
  const bar = span("bar", "");
  bar.style.width = row.bar === null ? "0" : `${Math.max(1, row.bar * 44)}px`;
  const contents = [
    el("span", { class: "name" }, row.name, row.factor ? span("factor", ` ${row.factor}`) : null),
    span("times", row.times > 1 ? `× ${row.times}` : ""),
    span("", row.size),
    span("", row.parameters),
    span("", row.macs),
    bar,
  ];
  const of = row.severity ? `${kind} found is-${row.severity}` : kind;
  return new Fold(of, side, row.blocks.at(-1).value, contents, (inner) => {
    if (row.blocks.length === 1) return [drawFlow(side, row.blocks[0].flow, inner)];
    const folds = row.blocks.map((block, at) => {
      const count = span("note", `${at + 1} of ${row.blocks.length}`);
      const name = span("name", valueOf(side, block.value).n);
      return new Fold("block", side, block.value, [name, count], (within) =>
        drawFlow(side, block.flow, within));
    });
    inner.append(...folds.map((fold) => fold.element));
    return folds;
  });
}

function pillCell({ links, marks }, band) {
  const tags = links.flatMap((link) => data.links[link].tags).map((tag) => {
    const held = pairs.filter((pair) => tag.ranks.includes(pair.rank));
    return pillOf(held, band, tag.text, tag.adapter);
  });
  const found = marks.map((place) => markPill(data.marks[place]));
  return el("div", { class: "gutter" }, ...tags, ...found);
}

function markPill(mark) {
  const times = mark.count > 1 ? span("adapter", ` × ${mark.count}`) : null;
  const said = el("span", { class: "text" }, mark.slug, times);
  const onclick = () => say(mark.message);
  const pill = { class: `pill is-${mark.severity}`, title: mark.message, onclick };
  return el("button", pill, span("rank", mark.code), said);
}

function pillOf(held, band, text, adapter) {
  const rank = span("rank", "");
  const said = el("span", { class: "text" }, text, adapter ? span("adapter", ` ${adapter}`) : null);
  const pill = el(
    "button",
    {
      class: "pill",
      onclick: () => choose(held.filter(isShown)),
      onmouseenter: () => look(held),
      onmouseleave: () => look([]),
      onfocus: () => look(held),
      onblur: () => look([]),
    },
    rank,
    said,
  );
  pills.push({ pill, rank, held, band });
  return pill;
}

// Ranks that follow each other are written as a range.
function ranksOf(held) {
  const runs = [];
  for (const rank of held.map((pair) => pair.rank).sort((a, b) => a - b)) {
    if (runs.length && runs.at(-1)[1] === rank - 1) runs.at(-1)[1] = rank;
    else runs.push([rank, rank]);
  }
  const texts = runs.map(([a, b]) => (b > a + 1 ? `${a}–${b}` : [...new Set([a, b])].join(", ")));
  return texts.join(", ");
}

// Show bands as one line each, or all their lines; without a word, the other way than now.
function foldBands(indices, isFolded = !indices.every((index) => bands[index].isFolded)) {
  for (const index of indices) foldBand(index, isFolded);
  update();
}

function foldBand(index, isFolded) {
  const band = bands[index];
  band.isFolded = isFolded;
  for (const cell of band.lines) cell.classList.toggle("folded", isFolded);
  data.bands[index].cards.forEach((card, side) => {
    if (card === null) return;
    const [title] = cards[side][card].cells;
    title.classList.toggle("last", isFolded);
    title.querySelector(".main").setAttribute("aria-expanded", !isFolded);
  });
}
