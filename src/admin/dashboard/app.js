// The page: asks the server once a second and has each part show what it says.

import { byId, el, setText, sync } from "./dom.js";
import { clock, duration } from "./format.js";
import { ask, AskError, login } from "./ask.js";
import { showApps, interruptApps } from "./apps.js";
import { showReloads } from "./reloads.js";
import { showCertificates, showListeners, showRoutes } from "./tables.js";
import { showTroubles } from "./troubles.js";
import { showProfiles } from "./profiles.js";

const INTERVAL = 1000;
/** Profiles are listed once in so many looks. */
const PROFILES_EVERY = 10;

let looks = 0;
let timer = 0;
let isLooking = false;
/** When the last answer came. */
let answered = null;
/** Of which process, and its last change: what was told of it stays true until then. */
let known = "";

async function look() {
  if (isLooking) return;
  isLooking = true;
  clearTimeout(timer);
  try {
    const status = await ask("v1/status");
    answered = Date.now();
    show(status);
    await showMore(status);
  } catch (error) {
    fail(error);
  }
  isLooking = false;
  if (!document.hidden && byId("login").hidden) timer = setTimeout(look, INTERVAL);
}

function show(status) {
  byId("main").hidden = false;
  byId("login").hidden = true;
  byId("lost").hidden = true;
  document.body.classList.remove("stale");
  setLink("live");
  showFacts(status);
  showTroubles(byId("troubles"), status);
  showApps(status);
  showRoutes(status);
  showCertificates(status);
  showListeners(status);
}

/** What changes seldom. */
async function showMore(status) {
  const latest = `${status.pid} ${status.started} ${status.last_reload?.at}`;
  if (latest !== known) {
    showReloads((await ask("v1/reloads")).reloads);
    known = latest;
  }
  if (looks++ % PROFILES_EVERY === 0) showProfiles((await ask("v1/profiles")).profiles);
}

function showFacts(status) {
  setText(byId("version"), status.version);
  const troubled = document.querySelector("#troubles .bad, #troubles .warning");
  document.title = `${troubled ? "! " : ""}tidegate on ${location.host || "localhost"}`;
  const facts = [
    ["up", duration(status.uptime_seconds), `since ${clock(status.started)}`],
    ["generation", String(status.generation), "what one state of the files makes"],
    ["process", String(status.pid), ""],
    ["manifest", status.manifest, ""],
  ];
  const create = ([name]) => el("div", {}, el("dt", {}, name), el("dd"));
  sync(byId("facts"), facts, ([name]) => name, create, (node, [, value, title]) => {
    setText(node.lastChild, value);
    node.lastChild.title = title || value;
  });
}

function fail(error) {
  if (error instanceof AskError && error.status === 401) {
    byId("main").hidden = true;
    byId("lost").hidden = true;
    byId("login").hidden = false;
    setLink("locked");
    byId("token").focus();
    return;
  }
  interruptApps();
  document.body.classList.add("stale");
  setLink("lost");
  const since = answered
    ? `No answer since ${clock(answered)}: what is below is as it was then.`
    : "No answer yet.";
  setText(byId("lost"), `${since} Trying again each second. (${error.message})`);
  byId("lost").hidden = false;
  // Whoever answers next may be another process.
  known = "";
}

function setLink(state) {
  const texts = {
    live: "live",
    paused: "paused while hidden",
    lost: "no answer",
    locked: "locked",
  };
  byId("link").className = `link ${state}`;
  setText(byId("link"), texts[state]);
}

byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  setText(byId("refused"), "");
  try {
    await login(byId("token").value);
    byId("token").value = "";
    byId("login").hidden = true;
    looks = 0;
    await look();
  } catch (error) {
    setText(byId("refused"), error.message);
    byId("token").select();
  }
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    clearTimeout(timer);
    setLink("paused");
    interruptApps();
  } else {
    look();
  }
});

look();
