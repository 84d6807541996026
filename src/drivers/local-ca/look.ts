import { stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { GyreError } from "../../errors.ts";
import { lookAt } from "../files/disk.ts";
import { diskError } from "../files/disk-error.ts";
import { readPassword } from "../files/password.ts";
import { mustBeWritable } from "../files/preflight.ts";
import { pathFrom } from "../files/reload.ts";
import type { Issuer } from "../roles.ts";
import { type IssuerOptions, openLocalCa } from "./local-ca.ts";
import type { LocalCaSettings } from "./settings.ts";

/** An issuer that was looked at and not touched. */
export interface LookedAt {
  readonly instance: Issuer;
  /** Set where it does not exist yet: what its first issue will create, in words. */
  readonly pending?: string;
}

/**
 * The CA of a directory for somebody who only asks. Where there is one it is opened; where there is none nothing is
 * created: what comes back has the same facts, says so in `pending`, and issues nothing.
 * Errors: as `openLocalCa`.
 */
export async function lookAtLocalCa(settings: LocalCaSettings, options: IssuerOptions): Promise<LookedAt> {
  const directory = pathFrom(options.baseDir, settings.directory);
  if (await isThere(join(directory, "ca.crt"))) return { instance: await openLocalCa(settings, options) };
  // A creation that was cut off is ended by the next issue; its key alone is half of a CA that somebody brought.
  const begun = await isThere(join(directory, ".created"));
  if (!begun && (await isThere(join(directory, "ca.key")))) {
    throw new GyreError({
      code: "input",
      message: `CA in ${directory}: ca.key is there but ca.crt is not; nothing was created`,
      where: join(directory, "ca.crt"),
      next: "put ca.crt beside it, or name an empty directory",
    });
  }
  const ca = `the CA ${JSON.stringify(settings.subject)}`;
  const pending = begun
    ? `${ca} in ${directory} was half created; the first issue ends that`
    : `${ca} will be created in ${directory} by the first issue`;
  return { instance: notThere(settings, options, directory), pending };
}

function notThere(settings: LocalCaSettings, options: IssuerOptions, directory: string): Issuer {
  return {
    can: { findAfterCrash: true, revoke: true, maxLifetime: settings.maxLifetime },
    async issue() {
      throw new GyreError({ code: "bug", message: `local CA ${directory}: asked to issue, but only looked at` });
    },
    async check() {
      await readPassword(settings.passphrase, options.baseDir, "CA passphrase");
      await mustBeWritable(await nearestDirectory(directory), "the CA");
    },
  };
}

async function isThere(path: string): Promise<boolean> {
  try {
    return (await lookAt(path)) !== undefined;
  } catch (error) {
    throw diskError(error, "looking for the CA", path, "nothing was created");
  }
}

/** The directory itself, or the nearest one above it that exists: where the missing ones would be made. */
async function nearestDirectory(directory: string): Promise<string> {
  for (let at = directory; ; at = dirname(at)) {
    const seen = await stat(at).catch(() => undefined);
    if (seen !== undefined || dirname(at) === at) return at;
  }
}
