/**
 * One `gyre rotate` that kills itself with SIGKILL at a boundary: node child.ts HOME BOUNDARY before|after.
 * With BOUNDARY -1 nothing is killed. Prints the boundaries it passed, one a line, and `outcome …` at the end.
 */
import { existsSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { loadManifests } from "../../src/manifest/load.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { FileEstate } from "../../src/runtime/estate.ts";
import type { Ports } from "../../src/runtime/ports.ts";
import { withBoundaries } from "./boundaries.ts";

const [home = "", boundary = "-1", when = "before"] = process.argv.slice(2);
let passed = 0;

class Mortal extends FileEstate {
  protected override async ports(...args: Parameters<FileEstate["ports"]>): Promise<Ports> {
    return withBoundaries(await super.ports(...args), (side, what) => {
      const here = side === "before" ? passed++ : passed - 1;
      if (side === "before") writeSync(1, `${here} ${what}\n`);
      if (here === Number(boundary) && side === when) process.kill(process.pid, "SIGKILL");
    });
  }
}

const manifests = await loadManifests([join(home, "gyre.yaml")], process.env);
const estate = new Mortal(manifests, join(home, ".gyre"), systemClock);
// Asked for by hand once: a run after the rotation has closed has its receipt to write and nothing else to do.
const journal = join(home, ".gyre", "credentials", "mesh-tls", "journal.jsonl");
const closed = existsSync(journal) && readFileSync(journal, "utf8").includes('"RotationClosed"');
const outcome = await estate.rotate("mesh-tls", { now: !closed, waitUpTo: 60_000, runner: "crash test" });
writeSync(1, `outcome ${outcome.result}${outcome.result === "closed" ? ` ${outcome.grade}` : ""}\n`);
