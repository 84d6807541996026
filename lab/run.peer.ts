import { spawnSync } from "node:child_process";
import { cpSync, existsSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { useWorkspace } from "./testing.ts";

const workspace = useWorkspace("run");

/** The lab as it is, with journeys of our own. */
function labWith(journeys: Record<string, string>): string {
  const lab = workspace.folder("lab");
  cpSync(import.meta.dirname, lab, { recursive: true });
  rmSync(join(lab, "journeys"), { recursive: true, force: true });
  const folder = workspace.folder("lab", "journeys");
  for (const [name, body] of Object.entries(journeys)) {
    writeFileSync(
      join(folder, `${name}.ts`),
      `export const journey = { summary: "about ${name}", async run(context) { ${body} } };\n`,
    );
  }
  if (!existsSync(workspace.path("node_modules")))
    symlinkSync(join(import.meta.dirname, "..", "node_modules"), workspace.path("node_modules"));
  writeFileSync(workspace.path("package.json"), '{ "type": "module" }\n');
  return join(lab, "run.ts");
}
const run = (program: string, ...args: string[]) =>
  spawnSync(process.execPath, [program, ...args], {
    encoding: "utf8",
    env: { ...process.env, TMPDIR: workspace.folder("tmp") },
  });

const runner = labWith({
  good: `await context.step("one step", () => 1); context.expect("truth", true);`,
  bad: `await context.step("first", () => {}); await context.step("second", () => { throw new Error("it broke"); });`,
  lie: `context.expect("water to burn", false);`,
});

describe("the runner", () => {
  it("lists journeys, and knows no others", () => {
    expect(run(runner).stdout).toMatch(/^bad +about bad\ngood +about good\n/);
    const stranger = run(runner, "nowhere");
    expect(stranger.status).toBe(2);
    expect(stranger.stderr).toContain("nowhere; there is: bad, good, lie");
  });

  it("passes one that ends well and removes its workspace", () => {
    const good = run(runner, "good");
    expect(good.stdout).toMatch(/ {2}ok {4}one step \(\d+\.\d s\)[\s\S]*good: passed/);
    expect(good.stderr).not.toContain("kept:");
    expect(good.status).toBe(0);
  });

  it.each([
    ["bad", /ok {4}first[\s\S]*FAIL {2}second[\s\S]*it broke[\s\S]*bad: FAILED/],
    ["lie", /expected: water to burn[\s\S]*lie: FAILED/],
  ])("fails %s and keeps its workspace", (name, words) => {
    const bad = run(runner, name);
    expect(bad.stdout).toMatch(words);
    expect(bad.status).toBe(1);
    const kept = /kept: (.*)/.exec(bad.stderr)?.[1];
    expect(existsSync(kept!)).toBe(true);
  });

  it("goes on to the next journey after one that failed", () => {
    const both = run(runner, "bad", "good");
    expect(both.stdout).toContain("good: passed");
    expect(both.status).toBe(1);
  });
});
