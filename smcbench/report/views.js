// The views: each is a function from the state to the contents of the page.

const trackText = (track) => (track ?? "").replace(/x$/, "×");
const fullSize = (task) => task.replace(/@.*$/, "").replace(/-(mini|small)$/, "");
const theSame = (a, b) => fullSize(a) === fullSize(b);
const papersOn = (at) => published.filter((p) => p.task && theSame(p.task, at.task));
const papersOf = (who) => published.filter((p) => p.method?.split(/[@(]/)[0] === who.method);
const heading = (title, lead) => [h("h2", {}, title), lead && h("p", { class: "lead" }, lead)];

function methodCell(who, under) {
  return [
    opens(who.name, who.sparsifier),
    who.control && h("span", { class: "tag" }, "control"),
    who.retracted && h("span", { class: "tag bad" }, "retracted"),
    who.shared && h("span", { class: "tag" }, who.name),
    under && h("span", { class: "under" }, under),
  ];
}
const completeness = (have, of) => [
  `${have}/${of}`,
  h("span", { class: "meter", "aria-hidden": "true", style: { "--v": String(of ? have / of : 0) } }, h("i")),
];
const beaten = (standing, control) => {
  const said = Object.entries(standing.beats).find(([name]) => name.startsWith(control))?.[1];
  return said === "yes" ? "yes" : said === "no" ? "no" : said === "undecided" ? "undecided" : null;
};
const beatsCell = (said) => (said ? (said === "undecided" ? h("span", { class: "none" }, said) : said) : unknown("not tested"));

function overview() {
  const rows = shownStandings();
  const family = state.family ? shownTables() : [];
  const ends = rows.filter((s) => s.quality).flatMap((s) => [s.quality.mean, s.quality.low ?? 1, s.quality.high ?? 1]);
  const scale = [Math.floor(Math.min(0.9, ...ends) * 10) / 10, Math.max(1.02, ...ends) + 0.02];
  const mixed = state.mix === "1";
  const several = new Set(rows.map((s) => s.scope)).size > 1;
  const said = rows.map((s) => s.separation).filter((text) => text && !text.includes("more seed"));
  const shared = new Set(said.filter((text, i) => said.indexOf(text) !== i)); // said once, in the head of the group
  const columns = [
    !mixed && { key: "tier", label: "Tier", value: (s) => s.tier, title: "Members of one tier are not told apart by the evidence there is",
      cell: (s) => (s.tier == null ? unknown(s.retracted ? "not ranked: retracted" : s.control ? "not ranked: a control" : "not ranked: cells are missing") : h("span", { class: "tier" }, String(s.tier))) },
    { key: "method", label: "Method", first: true, value: (s) => s.who.sparsifier, cell: (s) => methodCell(s.who, mixed ? null : s.tier == null ? unranked(s) : shared.has(s.separation) ? null : s.separation) },
    mixed && { key: "track", label: "Track", value: (s) => board.tracks.indexOf(s.track), cell: (s) => trackText(s.track) },
    mixed && { key: "category", label: "Category", minor: true, value: (s) => s.category, cell: (s) => s.category ?? unknown("seeds disagree") },
    mixed && { key: "mixed", label: "Quality", numeric: true, high: true, value: (s) => s.mixed, title: "0 is chance, 1 is dense: mean over the cells that all share",
      cell: (s) => s.mixed == null ? unknown("cells are missing") : opens(s.who.name, fixed(s.mixed, 3)) },
    !mixed && { key: "quality", label: "Quality", numeric: true, high: true, value: (s) => s.quality?.mean, title: "0 is chance, 1 is dense: mean over tasks and sparsities, with its 95 % interval",
      cell: (s) => s.quality ? opens(s.who.name, withInterval(fixed(s.quality.mean, 3), s.quality.low, s.quality.high, (v) => fixed(v, 3))) : unknown("not enough cells") },
    { key: "interval", label: `from ${fixed(scale[0], 1)}; the line is dense`, minor: true, cell: (s) => mixed ? s.mixed != null && forest({ mean: s.mixed }, scale) : s.quality && forest(s.quality, scale) },
    { key: "break", label: "Break-point", numeric: true, high: true, value: (s) => s.breaks?.mean, title: "The highest sparsity that keeps up with dense, mean over the tasks, with its 95 % interval; ≥ where some lie beyond the ladder",
      cell: (s) => s.breaks ? opens(s.who.name, withInterval((s.open ? "≥ " : "") + s.breaks.mean.toFixed(3), s.breaks.low, s.breaks.high, (v) => v.toFixed(2))) : unknown("not known") },
    ...family.map((at) => ({ key: `break:${at.key}`, label: at.key, numeric: true, high: true, title: `Break-point on ${at.task}`,
      value: (s) => breakOf.get(s.who)?.get(at)?.estimate, cell: (s) => breakCell(s.who, at) })),
    { key: "area", label: "Area", numeric: true, minor: true, high: true, value: (s) => s.area?.mean, title: "Area under the sparsity-quality curve, between 0 (chance) and 1 (dense)",
      cell: (s) => s.area ? opens(s.who.name, fixed(s.area.mean, 3)) : unknown("not known") },
    { key: "train", label: "Training", numeric: true, value: (s) => s.train, title: "Floating-point operations of the whole run, in dense trainings", cell: (s) => opens(s.who.name, times(s.train)) },
    { key: "inference", label: "Inference", numeric: true, minor: true, value: (s) => s.inference, title: "Operations of a forward pass, in dense forward passes", cell: (s) => opens(s.who.name, times(s.inference)) },
    { key: "small", label: "Beats small-dense", minor: true, wrap: true, value: (s) => beaten(s, "small-dense"), cell: (s) => beatsCell(beaten(s, "small-dense")) },
    { key: "shuffle", label: "Beats its shuffle", minor: true, wrap: true, value: (s) => beaten(s, "shuffled"), cell: (s) => beatsCell(beaten(s, "shuffled")) },
    { key: "cells", label: "Runs done", numeric: true, high: true, value: (s) => 1 - s.missing / s.cells, title: "Runs of the battery that there are: tasks, sparsities and seeds", cell: (s) => completeness(s.cells - s.missing, s.cells) },
    { key: "level", label: "Verified", minor: true, value: (s) => board.levels.indexOf(s.level), cell: (s) => s.level },
  ].filter(Boolean);
  const groups = mixed
    ? [{ rows: sorted(rows, (s) => s.mixed, true) }]
    : grouped(rows, (s) => `${s.track}\n${s.category}\n${s.scope}`).map((members) => ({
        heading: groupHeading(members, several, shared),
        rows: sorted(members, (s) => s.tier ?? Infinity, false),
      })).sort((a, b) => board.tracks.indexOf(a.rows[0].track) - board.tracks.indexOf(b.rows[0].track));
  const b = battery();
  return [
    heading("Overview", mixed
      ? `All methods together, by mean quality over the ${plural(battery().shared, "cell")} that all share. They differ in what they may spend and in what they do: this order is no ranking.`
      : "Methods are ranked only among their equals: the same battery, scope, training budget and kind, as measured. Within a group, those in one tier are not told apart by the evidence there is."),
    state.family && h("p", { class: "note" }, "Quality and tiers are over all tasks of the battery; the filter by family adds the break-points of its tasks."),
    table({
      caption: `Battery ${b.name} (${b.digest.slice(0, 8)}): ${plural(rows.length, "row")}. Brackets are 95 % intervals. Choose a number to see where it comes from.`,
      columns, groups, rowKey: (s) => s.who.name,
      rowClass: (s, before) => [s.who.retracted && "retracted", before && before.tier !== s.tier && "newtier"].filter(Boolean).join(" ") || null,
    }),
    retractions(),
  ];
}
/** Why a row has no tier, where its tags do not say it. */
const unranked = (s) => (s.control || s.retracted ? null : `not ranked: cells are missing; over ${plural(s.over, "cell")}`);
const severalText = (seeds) => (seeds.length ? several(seeds) : "none");

function groupHeading(members, withScope, shared) {
  const { track, category, scope } = members[0];
  const ranked = members.filter((s) => s.tier != null);
  const tiers = new Set(ranked.map((s) => s.tier)).size;
  const words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
  const said = ranked.length < 2 ? (ranked.length ? "alone in its group" : members.every((s) => s.control) ? "controls: beside the others, never ranked" : "none is ranked yet")
    : tiers === 1 ? `these ${words[ranked.length] ?? ranked.length} are one tier` : `${words[ranked.length] ?? ranked.length} methods, ${words[tiers] ?? tiers} tiers`;
  return [`${trackText(track)} — ${category ?? "seeds disagree on the kind"}${withScope ? `, scope ${scope}` : ""}`, h("span", { class: "note" }, [said, ranked[0] && `over ${plural(ranked[0].over, "cell")}`, ...new Set(members.map((s) => s.separation).filter((text) => shared.has(text)))].filter(Boolean).join("; "))];
}
function grouped(rows, key) {
  const found = new Map();
  for (const row of rows) {
    const name = key(row);
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(row);
  }
  return [...found.values()];
}
function retractions() {
  const found = board.retractions;
  return found.length > 0 && [
    h("h3", {}, "Retracted"),
    h("ul", {}, found.map((r) => h("li", {}, byName.has(r.submission) ? opens(r.submission, r.submission) : r.submission,
      [r.date, r.reason, r.evidence && `evidence: ${r.evidence}`].filter(Boolean).map((t) => ` · ${t}`)))),
  ];
}

function breakCell(who, at) {
  const point = breakOf.get(who)?.get(at);
  if (!point) return unknown("not known");
  return opens(`${who.name}@${at.key}`, withInterval(breakText(point), point.low, point.high, (v) => v.toFixed(2)));
}
const MEASURES = { break: "Break-point sparsity", score: "Score", difference: "Difference to dense", normalised: "Quality (0 chance, 1 dense)" };

function matrix() {
  const among = shownTables();
  const methods = shownMethods();
  const s = sparsityOf(among);
  const measure = MEASURES[state.measure] ? state.measure : "break";
  const most = Math.max(...ladder(among).map(level));
  const clamp = (v) => (v == null ? null : Math.max(0, Math.min(1, v)));
  const here = (who, at) => cell(who, at, isDense(who) ? 0 : s);
  const column = (at) => ({
    key: at.key, label: at.key, numeric: true, high: true,
    title: `${at.metric} in ${at.unit}, chance ${score(at.chance)}${at.dense ? `, dense ${score(at.dense.mean)}` : ""}`,
    value: (who) => measure === "break" ? breakOf.get(who)?.get(at)?.estimate : here(who, at)?.[measure === "score" ? "mean" : measure],
    heat: (who) => measure === "break" ? (isDense(who) ? null : clamp(level(breakOf.get(who)?.get(at)?.estimate ?? 0) / most)) : clamp(here(who, at)?.normalised),
    cell: (who) => {
      if (measure === "break") return isDense(who) ? unknown("dense itself") : breakCell(who, at);
      const e = here(who, at);
      if (!e) return unknown("not run");
      const value = measure === "score" ? e.mean : e[measure];
      if (value == null) return unknown("no dense reference");
      const text = measure === "score" ? score(value) : measure === "difference" ? signed(value) : fixed(value, 2);
      return h("span", { class: e.matching && !isDense(who) ? "match" : "" }, opens(e.key, text), e.matching && !isDense(who) && h("span", { class: "sr" }, " keeps up with dense"));
    },
  });
  const groups = [{ rows: methods }];
  if (state.published === "1" && measure === "score") {
    const beside = grouped(published.filter((p) => among.some((at) => p.task && theSame(p.task, at.task) && p.metric === at.metric) && matches([p.row, p.source])), (p) => `${p.source}\n${p.table}\n${p.row}\n${p.sparsity}`);
    groups.push({ heading: ["Published", h("span", { class: "note" }, "full-size tasks and other models: beside, never ranked")], rows: beside.map((rows) => ({ rows })) });
  }
  const columns = [
    { key: "method", label: "Method", first: true, value: (who) => who.sparsifier ?? who.rows[0].row,
      cell: (who) => who.rows ? [opens(who.rows[0].key, who.rows[0].row), h("span", { class: "under" }, `${who.rows[0].source}, ${who.rows[0].table}, at ${sparsityText(who.rows[0].sparsity)}`)] : methodCell(who) },
    ...among.map(column).map((c, i) => ({
      ...c, value: (who) => (who.rows ? null : c.value(who)), heat: (who) => (who.rows ? null : c.heat(who)),
      cell: (who) => {
        if (!who.rows) return c.cell(who);
        const p = who.rows.find((p) => theSame(p.task, among[i].task));
        return p ? opens(p.key, minus(String(p.score))) : "";
      },
    })),
    { key: "train", label: "Training", numeric: true, value: (who) => who.standings?.[0]?.train, cell: (who) => who.standings?.[0] ? opens(who.name, times(who.standings[0].train)) : "" },
    { key: "cells", label: "Runs done", numeric: true, minor: true, high: true, value: (who) => (who.rows ? null : who.have / who.cells), cell: (who) => (who.rows ? "" : completeness(who.have, who.cells)) },
  ];
  const what = measure === "break" ? "the highest sparsity that is not inferior to dense, interpolated on the ladder, with its 95 % interval; ≥ where it still keeps up at the highest sparsity measured"
    : `at sparsity ${sparsityText(s)}; bold keeps up with dense`;
  return [
    heading("Methods and tasks", "A method that holds on one task may fall on the next. The deeper the tint, the nearer to dense."),
    table({ caption: `${MEASURES[measure]}: ${what}.`, columns, groups, kind: "matrix",
      rowKey: (who) => (who.rows ? who.rows[0].key : who.name), rowClass: (who) => (who.rows ? "published" : who.retracted ? "retracted" : null) }),
  ];
}

function legend(chosen) {
  const more = shownMethods().filter((who) => !isDense(who) && !chosen.includes(who));
  return h("ul", { class: "chips", "aria-label": "Methods in colour" },
    chosen.map((who, i) => h("li", {}, h("button", { type: "button", "data-drop": who.name, "aria-label": `${who.sparsifier}: take out of the colours` },
      h("svg:svg", { width: 26, height: 12, "aria-hidden": "true" },
        h("svg:line", { x1: 0, x2: 26, y1: 6, y2: 6, "stroke-width": 2, style: { stroke: colour(i) } }), marker(SHAPES[i % 8], 13, 6, 4.2, { style: { fill: colour(i) } })),
      who.sparsifier, h("span", { class: "x", "aria-hidden": "true" }, "×")))),
    chosen.length < 8 && more.length > 0 && h("li", {}, h("select", { "data-add": "1", "aria-label": "Set off another method" },
      h("option", { value: "" }, "Set off …"), more.slice(0, 500).map((who) => h("option", { value: who.name }, who.sparsifier)))));
}

function curveTable(at, methods) {
  const steps = ladder([at]);
  return table({
    caption: `${at.key}: ${at.metric} by sparsity`, sortable: false, groups: [{ rows: methods.filter((who) => cellsOf.get(who)?.has(at)) }], rowKey: (who) => who.name,
    columns: [{ key: "m", label: "Method", first: true, cell: (who) => methodCell(who) },
      ...[0, ...steps].map((s) => ({ key: String(s), label: sparsityText(s), numeric: true, cell: (who) => {
        const e = cell(who, at, s);
        return e ? opens(e.key, withInterval(score(e.mean), e.low, e.high, score)) : unknown("not run");
      } }))],
  });
}
function curvesView() {
  const methods = shownMethods();
  const chosen = picks();
  const among = state.task ? [taskTable()].filter(Boolean) : shownTables();
  return [
    heading("Sparsity and quality", "Each panel is one task. The unmarked line is the dense network, the strip below it the margin within which a sparse one keeps up; the dotted line is chance. Bands are 95 % intervals; each step to the right removes the same share of what is left."),
    legend(chosen),
    h("div", { class: among.length > 1 ? "charts" : "" }, among.map((at) => figure(at.key, `${at.metric}, ${at.unit}${at.higher ? "" : ", lower is better"}`,
      `${at.metric} on ${at.task} against sparsity for ${chosen.map((w) => w.sparsifier).join(", ")}; dense is ${at.dense ? score(at.dense.mean) : "not known"}, chance ${score(at.chance)}. The numbers stand in the table below.`,
      (width) => curves(at, methods, chosen, width), () => [curveTable(at, methods), papersOn(at).length > 0 && publishedTable(papersOn(at), `Published on ${fullSize(at.task)}: beside, never ranked`, false)]))),
  ];
}

function costView() {
  const all = shownStandings().filter((s) => !isDense(s.who));
  const rows = all.filter((s) => s.mixed != null);
  const chosen = picks();
  const cost = state.cost === "inference" ? "inference" : "train";
  return [
    heading("Cost and quality", "What a method spends and what it keeps, with 95 % intervals where there are some. The dashed line joins the methods that none cheaper beats in the mean; it is no test."),
    legend(chosen),
    figure(`Quality against ${cost === "train" ? "training" : "inference"} cost`, `0 is chance, 1 is dense; mean over the ${plural(battery().shared, "cell")} that all shown share${all.length > rows.length ? `; ${plural(all.length - rows.length, "method")} without all of them left out` : ""}`,
      `Mean quality against ${cost === "train" ? "training" : "inference"} cost of ${rows.length} methods. The numbers stand in the table below.`,
      (width) => scatter(rows, chosen, cost, width),
      () => table({ caption: "Cost and quality by method", sortable: false, groups: [{ rows: sorted(rows, (s) => s[cost], false) }], rowKey: (s) => s.who.name,
        columns: [{ key: "m", label: "Method", first: true, cell: (s) => methodCell(s.who) },
          { key: "c", label: cost === "train" ? "Training" : "Inference", numeric: true, cell: (s) => opens(s.who.name, times(s[cost])) },
          { key: "q", label: "Quality", numeric: true, cell: (s) => opens(s.who.name, withInterval(fixed(s.mixed, 3), together(s).low, together(s).high, (v) => fixed(v, 3))) },
          { key: "t", label: "Track", cell: (s) => trackText(s.track) }] })),
  ];
}

function layersView() {
  const at = taskTable();
  if (!at) return heading("Layers", "No task passes these filters.");
  const s = sparsityOf([at]);
  const found = evidence();
  const names = found.names[at.index] ?? [];
  const rows = shownMethods().filter((who) => !isDense(who)).map((who) => cell(who, at, s)).filter((e) => e && found.layers[e.index]);
  const short = (name) => (name.length > 24 ? `…${name.slice(-23)}` : name);
  return [
    heading("Where the weights are", `The part of each layer that is kept at sparsity ${sparsityText(s)} on ${at.task}, counted in the stored weights. The deeper the tint, the more is kept; methods that cut every layer alike have rows of one tone.`),
    rows.length === 0
      ? h("p", { class: "note" }, "No densities by layer are known here: the records of these rows are not beside the board.")
      : table({
          caption: `Kept weights of each layer in per cent, mean over seeds: ${at.key} at ${sparsityText(s)}`, kind: "layers", groups: [{ rows }], rowKey: (e) => e.who.name,
          rowClass: (e) => (e.who.retracted ? "retracted" : null),
          columns: [
            { key: "method", label: "Method", first: true, value: (e) => e.who.sparsifier, cell: (e) => methodCell(e.who) },
            { key: "score", label: at.metric, numeric: true, high: true, value: (e) => e.mean, cell: (e) => opens(e.key, score(e.mean)) },
            ...names.map((name, i) => ({ key: `l${i}`, label: short(name), title: name, numeric: true,
              heat: (e) => Math.sqrt(Math.min(1, found.layers[e.index][i] / 10000)),
              cell: (e) => { const v = found.layers[e.index][i] / 100; return v >= 10 ? v.toFixed(0) : v.toFixed(1); } })),
          ],
        }),
  ];
}

function results() {
  const at = state.task ? tables.find((t) => t.key === state.task && board.batteries[t.battery] === battery()) : null;
  const among = new Set(at ? [at] : shownTables());
  const rows = entries.filter((e) => among.has(e.at) && (isDense(e.who) ? matches([e.who.sparsifier, e.who.name, e.who.authors]) && !state.track && !state.category : passes(e, e.who)));
  return [
    heading("All results", "One row a method, task and sparsity, over its seeds."),
    table({
      caption: `${plural(rows.length, "result")}. Brackets are 95 % intervals.`, groups: [{ rows }], rowKey: (e) => e.key, rowClass: (e) => (e.who.retracted ? "retracted" : null),
      columns: [
        { key: "method", label: "Method", first: true, value: (e) => e.who.sparsifier, cell: (e) => [opens(e.key, e.who.sparsifier), e.who.retracted && h("span", { class: "tag bad" }, "retracted"), e.who.shared && h("span", { class: "tag" }, e.who.name)] },
        { key: "task", label: "Task", value: (e) => e.at.key, cell: (e) => e.at.key },
        { key: "sparsity", label: "Sparsity", numeric: true, value: (e) => e.sparsity, cell: (e) => sparsityText(e.sparsity) },
        { key: "score", label: "Score", numeric: true, high: true, value: (e) => e.mean, cell: (e) => opens(e.key, withInterval(score(e.mean), e.low, e.high, score)) },
        { key: "difference", label: "To dense", numeric: true, high: true, value: (e) => e.difference, cell: (e) => e.difference == null ? unknown("no dense reference") : signed(e.difference) },
        { key: "matching", label: "Keeps up", value: (e) => e.matching == null ? null : Number(e.matching), high: true, cell: (e) => e.matching == null ? unknown("no dense reference") : e.matching ? h("span", { class: "match" }, "yes") : "no" },
        { key: "normalised", label: "Quality", numeric: true, minor: true, high: true, value: (e) => e.normalised, cell: (e) => e.normalised == null ? unknown("no dense reference") : fixed(e.normalised, 3) },
        { key: "n", label: "Seeds", numeric: true, value: (e) => e.n, cell: (e) => String(e.n) },
        { key: "train", label: "Training", numeric: true, value: (e) => e.train, cell: (e) => times(e.train) },
        { key: "inference", label: "Inference", numeric: true, minor: true, value: (e) => e.inference, cell: (e) => times(e.inference) },
        { key: "track", label: "Track", value: (e) => board.tracks.indexOf(e.track), cell: (e) => trackText(e.track) },
        { key: "category", label: "Category", minor: true, value: (e) => e.category, cell: (e) => e.category ?? "seeds disagree" },
        { key: "level", label: "Verified", minor: true, value: (e) => board.levels.indexOf(e.level), cell: (e) => e.level },
      ],
    }),
  ];
}

function publishedTable(rows, caption, sortable = true) {
  return table({
    caption, sortable, groups: [{ rows }], rowKey: (p) => p.key, rowClass: () => "published",
    columns: [
      { key: "row", label: "Method, as printed", first: true, value: (p) => p.row, cell: (p) => opens(p.key, p.row) },
      { key: "dataset", label: "Data", value: (p) => p.dataset, cell: (p) => p.dataset },
      { key: "model", label: "Model", minor: true, value: (p) => p.model, cell: (p) => p.model },
      { key: "sparsity", label: "Sparsity", numeric: true, value: (p) => p.sparsity, cell: (p) => p.sparsity == null ? unknown("not said") : sparsityText(p.sparsity) },
      { key: "score", label: "Score", numeric: true, high: true, value: (p) => p.score, cell: (p) => opens(p.key, minus(String(p.score)) + (p.std == null ? "" : ` ± ${p.std}`)) },
      { key: "metric", label: "Metric", value: (p) => p.metric, cell: (p) => `${p.metric}, ${p.unit}` },
      { key: "source", label: "Source", value: (p) => p.source, cell: (p) => `${p.source}, ${p.table}` },
      { key: "note", label: "Note", minor: true, wrap: true, value: (p) => p.note || null, cell: (p) => (p.note ? opens(p.key, p.note.length > 60 ? p.note.slice(0, 58) + "…" : p.note) : "") },
    ],
  });
}
function publishedView() {
  const rows = published.filter((p) => (!state.task || p.task === state.task) && matches([p.row, p.source, p.table, p.dataset, p.model, p.method]));
  return [
    heading("As published", "Numbers as the papers print them, for orientation: other models, data and budgets, not checked here and never ranked."),
    publishedTable(rows, `${plural(rows.length, "published number")}.`),
  ];
}

function about() {
  const b = battery();
  const item = (term, ...text) => [h("dt", {}, term), h("dd", {}, ...text)];
  return [
    heading("How to read it"),
    h("dl", {},
      item("Sparsity", "The fraction of the prunable weights that are exactly zero, counted in the stored weights, not claimed."),
      item("Keeps up", `Not inferior to dense: behind its mean by no more than the margin, one standard deviation of its seeds or ${b.margin * 100} % of its mean, whichever is more.`),
      item("Break-point", "The highest sparsity at which a method keeps up, interpolated on the ladder of sparsities; its interval is a bootstrap over seeds and test examples. With ≥ it still keeps up at the highest sparsity measured."),
      item("Quality", "(score − chance) / (dense − chance), mean over tasks and sparsities: 0 is guessing, 1 is dense."),
      item("Area", "The area under the curve of quality over sparsity, on the scale of equal density ratios."),
      item("Training, inference", "Floating-point operations in units of one dense training of the standard budget, and of one dense forward pass. The search for a mask is billed too."),
      item("Track", "The budget a method spent, from the public checkpoint on: one-shot (no training), 1×, 2.5×, 5×, 10× dense trainings, or more. The dearest row decides."),
      item("Category", "When the mask last changed, from what start, and whether weights came back: as measured in the run, not as declared."),
      item("Tier", "The leader of a group against all others, with Holm's correction; whom it does not beat at the 5 % level shares its tier. A line under a name says how many more seeds would tell it apart."),
      item("Controls", "Small-dense is a narrower dense network of the same cost. The shuffle keeps a method's layer-wise densities and draws the rest at random."),
      item("Verified", "How far a row was checked: claimed (well-formed), recompute (scores from the predictions, zeros from the weights), reevaluate (the weights run again), retrain (a cell trained again)."),
      item("Published", "Numbers of papers, set in italics: shown beside, never ranked."),
      item("Keyboard", "Every number is a button that opens its provenance; arrow keys go from one to the next. The address of the page holds the view, the filters, the order and the open row.")),
    h("h3", {}, "The battery"),
    table({ caption: `${b.name}, ${b.digest}; seeds ${several(b.seeds)}`, sortable: false, groups: [{ rows: batteryTables() }], rowKey: (t) => t.key, columns: [
      { key: "t", label: "Task", first: true, cell: (t) => t.key }, { key: "f", label: "Family", cell: (t) => t.family }, { key: "s", label: "Scope", cell: (t) => t.scope },
      { key: "m", label: "Metric", cell: (t) => `${t.metric}, ${t.unit}` }, { key: "c", label: "Chance", numeric: true, cell: (t) => score(t.chance) },
      { key: "d", label: "Dense", numeric: true, cell: (t) => (t.dense ? score(t.dense.mean) + (t.dense.std == null ? "" : ` ± ${score(t.dense.std)}`) : unknown("not run")) },
      { key: "x", label: "Digest", minor: true, cell: (t) => h("code", { title: t.digest }, t.digest.slice(0, 12)) }] }),
  ];
}

const VIEWS = {
  overview: ["Overview", overview, ["battery", "track", "category", "family", "q", "mix"]],
  tasks: ["Methods × tasks", matrix, ["battery", "measure", "at", "track", "category", "family", "q", "published"]],
  curves: ["Curves", curvesView, ["battery", "task", "track", "category", "family", "q"]],
  cost: ["Cost", costView, ["battery", "cost", "track", "category", "q"]],
  layers: ["Layers", layersView, ["battery", "task", "at", "track", "category", "family", "q"]],
  results: ["All results", results, ["battery", "task", "track", "category", "family", "q"]],
  published: ["Published", publishedView, ["paper", "q"]],
  about: ["How to read it", about, ["battery"]],
};
