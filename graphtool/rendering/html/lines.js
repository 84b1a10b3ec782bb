// Lines, from where the browser has put what they join.

const FIRST_LINE = 14; // the middle of a row's head, whatever is open below
const hasRails = data.panels.some((panel) => panel.flows.some(([from, to]) => to !== from + 1));

// The row that a Value lies in, however deep.
function rowOf(side, value) {
  const network = data.networks[side];
  let box = network.values[value].b;
  while (box !== undefined) {
    const place = network.flows[network.homes.get(box)]?.place;
    if (place?.owner === undefined) return place ? rows[side][place.card][place.row] : null;
    box = place.owner;
  }
  return null;
}

const cardOf = (side, row) => cards[side].find(({ cells }) => cells.includes(row.element));
const cellsOf = ({ cells, band }) => (bands[band].isFolded ? cells.slice(0, 1) : cells);

// Where a pair's line ends: at the row, or at the title of what is folded.
function endCell(side, value) {
  const row = rowOf(side, value);
  if (!row) return null;
  const { band, cells } = cardOf(side, row);
  return bands[band].isFolded ? cells[0] : row.element;
}

function flowLines(panel, side) {
  const arrow = (x, from, to) => line("flow", `M${x},${from}V${to - 7}`);
  const edge = (card) => {
    const cells = cellsOf(card);
    return { top: cells[0].offsetTop, bottom: cells.at(-1).offsetTop + cells.at(-1).offsetHeight };
  };
  const head = heads[side];
  const centre = head.offsetLeft + head.offsetWidth / 2;
  const [first] = cards[side];
  if (!first) return [];
  const lines = panel.flows.map(([from, to]) => {
    const [source, target] = [edge(cards[side][from]), edge(cards[side][to])];
    if (to === from + 1) return arrow(centre, source.bottom, target.top);
    const out = 10 + 7 * Math.min(6, Math.abs(to - from));
    const [x, turn] = side
      ? [head.offsetLeft + head.offsetWidth, out]
      : [head.offsetLeft, -out];
    const [start, end] = [source.bottom - 12, target.top + FIRST_LINE];
    const tip = x + Math.sign(turn) * 7;
    return line("flow", `M${x},${start}C${x + turn},${start} ${x + turn},${end} ${tip},${end}`);
  });
  return [arrow(centre, head.offsetTop + head.offsetHeight, edge(first).top), ...lines];
}

function pairLine(held, teacher, student, through) {
  if (!teacher || !student) return [];
  const kind = [
    "pair",
    held.some((pair) => looking.has(pair)) ? "looked" : "",
    held.every((pair) => pair.own) ? "own" : "",
  ].join(" ");
  const right = [teacher.offsetLeft + teacher.offsetWidth, teacher.offsetTop + FIRST_LINE];
  const left = [student.offsetLeft, student.offsetTop + FIRST_LINE];
  const curve = ([x, y], [to, at]) => {
    const half = (x + to) / 2;
    return line(kind, `M${x},${y}C${half},${y} ${half},${at} ${to},${at}`);
  };
  if (!through) return [curve(right, left)];
  const at = through.offsetTop + through.offsetHeight / 2;
  const pill = through.offsetLeft;
  return [curve(right, [pill, at]), curve([pill + through.offsetWidth, at], left)];
}

function pairLines() {
  const shown = pills.filter(({ pill }) => !pill.hidden);
  const joined = shown.flatMap(({ pill, held, band }) => {
    const ends = held.find(isShown).ends.map((value, side) => endCell(side, value));
    return pairLine(held, ...ends, bands[band].isFolded ? bands[band].summary.firstChild : pill);
  });
  const own = pairs.filter((pair) => pair.own && isShown(pair)).flatMap((pair) =>
    pairLine([pair], ...pair.ends.map((value, side) => endCell(side, value)), null));
  return [...joined, ...own];
}

function drawLines() {
  const arrows = data.panels.flatMap(flowLines);
  overlay.replaceChildren(arrowHead(), ...arrows, ...pairLines());
  overlay.setAttribute("width", board.offsetWidth);
  overlay.setAttribute("height", board.offsetHeight);
}

function arrowHead() {
  const marker = document.createElementNS(SVG, "marker");
  const attributes = { id: "head", viewBox: "0 0 8 8", refX: 1, refY: 4, orient: "auto" };
  for (const [name, value] of Object.entries({ ...attributes, markerWidth: 5, markerHeight: 5 }))
    marker.setAttribute(name, value);
  marker.append(line("", "M0,0 8,4 0,8z"));
  return marker;
}
