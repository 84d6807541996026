import { errno } from "../../disk/disk-error.ts";
import { GyreError } from "../../errors.ts";
import { Secret } from "../../pki/secret.ts";
import { contentOf } from "./disk.ts";
import { pathFrom } from "./reload.ts";

/**
 * A password as a manifest gives it: the value, or the first line of a file (editors end files with a newline, which is
 * no part of it).
 * @throws GyreError `input` or `permission` when the file is missing, unreadable or empty
 */
export async function readPassword(
  setting: Secret | { readonly file: string },
  baseDir: string,
  what: string,
): Promise<Secret> {
  if (setting instanceof Secret) return setting;
  const path = pathFrom(baseDir, setting.file);
  let bytes: Buffer | undefined;
  try {
    bytes = await contentOf(path);
  } catch (error) {
    if (error instanceof GyreError) throw error;
    const name = errno(error);
    throw new GyreError({
      code: name === "EACCES" ? "permission" : "input",
      message: `reading the ${what} from ${path}: ${name ?? "failed"}; nothing written`,
      where: path,
      next: "let the user that runs gyre read it, or correct the path",
      cause: error,
    });
  }
  if (bytes === undefined) {
    const message = `reading the ${what} from ${path}: no such file; nothing written`;
    throw new GyreError({ code: "input", message, where: path, next: "create it, or correct the path" });
  }
  const end = bytes.findIndex((byte) => byte === 0x0a || byte === 0x0d);
  const secret = Secret.of(end === -1 ? bytes : bytes.subarray(0, end));
  bytes.fill(0);
  if (secret.length > 0) return secret;
  const message = `the ${what} in ${path} is empty: its first line is the ${what}; nothing written`;
  throw new GyreError({ code: "input", message, where: path, next: "write it into the file's first line" });
}
