// What the page knows: the data, the state, recipes and search. Nothing is drawn here.

const data = JSON.parse(document.getElementById("data").textContent);
const pairs = data.pairs ?? [];
// A report may be about two networks without a word about pairs.
const hasPairs = data.pairs !== undefined && (pairs.length > 0 || data.marks.length === 0);

const state = {
  chosen: new Set(), // pairs that are in the recipe
  hidden: new Set(), // kinds of pairs that are not shown
  picked: data.panels.map(() => null), // a Value of each network, by its place
};

const valueOf = (side, place) => data.networks[side].values[place];
const boxOf = (side, place) => data.networks[side].boxes[place];
const isShown = (pair) => !state.hidden.has(pair.kind);
const dims = (shape) =>
  shape ? shape.map((dim) => (dim < 0 ? "?" : dim)).join(" × ") || "scalar" : "?";
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

// Names may hold anything: what would act on the text around it, or cannot be seen, is written out,
// by the rules of graphtool/text.py.
const UNSEEN = /[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}\u2800\u{1d159}]/u;
const MOST_MARKS = 3;

function visible(text) {
  if (/^[ -[\]-~]*$/.test(text)) return text;
  const isNormal = text.normalize("NFC") === text;
  let marks = MOST_MARKS;
  const shown = Array.from(text.replaceAll(/\\(?=[\\nrtxuU]|[^ -~])/gu, "\\\\"), (letter) => {
    marks = /\p{M}/u.test(letter) ? marks + 1 : 0;
    const isSeen = letter === " " || !UNSEEN.test(letter);
    return isSeen && marks <= MOST_MARKS && (letter <= "~" || isNormal) ? letter : written(letter);
  });
  return shown.join("");
}

function written(letter) {
  const short = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[letter];
  const code = letter.codePointAt(0);
  const [sign, length] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
  return short ?? `\\${sign}${code.toString(16).padStart(length, "0")}`;
}

const visibleLines = (text) => text.split("\n").map(visible).join("\n");

// Which block or region each box lies in: networks[side].homes[box] is a flow, and
// flows[flow].place says where that is.
for (const [side, network] of data.networks.entries()) {
  network.homes = new Map();
  network.readers = new Map();
  data.panels[side].cards.forEach((card, c) =>
    card.rows.forEach((row, r) =>
      row.blocks.forEach((block, b) => {
        network.flows[block.flow].place = { card: c, row: r, block: b };
      })));
  network.boxes.forEach((box, place) => {
    for (const path of box.g ?? []) {
      const region = network.regions[path];
      if (region) network.flows[region.flow].place = { owner: place, path };
    }
    for (const value of box.i ?? []) {
      if (!network.readers.has(value)) network.readers.set(value, []);
      network.readers.get(value).push(place);
    }
  });
  network.flows.forEach((flow, f) => flow.b.forEach((box) => network.homes.set(box, f)));
}

// Pairs of one's own choice: what they would be was worked out for each two classes of maps.
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
  const parts = split(value).map((part, index) =>
    index % 2 ? part : JSON.stringify(part).slice(1, -1).replaceAll("\x7f", "\\u007f"));
  return `"${parts.join("")}"`;
}

function table(title, held) {
  const lines = Object.entries(held)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([key, value]) => `${key} = ${toml(value)}`);
  return `${[title, ...lines].join("\n")}\n`;
}

function endOf(side, place) {
  const value = valueOf(side, place);
  const box = value.b === undefined ? {} : boxOf(side, value.b);
  return {
    name: value.n,
    op: box.k,
    op_index: box.x,
    output: value.o,
    module: box.m,
    layer: value.l,
    shape: value.s,
    dtype: value.d,
    fingerprint: value.f,
  };
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

function bytesOf(text) {
  return split(text).map((part, index) => {
    if (index % 2 === 0) return part;
    const code = part.charCodeAt(0);
    return new Uint8Array([0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63)]);
  });
}

// Search: each word has to be in what is said of a box or row; `512x7x7` is a shape, or its end.
const SHAPE = /^[[(]?[-?\d]+(?:[x×*,][-?\d]+)+[\])]?$/;

let entries = null;

function indexed() {
  const found = [];
  data.networks.forEach((network, side) => {
    data.panels[side].cards.forEach((card, c) =>
      card.rows.forEach((row, r) => {
        const text = `${card.title} ${row.name}`;
        found.push({ side, card: c, row: r, value: row.blocks.at(-1).value, text, shapes: "" });
      }));
    network.boxes.forEach((box, place) => {
      const values = box.o.map((value) => network.values[value]);
      const names = values.flatMap((value) => [value.n, value.l]);
      const text = [box.t, box.n, box.k, box.m, box.s, box.l, ...names].filter(Boolean).join(" ");
      const shapes = values.map((value) => `,${(value.s ?? []).join(",")},`).join(" ");
      found.push({ side, box: place, value: box.o[0], text, shapes });
    });
  });
  const both = (text) => [...new Set([text, visible(text)])].join(" ").toLowerCase();
  return found.map((entry) => ({ ...entry, text: both(entry.text) }));
}

function search(query) {
  entries ??= indexed();
  const words = query.toLowerCase().replaceAll(/\s*([x×*,])\s*(?=[-?\d])/g, "$1").split(/\s+/);
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
