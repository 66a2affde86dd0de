// Charts as inline SVG, drawn at the width they get, so that their text keeps its size. Each has its numbers in a table too.

const SHAPES = ["circle", "square", "triangle", "diamond", "cross", "down", "bar", "plus"];

function marker(shape, x, y, r, attributes) {
  const paths = {
    square: `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
    triangle: `M${x},${y - r * 1.2}l${r * 1.15},${r * 2}h${-r * 2.3}z`,
    down: `M${x},${y + r * 1.2}l${r * 1.15},${-r * 2}h${-r * 2.3}z`,
    diamond: `M${x},${y - r * 1.3}l${r * 1.3},${r * 1.3}l${-r * 1.3},${r * 1.3}l${-r * 1.3},${-r * 1.3}z`,
    cross: `M${x - r},${y - r * 0.45}l${r * 0.55},${-r * 0.55}l${r * 0.45},${r * 0.45}l${r * 0.45},${-r * 0.45}l${r * 0.55},${r * 0.55}l${-r * 0.45},${r * 0.45}l${r * 0.45},${r * 0.45}l${-r * 0.55},${r * 0.55}l${-r * 0.45},${-r * 0.45}l${-r * 0.45},${r * 0.45}l${-r * 0.55},${-r * 0.55}l${r * 0.45},${-r * 0.45}z`,
    bar: `M${x - r * 1.3},${y - r * 0.55}h${2.6 * r}v${1.1 * r}h${-2.6 * r}z`,
    plus: `M${x - r * 0.45},${y - r * 1.2}h${0.9 * r}v${0.75 * r}h${0.75 * r}v${0.9 * r}h${-0.75 * r}v${0.75 * r}h${-0.9 * r}v${-0.75 * r}h${-0.75 * r}v${-0.9 * r}h${0.75 * r}z`,
  };
  return shape === "circle"
    ? h("svg:circle", { cx: x, cy: y, r, ...attributes })
    : h("svg:path", { d: paths[shape], ...attributes });
}
const colour = (i) => `var(--c${i % 8})`;

/** Round steps between two numbers. */
function ticks(low, high, about = 5) {
  const raw = (high - low) / about || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((s) => s * power >= raw) * power;
  const found = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) found.push(Math.abs(v) < step * 1e-6 ? 0 : v);
  return found;
}
const tickText = (value) => minus(String(Number(value.toPrecision(6))));
const line = (points) => "M" + points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L");

/** A figure: caption, drawing with words for those who do not see it, and the same numbers as a table. */
function figure(caption, note, description, draw, dataTable, tall) {
  const holder = h("div", { class: "drawing", "data-tall": tall ?? "" });
  holder.redraw = (width) => {
    const id = `d${(figure.count = (figure.count ?? 0) + 1)}`;
    const svg = draw(width);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-labelledby", id);
    svg.prepend(h("svg:title", { id }, description));
    holder.replaceChildren(svg);
  };
  return h("figure", {},
    h("figcaption", {}, caption, note && h("span", { class: "note" }, note)), holder,
    dataTable && h("details", { on: { toggle: (e) => e.target.open && e.target.childElementCount === 1 && e.target.append(...[dataTable()].flat(4).filter(Boolean)) } },
      h("summary", {}, "The numbers as a table")));
}

function redrawAll() {
  for (const holder of document.querySelectorAll(".drawing")) {
    const width = Math.floor(holder.clientWidth);
    if (width && holder.drawn !== width) holder.redraw((holder.drawn = width));
  }
}

/** The interval of a standing on the scale that all share: chance is 0, dense is 1. */
function forest(quality, [low, high], width = 150) {
  const x = (v) => 4 + ((Math.min(high, Math.max(low, v)) - low) / (high - low)) * (width - 8);
  return h("svg:svg", { class: "forest", width, height: 14, "aria-hidden": "true" },
    low < 1 && high >= 1 && h("svg:line", { class: "one", x1: x(1), x2: x(1), y1: 0, y2: 14 }),
    quality.low != null && h("svg:line", { class: "span", x1: x(quality.low), x2: x(quality.high), y1: 7, y2: 7 }),
    h("svg:circle", { cx: x(quality.mean), cy: 7, r: 3.4 }));
}

const level = (sparsity) => -Math.log(1 - sparsity);

/** Sparsity against score on one task: the picked methods in colour with their bands, the others as a grey ground. */
function curves(at, methods, chosen, width) {
  const height = Math.round(Math.min(420, Math.max(230, width * 0.62)));
  const named = width > 640;
  const [left, right, top, bottom] = [40, named ? 150 : 14, 12, 40];
  const all = methods.flatMap((who) => cellsOf.get(who)?.get(at) ?? []);
  const values = all.flatMap((e) => [e.mean, chosen.includes(e.who) ? e.low : null, chosen.includes(e.who) ? e.high : null]).filter((v) => v != null);
  if (at.dense) values.push(at.dense.mean);
  values.push(at.chance);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = (high - low || 1) * 0.04;
  [low, high] = [low - pad, high + pad];
  const steps = ladder([at]);
  const last = level(steps.at(-1) ?? 0.9);
  const x = (s) => left + (level(s) / last) * (width - left - right);
  const y = (v) => height - bottom - ((v - low) / (high - low)) * (height - top - bottom);
  const g = [];
  for (const t of ticks(low, high)) {
    g.push(h("svg:line", { class: "grid", x1: left, x2: width - right, y1: y(t), y2: y(t) }));
    g.push(h("svg:text", { x: left - 7, y: y(t) + 4, "text-anchor": "end" }, tickText(t)));
  }
  let before = -Infinity;
  for (const s of [0, ...steps]) {
    g.push(h("svg:line", { class: "axis", x1: x(s), x2: x(s), y1: height - bottom, y2: height - bottom + 5 }));
    if (x(s) - before < 30) continue;
    before = x(s);
    const anchor = x(s) + 18 > width ? "end" : "middle";
    g.push(h("svg:text", { x: anchor === "end" ? width - 1 : x(s), y: height - bottom + 18, "text-anchor": anchor }, sparsityText(s)));
  }
  g.push(h("svg:text", { x: width - right, y: height - 5, "text-anchor": "end" }, "sparsity"));
  g.push(h("svg:line", { class: "chance", x1: left, x2: width - right, y1: y(at.chance), y2: y(at.chance) }));
  if (at.dense) {
    const sign = at.higher ? 1 : -1;
    if (at.margin) {
      const [a, b] = [y(at.dense.mean), y(at.dense.mean - sign * at.margin)];
      g.push(h("svg:rect", { class: "margin", x: left, width: width - left - right, y: Math.min(a, b), height: Math.max(1, Math.abs(a - b)) }));
    }
    g.push(h("svg:line", { class: "dense", x1: left, x2: width - right, y1: y(at.dense.mean), y2: y(at.dense.mean) }));
  }
  const start = at.dense ? [[x(0), y(at.dense.mean)]] : [];
  for (const who of methods) {
    const mine = cellsOf.get(who)?.get(at)?.filter((e) => e.sparsity > 0);
    if (mine?.length && !chosen.includes(who)) g.push(h("svg:path", { class: "other", d: line([...start, ...mine.map((e) => [x(e.sparsity), y(e.mean)])]) }));
  }
  const bands = [];
  const lines = [];
  for (const [i, who] of chosen.entries()) {
    const mine = cellsOf.get(who)?.get(at)?.filter((e) => e.sparsity > 0) ?? [];
    if (!mine.length) continue;
    const wide = mine.filter((e) => e.low != null);
    if (wide.length) {
      bands.push(h("svg:path", { class: "band", style: { fill: colour(i) }, d: line([...start, ...wide.map((e) => [x(e.sparsity), y(e.high)]), ...wide.toReversed().map((e) => [x(e.sparsity), y(e.low)])]) + "Z" }));
    }
    lines.push(h("svg:path", { class: "pick", style: { stroke: colour(i) }, d: line([...start, ...mine.map((e) => [x(e.sparsity), y(e.mean)])]) }));
    for (const e of mine) {
      lines.push(h("svg:g", { class: "hit", "data-row": e.key },
        h("svg:title", {}, `${who.sparsifier} at ${sparsityText(e.sparsity)}: ${score(e.mean)} ${range(e.low, e.high, score)}`),
        h("svg:circle", { cx: x(e.sparsity), cy: y(e.mean), r: 9, fill: "transparent" }),
        marker(SHAPES[i % 8], x(e.sparsity), y(e.mean), 4.2, { class: "dot", style: { fill: colour(i) } })));
    }
  }
  if (named) lines.push(endLabels(chosen, at, x, y, [top, height - bottom]));
  const papers = published.filter((p) => p.task === at.task && p.metric === at.metric && p.sparsity > 0).filter((p) => y(p.score) > top && y(p.score) < height - bottom);
  for (const p of papers) {
    lines.push(h("svg:g", { class: "hit", "data-row": p.key }, h("svg:title", {}, `published, not ranked: ${p.row} ${p.score} (${p.source}, ${p.table})`),
      marker("diamond", Math.min(width - right, x(p.sparsity)), y(p.score), 3.4, { class: "published-dot" })));
  }
  return h("svg:svg", { width, height, viewBox: `0 0 ${width} ${height}` }, g, bands, lines);
}

/** Names at the ends of the lines, pushed apart so that none covers another. */
function endLabels(chosen, at, x, y, [top, bottom]) {
  const ends = chosen.flatMap((who, i) => {
    const last = cellsOf.get(who)?.get(at)?.at(-1);
    return last ? [{ who, i, x: x(last.sparsity), y: y(last.mean) }] : [];
  }).sort((a, b) => a.y - b.y);
  const gap = 15;
  ends.forEach((end, n) => (end.to = Math.max(end.y, n ? ends[n - 1].to + gap : top + 4)));
  for (let n = ends.length - 1, limit = bottom; n >= 0; n--, limit -= gap) ends[n].to = Math.min(ends[n].to, limit);
  return ends.map((end) => h("svg:text", { x: end.x + 12, y: end.to + 4, style: { fill: colour(end.i) } }, end.who.sparsifier.slice(0, 22)));
}

/** Cost against quality, one point a method; the line joins those that nothing cheaper beats in the mean. */
function scatter(standings, chosen, cost, width) {
  const height = Math.round(Math.min(600, Math.max(360, width * 0.56)));
  const [left, right, top, bottom] = [44, 18, 14, 44];
  const points = standings.filter((s) => s[cost] > 0).map((s) => ({ ...s, quality: together(s) }));
  if (!points.length) return h("svg:svg", { width, height: 20 });
  const logs = points.map((s) => Math.log10(s[cost]));
  const qs = points.flatMap((s) => [s.quality.mean, s.quality.low ?? s.quality.mean, s.quality.high ?? s.quality.mean]);
  const [x0, x1] = [Math.min(...logs) - 0.08, Math.max(...logs) + 0.22];
  const [y0, y1] = [Math.floor((Math.min(...qs, 0.9) - 0.01) * 10) / 10, Math.max(...qs, 1) + 0.03];
  const x = (v) => left + ((Math.log10(v) - x0) / (x1 - x0)) * (width - left - right);
  const y = (v) => height - bottom - ((v - y0) / (y1 - y0)) * (height - top - bottom);
  const g = [];
  for (const t of ticks(y0, y1, 6)) {
    g.push(h("svg:line", { class: "grid", x1: left, x2: width - right, y1: y(t), y2: y(t) }));
    g.push(h("svg:text", { x: left - 8, y: y(t) + 4, "text-anchor": "end" }, t.toFixed(1)));
  }
  for (const t of [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100].filter((t) => Math.log10(t) >= x0 && Math.log10(t) <= x1)) {
    g.push(h("svg:line", { class: "axis", x1: x(t), x2: x(t), y1: height - bottom, y2: height - bottom + 5 }));
    g.push(h("svg:text", { x: x(t), y: height - bottom + 19, "text-anchor": "middle" }, `${t}×`));
  }
  const unit = cost === "train" ? "training, in dense trainings" : "inference, in dense forward passes";
  g.push(h("svg:text", { x: width - right, y: height - 5, "text-anchor": "end" }, unit));
  g.push(h("svg:line", { class: "dense", x1: left, x2: width - right, y1: y(1), y2: y(1) }), h("svg:text", { x: left + 4, y: y(1) - 5 }, "dense"));
  let best = -Infinity;
  const front = [];
  for (const s of sorted(points.filter((s) => !s.retracted), (s) => s[cost], false)) {
    if (s.quality.mean <= best) continue;
    if (front.length) front.push([x(s[cost]), y(best)]);
    best = s.quality.mean;
    front.push([x(s[cost]), y(best)]);
  }
  if (front.length > 1) g.push(h("svg:path", { class: "front", d: line(front) }));
  const taken = points.map((s) => [x(s[cost]) - 5, y(s.quality.mean) - 5, 10, 10]);
  const free = ([a, b, w, t]) => a >= left && a + w <= width && b >= 0 && taken.every(([c, d, v, u]) => a + w < c || c + v < a || b + t < d || d + u < b);
  const ranked = sorted(points, (s) => (chosen.includes(s.who) ? 1e9 : 0) + s.quality.mean, true);
  const marks = ranked.toReversed().map((s) => {
    const i = chosen.indexOf(s.who);
    const [cx, cy] = [x(s[cost]), y(s.quality.mean)];
    const paint = i < 0 ? "var(--strong-rule)" : colour(i);
    return h("svg:g", { class: "hit", "data-row": s.who.name },
      h("svg:title", {}, `${s.who.sparsifier}: quality ${fixed(s.quality.mean, 3)} ${range(s.quality.low, s.quality.high, (v) => fixed(v, 3))}, ${times(s[cost])}`),
      s.quality.low != null && h("svg:line", { class: "err", x1: cx, x2: cx, y1: y(s.quality.low), y2: y(s.quality.high), style: { stroke: paint } }),
      h("svg:circle", { cx, cy, r: 10, fill: "transparent" }),
      s.retracted
        ? marker("cross", cx, cy, 4.5, { style: { fill: "var(--bad)" } })
        : marker(i < 0 ? "circle" : SHAPES[i % 8], cx, cy, i < 0 ? 3.6 : 5, { class: "dot", style: { fill: paint } }));
  });
  const labels = [];
  for (const s of ranked) {
    const text = s.who.sparsifier.length > 26 ? s.who.sparsifier.slice(0, 25) + "…" : s.who.sparsifier;
    const [cx, cy, w] = [x(s[cost]), y(s.quality.mean), text.length * 6.5];
    const place = [[cx + 8, cy - 7, "start"], [cx - 8 - w, cy - 7, "end"], [cx - w / 2, cy - 22, "middle"], [cx - w / 2, cy + 8, "middle"], [cx + 6, cy - 18, "start"], [cx + 6, cy + 5, "start"]]
      .find(([a, b]) => free([a, b, w, 14]));
    if (!place) continue;
    taken.push([place[0], place[1], w, 14]);
    const i = chosen.indexOf(s.who);
    labels.push(h("svg:text", { class: i < 0 ? "" : "label", x: place[2] === "start" ? place[0] : place[2] === "end" ? place[0] + w : place[0] + w / 2, y: place[1] + 11, "text-anchor": place[2] }, text));
  }
  return h("svg:svg", { width, height, viewBox: `0 0 ${width} ${height}` }, g, marks, labels);
}
