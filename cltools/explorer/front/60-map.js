// The maps are plotly's. Their own events are heard here, within this explorer only, and again after a redraw.
class Maps {
  constructor(explorer, root) {
    this.explorer = explorer;
    this.root = root;
    this.heard = new Map();
    this.observer = new MutationObserver(() => {
      this.frame ??= requestAnimationFrame(() => {
        this.frame = null;
        this.attach();
      });
    });
    this.observer.observe(root, { childList: true, subtree: true });
    this.attach();
  }

  attach() {
    for (const [i, plot] of [...this.root.querySelectorAll(".js-plotly-plot")].entries()) {
      if (this.heard.has(plot) || !plot.on) continue;
      const placeOf = (event) => event.points?.find((point) => Number.isInteger(point.customdata))?.customdata;
      const heard = {
        plotly_hover: (event) => {
          const place = placeOf(event);
          const { clientX, clientY } = event.event;
          const side = this.explorer.sideOfMap(i);
          if (place !== undefined) this.explorer.card.show(this.explorer.keysOf(side), place, clientX, clientY, side);
        },
        plotly_unhover: () => this.explorer.card.hide(),
        plotly_click: (event) => {
          const place = placeOf(event);
          if (place !== undefined) this.explorer.goTo(place);
        },
      };
      for (const [name, hear] of Object.entries(heard)) plot.on(name, hear);
      this.heard.set(plot, heard);
    }
    for (const plot of this.heard.keys()) if (!plot.isConnected) this.heard.delete(plot);
  }

  remove() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
    for (const [plot, heard] of this.heard) for (const [name, hear] of Object.entries(heard)) plot.removeListener?.(name, hear);
  }
}
