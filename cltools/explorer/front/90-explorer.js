// One view of the explorer: it draws what the kernel says, asks for what a person does, and computes nothing else.
class ExplorerView {
  constructor(model, root) {
    this.model = model;
    this.root = root;
    this.fixed = model.get("fixed");
    this.pictures = new Pictures(this.fixed);
    this.card = new Card(root, this.pictures);
    this.waiting = element("span", { class: "cl-waiting", hidden: true }, "waiting for the running cell");
    this.gone = element("span", { class: "cl-gone" }, "the kernel was restarted: run the cells again, from the first");
    this.link = Link.of(model);
    this.onLate = (late) => (this.waiting.hidden = !late);
    this.link.watchers.add(this.onLate);
    this.histogram = new Histogram(this);
    this.controls = new Controls(this);
    this.groups = new Groups(this);
    this.#build();
    this.maps = new Maps(this, root);
    this.stopTheme = watchTheme((theme) => (root.dataset.theme = theme));
    root.dataset.lmSuppressShortcuts = "true"; // JupyterLab's single-letter commands are not meant for us
    this.onKey = (event) => this.#key(event);
    root.addEventListener("keydown", this.onKey);
    this.onView = () => this.draw();
    this.onFile = (file) => this.#save(file);
    model.on("change:view", this.onView);
    model.on("msg:custom", this.onFile);
    this.draw();
  }

  draw() {
    this.view = this.model.get("view");
    this.sides = {};
    this.keys = this.keysOf(this.view.active);
    this.#say();
    this.histogram.draw();
    this.controls.draw();
    if (!this.link.isPending("anchor")) {
      this.asked = this.view.anchor;
      if (document.activeElement !== this.anchor) this.anchor.value = this.fixed.ids[this.view.anchor];
    }
    this.groups.draw();
    this.card.refresh((side) => this.keysOf(side ?? this.view.active), this.shownTile);
    this.#texts();
  }

  ask(name, value) {
    this.link.ask(name, value);
  }

  // An edge's value is meant in the unit that is shown, which may be another when the kernel comes to it.
  askEdge(name, value) {
    this.link.ask(name, { unit: this.view.edges.unit, value });
  }

  // With two maps each side has its keys; with one, those of the side that the controls move.
  keysOf(side) {
    return (this.sides[side] ??= new Keys(this.fixed, this.view, side));
  }

  sideOfMap(i) {
    return Object.keys(this.view.sides).length > 1 ? "AB"[i] : this.view.active;
  }

  control(name) {
    return this.view.controls.find((control) => control.name === name);
  }

  goTo(place) {
    const count = this.fixed.ids.length;
    this.asked = ((place % count) + count) % count;
    this.anchor.value = this.fixed.ids[this.asked];
    this.ask("anchor", this.fixed.ids[this.asked]);
  }

  // From the value that was asked last, so that a key held down keeps walking while the kernel answers.
  stepEdge(name, by, options) {
    const pending = this.link.pending.find((change) => change[1] === name);
    const at = nearest(options, pending ? pending[2].value : this.control(name).value);
    const value = options[Math.max(0, Math.min(options.length - 1, at + by))];
    this.histogram.preview(name, value);
    this.askEdge(name, value);
  }

  complain(message) {
    this.error.textContent = message;
    this.error.hidden = !message;
  }

  remove() {
    this.model.off("change:view", this.onView);
    this.model.off("msg:custom", this.onFile);
    this.link.watchers.delete(this.onLate);
    this.root.removeEventListener("keydown", this.onKey);
    for (const part of [this.maps, this.card, this.pictures]) part.remove();
    this.stopTheme();
    clearTimeout(this.rest);
  }

  #build() {
    this.sentence = element("p", { class: "cl-sentence" });
    this.live = element("span", { class: "cl-hidden", role: "status", "aria-live": "polite" });
    this.error = element("p", { class: "cl-error", role: "alert", hidden: true });
    this.legend = element("div", { class: "cl-legend" });
    this.lines = element("div", { class: "cl-legend" });
    this.anchor = element("input", { type: "text", inputmode: "numeric", size: 6, "aria-label": "anchor, by image id" });
    this.anchor.addEventListener("change", () => this.#typed());
    const button = (label, words, act) => element("button", { class: "cl-button", title: words, "aria-label": words, onclick: act }, label);
    const walk = element(
      "div",
      { class: "cl-walk", role: "group", "aria-label": "anchor" },
      element("label", { class: "cl-control" }, element("span", { class: "cl-label" }, "anchor"), this.anchor),
      button("‹", "previous anchor (key p)", () => this.goTo(this.asked - 1)),
      button("›", "next anchor (key n)", () => this.goTo(this.asked + 1)),
      button("nearest", "make the closest key the anchor", () => this.ask("nearest")),
      button("back", "undo the last change", () => this.ask("back")),
      button("reset", "the rules of the beginning", () => this.ask("reset")),
    );
    const bar = element("div", { class: "cl-top" }, walk, this.controls.places.bar);
    const say = element("div", { class: "cl-say" }, this.sentence, this.live, this.error, this.waiting, this.gone);
    const side = element("div", { class: "cl-side" }, this.histogram.node, this.controls.places.edges, this.groups.node);
    const below = element("div", { class: "cl-below" }, this.legend, this.lines, this.#details());
    this.parts = [bar, say, side, below];
  }

  #details() {
    this.python = element("pre", { class: "cl-code", tabindex: 0, "aria-label": "the rules as Python" });
    this.json = element("pre", { class: "cl-code", tabindex: 0, "aria-label": "the rules as JSON" });
    this.state = element("textarea", { rows: 2, "aria-label": "this view as one line of JSON", spellcheck: false });
    const apply = element("button", { class: "cl-button", onclick: () => this.ask("state", this.state.value) }, "go to this view");
    const save = element("button", { class: "cl-button", onclick: () => this.#askFile() }, "save this anchor's keys (CSV)");
    const more = element("details", {}, element("summary", {}, "temperature, mined positives, and settings of the rule"), this.controls.places.more);
    const out = element("details", { class: "cl-out" }, element("summary", {}, "take it away: rules, keys, this view"));
    out.append(this.python, this.json, this.state, element("div", {}, apply, save));
    return element("div", { class: "cl-details" }, more, out, element("p", { class: "cl-frozen" }, this.fixed.frozen));
  }

  #say() {
    const { sentence, error, legend } = this.view;
    this.sentence.textContent = sentence;
    this.complain(error);
    clearTimeout(this.rest);
    this.rest = setTimeout(() => {
      if (this.live.textContent !== sentence) this.live.textContent = sentence;
    }, 300);
    const entry = ({ colour, name, glyph }) =>
      element("span", { class: "cl-entry" }, element("span", { style: `color:${colour}`, "aria-hidden": "true" }, glyph), ` ${name}`);
    this.legend.replaceChildren(...legend.map(entry));
    this.lines.replaceChildren("curves: ", ...this.view.lines.map(entry));
  }

  #texts() {
    this.python.textContent = this.view.python;
    this.json.textContent = JSON.stringify(this.view.rules);
    if (document.activeElement !== this.state) this.state.value = this.view.state;
  }

  #typed() {
    const place = this.fixed.ids.indexOf(Number(this.anchor.value));
    if (this.anchor.value.trim() !== "" && place >= 0) this.goTo(place);
    else this.complain(`No image has the id "${this.anchor.value}".`);
  }

  // What is pressed here stays here: no command of the notebook is meant.
  #key(event) {
    event.stopPropagation();
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input:not([type=range]):not([type=checkbox]), textarea, select")) return;
    if (event.key === "n") this.goTo(this.asked + 1);
    if (event.key === "p") this.goTo(this.asked - 1);
  }

  #askFile() {
    this.saving = true; // of several views only the one that asked saves
    this.ask("csv");
  }

  #save({ name, text }) {
    if (!this.saving) return;
    this.saving = false;
    const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    element("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }
}

function render({ model, el }) {
  let explorer = null;
  el.classList.add("cl-front");
  // The box around the front end and the maps is known only when this element has come into the page; and what it is to
  // show may come after it.
  const enter = () => {
    const root = el.closest(".cltools-explorer");
    if (!root || !model.get("view").sides) {
      frame = requestAnimationFrame(enter);
      return;
    }
    explorer = new ExplorerView(model, root);
    el.replaceChildren(...explorer.parts);
  };
  let frame = requestAnimationFrame(enter);
  return () => {
    cancelAnimationFrame(frame);
    explorer?.remove();
  };
}

export default { render };
