import { readFile } from "node:fs/promises";
import { GyreError } from "../../errors.ts";
import { Secret } from "../../pki/secret.ts";
import { errnoOf } from "./disk-error.ts";
import { pathFrom } from "./reload.ts";

/**
 * A password as a manifest gives it: the value, or the first line of a file (editors end files with a newline, which is
 * no part of it).
 * @throws GyreError `input` or `permission` when the file is missing, unreadable or empty
 */
export async function readPassword(
  setting: string | { readonly file: string },
  baseDir: string,
  what: string,
): Promise<Secret> {
  if (typeof setting === "string") return Secret.of(setting);
  const path = pathFrom(baseDir, setting.file);
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    const name = errnoOf(error);
    throw new GyreError({
      code: name === "EACCES" ? "permission" : "input",
      message: `reading the ${what} from ${path}: ${name === "ENOENT" ? "no such file" : (name ?? "failed")}; nothing written`,
      where: path,
      next: "create it, or correct the path",
      cause: error,
    });
  }
  const end = bytes.findIndex((byte) => byte === 0x0a || byte === 0x0d);
  const secret = Secret.of(end === -1 ? bytes : bytes.subarray(0, end));
  bytes.fill(0);
  if (secret.length > 0) return secret;
  const message = `the ${what} in ${path} is empty: its first line is the ${what}; nothing written`;
  throw new GyreError({ code: "input", message, where: path, next: "write it into the file's first line" });
}
