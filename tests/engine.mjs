// Runs the engine's bundle, or several of them, on cases from a file; writes what each finds.
// Call: node engine.mjs CASES.json FOUND.json BUNDLE.js…
import { readFileSync, writeFileSync } from "node:fs";

const [casesFile, foundFile, ...bundles] = process.argv.slice(2);
const asked = JSON.parse(readFileSync(casesFile, "utf8"));

const bytes = (text) => new Uint8Array(Buffer.from(text, "base64")).buffer;
const text = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");

/** One array after the other. */
function joined(Kind, arrays) {
  const whole = new Kind(arrays.reduce((sum, each) => sum + each.length, 0));
  let at = 0;
  for (const each of arrays) {
    whole.set(each, at);
    at += each.length;
  }
  return text(whole);
}

function snapshots(engine) {
  return asked.snapshots.map((held) =>
    engine.snapshotOf({
      ...held,
      anchors: held.anchors.map((each) => new Uint16Array(bytes(each))),
      keys: held.keys.map((each) => new Uint16Array(bytes(each))),
      positives: held.positives && held.positives.map((each) => new Uint16Array(bytes(each))),
      own: held.own && new Int32Array(bytes(held.own)),
      thresholds: held.thresholds && held.thresholds.map((each) => new Float32Array(bytes(each))),
    }),
  );
}

const jobs = {
  judge(engine, known, { snapshot, side, form, anchors }) {
    const rows = anchors.map((place) => {
      const s = engine.similaritiesOf(known[snapshot], 0, place);
      const complete = engine.parseState(JSON.stringify({ anchor: s.anchorId, a: side, map: "PCA" })).a;
      const j = engine.judge(s, complete, form);
      const { selection } = j;
      const { byNegative, byPositive } = engine.lossGradients(engine.termsOf(s, selection), side.temperature, form);
      const mined = new Float32Array(s.own.length);
      const pull = new Float64Array(s.own.length);
      selection.positiveIndex.forEach((key, i) => {
        mined[key] = selection.positiveWeight[1 + i];
        pull[key] = byPositive[1 + i];
      });
      const bins = engine.binsOf(j.ranking, j.profile.others);
      const counts = engine.countsByBand(bins, j.ranking, j.band);
      const { negatives } = complete;
      const edges = engine.hasEdges(negatives) ? engine.edgesOf(negatives, j.ranking.ranked, s.anchorPositive) : null;
      return { j, counts, byNegative, pull: Float64Array.of(byPositive[0], ...pull), mined, edges, summary: engine.summaryOf(j) };
    });
    return {
      band: joined(Int8Array, rows.map(({ j }) => j.band)),
      weight: joined(Float32Array, rows.map(({ j }) => j.selection.negativeWeight)),
      view: rows.map(({ j }) => j.selection.positiveWeight[0]),
      mined: joined(Float32Array, rows.map(({ mined }) => mined)),
      byNegative: joined(Float64Array, rows.map(({ byNegative }) => byNegative)),
      pull: joined(Float64Array, rows.map(({ pull }) => pull)),
      push: joined(Float32Array, rows.map(({ j }) => j.push())),
      plain: joined(Float32Array, rows.map(({ j }) => j.plain)),
      order: joined(Int32Array, rows.map(({ j }) => j.ranking.order)),
      counts: joined(Int32Array, rows.map(({ counts }) => counts)),
      anchorWeight: rows.map(({ j }) => j.selection.anchorWeight),
      edges: rows.map(({ edges }) => edges && [edges.closest, edges.beyond, String(edges.closestScore), String(edges.beyondScore), edges.unit, edges.measure]),
      summary: rows.map(({ summary }) => summary),
    };
  },

  /** What becomes of a rule by a list of moves: [kind, …]. */
  edges(engine, known, { snapshot, place, rule, temperature, moves }) {
    const s = engine.similaritiesOf(known[snapshot], 0, place);
    const ranked = (each) => engine.rankingBy(s, engine.rankedBy(each), temperature).ranked;
    const edges = (each) => engine.edgesOf(each, ranked(each), s.anchorPositive);
    let now = engine.completeRule(rule, "negatives");
    return moves.map(([kind, ...more]) => {
      if (kind === "move") now = engine.moveEdge(now, more[0], more[1], edges(now));
      if (kind === "place") now = engine.placeEdges(now, more[0], more[1], s.own.length);
      if (kind === "convert") {
        const free = engine.widened(engine.completeRule(more[0], "negatives"));
        now = engine.convertEdges(free, edges(now), ranked(free));
      }
      return now;
    });
  },

  /** The side after each control: [name, …values]. */
  controls(engine, known, { snapshot, place, side, moves }) {
    const s = engine.similaritiesOf(known[snapshot], 0, place);
    let now = engine.parseState(JSON.stringify({ anchor: s.anchorId, a: side, map: "PCA" })).a;
    return moves.map(([name, ...values]) => {
      if (name === "rule") now = engine.withNegatives(s, now, engine.freshRule(values[0], "negatives"));
      if (name === "by") now = engine.rankedOtherwise(s, now, values[0]);
      const edge = name === "closest" || name === "beyond";
      if (edge) now = { ...now, negatives: engine.moveEdge(now.negatives, name, values[0], engine.edgesNow(s, now)) };
      return now.negatives;
    });
  },

  census(engine, known, { snapshot, side, moved, step }) {
    const complete = (plain) => engine.parseState(JSON.stringify({ anchor: 0, a: plain, map: "PCA" })).a;
    const counting = engine.startCensus(known[snapshot], complete(side), { budget: step > 1 ? 2 ** 24 : 500 });
    while (!engine.countMore(counting, step)) engine.censusOf(counting);
    return [counting, ...moved.map((each) => engine.recount(counting, complete(each)))].map((each) => {
      engine.countMore(each, 1e6);
      const census = engine.censusOf(each);
      const [inBands, sameInBands] = [census.inBands, census.sameInBands].map((counts) => engine.countsOf(counts).map((row) => [...row]));
      const loosening = [1, 10, 30].map((wanted) => engine.looseningOf(census.inBands, each.side, wanted));
      return { ...census, places: [...census.places], inBands, sameInBands, loosening };
    });
  },

  /** The line as it is written again, or nothing where it is refused. */
  state(engine, known, { snapshot, line }) {
    try {
      const state = engine.parseState(line);
      engine.checkState(state, [known[snapshot]]);
      return engine.writeState(state);
    } catch (error) {
      if (error instanceof engine.EngineError) return null;
      throw error;
    }
  },

  unknown(engine, known, { snapshot, side }) {
    const s = engine.similaritiesOf(known[snapshot], 0, 0);
    const complete = engine.parseState(JSON.stringify({ anchor: 0, a: side, map: "PCA" })).a;
    return engine.whyUnknown(s, complete.positives, complete.negatives);
  },

  recorded(engine, known, { snapshot, side, place, band }) {
    const s = engine.similaritiesOf(known[snapshot], 0, place);
    const complete = engine.parseState(JSON.stringify({ anchor: 0, a: side, map: "PCA" })).a;
    const j = engine.judgeRecorded(s, complete, "sep", { band: Int8Array.from(band) });
    return { push: [...j.push()], summary: engine.summaryOf(j) };
  },

  shuffled: (engine, known, { snapshot }) => [...engine.shuffledPlaces(known[snapshot])],

  fields(engine) {
    const defaults = (rules) =>
      Object.fromEntries(
        Object.entries(rules).map(([name, { fields }]) => [
          name,
          Object.fromEntries(Object.entries(fields).map(([field, { fallback }]) => [field, fallback])),
        ]),
      );
    return { negatives: defaults(engine.NEGATIVE_RULES), positives: defaults(engine.POSITIVE_RULES) };
  },

  draws(engine, _, { seed, stream, anchors, columns }) {
    return anchors.map((anchor) => columns.map(engine.drawsOf(anchor, stream, seed)));
  },

  halves(engine) {
    return text(engine.unpackHalves(Uint16Array.from({ length: 65536 }, (_, i) => i)));
  },

  difference: (engine, _, { a, b }) => [...engine.differenceOf(Int8Array.from(a), Int8Array.from(b))],
  misplaced: (engine, _, { kept }) => engine.misplacedPoints(kept),
  spaced: (engine, _, { places, count }) => engine.evenlySpaced(places, count),
  borders: (engine, _, { order, band }) => engine.borderKeys(Int32Array.from(order), Int8Array.from(band)),
};

const found = bundles.map((file) => {
  const engine = new Function(`${readFileSync(file, "utf8")};return cltoolsEngine;`)();
  const known = snapshots(engine);
  return asked.cases.map((each) => {
    try {
      return jobs[each.job](engine, known, each);
    } catch (error) {
      return { error: `${error.stack ?? error}` };
    }
  });
});
writeFileSync(foundFile, JSON.stringify(found));
