import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { diskError, errno } from "../disk/disk-error.ts";
import type { GyreError } from "../errors.ts";
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

/** A failed file operation: `permission` or `disk`. */
export function fileError(error: unknown, doing: string, where: string): GyreError {
  return diskError(error, doing, where, "the receipts there are untouched");
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
