import { randomBytes } from "node:crypto";
import { constants, type FileHandle, link, mkdir, open, rename, stat, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { errno } from "./disk-error.ts";

/** Makes a created, renamed or removed name survive a power cut. Raw errno errors. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** `mkdir -p`, each new level durable. Raw errno errors. */
export async function makeDirectory(directory: string, mode: number): Promise<void> {
  try {
    if ((await stat(directory)).isDirectory()) return;
  } catch (error) {
    if (errno(error) !== "ENOENT") throw error;
    const parent = dirname(directory);
    if (parent !== directory) await makeDirectory(parent, mode);
  }
  try {
    await mkdir(directory, { mode });
  } catch (error) {
    if (errno(error) !== "EEXIST") throw error;
  }
  await syncDirectory(dirname(directory));
}

/** Writes all of it, however many calls that takes. Raw errno errors. */
export async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) done += (await handle.write(bytes, done, bytes.length - done)).bytesWritten;
}

/** Temporary names of `path`: hidden, beside it, told apart by a random part. `isTemporaryOf` recognises them. */
function temporaryOf(path: string): string {
  return join(dirname(path), `.${basename(path)}.${randomBytes(8).toString("hex")}.tmp`);
}
export function isTemporaryOf(path: string, name: string): boolean {
  const base = `.${basename(path)}.`;
  return name.startsWith(base) && /^[0-9a-f]{16}\.tmp$/.test(name.slice(base.length));
}

async function putInPlace(
  path: string,
  bytes: Uint8Array,
  mode: number,
  place: (temporary: string) => Promise<void>,
): Promise<void> {
  const temporary = temporaryOf(path);
  const handle = await open(temporary, "wx", mode);
  try {
    try {
      await writeAll(handle, bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await place(temporary);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
}

/** Replaces or creates a file: all of it or nothing, durable when it resolves. Raw errno errors. */
export async function replaceFile(path: string, bytes: Uint8Array, mode: number): Promise<void> {
  await putInPlace(path, bytes, mode, (temporary) => rename(temporary, path));
  await syncDirectory(dirname(path));
}

/** Creates a file unless one of that name exists (then `false`, and it is untouched). Durable. Raw errno errors. */
export async function createFile(path: string, bytes: Uint8Array, mode: number): Promise<boolean> {
  let created = true;
  await putInPlace(path, bytes, mode, async (temporary) => {
    try {
      // link(2) refuses an existing name, where rename(2) would replace it: of two creators exactly one wins.
      await link(temporary, path);
    } catch (error) {
      if (errno(error) !== "EEXIST") throw error;
      created = false;
    }
    await unlink(temporary);
  });
  await syncDirectory(dirname(path));
  return created;
}
