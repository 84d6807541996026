import { globSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import ts from "typescript";
import { expect, test } from "vitest";

const root = new URL("../../", import.meta.url).pathname;

/**
 * What each room may import besides itself: rooms, and packages where a room is kept from having others. Manifests
 * use the engine's words for a renewal policy, so that there is one definition; the engine knows no manifest.
 */
const allowed: Record<string, { rooms: string[]; packages?: string[] }> = {
  "errors.ts": { rooms: [], packages: [] },
  disk: { rooms: ["errors.ts"], packages: ["node:"] },
  pki: { rooms: ["errors.ts"], packages: ["node:"] },
  engine: { rooms: ["pki"], packages: ["node:crypto", "temporal-polyfill"] },
  journal: { rooms: ["pki", "disk", "errors.ts"], packages: ["node:"] },
  receipt: { rooms: ["pki", "disk", "errors.ts"], packages: ["node:"] },
  drivers: { rooms: ["pki", "disk", "errors.ts"] },
  manifest: { rooms: ["drivers", "engine", "pki", "errors.ts"] },
  runtime: { rooms: ["engine", "drivers", "journal", "receipt", "manifest", "pki", "disk", "errors.ts"] },
  scan: { rooms: ["pki", "errors.ts", "drivers/tls", "drivers/kubernetes"] },
  cli: { rooms: ["engine", "drivers", "journal", "receipt", "manifest", "pki", "errors.ts", "runtime", "scan"] },
};

/** Imports of a source text as the compiler finds them: static, for effect, dynamic, and types in place. */
function importsOf(text: string): string[] {
  return ts.preProcessFile(text, true, true).importedFiles.map((file) => file.fileName);
}

/** Sources without their tests, which may reach anywhere, as `engine/due.ts`. */
const files = globSync("**/*.ts", { cwd: `${root}src` }).filter((file) => !/\.(test|peer)\.ts$/.test(file));

function trespasses(file: string, text: string): string[] {
  const room = file.split("/")[0]!;
  const rule = allowed[room];
  if (rule === undefined) return [`${file}: the room ${room} is not in the table`];
  return importsOf(text)
    .filter((name) => {
      if (!name.startsWith("."))
        return (
          rule.packages !== undefined &&
          !rule.packages.some((one) => name === one || (one.endsWith(":") && name.startsWith(one)))
        );
      const target = posix.join(posix.dirname(file), name);
      return ![room, ...rule.rooms].some((one) => target === one || target.startsWith(`${one}/`));
    })
    .map((name) => `${file} imports ${name}`);
}

test("imports point down", () => {
  const texts = files.map((file) => [file, readFileSync(`${root}src/${file}`, "utf8")] as const);
  // A check over nothing passes nothing.
  expect(files.length).toBeGreaterThan(100);
  expect(texts.flatMap(([, text]) => importsOf(text)).length).toBeGreaterThan(400);
  expect(texts.flatMap(([file, text]) => trespasses(file, text))).toEqual([]);
});

test("each way across is seen", () => {
  const wrong: [string, string][] = [
    ["engine/a.ts", 'import { x } from "../drivers/roles.ts";'],
    ["engine/a.ts", 'import type { x } from "../errors.ts";'],
    ["engine/a.ts", 'import { readFile } from "node:fs/promises";'],
    ["engine/strategies/a.ts", 'export { x } from "../../runtime/api.ts";'],
    ["pki/a.ts", 'import "../engine/model.ts";'],
    ["pki/a.ts", 'import { z } from "zod";'],
    ["disk/a.ts", 'import { x } from "../pki/secret.ts";'],
    ["journal/a.ts", "type X = import('../engine/events.ts').Event;"],
    ["receipt/a.ts", 'const x = await import("../journal/jsonl.ts");'],
    ["drivers/tls/a.ts", 'import {\n  x,\n} from "../../engine/model.ts";'],
    ["scan/a.ts", 'import { x } from "../drivers/files/target.ts";'],
    ["runtime/a.ts", 'import { x } from "../cli/exit.ts";'],
    ["server/a.ts", ""],
  ];
  for (const [file, text] of wrong) expect(trespasses(file, text), `${file}: ${text}`).toHaveLength(1);
  expect(
    trespasses("engine/a.ts", 'import { x } from "./b.ts"; import { Temporal } from "temporal-polyfill";'),
  ).toEqual([]);
});

test("the engine has no clock and no randomness of its own", () => {
  const engine = files.filter((file) => file.startsWith("engine/"));
  expect(engine.length).toBeGreaterThan(10);
  const own = /Date\.now|new Date\(\)|Math\.random|performance\.|Temporal\.Now|random(Bytes|UUID|Int)|process\./;
  expect(own.test("const at = Date.now();")).toBe(true);
  expect(engine.filter((file) => own.test(readFileSync(`${root}src/${file}`, "utf8")))).toEqual([]);
});
