// Stored profiles of guests: chosen from a list, and drawn as a flame graph.

import { ask } from "./ask.js";
import { byId, el, setText, sync } from "./dom.js";
import { ago, bytes, count, latency, percent } from "./format.js";
import { Flame } from "./flame.js";
import { hottest, merge, tracks } from "./profile.js";

/** Functions in the table below the graph. */
const HOT = 12;

const choice = byId("profile");
const flame = new Flame(byId("flame"), byId("detail"));
let loaded = null;

const pathOf = ({ app, name }) =>
  `v1/profiles/${encodeURIComponent(app)}/${encodeURIComponent(name)}`;

export function showProfiles(profiles) {
  byId("no-profiles").hidden = profiles.length > 0;
  byId("choice").hidden = profiles.length === 0 && !loaded;
  const options = [{ app: "", name: "" }, ...profiles];
  const create = () => el("option");
  // One that is open stays chosen, though its file may be gone by now.
  const open = choice.value;
  sync(choice, options, (it) => (it.app ? pathOf(it) : ""), create, (option, it) => {
    option.value = it.app ? pathOf(it) : "";
    const text = it.app ? `${it.name}, ${bytes(it.bytes)}, ${ago(it.written)}` : "choose one";
    // An open list is not redrawn for each second that goes by.
    if (option.textContent === "" || document.activeElement !== choice) setText(option, text);
  });
  choice.value = open;
}

choice.addEventListener("change", () => load(choice.value));
byId("track").addEventListener("change", showTrack);
byId("find").addEventListener("input", () => find());
byId("whole").addEventListener("click", () => flame.zoom(null));

async function load(path) {
  loaded = null;
  byId("graph").hidden = true;
  for (const id of ["track", "find", "whole"]) byId(id).disabled = true;
  if (!path) return note("");
  note("loading");
  try {
    const all = tracks(await ask(path));
    // Another may have been chosen meanwhile.
    if (choice.value !== path) return;
    loaded = all;
  } catch (error) {
    return note(`This profile cannot be shown: ${error.message}`);
  }
  const names = loaded.length === 1 ? [] : ["all tracks"];
  names.push(...loaded.map((track) => track.name));
  byId("track").replaceChildren(...names.map((name) => el("option", {}, name)));
  byId("graph").hidden = false;
  for (const id of ["track", "find", "whole"]) byId(id).disabled = false;
  showTrack();
}

function showTrack() {
  const chosen = byId("track").selectedIndex - (loaded.length === 1 ? 0 : 1);
  const some = chosen < 0 ? loaded : [loaded[chosen]];
  const tree = merge(some);
  const interval = some[0].interval;
  flame.show(tree, interval);
  const samples = `${count(tree.total)} samples`;
  note(tree.total ? `${samples}, each of about ${latency(interval / 1000)} of computing` : "It has no samples.");
  const rows = hottest(tree).slice(0, HOT);
  const create = () => el("tr", {}, el("th", { scope: "row" }, el("button", { type: "button", class: "name" })), el("td", { class: "n" }), el("td", { class: "n" }));
  sync(byId("hot").tBodies[0], rows, (it) => it.name, create, (row, it) => {
    const [name, self, total] = row.cells;
    const button = name.firstChild;
    setText(button, it.name);
    button.onclick = () => find(it.name);
    setText(self, percent(it.self / tree.total));
    setText(total, percent(it.total / tree.total));
  });
  find();
}

/** Marks what has this in its name. */
function find(text) {
  const field = byId("find");
  if (text !== undefined) field.value = field.value === text ? "" : text;
  flame.find(field.value.trim());
}

const note = (text) => setText(byId("profile-note"), text);
