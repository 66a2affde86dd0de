// What the page knows: the board as it was embedded, numbers as text, and the state that the address holds.

const parsed = (id) => JSON.parse(document.getElementById(id).textContent);
const board = parsed("board");
const evidence = (() => {
  let found;
  return () => (found ??= index(parsed("evidence")));
})();

// Numbers as text. A minus is a minus sign; what is not known is an en dash with words for those who listen.
const minus = (text) => text.replace("-", "−");
const fixed = (value, digits) => minus(value.toFixed(digits));
const score = (value) => fixed(value, 1);
const sparsityText = (value) => String(Math.round(value * 1000) / 1000);
const signed = (value, digits = 1) => (value > 0 ? "+" : "") + fixed(value, digits);
const times = (value) => (value < 0.095 ? value.toFixed(3) : value < 9.95 ? value.toFixed(2) : value.toFixed(1)) + "×";
const range = (low, high, text) => (low == null || high == null ? "" : `[${text(low)}, ${text(high)}]`);
const thousands = (n) => String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, ",");
const plural = (n, what) => `${thousands(n)} ${what}${n === 1 ? "" : "s"}`;
const several = (numbers) => {
  const runs = [];
  for (const n of [...numbers].sort((a, b) => a - b)) {
    const last = runs.at(-1);
    if (last && n === last[1] + 1) last[1] = n;
    else runs.push([n, n]);
  }
  return runs.map(([a, b]) => (a === b ? `${a}` : `${a}–${b}`)).join(", ");
};
function breakText(point) {
  if (!point) return null;
  return (point.open ? "≥ " : "") + point.estimate.toFixed(3);
}

/** Columns of equal length as rows: {a: [1, 2]} -> [{a: 1}, {a: 2}]. */
function unfold(columns) {
  const names = Object.keys(columns);
  const rows = new Array(names.length ? columns[names[0]].length : 0);
  for (let i = 0; i < rows.length; i++) {
    const row = {};
    for (const name of names) row[name] = columns[name][i];
    rows[i] = row;
  }
  return rows;
}

const entries = unfold(board.entries);
const breaks = unfold(board.breaks);
const tables = board.tables;
tables.forEach((table, i) => (table.index = i));
const submissions = board.submissions;
const published = unfold(board.published.columns).map((row, i) => {
  for (const name of board.published.texts) row[name] = row[name] == null ? null : board.published.pool[row[name]];
  return { key: `published@${i}`, ...row };
});
const entryByKey = new Map();
const cellsOf = new Map(); // submission -> table -> its entries in the order of sparsity
for (const [i, entry] of entries.entries()) {
  entry.index = i;
  entry.who = submissions[entry.submission];
  entry.at = tables[entry.table];
  entry.key = `${entry.who.name}@${entry.at.key}@${sparsityText(entry.sparsity)}`;
  if (entryByKey.has(entry.key)) entry.key = `${entry.who.name}@${entry.at.key}@${entry.sparsity}`;
  entryByKey.set(entry.key, entry);
  if (!cellsOf.has(entry.who)) cellsOf.set(entry.who, new Map());
  const mine = cellsOf.get(entry.who);
  if (!mine.has(entry.at)) mine.set(entry.at, []);
  mine.get(entry.at).push(entry);
}
for (const mine of cellsOf.values()) for (const ladder of mine.values()) ladder.sort((a, b) => a.sparsity - b.sparsity);
const breakOf = new Map(); // submission -> table -> break-point
for (const point of breaks) {
  point.who = submissions[point.submission];
  point.at = tables[point.table];
  if (!breakOf.has(point.who)) breakOf.set(point.who, new Map());
  breakOf.get(point.who).set(point.at, point);
}
for (const standing of board.standings) {
  standing.who = submissions[standing.submission];
  standing.who.standings.push(standing);
}
const byName = new Map(submissions.map((each) => [each.name, each]));

/** Runs and layers of an entry, by its index. */
function index(found) {
  const runs = new Map();
  for (const run of unfold(found.runs)) {
    if (!runs.has(run.entry)) runs.set(run.entry, []);
    runs.get(run.entry).push(run);
  }
  return { runs, layers: found.layers, names: found.names, software: found.software, sources: found.sources };
}

const cell = (who, table, sparsity) => cellsOf.get(who)?.get(table)?.find((e) => e.sparsity === sparsity);
const isDense = (who) => who.ladder.every((s) => s === 0);
for (const who of submissions) who.ladder = [...(cellsOf.get(who)?.values() ?? [])].flat().map((e) => e.sparsity);

// The state of the page stands in the fragment of its address: whoever follows the link sees the same.
const DEFAULTS = {
  view: "overview", battery: "", family: "", category: "", track: "", q: "", mix: "",
  task: "", at: "", published: "", measure: "break", cost: "train", pick: "", sort: "", page: "1", row: "",
};
const state = { ...DEFAULTS };

function readAddress() {
  const found = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(DEFAULTS)) state[key] = found.get(key) ?? DEFAULTS[key];
}
function address(changes = {}) {
  const wanted = new URLSearchParams();
  for (const [key, value] of Object.entries({ ...state, ...changes })) if (value !== DEFAULTS[key]) wanted.set(key, value);
  return "#" + wanted.toString().replaceAll("%2C", ",").replaceAll("%40", "@").replaceAll("%2F", "/");
}
/** Change the state; `step` makes it one that the back button undoes. */
function go(changes, step = false) {
  const to = address(changes);
  Object.assign(state, changes);
  history[step ? "pushState" : "replaceState"](null, "", to);
}

// What the filters leave.
const battery = () => board.batteries.find((b) => b.digest.startsWith(state.battery)) ?? board.batteries[0];
const batteryTables = () => tables.filter((t) => board.batteries[t.battery] === battery());
const shownTables = () => batteryTables().filter((t) => !state.family || t.family === state.family);
const taskTable = () => shownTables().find((t) => t.key === state.task) ?? shownTables()[0];
const ladder = (among) => [...new Set(among.flatMap((t) => t.sparsities))].filter((s) => s > 0).sort((a, b) => a - b);
const sparsityOf = (among) => {
  const steps = ladder(among);
  return steps.find((s) => sparsityText(s) === state.at) ?? steps.at(-1);
};
const matches = (texts) => {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  const all = texts.filter(Boolean).join(" ").toLowerCase();
  return words.every((word) => all.includes(word));
};
const passes = (what, who) =>
  (!state.track || what.track === state.track) &&
  (!state.category || what.category === state.category) &&
  matches([who.sparsifier, who.name, who.authors]);
const shownStandings = () =>
  board.standings.filter((s) => board.batteries[s.who.battery] === battery() && passes(s, s.who));
/** Submissions that the filters leave, dense first, then as the board orders them. */
function shownMethods() {
  const found = submissions.filter((who) => {
    if (board.batteries[who.battery] !== battery()) return false;
    if (isDense(who)) return true;
    const kinds = who.standings.length ? who.standings : [...(cellsOf.get(who)?.values() ?? [])].flat();
    return kinds.some((kind) => passes(kind, who));
  });
  return found.sort((a, b) => isDense(b) - isDense(a) || a.order - b.order);
}

/** The quality of a standing over the cells that all share; its interval where it was ranked over the same. */
const together = (s) => (s.quality && Math.abs(s.quality.mean - s.mixed) < 1e-6 ? s.quality : { mean: s.mixed });

/** Methods that the charts set off, in their colours; as said in the address, or the best of different kinds, those first of which all runs are there. */
function picks() {
  const there = shownMethods().filter((who) => !isDense(who));
  if (state.pick) {
    return state.pick.split(",").map((name) => byName.get(name)).filter((who) => there.includes(who)).slice(0, 8);
  }
  const chosen = [];
  const kinds = new Set();
  const best = there.filter((who) => who.standings[0]?.mixed != null && !who.control && !who.retracted);
  const whole = (who) => who.have === who.cells;
  for (const who of best.sort((a, b) => whole(b) - whole(a) || b.standings[0].mixed - a.standings[0].mixed)) {
    const { track, category } = who.standings[0];
    if (kinds.has(track + category) || chosen.length >= 5) continue;
    kinds.add(track + category);
    chosen.push(who);
  }
  const control = there.find((who) => who.sparsifier.startsWith("small-dense")) ?? there.find((who) => who.control);
  return control ? [...chosen, control] : chosen;
}
