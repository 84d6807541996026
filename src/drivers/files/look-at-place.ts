import { stat, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { GyreError } from "../../errors.ts";
import { lookThrough } from "./disk.ts";
import { diskError } from "./disk-error.ts";
import { filesOf } from "./material-files.ts";
import { lookUp, type OwnerSettings } from "./owner.ts";
import { pathFrom } from "./reload.ts";
import type { TargetSettings, TrustStoreSettings } from "./settings.ts";

/** A delivery keeps the version before it, and each file is staged beside the one in place: a few hundred kilobytes. */
const ROOM_NEEDED = 1024 * 1024;

const HOLD_KEYS = ["privateKey", "combined", "keystore"];

/**
 * What would trip a delivery and `check` does not see, since it is no fault of the paths: an owner this process may not
 * give, a disk without room. And keys that everybody may read. By looking only; empty when all is well.
 */
export async function lookAtTarget(settings: TargetSettings, baseDir: string): Promise<GyreError[]> {
  const found: GyreError[] = [];
  for (const { role, path } of filesOf(settings, baseDir)) {
    found.push(...(await lookAtFile(path, settings)));
    if (HOLD_KEYS.includes(role)) found.push(...(await openToAll(path, settings)));
  }
  return unique(found);
}

export async function lookAtTrustStore(settings: TrustStoreSettings, baseDir: string): Promise<GyreError[]> {
  return lookAtFile(pathFrom(baseDir, settings.bundle ?? settings.crl ?? settings.truststore!.path), settings);
}

async function lookAtFile(path: string, settings: OwnerSettings): Promise<GyreError[]> {
  return [...(await ownerTrouble(path, settings)), ...(await roomTrouble(dirname(path)))];
}

/** chown(2): root may give any owner; anybody else only keep their own, and a group they are in. */
async function ownerTrouble(path: string, settings: OwnerSettings): Promise<GyreError[]> {
  const me = process.geteuid!();
  if (me === 0) return [];
  const [wanted, seen] = [await lookUp(settings), await lookThrough(path)];
  const uid = wanted.uid ?? seen?.uid ?? me;
  const gid = wanted.gid ?? seen?.gid ?? process.getegid!();
  const groups = [process.getegid!(), ...process.getgroups!()];
  if (uid === me && groups.includes(gid)) return [];
  return [
    new GyreError({
      code: "permission",
      message: `${path}: user ${me} may not give it to ${uid === me ? `group ${gid}` : `user ${uid}`}${settings.owner === undefined && settings.group === undefined ? ", whose it is now" : ""}`,
      where: path,
      next: "run gyre as root, or name an owner and group it may give",
    }),
  ];
}

async function roomTrouble(directory: string): Promise<GyreError[]> {
  try {
    const { bavail, bsize, files, ffree } = await statfs(directory);
    const room = bavail * bsize;
    if (room >= ROOM_NEEDED && (files === 0 || ffree > 16)) return [];
    const seen = room < ROOM_NEEDED ? `${Math.floor(room / 1024)} KiB are free` : `${ffree} more files fit`;
    const next = "free space there";
    return [
      new GyreError({ code: "disk", message: `the file system of ${directory}: only ${seen}`, where: directory, next }),
    ];
  } catch (error) {
    return [diskError(error, "asking for free space", directory, "nothing written")];
  }
}

async function openToAll(path: string, { mode }: OwnerSettings): Promise<GyreError[]> {
  const seen = await stat(path).catch(() => undefined);
  if (seen === undefined || (seen.mode & 0o004) === 0) return [];
  // A mode of the manifest takes effect with the next delivery; until then everybody reads the key.
  const next =
    mode === undefined
      ? `chmod 0600 ${path}, or give mode in the manifest`
      : `chmod 0${mode.replace(/^0/, "")} ${path}, or rotate`;
  const octal = (seen.mode & 0o7777).toString(8).padStart(4, "0");
  return [
    new GyreError({
      code: "permission",
      message: `${path}: mode ${octal} lets every user of the host read the private key`,
      where: path,
      next,
    }),
  ];
}

const unique = (errors: readonly GyreError[]): GyreError[] => [
  ...new Map(errors.map((error) => [error.message, error])).values(),
];
