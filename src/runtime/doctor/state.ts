import { readdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { mustBeWritable } from "../../drivers/files/preflight.ts";
import { GyreError } from "../../errors.ts";
import { holdersOfLock } from "../../journal/lock.ts";
import type { SecretStore } from "../../journal/secret-store.ts";
import { openSecrets } from "../../journal/secrets.ts";
import type { Diagnosis } from "../api.ts";
import { keyName } from "../context.ts";
import { type Check, failed, note, ok, problem, warning } from "./patient.ts";

const ABOUT = "state";

/** The directory that holds journals and keys: there and writable, or to be made. */
export const stateDirectory: Check = async ({ stateDirectory: directory }) => {
  const isThere = await stat(directory).then(
    () => true,
    () => false,
  );
  let nearest = directory;
  while (!isThere && nearest !== dirname(nearest)) {
    nearest = dirname(nearest);
    if (await stat(nearest).catch(() => undefined)) break;
  }
  await mustBeWritable(nearest, "the state directory");
  return isThere ? [] : [note(ABOUT, `${directory} is not there yet; the first rotation makes it`)];
};

/** Another runner at work is no fault; one that is stopped holds everything up. */
export const lock: Check = async ({ manifest, stateDirectory: directory }) => {
  const path = join(directory, "credentials", manifest.name, "lock");
  return (await holdersOfLock(path)).map(({ pid, stopped }): Diagnosis => {
    if (!stopped) return note("lock", `process ${pid} is rotating it now`, "wait until it is done");
    const next = `kill -CONT ${pid} wakes it, kill -KILL ${pid} ends it: its lock is freed at once`;
    return problem("lock", `process ${pid} holds it and is stopped, so nobody can rotate ${manifest.name}`, next);
  });
};

/** What was begun, and what was issued and is in nobody's use. */
export const journal: Check = ({ lineage, manifest, clock }) => {
  const found: Diagnosis[] = [];
  const { active } = lineage;
  if (active?.held !== undefined) {
    const reason = active.held.reasons[0];
    const why = reason === undefined ? "" : `: ${reason.about} ${reason.what}`;
    found.push(warning("journal", `${active.id} holds at ${active.held.stage}${why}`, `gyre show ${manifest.name}`));
  } else if (active !== undefined)
    found.push(note("journal", `${active.id} is under way`, `gyre rotate ${manifest.name} goes on with it`));
  const orphans = lineage.orphans.filter((orphan) => orphan.expires > clock.now());
  if (orphans.length > 0) {
    const last = new Date(Math.max(...orphans.map((orphan) => orphan.expires))).toISOString();
    found.push(
      warning(
        "journal",
        `${orphans.length} issued and in nobody's use, valid until ${last}`,
        `gyre show ${manifest.name}`,
      ),
    );
  }
  return found.length > 0 ? found : [ok("journal", `${lineage.seq} entries, whole`)];
};

/** The old key is shown to verifiers once more (corner A): without it the end of the old one cannot be seen. */
export const oldKey: Check = async ({ lineage, found, secrets, manifest, parties }) => {
  const { current } = lineage;
  if (manifest.kind === "crl" || current === undefined || found?.generation.number !== current) return [];
  if (parties.verifiers.length === 0 || secrets === undefined) return [];
  if ((await secrets.get(keyName(manifest.name, current))) !== undefined) return [];
  const what = `the private key of g${current} is not in the secret store, so that verifiers cannot be seen refusing it`;
  return [problem("secrets", what, "put the secret store back from a copy; or waive its verifiers by name")];
};

/** Opens what is there, creates nothing. Undefined where there is no store yet. */
export async function secretsIfThere(directory: string): Promise<SecretStore | undefined> {
  const [blobs, key] = [join(directory, "secrets"), join(directory, "store.key")];
  const hasKey = await stat(key).then(
    () => true,
    () => false,
  );
  const files = await readdir(blobs, { recursive: true }).catch(() => undefined);
  // Without a key only a store that holds something is opened: for its error, which says what is lost.
  if (files === undefined || (!hasKey && !files.some((file) => file.endsWith(".enc")))) return undefined;
  return openSecrets(blobs, { file: key });
}

export const secretsFailed = (error: unknown): Diagnosis =>
  error instanceof GyreError
    ? failed("secrets", error)
    : failed("secrets", error, "see who may read the state directory");
