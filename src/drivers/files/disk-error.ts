import { GyreError } from "../../errors.ts";

/** The errno name of a failed system call, or undefined for anything else. */
export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

const MEANINGS: Readonly<Record<string, { code: "disk" | "permission" | "input"; seen: string; next: string }>> = {
  ENOSPC: { code: "disk", seen: "no space left on the device", next: "free space there, then repeat" },
  EDQUOT: { code: "disk", seen: "disk quota exceeded", next: "raise the quota or free space, then repeat" },
  EFBIG: { code: "disk", seen: "file too large", next: "raise the file size limit, then repeat" },
  EMFILE: { code: "disk", seen: "too many open files", next: "raise the limit of open files, then repeat" },
  EROFS: { code: "disk", seen: "read-only file system", next: "mount it read-write, or name another directory" },
  EIO: { code: "disk", seen: "input/output error", next: "check the disk before you go on" },
  EACCES: { code: "permission", seen: "permission denied", next: "give this user write access to the directory" },
  EPERM: { code: "permission", seen: "operation not permitted", next: "run as root or as the owner, or change owner" },
  ENOENT: { code: "input", seen: "no such file or directory", next: "create the directory, or correct the path" },
  ENXIO: { code: "input", seen: "it is a socket or a device", next: "name a file" },
  ENOTDIR: { code: "input", seen: "a part of the path is no directory", next: "correct the path" },
  EISDIR: { code: "input", seen: "it is a directory", next: "name a file" },
  ELOOP: { code: "input", seen: "too many symbolic links", next: "correct the path" },
  ENAMETOOLONG: { code: "input", seen: "name too long", next: "shorten the path" },
};

/**
 * A failed system call as a GyreError: `disk`, `permission` or `input`, naming the path.
 * @param doing what was being done, as in "staging the certificate"
 * @param untouched what is still as it was
 */
export function diskError(error: unknown, doing: string, path: string, untouched: string): GyreError {
  if (error instanceof GyreError) return error;
  const name = errnoOf(error);
  const known = name === undefined ? undefined : MEANINGS[name];
  return new GyreError({
    code: known?.code ?? "disk",
    message: `${doing} at ${path}: ${known?.seen ?? name ?? String(error)}; ${untouched}`,
    where: path,
    retry: known?.code === "input" ? "never" : "later",
    next: known?.next ?? `look at ${path}, then repeat`,
    cause: error,
  });
}
