// Thumbnails: one sprite, of which every tile shows a part.
class Pictures {
  constructor(fixed) {
    this.fixed = fixed;
    this.url = URL.createObjectURL(new Blob([typed(fixed.sprite, Uint8Array)], { type: "image/webp" }));
  }

  style(place, height) {
    const [tall, wide] = this.fixed.tile;
    const width = (height * wide) / tall;
    const { columns } = this.fixed;
    const x = (place % columns) * width;
    const y = Math.floor(place / columns) * height;
    return (
      `width:${width}px;height:${height}px;background-image:url(${this.url});` +
      `background-size:${columns * width}px auto;background-position:-${x}px -${y}px`
    );
  }

  remove() {
    URL.revokeObjectURL(this.url);
  }
}

// What is known of one key, for the card and for the names of pictures.
class Keys {
  constructor(fixed, view) {
    this.fixed = fixed;
    this.view = view;
    this.band = typed(view.band, Int8Array);
    this.score = typed(view.score, Float32Array);
    this.cosine = typed(view.cosine, Float32Array);
    this.force = typed(view.force, Float32Array);
    this.ranked = this.score.filter((_, i) => this.band[i] !== 0).sort().reverse();
  }

  // How many keys have at least this score.
  atLeast(score) {
    let low = 0;
    let high = this.ranked.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ranked[middle] >= score) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  name(place) {
    const label = this.fixed.labels[place];
    const known = this.view.truth && label >= 0 ? `, ${this.fixed.classes[label]}` : "";
    return `image ${this.fixed.ids[place]}${known}`;
  }

  lines(place) {
    const band = this.fixed.bands[this.band[place]];
    if (this.band[place] === 0) return [this.name(place), "the anchor"];
    const rank = this.atLeast(this.score[place]);
    return [
      this.name(place),
      `${band.glyph} ${band.name}`,
      `rank ${rank.toLocaleString("en")} of ${this.ranked.length.toLocaleString("en")}`,
      `cosine ${this.cosine[place].toFixed(3)}`,
      `${(100 * this.force[place]).toPrecision(2)} % of the force`,
    ];
  }
}

// The card of a point: drawn here from what the page has, so that it shows while the kernel is busy.
class Card {
  constructor(root, pictures) {
    this.root = root;
    this.pictures = pictures;
    this.node = element("div", { class: "cl-card", hidden: true });
    root.append(this.node);
  }

  show(keys, place, x, y) {
    const [title, ...rest] = keys.lines(place);
    const words = element("div", {}, element("b", {}, title), ...rest.map((line) => element("div", {}, line)));
    this.node.replaceChildren(element("span", { class: "cl-big", style: this.pictures.style(place, 88) }), words);
    this.node.hidden = false;
    this.node.dataset.place = place;
    const box = this.root.getBoundingClientRect();
    const own = this.node.getBoundingClientRect();
    const left = x - box.left + 14;
    this.node.style.left = `${Math.max(0, left + own.width > box.width ? x - box.left - own.width - 14 : left)}px`;
    this.node.style.top = `${Math.max(0, Math.min(y - box.top + 10, box.height - own.height))}px`;
  }

  hide() {
    this.node.hidden = true;
  }

  remove() {
    this.node.remove();
  }
}

// A picture that makes its image the anchor, and shows its card under the pointer or in focus.
function tile(explorer, place, height) {
  const made = element("button", {
    class: "cl-tile",
    style: explorer.pictures.style(place, height),
    "data-place": place,
    "aria-label": `${explorer.keys.lines(place).join(", ")}: make it the anchor`,
    onclick: () => explorer.goTo(place),
    onmouseleave: () => explorer.card.hide(),
    onblur: () => explorer.card.hide(),
  });
  const show = () => {
    const box = made.getBoundingClientRect();
    explorer.card.show(explorer.keys, place, box.right, box.top);
  };
  made.addEventListener("mouseenter", show);
  made.addEventListener("focus", show);
  if (explorer.view.truth) {
    const { labels } = explorer.fixed;
    if (labels[place] === labels[explorer.view.anchor] && place !== explorer.view.anchor) made.classList.add("cl-same");
  }
  return made;
}

function drawGroups(explorer, node) {
  const { view, fixed } = explorer;
  const anchor = element("div", { class: "cl-group cl-anchor" }, element("div", { class: "cl-head" }, "anchor"));
  anchor.append(tile(explorer, view.anchor, 44));
  const shown = view.groups.map(({ band, places, total }) => {
    const { name, colour, glyph } = fixed.bands[band];
    const mark = element("span", { style: `color:${colour}`, "aria-hidden": "true" }, glyph);
    const head = element("div", { class: "cl-head" }, mark, ` ${name}: ${total.toLocaleString("en")}`);
    const tiles = element("div", { class: "cl-tiles" }, ...places.map((place) => tile(explorer, place, 26)));
    return element("div", { class: "cl-group", role: "group", "aria-label": name, "data-band": band }, head, tiles);
  });
  node.replaceChildren(anchor, element("div", { class: "cl-groups" }, ...shown));
}
