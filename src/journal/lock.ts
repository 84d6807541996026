import { constants, type FileHandle, open, realpath, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { diskError, errno } from "../disk/disk-error.ts";
import { GyreError } from "../errors.ts";
import { flock, type Holder, holdersOf, isStopped } from "./flock.ts";

/** Told to whoever finds the lock taken. Informational: the lock is the kernel's, this text decides nothing. */
export interface LockHolder {
  /** As an operator would recognise it: `gyre rotate shop-tls`. */
  readonly command: string;
  /** Milliseconds since the epoch. */
  readonly since: number;
}

export interface Lock {
  readonly path: string;
  /** Code `conflict` when the path no longer leads to the file we hold: somebody else may hold its successor. */
  check(): Promise<void>;
  /** Gives it up. Repeats safely. The file stays: removing it would let two processes lock two files of one name. */
  release(): Promise<void>;
}

/**
 * Takes the lock at `path`, or throws at once. Held until `release`, or until this process ends in any way; a frozen
 * process (SIGSTOP) keeps it. Needs a file system whose flock(2) reaches all contenders: local disks do; an NFS mount
 * with `nolock` does not.
 * @throws GyreError `locked` naming the holder; `disk` or `permission`; `command` without a `flock` program
 */
export async function acquireLock(path: string, who: LockHolder): Promise<Lock> {
  for (;;) {
    const handle = await openLockFile(path);
    try {
      if (!(await flock(handle.fd, "try"))) throw await taken(path, handle);
      // Between our open and our lock the name may have come to mean another file; then this lock guards nothing.
      if (await leadsTo(path, handle)) {
        await introduce(handle, who);
        return held(path, handle);
      }
      await handle.close();
    } catch (error) {
      await handle.close().catch(() => undefined);
      throw diskError(error, `lock ${path}`, path, "the lock was not taken and nothing was done");
    }
  }
}

/**
 * Who has the lock at `path`, found by looking: nothing is created, nothing is taken. Empty when it is free, and when its
 * holder cannot be seen from here (another host, another container).
 */
export async function holdersOfLock(path: string): Promise<readonly Holder[]> {
  const found = await stat(path, { bigint: true }).catch((error: unknown) => {
    if (errno(error) === "ENOENT") return undefined;
    throw diskError(error, `lock ${path}: looking`, path, "the lock was not taken and nothing was done");
  });
  if (found === undefined) return [];
  return holdersOf(await realpath(path).catch(() => path), found.ino);
}

function held(path: string, handle: FileHandle): Lock {
  let open = true;
  return {
    path,
    async check() {
      if (open && (await leadsTo(path, handle))) return;
      throw new GyreError({
        code: "conflict",
        message: open
          ? `lock ${path}: the file we hold was deleted or replaced, so another runner may be at work; stopped before the next write`
          : `lock ${path}: already released`,
        where: path,
        next: "see who removed the lock file, and never remove it by hand; then run the command again",
      });
    },
    async release() {
      if (!open) return;
      open = false;
      await handle.truncate(0).catch(() => undefined);
      await handle.close();
    },
  };
}

async function openLockFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, constants.O_RDWR | constants.O_CREAT, 0o644);
  } catch (error) {
    throw diskError(error, `lock ${path}: opening`, path, "the lock was not taken and nothing was done");
  }
}

async function leadsTo(path: string, handle: FileHandle): Promise<boolean> {
  const ours = await handle.stat({ bigint: true });
  try {
    const there = await stat(path, { bigint: true });
    return there.ino === ours.ino && there.dev === ours.dev;
  } catch (error) {
    if (errno(error) === "ENOENT") return false;
    throw error;
  }
}

async function introduce(handle: FileHandle, who: LockHolder): Promise<void> {
  const text = JSON.stringify({ pid: process.pid, host: hostname(), command: who.command, since: who.since });
  // A full disk must not cost us the lock: the text only informs.
  await handle.truncate(0).catch(() => undefined);
  await handle.write(`${text}\n`, 0).catch(() => undefined);
}

interface Introduction {
  readonly pid: number;
  readonly host: string;
  readonly command: string;
  readonly since: number;
}

function parseIntroduction(text: string): Introduction | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null) return undefined;
    const { pid, host, command, since } = value as Record<string, unknown>;
    if (typeof pid !== "number" || typeof host !== "string") return undefined;
    if (typeof command !== "string" || typeof since !== "number" || !Number.isFinite(new Date(since).getTime())) {
      return undefined;
    }
    return { pid, host, command, since };
  } catch {
    return undefined;
  }
}

async function taken(path: string, handle: FileHandle): Promise<GyreError> {
  const text = await handle.readFile("utf8").catch(() => "");
  const told = parseIntroduction(text);
  const inode = (await handle.stat({ bigint: true })).ino;
  const seen = (await holdersOf(await realpath(path).catch(() => path), inode)).filter((h) => h.pid !== process.pid);
  const pid = seen[0]?.pid ?? told?.pid ?? process.pid;
  // The text is the holder's own only when it names the process that the kernel names, or when we see none.
  const fits = told !== undefined && (seen.length === 0 || seen.some((h) => h.pid === told.pid));
  const stopped = seen[0]?.stopped ?? (told?.host === hostname() && (await isStopped(pid)));
  const whose = fits
    ? `process ${told.pid} on ${told.host} (${told.command}), since ${new Date(told.since).toISOString()}`
    : seen.length > 0
      ? `process ${pid} on ${hostname()}`
      : "another process that cannot be seen from here";
  return new GyreError({
    code: "locked",
    message: `lock ${path}: held by ${whose}${stopped ? ", which is stopped" : ""}; nothing was done`,
    where: path,
    retry: "later",
    next: stopped
      ? `wake it with \`kill -CONT ${pid}\`, or end it with \`kill -KILL ${pid}\`: its lock is freed at once`
      : "wait until it is done; when it ends, however it ends, the lock is free (do not delete the file)",
  });
}
