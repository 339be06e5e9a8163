// @ts-check
/** The engine of the explorer: everything that is computed, and nothing that is drawn. */

export { BAND, BAND_NAMES, BANDS, bandsOfCut, rankCount, ranksOfCut } from "./bands.js";
export { censusOf, countMore, recount, startCensus } from "./census.js";
export { differenceOf, KEPT_BY, misplacedPoints } from "./comparing.js";
export { drawsOf } from "./draws.js";
export { convertEdges, edgeStops, edgesOf, hasEdges, moveEdge, placeEdges, widened } from "./edges.js";
export { EngineError } from "./fields.js";
export { fromHalf, unitRows, unpackHalves } from "./float16.js";
export { lossGradients, plainShares, pushOf, pushShares, termsOf } from "./forces.js";
export { borderKeys, evenlySpaced, keysOfBand, SHOWN_BANDS } from "./groups.js";
export { binsOf, countsByBand, countsByEdges } from "./histogram.js";
export { shareOf, wilson } from "./intervals.js";
export { judge, judgeRecorded, pushCurve, summaryOf } from "./judgement.js";
export { edgesNow, rankedOtherwise, withEdge, withEdges, withNegatives } from "./moves.js";
export { NEGATIVE_RULES, rankedBy } from "./negatives.js";
export { countAtLeast, orderByScore } from "./order.js";
export { POSITIVE_RULES } from "./positives.js";
export { profileOf, stretchOf } from "./profile.js";
export { select, whyUnknown } from "./select.js";
export { rankingBy, scoreBy, similaritiesOf, snapshotOf } from "./similarities.js";
export {
  checkState,
  completeRule,
  freshRule,
  parseState,
  sideOf,
  whyUnlabelled,
  writeState,
} from "./state.js";
