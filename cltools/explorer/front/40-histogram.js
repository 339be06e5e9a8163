// The anchor's keys by score, stacked by band on a root scale, with the band's two edges to be dragged or stepped.
const HISTOGRAM = { width: 392, height: 168, left: 36, right: 8, top: 16, bottom: 32 };

class Histogram {
  constructor(explorer) {
    this.explorer = explorer;
    this.node = element("div", { class: "cl-histogram" });
    this.dragged = null;
  }

  draw() {
    const { view } = this.explorer;
    const { edges } = view.bins;
    this.low = edges[0];
    this.high = edges[edges.length - 1];
    const focused = this.node.querySelector(":focus")?.dataset.edge;
    if (!this.handles || Boolean(view.edges) !== Boolean(this.handles.closest)) this.#build();
    this.#bars();
    this.#axes();
    if (view.edges) for (const name of ["closest", "beyond"]) this.#place(name);
    if (focused) this.handles[focused]?.focus();
  }

  x(score) {
    const { width, left, right } = HISTOGRAM;
    return left + ((score - this.low) / (this.high - this.low)) * (width - left - right);
  }

  scoreAt(clientX) {
    const { width, left, right } = HISTOGRAM;
    const box = this.svg.getBoundingClientRect();
    const x = ((clientX - box.left) / box.width) * width;
    return this.low + ((x - left) / (width - left - right)) * (this.high - this.low);
  }

  // Shows an edge where it was put, before the kernel has answered.
  preview(name, value) {
    const { view, keys } = this.explorer;
    if (!this.handles?.[name]) return;
    const score = view.edges.unit === "rank" ? (value ? keys.ranked[Math.min(value, keys.ranked.length) - 1] : null) : value;
    this.#move(name, score);
  }

  #build() {
    const { width, height } = HISTOGRAM;
    const name = "Histogram of the anchor's keys by score";
    this.svg = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": name });
    this.bars = svg("g", { "aria-hidden": "true" });
    this.axes = svg("g", { "aria-hidden": "true" });
    const area = svg("rect", { class: "cl-area", x: 0, y: 0, width, height, "aria-hidden": "true" });
    area.addEventListener("pointerdown", (event) => this.#brush(event));
    this.svg.append(area, this.bars, this.axes);
    this.handles = {};
    if (this.explorer.view.edges) for (const each of ["beyond", "closest"]) this.#handle(each);
    this.node.replaceChildren(this.svg);
  }

  #bars() {
    const { view, fixed } = this.explorer;
    const { height, top, bottom } = HISTOGRAM;
    const { edges } = view.bins;
    const flat = typed(view.bins.counts, Int32Array);
    const codes = fixed.bands.length;
    const counts = edges.slice(1).map((_, i) => [...flat.subarray(codes * i, codes * i + codes)]);
    this.most = Math.max(1, ...counts.map((bin) => bin.reduce((a, b) => a + b, 0)));
    const y = (count) => height - bottom - Math.sqrt(count / this.most) * (height - top - bottom);
    this.y = y;
    const rects = [];
    counts.forEach((bin, i) => {
      let under = 0;
      bin.forEach((count, band) => {
        if (!count) return;
        const [x, wide] = [this.x(edges[i]), this.x(edges[i + 1]) - this.x(edges[i])];
        const upper = y(under + count);
        const tall = Math.max(y(under) - upper, 0.5);
        rects.push(
          svg("rect", { x, y: upper, width: Math.max(wide - 0.5, 0.5), height: tall, fill: fixed.bands[band].colour, "data-band": band }),
        );
        under += count;
      });
    });
    this.bars.replaceChildren(...rects);
  }

  #axes() {
    const { width, height, left, right, bottom } = HISTOGRAM;
    const floor = height - bottom;
    const drawn = [svg("line", { x1: left, x2: width - right, y1: floor, y2: floor, class: "cl-axis" })];
    for (let i = 0; i <= 4; i += 1) {
      const score = this.low + ((this.high - this.low) * i) / 4;
      drawn.push(svg("text", { x: this.x(score), y: floor + 12, "text-anchor": i === 4 ? "end" : "middle" }, score.toFixed(2)));
    }
    for (const tick of [1, 10, 100, 1000, 10000]) {
      if (tick > this.most) break;
      drawn.push(svg("text", { x: left - 4, y: this.y(tick) + 4, "text-anchor": "end" }, tick.toLocaleString("en")));
    }
    const { scoreName } = this.explorer.keys;
    drawn.push(svg("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, `${scoreName}; bars count keys, on a root scale`));
    this.axes.replaceChildren(...drawn);
  }

  #handle(name) {
    const { height, bottom } = HISTOGRAM;
    const toward = name === "closest" ? 1 : -1; // the side on which keys are dropped
    const handle = svg("g", { class: "cl-handle", role: "slider", tabindex: 0, "data-edge": name, "aria-orientation": "horizontal" });
    handle.append(
      svg("title"),
      svg("line", { x1: 0, x2: 0, y1: 4, y2: height - bottom, class: "cl-edge" }),
      svg("path", { d: `M0,2 L${toward * 11},8 L0,14 Z`, class: "cl-grip" }),
      svg("rect", { x: -8, y: 0, width: 16, height: height - bottom, fill: "transparent" }),
    );
    handle.addEventListener("pointerdown", (event) => this.#drag(event, name));
    handle.addEventListener("keydown", (event) => this.#step(event, name));
    this.handles[name] = handle;
    this.svg.append(handle);
  }

  #place(name) {
    const control = this.explorer.control(name);
    const handle = this.handles[name];
    const { options, value, label, text } = control;
    handle.setAttribute("aria-label", label);
    handle.querySelector("title").textContent = `${label}: ${text}`;
    handle.setAttribute("aria-valuemin", options[0]);
    handle.setAttribute("aria-valuemax", options[options.length - 1]);
    handle.setAttribute("aria-valuenow", value);
    handle.setAttribute("aria-valuetext", text);
    const asked = this.explorer.link.isPending(name) || this.explorer.link.isPending("band");
    if (this.dragged !== name && !asked) this.#move(name, this.explorer.view.edges.scores[name]);
  }

  #move(name, score) {
    const end = name === "closest" ? this.high : this.low;
    const at = Math.min(Math.max(score ?? end, this.low), this.high);
    this.handles[name].setAttribute("transform", `translate(${this.x(at).toFixed(2)},0)`);
  }

  // An edge's value where the pointer is: a number of keys, a cosine or a margin.
  #valueAt(clientX) {
    const score = this.scoreAt(clientX);
    const { view, keys } = this.explorer;
    if (view.edges.unit !== "rank") {
      const { options } = this.explorer.control("closest");
      return Math.max(options[0], Math.min(options[options.length - 1], score));
    }
    return score <= this.low ? keys.band.length : keys.atLeast(score);
  }

  #drag(event, name) {
    event.preventDefault();
    this.handles[name].focus();
    this.#follow(event, {
      move: (at) => {
        this.dragged = name;
        this.#move(name, this.scoreAt(at.clientX));
        this.explorer.askEdge(name, this.#valueAt(at.clientX));
      },
      end: () => {
        this.dragged = null;
      },
    });
  }

  // Dragging over the bars makes what was swept the band.
  #brush(event) {
    if (!this.explorer.view.edges) return;
    event.preventDefault();
    const from = event.clientX;
    this.#follow(event, {
      move: (at) => {
        if (Math.abs(at.clientX - from) < 4) return;
        const [left, right] = [Math.min(from, at.clientX), Math.max(from, at.clientX)];
        this.#move("beyond", this.scoreAt(left));
        this.#move("closest", this.scoreAt(right));
        this.explorer.askEdge("band", [this.#valueAt(right), this.#valueAt(left)]);
      },
      end: () => {},
    });
  }

  #follow(event, { move, end }) {
    const target = event.currentTarget;
    target.setPointerCapture(event.pointerId);
    const stop = () => {
      target.removeEventListener("pointermove", move);
      target.removeEventListener("pointerup", stop);
      target.removeEventListener("pointercancel", stop);
      end();
    };
    target.addEventListener("pointermove", move);
    target.addEventListener("pointerup", stop);
    target.addEventListener("pointercancel", stop);
  }

  #step(event, name) {
    const { options } = this.explorer.control(name);
    const ranks = this.explorer.view.edges.unit === "rank"; // to the right scores grow, and ranks fall
    const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 5, PageDown: -5, End: 1e9, Home: -1e9 }[event.key];
    if (!by) return;
    event.preventDefault();
    this.explorer.stepEdge(name, ranks ? -by : by, options);
  }
}

function svg(tag, attributes = {}, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  return made;
}
