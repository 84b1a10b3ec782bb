// Beside the picture: pairs and the recipe, what a Value is, and what a search found.

let looking = new Set();

function look(held) {
  looking = new Set(held.filter(isShown));
  say([...looking].map((pair) => `${pair.rank}: ${namesOf(pair)}`).join(", "));
  tint();
  drawLines();
}

// Tints what is picked, paired and looked at, on rows and boxes alike.
function tint() {
  const found = { paired: new Set(), looked: new Set(), picked: new Set() };
  const add = (kind, side, value) => {
    found[kind].add(`${side}:${value}`);
    if (kind !== "picked") found[kind].add(rowOf(side, value));
  };
  for (const pair of pairs.filter(isShown))
    pair.ends.forEach((value, side) => {
      add("paired", side, value);
      if (looking.has(pair)) add("looked", side, value);
    });
  state.picked.forEach((value, side) => add("picked", side, value));
  for (const element of board.querySelectorAll("[data-v]"))
    for (const [kind, held] of Object.entries(found))
      element.classList.toggle(kind, held.has(element.dataset.v) || held.has(element.fold ?? 0));
}

function pick(side, value) {
  state.picked[side] = value ?? null;
  tint();
  drawDetails();
}

function pickPair(pair) {
  state.picked = [...pair.ends];
  tint();
  drawDetails();
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
  for (const { pill, rank, held } of pills) {
    const shown = held.filter(isShown);
    pill.hidden = shown.length === 0;
    pill.setAttribute("aria-pressed", shown.every((pair) => state.chosen.has(pair)));
    rank.textContent = ranksOf(shown);
    pill.title = shown.map((pair) => visible(`${pair.rank}: ${namesOf(pair)}`)).join("\n");
  }
  bands.forEach((band, index) => {
    const held = pills.filter((pill) => pill.band === index).flatMap((pill) => pill.held);
    const shown = band.isFolded ? held.filter(isShown) : [];
    const said = [span("rank", ranksOf(shown)), span("text", counted(shown.length, "pair"))];
    const open = { class: "pill", onclick: () => foldBands([index], false) };
    band.summary.replaceChildren(...(shown.length ? [el("button", open, ...said)] : []));
  });
  tint();
  drawLines();
  drawPairs();
}

const namesOf = ({ ends }) => ends.map((value, side) => valueOf(side, value).n).join(" ← ");

// Pairs and the recipe.
const pairsPane = el("section", { id: "pairs", "aria-label": "pairs" });

function drawPairs() {
  if (!hasPairs) return;
  const focused = document.activeElement?.id;
  const scrolled = pairsPane.querySelector("ul")?.scrollTop;
  const kinds = [...new Set(pairs.map((pair) => pair.kind))];
  const toggles = kinds.map((kind) => {
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
  const all = el("button", { id: "all", onclick: () => choose(shown) }, "all");
  const isEmpty = state.chosen.size === 0;
  const taken = { disabled: isEmpty, title: isEmpty ? "choose pairs first" : null };
  pairsPane.replaceChildren(
    el("h2", {}, `${counted(pairs.length, "pair")}${own ? `, ${own} of your own` : ""}`),
    el("div", { class: "toggles" }, ...toggles),
    el("ul", {}, ...shown.map(pairItem)),
    el(
      "div",
      { class: "recipe" },
      el("b", {}, `Recipe: ${isEmpty ? "no pairs yet" : counted(state.chosen.size, "pair")}`),
      all,
      el("button", { id: "copy", ...taken, onclick: () => copy(recipe(), "recipe") }, "copy"),
      el("button", { id: "download", ...taken, onclick: download }, "download pairs.toml"),
    ),
  );
  pairsPane.querySelector("ul").scrollTop = scrolled;
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

function pairItem(pair) {
  const isIn = state.chosen.has(pair);
  const box = el("input", {
    type: "checkbox",
    id: `pair-${pairs.indexOf(pair)}`,
    checked: isIn,
    "aria-label": `pair ${pair.rank} in the recipe`,
    onchange: () => choose([pair]),
  });
  const show = () => {
    pickPair(pair);
    pair.ends.forEach((value, side) => go(side, value, rowOf(side, value)));
  };
  const name = el("button", { id: `show-${pairs.indexOf(pair)}`, onclick: show }, namesOf(pair));
  const said = span("note", [pair.relation, pair.adapter, pair.loss].filter(Boolean).join(" · "));
  return el(
    "li",
    { onmouseenter: () => look([pair]), onmouseleave: () => look([]) },
    box,
    span("rank", pair.rank),
    el("div", {}, name, said),
  );
}

// Findings, those at no row too.
function findings() {
  const items = data.marks.map((mark) => {
    const ends = mark.spots.map((spot, side) => spot && rows[side][spot[0]][spot[1]]);
    const show = () => ends.forEach((row, side) => row && go(side, row.value, row));
    const times = mark.count > 1 ? ` × ${mark.count}` : "";
    return el(
      "li",
      { class: `is-${mark.severity}` },
      el("b", {}, `${mark.severity} ${mark.code} ${mark.slug}${times}`),
      el("div", {}, mark.message),
      ends.some(Boolean) ? el("button", { onclick: show }, "show") : null,
    );
  });
  return el("section", { id: "findings", "aria-label": "findings" },
    el("h2", {}, counted(items.length, "finding")), el("ul", {}, ...items));
}

function download() {
  const url = URL.createObjectURL(new Blob(bytesOf(recipe()), { type: "application/toml" }));
  el("a", { href: url, download: "pairs.toml" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  say(`downloaded ${counted(state.chosen.size, "pair")}`);
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea", { class: "away" });
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
  status.textContent = visible(text);
};

// What a Value is.
const details = el("section", { id: "details", "aria-label": "details" });

function drawDetails() {
  const found = state.picked.map((value, side) => value !== null && valueDetails(side, value));
  const both = hasPairs && state.picked.every((value) => value !== null);
  const nothing = el("p", { class: "note" }, "Pick a row or an operator to see what it is.");
  const isEmpty = !found.some(Boolean);
  details.replaceChildren(
    ...(both ? [pairDetails(...state.picked)] : []),
    ...found.filter(Boolean),
    ...(isEmpty ? [nothing] : []),
  );
}

function pairDetails(teacher, student) {
  const pair = pairOf(teacher, student);
  if (!pair) return el("p", { class: "note" }, "These two cannot be paired.");
  const isIn = state.chosen.has(pair);
  const isKnown = pairs.includes(pair);
  const taps = pair.taps.map(({ tap, ends }) =>
    el("button", { onclick: () => pickPair({ ends }) }, tap));
  return el(
    "section",
    { class: "pairing" },
    el("h3", {}, isKnown ? `Pair ${pair.rank} · ${pair.kind}` : `A new pair · ${pair.kind}`),
    list({
      relation: pair.relation,
      adapter: pair.adapter,
      loss: pair.loss,
      score: pair.score?.toFixed(2),
      "other taps": taps.length ? taps : null,
    }),
    el("ul", {}, ...pair.why.map((why) => el("li", {}, why))),
    el("ul", { class: "warnings" }, ...pair.warnings.map((warning) => el("li", {}, warning))),
    el("button", { id: "choose", onclick: () => choose([pair]) },
      isIn ? "take out of the recipe" : "add to the recipe"),
  );
}

function list(held) {
  const known = Object.entries(held).filter(([, said]) => said?.length);
  return el("dl", {}, ...known.flatMap(([name, said]) => [
    el("dt", {}, name),
    el("dd", {}, ...(Array.isArray(said) ? said : [said])),
  ]));
}

function valueDetails(side, place) {
  const { values, boxes, attributes, readers } = data.networks[side];
  const value = values[place];
  const box = value.b === undefined ? {} : boxes[value.b];
  const link = (other) =>
    el("button", { onclick: () => go(side, other) }, values[other].n);
  const read = (box.i ?? []).filter((other) => values[other].b !== undefined);
  const held = (box.i ?? []).map((other) => values[other]).filter((other) => other.p);
  const used = (readers.get(place) ?? []).map((reader) => boxes[reader].o[0]);
  return el(
    "section",
    { class: `value ${roleOf(side)}` },
    el("h3", {}, span("role", roleOf(side)), span("name", value.n),
      el("button", { class: "copy", onclick: () => copy(value.n, "name") }, "copy")),
    list({
      shape: dims(value.s),
      dtype: value.d,
      operator: box.k,
      "operator name": box.n === value.n ? null : box.n,
      module: box.m,
      layer: value.l,
      "source line": box.s,
      "other results": box.o?.filter((other) => other !== place).map(link),
      reads: read.map(link),
      "read by": used.filter((other) => other !== undefined).map(link),
      parameters: held.map(({ n, s }) => el("div", {}, `${n}  ${dims(s)}`)),
      attributes: (attributes[box.a] ?? []).filter(Boolean).map((text) => el("div", {}, text)),
    }),
  );
}

// What a search found.
const MOST = 40;
const query = el("input", {
  id: "search",
  type: "search",
  placeholder: "search: name, operator, 512×7×7",
  "aria-label": "search by name, operator or shape",
});
const results = el("ul", { id: "results", "aria-label": "search results" });

function drawResults() {
  const found = search(query.value);
  const items = found.slice(0, MOST).map((entry) => {
    const value = valueOf(entry.side, entry.value);
    const open = () => {
      results.hidden = true;
      go(entry.side, entry.value, rows[entry.side][entry.card]?.[entry.row], entry.box);
    };
    const card = data.panels[entry.side].cards[entry.card];
    const name = card ? card.rows[entry.row].name : value?.n ?? boxOf(entry.side, entry.box).n;
    const what = card ? card.title : boxOf(entry.side, entry.box).t;
    const contents = [span("name", name), span("note", what), span("shape", dims(value?.s))];
    return el("li", {}, el("button", { class: roleOf(entry.side), onclick: open }, ...contents));
  });
  const rest = found.length > MOST ? `${found.length - MOST} more` : "";
  const said = found.length ? rest : "nothing found";
  results.replaceChildren(...items, said ? el("li", { class: "note" }, said) : "");
  results.hidden = !query.value.trim();
}
