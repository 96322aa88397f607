// Hosts and where they lead, certificates, listeners.

import { byId, el, setText, setTone, showEmpty, sync } from "./dom.js";
import { clock, count } from "./format.js";
import { expiry } from "./troubles.js";

const cells = (row) => [...row.cells];
const rowOf = (...classes) => () =>
  el("tr", {}, ...classes.map((name, index) => el(index ? "td" : "th", index ? { class: name } : { class: name, scope: "row" })));

export function showRoutes({ routes }) {
  showEmpty(byId("routes"), routes.length === 0);
  const create = rowOf("name", "");
  sync(byId("routes").tBodies[0], routes, (route) => route.host + route.path, create, (row, route) => {
    const [from, to] = cells(row);
    setText(from, route.host + route.path);
    setText(to, `${route.kind} ${route.target}`);
  });
}

export function showCertificates({ certificates }) {
  // The next to end first; those without one are issued at the first handshake.
  const end = (it) => (it.expires ? Date.parse(it.expires) : Infinity);
  const all = [...certificates].sort((a, b) => (end(a) === end(b) ? 0 : end(a) - end(b)));
  showEmpty(byId("certificates"), all.length === 0);
  const create = rowOf("name", "", "");
  sync(byId("certificates").tBodies[0], all, (it) => it.host, create, (row, it) => {
    const [host, expires, from] = cells(row);
    setText(host, it.host);
    host.title = it.names.join("\n");
    const end = it.expires ? expiry(it.expires) : { text: "not issued yet", tone: "faint" };
    setText(expires, end.text);
    setTone(expires, end.tone);
    expires.title = it.expires ? clock(it.expires) : "";
    const source = { file: "file", acme: "ACME", local: "local" }[it.source] ?? it.source;
    setText(from, it.issuer ? `${source}: ${it.issuer}` : source);
  });
}

export function showListeners({ listeners }) {
  const address = (it) => `${it.scheme}://${it.address}`;
  const create = rowOf("name", "n", "n", "n");
  sync(byId("listeners").tBodies[0], listeners, address, create, (row, it) => {
    const [name, open, accepted, refused] = cells(row);
    setText(name, address(it));
    setText(open, count(it.open));
    setText(accepted, count(it.accepted));
    setText(refused, count(it.refused));
    setTone(refused, it.refused > 0 ? "warning" : "");
  });
}
