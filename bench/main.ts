/**
 * `npm run bench`: every figure with its reference, taken in one run. `--json` prints them as an array, `--write` puts the
 * table into docs/bench.md, names after that choose parts. Not part of CI: a figure is no test.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { install } from "../lab/install.ts";
import { decideBench } from "./decide.ts";
import type { Figure } from "./figure.ts";
import { benchHandshake } from "./handshake.ts";
import { pkiFigures } from "./pki.ts";
import { hundredReplicasBench, renewBench } from "./rotation.ts";
import { benchScan } from "./scan.ts";
import { scanKubernetesBench } from "./scan-kubernetes.ts";
import { startBench } from "./start.ts";

const parts: Readonly<Record<string, () => Promise<readonly Figure[]>>> = {
  handshake: benchHandshake,
  pki: pkiFigures,
  scan: async () => {
    const { figures, memory } = await benchScan();
    const flat = {
      name: "scan, peak memory, all files beside a tenth of them",
      unit: "MB",
      ours: memory.all,
      reference: memory.tenth,
      ratio: memory.all / memory.tenth,
    };
    return [...figures, { ...flat, ratio: Math.round(flat.ratio * 100) / 100 }];
  },
  "scan-kubernetes": scanKubernetesBench,
  decide: decideBench,
  renew: async () => [await renewBench()],
  replicas: async () => [await hundredReplicasBench()],
  start: startBench,
};

const args = process.argv.slice(2);
const json = args.includes("--json");
const wanted = args.filter((arg) => !arg.startsWith("--"));
const unknown = wanted.filter((name) => !(name in parts));
if (unknown.length > 0) {
  process.stderr.write(`no part ${unknown.join(", ")}; there are: ${Object.keys(parts).join(", ")}\n`);
  process.exit(2);
}
await install();
const figures: Figure[] = [];
for (const [name, part] of Object.entries(parts)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  for (const one of await part()) {
    figures.push(one);
    if (!json)
      process.stdout.write(
        `${one.name.padEnd(52)} ${String(one.ours).padStart(9)} ${one.unit.padEnd(15)} beside ${String(one.reference).padStart(9)}   ratio ${one.ratio}\n`,
      );
  }
}
if (json)
  process.stdout.write(
    `${JSON.stringify(
      figures.map(({ name, unit, ours, reference, ratio }) => ({ name, unit, ours, reference, ratio })),
      null,
      2,
    )}\n`,
  );
if (args.includes("--write")) write(figures);

/** Replaces the table between the marks; what stands around it is written by people. */
function write(all: readonly Figure[]): void {
  const page = new URL("../docs/bench.md", import.meta.url);
  const rows = all.map(
    (one) =>
      `| ${one.name} | ${one.ours} ${one.unit} | ${one.reference} ${one.unit}${one.beside === undefined ? "" : ` (${one.beside})`} | ${one.ratio} |`,
  );
  const head = `Node ${process.version.slice(1)}, ${cpus().length} cores (${cpus()[0]?.model ?? "unknown"}), ${new Date().toISOString().slice(0, 10)}.`;
  const table = [
    "<!-- figures -->",
    head,
    "",
    "| figure | ours | reference | ratio |",
    "|---|---|---|---|",
    ...rows,
    "<!-- end of figures -->",
  ].join("\n");
  const text = readFileSync(page, "utf8").replace(/<!-- figures -->[\s\S]*<!-- end of figures -->/, () => table);
  writeFileSync(page, text);
}
