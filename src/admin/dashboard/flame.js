// Draws a tree of calls: the outermost function on top, each as wide as its part of the samples.

import { el, setText } from "./dom.js";
import { count, latency, percent } from "./format.js";

/** Pixels of a row. */
const ROW = 22;
/** What is narrower cannot be seen. */
const NARROWEST = 1.5;
/** Frames that are drawn at the most; the widest come first. */
const FRAMES = 5000;
const COLOURS = 8;

export class Flame {
  #box;
  #detail;
  #root = null;
  /** What is as wide as the box. */
  #top = null;
  #interval = 1;
  #wanted = "";
  #colours = new Map();
  #drawn = new Map();
  #focus = null;
  #width = 0;

  constructor(box, detail) {
    this.#box = box;
    this.#detail = detail;
    box.addEventListener("click", (event) => this.#at(event, (node) => this.zoom(node)));
    box.addEventListener("mouseover", (event) => this.#at(event, (node) => this.#tell(node)));
    box.addEventListener("focusin", (event) => this.#at(event, (node) => this.#focusOn(node)));
    box.addEventListener("mouseleave", () => this.#tell(this.#focus ?? this.#top));
    box.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => {
      if (this.#root && box.clientWidth !== this.#width) this.#draw();
    }).observe(box);
  }

  /** Shows `root`, whose samples are each of `interval` milliseconds. */
  show(root, interval) {
    [this.#root, this.#top, this.#focus, this.#interval] = [root, root, null, interval];
    this.#colours = colours(root);
    this.#draw();
  }

  /** Has `node` as wide as the box; all of it for none. */
  zoom(node) {
    if (!this.#root) return;
    const hadFocus = this.#box.contains(document.activeElement);
    this.#top = node ?? this.#root;
    this.#focus = this.#top;
    this.#draw();
    if (hadFocus) this.#drawn.get(this.#top)?.focus();
  }

  /** Marks the functions that have this in their names. */
  find(text) {
    this.#wanted = text.toLowerCase();
    for (const [node, frame] of this.#drawn) this.#mark(node, frame);
    this.#tell(this.#focus ?? this.#top);
  }

  #draw() {
    this.#width = this.#box.clientWidth;
    this.#drawn.clear();
    const frames = [];
    const callers = [];
    for (let one = this.#top.parent; one; one = one.parent) callers.unshift(one);
    callers.forEach((node, depth) => frames.push(this.#frame(node, depth, 0, 1, "caller")));

    let deepest = callers.length;
    const scale = 1 / (this.#top.total || 1);
    const queue = [[this.#top, callers.length, 0]];
    for (let next = 0; next < queue.length && frames.length < FRAMES; next++) {
      const [node, depth, left] = queue[next];
      frames.push(this.#frame(node, depth, left, node.total * scale, ""));
      deepest = Math.max(deepest, depth);
      let from = left;
      const children = [...node.children.values()].sort((a, b) => b.total - a.total);
      for (const child of children) {
        const part = child.total * scale;
        if (part * this.#width >= NARROWEST) queue.push([child, depth + 1, from]);
        from += part;
      }
    }
    this.#box.style.height = `${(deepest + 1) * ROW}px`;
    this.#box.replaceChildren(...frames);
    const reachable = this.#drawn.get(this.#focus) ?? this.#drawn.get(this.#top);
    reachable.tabIndex = 0;
    this.#tell(this.#focus ?? this.#top);
  }

  #frame(node, depth, left, part, kind) {
    const colour = node.parent ? `c${this.#colours.get(family(node.name))}` : "root";
    const frame = el("div", {
      role: "treeitem",
      class: `frame ${colour} ${kind}`,
      tabindex: "-1",
      "aria-level": String(depth + 1),
      "aria-label": this.#about(node),
      title: this.#about(node),
    });
    // Widths and places are set from here: the page may have no styles of its own.
    frame.style.top = `${depth * ROW}px`;
    frame.style.left = `${left * 100}%`;
    frame.style.width = `${part * 100}%`;
    if (part * this.#width > 24) frame.append(node.name);
    frame.node = node;
    this.#drawn.set(node, frame);
    this.#mark(node, frame);
    return frame;
  }

  #matches(node) {
    return this.#wanted !== "" && node.name.toLowerCase().includes(this.#wanted);
  }

  #mark(node, frame) {
    frame.classList.toggle("found", this.#matches(node));
    frame.classList.toggle("other", this.#wanted !== "" && !this.#matches(node));
  }

  #about(node) {
    const part = percent(node.total / (this.#root.total || 1));
    const time = latency((node.total * this.#interval) / 1000);
    const self = node.self ? `, itself ${percent(node.self / this.#root.total)}` : "";
    return `${node.name}: ${part} (${count(node.total)} samples, ${time})${self}`;
  }

  #tell(node) {
    if (!node) return;
    const found = this.#wanted ? ` — found in ${percent(this.#found() / (this.#root.total || 1))}` : "";
    setText(this.#detail, this.#about(node) + found);
  }

  /** Samples in what is found, each once. */
  #found() {
    let found = 0;
    const nodes = [this.#root];
    for (let node; (node = nodes.pop()); ) {
      if (this.#matches(node)) found += node.total;
      else nodes.push(...node.children.values());
    }
    return found;
  }

  #at(event, act) {
    const frame = event.target.closest(".frame");
    if (frame) act(frame.node);
  }

  #focusOn(node) {
    for (const frame of this.#box.querySelectorAll('[tabindex="0"]')) frame.tabIndex = -1;
    this.#drawn.get(node).tabIndex = 0;
    this.#focus = node;
    this.#tell(node);
  }

  #key(event) {
    const node = event.target.node;
    if (!node) return;
    const shown = (nodes) => nodes.filter((one) => this.#drawn.has(one)).sort((a, b) => b.total - a.total);
    const siblings = node.parent ? shown([...node.parent.children.values()]) : [node];
    const beside = (step) => siblings[siblings.indexOf(node) + step];
    const act = {
      ArrowUp: () => node.parent,
      ArrowDown: () => shown([...node.children.values()])[0],
      ArrowLeft: () => beside(-1),
      ArrowRight: () => beside(1),
      Home: () => this.#root,
      Enter: () => void this.zoom(node),
      " ": () => void this.zoom(node),
      Escape: () => void this.zoom(null),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    const target = act();
    if (target) this.#drawn.get(target)?.focus();
  }
}

/** Which crate, package or module a function is of, as far as its name says so. */
const family = (name) => /^<?(?:dyn |&)?([\w.-]+)/.exec(name)?.[1] ?? name;

/** A colour for each family: one of its own for those with most samples in themselves. */
function colours(root) {
  const weights = new Map();
  const nodes = [...root.children.values()];
  for (let node; (node = nodes.pop()); ) {
    const of = family(node.name);
    weights.set(of, (weights.get(of) ?? 0) + node.self);
    nodes.push(...node.children.values());
  }
  const order = [...weights].sort(([, a], [, b]) => b - a).map(([of]) => of);
  return new Map(order.map((of, place) => [of, place % COLOURS]));
}
