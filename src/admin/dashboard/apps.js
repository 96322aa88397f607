// The apps, one by one and together: figures of now, and a line of the last minutes.

import { byId, el, setText, setTone, showEmpty, sync } from "./dom.js";
import { amount, bytes, count, latency, percent } from "./format.js";
import { Figures } from "./history.js";
import { draw, spark } from "./spark.js";

const together = new Figures();
const byApp = new Map();

/** The columns of the table: a name for narrow screens, and the series that is drawn, if any. */
const COLUMNS = [
  ["Requests/s", "requests"],
  ["Errors/s", "errors"],
  ["p50"],
  ["p99", "p99"],
  ["Busy"],
  ["Idle"],
  ["Draining"],
  ["Queue"],
  ["Memory", "memory"],
  ["CPU", "cpu"],
];

export function showApps(status) {
  const now = performance.now() / 1000;
  const apps = status.apps.map((app) => {
    const seen = seenOf(app);
    const figures = byApp.get(app.name) ?? byApp.set(app.name, new Figures()).get(app.name);
    return { app, seen, figures, rates: figures.take(seen, now) };
  });
  const names = new Set(status.apps.map((app) => app.name));
  for (const name of byApp.keys()) if (!names.has(name)) byApp.delete(name);

  showTotals(status, apps, now);
  const table = byId("apps");
  showEmpty(table, apps.length === 0);
  sync(table.tBodies[0], apps, ({ app }) => app.name, createRow, updateRow);
}

/** The next figures say nothing about the time since the last. */
export function interruptApps() {
  for (const figures of [together, ...byApp.values()]) figures.interrupt();
}

const sum = (all, of) => all.reduce((total, one) => total + (of(one) ?? 0), 0);

function seenOf(app) {
  const { instances, rates } = app;
  return {
    requests: rates.requests,
    errors: rates.errors,
    p50: rates.p50_seconds,
    p99: rates.p99_seconds,
    busy: sum([instances.starting, instances.busy, instances.post_return], (it) => it),
    idle: instances.idle,
    draining: instances.leaving + sum(app.draining, (it) => it.instances),
    queue: app.waiting,
    memory: app.memory_bytes,
    cpu: app.cpu_seconds,
  };
}

function createRow({ app }) {
  const name = el("th", { role: "rowheader", scope: "row" });
  name.append(el("span", { class: "name" }), " ", el("span", { class: "badge" }));
  const cells = COLUMNS.map(([label, series]) => {
    const cell = el("td", { role: "cell", class: "n", "data-label": label });
    if (series) cell.append(spark(series === "errors" ? "bad" : ""));
    cell.append(el("span"));
    return cell;
  });
  return el("tr", { role: "row" }, name, ...cells);
}

function updateRow(row, { app, seen, figures, rates }) {
  const [name, badge] = row.cells[0].querySelectorAll("span");
  setText(name, app.name);
  name.title = [app.kind, app.component, app.digest].filter(Boolean).join("\n");
  const state = app.drained ? "drained" : app.state;
  setText(badge, state === "serving" ? "" : state);
  setTone(badge, state === "failed" ? "bad" : "warning");

  const texts = [
    amount(rates.requests),
    amount(rates.errors),
    latency(seen.p50),
    latency(seen.p99),
    count(seen.busy),
    count(seen.idle),
    count(seen.draining),
    count(seen.queue),
    bytes(seen.memory),
    percent(rates.cpu),
  ];
  texts.forEach((text, index) => {
    const cell = row.cells[index + 1];
    setText(cell.lastChild, text);
    cell.classList.toggle("zero", text === "0" || text === "0 %" || text === "–" || text === "0 B");
    const series = COLUMNS[index][1];
    if (series) draw(cell.firstChild, figures[series].values);
  });
  setTone(row.cells[2], rates.errors > 0.005 ? "bad" : "");
  setTone(row.cells[8], seen.queue > 0 ? "warning" : "");
}

function showTotals(status, apps, now) {
  const all = (of) => sum(apps, ({ seen }) => seen[of]);
  const rates = together.take(
    {
      requests: status.rates.requests,
      errors: status.rates.errors,
      p50: status.rates.p50_seconds,
      p99: status.rates.p99_seconds,
      busy: all("busy"),
      queue: all("queue"),
      memory: status.memory.used_bytes,
      cpu: all("cpu"),
    },
    now,
  );
  const draining = all("draining") + sum(status.draining, (it) => it.instances);
  const memory = status.memory;
  const tiles = [
    ["Requests", `${amount(rates.requests)}/s`, "all hosts", "requests"],
    ["Errors", `${amount(rates.errors)}/s`, "with a status of 5xx", "errors"],
    ["Latency, p99", latency(status.rates.p99_seconds), `p50 ${latency(status.rates.p50_seconds)}`, "p99"],
    ["Instances busy", count(all("busy")), `${count(all("idle"))} idle, ${count(draining)} draining`, "busy"],
    ["Requests waiting", count(all("queue")), `${count(sum(status.apps, (it) => it.in_flight))} in flight`, "queue"],
    ["Memory", bytes(memory.used_bytes), `of ${bytes(memory.limit_bytes)} for instances`, "memory", memory.limit_bytes],
    ["CPU of guests", percent(rates.cpu), "of one core", "cpu"],
  ];
  const create = ([name, , , series]) => {
    const value = el("dd", {}, el("span", { class: "value" }), el("span", { class: "dim" }));
    value.append(spark(series === "errors" ? "bad" : ""));
    return el("div", {}, el("dt", {}, name), value);
  };
  sync(byId("totals"), tiles, ([name]) => name, create, (tile, [, value, note, series]) => {
    const [shown, dim, line] = tile.lastChild.children;
    setText(shown, value);
    setText(dim, note);
    draw(line, together[series].values);
  });
  setTone(byId("totals").children[1], rates.errors > 0.005 ? "bad" : "");
}
