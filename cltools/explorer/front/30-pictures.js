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
  constructor(fixed, view, name) {
    const side = view.sides[name];
    this.fixed = fixed;
    this.truth = view.truth;
    this.scoreName = side.scoreName;
    this.side = Object.keys(view.sides).length > 1 ? `, side ${name}` : "";
    this.band = typed(side.band, Int8Array);
    this.score = typed(side.score, Float32Array);
    this.cosine = typed(side.cosine, Float32Array);
    this.force = typed(side.force, Float32Array);
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
    const known = this.truth && label >= 0 ? `, ${this.fixed.classes[label]}` : "";
    return `image ${this.fixed.ids[place]}${known}`;
  }

  lines(place) {
    const band = this.fixed.bands[this.band[place]];
    if (this.band[place] === 0) return [this.name(place), "the anchor"];
    const rank = this.atLeast(this.score[place]);
    const number = (value) => value.toLocaleString("en");
    const told = [
      this.name(place),
      `${band.glyph} ${band.name}${this.side}`,
      `rank ${number(rank)} of ${number(this.ranked.length)}`,
      `${this.scoreName}: ${this.score[place].toFixed(3)}`,
    ];
    if (!this.scoreName.endsWith("z·n")) told.push(`cosine to the anchor, z·n: ${this.cosine[place].toFixed(3)}`);
    return [...told, `${(100 * this.force[place]).toPrecision(2)} % of the force`];
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

  show(keys, place, x, y, side) {
    this.side = side;
    this.#fill(keys, place);
    this.node.hidden = false;
    const box = this.root.getBoundingClientRect();
    const own = this.node.getBoundingClientRect();
    const left = x - box.left + 14;
    this.node.style.left = `${Math.max(0, left + own.width > box.width ? x - box.left - own.width - 14 : left)}px`;
    this.node.style.top = `${Math.max(0, Math.min(y - box.top + 10, box.height - own.height))}px`;
  }

  #fill(keys, place) {
    const [title, ...rest] = keys.lines(place);
    const words = element("div", {}, element("b", {}, title), ...rest.map((line) => element("div", {}, line)));
    this.node.replaceChildren(element("span", { class: "cl-big", style: this.pictures.style(place, 88) }), words);
    this.node.dataset.place = place;
  }

  // What it shows may have changed under a resting pointer: another judgement, or another picture in that place.
  refresh(keysOf, tile) {
    if (!this.node.hidden) this.#fill(keysOf(this.side), Number((tile ?? this.node).dataset.place));
  }

  hide() {
    this.node.hidden = true;
  }

  remove() {
    this.node.remove();
  }
}

// A picture that makes its image the anchor, and shows its card under the pointer or in focus. It is made once and then
// shows one image after another, so that focus stays where it is.
class Tile {
  constructor(explorer, height) {
    this.explorer = explorer;
    this.height = height;
    const show = () => {
      const box = this.node.getBoundingClientRect();
      explorer.shownTile = this.node;
      explorer.card.show(explorer.keys, this.place, box.right, box.top);
    };
    const hide = () => {
      explorer.shownTile = null;
      explorer.card.hide();
    };
    this.node = element("button", {
      class: "cl-tile",
      onclick: () => explorer.goTo(this.place),
      onmouseenter: show,
      onfocus: show,
      onmouseleave: hide,
      onblur: hide,
    });
  }

  show(place) {
    const { keys, view, fixed, pictures } = this.explorer;
    this.place = place;
    this.node.setAttribute("style", pictures.style(place, this.height));
    this.node.dataset.place = place;
    this.node.setAttribute("aria-label", `${keys.lines(place).join(", ")}: make it the anchor`);
    const same = view.truth && fixed.labels[place] === fixed.labels[view.anchor] && place !== view.anchor;
    this.node.classList.toggle("cl-same", same);
    return this.node;
  }
}

// The anchor, and for each band its heading and its pictures.
class Groups {
  constructor(explorer) {
    this.explorer = explorer;
    this.anchor = new Tile(explorer, 44);
    this.groups = new Map();
    const head = element("div", { class: "cl-head" }, "anchor");
    this.list = element("div", { class: "cl-groups" });
    this.node = element("div", { class: "cl-pictures" }, element("div", { class: "cl-group" }, head, this.anchor.node), this.list);
  }

  draw() {
    const { view } = this.explorer;
    this.anchor.show(view.anchor);
    const shown = view.groups.map((group) => this.#group(group));
    const now = [...this.list.children];
    if (shown.length !== now.length || shown.some((node, i) => node !== now[i])) this.list.replaceChildren(...shown);
  }

  #group({ band, places, total }) {
    if (!this.groups.has(band)) this.groups.set(band, this.#make(band));
    const group = this.groups.get(band);
    group.count.textContent = ` ${this.explorer.fixed.bands[band].name}: ${total.toLocaleString("en")}`;
    while (group.tiles.length < places.length) group.tiles.push(new Tile(this.explorer, 26));
    places.forEach((place, i) => {
      const node = group.tiles[i].show(place);
      if (group.row.children[i] !== node) group.row.append(node);
    });
    while (group.row.children.length > places.length) group.row.lastChild.remove();
    return group.node;
  }

  #make(band) {
    const { name, colour, glyph } = this.explorer.fixed.bands[band];
    const mark = element("span", { style: `color:${colour}`, "aria-hidden": "true" }, glyph);
    const count = element("span");
    const row = element("div", { class: "cl-tiles" });
    const head = element("div", { class: "cl-head" }, mark, count);
    const node = element("div", { class: "cl-group", role: "group", "aria-label": name, "data-band": band }, head, row);
    return { node, count, row, tiles: [] };
  }
}
