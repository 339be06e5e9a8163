// @ts-check
/** The state of an explorer, its history, and listeners to its changes. */

/** @typedef {import("../engine/state.js").State} State */

/** Keyboard steps within this many milliseconds form one step of the history. */
const ONE_STEP = 400;
const STEPS_KEPT = 200;

/**
 * @typedef {object} Store
 * @property {() => State} state
 * @property {(next: State, step: string) => void} set a change that can be undone; changes of one named step that
 *   follow each other quickly are undone together
 * @property {(next: State) => void} preview a change on the way, as while an edge is dragged: `set` ends it
 * @property {(change: (state: State) => State) => void} rewrite change the state and all of its history, which is no step
 * @property {() => void} undo of a preview that has not ended: back to what was before it
 * @property {() => void} redo
 * @property {() => boolean} canUndo
 * @property {() => boolean} canRedo
 */

/**
 * @param {State} first
 * @param {(now: State, settled: boolean) => void} tell told after every change; `settled` is false for previews
 * @returns {Store}
 */
export function storeOf(first, tell) {
  let now = first;
  /** @type {State | null} */
  let beforePreview = null;
  /** @type {State[]} */
  const past = [];
  /** @type {State[]} */
  const future = [];
  let [lastStep, lastTime] = ["", 0];

  /** @type {(next: State, settled: boolean) => void} */
  const become = (next, settled) => {
    now = next;
    tell(now, settled);
  };
  return {
    state: () => now,
    set(next, step) {
      const origin = beforePreview ?? now;
      beforePreview = null;
      const time = performance.now();
      const goesOn = step !== "" && step === lastStep && time - lastTime < ONE_STEP;
      [lastStep, lastTime] = [step, time];
      if (JSON.stringify(origin) !== JSON.stringify(next) && !goesOn) {
        past.push(origin);
        if (past.length > STEPS_KEPT) past.shift();
        future.length = 0;
      }
      become(next, true);
    },
    preview(next) {
      beforePreview ??= now;
      become(next, false);
    },
    rewrite(change) {
      beforePreview &&= change(beforePreview);
      for (const states of [past, future]) states.splice(0, states.length, ...states.map(change));
      become(change(now), false);
    },
    undo() {
      const earlier = beforePreview ?? past.pop();
      if (earlier === undefined) return;
      if (beforePreview === null) future.push(now);
      beforePreview = null;
      become(earlier, true);
    },
    redo() {
      const later = beforePreview ? undefined : future.pop();
      if (later === undefined) return;
      past.push(now);
      become(later, true);
    },
    canUndo: () => past.length > 0,
    canRedo: () => future.length > 0,
  };
}
