// @ts-check
/** What pages do besides the explorers: fold what answers a question, draw charts in view, and sort tables.
 * An address with `?ask` offers no answer without a guess, and one with `?projector` shows everything larger. */

(() => {
  const wishes = new URLSearchParams(location.search);
  const asksAlone = wishes.has("ask");
  if (wishes.has("projector")) document.documentElement.style.zoom = "1.4";
  const here = document.currentScript instanceof HTMLScriptElement ? document.currentScript.src : location.href;

  /** The id that an address names, perhaps before a state. @param {string} hash */
  function named(hash) {
    try {
      return decodeURIComponent(hash.slice(1).split("=")[0]);
    } catch {
      return ""; // an address that is no text names nothing
    }
  }

  // questions

  /** The blocks of a page, in order: what stands directly in a section. */
  function blocks() {
    const article = document.querySelector(".bd-article") ?? document.body;
    const places = [article, ...article.querySelectorAll("section")];
    return places
      .flatMap((place) => [...place.children].filter((each) => each.localName !== "section"))
      .sort((a, b) => (a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1));
  }

  /** The questions that hide a block. @type {Map<Element, Set<string>>} */
  const hiding = new Map();

  /** Show a question's blocks that no other question hides. @param {string} question */
  function unfold(question) {
    for (const [block, questions] of hiding) {
      questions.delete(question);
      if (questions.size === 0 && block instanceof HTMLElement) block.hidden = false;
    }
    dispatchEvent(new Event("resize")); // charts that were hidden take their width
  }

  /** A guess of this visit. @param {string} question */
  function remembered(question) {
    try {
      return sessionStorage.getItem(`cltools ${question}`);
    } catch {
      return null;
    }
  }

  /** @param {string} question @param {string} guess */
  function remember(question, guess) {
    try {
      sessionStorage.setItem(`cltools ${question}`, guess);
    } catch {
      // a guess that cannot be kept changes nothing else
    }
  }

  /** @param {HTMLFormElement} form @param {Element} reveal */
  function ask(form, reveal) {
    const question = form.dataset.question ?? "";
    const status = /** @type {HTMLElement} */ (form.querySelector("[role=status]"));
    const opening = reveal.querySelector(".cl-opening");
    /** @param {string | null} guess */
    function answered(guess) {
      const unit = form.dataset.unit && guess !== null ? ` ${form.dataset.unit}` : "";
      if (opening) opening.textContent = guess === null ? "It was" : `You said ${guess}${unit}; it was`;
      status.textContent =
        guess === null ? "Shown below." : `Your guess: ${guess}${unit}. What was measured follows below.`;
      unfold(question);
    }
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const guess = `${new FormData(form).get("guess") ?? ""}`.trim();
      if (guess === "" || (form.dataset.unit && Number.isNaN(Number(guess.replace(",", "."))))) {
        status.textContent = form.dataset.unit ? "Write a number, such as 40." : "Choose one of the answers.";
        return;
      }
      remember(question, guess);
      answered(guess);
    });
    const show = /** @type {HTMLButtonElement} */ (form.querySelector("button[type=button]"));
    show.hidden = asksAlone;
    show.addEventListener("click", () => answered(null));
    const before = asksAlone ? null : remembered(question);
    if (before !== null) answered(before);
  }

  const forms = /** @type {NodeListOf<HTMLFormElement>} */ (document.querySelectorAll("form.cl-ask[data-question]"));
  if (forms.length > 0) {
    const every = blocks();
    for (const form of forms) {
      const question = form.dataset.question ?? "";
      const reveal = document.querySelector(`.cl-reveal[data-question="${CSS.escape(question)}"]`);
      if (reveal === null) continue;
      const first = every.findIndex((block) => block.contains(form));
      const last = every.findIndex((block) => block.contains(reveal));
      for (const block of every.slice(first + 1, last + 1)) {
        if (!hiding.has(block)) hiding.set(block, new Set());
        hiding.get(block)?.add(question);
      }
    }
    for (const block of hiding.keys()) if (block instanceof HTMLElement) block.hidden = true;
    for (const form of forms) {
      const reveal = document.querySelector(`.cl-reveal[data-question="${CSS.escape(form.dataset.question ?? "")}"]`);
      form.hidden = reveal === null;
      if (reveal) ask(form, reveal);
    }
    /** Show what an address leads to. */
    const lead = () => {
      const target = document.getElementById(named(location.hash));
      const head = target?.querySelector(":scope > :is(h1, h2, h3, h4)") ?? target;
      const folded = head && [...hiding].find(([block]) => block.contains(head));
      if (!folded) return;
      for (const question of [...folded[1]]) unfold(question);
      head.scrollIntoView();
    };
    addEventListener("hashchange", lead);
    lead();
    addEventListener("beforeprint", () => {
      for (const form of forms) unfold(form.dataset.question ?? "");
    });
  }

  // charts

  /** @type {Promise<any> | null} */
  let library = null;
  function plotly() {
    library ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL("plotly-cartesian.min.js", here).href;
      script.onload = () => resolve(/** @type {any} */ (globalThis).Plotly);
      script.onerror = () => reject(new Error("The chart could not be drawn."));
      document.head.append(script);
    });
    return library;
  }
  /** Let a legend's items, which plotly gives to pointers only, be reached, switched and announced by keyboard too.
   * @param {any} chart a drawn one @param {any} Plotly */
  function openLegend(chart, Plotly) {
    const items = () => [...chart.querySelectorAll(".legend .traces")];
    const tell = () => {
      for (const legend of chart.querySelectorAll(".legend")) {
        setAll(legend, { role: "group", "aria-label": "Curves shown" });
      }
      for (const item of items()) {
        const name = item.querySelector(".legendtext")?.textContent ?? "";
        const pressed = item.__data__[0].trace.visible === true;
        setAll(item, { tabindex: "0", role: "button", "aria-label": name, "aria-pressed": `${pressed}` });
      }
    };
    chart.on("plotly_afterplot", tell); // which draws legends anew
    chart.addEventListener("keydown", async (/** @type {KeyboardEvent} */ event) => {
      const place = items().indexOf(event.target);
      if (place < 0 || !["Enter", " "].includes(event.key)) return;
      event.preventDefault();
      const { trace } = items()[place].__data__[0];
      const group = chart._fullData.filter((/** @type {any} */ each) =>
        trace.legendgroup ? each.legendgroup === trace.legendgroup && each.visible !== false : each === trace,
      );
      const visible = trace.visible === true ? "legendonly" : true;
      await Plotly.restyle(
        chart,
        { visible },
        group.map((/** @type {any} */ each) => each.index),
      );
      items()[place].focus();
    });
    tell();
  }
  /** @param {Element} node @param {Record<string, string>} attributes */
  function setAll(node, attributes) {
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  }
  const near = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting || !(target instanceof HTMLElement)) continue;
        near.unobserve(target);
        const { data, layout, config } = JSON.parse(target.dataset.figure ?? "");
        const look = { ...config, displayModeBar: false, responsive: true };
        plotly().then(
          async (Plotly) => {
            target.replaceChildren();
            openLegend(await Plotly.newPlot(target, data, layout, look), Plotly);
          },
          (error) => {
            if (!target.querySelector("img")) target.append(error.message); // else the still image stays
          },
        );
      }
    },
    { rootMargin: "400px" },
  );
  for (const chart of document.querySelectorAll(".cl-plot[data-figure]")) near.observe(chart);
  addEventListener("beforeprint", () => {
    const stills = /** @type {NodeListOf<HTMLImageElement>} */ (document.querySelectorAll(".cl-plot img"));
    for (const still of stills) still.loading = "eager";
    // paper is light
    const root = document.documentElement;
    const { theme = "" } = root.dataset;
    root.dataset.theme = "light";
    addEventListener("afterprint", () => Object.assign(root.dataset, { theme }), { once: true });
  });

  // what scrolls sideways can be reached and scrolled by keyboard, and has a name if it is a table
  const sideways = ".bd-article pre, .formula, .pst-scrollable-table-container, .cell_output .output";
  const reach = () => {
    for (const wide of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(sideways))) {
      const scrolls = wide.scrollWidth > wide.clientWidth && getComputedStyle(wide).overflowX !== "visible";
      if (scrolls) wide.tabIndex = 0;
      else wide.removeAttribute("tabindex");
      if (!wide.querySelector(":scope > table, :scope > div > table")) continue;
      const heading = wide.closest("section")?.querySelector("h1, h2, h3, h4")?.textContent?.replace(/#$/, "");
      for (const [name, value] of [
        ["role", "group"],
        ["aria-label", `Table: ${heading ?? document.title}`],
      ]) {
        if (scrolls) wide.setAttribute(name, value);
        else wide.removeAttribute(name);
      }
    }
  };
  addEventListener("resize", reach);
  reach();

  // tables

  /** @param {string} text of a cell */
  function keyOf(text) {
    const number = Number.parseFloat(text.replace(/[−–]/g, "-").replace(/,(?=\d{3})/g, ""));
    return Number.isNaN(number) ? text.toLowerCase() : number;
  }
  /** @param {HTMLTableElement} table @param {number} column @param {boolean} down */
  function sort(table, column, down) {
    const rows = [...table.tBodies[0].rows];
    /** @param {HTMLTableRowElement} row */
    const key = (row) => keyOf(row.cells[column]?.textContent ?? "");
    rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return x === y ? 0 : x === "" ? 1 : -1; // blanks last
      const order = typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === "number" ? -1 : 1;
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  }
  const tables = /** @type {NodeListOf<HTMLTableElement>} */ (document.querySelectorAll(".bd-article table"));
  for (const table of tables) {
    if (table.tHead === null || table.tBodies.length !== 1 || table.tBodies[0].rows.length < 4) continue;
    for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
      if (!head.textContent?.trim()) continue; // nothing to press
      const button = document.createElement("button");
      button.className = "cl-sort";
      button.title = "Sort by this column";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        for (const other of table.tHead?.rows[0].cells ?? []) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        sort(table, column, down);
      });
    }
  }
})();
