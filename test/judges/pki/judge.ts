import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The judges of src/pki outside this process: openssl, a Go program and keytool. Used by tests and benches only. */

const here = import.meta.dirname;

/** What a command said, with its exit code; never throws. */
export interface Verdict {
  readonly ok: boolean;
  readonly text: string;
}

/** A directory that lives as long as `use` runs. Files are written there by name. */
export function withFiles<T>(
  files: Readonly<Record<string, string | Uint8Array>>,
  use: (path: (name: string) => string) => T,
): T {
  const dir = mkdtempSync(join(tmpdir(), "gyre-judge-"));
  try {
    for (const [name, content] of Object.entries(files)) writeFileSync(join(dir, name), content);
    return use((name) => join(dir, name));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

export function run(command: string, args: readonly string[], input?: string | Uint8Array): Verdict {
  const options = { input: input ?? "", encoding: "utf8" as const, maxBuffer: 64 << 20 };
  const { status, stdout, stderr, error } = spawnSync(command, args, options);
  if (error !== undefined) throw error; // the judge is missing: that is no verdict
  return { ok: status === 0, text: `${stdout}${stderr}` };
}

export const openssl = (args: readonly string[], input?: string | Uint8Array): Verdict => run("openssl", args, input);
export const keytool = (args: readonly string[]): Verdict => run("keytool", ["-J-Duser.language=en", ...args]);

/** Asks the Go judge all questions at once, since each start costs a link. */
export function go(questions: readonly Readonly<Record<string, unknown>>[]): Record<string, unknown>[] {
  const options = { cwd: here, input: JSON.stringify(questions), encoding: "utf8" as const, maxBuffer: 64 << 20 };
  return JSON.parse(execFileSync("go", ["run", "."], options));
}

export interface GoFigures {
  readonly issue: number;
  readonly parse: number;
  readonly scan: number;
}

/** A function that takes Go's own figures (see main.go); built once, so that no round pays for the linker. */
export function buildGoBench(into: string): (seconds: number, dir: string) => GoFigures {
  const binary = join(into, "pki-judge");
  execFileSync("go", ["build", "-o", binary, "."], { cwd: here });
  return (seconds, dir) => JSON.parse(execFileSync(binary, ["bench", String(seconds), dir], { encoding: "utf8" }));
}
