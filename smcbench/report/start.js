// The filters, the events, and the first drawing.

const main = document.getElementById("main");
const form = document.getElementById("filters");

const FIELDS = {
  battery: () => board.batteries.length > 1 && choice("battery", "Battery", board.batteries.map((b) => [b.digest.slice(0, 8), `${b.name} (${b.digest.slice(0, 8)})`]), battery().digest.slice(0, 8)),
  track: () => choice("track", "Track", [["", "all"], ...board.tracks.map((t) => [t, trackText(t)])]),
  category: () => choice("category", "Category", [["", "all"], ...board.categories.map((c) => [c, c])]),
  family: () => choice("family", "Task family", [["", "all"], ...[...new Set(batteryTables().map((t) => t.family))].sort().map((f) => [f, f])]),
  task: () => choice("task", "Task", [...(state.view === "layers" ? [] : [["", "all"]]), ...shownTables().map((t) => [t.key, t.key])], state.view === "layers" ? taskTable()?.key : state.task),
  paper: () => choice("task", "Task", [["", "all"], ...[...new Set(published.map((p) => p.task).filter(Boolean))].sort().map((t) => [t, t])]),
  at: () => {
    const among = state.view === "layers" ? [taskTable()].filter(Boolean) : shownTables();
    return (state.view !== "tasks" || state.measure !== "break") && choice("at", "Sparsity", ladder(among).map((s) => [sparsityText(s), sparsityText(s)]), sparsityText(sparsityOf(among)));
  },
  measure: () => choice("measure", "Shown", Object.entries(MEASURES)),
  cost: () => choice("cost", "Cost", [["train", "training"], ["inference", "inference"]]),
  q: () => h("label", {}, "Find", h("input", { type: "search", name: "q", value: state.q, placeholder: state.view === "published" ? "method or source" : "method or author" })),
  mix: () => check("mix", "All groups together"),
  published: () => state.measure === "score" && published.length > 0 && check("published", "Published beside"),
};
function choice(name, label, options, value = state[name]) {
  return h("label", {}, label, h("select", { name }, options.map(([key, text]) => h("option", { value: key, selected: key === value }, text))));
}
const check = (name, label) => h("label", { class: "check" }, h("input", { type: "checkbox", name, value: "1", checked: state[name] === "1" }), label);

let drawn;
/** Draw what the state says; the panel alone where only the row changed. */
function render({ fields = true } = {}) {
  const here = address({ row: "" });
  if (here !== drawn) {
    drawn = here;
    const [title, view, names] = VIEWS[state.view] ?? VIEWS.overview;
    if (fields) drawFilters(names);
    document.querySelector(".masthead").classList.toggle("compact", view !== overview);
    document.title = `${title} · the smcbench leaderboard`;
    for (const link of document.querySelectorAll("#views a")) {
      const current = link.dataset.view === (VIEWS[state.view] ? state.view : "overview");
      link.toggleAttribute("aria-current", false);
      if (current) link.setAttribute("aria-current", "page");
      link.setAttribute("href", viewAddress(link.dataset.view));
    }
    main.replaceChildren(...[view()].flat(4).filter(Boolean));
    redrawAll();
  }
  showPanel();
}
const viewAddress = (view) => address({ view, sort: "", page: "1", row: "", task: "", at: "", published: "" });

function drawFilters(names) {
  const focused = document.activeElement?.closest?.("#filters") && document.activeElement.name;
  form.replaceChildren(...names.map((name) => FIELDS[name]()).filter(Boolean));
  if (focused) form.elements.namedItem(focused)?.focus();
}
function announce() {
  const caption = main.querySelector("caption, figcaption");
  document.getElementById("status").textContent = caption ? caption.textContent : main.textContent.slice(0, 120);
}

form.addEventListener("input", (event) => {
  const { name, type, value, checked } = event.target;
  go({ [name]: type === "checkbox" ? (checked ? "1" : "") : name === "battery" && value === board.batteries[0].digest.slice(0, 8) ? "" : value, page: "1" });
  render({ fields: type !== "search" });
  announce();
});
form.addEventListener("submit", (event) => event.preventDefault());

document.addEventListener("click", (event) => {
  const at = (name) => event.target.closest?.(`[data-${name}]`)?.dataset[name];
  const [named, sort, page, drop, view] = ["row", "sort", "page", "drop", "view"].map(at);
  const row = named ?? (event.target.closest?.("td, tbody th") && !event.target.closest("a, button, select, code") ? at("key") : undefined);
  if (row !== undefined) {
    go({ row }, true);
    showPanel();
  } else if (sort !== undefined) {
    const first = event.target.closest("[data-sort]").dataset.first;
    const other = first ? "" : "-";
    go({ sort: state.sort === first + sort ? other + sort : first + sort, page: "1" });
    render();
    main.querySelector(`[data-sort="${CSS.escape(sort)}"]`)?.focus();
    announce();
  } else if (page !== undefined) {
    go({ page });
    render();
    main.querySelector(".scroll")?.focus({ preventScroll: true });
    main.querySelector(".scroll")?.scrollIntoView({ block: "start" });
  } else if (drop !== undefined) {
    go({ pick: picks().map((who) => who.name).filter((name) => name !== drop).join(",") || "none" });
    render();
    main.querySelector(".chips button, .chips select")?.focus();
  } else if (view !== undefined && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    go({ view, sort: "", page: "1", row: "", task: "", at: "", published: "" }, true);
    render();
  } else if (event.target === dialog) {
    dialog.close(); // the backdrop
  }
});
main.addEventListener("change", (event) => {
  if (!event.target.matches("[data-add]") || !event.target.value) return;
  go({ pick: [...picks().map((who) => who.name), event.target.value].join(",") });
  render();
  main.querySelector("[data-add]")?.focus();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment is the state, not a place
  main.focus();
});
document.addEventListener("keydown", walk);
dialog.addEventListener("close", () => {
  const row = state.row;
  if (row) go({ row: "" });
  showPanel();
  if (row && (document.activeElement === document.body || document.activeElement == null)) {
    (main.querySelector(`tr[data-key="${CSS.escape(row)}"] button`) ?? main).focus();
  }
});
for (const event of ["popstate", "hashchange"]) {
  addEventListener(event, () => {
    readAddress();
    render();
  });
}
let waiting;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(redrawAll, 80);
});

const theme = document.getElementById("theme");
function setTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  theme.textContent = { system: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" }[name];
  theme.dataset.theme = name;
}
function remembered(value) {
  try {
    if (value !== undefined) localStorage.setItem("smcbench-theme", value);
    return localStorage.getItem("smcbench-theme");
  } catch {
    return null; // a page from disk may have no storage
  }
}
theme.addEventListener("click", () => {
  const next = { system: "dark", dark: "light", light: "system" }[theme.dataset.theme];
  setTheme(next);
  remembered(next);
});
setTheme(["light", "dark"].includes(remembered()) ? remembered() : "system");

document.getElementById("views").append(
  ...Object.entries(VIEWS).filter(([name]) => name !== "published" || published.length).map(([name, [title]]) => h("a", { "data-view": name, href: "#" }, title)));
document.getElementById("footer").append(h("p", {}, board.footer),
  h("p", {}, "The same numbers: ", ["csv", "parquet", "md", "tex"].map((kind, i) => [i ? ", " : "", h("a", { href: `board.${kind}` }, `board.${kind}`)]), "."));
readAddress();
render();
performance.mark("smcbench:drawn");
