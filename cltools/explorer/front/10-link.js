// What the page asks and what the kernel has heeded. A request carries all changes that are not heeded yet, of each
// control the last, so that a busy kernel finds one request with the final values and never a backlog.
class Link {
  constructor(model, onWaiting) {
    this.model = model;
    this.onWaiting = onWaiting;
    this.pending = [];
    this.n = 0;
  }

  ask(name, value = null) {
    this.n = Math.max(this.n, this.model.get("view").answered) + 1;
    this.pending = this.pending.filter((change) => change[1] !== name);
    this.pending.push([this.n, name, value]);
    this.model.set("request", { n: this.n, changes: this.pending });
    this.model.save_changes();
    this.timer ??= setTimeout(() => this.onWaiting(true), 400);
  }

  heard(answered) {
    this.pending = this.pending.filter((change) => change[0] > answered);
    if (this.pending.length) return;
    clearTimeout(this.timer);
    this.timer = null;
    this.onWaiting(false);
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
