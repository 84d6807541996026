import { GyreError } from "../errors.ts";

/** The errno name of a failed system call, or `undefined` for anything else. */
export function errno(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

const said: Readonly<Record<string, { code: "disk" | "permission"; seen: string; next: string }>> = {
  ENOSPC: { code: "disk", seen: "no space left on the device", next: "free space there, then repeat the command" },
  EDQUOT: { code: "disk", seen: "disk quota exceeded", next: "raise the quota or free space, then repeat the command" },
  EFBIG: { code: "disk", seen: "file too large", next: "raise the file size limit, then repeat the command" },
  EMFILE: { code: "disk", seen: "too many open files", next: "raise the limit of open files, then repeat the command" },
  EROFS: { code: "disk", seen: "read-only file system", next: "mount it read-write, or choose another directory" },
  EIO: { code: "disk", seen: "input/output error", next: "check the disk (dmesg) before you go on" },
  EACCES: { code: "permission", seen: "permission denied", next: "give this user access, or run as its owner" },
  EPERM: { code: "permission", seen: "operation not permitted", next: "give this user access, or run as its owner" },
};

/**
 * A failed file operation as a GyreError: `disk` or `permission`.
 * @param doing what was being done to which path, as in "journal /x: writing entries 3-4"
 * @param untouched what is still as it was
 */
export function diskError(error: unknown, doing: string, where: string, untouched: string): GyreError {
  if (error instanceof GyreError) return error;
  const name = errno(error);
  const known = name === undefined ? undefined : said[name];
  const seen = known?.seen ?? (name === undefined ? String(error) : `system error ${name}`);
  return new GyreError({
    code: known?.code ?? "disk",
    message: `${doing}: ${seen}; ${untouched}`,
    where,
    retry: "later",
    next: known?.next ?? `look at ${where}, then repeat the command`,
    cause: error,
  });
}
