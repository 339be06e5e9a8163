// What `checks.mjs` needs of the page's modules.
export { snapshotOf } from "../../cltools/explorer/front/engine/similarities.js";
export { parseState } from "../../cltools/explorer/front/engine/state.js";
export { told } from "../../docs/pages/checks.js";
export { MEASURES, measured } from "../../docs/pages/measures.js";
