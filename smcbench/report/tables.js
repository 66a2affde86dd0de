// Elements, and tables that sort, page and can be walked with the arrow keys. Text goes in as text, never as markup.

/** An element: attributes by name, `on` for listeners, `style` as custom properties, children as nodes or text. */
function h(tag, attributes = {}, ...children) {
  const element = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child != null && child !== false));
  return element;
}
const unknown = (why) => h("span", { class: "none" }, h("span", { "aria-hidden": "true" }, "–"), h("span", { class: "sr" }, why));
/** A number (or name) that opens its provenance. */
const opens = (row, ...text) => h("button", { type: "button", "data-row": row }, ...text);
const withInterval = (text, low, high, format) =>
  low == null ? [text] : [text, " ", h("span", { class: "ci" }, range(low, high, format))];

const PAGE = 100;

/**
 * A table. Columns are {key, label, value(row), cell(row), numeric, minor, first, title, high}: `value` sorts (null comes
 * last), `cell` shows, `high` sorts from the highest at the first click. Groups are {heading, rows}.
 */
function table({ caption, columns, groups, rowKey, rowClass, kind = "", sortable = true }) {
  const [wanted, descending] = [state.sort.replace(/^-/, ""), state.sort.startsWith("-")];
  const by = sortable ? columns.find((c) => c.key === wanted && c.value) : undefined;
  const order = (rows) => (by ? sorted(rows, by.value, descending) : rows);
  const total = groups.reduce((sum, group) => sum + group.rows.length, 0);
  const pages = sortable ? Math.max(1, Math.ceil(total / PAGE)) : 1;
  const page = Math.min(pages, Math.max(1, Number.parseInt(state.page, 10) || 1));
  let [skip, room] = sortable ? [(page - 1) * PAGE, PAGE] : [0, Infinity];

  const head = h("tr", {}, columns.map((column) => {
    const active = column === by;
    return h("th", {
      scope: "col", class: classes(column, "n"), title: column.title,
      "aria-sort": active ? (descending ? "descending" : "ascending") : null,
    }, sortable && column.value
      ? h("button", { type: "button", "data-sort": column.key, "data-first": column.high ? "-" : "" }, column.label)
      : h("span", {}, column.label));
  }));
  const bodies = [];
  for (const group of groups) {
    const rows = order(group.rows).slice(skip, skip + room);
    skip = Math.max(0, skip - group.rows.length);
    room -= rows.length;
    if (!rows.length) continue;
    bodies.push(h("tbody", {},
      group.heading && h("tr", { class: "group" }, h("th", { scope: "rowgroup", colspan: columns.length }, h("span", {}, group.heading))),
      rows.map((row, i) => {
        const key = rowKey(row);
        return h("tr", { class: rowClass?.(row, by ? null : rows[i - 1]), "data-key": key, "aria-selected": key === state.row ? "true" : null },
          columns.map((column) => {
            const shown = column.cell(row);
            const heat = column.heat?.(row);
            return h(column.first ? "th" : "td", {
              scope: column.first ? "row" : null,
              class: classes(column, "n") + (heat == null ? "" : " heat"),
              style: heat == null ? {} : { "--v": heat.toFixed(3) },
            }, shown);
          }));
      })));
  }
  const element = h("table", { class: kind }, h("caption", {}, caption), h("thead", {}, head), bodies);
  return [
    h("div", { class: "scroll", role: "region", "aria-label": typeof caption === "string" ? caption : "Table", tabindex: "0" }, element),
    total === 0 && h("p", { class: "note" }, "Nothing passes these filters."),
    pages > 1 && pager(page, pages, total),
  ];
}

const classes = (column, numeric) =>
  [column.numeric ? numeric : "t", column.minor && "minor", column.first && "first", column.wrap && "wrap"].filter(Boolean).join(" ");

function sorted(rows, value, descending) {
  const keyed = rows.map((row, i) => [value(row), i, row]);
  const sign = descending ? -1 : 1;
  keyed.sort(([a, i], [b, j]) => {
    if (a == null || b == null) return (a == null) - (b == null) || i - j;
    return sign * (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b) || i - j;
  });
  return keyed.map(([, , row]) => row);
}

function pager(page, pages, total) {
  const to = (target, label) =>
    h("button", { type: "button", "data-page": target, disabled: target < 1 || target > pages }, label);
  return h("nav", { class: "pager", "aria-label": "Pages" },
    h("span", {}, `Rows ${thousands((page - 1) * PAGE + 1)}–${thousands(Math.min(page * PAGE, total))} of ${thousands(total)}`),
    to(1, "First"), to(page - 1, "Previous"), to(page + 1, "Next"), to(pages, "Last"));
}

/** Arrow keys go from number to number; Tab still visits each. */
function walk(event) {
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  const here = event.target.closest?.("tbody td, tbody th");
  if (!step || !here || event.target.tagName !== "BUTTON") return;
  const rows = [...here.closest("table").querySelectorAll("tbody tr")];
  let [r, c] = [rows.indexOf(here.parentElement), here.cellIndex];
  for (;;) {
    [r, c] = [r + step[0], c + step[1]];
    const next = rows[r]?.cells[c];
    if (!rows[r] || (!next && step[1])) return;
    const button = next?.querySelector("button");
    if (button?.offsetParent) {
      event.preventDefault();
      button.focus();
      return;
    }
  }
}
