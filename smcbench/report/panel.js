// The panel: where a number comes from. It opens over the page and closes with Escape.

const dialog = document.getElementById("panel");
const digestText = (digest) => (digest ? h("code", { class: "digest" }, digest) : unknown("not recorded"));
const items = (pairs) => h("dl", {}, pairs.filter(([, value]) => value != null && value !== "" && value !== false).map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]));

function folder(who) {
  if (board.links.submissions == null) return `submissions/${who.name}`;
  const to = (path, text) => h("a", { href: board.links.submissions + encodeURIComponent(who.name) + path }, text);
  return [to("/", `submissions/${who.name}`), " (", to("/records.jsonl", "records"), ", ", to("/manifest.json", "manifest"), ")"];
}
/** A link where it certainly is one, else plain text. */
function source(text) {
  if (!text) return null;
  const arxiv = /^(?:arXiv:)?(\d{4}\.\d{4,5})(?:v\d+)?$/i.exec(text);
  const href = arxiv ? `https://arxiv.org/abs/${arxiv[1]}` : /^https:\/\/[\x21-\x7e]+$/.test(text) ? text : null;
  return href ? h("a", { href, rel: "noopener noreferrer nofollow" }, text) : text;
}
const standsBehind = (who) => [
  ["Submission", folder(who)],
  ["Authors", who.authors],
  ["Paper", source(who.paper)],
  ["Retracted", who.retracted && [who.retracted.date, who.retracted.reason, who.retracted.evidence && `evidence: ${who.retracted.evidence}`].filter(Boolean).join(" · ")],
];
const papers = (rows, title) => rows.length > 0 && [h("h3", {}, title), publishedTable(rows.slice(0, 60), "As printed; beside, never ranked", false)];

function aboutMethod(who) {
  const standing = who.standings[0];
  const mine = cellsOf.get(who) ?? new Map();
  const q = standing?.quality;
  return [
    h("h2", { id: "panel-title", tabindex: "-1" }, who.sparsifier),
    q && h("p", { class: "big" }, withInterval(fixed(q.mean, 3), q.low, q.high, (v) => fixed(v, 3))),
    q && h("p", { class: "note" }, `quality: 0 is chance, 1 is dense; mean over ${plural(standing.over, "cell")}`),
    who.standings.map((s) => items([
      ["Tier", s.tier == null ? (s.retracted ? "not ranked: retracted" : s.control ? "not ranked: a control" : "not ranked: cells are missing") : `${s.tier} of ${trackText(s.track)}, ${s.category}`],
      ["To tell it apart", s.separation],
      ["Track", trackText(s.track)], ["Category", s.category ?? "seeds disagree"], ["Scope", s.scope],
      ["Area", s.area && withInterval(fixed(s.area.mean, 3), s.area.low, s.area.high, (v) => fixed(v, 3))],
      ["Mean break-point", s.breaks && [withInterval(s.breaks.mean.toFixed(3), s.breaks.low, s.breaks.high, (v) => v.toFixed(3)), s.open > 0 && `; beyond the ladder on ${plural(s.open, "task")}`]],
      ["Training", times(s.train)], ["Inference", times(s.inference)],
      ...Object.entries(s.beats).map(([control, said]) => [`Beats ${control}`, said]),
      ["Runs done", `${s.cells - s.missing} of ${s.cells}`], ["Seeds", severalText(s.seeds)], ["Verified", s.level],
    ])),
    items(standsBehind(who)),
    h("h3", {}, "By task and sparsity"),
    [...mine.entries()].length > 0 && table({
      caption: "Scores; each opens its runs", sortable: false, groups: [{ rows: [...mine.keys()] }], rowKey: (at) => `${who.name}@${at.key}`,
      columns: [
        { key: "t", label: "Task", first: true, cell: (at) => at.key },
        ...[...new Set([...mine.values()].flat().map((e) => e.sparsity))].sort((a, b) => a - b).map((s) => ({
          key: String(s), label: sparsityText(s), numeric: true,
          cell: (at) => { const e = cell(who, at, s); return e ? h("span", { class: e.matching ? "match" : "" }, opens(e.key, score(e.mean))) : unknown("not run"); } })),
        { key: "b", label: "Break-point", numeric: true, cell: (at) => (isDense(who) ? "" : breakCell(who, at)) },
      ] }),
    papers(papersOf(who), "Published of this method"),
  ];
}

function aboutEntry(entry) {
  const { who, at } = entry;
  const found = evidence();
  const runs = found.runs.get(entry.index) ?? [];
  const beside = [cellOfControl("small-dense", entry), cellOfControl("shuffled", entry)].filter(Boolean);
  return [
    h("h2", { id: "panel-title", tabindex: "-1" }, opens(who.name, who.sparsifier), ` on ${at.key} at ${sparsityText(entry.sparsity)}`),
    h("p", { class: "big" }, withInterval(`${fixed(entry.mean, 2)}`, entry.low, entry.high, (v) => fixed(v, 2))),
    h("p", { class: "note" }, `${at.metric} in ${at.unit}, mean of ${plural(entry.n, "seed")}${entry.std == null ? "" : `, standard deviation ${fixed(entry.std, 2)}`}${entry.low == null ? "" : "; 95 % interval over seeds and examples"}`),
    items([
      ["Dense", at.dense && `${fixed(at.dense.mean, 2)}${at.dense.std == null ? "" : ` ± ${fixed(at.dense.std, 2)}`} (${plural(at.dense.n, "seed")})`],
      ["To dense", entry.difference == null ? null : `${signed(entry.difference, 2)}; ${entry.matching ? "keeps up" : "does not keep up"}${entry.margin == null ? "" : ` (margin ${fixed(entry.margin, 2)})`}`],
      ["Quality", entry.normalised == null ? null : fixed(entry.normalised, 3)],
      ...beside.map((e) => [e.who.sparsifier, opens(e.key, fixed(e.mean, 2))]),
      ["Training", `${times(entry.train)} dense trainings; ${thousands(Math.round(entry.steps))} steps, ${thousands(Math.round(entry.seconds))} s`],
      ["Inference", `${times(entry.inference)} dense forward passes`],
      ["Track", trackText(entry.track)], ["Category", entry.category ?? "seeds disagree"], ["Scope", at.scope],
      ["Verified", entry.level],
      ...standsBehind(who),
      ["Task digest", digestText(at.digest)], ["Battery", [`${board.batteries[at.battery].name}, `, digestText(board.batteries[at.battery].digest)]],
    ]),
    h("h3", {}, "Runs"),
    runs.length === 0 && h("p", { class: "note" }, `Records are not beside the board; run identities: ${entry.runs.join(", ")}.`),
    runs.map((run) => [
      h("p", { class: "seed" }, `Seed ${run.seed}: ${fixed(run.score, 2)}`),
      items([
        ["Run", h("code", {}, run.run)], ["Date", run.created], ["Software", found.software[run.software]], ["Zeros", `${thousands(run.zeros)} of ${thousands(run.weights)} prunable weights (${run.measured})`],
        ["Weights", digestText(run.digests[0])], ["Mask", digestText(run.digests[1])], ["Predictions", digestText(run.digests[2])],
        ["Source of method", digestText(found.sources[run.source][0])], ["Source of task", digestText(found.sources[run.source][1])],
      ])]),
    papers(papersOf(who).filter((p) => p.task && theSame(p.task, at.task)), "Published of this method on the full-size task"),
  ];
}
const cellOfControl = (control, entry) => {
  const who = submissions.find((each) => each.control && each !== entry.who && (control === "shuffled" ? each.sparsifier === `shuffled(${entry.who.sparsifier})` : each.sparsifier.startsWith(control)) && each.battery === entry.who.battery);
  return who && cell(who, entry.at, entry.sparsity);
};

function aboutBreak(who, at) {
  const point = breakOf.get(who)?.get(at);
  const mine = (cellsOf.get(who)?.get(at) ?? []).filter((e) => e.sparsity > 0);
  if (!point) return null;
  return [
    h("h2", { id: "panel-title", tabindex: "-1" }, "Break-point of ", opens(who.name, who.sparsifier), ` on ${at.key}`),
    h("p", { class: "big" }, withInterval(breakText(point), point.low, point.high, (v) => v.toFixed(3))),
    h("p", { class: "note" }, point.open ? "it still keeps up at the highest sparsity measured: the true one lies higher" : "interpolated between the sparsities measured; 95 % interval over seeds and examples"),
    point.monotone === false && h("p", { class: "note" }, "It keeps up at a sparsity above one at which it does not: treat the number with suspicion."),
    items([["Highest measured", point.sparsity == null ? "none keeps up" : sparsityText(point.sparsity)], ["Dense", at.dense && fixed(at.dense.mean, 2)], ...standsBehind(who)]),
    table({ caption: "The ladder it rests on", sortable: false, groups: [{ rows: mine }], rowKey: (e) => e.key, columns: [
      { key: "s", label: "Sparsity", first: true, numeric: true, cell: (e) => sparsityText(e.sparsity) },
      { key: "m", label: at.metric, numeric: true, cell: (e) => opens(e.key, withInterval(fixed(e.mean, 2), e.low, e.high, (v) => fixed(v, 2))) },
      { key: "d", label: "To dense", numeric: true, cell: (e) => (e.difference == null ? "" : signed(e.difference, 2)) },
      { key: "k", label: "Keeps up", cell: (e) => (e.matching ? "yes" : "no") }, { key: "n", label: "Seeds", numeric: true, cell: (e) => String(e.n) }] }),
  ];
}

function aboutPublished(p) {
  return [
    h("h2", { id: "panel-title", tabindex: "-1" }, `${p.row} on ${p.dataset}`),
    h("p", { class: "big" }, minus(String(p.score)) + (p.std == null ? "" : ` ± ${p.std}`)),
    h("p", { class: "note" }, "as published; not measured here, never ranked"),
    items([["Source", p.source], ["Paper", source(p.paper)], ["Table", p.table], ["Model", p.model], ["Sparsity", p.sparsity == null ? "not said" : String(p.sparsity)],
      ["Metric", `${p.metric}, ${p.unit}`], ["Method here", p.method], ["Task here", p.task], ["Remark", p.note], ["The table", p.about]]),
  ];
}

const paperByKey = new Map(published.map((p) => [p.key, p]));
function contents(key) {
  if (paperByKey.has(key)) return aboutPublished(paperByKey.get(key));
  if (entryByKey.has(key)) return aboutEntry(entryByKey.get(key));
  const [name, ...rest] = key.split("@");
  const who = byName.get(name);
  if (!who) return null;
  return rest.length ? aboutBreak(who, tables.find((t) => t.key === rest.join("@") && t.battery === who.battery)) : aboutMethod(who);
}

/** Show what the state names, or close. */
function showPanel() {
  const inside = state.row && contents(state.row);
  for (const row of document.querySelectorAll("#main tr[data-key]")) {
    if (row.dataset.key === state.row) row.setAttribute("aria-selected", "true");
    else row.removeAttribute("aria-selected");
  }
  if (!inside) {
    if (dialog.open) dialog.close();
    return;
  }
  const close = h("button", { type: "button", class: "close", on: { click: () => dialog.close() } }, "Close");
  dialog.replaceChildren(h("div", { class: "inside" }, close, ...[inside].flat(4).filter(Boolean)));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  dialog.querySelector("#panel-title").focus();
}
