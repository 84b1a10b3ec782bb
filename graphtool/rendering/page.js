// All texts of the data are printable; `data.raw` has what those were that had to be changed.
const data = JSON.parse(document.getElementById("data").textContent);
const { networks, levels } = data;
const pairs = data.pairs ?? [];
// A report may be about two networks without a word about pairs.
const hasPairs = data.pairs !== undefined && (pairs.length > 0 || data.marks.length === 0);
const state = {
  chosen: new Set(), // pairs in the recipe
  hidden: new Set(), // kinds of pairs that are not shown
  looked: new Set(), // pairs under the pointer
  picked: networks.map(() => null), // a Value of each network
  level: 0,
  open: null, // { side, blocks, at }: the blocks of a row, and which of them is shown
};
const SVG = "http://www.w3.org/2000/svg";
const NAME_SLOT = "\\ue000"; // as Python prints it

const valueOf = (side, value) => networks[side].values[value];
const boxOf = (side, box) => networks[side].boxes[box];
const nameOf = (side, box) => valueOf(side, boxOf(side, box).o[0])?.n ?? boxOf(side, box).n;
const linesOf = (side, box) => networks[side].attributes[boxOf(side, box).a] ?? [];
const typeOf = (box) => box.k ?? (box.x === undefined ? undefined : `pd_op.${box.t}`);
const dtypeOf = (value) => value.d ?? "float32";
const isShown = (pair) => !state.hidden.has(pair.kind);
const dims = (shape) =>
  shape ? shape.map((dim) => (dim < 0 ? "?" : dim)).join(" × ") || "scalar" : "?";
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

// Text is always text: there is no way here to write markup.
function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
const span = (kind, text) => el("span", { class: kind }, String(text));

// Which box makes a Value and what reads it, which block a box is in, and which row a block.
for (const network of networks) {
  network.homes = new Map(network.blocks.flatMap(({ b }, home) => b.map((box) => [box, home])));
  network.readers = new Map();
  network.boxes.forEach((box, place) => {
    for (const value of box.o) network.values[value].b = place;
    for (const value of box.i ?? [])
      network.readers.set(value, [...(network.readers.get(value) ?? []), place]);
  });
}
const view = document.getElementById("view");
const svgs = [
  view.firstElementChild,
  ...[...document.querySelectorAll("template.level")].map((held) => held.content.firstElementChild),
];
const drawings = [...document.querySelectorAll("template.drawing")];
for (const level of levels)
  level.rowOf = level.rows.map((cards) => {
    const rows = cards.flatMap((card, c) => card.map((row, r) => ({ ...row, c, r })));
    return new Map(rows.flatMap((row) => row.b.map((block) => [block, row])));
  });
const detailed = Math.max(0, levels.findIndex(({ level }) => level !== "stage"));

const homeOf = (side, value) => networks[side].homes.get(valueOf(side, value)?.b);
// The row at the level that is shown, and its element, or the box where Operators are drawn.
const rowOf = (side, value) => levels[state.level]?.rowOf[side].get(homeOf(side, value));
const elementOf = (side, row) => row && levels[state.level].elements[side][row.c]?.[row.r];
const shownAt = (side, value) =>
  levels.length ? elementOf(side, rowOf(side, value)) : boxNodes[side].get(valueOf(side, value).b);
const boxNodes = networks.map(() => new Map());

function button(element, label, onclick) {
  element.setAttribute("role", "button");
  element.setAttribute("tabindex", 0);
  element.setAttribute("aria-label", label);
  element.addEventListener("click", (event) => {
    event.preventDefault();
    onclick();
  });
}

// Find rows and pills by the links that Graphviz drew for their ids, and boxes by their ids.
function wire(svg, level) {
  level.elements = level.rows.map((cards) => cards.map(() => []));
  level.pills = [];
  for (const link of svg.querySelectorAll("a")) {
    const [kind, first, second] = link.getAttribute("href").slice(1).split("-");
    const side = networks.findIndex(({ role }) => role === kind);
    if (side >= 0) {
      const row = level.rows[side][first][second];
      level.elements[side][first][second] = link;
      link.classList.add("row", kind);
      button(link, `${row.t}: ${row.n}`, () => openRow(side, row.b));
      link.side = side;
      link.row = row;
    } else if (kind === "mark") {
      link.classList.add("mark");
      const { code, slug, message } = data.marks[first];
      button(link, `${code} ${slug}`, () => say(message));
    } else {
      const held = pairs.filter((pair) => level.links[first].includes(pair.rank));
      const edges = [...svg.querySelectorAll(`.pair-${first}`)];
      link.classList.add("pill");
      button(link, `pair ${level.links[first]}`, () => choose(held.filter(isShown)));
      link.addEventListener("mouseenter", () => look(held));
      link.addEventListener("mouseleave", () => look([]));
      level.pills.push({ link, held, edges });
    }
  }
}

function wireBoxes(root, side, boxes, inputs = []) {
  // Graphviz has an order of its own; keys go from operator to operator in that of the program.
  const numbered = [...root.querySelectorAll("g.node[id]")].sort(
    (a, b) => a.id.slice(1) - b.id.slice(1));
  for (const node of numbered) {
    node.parentNode.append(node);
    const isInput = node.id[0] === "i" && inputs.length > 0;
    const box = (isInput ? inputs : boxes)[node.id.slice(1)];
    node.removeAttribute("id");
    const value = boxOf(side, box).o[0];
    const name = nameOf(side, box);
    node.classList.add(isInput ? "input" : "box");
    node.dataset.v = `${side}:${value}`;
    node.side = side;
    button(node, [boxOf(side, box).t, name].join(" "), () =>
      isInput ? go(side, value, box) : pick(side, value));
    const title = document.createElementNS(SVG, "title");
    title.textContent = [name, linesOf(side, box)[0]].filter(Boolean).join("\n");
    node.append(title);
    if (!isInput) boxNodes[side].set(box, node);
    for (const text of node.querySelectorAll("text"))
      if (text.textContent === NAME_SLOT) writeName(text, node, isInput ? `from ${name}` : name);
  }
}

// Cut a name to its box; an input's is centred in it.
function writeName(text, node, name) {
  const frame = node.querySelector("polygon").getBBox();
  const isInput = node.classList.contains("input");
  const x = isInput ? frame.x + 8 : Number(text.getAttribute("x"));
  text.setAttribute("x", x);
  text.textContent = name;
  for (let end = name.length; end && text.getComputedTextLength() > frame.x + frame.width - x - 8; )
    text.textContent = `${name.slice(0, --end)}…`;
}

// Opening a block: a drawing that equal blocks share, or a list of its operators.
const pane = el("section", { id: "block", "aria-label": "operators of a block" });

function openRow(side, blocks, at = blocks.length - 1) {
  state.open = blocks.length ? { side, blocks, at } : null;
  const value = networks[side].blocks[blocks[at]]?.v;
  drawBlock();
  pick(side, value);
}

function drawBlock() {
  pane.hidden = !state.open;
  for (const nodes of levels.length ? boxNodes : []) nodes.clear();
  if (!state.open) return fitLater();
  const { side, blocks, at } = state.open;
  const block = networks[side].blocks[blocks[at]];
  const row = levels[detailed].rowOf[side].get(blocks[at]);
  const to = (step) => () => openRow(side, blocks, at + step);
  const arrow = (id, sign, step, title) =>
    el("button", { id, title, disabled: !blocks[at + step] && blocks[at + step] !== 0,
      onclick: to(step) }, sign);
  const many = blocks.length > 1
    ? [arrow("before", "‹", -1, "block before"), span("note", `${at + 1} of ${blocks.length}`),
      arrow("after", "›", 1, "next block")]
    : [];
  const place = `${networks[side].role} · ${row?.t ?? ""}`;
  const body = el("div", { class: "body" });
  pane.className = networks[side].role;
  pane.replaceChildren(
    el("header", {}, el("h2", {}, row?.n ?? "", span("note", place)), ...many,
      el("button", { id: "close", title: "close: Esc", onclick: closeBlock }, "×")),
    body,
  );
  if (block.d === null || block.d >= drawings.length) {
    const count = counted(block.b.length, "operator");
    body.append(el("p", { class: "note" }, `${count}, listed without a drawing.`), el("ol", {},
      ...block.b.map((box) => el("li", {}, boxButton(side, box)))));
  } else {
    const svg = document.importNode(drawings[block.d].content.firstElementChild, true);
    body.append(svg);
    scaleSvg(svg, Math.max(0.5, Math.min(0.8, (0.42 * innerWidth - 48) / natural(svg)[0])));
    wireBoxes(svg, side, block.b, block.i);
  }
}

function boxButton(side, box) {
  const { t, o } = boxOf(side, box);
  const pickBox = { class: "box", "data-v": `${side}:${o[0]}`, onclick: () => pick(side, o[0]) };
  const made = el("button", pickBox, el("b", {}, t), span("name", nameOf(side, box) ?? ""),
    span("note", dims(valueOf(side, o[0])?.s)));
  made.side = side;
  boxNodes[side].set(box, made);
  return made;
}

function closeBlock() {
  const side = state.open?.side;
  const row = side === undefined ? null : rowOf(side, state.picked[side] ?? -1);
  state.open = null;
  drawBlock();
  elementOf(side, row)?.focus();
}

// Go to a Value: to the row that is given, else to its box in its block. An operator without
// results is gone to by its box; nothing is picked then.
function go(side, value, box = valueOf(side, value)?.b, row = null) {
  const home = networks[side].homes.get(box);
  let target = null;
  if (row) {
    openRow(side, row.b);
    target = shownAt(side, value);
  } else if (!levels.length) target = boxNodes[side].get(box);
  else if (home !== undefined) {
    const { b } = levels[state.level].rowOf[side].get(home);
    state.open = { side, blocks: b, at: b.indexOf(home) };
    drawBlock();
    elementOf(side, levels[state.level].rowOf[side].get(home))?.scrollIntoView({ block: "center" });
    target = boxNodes[side].get(box);
  }
  pick(side, value);
  if (!target) return say("it lies in no block");
  target.scrollIntoView({ block: "center", inline: "nearest" });
  target.focus({ preventScroll: true });
}

function pick(side, value) {
  state.picked[side] = value ?? null;
  tint();
  drawDetails();
}

function look(held) {
  state.looked = new Set(held.filter(isShown));
  say([...state.looked].map((pair) => `${pair.rank}: ${namesOf(pair)}`).join(", "));
  tint();
}

// Tint what is picked, paired and looked at, on rows and boxes alike.
function tint() {
  const found = { paired: new Set(), looked: new Set(), picked: new Set() };
  const add = (kind, side, value) => {
    found[kind].add(`${side}:${value}`);
    found[kind].add(elementOf(side, rowOf(side, value)));
  };
  for (const pair of pairs.filter(isShown))
    pair.ends.forEach((value, side) => {
      add("paired", side, value);
      if (state.looked.has(pair)) add("looked", side, value);
    });
  state.picked.forEach((value, side) => value !== null && add("picked", side, value));
  for (const element of document.querySelectorAll("a.row, [data-v]"))
    for (const [kind, held] of Object.entries(found))
      element.classList.toggle(kind, held.has(element) || held.has(element.dataset.v));
  for (const { held, edges } of levels[state.level]?.pills ?? [])
    for (const edge of edges)
      edge.classList.toggle("looked", held.some((pair) => state.looked.has(pair)));
}

// Put pairs into the recipe, or take them out where all are in it.
function choose(held) {
  const isOut = held.every((pair) => state.chosen.has(pair));
  for (const pair of held) {
    if (!isOut && !pairs.includes(pair)) pairs.push(pair);
    if (isOut && pair.own) pairs.splice(pairs.indexOf(pair), 1);
    state.chosen[isOut ? "delete" : "add"](pair);
  }
  if (held.length === 1) state.picked = [...held[0].ends];
  update();
  drawDetails();
}

function update() {
  for (const { link, held, edges } of levels[state.level]?.pills ?? []) {
    const shown = held.filter(isShown);
    link.setAttribute("aria-pressed", shown.every((pair) => state.chosen.has(pair)));
    for (const part of [link, ...edges]) part.classList.toggle("away", shown.length === 0);
  }
  tint();
  drawOwnPairs();
  drawPairs();
}

// Pairs of one's own choice are dashed lines from row to row.
function drawOwnPairs() {
  for (const old of view.querySelectorAll("path.own")) old.remove();
  for (const pair of pairs.filter((each) => each.own && isShown(each))) {
    const [teacher, student] = pair.ends.map((value, side) => shownAt(side, value)?.getBBox());
    if (!teacher || !student) continue;
    const [x, y] = [teacher.x + teacher.width, teacher.y + teacher.height / 2];
    const [to, at] = [student.x, student.y + student.height / 2];
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", "own");
    path.setAttribute("d", `M${x},${y}C${(x + to) / 2},${y} ${(x + to) / 2},${at} ${to},${at}`);
    view.querySelector("g.graph").append(path);
  }
}

const namesOf = ({ ends }) => ends.map((value, side) => valueOf(side, value).n).join(" ← ");

// What a pair of two feature maps would be was worked out for each two classes of maps.
function pairOf(teacher, student) {
  const known = pairs.find(({ ends }) => ends[0] === teacher && ends[1] === student);
  const row = data.table?.[valueOf(0, teacher).c];
  const form = data.forms?.[row?.[valueOf(1, student).c]];
  if (known || !form) return known ?? null;
  const [kind, relation, adapter, loss, warnings] = form;
  const rank = 1 + Math.max(0, ...pairs.map((pair) => pair.rank));
  const why = ["chosen in the picture"];
  const ends = [teacher, student];
  return { rank, kind, loss, weight: 1, adapter, relation, why, warnings, ends, taps: [], own: 1 };
}

// Recipes. Lone surrogates, which a name may hold, are no characters to TOML's escapes or UTF-8.
const split = (text) => text.split(/([\ud800-\udfff])/u);

function toml(value) {
  if (Array.isArray(value)) return `[${value.map(toml).join(", ")}]`;
  if (typeof value !== "string") return String(value);
  const parts = split(data.raw[value] ?? value).map((part, index) =>
    index % 2 ? part : JSON.stringify(part).slice(1, -1).replaceAll("\x7f", "\\u007f"));
  return `"${parts.join("")}"`;
}

function table(title, held) {
  const lines = Object.entries(held)
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([key, value]) => `${key} = ${toml(value)}`);
  return `${[title, ...lines].join("\n")}\n`;
}

function endOf(side, place) {
  const value = valueOf(side, place);
  const box = value.b === undefined ? {} : boxOf(side, value.b);
  return { name: value.n, op: typeOf(box), op_index: box.x, output: value.o ?? 0, module: box.m,
    layer: value.l, shape: value.s, dtype: dtypeOf(value), fingerprint: value.f };
}

function recipe() {
  const chosen = pairs.filter((pair) => state.chosen.has(pair));
  const tables = chosen.flatMap(({ ends, taps: _taps, own: _own, ...pair }) => [
    table("[[pairs]]", pair),
    table("[pairs.teacher]", endOf(0, ends[0])),
    table("[pairs.student]", endOf(1, ends[1])),
  ]);
  return [data.recipe, ...tables].join("\n");
}

function download() {
  const bytes = split(recipe()).map((part, index) => {
    const code = part.charCodeAt(0);
    return index % 2
      ? new Uint8Array([0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63)])
      : part;
  });
  const url = URL.createObjectURL(new Blob(bytes, { type: "application/toml" }));
  el("a", { href: url, download: "pairs.toml" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  say(`downloaded ${counted(state.chosen.size, "pair")}`);
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea", { class: "aside" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say(`copied ${what}`);
}

const status = el("output", { id: "status", "aria-live": "polite" });
const say = (text) => {
  status.textContent = text;
};

// The list of pairs.
const pairsPane = el("section", { id: "pairs", "aria-label": "pairs" });

function drawPairs() {
  if (!hasPairs) return;
  const focused = document.activeElement?.id;
  const scrolled = pairsPane.querySelector("ul")?.scrollTop;
  const toggles = [...new Set(pairs.map((pair) => pair.kind))].map((kind) => {
    const toggle = () => {
      state.hidden[state.hidden.has(kind) ? "delete" : "add"](kind);
      update();
    };
    const count = pairs.filter((pair) => pair.kind === kind).length;
    const pressed = { "aria-pressed": String(!state.hidden.has(kind)), title: "show or hide" };
    const text = `${kind.replaceAll("_", " ")} ${count}`;
    return el("button", { id: `kind-${kind}`, ...pressed, onclick: toggle }, text);
  });
  const shown = pairs.filter(isShown);
  const own = pairs.filter((pair) => pair.own).length;
  const isEmpty = state.chosen.size === 0;
  const taken = { disabled: isEmpty, title: isEmpty ? "choose pairs first" : null };
  pairsPane.replaceChildren(
    el("h2", {}, `${counted(pairs.length, "pair")}${own ? `, ${own} of your own` : ""}`),
    el("div", { class: "toggles" }, ...toggles),
    el("ul", {}, ...shown.map(pairItem)),
    el("div", { class: "recipe" },
      el("b", {}, `Recipe: ${isEmpty ? "no pairs yet" : counted(state.chosen.size, "pair")}`),
      el("button", { id: "all", onclick: () => choose(shown) }, "all"),
      el("button", { id: "copy", ...taken, onclick: () => copy(recipe(), "recipe") }, "copy"),
      el("button", { id: "download", ...taken, onclick: download }, "download pairs.toml")),
  );
  pairsPane.querySelector("ul").scrollTop = scrolled;
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

function pairItem(pair) {
  const place = pairs.indexOf(pair);
  const box = el("input", {
    type: "checkbox",
    id: `pair-${place}`,
    checked: state.chosen.has(pair),
    "aria-label": `pair ${pair.rank} in the recipe`,
    onchange: () => choose([pair]),
  });
  const show = () => {
    state.picked = [...pair.ends];
    tint();
    drawDetails();
    pair.ends.forEach((value, side) => shownAt(side, value)?.scrollIntoView({ block: "center" }));
  };
  const name = el("button", { id: `show-${place}`, onclick: show }, namesOf(pair));
  const about = [pair.relation, pair.adapter, pair.loss].filter(Boolean).join(" · ");
  return el("li", { onmouseenter: () => look([pair]), onmouseleave: () => look([]) },
    box, span("rank", pair.rank), el("div", {}, name, span("note", about)));
}

function findings() {
  const items = data.marks.map((mark, place) => {
    const show = () => levels[state.level].spots[place].forEach((spot, side) => {
      const row = spot && levels[state.level].rows[side][spot[0]][spot[1]];
      if (row) openRow(side, row.b);
      elementOf(side, row && { c: spot[0], r: spot[1] })?.scrollIntoView({ block: "center" });
    });
    const times = mark.count > 1 ? ` × ${mark.count}` : "";
    const isPlaced = levels[0]?.spots[place].some(Boolean);
    return el("li", { class: `is-${mark.severity}` },
      el("b", {}, `${mark.severity} ${mark.code} ${mark.slug}${times}`),
      el("div", {}, mark.message),
      isPlaced ? el("button", { onclick: show }, "show") : null);
  });
  return el("section", { id: "findings", "aria-label": "findings" },
    el("h2", {}, counted(items.length, "finding")), el("ul", {}, ...items));
}

// What a Value is.
const details = el("section", { id: "details", "aria-label": "details" });

function drawDetails() {
  const found = state.picked.map((value, side) => value !== null && valueDetails(side, value));
  const both = hasPairs && state.picked.every((value) => value !== null);
  const nothing = el("p", { class: "note" }, "Pick a row or an operator to see what it is.");
  details.replaceChildren(
    ...(both ? [pairDetails(...state.picked)] : []),
    ...(found.some(Boolean) ? found.filter(Boolean) : [nothing]),
  );
}

function pairDetails(teacher, student) {
  const pair = pairOf(teacher, student);
  if (!pair) return el("p", { class: "note" }, "These two cannot be paired.");
  const title = pairs.includes(pair) ? `Pair ${pair.rank}` : "A new pair";
  const taps = pair.taps.map(({ tap, ends }) => {
    const pickTap = () => {
      state.picked = [...ends];
      tint();
      drawDetails();
    };
    return el("button", { onclick: pickTap }, tap);
  });
  return el("section", { class: "pairing" },
    el("h3", {}, `${title} · ${pair.kind}`),
    list({ relation: pair.relation, adapter: pair.adapter, loss: pair.loss,
      score: pair.score?.toFixed(2), "other taps": taps }),
    el("ul", {}, ...pair.why.map((why) => el("li", {}, why))),
    el("ul", { class: "warnings" }, ...pair.warnings.map((warning) => el("li", {}, warning))),
    el("button", { id: "choose", onclick: () => choose([pair]) },
      state.chosen.has(pair) ? "take out of the recipe" : "add to the recipe"));
}

function list(held) {
  const known = Object.entries(held).filter(([, about]) => about?.length);
  return el("dl", {}, ...known.flatMap(([name, about]) => [
    el("dt", {}, name), el("dd", {}, ...(Array.isArray(about) ? about : [about]))]));
}

function valueDetails(side, place) {
  const { values, readers, role } = networks[side];
  const value = values[place];
  const box = value.b === undefined ? { o: [] } : boxOf(side, value.b);
  const link = (other) => el("button", { onclick: () => go(side, other) }, values[other].n);
  const inputs = box.i ?? [];
  const used = (readers.get(place) ?? []).map((reader) => boxOf(side, reader).o[0]);
  const line = (text) => el("div", {}, text);
  return el("section", { class: `value ${role}` },
    el("h3", {}, span("role", role), span("name", value.n),
      el("button", { class: "copy", onclick: () => copy(data.raw[value.n] ?? value.n, "name") },
        "copy")),
    list({
      shape: dims(value.s),
      dtype: dtypeOf(value),
      operator: typeOf(box),
      "operator name": box.n,
      module: box.m,
      layer: value.l,
      "source line": box.s,
      "other results": box.o.filter((other) => other !== place).map(link),
      reads: inputs.filter((other) => values[other].b !== undefined).map(link),
      "read by": used.filter((other) => other !== undefined).map(link),
      parameters: inputs.map((other) => values[other]).filter(({ p }) => p)
        .map(({ n, s }) => line(`${n}  ${dims(s)}`)),
      attributes: linesOf(side, value.b).slice(1).filter(Boolean).map(line),
    }));
}

// Search: each word has to be in what is known of a box or row; `512x7x7` is a shape, or its end.
const SHAPE = /^[[(]?[-?\d]+(?:[x×*,][-?\d]+)+[\])]?$/;
const MOST = 40;
let entries = null;

function indexed() {
  return networks.flatMap((network, side) => {
    const rows = (levels[detailed]?.rows[side] ?? []).flat().map((row) =>
      ({ side, row, value: network.blocks[row.b.at(-1)]?.v, text: `${row.t} ${row.n}`, shapes: "" }));
    const boxes = network.boxes.map((box, place) => {
      const values = box.o.map((value) => network.values[value]);
      const names = values.flatMap((value) => [value.n, value.l]);
      const text = [box.t, box.n, typeOf(box), box.m, box.s, linesOf(side, place)[0], ...names];
      const shapes = values.map((value) => `,${(value.s ?? []).join(",")},`).join(" ");
      return { side, box: place, value: box.o[0], text: text.filter(Boolean).join(" "), shapes };
    });
    return [...rows, ...boxes];
  }).map((entry) => ({ ...entry, text: entry.text.toLowerCase() }));
}

function search(text) {
  entries ??= indexed();
  const words = text.toLowerCase().replaceAll(/\s*([x×*,])\s*(?=[-?\d])/g, "$1").split(/\s+/);
  const tests = words.filter(Boolean).map((word) => {
    if (!SHAPE.test(word)) return (entry) => entry.text.includes(word);
    const shape = `,${word.replaceAll(/[[\]()]/g, "").replaceAll("?", "-1").split(/[x×*,]/)},`;
    return (entry) => entry.shapes.includes(shape) || entry.text.includes(word);
  });
  const exact = (entry) => (valueOf(entry.side, entry.value)?.n.toLowerCase() === words[0] ? 0 : 1);
  if (tests.length === 0) return [];
  return entries
    .filter((entry) => tests.every((test) => test(entry)))
    .sort((a, b) => exact(a) - exact(b));
}

const query = el("input", {
  id: "search",
  type: "search",
  placeholder: "search: name, operator, 512×7×7",
  "aria-label": "search by name, operator or shape",
});
const results = el("ul", { id: "results", "aria-label": "search results", hidden: true });

function drawResults() {
  const found = search(query.value);
  const items = found.slice(0, MOST).map(({ side, value, row, box }) => {
    const open = () => {
      results.hidden = true;
      go(side, value, box, row);
    };
    const name = row ? row.n : valueOf(side, value)?.n ?? nameOf(side, box);
    const contents = [span("name", name), span("note", row ? row.t : boxOf(side, box).t),
      span("shape", dims(valueOf(side, value)?.s))];
    return el("li", {}, el("button", { class: networks[side].role, onclick: open }, ...contents));
  });
  const rest = found.length > MOST ? `${found.length - MOST} more` : "";
  const about = found.length ? rest : "nothing found";
  results.replaceChildren(...items, ...(about ? [el("li", { class: "note" }, about)] : []));
  results.hidden = !query.value.trim();
}

// Pan and zoom: the browser scrolls, the picture is scaled.
let scale = 1;
const natural = (svg) => svg.getAttribute("viewBox").split(" ").slice(2).map((side) => side * 4 / 3);

function scaleSvg(svg, by) {
  const [width, height] = natural(svg);
  svg.setAttribute("width", width * by);
  svg.setAttribute("height", height * by);
}

function zoom(to, x = view.clientWidth / 2, y = 0) {
  const left = (view.scrollLeft + x) / scale;
  const top = (view.scrollTop + y) / scale;
  scale = Math.min(3, Math.max(0.2, to));
  scaleSvg(svgs[state.level], scale);
  view.scrollTo(left * scale - x, top * scale - y);
  percent.textContent = `${Math.round(scale * 100)} %`;
}

const fit = () =>
  zoom(Math.min(1, Math.max(0.5, (view.clientWidth - 24) / natural(svgs[state.level])[0])), 0);
let isFitted = true;
const fitLater = () => isFitted && fit();

function showLevel(place) {
  state.level = place;
  view.replaceChildren(svgs[place]);
  fit();
  update();
}
const otherLevel = () => svgs.length > 1 && showLevel(1 - state.level);

view.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  isFitted = false;
  const { left, top } = view.getBoundingClientRect();
  zoom(scale * Math.exp(-event.deltaY / 400), event.clientX - left, event.clientY - top);
}, { passive: false });
view.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || event.target.closest("a, .box")) return;
  view.classList.add("panning");
  view.setPointerCapture(event.pointerId);
});
view.addEventListener("pointermove", (event) => {
  if (view.classList.contains("panning")) view.scrollBy(-event.movementX, -event.movementY);
});
for (const end of ["pointerup", "pointercancel"])
  view.addEventListener(end, () => view.classList.remove("panning"));

function switchTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
}

const LEGEND = [
  ["a row", "a block, or × n equal ones; click it to see its operators"],
  ["↓2", "the resolution is halved there"],
  ["params, MACs", "parameters, and multiply-adds for one sample; the bar compares them"],
  ["number", "a pair, by rank; 256 ← 24 are the channels of teacher and student"],
  ["filled", "the pair is in the recipe"],
  ["dashed", "a pair of your own: pick a Value in each network and add it"],
];
const KEYS = [
  ["/", "search"],
  ["↑ ↓", "row or operator above, below"],
  ["→ ← Esc", "open, close a block"],
  ["Enter", "pick a Value, choose a pair"],
  ["+ − 0 1", "zoom, fit, real size"],
  ["f", "stages or blocks"],
];
const byUser = (change) => () => {
  isFitted = change === fit;
  change();
};
const ZOOMS = {
  "+": byUser(() => zoom(scale * 1.2)),
  "=": byUser(() => zoom(scale * 1.2)),
  "-": byUser(() => zoom(scale / 1.2)),
  0: byUser(fit),
  1: byUser(() => zoom(1)),
  f: otherLevel,
  "/": () => query.focus(),
};
const percent = el("button", { id: "level", title: "real size: 1", onclick: ZOOMS[1] }, "100 %");

function legend() {
  const lines = (items) => el("dl", {}, ...items.flatMap(([name, about]) => [
    el("dt", {}, name), el("dd", {}, about)]));
  const swatches = networks.map(({ role }) => el("span", { class: `swatch ${role}` }, role));
  const pair = hasPairs ? span("swatch pair", "pair") : null;
  return el("details", { id: "legend" }, el("summary", {}, "legend and keys"),
    el("div", { class: "legend" }, el("div", {}, ...swatches, pair), lines(LEGEND), lines(KEYS)));
}

function toolbar() {
  const tool = (id, text, title, onclick) => el("button", { id, title, onclick }, text);
  return el("header", { id: "bar" },
    el("h1", {}, networks.map(({ name }) => name).join(" → ")),
    el("div", { class: "find" }, query, results),
    svgs.length > 1 ? tool("fold", "stages / blocks", "stages or blocks: f", otherLevel) : null,
    el("span", { class: "zoom" }, tool("out", "−", "smaller: -", ZOOMS["-"]), percent,
      tool("in", "+", "larger: +", ZOOMS["+"]), tool("fit", "fit", "fit the width: 0", ZOOMS[0])),
    tool("theme", "◐", "dark or light", switchTheme),
    legend(),
    status);
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

// Keys: rows or operators above and below, opening and closing, zoom.
function stepRow(target, key) {
  const by = { ArrowDown: 1, ArrowUp: -1 }[key];
  const root = target.closest("#block, #view");
  const all = [...root.querySelectorAll("a.row, .box")].filter(({ side }) => side === target.side);
  const row = target.matches("a.row");
  if (by) all[all.indexOf(target) + by]?.focus();
  else if (key === "ArrowLeft") closeBlock();
  else if (key === "ArrowRight" && row) {
    target.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
    pane.querySelector(".box")?.focus();
  } else if ([" ", "Enter"].includes(key) && !row)
    target.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  else return false;
  return true;
}

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (target.closest(".find")) {
    if (key !== "Enter" || target === query) stepResult(event);
  } else if (target.matches("a.row, .box, .input") && stepRow(target, key)) event.preventDefault();
  else if (key === "Escape" && state.open) closeBlock();
  else if (ZOOMS[key]) {
    ZOOMS[key]();
    event.preventDefault();
  }
});
query.addEventListener("input", drawResults);
document.addEventListener("pointerdown", (event) => {
  if (!event.target.closest(".find")) results.hidden = true;
});

const aside = el("aside", {}, data.marks.length ? findings() : null, hasPairs ? pairsPane : null,
  details);
document.body.prepend(toolbar(), el("div", { id: "parts" }, view, pane, aside),
  ...data.notes.map((note) => el("p", { class: "note" }, note)));
levels.forEach((level, place) => wire(svgs[place], level));
if (!levels.length)
  networks.forEach(({ role, boxes }, side) => {
    const nodes = [...view.querySelectorAll("g.node[id]")].filter(({ id }) => id[0] === role[0]);
    wireBoxes({ querySelectorAll: () => nodes }, side, [...boxes.keys()]);
  });
pane.hidden = true;
fit();
update();
drawDetails();
if (data.focus) go(...data.focus);
new ResizeObserver(fitLater).observe(view);
