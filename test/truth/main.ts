/**
 * The truth table: `npm run truth`. One scene per line of design.md, section 7, each with its twin, on real servers and on
 * a Kubernetes control plane; the outside witness looks before Gyre's output is read. Then builds whose probes lie must
 * be caught. Exit code 1 on any false verdict.
 *
 *   node test/truth/main.ts [--only 5,9] [--skip k8s] [--json] [--write] [--at-once 2] [--no-liars]
 */
import { parseArgs } from "node:util";
import { install } from "../../lab/install.ts";
import { endCluster } from "./kubernetes/cluster.ts";
import type { ExtraLook } from "./reality.ts";
import { faultOf, type LineReport, liarReport, tableText, writePage } from "./report.ts";
import { type Build, rotate } from "./rotate.ts";
import type { Act, Play, World } from "./scene.ts";
import { scenes } from "./scenes/all.ts";
import { judge, read } from "./verdict.ts";

export interface ActReport {
  readonly title: string;
  readonly expected: string;
  readonly really: string;
  readonly said: string;
  readonly seconds: number;
  readonly verdict: string;
  readonly why?: string;
}

async function playAct(world: World, act: Act, looks: readonly ExtraLook[], build: Build): Promise<ActReport> {
  await act.change?.();
  const ended = await (act.run ?? ((which: Build) => rotate(world, which)))(build);
  // The order is the point: the world first, then what Gyre says of it.
  const really = await world.look(looks);
  const said = read(ended);
  const { verdict, why } = judge(world, act.expect, really, said);
  const { result, grade, names = [] } = act.expect;
  return {
    title: act.title,
    expected: world.plainly(
      [result, grade ?? [], names.length > 0 ? `naming ${names.join(", ")}` : []].flat().join(" "),
    ),
    really: world.plainly(really.words),
    said: world.plainly(said.words),
    seconds: ended.seconds,
    verdict,
    ...(why === "" ? {} : { why: world.plainly(why) }),
  };
}

async function play(scene: Play, faulty: boolean, build: Build): Promise<ActReport[]> {
  const { world, acts: actsOf } = await scene.set(faulty);
  const reports: ActReport[] = [];
  let failed = true;
  try {
    const acts = actsOf();
    let looks: readonly ExtraLook[] = [];
    for (const act of acts) {
      looks = act.looks ?? looks;
      const report = await playAct(world, act, looks, build);
      reports.push(faulty ? report : { ...report, title: `twin${acts.length > 1 ? ` ${report.title}` : ""}` });
      // After a false verdict the rest of the scene would judge another world than the one that was meant.
      if (report.verdict !== "true") return reports;
    }
    failed = false;
    return reports;
  } finally {
    await world.end(failed && build === "real");
  }
}

/** A liar that says yes is found out by a fault, one that says no where there is none. */
const played: Readonly<Record<Build, readonly boolean[]>> = {
  ...{ real: [true, false], "says accepted": [true], "says refused": [false], "says what is hoped": [true] },
};

async function lineOf(scene: Play, build: Build): Promise<LineReport> {
  const began = performance.now();
  const acts: ActReport[] = [];
  try {
    for (const faulty of played[build]) acts.push(...(await play(scene, faulty, build)));
  } catch (problem) {
    const why = problem instanceof Error ? (problem.stack ?? problem.message) : String(problem);
    acts.push({ title: "broken", expected: "", really: "", said: "", seconds: 0, verdict: "broken", why });
  }
  const fault = faultOf(acts)!;
  return {
    ...{ line: scene.line, scene: scene.name, fault: scene.fault, how: scene.how },
    ...{ really: fault.really, said: fault.said },
    seconds: (performance.now() - began) / 1000,
    verdict: acts.find(({ verdict }) => verdict !== "true")?.verdict ?? "true",
    acts,
  };
}

/** So many at once, reported in the order of the table. */
async function playAll(wanted: readonly Play[], atOnce: number, build: Build, told: (line: LineReport) => void) {
  const reports: (LineReport | undefined)[] = wanted.map(() => undefined);
  let next = 0;
  let shown = 0;
  const player = async () => {
    for (let mine = next++; mine < wanted.length; mine = next++) {
      reports[mine] = await lineOf(wanted[mine]!, build);
      for (let report = reports[shown]; report !== undefined; report = reports[++shown]) told(report);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, player));
  return reports.filter((report) => report !== undefined);
}

const liars: readonly Exclude<Build, "real">[] = ["says accepted", "says refused", "says what is hoped"];

async function main(): Promise<number> {
  const { values: args } = parseArgs({
    options: {
      only: { type: "string" },
      skip: { type: "string" },
      json: { type: "boolean", default: false },
      write: { type: "boolean", default: false },
      "at-once": { type: "string", default: "2" },
      "no-liars": { type: "boolean", default: false },
    },
  });
  const listed = (text: string | undefined) => text?.split(",").map((name) => name.trim());
  const names = listed(args.only);
  const skipped = listed(args.skip) ?? [];
  /** By its name, the first word of it, or its line. */
  const isOf = (list: readonly string[], { name, line }: Play) =>
    [name, name.split(" ")[0]!, String(line)].some((one) => list.includes(one));
  const wanted = scenes.filter((one) => (names === undefined || isOf(names, one)) && !isOf(skipped, one));
  if (wanted.length === 0) {
    process.stderr.write(`no such line; there are: ${scenes.map((one) => one.name).join(", ")}\n`);
    return 2;
  }
  await install();
  const began = performance.now();
  const say = (text: string) => process.stdout.write(`${text}\n`);
  const atOnce = Number(args["at-once"]);
  const lines = await playAll(wanted, atOnce, "real", (line) =>
    say(args.json ? JSON.stringify(line) : tableText(line)),
  );
  const caught: LineReport[] = [];
  const probed = scenes.filter((scene) => scene.probesOnly === true && wanted.includes(scene));
  if (!args["no-liars"]) {
    for (const build of liars) {
      const reports = await playAll(probed, atOnce, build, () => undefined);
      const report = liarReport(build, reports, names === undefined);
      if (report !== undefined) caught.push(report);
    }
    for (const line of caught) say(args.json ? JSON.stringify(line) : tableText(line));
  }
  const all = [...lines, ...caught];
  const wrong = all.filter((line) => line.verdict !== "true");
  const minutes = (performance.now() - began) / 60_000;
  if (!args.json) say(`\n${all.length - wrong.length} true, ${wrong.length} false, in ${minutes.toFixed(1)} min`);
  if (args.write) writePage(lines, caught, minutes);
  return wrong.length === 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} finally {
  await endCluster();
}
