import type { Stats } from "node:fs";
import { access, constants, stat } from "node:fs/promises";
import { GyreError } from "../../errors.ts";
import { diskError } from "./disk-error.ts";

/**
 * A directory that names can be created in; looked at, not tried.
 * @param what what is to lie in it, for the message
 * @throws GyreError `input` (missing, no directory), `disk` (read-only file system) or `permission`
 */
export async function mustBeWritable(directory: string, what: string): Promise<Stats> {
  try {
    const seen = await stat(directory);
    if (!seen.isDirectory()) {
      const message = `the directory of ${what}, ${directory}, is no directory; nothing written`;
      throw new GyreError({ code: "input", message, where: directory, next: "correct the path" });
    }
    await access(directory, constants.W_OK | constants.X_OK);
    return seen;
  } catch (error) {
    throw diskError(error, `checking the directory of ${what}`, directory, "nothing written");
  }
}
