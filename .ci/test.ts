/**
 * `npm test`: everything, part by part, with the minutes each took. A part that fails does not keep the next from
 * running; the exit code and the last line tell of all.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

interface Part {
  readonly name: string;
  readonly command: readonly string[];
  /** A vitest part counts its tests; any other counts as one. */
  readonly counts?: boolean;
}

const node = process.execPath;
const vitest = (project: string): readonly string[] => [
  node,
  "node_modules/vitest/vitest.mjs",
  "run",
  "--project",
  project,
];
const sample = ["5", "13", "22", "k8s client-ca", "k8s undeclared", "k8s csr-denied", "k8s secret-held"];
const parts: readonly Part[] = [
  { name: "types", command: [node, "node_modules/typescript/bin/tsc", "-p", "."] },
  { name: "lint", command: ["npx", "biome", "check", "--error-on-warnings"] },
  { name: "core", command: vitest("core"), counts: true },
  { name: "install peers", command: [node, "lab/install.ts"] },
  { name: "long", command: vitest("long"), counts: true },
  { name: "drivers and peers", command: vitest("peers"), counts: true },
  { name: "build Kubernetes", command: [node, "lab/go-tools.ts", "etcd", "kubernetes"] },
  { name: "kubernetes", command: vitest("kubernetes"), counts: true },
  { name: "crash", command: vitest("crash"), counts: true },
  { name: "journeys", command: [node, "lab/run.ts", "--all"] },
  // The whole table takes as long as all the rest: `npm run truth`.
  { name: "truth, a sample", command: [node, "test/truth/main.ts", "--only", sample.join(","), "--no-liars"] },
];

async function run(
  part: Part,
  reports: string,
): Promise<{ code: number; passed: number; failed: number; minutes: number }> {
  const began = Date.now();
  const report = join(reports, `${part.name.replaceAll(" ", "-")}.json`);
  const extra = part.counts === true ? ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`] : [];
  const [program, ...args] = [...part.command, ...extra];
  const child = spawn(program!, args, { stdio: ["ignore", "inherit", "inherit"], env: { ...process.env, CI: "true" } });
  const code = await new Promise<number>((resolve) => child.once("close", (exit) => resolve(exit ?? 1)));
  const minutes = (Date.now() - began) / 60_000;
  if (part.counts === true && existsSync(report)) {
    const { numPassedTests: passed, numFailedTests: failed } = JSON.parse(readFileSync(report, "utf8")) as {
      numPassedTests: number;
      numFailedTests: number;
    };
    return { code, passed, failed: Math.max(failed, code === 0 ? 0 : 1), minutes };
  }
  return { code, passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, minutes };
}

const wanted = process.argv.slice(2);
const chosen = wanted.length === 0 ? parts : parts.filter((part) => wanted.includes(part.name));
if (chosen.length === 0) {
  process.stderr.write(`no such part; there are: ${parts.map((part) => part.name).join(", ")}\n`);
  process.exit(2);
}
const reports = mkdtempSync(join(tmpdir(), "gyre-test-"));
const lines: string[] = [];
let passed = 0;
let failed = 0;
for (const part of chosen) {
  process.stdout.write(`\n== ${part.name}\n`);
  const result = await run(part, reports);
  passed += result.passed;
  failed += result.failed;
  lines.push(
    `${result.code === 0 ? "ok    " : "FAILED"}  ${result.minutes.toFixed(1).padStart(5)} min  ${part.name}${part.counts === true ? `  (${result.passed} tests)` : ""}`,
  );
}
rmSync(reports, { recursive: true, force: true });
process.stdout.write(`\n${lines.join("\n")}\n\n${passed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
