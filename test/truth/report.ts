/** The table for people, and docs/truth.md. */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { ActReport } from "./main.ts";
import type { Build } from "./rotate.ts";

export interface LineReport {
  readonly line: number;
  readonly scene: string;
  readonly fault: string;
  readonly how: string;
  /** What the witness saw at the end of the faulty run. */
  readonly really: string;
  readonly said: string;
  readonly seconds: number;
  readonly verdict: string;
  readonly acts: readonly ActReport[];
}

export function tableText(line: LineReport): string {
  const acts = line.acts.map((act) => {
    const verdict = act.verdict === "true" ? "true " : act.verdict.toUpperCase();
    const why = act.why === undefined ? "" : `\n             ${act.why}`;
    return `    ${verdict.padEnd(6)} ${act.title.padEnd(20)} ${act.seconds.toFixed(1).padStart(5)} s  expected ${act.expected}\n             really ${act.really}\n             said   ${act.said}${why}`;
  });
  if (line.scene === "liar") acts.unshift(`    ${line.really}\n    ${line.said}`);
  return `${line.scene.padEnd(12)} ${line.verdict.padEnd(11)} ${line.seconds.toFixed(1).padStart(5)} s  ${line.fault}\n${acts.join("\n")}`;
}

/** A build whose probes lie is caught when the table gives it false verdicts; one that is not caught fails the table. */
export function liarReport(build: Build, reports: readonly LineReport[], whole: boolean): LineReport | undefined {
  if (reports.length === 0) return undefined;
  const count = (which: string) => reports.filter(({ verdict }) => verdict === which).length;
  const [passed, done, broken] = [
    count("true"),
    count("false-done"),
    reports.filter(({ verdict }) => verdict === "broken"),
  ];
  // One that always refuses never sees the new one accepted: it can say false-alarm only. One that always accepts is
  // found out at servers that can refuse, and says done where nobody can. One that says what is hoped is always believed.
  const enough =
    passed === 0 &&
    (build === "says refused" || (build === "says accepted" ? done > 0 || !whole : done === reports.length));
  const words = reports.map(({ scene, verdict }) => `${scene}: ${verdict}`).join(", ");
  return {
    line: 0,
    scene: "liar",
    fault: `a build whose probe ${build}`,
    how: "the probes of src/drivers/tls are replaced when they are loaded (test/truth/liar.mjs)",
    really: `${done} false-done, ${reports.length - done - passed} false otherwise, ${passed} true, of ${reports.length} lines that only a probe can see`,
    said: words,
    seconds: reports.reduce((sum, { seconds }) => sum + seconds, 0),
    verdict: enough && broken.length === 0 ? "true" : "not caught",
    acts: broken.flatMap(({ acts }) => acts),
  };
}

/** The run that the line is about: a rotation may have been brought to a certain point before. */
export const faultOf = (acts: readonly ActReport[]): ActReport | undefined =>
  acts.find(({ title }) => title === "fault") ?? acts[0];

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");

export function writePage(lines: readonly LineReport[], liars: readonly LineReport[], minutes: number): void {
  const wrong = [...lines, ...liars].filter(({ verdict }) => verdict !== "true").length;
  const runs = lines.reduce((sum, { acts }) => sum + acts.length, 0);
  const rows = lines.map((line) => {
    const fault = faultOf(line.acts);
    const rest = line.acts
      .filter((act) => act !== fault)
      .map((act) => `${act.title}: ${act.said} (${act.seconds.toFixed(1)} s)`)
      .join("<br>");
    return `| ${line.scene} | **${cell(line.fault)}**<br>${cell(line.how)} | ${cell(fault?.expected ?? "")} | ${cell(line.really)} | ${cell(line.said)} (${fault?.seconds.toFixed(1)} s) | ${cell(rest)} | ${line.verdict} |`;
  });
  const liarRows = liars.map(
    (line) =>
      `| ${line.fault} | ${cell(line.really)} | ${cell(line.said)} | ${line.verdict === "true" ? "caught" : "**not caught**"} |`,
  );
  const text = `# The truth table
\`npm run truth\` makes each fault on real servers, runs the real command line, and judges its word. Written by
\`node test/truth/main.ts --write\`: ${lines.length} scenes, ${runs} rotations, ${wrong} false verdicts, ${minutes.toFixed(1)} minutes on this machine.

**How a line counts.** The end that is expected, its grade and whom it must name are stated before anything runs. What really is
comes from openssl, curl and kubectl, which look before Gyre's output is read. A verdict is \`true\`, \`false-done\` (it said more than was
so), \`false-alarm\` (it stopped though nothing was left to stop it) or \`wrong-name\` (it accused somebody else, or not the culprit).
Then the fault is repaired and the same rotation goes on to its end, and each line has a twin without the fault, which must close
with its grade. One false verdict in any of these makes the line false and the exit code 1.

Lines are those of the list of faults in the design; 1 is here in samples, and enumerated at every boundary by the crash tests.
Those named \`k8s …\` are played on one control plane (etcd, three kube-apiservers behind HAProxy, kube-controller-manager), one
after the other: its programs are built the first time, which takes some twenty minutes.

| line | fault | expected | really | Gyre said | before and after | verdict |
|---|---|---|---|---|---|---|
${rows.join("\n")}

## A probe that lies
The same scenes, those whose fault only a probe can see, with builds whose probes lie. The table must catch each of them.

| build | verdicts | by line | |
|---|---|---|---|
${liarRows.join("\n")}

## What is not here
- Line 6 without \`replicas:\` in the manifest. Whoever lists only a balancer and no number tells Gyre of one server, and one is
  what it proves.
- Line 20, the CA that ends: everything ends with it, so there is nothing to repair, and the scene stops at the hold.
- Lines that need a kubelet: a pod's volume is written by a program of the lab that does what kubelet does.
`;
  writeFileSync(fileURLToPath(new URL("../../docs/truth.md", import.meta.url)), text);
}
