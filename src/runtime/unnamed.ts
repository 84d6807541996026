import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Event } from "../engine/events.ts";
import type { Instant } from "../engine/model.ts";
import { GyreError } from "../errors.ts";
import { openJournal } from "../journal/jsonl.ts";
import type { UnnamedJournal } from "./api.ts";
import { readLineage } from "./runner.ts";
import { outstandingOf } from "./story.ts";

/**
 * Journals that none of these names is for: of credentials that were renamed, or taken out of the manifests, or that
 * other manifests name which were not given. By name. Reads only.
 */
export async function unnamedJournals(
  stateDirectory: string,
  named: readonly string[],
  now: Instant,
): Promise<readonly UnnamedJournal[]> {
  const directory = join(stateDirectory, "credentials");
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  const names = entries.filter((entry) => entry.isDirectory() && !named.includes(entry.name)).map(({ name }) => name);
  const found = await Promise.all(names.sort().map((name) => unnamed(directory, name, now)));
  return found.flat();
}

/** None where nothing was ever written, as after a first rotation that could not begin. */
async function unnamed(directory: string, name: string, now: Instant): Promise<UnnamedJournal[]> {
  try {
    const lineage = await readLineage({ journal: await openJournal<Event>(join(directory, name, "journal.jsonl")) });
    if (lineage.seq === 0) return [];
    const current = lineage.current === undefined ? undefined : lineage.generations.get(lineage.current);
    return [
      {
        name,
        outstanding: outstandingOf(lineage, now),
        orphans: lineage.orphans.filter((orphan) => orphan.expires > now).length,
        ...(current === undefined ? {} : { current }),
        ...(lineage.active === undefined ? {} : { active: lineage.active }),
      },
    ];
  } catch (error) {
    if (!(error instanceof GyreError)) throw error;
    return [{ name, outstanding: [], orphans: 0, problem: error.message }];
  }
}
