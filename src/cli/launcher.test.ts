import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { gyre, gyreHere, launcher } from "./fixtures/gyre-process.ts";
import { program } from "./program.ts";

const empty = mkdtempSync(join(tmpdir(), "gyre-launcher-"));
const version = (
  JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string }
).version;

/** Makes this Node believe to be another one. */
const pretend = (node: string): string[] => [
  "--import",
  `data:text/javascript,Object.defineProperty(process,"versions",{value:{...process.versions,node:"${node}"}})`,
];

/** The launcher and the package file alone, without sources and dependencies. */
function alone(): string {
  const root = mkdtempSync(join(tmpdir(), "gyre-alone-"));
  mkdirSync(join(root, "bin"));
  copyFileSync(launcher, join(root, "bin/gyre.js"));
  copyFileSync(new URL("../../package.json", import.meta.url), join(root, "package.json"));
  return join(root, "bin/gyre.js");
}

test.each(["--version", "-V"])("%s is answered without loading anything", async (flag) => {
  const ended = await gyre([flag], { cwd: empty, script: alone() });
  expect(ended).toMatchObject({ code: 0, out: `gyre ${version}\n`, err: "" });
});

test("among other options the version is answered too", async () => {
  expect(await gyreHere(["-q", "--version"], empty)).toMatchObject({ code: 0, out: `gyre ${version}\n` });
});

test.each(["22.17.1", "20.20.2", "14.18.0"])(
  "on Node %s the newer one of the dependencies is started",
  async (node) => {
    const ended = await gyre(["status"], { cwd: empty, nodeArguments: pretend(node) });
    expect(ended.err).toContain("no manifest here");
    expect(ended.code).toBe(2);
  },
);

test.each(["22.17.1", "20.20.2"])("on Node %s without a newer one it says what it needs", async (node) => {
  const ended = await gyre(["status"], { cwd: empty, nodeArguments: pretend(node), script: alone() });
  expect(ended.code).toBe(2);
  expect(ended.err).toMatch(/needs Node 22\.18 or later; this is v.*nothing was done\n {2}next: /);
});

test.each(["22.18.0", "23.0.0", "24.21.0"])("Node %s runs it itself", async (node) => {
  const ended = await gyre(["status"], { cwd: empty, nodeArguments: pretend(node), script: alone() });
  // Nothing lies beside this launcher: that it looks for the sources is the proof that it did not look for a Node.
  expect(ended.err).toContain("cli/main.ts");
});

test("a compiled package is started, and what was compiled of it is kept inside it", async () => {
  const script = alone();
  const root = join(script, "../..");
  mkdirSync(join(root, "dist/cli"), { recursive: true });
  writeFileSync(join(root, "dist/cli/main.js"), `export const start = (args) => console.log("compiled", ...args);\n`);
  expect(await gyre(["status"], { cwd: empty, script })).toMatchObject({ code: 0, out: "compiled status\n", err: "" });
  expect(readdirSync(join(root, "node_modules/.cache/gyre"))).toHaveLength(1);
});

const names = program(async () => {})
  .commands.map((command) => command.name())
  .filter((name) => !name.startsWith("__"));

test.each(names)("%s --help has examples and fits 80 columns", async (name) => {
  const { code, out } = await gyreHere([name, "--help"], empty);
  expect(code).toBe(0);
  expect(out).toContain(`Usage: gyre ${name}`);
  const examples = out
    .slice(out.indexOf("Examples:"))
    .split("\n")
    .filter((line) => line.startsWith(`  $ `));
  expect(examples.length).toBeGreaterThanOrEqual(2);
  expect(
    out
      .slice(0, out.indexOf("Examples:"))
      .split("\n")
      .filter((line) => line.length > 80),
  ).toEqual([]);
});

test("the list of commands fits 80 columns, one line each", async () => {
  const { code, out } = await gyreHere(["--help"], empty);
  expect(code).toBe(0);
  for (const name of names) expect(out).toMatch(new RegExp(`^ {2}${name} .*[a-z]$`, "m"));
  expect(out).not.toContain("__names");
  expect(out.split("\n").filter((line) => line.length > 80)).toEqual([]);
});

test("no command at all is wrong use", async () => {
  const { code, out, err } = await gyreHere([], empty);
  expect({ code, out }).toEqual({ code: 2, out: "" });
  expect(err).toContain("Usage: gyre");
});

test.each([
  [["rotat", "x"], "did you mean rotate?"],
  [["rotate"], "missing required argument 'NAME'"],
  [["rotate", "a", "--nwo"], "did you mean --now?"],
  [["rotate", "a", "--wait", "soon"], "a length of time is written"],
  [["rotate", "a", "b"], "too many arguments"],
  [["waive", "a", "b"], "--reason"],
  [["waive", "a", "b", "--reason", "r", "--claim", "x"], "presented"],
  [["revert", "a"], "--reason"],
  [["completion", "tcsh"], "bash, zsh, fish"],
  [["who", "xyz"], "no SHA-256 fingerprint"],
  [["verify", "nothing.json"], "no such file"],
  [["status"], "no manifest here"],
  [["status", "-f", "nowhere.yaml"], "nowhere.yaml"],
] as const)("%j is wrong use and says so", async (args, words) => {
  const told = await gyreHere(args, empty);
  expect(told.code).toBe(2);
  expect(told.err).toContain(words);
  expect(told.out).toBe("");
  const json = await gyreHere([...args, "--json"], empty);
  expect(json.code).toBe(2);
  expect(json.err).toBe("");
  expect(JSON.parse(json.out)).toMatchObject({ exit: 2, error: { message: expect.any(String) } });
});

test("names for completions are silent where there are none", async () => {
  expect(await gyreHere(["__names"], empty)).toEqual({ code: 2, out: "", err: "" });
});
