// Runs the bundle of the page's checks on cases from a file; writes what each measures and says.
// Call: node checks.mjs CASES.json FOUND.json BUNDLE.js
import { readFileSync, writeFileSync } from "node:fs";

const [casesFile, foundFile, bundle] = process.argv.slice(2);
const asked = JSON.parse(readFileSync(casesFile, "utf8"));
const { snapshotOf, parseState, measured, MEASURES, told } = new Function(`${readFileSync(bundle, "utf8")} return made;`)();

const halves = (text) => new Uint16Array(new Uint8Array(Buffer.from(text, "base64")).buffer);
const snapshots = asked.snapshots.map((held) =>
  snapshotOf({ ...held, anchors: held.anchors.map(halves), keys: held.keys.map(halves) }),
);
const found = [];
for (const { snapshot, state, measures, check, answer } of asked.cases) {
  const shown = state && measured([snapshots[snapshot]], parseState(JSON.stringify(state)));
  const values = [];
  for (const [name, ...numbers] of measures) values.push(await MEASURES[name](shown, ...numbers));
  found.push({ values, told: check && (await told(check, answer, shown)) });
}
writeFileSync(foundFile, JSON.stringify(found));
