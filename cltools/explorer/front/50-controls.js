// The controls, drawn from the kernel's list of them as native elements, each with its name, its value and its unit.
class Controls {
  constructor(explorer) {
    this.explorer = explorer;
    this.places = { bar: element("div", { class: "cl-bar" }), edges: element("div", { class: "cl-edges" }), more: element("div", { class: "cl-more" }) };
    this.made = new Map();
  }

  draw() {
    const { controls } = this.explorer.view;
    const shape = controls.map((c) => `${c.where} ${c.name} ${c.kind}`).join("|");
    if (shape !== this.shape) {
      this.shape = shape;
      const active = document.activeElement;
      const focused = this.explorer.root.contains(active) ? active.dataset.control : null;
      for (const place of Object.values(this.places)) place.replaceChildren();
      this.made = new Map(controls.map((c) => [c.name, this.#make(c)]));
      if (focused) this.made.get(focused)?.input.focus();
    }
    for (const control of controls) this.#update(control);
  }

  #make(control) {
    const ask = (value) =>
      control.kind === "edge" ? this.explorer.askEdge(control.name, value) : this.explorer.ask(control.name, value);
    const make = { select: makeSelect, check: makeCheck, number: makeNumber, range: makeRange, edge: makeEdge }[control.kind];
    const made = make(control, ask, this.explorer);
    made.input.dataset.control = control.name;
    this.places[control.where].append(made.node);
    return made;
  }

  #update(control) {
    const made = this.made.get(control.name);
    made.control = control;
    made.node.title = control.help;
    made.input.disabled = Boolean(control.disabled);
    if (made.why) made.why.textContent = control.disabled && ` (${control.disabled})`;
    if (!this.explorer.link.isPending(control.name)) made.show(control);
  }
}

function labelled(control, ...children) {
  return element("label", { class: `cl-control cl-${control.kind}` }, element("span", { class: "cl-label" }, control.label), ...children);
}

function makeSelect(control, ask) {
  const input = element("select", { "aria-label": control.label, onchange: () => ask(made.control.options[input.selectedIndex]) });
  const made = { input, node: labelled(control, input), control };
  made.show = ({ options, names, value }) => {
    if (made.names !== names.join("|")) {
      made.names = names.join("|");
      input.replaceChildren(...names.map((name) => element("option", {}, name)));
    }
    input.selectedIndex = options.indexOf(value);
  };
  return made;
}

function makeCheck(control, ask) {
  const input = element("input", { type: "checkbox", "aria-label": control.label, onchange: () => ask(input.checked) });
  const why = element("span", { class: "cl-text" });
  const node = element("label", { class: "cl-control cl-check" }, input, element("span", {}, control.label, why));
  return { input, node, why, show: ({ value }) => (input.checked = value) };
}

function makeNumber(control, ask) {
  const input = element("input", { type: "text", inputmode: "decimal", size: 5, "aria-label": control.label });
  input.addEventListener("change", () => {
    const text = input.value.trim();
    ask(text === "" || text === "none" ? null : Number.isNaN(Number(text)) ? text : Number(text));
  });
  const show = ({ value }) => {
    if (document.activeElement !== input || made.shown !== value) input.value = value === null ? "none" : String(value);
    made.shown = value;
  };
  const made = { input, node: labelled(control, input), show };
  return made;
}

function makeRange(control, ask) {
  const output = element("span", { class: "cl-text" });
  const input = element("input", { type: "range", min: 0, step: 1, "aria-label": control.label });
  const made = { input, node: labelled(control, input, output), control };
  input.addEventListener("input", () => ask(made.control.options[Number(input.value)]));
  made.show = ({ options, value, text }) => {
    input.max = options.length - 1;
    input.value = options.indexOf(value);
    input.setAttribute("aria-valuetext", text);
    output.textContent = text;
  };
  return made;
}

// An edge: a logarithmic slider over the stops, a typed value, and what the edge does in ranks and cosine at once.
function makeEdge(control, ask, explorer) {
  const output = element("span", { class: "cl-text" });
  const input = element("input", { type: "range", min: 0, step: 1, "aria-label": control.label });
  const typedValue = element("input", { type: "text", inputmode: "decimal", size: 6 });
  const unit = element("span");
  const made = { input, node: labelled(control, input, typedValue, unit, output), control };
  const ranks = () => explorer.view.edges?.unit === "rank";
  const measure = () => ({ rank: "percent of the keys", cosine: "cosine", margin: "difference of cosines" })[explorer.view.edges?.unit];
  input.addEventListener("input", () => {
    const value = made.control.options[Number(input.value)];
    explorer.histogram.preview(control.name, value);
    ask(value);
  });
  typedValue.addEventListener("change", () => {
    const value = Number(typedValue.value);
    if (typedValue.value.trim() === "" || Number.isNaN(value)) {
      explorer.complain(`"${typedValue.value}" is no number; type a ${ranks() ? "share of the keys in percent" : measure()}.`);
      made.show(made.control);
      return;
    }
    ask(ranks() ? (value / 100) * explorer.keys.band.length : value);
  });
  made.show = ({ options, value, text }) => {
    input.max = options.length - 1;
    input.value = nearest(options, value);
    input.setAttribute("aria-valuetext", text);
    typedValue.setAttribute("aria-label", `${control.label}, ${measure()}`);
    const shown = ranks() ? String(+((100 * value) / explorer.keys.band.length).toPrecision(4)) : value.toFixed(3);
    if (document.activeElement !== typedValue) typedValue.value = shown;
    unit.textContent = ranks() ? "%" : "";
    output.textContent = text;
  };
  return made;
}

function nearest(options, value) {
  let best = 0;
  options.forEach((option, i) => {
    if (Math.abs(option - value) < Math.abs(options[best] - value)) best = i;
  });
  return best;
}
