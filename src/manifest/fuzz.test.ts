import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { random as generator, INPUTS } from "../../test/fuzz/fuzz.ts";
import { GyreError } from "../errors.ts";
import { checkSources, manifestError } from "./load.ts";
import { sourceOf } from "./source.ts";

// Mutations of real manifests, valid and not. Whatever the text, the answer is a manifest or a GyreError, and the error
// repeats no secret. In parts, since each manifest costs a millisecond.
const PARTS = 5;
const ROUNDS = INPUTS / PARTS;

const valid = [
  `apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: ca }
spec: { localCA: { directory: ca, passphrase: "hunter2-hunter2" }, crl: { deliver: [ { files: { crl: a } } ] } }
`,
  `apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: c }
spec:
  issue: { issuer: ca, dnsNames: [a.b], lifetime: 1d }
  deliver: [ { files: { combined: "\${DIR}/a" } } ]
  prove: [ { tls: { serverName: a.b, addresses: ["1.1.1.1:1"] } } ]
`,
];
const folder = join(import.meta.dirname, "golden");
const broken = readdirSync(folder)
  .filter((name) => name.endsWith(".in"))
  .map((name) => readFileSync(join(folder, name), "utf8").slice(0, 300));
const whole = valid.join("---\n");
const seeds = [...valid, whole, whole, whole, whole, whole, whole, ...broken];

const PIECES = [
  "\n",
  "  ",
  "\t",
  ": ",
  "- ",
  "{",
  "}",
  "[",
  "]",
  "'",
  '"',
  "&a ",
  "*a",
  "!x ",
  "|\n",
  ">-\n",
  "#",
  "?",
  "%",
  "---\n",
  "...\n",
];
const WORDS = [
  "null",
  "~",
  "0600",
  "1e999",
  "0x1f",
  "-0",
  ".nan",
  "true",
  "<<: *a",
  "__proto__: 1",
  "constructor",
  "\u0000",
  "\ud800",
  "é",
  "𝒳",
  "$${",
  "${",
  `$${"{DIR}"}`,
  `$${"{NO}"}`,
  "99999999999999999999d",
  "\r\n",
  "\ufeff",
  "\u2028",
];

function mutate(text: string, random: (below: number) => number): string {
  let result = text;
  for (let edits = 1 + random(2); edits > 0; edits--) {
    const at = random(result.length + 1);
    const length = random(5);
    const pool = random(2) === 0 ? PIECES : WORDS;
    const other = seeds[random(seeds.length)]!;
    const from = random(other.length);
    const insert = [
      pool[random(pool.length)]!,
      "",
      other.slice(from, from + random(60)),
      String.fromCharCode(random(128)),
    ][random(4)]!;
    result = result.slice(0, at) + insert + result.slice(at + length);
  }
  return result;
}

const starts = Array.from({ length: PARTS }, (_, part) => 61 + part);

test.each(starts)(`${ROUNDS} mutated manifests end in a manifest or in a GyreError (seed %i)`, (seed) => {
  const random = generator(seed);
  let accepted = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const text = mutate(seeds[random(seeds.length)]!, random);
    const checked = (() => {
      try {
        return checkSources([sourceOf("fuzz.yaml", text)], { DIR: "marlin-7" });
      } catch (error) {
        throw new Error(`seed ${seed}, round ${round} threw ${String(error)} on ${JSON.stringify(text)}`, {
          cause: error,
        });
      }
    })();
    if (checked.ok) accepted++;
    else {
      const error = manifestError(checked.problems);
      if (!(error instanceof GyreError) || checked.problems.length === 0)
        throw new Error(`seed ${seed}, round ${round}: no GyreError`);
      for (const problem of checked.problems) check(problem, `seed ${seed}, round ${round}`, text);
    }
  }
  // The control: mutations are mild enough that some manifests survive them, and most do not.
  expect(accepted).toBeGreaterThan(ROUNDS / 100);
  expect(accepted).toBeLessThan(ROUNDS / 2);
});

function check(
  problem: { line?: number; column?: number; message: string; excerpt?: readonly [string, string] },
  which: string,
  text: string,
): void {
  const fail = (why: string): never => {
    throw new Error(`${which}: ${why}: ${JSON.stringify(problem)} on ${JSON.stringify(text)}`);
  };
  if (!(problem.line! >= 1 && problem.column! >= 1)) fail("no place");
  if (problem.excerpt === undefined || !/^ *\^+$/.test(problem.excerpt[1])) fail("no caret");
  if (JSON.stringify(problem).includes("marlin-7")) fail("a value of the environment");
}
