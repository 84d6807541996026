import { randomBytes } from "node:crypto";
import { constants, link, mkdir, open, readdir, readFile, rename, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { GyreError } from "../errors.ts";
import { broken } from "./json.ts";

/** The files of a receipt log. `receipts/<index>.json` is the truth; the other two follow from it. */
export function receiptFile(directory: string, index: number): string {
  return join(directory, "receipts", `${index}.json`);
}
export function leavesFile(directory: string): string {
  return join(directory, "log.jsonl");
}
export function checkpointFile(directory: string): string {
  return join(directory, "checkpoint");
}

export function errno(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** A failed file operation: `permission` or `disk`. */
export function fileError(error: unknown, doing: string, where: string): GyreError {
  if (error instanceof GyreError) return error;
  const name = errno(error);
  const denied = name === "EACCES" || name === "EPERM";
  const seen = { ENOSPC: "no space left on the device", EROFS: "read-only file system", EACCES: "permission denied" };
  return new GyreError({
    code: denied ? "permission" : "disk",
    message: `${doing}: ${seen[name as keyof typeof seen] ?? name ?? String(error)}; the receipts there are untouched`,
    where,
    retry: "later",
    next: denied
      ? "give this user access, then run the command again"
      : "free space or mend it, then run the command again",
    cause: error,
  });
}

/** The file's bytes, or undefined when there is none. @throws GyreError `disk`, `permission` */
export async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if (errno(error) === "ENOENT") return undefined;
    throw fileError(error, `reading ${path}`, path);
  }
}

/** How many receipts there are: 0.json up to the last without a gap. @throws GyreError `damaged` naming the gap */
export async function countReceipts(directory: string): Promise<number> {
  const folder = join(directory, "receipts");
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if (errno(error) === "ENOENT") return 0;
    throw fileError(error, `reading ${folder}`, folder);
  }
  const found = new Set(names.filter((name) => /^(0|[1-9][0-9]{0,9})\.json$/.test(name)));
  for (let index = 0; index < found.size; index++) {
    if (!found.has(`${index}.json`)) throw broken(`receipt log ${directory}: receipt ${index} is missing`);
  }
  return found.size;
}

/** Creates the directory for good. Raw errno errors. */
export async function makeDurable(directory: string): Promise<void> {
  const first = await mkdir(directory, { recursive: true });
  if (first === undefined) return;
  for (let at = directory; at.length >= first.length; at = dirname(at)) await syncDirectory(dirname(at));
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function throughTemporary(
  path: string,
  bytes: Uint8Array,
  place: (from: string) => Promise<void>,
): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(8).toString("hex")}.tmp`);
  const handle = await open(temporary, "wx", 0o644);
  try {
    try {
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await place(temporary);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** All or nothing, durable. Raw errno errors. */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  await throughTemporary(path, bytes, (from) => rename(from, path));
}

/** Durable; false, and nothing changed, when the name is taken: of two creators one wins. Raw errno errors. */
export async function createFile(path: string, bytes: Uint8Array): Promise<boolean> {
  let created = true;
  await throughTemporary(path, bytes, async (from) => {
    try {
      await link(from, path);
    } catch (error) {
      if (errno(error) !== "EEXIST") throw error;
      created = false;
    }
    await unlink(from);
  });
  return created;
}
