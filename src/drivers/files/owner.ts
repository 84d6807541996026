import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { GyreError } from "../../errors.ts";
import { childEnvironment } from "./command.ts";
import type { Attributes } from "./disk.ts";

/** What a manifest says about who may read a file; what it leaves out stays as it is in place. */
export interface OwnerSettings {
  readonly mode?: string | undefined;
  readonly owner?: string | undefined;
  readonly group?: string | undefined;
}

/** Settings with names looked up. */
export interface Wanted {
  readonly mode: number | undefined;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

const DATABASES = { owner: "passwd", group: "group" } as const;

/**
 * The number of a user or group. /etc first, then getent, which also knows LDAP and the like; Node has no call for
 * getpwnam(3).
 * @throws GyreError `input` when there is no such name
 */
async function idOf(kind: keyof typeof DATABASES, name: string): Promise<number> {
  if (/^\d+$/.test(name)) return Number(name);
  const database = DATABASES[kind];
  const find = (text: string) => text.split("\n").find((line) => line.startsWith(`${name}:`));
  let line = find(await readFile(`/etc/${database}`, "utf8").catch(() => ""));
  if (line === undefined && !name.startsWith("-")) {
    const asked = promisify(execFile)("getent", [database, name], { env: childEnvironment(), timeout: 10_000 });
    line = find((await asked.catch(() => ({ stdout: "" }))).stdout);
  }
  const id = line?.split(":")[2];
  if (id !== undefined && /^\d+$/.test(id)) return Number(id);
  throw new GyreError({
    code: "input",
    message: `${kind} ${name}: no such ${kind === "owner" ? "user" : "group"} on this host; nothing written`,
    next: `correct ${kind}, or give its number`,
  });
}

export async function lookUp(settings: OwnerSettings): Promise<Wanted> {
  return {
    mode: settings.mode === undefined ? undefined : Number.parseInt(settings.mode, 8),
    uid: settings.owner === undefined ? undefined : await idOf("owner", settings.owner),
    gid: settings.group === undefined ? undefined : await idOf("group", settings.group),
  };
}

/** Owner and mode of a new file: as the manifest says, else as the file it replaces, else ours and narrow. */
export function attributesFor(wanted: Wanted, inPlace: Attributes | undefined, holdsKey: boolean): Attributes {
  return {
    uid: wanted.uid ?? inPlace?.uid ?? process.geteuid!(),
    gid: wanted.gid ?? inPlace?.gid ?? process.getegid!(),
    mode: wanted.mode ?? inPlace?.mode ?? (holdsKey ? 0o600 : 0o644),
  };
}
