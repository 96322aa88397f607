// What became of the changes to the files, the latest first, each with what it changed.

import { byId, el, setText, sync } from "./dom.js";
import { ago, clock, latency } from "./format.js";

/** Those that are shown before more are asked for. */
const FEW = 6;

const RESULTS = {
  started: ["started", ""],
  applied: ["taken", "good"],
  partial: ["taken in part", "warning"],
  refused: ["refused", "bad"],
};
const SIGNS = { added: "+", removed: "−", changed: "~" };

let all = [];
let isWhole = false;

export function showReloads(reloads) {
  all = reloads;
  show();
}

function show() {
  const some = isWhole ? all : all.slice(0, FEW);
  sync(byId("reloads"), some, (reload) => `${reload.at} ${reload.generation}`, create);
  byId("more-reloads").hidden = isWhole || all.length <= FEW;
  setText(byId("more-reloads"), `Show all ${all.length}`);
}

byId("more-reloads").addEventListener("click", () => {
  isWhole = true;
  show();
});

// Times go by while nothing changes.
setInterval(() => {
  for (const time of byId("reloads").querySelectorAll("time")) setText(time, ago(time.dateTime));
}, 1000);

function create(reload) {
  const [result, tone] = RESULTS[reload.result] ?? [reload.result, ""];
  const head = el("p", { class: "head" });
  head.append(
    el("span", { class: `badge ${tone}` }, result),
    el("span", {}, `generation ${reload.generation}`),
    el("time", { datetime: reload.at, title: clock(reload.at) }, ago(reload.at)),
  );
  if (reload.elapsed_ms != null) {
    head.append(el("span", { class: "dim" }, `took ${latency(reload.elapsed_ms / 1000)}`));
  }
  const entry = el("li", {}, head);
  const changes = lines(reload.changes);
  if (changes.length) entry.append(el("ul", { class: "diff" }, ...changes));
  for (const problem of reload.problems) entry.append(el("pre", { class: "problem bad" }, problem));
  for (const warning of reload.warnings) entry.append(el("pre", { class: "problem warning" }, warning));
  return entry;
}

function lines({ apps, hosts, certificates, sections }) {
  return [
    ...apps.map((change) => line("app", change)),
    ...hosts.map((change) => line("host", change)),
    ...certificates.map((change) => line("certificate", change)),
    ...sections.map((name) => line("section", { name: `[${name}]`, change: "changed", keys: [] })),
  ];
}

function line(what, { name, change, keys, digest_from: from, digest_to: to }) {
  const about = [...keys];
  if (from || to) about.push(`component ${short(from)} → ${short(to)}`);
  const item = el("li", { class: change }, el("span", { class: "sign", "aria-label": change }, SIGNS[change]));
  item.append(` ${what} `, el("b", {}, name));
  // Of one that was not there before, all keys are new.
  if (about.length && change === "changed") item.append(`: ${about.join(", ")}`);
  return item;
}

const short = (digest) => (digest ? digest.slice(0, 10) : "none");
