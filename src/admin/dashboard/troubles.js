// What is wrong, the worst first: what somebody who was woken wants to read before all else.

import { el, sync } from "./dom.js";
import { bytes, count, duration, plural, secondsSince } from "./format.js";

/** A certificate that ends sooner should have been renewed by now: days. */
const EXPIRY_NEAR = 14;
/** A limit that was reached in so many seconds is told of. */
const RECENT = 60;
/** So full is the node's memory when that is worth a word. */
const MEMORY_NEAR = 0.9;
/** Details of one trouble that are shown; the rest is counted. */
const DETAILS = 8;

const DAY = 24 * 3600;

/** What is said of a certificate that ends then. */
export function expiry(time) {
  const left = -secondsSince(time);
  if (left < 0) return { tone: "bad", text: `expired ${duration(left)} ago` };
  return { tone: left < EXPIRY_NEAR * DAY ? "warning" : "", text: `in ${duration(left)}` };
}

export function showTroubles(section, status) {
  const all = troubles(status);
  const apps = status.apps.length;
  if (all.length === 0) {
    const serves = apps === 1 ? "1 app serves" : `${apps} apps serve`;
    all.push({ tone: "good", title: apps ? `Nothing is wrong: ${serves}` : "Nothing is wrong; there are no apps", details: [] });
  }
  const create = (trouble) => {
    const shown = trouble.details.slice(0, DETAILS);
    const rest = trouble.details.length - shown.length;
    if (rest > 0) shown.push(`and ${rest} more`);
    const box = el("div", { class: `notice ${trouble.tone}` }, el("strong", {}, trouble.title));
    if (shown.length) box.append(el("ul", {}, ...shown.map((text) => el("li", {}, text))));
    return box;
  };
  // Another text is another box: these change seldom.
  sync(section, all, (trouble) => JSON.stringify(trouble), create);
}

function troubles(status) {
  return [
    ...apps(status, "failed", "bad", "cannot be served: its hosts answer 503"),
    ...certificates(status),
    ...reload(status.last_reload),
    ...apps(status, "stale", "warning", "is served by an earlier version"),
    ...apps(status, "compiling", "warning", "is being compiled"),
    ...drained(status),
    ...queues(status),
    ...memory(status),
    ...limits(status),
    ...lostLines(status),
    ...status.warnings.map((title) => ({ tone: "warning", title, details: [] })),
  ];
}

function apps(status, state, tone, what) {
  return status.apps
    .filter((app) => app.state === state)
    .map((app) => ({ tone, title: `${app.name} ${what}`, details: app.fault ? [app.fault] : [] }));
}

function drained(status) {
  const those = status.apps.filter((app) => app.drained);
  const title = (app) => `${app.name} is drained: its hosts answer 503`;
  return those.map((app) => ({ tone: "warning", title: title(app), details: [] }));
}

function certificates(status) {
  const ends = status.certificates
    .filter((it) => it.expires)
    .map((it) => ({ host: it.host, ...expiry(it.expires) }))
    .filter((it) => it.tone);
  return ["bad", "warning"].flatMap((tone) => {
    const details = ends.filter((it) => it.tone === tone).map((it) => `${it.host}: ${it.text}`);
    const what = tone === "bad" ? "expired" : "close to expiry";
    const title = `${plural(details.length, "certificate")} ${what}`;
    return details.length ? [{ tone, title, details }] : [];
  });
}

function reload(last) {
  const details = last?.problems ?? [];
  const title = {
    refused: `The last change was refused: generation ${last?.generation} goes on`,
    partial: "The last change was taken in part",
    started: details.length ? "Not all could be served at the start" : "",
  }[last?.result];
  return title ? [{ tone: last.result === "refused" ? "bad" : "warning", title, details }] : [];
}

function queues(status) {
  const details = status.apps.filter((app) => app.waiting > 0).map((app) => app.name);
  const title = `Requests wait for instances of ${plural(details.length, "app")}`;
  return details.length ? [{ tone: "warning", title, details }] : [];
}

function memory({ memory }) {
  if (!memory || !(memory.used_bytes >= MEMORY_NEAR * memory.limit_bytes)) return [];
  const title = `Instances hold nearly all of the ${bytes(memory.limit_bytes)} that server.memory grants`;
  return [{ tone: "warning", title, details: [] }];
}

function limits(status) {
  const recent = (of, all) =>
    (all ?? [])
      .filter((limit) => secondsSince(limit.last) < RECENT)
      .map((limit) => `${of}: ${limit.limit}`);
  const details = status.apps.flatMap((app) => recent(app.name, app.limits));
  details.push(...recent("clients", status.limits));
  const title = `${plural(details.length, "limit")} reached in the last minute`;
  return details.length ? [{ tone: "warning", title, details }] : [];
}

function lostLines({ log }) {
  const told = (lines, what) => {
    const title = `${count(lines)} ${lines === 1 ? "line" : "lines"} of the log ${what}`;
    return lines ? [{ tone: "warning", title, details: [] }] : [];
  };
  return [...told(log.dropped, "left out: too many came"), ...told(log.lost, "could not be written")];
}
