/**
 * Runs journeys: `node lab/run.ts` lists them, `node lab/run.ts NAME...` or `--all` runs them. Exit code 0: all ended well;
 * 1: one did not (its workspace is kept); 2: wrong use.
 */
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { makeWorkspace } from "./estate.ts";
import { buildGoTools } from "./go-tools.ts";
import { install } from "./install.ts";
import type { Journey, JourneyContext } from "./journey.ts";

const folder = join(dirname(fileURLToPath(import.meta.url)), "journeys");

function names(): string[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith(".ts") && !/\.(test|peer)\.ts$/.test(file))
    .map((file) => file.replace(/\.ts$/, ""))
    .sort();
}

async function load(name: string): Promise<Journey> {
  const module: { journey?: Journey } = await import(pathToFileURL(join(folder, `${name}.ts`)).href);
  if (module.journey === undefined) throw new Error(`lab/journeys/${name}.ts exports no \`journey\``);
  return module.journey;
}

const seconds = (since: number) => `${((performance.now() - since) / 1000).toFixed(1)} s`;

async function travel(name: string, journey: Journey): Promise<boolean> {
  const workspace = makeWorkspace(name);
  const out = (text: string) => process.stdout.write(`${text}\n`);
  const began = performance.now();
  const context: JourneyContext = {
    workspace,
    async step(title, body) {
      const since = performance.now();
      try {
        const result = await body();
        out(`  ok    ${title} (${seconds(since)})`);
        return result;
      } catch (problem) {
        out(`  FAIL  ${title} (${seconds(since)})`);
        throw problem;
      }
    },
    say: (text) => out(text.replace(/^/gm, "        ")),
    expect(what, yes) {
      if (!yes) throw new Error(`expected: ${what}`);
    },
  };
  out(`${name}: ${journey.summary}`);
  let failed = false;
  try {
    await journey.run(context);
  } catch (problem) {
    failed = true;
    out(problem instanceof Error ? (problem.stack ?? problem.message) : String(problem));
  }
  await workspace.end({ failed });
  out(`${name}: ${failed ? "FAILED" : "passed"} in ${seconds(began)}`);
  return !failed;
}

async function main(wanted: readonly string[]): Promise<number> {
  const known = names();
  if (wanted.length === 0) {
    for (const name of known) process.stdout.write(`${name.padEnd(16)} ${(await load(name)).summary}\n`);
    return known.length === 0 ? 2 : 0;
  }
  if (wanted[0] === "--all") return main(known);
  const strangers = wanted.filter((name) => !known.includes(name));
  if (strangers.length > 0) {
    process.stderr.write(`no journey ${strangers.join(", ")}; there is: ${known.join(", ")}\n`);
    return 2;
  }
  await install();
  let code = 0;
  for (const name of wanted) {
    const journey = await load(name);
    await buildGoTools(journey.needs ?? []);
    if (!(await travel(name, journey))) code = 1;
  }
  return code;
}

process.exitCode = await main(process.argv.slice(2));
