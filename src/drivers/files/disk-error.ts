import { errno, diskError as ofDisk } from "../../disk/disk-error.ts";
import { GyreError } from "../../errors.ts";

/** What is wrong with the path itself: it is the manifest's, and trying again does not mend it. */
const WRONG_PATH: Readonly<Record<string, { seen: string; next: string }>> = {
  ENOENT: { seen: "no such file or directory", next: "create the directory, or correct the path" },
  ENXIO: { seen: "it is a socket or a device", next: "name a file" },
  ENOTDIR: { seen: "a part of the path is no directory", next: "correct the path" },
  EISDIR: { seen: "it is a directory", next: "name a file" },
  ELOOP: { seen: "too many symbolic links", next: "correct the path" },
  ENAMETOOLONG: { seen: "name too long", next: "shorten the path" },
};

/**
 * A failed system call on a path of a manifest as a GyreError: `disk`, `permission` or `input`, naming the path.
 * @param doing what was being done, as in "staging the certificate"
 * @param untouched what is still as it was
 */
export function diskError(error: unknown, doing: string, path: string, untouched: string): GyreError {
  const wrong = error instanceof GyreError ? undefined : WRONG_PATH[errno(error) ?? ""];
  if (wrong === undefined) return ofDisk(error, `${doing} at ${path}`, path, untouched);
  const message = `${doing} at ${path}: ${wrong.seen}; ${untouched}`;
  return new GyreError({ code: "input", message, where: path, retry: "never", next: wrong.next, cause: error });
}
