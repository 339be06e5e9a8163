// @ts-check
/**
 * The engine of the explorer, which computes everything and draws nothing.
 *
 * `snapshotOf(held)` unpacks embeddings; `similaritiesOf(snapshot, epoch, place)` is one anchor, kept while it is shown;
 * `judge(s, side, form)` is asked again after every move and computes only what changed; `summaryOf`, `countsByBand`,
 * `keysOfBand` and `borderKeys` say what is drawn. In a worker `startCensus`, `countMore` until it is done, `censusOf`
 * between, and `recount` when an edge moves. `moveEdge`, `withNegatives` and `rankedOtherwise` move controls;
 * `parseState` and `writeState` are the JSON that Python reads too. `whyUnknown` says what must be asked of Python.
 */

export { BAND, BANDS, bandsOfCut, rankCount, ranksOfCut } from "./bands.js";
export { censusOf, countMore, recount, shuffledPlaces, startCensus } from "./census.js";
export { differenceOf, KEPT_BY, misplacedPoints } from "./comparing.js";
export { drawsOf } from "./draws.js";
export { convertEdges, edgesOf, hasEdges, moveEdge, placeEdges, widened } from "./edges.js";
export { EngineError } from "./fields.js";
export { fromHalf, unitRows, unpackHalves } from "./float16.js";
export { lossGradients, plainShares, pushOf, pushShares, termsOf } from "./forces.js";
export { borderKeys, evenlySpaced, keysOfBand } from "./groups.js";
export { binsOf, countsByBand } from "./histogram.js";
export { shareOf, wilson } from "./intervals.js";
export { judge, judgeRecorded, summaryOf } from "./judgement.js";
export { edgesNow, rankedOtherwise, withNegatives } from "./moves.js";
export { NEGATIVE_RULES, rankedBy } from "./negatives.js";
export { countAtLeast, orderByScore } from "./order.js";
export { POSITIVE_RULES } from "./positives.js";
export { profileOf } from "./profile.js";
export { countsOf, looseningOf, settingsOf } from "./report.js";
export { select, whyUnknown } from "./select.js";
export { rankingBy, scoreBy, similaritiesOf, snapshotOf } from "./similarities.js";
export {
  checkState,
  completeRule,
  freshRule,
  parseState,
  sideOf,
  writeState,
} from "./state.js";
