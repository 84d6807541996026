import * as fs from "node:fs/promises";
import { constants, type FileHandle, lstat, readlink, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { errno } from "../../disk/disk-error.ts";
import { GyreError } from "../../errors.ts";
import { lockDirectory } from "./lock.ts";

/**
 * The system calls that change a disk, one method each, so that a test can stop between any two of them. Raw errno
 * errors; `diskError` puts them into words.
 */
export interface Disk {
  /** Waits until no other process changes files in the directory; gives the function that lets the next one in. */
  lock(directory: string): Promise<() => Promise<void>>;
  open(path: string, flags: number, mode?: number): Promise<FileHandle>;
  write(handle: FileHandle, bytes: Uint8Array): Promise<void>;
  chown(handle: FileHandle, uid: number, gid: number): Promise<void>;
  chmod(handle: FileHandle, mode: number): Promise<void>;
  sync(handle: FileHandle): Promise<void>;
  close(handle: FileHandle): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  symlink(target: string, path: string): Promise<void>;
  link(existing: string, path: string): Promise<void>;
  unlink(path: string): Promise<void>;
  mkdir(path: string, mode: number): Promise<void>;
  rmdir(path: string): Promise<void>;
}

export const realDisk: Disk = {
  lock: lockDirectory,
  open: (path, flags, mode) => fs.open(path, flags, mode),
  async write(handle, bytes) {
    for (let done = 0; done < bytes.length; ) done += (await handle.write(bytes, done)).bytesWritten;
  },
  chown: (handle, uid, gid) => handle.chown(uid, gid),
  chmod: (handle, mode) => handle.chmod(mode),
  sync: (handle) => handle.sync(),
  close: (handle) => handle.close(),
  rename: (from, to) => fs.rename(from, to),
  symlink: (target, path) => fs.symlink(target, path),
  link: (existing, path) => fs.link(existing, path),
  unlink: (path) => fs.unlink(path),
  mkdir: (path, mode) => fs.mkdir(path, { mode }),
  rmdir: (path) => fs.rmdir(path),
};

/** Who may read a file. */
export interface Attributes {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits only. */
  readonly mode: number;
}

/** What is at a path, the link itself and not what it leads to; undefined when nothing is. Raw errno errors. */
export async function lookAt(path: string) {
  return lstat(path).catch((error: unknown) => absent(error));
}

/** What a path leads to; undefined when nothing is there or the link dangles. Raw errno errors. */
export async function lookThrough(path: string) {
  return stat(path).catch((error: unknown) => absent(error));
}

/** Far beyond any key, chain, CRL or key store; reading a device by mistake must end. */
const MOST_BYTES = 64 * 1024 * 1024;

/**
 * The content behind a path; undefined when there is none. Raw errno errors; GyreError `input` for what is no regular
 * file: reading a pipe would wait for ever for somebody to write, and reading a device has effects or no end.
 */
export async function contentOf(path: string): Promise<Buffer | undefined> {
  // Without O_NONBLOCK the open itself waits where the path is a pipe that nobody writes to.
  const handle = await fs
    .open(path, constants.O_RDONLY | constants.O_NONBLOCK)
    .catch((error: unknown) => absent(error));
  if (handle === undefined) return undefined;
  try {
    const seen = await handle.stat();
    if (!seen.isFile() && !seen.isDirectory()) throw notReadable(path, "is a pipe, a device or a socket");
    if (seen.size > MOST_BYTES) throw notReadable(path, `has ${seen.size} bytes, more than ${MOST_BYTES}`);
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}

function notReadable(path: string, what: string): GyreError {
  return new GyreError({
    code: "input",
    message: `${path} ${what}; it was not read, and nothing was written`,
    where: path,
    next: "name a file that holds certificates or keys, or put one in its place",
  });
}

/** Where a symbolic link leads; undefined when there is no link. Raw errno errors. */
export async function linkOf(path: string): Promise<string | undefined> {
  return readlink(path).catch((error: unknown) => {
    if (errno(error) === "EINVAL") return undefined;
    return absent(error);
  });
}

function absent(error: unknown): undefined {
  if (errno(error) === "ENOENT") return undefined;
  throw error;
}

/** Unlinks a file that may not be there. */
export async function unlinkIfThere(disk: Disk, path: string): Promise<void> {
  await disk.unlink(path).catch((error: unknown) => absent(error));
}

/** Makes created, renamed and removed names in a directory survive a power cut. */
export async function syncDirectory(disk: Disk, directory: string): Promise<void> {
  const handle = await disk.open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await disk.sync(handle);
  } finally {
    await disk.close(handle);
  }
}

/**
 * Creates a file with its owner and mode set before anybody can find content in it: it is born 0600, and owner comes
 * before mode, since chown clears set-id bits and a wide mode must never meet the wrong owner. Refuses an existing name.
 * Synced, but its directory is not.
 */
export async function createFile(disk: Disk, path: string, bytes: Uint8Array, who: Attributes): Promise<void> {
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  const handle = await disk.open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    const born = await handle.stat();
    if (born.uid !== who.uid || born.gid !== who.gid) await disk.chown(handle, who.uid, who.gid);
    if ((born.mode & 0o7777) !== who.mode) await disk.chmod(handle, who.mode);
    await disk.write(handle, bytes);
    await disk.sync(handle);
  } catch (error) {
    throw at(path, error);
  } finally {
    await disk.close(handle);
  }
}

/** Errors of calls on a descriptor do not say which file it was. */
function at(path: string, error: unknown): unknown {
  return error instanceof Error && !("path" in error) ? Object.assign(error, { path }) : error;
}

/** The one temporary name of a path: hidden, so that no `include *.pem` finds it, and found again after a crash. */
export const temporaryOf = (path: string): string => join(dirname(path), `.${basename(path)}.gyre-new`);

/** Writes the temporary file of a path; a rename puts it in place. */
export async function stageFile(disk: Disk, path: string, bytes: Uint8Array, who: Attributes): Promise<void> {
  const temporary = temporaryOf(path);
  await unlinkIfThere(disk, temporary);
  await createFile(disk, temporary, bytes, who);
}

/** Replaces or creates a file in one rename; the old content is there until then. The caller syncs the directory. */
export async function replaceFile(disk: Disk, path: string, bytes: Uint8Array, who: Attributes): Promise<void> {
  try {
    await stageFile(disk, path, bytes, who);
    await disk.rename(temporaryOf(path), path);
  } catch (error) {
    await unlinkIfThere(disk, temporaryOf(path)).catch(() => undefined);
    throw error;
  }
}

/** Makes `path` a symbolic link to `target` in one rename, whatever was there. The caller syncs the directory. */
export async function replaceLink(disk: Disk, path: string, target: string): Promise<void> {
  const temporary = temporaryOf(path);
  await unlinkIfThere(disk, temporary);
  try {
    await disk.symlink(target, temporary);
    await disk.rename(temporary, path);
  } catch (error) {
    await unlinkIfThere(disk, temporary).catch(() => undefined);
    throw error;
  }
}

/**
 * Overwrites a file and removes it. Overwriting keeps a key from a later reader of the raw device where the file system
 * writes in place (ext4, xfs); on copy-on-write and flash it is no promise.
 */
export async function destroyFile(disk: Disk, path: string): Promise<void> {
  const seen = await lookAt(path);
  if (seen === undefined) return;
  // A second name means that somebody still uses these bytes: only the name is ours to take away.
  if (seen.isFile() && seen.nlink === 1 && seen.size > 0) {
    const handle = await disk.open(path, constants.O_WRONLY | constants.O_NOFOLLOW);
    try {
      await disk.write(handle, Buffer.alloc(seen.size));
      await disk.sync(handle);
    } finally {
      await disk.close(handle);
    }
  }
  await disk.unlink(path);
}

/** Runs `work` while no other process changes files in `directory`. */
export async function whileLocked<T>(disk: Disk, directory: string, work: () => Promise<T>): Promise<T> {
  const release = await disk.lock(directory);
  try {
    return await work();
  } finally {
    await release();
  }
}
