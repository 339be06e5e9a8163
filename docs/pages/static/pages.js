// @ts-check
/** What pages do besides the explorers: fold what answers a question, draw charts in view, and sort tables.
 * An address with `?ask` offers no answer without a guess, and one with `?projector` shows everything larger; the
 * site's other pages are asked for the same. */

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

  // what an address asks for is kept on the way to other pages of the site

  const asked = ["ask", "projector"].filter((wish) => wishes.has(wish));
  const root = new URL("../", here).href;
  /** @param {Element | null | undefined} link */
  function carry(link) {
    if (!(link instanceof HTMLAnchorElement) || (link.getAttribute("href") ?? "#").startsWith("#")) return;
    const to = new URL(link.href);
    if (!to.href.startsWith(root) || !/(\.html|\/)$/.test(to.pathname)) return;
    const missing = asked.filter((wish) => !to.searchParams.has(wish));
    if (missing.length === 0) return;
    to.search = [to.search.slice(1), ...missing].filter(Boolean).join("&");
    link.href = to.href;
  }
  if (asked.length > 0) {
    for (const link of document.querySelectorAll("a[href]")) carry(link);
    for (const kind of ["click", "auxclick"]) {
      addEventListener(kind, ({ target }) => carry(target instanceof Element ? target.closest("a[href]") : null), true); // also what was added since
    }
    for (const form of document.querySelectorAll("form[action$='search.html']")) {
      for (const name of asked) form.append(Object.assign(document.createElement("input"), { type: "hidden", name }));
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

  /** A guess as a number: a comma groups thousands, as in 1,294, or else is a decimal one, as in `course.predict`.
   * @param {string} guess @param {string} unit that may follow it */
  function numberIn(guess, unit) {
    const text = (guess.endsWith(unit) ? guess.slice(0, guess.length - unit.length) : guess).trim();
    const plain = /^[1-9]\d{0,2}(,\d{3})+$/.test(text) ? text.replaceAll(",", "") : text.replaceAll(",", ".");
    return plain === "" ? Number.NaN : Number(plain);
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
      let guess = `${new FormData(form).get("guess") ?? ""}`.trim();
      const number = numberIn(guess, form.dataset.unit ?? "");
      if (guess === "" || (form.dataset.unit && !Number.isFinite(number))) {
        status.textContent = form.dataset.unit ? "Write a number, such as 40." : "Choose one of the answers.";
        return;
      }
      if (form.dataset.unit) guess = number.toLocaleString("en-US", { maximumSignificantDigits: 15 });
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

  const words = new Intl.Collator("en", { numeric: true });
  const NUMBER = /^([÷×±~≈<>≤≥]?)\s*([+−–-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)(?![\w.])\s*([%‰°]|[a-zµ]+(?:\/s)?)?/i;
  /** The number that a cell begins with, and what it counts: `÷ 8.40`, `11.9 ms`, `+0.3 ± 0.1`. @param {string} text */
  function measured(text) {
    const found = NUMBER.exec(text);
    if (found === null) return null;
    const factor = /[÷×]/.test(found[1]) ? found[1] : "";
    const value = Number(found[2].replace(/[−–]/, "-").replaceAll(",", ""));
    return { value, unit: `${factor}${found[3] ?? ""}` };
  }
  /** What most of them are. @param {string[]} many */
  function most(many) {
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const each of many) counts.set(each, (counts.get(each) ?? 0) + 1);
    return [...counts].reduce((best, each) => (each[1] > best[1] ? each : best), ["", 0])[0];
  }
  /** The cells of a column. @param {HTMLTableElement} table @param {number} column */
  function texts(table, column) {
    return [...table.tBodies[0].rows].map((row) => row.cells[column].textContent?.trim() ?? "");
  }
  /** Whether most cells of a column are numbers. @param {string[]} cells */
  function counts(cells) {
    const filled = cells.filter(Boolean);
    return filled.filter(measured).length > filled.length / 2;
  }
  /** Whether rows can be told apart: each has a cell in every column, its own or one that it shares with rows above.
   * @param {HTMLTableElement} table @param {number} columns */
  function regular(table, columns) {
    const cells = [...table.tBodies[0].rows].flatMap((row) => [...row.cells]);
    const area = cells.reduce((sum, cell) => sum + cell.rowSpan, 0);
    const heads = [...(table.tHead?.rows ?? [])];
    const single = [...cells, ...heads.flatMap((row) => [...row.cells])].every((cell) => cell.colSpan === 1);
    return (
      single && area === columns * table.tBodies[0].rows.length && heads.every((row) => row.cells.length === columns)
    );
  }
  /** Give each row its own copy of the cells that it shares with rows above. @param {HTMLTableElement} table */
  function part(table) {
    const rows = [...table.tBodies[0].rows];
    for (const [place, row] of rows.entries()) {
      for (const [column, cell] of [...row.cells].entries()) {
        const { rowSpan } = cell;
        cell.removeAttribute("rowspan");
        for (const below of rows.slice(place + 1, place + rowSpan)) {
          below.insertBefore(cell.cloneNode(true), below.cells[column] ?? null);
        }
      }
    }
  }
  /** Numbers in the column's unit by size, or words by the alphabet; then other units, words among numbers, and blanks.
   * @param {HTMLTableElement} table @param {number} column @param {boolean} down */
  function sort(table, column, down) {
    const cells = texts(table, column);
    const numbers = counts(cells);
    const unit = most(cells.flatMap((text) => measured(text)?.unit ?? []));
    const rows = [...table.tBodies[0].rows].map((row, place) => {
      const text = cells[place];
      const number = numbers ? measured(text) : null;
      const last = text === "" ? 3 : number === null ? (numbers ? 2 : 0) : number.unit === unit ? 0 : 1;
      return { row, text, last, value: number?.value ?? 0, unit: number?.unit ?? "" };
    });
    rows.sort((a, b) => {
      if (a.last !== b.last) return a.last - b.last;
      const order =
        numbers && a.last < 2 ? words.compare(a.unit, b.unit) || a.value - b.value : words.compare(a.text, b.text);
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows.map(({ row }) => row));
  }
  const tables = /** @type {NodeListOf<HTMLTableElement>} */ (document.querySelectorAll(".bd-article table"));
  for (const table of tables) {
    if (table.tHead === null || table.tBodies.length !== 1 || table.tBodies[0].rows.length < 4) continue;
    const heads = [...table.tHead.rows].reverse(); // the lowest names rows as well
    const columns = heads[0]?.cells.length ?? 0;
    if (!regular(table, columns)) continue;
    for (let column = 0; column < columns; column++) {
      const head = heads.map((row) => row.cells[column]).find((cell) => cell.textContent?.trim());
      if (head === undefined) continue; // nothing to press
      const button = Object.assign(document.createElement("button"), { type: "button", className: "cl-sort" });
      button.title = "Sort by this column";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        part(table);
        const before = head.getAttribute("aria-sort");
        const down = before === null ? counts(texts(table, column)) : before === "ascending";
        for (const other of table.tHead?.querySelectorAll("th") ?? []) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        sort(table, column, down);
      });
    }
  }
})();
