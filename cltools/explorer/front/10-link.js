// Changes of which each counts, where of a value only the last does.
const STEPS = new Set(["back", "reset", "nearest", "csv"]);

// What the page asks and what the kernel has heeded. A request carries all changes that are not heeded yet, of each
// control the last, so that a busy kernel finds one request with the final values and never a backlog.
//
// One link a model, which all views of an output share: their requests have one numbering.
class Link {
  static links = new WeakMap();

  static of(model) {
    if (!Link.links.has(model)) Link.links.set(model, new Link(model));
    return Link.links.get(model);
  }

  constructor(model) {
    this.model = model;
    this.watchers = new Set(); // told whether an answer is late
    this.pending = [];
    this.n = 0;
    model.on("change:view", () => this.#heard(model.get("view").answered));
  }

  ask(name, value = null) {
    this.n = Math.max(this.n, this.model.get("view").answered) + 1;
    if (!STEPS.has(name)) this.pending = this.pending.filter((change) => change[1] !== name);
    this.pending.push([this.n, name, value]);
    this.model.set("request", { n: this.n, changes: this.pending });
    this.model.save_changes();
    this.timer ??= setTimeout(() => this.#late(true), 400);
  }

  #heard(answered) {
    this.pending = this.pending.filter((change) => change[0] > answered);
    clearTimeout(this.timer);
    this.timer = this.pending.length ? setTimeout(() => this.#late(true), 400) : null;
    this.#late(false);
  }

  #late(late) {
    for (const watcher of this.watchers) watcher(late);
  }

  isPending(name) {
    return this.pending.some((change) => change[1] === name);
  }
}

// Bytes of a trait as typed numbers; copied, because their place among a message's bytes need not be aligned.
function typed(view, Kind) {
  return new Kind(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && typeof value !== "string") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}
