// Reads the Firefox profiler's processed format, as much of it as a flame graph needs.
// https://github.com/firefox-devtools/profiler/blob/main/docs-developer/processed-profile-format.md

/** The threads of a profile that have samples: what each function did, by its callers. */
export function tracks(profile) {
  const interval = profile?.meta?.interval ?? 1;
  const { shared } = profile;
  return (profile.threads ?? []).map((thread) => {
    const table = (name) => thread[name] ?? shared?.[name];
    return { name: String(thread.name ?? "thread"), interval, root: tree(thread.samples, table) };
  });
}

/** One tree of several tracks. */
export function merge(all) {
  const root = node("all", null);
  for (const { root: from } of all) {
    const pairs = [[from, root]];
    for (let pair; (pair = pairs.pop()); ) {
      const [one, into] = pair;
      into.self += one.self;
      into.total += one.total;
      for (const child of one.children.values()) pairs.push([child, childOf(into, child.name)]);
    }
  }
  return root;
}

/** Functions by the samples in themselves; `total` counts one that calls itself once. */
export function hottest(root) {
  const all = new Map();
  const [path, steps] = [new Map(), [[root, false]]];
  for (let step; (step = steps.pop()); ) {
    const [one, isLeft] = step;
    const depth = path.get(one.name) ?? 0;
    if (isLeft) {
      path.set(one.name, depth - 1);
      continue;
    }
    const seen = all.get(one.name) ?? { name: one.name, self: 0, total: 0 };
    seen.self += one.self;
    if (depth === 0) seen.total += one.total;
    all.set(one.name, seen);
    path.set(one.name, depth + 1);
    steps.push([one, true]);
    for (const child of one.children.values()) steps.push([child, false]);
  }
  all.delete(root.name);
  return [...all.values()].filter((it) => it.total).sort((a, b) => b.self - a.self || b.total - a.total);
}

const node = (name, parent) => ({ name, parent, self: 0, total: 0, children: new Map() });

function childOf(parent, name) {
  const known = parent.children.get(name);
  if (known) return known;
  const child = node(name, parent);
  parent.children.set(name, child);
  return child;
}

function tree(samples, table) {
  const [stacks, frames, functions] = ["stackTable", "frameTable", "funcTable"].map(table);
  const strings = table("stringArray") ?? table("stringTable");
  if (!samples || !stacks || !frames || !functions || !strings) throw new Error("it has no such tables");

  const root = node("all", null);
  // A stack comes after the one that it goes on from.
  const nodes = [];
  const prefixes = stacks.prefix ?? [];
  stacks.frame.forEach((frame, index) => {
    const name = strings[functions.name[frames.func[frame]]];
    const parent = prefixes[index] == null ? root : nodes[prefixes[index]];
    if (!parent) throw new Error("a stack goes on from none");
    nodes[index] = childOf(parent, String(name));
  });
  samples.stack.forEach((stack, index) => {
    const weight = samples.weight?.[index] ?? 1;
    const last = stack == null ? root : nodes[stack];
    if (!last) throw new Error("a sample has no such stack");
    last.self += weight;
    for (let one = last; one; one = one.parent) one.total += weight;
  });
  return root;
}
