// All texts of the data are printable; `data.raw` has what those were that had to be changed.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const NAME_SLOT = "\\ue000"; // as Python prints it
const records = ({ fields, rows }) =>
  rows.map((row) => Object.fromEntries(fields.map((field, place) => [field, row[place] ?? null])));

// Values, boxes, blocks, rows and pairs refer to each other here, by indices in the data.
const networks = data.networks.map(({ role, name, lines, ...held }, side) => {
  const [values, boxes] = [records(held.values), records(held.boxes)];
  const network = { side, role, name, values, boxes };
  for (const value of values) Object.assign(value, { network, readers: [], box: null });
  for (const box of boxes) {
    Object.assign(box, { network, lines: lines[box.lines] ?? [], block: null, node: null });
    for (const ends of ["results", "operands"])
      box[ends] = (box[ends] ?? []).map((place) => values[place]);
    for (const value of box.results) value.box = box;
    for (const value of box.operands) value.readers.push(box);
    box.title = box.results[0]?.name ?? box.name;
    box.kind = box.type?.split(".").at(-1).replace(/_+$/, "") ?? box.title;
  }
  network.blocks = held.blocks.map(({ inputs, value, drawing, ...block }) => {
    const made = { value: values[value], drawing, inputs: inputs.map((place) => boxes[place]),
      boxes: block.boxes.map((place) => boxes[place]), rows: [] };
    for (const box of made.boxes) box.block = made;
    return made;
  });
  return network;
});
const valuesAt = (ends) => ends.map((place, side) => networks[side].values[place]);
const view = document.getElementById("view");
const levels = data.levels.map((level, place) => {
  const rows = level.rows.map((cards, side) => cards.map((card) => card.map((row) => {
    const blocks = row.blocks.map((block) => networks[side].blocks[block]);
    const made = { ...row, blocks, side };
    for (const block of blocks) block.rows[place] = made;
    return made;
  })));
  const at = (spot, side) => spot && rows[side][spot.card][spot.row];
  return { ...level, rows, pills: [], spots: level.spots.map((spots) => spots.map(at)) };
});
const detailed = Math.max(0, levels.findIndex(({ level }) => level !== "stage"));
const pairs = (data.pairs ?? []).map((pair) => ({ ...pair, ends: valuesAt(pair.ends),
  taps: pair.taps.map(({ tap, ends }) => ({ tap, ends: valuesAt(ends) })) }));
// A report may be about two networks without a word about pairs.
const hasPairs = data.pairs !== undefined && (pairs.length > 0 || data.findings.length === 0);
const svgs = [
  view.firstElementChild,
  ...[...document.querySelectorAll("template.level")].map((held) => held.content.firstElementChild),
];
const drawings = [...document.querySelectorAll("template.drawing")];
const state = {
  chosen: new Set(), // pairs in the recipe
  hidden: new Set(), // kinds of pairs that are not shown
  looked: new Set(), // pairs under the pointer
  picked: networks.map(() => null), // a Value of each network
  level: 0,
  open: null, // { row, at }: which block of a row is shown
};

const isShown = (pair) => !state.hidden.has(pair.kind);
const rowOf = (value) => value?.box?.block?.rows[state.level];
// The row at the level that is shown, or the box where Operators are drawn.
const shownAt = (value) => (levels.length ? rowOf(value)?.link : value.box?.node);
const center = (element) => element?.scrollIntoView({ block: "center", inline: "nearest" });
const dtypeOf = (value) => value.dtype ?? "float32";
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
const note = (text) => el("p", { class: "note" }, text);

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
  for (const link of svg.querySelectorAll("a")) {
    const name = link.getAttribute("href").slice(1);
    const [kind, first, second] = name.split("-");
    if (kind === "mark") {
      const { code, slug, message } = data.findings[first];
      link.classList.add("mark");
      button(link, `${code} ${slug}`, () => say(message));
    } else if (kind === "pair") {
      const held = pairs.filter((pair) => level.ranks[first].includes(pair.rank));
      link.classList.add("pill");
      button(link, `pair ${level.ranks[first]}`, () => choose(held.filter(isShown)));
      link.addEventListener("mouseenter", () => look(held));
      link.addEventListener("mouseleave", () => look([]));
      level.pills.push({ link, held, edges: [...svg.querySelectorAll(`.${name}`)] });
    } else {
      const side = networks.findIndex(({ role }) => role === kind);
      const row = level.rows[side][first][second];
      Object.assign(link, { side });
      row.link = link;
      link.classList.add("row", kind);
      button(link, `${row.title}: ${row.name}`, () => openRow(row));
    }
  }
}

function wireBoxes(nodes, boxes, inputs = []) {
  // Graphviz has an order of its own; keys go from operator to operator in that of the program.
  for (const node of [...nodes].sort((a, b) => a.id.slice(1) - b.id.slice(1))) {
    node.parentNode.append(node);
    const isInput = node.id[0] === "i";
    const box = (isInput ? inputs : boxes)[node.id.slice(1)];
    const value = box.results[0];
    node.removeAttribute("id");
    node.classList.add(isInput ? "input" : "box");
    Object.assign(node, { value, side: box.network.side });
    button(node, [box.kind, box.title].join(" "), () =>
      isInput ? go(box.network, value, box) : pick(box.network, value));
    const title = document.createElementNS(SVG, "title");
    title.textContent = [box.title, box.lines[0]].filter(Boolean).join("\n");
    node.append(title);
    if (!isInput) box.node = node;
    for (const text of node.querySelectorAll("text"))
      if (text.textContent === NAME_SLOT)
        writeName(text, node, isInput ? `from ${box.title}` : box.title);
  }
}

// Cut a name to its box; an input's begins at its left.
function writeName(text, node, name) {
  const frame = node.querySelector("polygon").getBBox();
  const x = node.matches(".input") ? frame.x + 8 : Number(text.getAttribute("x"));
  text.setAttribute("x", x);
  text.textContent = name;
  for (let end = name.length; end && text.getComputedTextLength() > frame.x + frame.width - x - 8; )
    text.textContent = `${name.slice(0, --end)}…`;
}

// Opening a block: a drawing that equal blocks share, or a list of its operators.
const pane = el("section", { id: "block", "aria-label": "operators of a block" });

function openRow(row, at = row.blocks.length - 1) {
  state.open = row.blocks.length ? { row, at } : null;
  drawBlock();
  pick(networks[row.side], row.blocks[at]?.value);
}

function drawBlock() {
  pane.hidden = !state.open;
  if (levels.length) for (const { boxes } of networks) for (const box of boxes) box.node = null;
  if (!state.open) return fitLater();
  const { row, at } = state.open;
  const block = row.blocks[at];
  const { title, name } = block.rows[detailed] ?? { title: "", name: "" };
  const { role } = networks[row.side];
  const arrow = (id, sign, to, about) =>
    el("button", { id, title: about, disabled: !row.blocks[to], onclick: () => openRow(row, to) },
      sign);
  const many = row.blocks.length > 1
    ? [arrow("before", "‹", at - 1, "block before"),
      span("note", `${at + 1} of ${row.blocks.length}`), arrow("after", "›", at + 1, "next block")]
    : [];
  const body = el("div", { class: "body" });
  pane.className = role;
  pane.replaceChildren(
    el("header", {}, el("h2", {}, name, span("note", `${role} · ${title}`)), ...many,
      el("button", { id: "close", title: "close: Esc", onclick: closeBlock }, "×")),
    body,
  );
  const drawing = drawings[block.drawing ?? -1];
  if (!drawing) {
    const count = counted(block.boxes.length, "operator");
    body.append(note(`${count}, listed without a drawing.`),
      el("ol", {}, ...block.boxes.map((box) => el("li", {}, boxButton(box)))));
    return;
  }
  const svg = document.importNode(drawing.content.firstElementChild, true);
  body.append(svg);
  scaleSvg(svg, Math.max(0.5, Math.min(0.8, (0.42 * innerWidth - 48) / natural(svg)[0])));
  wireBoxes(svg.querySelectorAll("g.node[id]"), block.boxes, block.inputs);
}

function boxButton(box) {
  const value = box.results[0];
  box.node = el("button", { class: "box", onclick: () => pick(box.network, value) },
    el("b", {}, box.kind), span("name", box.title ?? ""), span("note", dims(value?.shape)));
  return Object.assign(box.node, { value, side: box.network.side });
}

function closeBlock() {
  const row = state.open && rowOf(state.picked[state.open.row.side]);
  state.open = null;
  drawBlock();
  row?.link.focus();
}

// Go to a Value: to its box in its block, or to the row that is given. An operator without results
// is gone to by its box; nothing is picked then.
function go(network, value, box = value.box, row = null) {
  const shown = box?.block?.rows[state.level];
  if (row) openRow(row);
  else if (shown) {
    state.open = { row: shown, at: shown.blocks.indexOf(box.block) };
    drawBlock();
    center(shown.link);
  }
  const target = row ? shownAt(value) : box?.node;
  pick(network, value);
  if (!target) return say("it lies in no block");
  center(target);
  target.focus({ preventScroll: true });
}

const pick = (network, value) => pickAll(state.picked.with(network.side, value ?? null));

function pickAll(values) {
  state.picked = values;
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
  const shown = pairs.filter(isShown);
  const of = (held) => held.flatMap((value) => [value, rowOf(value)?.link]);
  const found = Object.entries({
    paired: shown.flatMap(({ ends }) => ends),
    looked: shown.filter((pair) => state.looked.has(pair)).flatMap(({ ends }) => ends),
    picked: state.picked.filter(Boolean),
  }).map(([kind, held]) => [kind, new Set(of(held))]);
  for (const element of document.querySelectorAll("a.row, .box, .input"))
    for (const [kind, held] of found)
      element.classList.toggle(kind, held.has(element.value ?? element));
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
  if (held.length === 1) state.picked = held[0].ends;
  update();
}

function update() {
  for (const { link, held, edges } of levels[state.level]?.pills ?? []) {
    const shown = held.filter(isShown);
    link.setAttribute("aria-pressed", shown.every((pair) => state.chosen.has(pair)));
    for (const part of [link, ...edges]) part.classList.toggle("away", shown.length === 0);
  }
  drawOwnPairs();
  drawPairs();
  pickAll(state.picked);
}

// Pairs of one's own choice are dashed lines from row to row.
function drawOwnPairs() {
  for (const old of view.querySelectorAll("path.own")) old.remove();
  for (const pair of pairs.filter((each) => each.own && isShown(each))) {
    const [teacher, student] = pair.ends.map((value) => shownAt(value)?.getBBox());
    if (!teacher || !student) continue;
    const [x, y] = [teacher.x + teacher.width, teacher.y + teacher.height / 2];
    const [to, at] = [student.x, student.y + student.height / 2];
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", "own");
    path.setAttribute("d", `M${x},${y}C${(x + to) / 2},${y} ${(x + to) / 2},${at} ${to},${at}`);
    view.querySelector("g.graph").append(path);
  }
}

const namesOf = ({ ends }) => ends.map(({ name }) => name).join(" ← ");

// What a pair of two feature maps would be was worked out for each two classes of maps.
function pairOf(teacher, student) {
  const known = pairs.find(({ ends }) => ends[0] === teacher && ends[1] === student);
  const form = data.forms?.[data.table?.[teacher.class]?.[student.class]];
  if (known || !form) return known ?? null;
  const [kind, relation, adapter, loss, warnings] = form;
  const rank = 1 + Math.max(0, ...pairs.map((pair) => pair.rank));
  return { rank, kind, loss, weight: 1, adapter, relation, why: ["chosen in the picture"], warnings,
    ends: [teacher, student], taps: [], own: true };
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
  const known = Object.entries(held).filter(([, value]) => (value ?? "") !== "");
  return `${[title, ...known.map(([key, value]) => `${key} = ${toml(value)}`)].join("\n")}\n`;
}

function endOf(value) {
  const { name, box, output, layer, shape, fingerprint } = value;
  return { name, op: box?.type, op_index: box?.index, output: output ?? 0, module: box?.module,
    layer, shape, dtype: dtypeOf(value), fingerprint };
}

function recipe() {
  const chosen = pairs.filter((pair) => state.chosen.has(pair));
  const tables = chosen.flatMap(({ ends, taps: _taps, own: _own, ...pair }) => [
    table("[[pairs]]", pair),
    table("[pairs.teacher]", endOf(ends[0])),
    table("[pairs.student]", endOf(ends[1])),
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
    say(`copied ${what}`);
  } catch {
    say("the browser lets no page copy that was opened this way");
  }
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
    const onclick = () => {
      if (!state.hidden.delete(kind)) state.hidden.add(kind);
      update();
    };
    const count = pairs.filter((pair) => pair.kind === kind).length;
    return el("button", { id: `kind-${kind}`, "aria-pressed": String(!state.hidden.has(kind)),
      title: "show or hide", onclick }, `${kind.replaceAll("_", " ")} ${count}`);
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
    pickAll(pair.ends);
    for (const value of pair.ends) center(shownAt(value));
  };
  const name = el("button", { id: `show-${place}`, onclick: show }, namesOf(pair));
  const about = [pair.relation, pair.adapter, pair.loss].filter(Boolean).join(" · ");
  return el("li", { onmouseenter: () => look([pair]), onmouseleave: () => look([]) },
    box, span("rank", pair.rank), el("div", {}, name, span("note", about)));
}

function findings() {
  const items = data.findings.map(({ severity, code, slug, count, message }, place) => {
    const show = () => {
      for (const row of levels[state.level].spots[place].filter(Boolean)) {
        openRow(row);
        center(row.link);
      }
    };
    const isPlaced = levels[0]?.spots[place].some(Boolean);
    return el("li", { class: `is-${severity}` },
      el("b", {}, `${severity} ${code} ${slug}${count > 1 ? ` × ${count}` : ""}`),
      el("div", {}, message), isPlaced ? el("button", { onclick: show }, "show") : null);
  });
  return el("section", { id: "findings", "aria-label": "findings" },
    el("h2", {}, counted(items.length, "finding")), el("ul", {}, ...items));
}

// What a Value is.
const details = el("section", { id: "details", "aria-label": "details" });

function drawDetails() {
  const picked = state.picked.filter(Boolean);
  details.replaceChildren(
    ...(hasPairs && picked.length === 2 ? [pairDetails(...picked)] : []),
    ...picked.map(valueDetails),
    ...(picked.length ? [] : [note("Pick a row or an operator to see what it is.")]),
  );
}

function pairDetails(teacher, student) {
  const pair = pairOf(teacher, student);
  if (!pair) return note("These two cannot be paired.");
  const title = pairs.includes(pair) ? `Pair ${pair.rank}` : "A new pair";
  const items = (texts) => texts.map((text) => el("li", {}, text));
  return el("section", { class: "pairing" },
    el("h3", {}, `${title} · ${pair.kind}`),
    list({ relation: pair.relation, adapter: pair.adapter, loss: pair.loss,
      score: pair.score?.toFixed(2), "other taps": pair.taps.map(({ tap, ends }) =>
        el("button", { onclick: () => pickAll(ends) }, tap)) }),
    el("ul", {}, ...items(pair.why)),
    el("ul", { class: "warnings" }, ...items(pair.warnings)),
    el("button", { id: "choose", onclick: () => choose([pair]) },
      state.chosen.has(pair) ? "take out of the recipe" : "add to the recipe"));
}

function list(held) {
  const known = Object.entries(held).filter(([, about]) => about?.length);
  return el("dl", {}, ...known.flatMap(([name, about]) => [
    el("dt", {}, name), el("dd", {}, ...(Array.isArray(about) ? about : [about]))]));
}

function valueDetails(value) {
  const { network, name, shape, layer, readers, box } = value;
  const links = (values) => values.filter(Boolean).map((other) =>
    el("button", { onclick: () => go(network, other) }, other.name));
  const lines = (texts) => texts.filter(Boolean).map((text) => el("div", {}, text));
  const inputs = box?.operands ?? [];
  return el("section", { class: `value ${network.role}` },
    el("h3", {}, span("role", network.role), span("name", name),
      el("button", { class: "copy", onclick: () => copy(data.raw[name] ?? name, "name") }, "copy")),
    list({
      shape: dims(shape),
      dtype: dtypeOf(value),
      operator: box?.type,
      "operator name": box?.name,
      module: box?.module,
      layer,
      "source line": box?.source,
      "other results": links((box?.results ?? []).filter((other) => other !== value)),
      reads: links(inputs.filter((other) => other.box)),
      "read by": links(readers.map((reader) => reader.results[0])),
      parameters: lines(inputs.filter(({ parameter }) => parameter)
        .map((other) => `${other.name}  ${dims(other.shape)}`)),
      attributes: lines(box?.lines.slice(1) ?? []),
    }));
}

// Search: each word has to be in what is known of a box or row; `512x7x7` is a shape, or its end.
const SHAPE = /^[[(]?[-?\d]+(?:[x×*,][-?\d]+)+[\])]?$/;
const MOST = 40;
let entries = null;

function indexed() {
  const rows = (levels[detailed]?.rows ?? []).flat(2).map((row) =>
    ({ row, network: networks[row.side], value: row.blocks.at(-1)?.value, name: row.name,
      about: row.title, text: `${row.title} ${row.name}`, shapes: "" }));
  const boxes = networks.flatMap((network) => network.boxes.map((box) => {
    const { kind, title, name, type, module, source, lines, results } = box;
    const names = results.flatMap((value) => [value.name, value.layer]);
    return { box, network, value: results[0], name: title, about: kind,
      text: [kind, name, type, module, source, lines[0], ...names].filter(Boolean).join(" "),
      shapes: results.map(({ shape }) => `,${(shape ?? []).join(",")},`).join(" ") };
  }));
  return [...rows, ...boxes].map((entry) => ({ ...entry, text: entry.text.toLowerCase() }));
}

function search(text) {
  entries ??= indexed();
  const words = text.toLowerCase().replaceAll(/\s*([x×*,])\s*(?=[-?\d])/g, "$1").split(/\s+/);
  const tests = words.filter(Boolean).map((word) => {
    if (!SHAPE.test(word)) return (entry) => entry.text.includes(word);
    const shape = `,${word.replaceAll(/[[\]()]/g, "").replaceAll("?", "-1").split(/[x×*,]/)},`;
    return (entry) => entry.shapes.includes(shape) || entry.text.includes(word);
  });
  const other = (entry) => Number(entry.value?.name.toLowerCase() !== words[0]);
  if (tests.length === 0) return [];
  return entries
    .filter((entry) => tests.every((test) => test(entry)))
    .sort((a, b) => other(a) - other(b));
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
  const items = found.slice(0, MOST).map(({ network, value, row, box, name, about }) =>
    el("li", {}, el("button", { class: network.role, onclick: () => {
      results.hidden = true;
      go(network, value, box, row);
    } }, span("name", name), span("note", about), span("shape", dims(value?.shape)))));
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

function otherLevel() {
  if (svgs.length < 2) return;
  state.level = 1 - state.level;
  view.replaceChildren(svgs[state.level]);
  fit();
  update();
}

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
  const { dataset } = document.documentElement;
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  dataset.theme = (dataset.theme ?? (isDark ? "dark" : "light")) === "dark" ? "light" : "dark";
}

const LEGEND = {
  "a row": "a block, or × n equal ones; click it to see its operators",
  "↓2": "the resolution is halved there",
  "params, MACs": "parameters, and multiply-adds for one sample; the bar compares them",
  number: "a pair, by rank; 256 ← 24 are the channels of teacher and student",
  filled: "the pair is in the recipe",
  dashed: "a pair of your own: pick a Value in each network and add it",
};
const KEYS = {
  "/": "search",
  "↑ ↓": "row or operator above, below",
  "→ ← Esc": "open, close a block",
  Enter: "pick a Value, choose a pair",
  "+ − 0 1": "zoom, fit, real size",
  f: "stages or blocks",
};
const byUser = (change) => () => {
  isFitted = change === fit;
  change();
};
const ACTIONS = {
  "+": byUser(() => zoom(scale * 1.2)),
  "-": byUser(() => zoom(scale / 1.2)),
  0: byUser(fit),
  1: byUser(() => zoom(1)),
  f: otherLevel,
  "/": () => query.focus(),
};
ACTIONS["="] = ACTIONS["+"];
const tool = (id, text, title, onclick) => el("button", { id, title, onclick }, text);
const percent = tool("level", "100 %", "real size: 1", ACTIONS[1]);

function toolbar() {
  const swatches = networks.map(({ role }) => span(`swatch ${role}`, role));
  const pair = hasPairs ? span("swatch pair", "pair") : null;
  return el("header", { id: "bar" },
    el("h1", {}, networks.map(({ name }) => name).join(" → ")),
    el("div", { class: "find" }, query, results),
    svgs.length > 1 ? tool("fold", "stages / blocks", "stages or blocks: f", otherLevel) : null,
    el("span", { class: "zoom" }, tool("out", "−", "smaller: -", ACTIONS["-"]), percent,
      tool("in", "+", "larger: +", ACTIONS["+"]), tool("fit", "fit", "fit the width: 0", ACTIONS[0])),
    tool("theme", "◐", "dark or light", switchTheme),
    el("details", { id: "legend" }, el("summary", {}, "legend and keys"),
      el("div", { class: "legend" }, el("div", {}, ...swatches, pair), list(LEGEND), list(KEYS))),
    status);
}

const STEPS = { ArrowDown: 1, ArrowUp: -1 };

function stepResult(event) {
  const all = [query, ...results.querySelectorAll("button")];
  const at = all.indexOf(document.activeElement);
  const by = STEPS[event.key];
  if (event.key === "Escape") results.hidden = true;
  else if (event.key === "Enter" && at === 0) all[1]?.click();
  else if (!by || at < 0) return;
  else all[at + by]?.focus();
  event.preventDefault();
}

// Keys: rows or operators above and below, opening and closing.
function stepRow(target, key) {
  const all = [...target.closest("#block, #view").querySelectorAll("a.row, .box")];
  const same = all.filter(({ side }) => side === target.side);
  const click = () =>
    target.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
  const row = target.matches("a.row");
  if (STEPS[key]) same[same.indexOf(target) + STEPS[key]]?.focus();
  else if (key === "ArrowLeft") closeBlock();
  else if (key === "ArrowRight" && row) {
    click();
    pane.querySelector(".box")?.focus();
  } else if ([" ", "Enter"].includes(key) && !row) click();
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
  else if (ACTIONS[key]) {
    ACTIONS[key]();
    event.preventDefault();
  }
});
query.addEventListener("input", drawResults);
document.addEventListener("pointerdown", (event) => {
  if (!event.target.closest(".find")) results.hidden = true;
});

const aside = el("aside", {}, data.findings.length ? findings() : null,
  hasPairs ? pairsPane : null, details);
document.body.prepend(toolbar(), el("div", { id: "parts" }, view, pane, aside),
  ...data.notes.map(note));
levels.forEach((level, place) => wire(svgs[place], level));
if (!levels.length)
  for (const { role, boxes } of networks)
    wireBoxes([...view.querySelectorAll("g.node[id]")].filter(({ id }) => id[0] === role[0]), boxes);
pane.hidden = true;
fit();
update();
if (data.focus) go(networks[data.focus[0]], networks[data.focus[0]].values[data.focus[1]]);
new ResizeObserver(fitLater).observe(view);
