import { randomBytes } from "node:crypto";
import { constants, type FileHandle, open, realpath, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { diskError, errno } from "../disk/disk-error.ts";
import { createFile, makeDirectory, writeAll } from "../disk/durable.ts";
import { GyreError } from "../errors.ts";
import { chainLine, entryBody, headerLine } from "./chain.ts";
import { flock, holdersOf } from "./flock.ts";
import type { Entry, Journal, JournalHead } from "./journal.ts";
import { EMPTY, type Parsed, parseJournal } from "./parse.ts";

/** A torn tail that was found: what a writer that died in mid-append left. None of it was ever acknowledged. */
export interface Repair {
  readonly line: number;
  readonly bytes: number;
  /** True once an append cut it off. False where it was only read: it was left out of that, and is still there. */
  readonly removed: boolean;
}

export interface JsonlJournal<E> extends Journal<E> {
  readonly path: string;
  /** The torn tails this handle met, oldest first. */
  readonly repairs: readonly Repair[];
}

/** Which file, and in what state: differs whenever anybody wrote. */
interface Stamp {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

/** How long an append waits for another process's append, in milliseconds. One takes a few; a frozen one never ends. */
const PATIENCE = 10_000;

/**
 * A journal as JSON Lines in one file (chain.ts has the format). Opening reads and checks it all; a file that does not
 * exist is an empty journal and is created by the first append.
 *
 * Two processes may append at once even without the run lock (`gyre waive` beside `gyre rotate`). O_APPEND alone
 * cannot refuse the slower one before its bytes are there, and taking bytes back would race with a third. So each
 * append holds flock(2) on the journal file itself, the very inode it writes, while it compares and writes: about
 * 1.5 ms, next to an fsync. No second file can be lost or deleted, and the kernel frees it. O_APPEND is there too:
 * a program that ignores the lock loses nothing of its own, and is noticed by the size afterwards.
 *
 * @throws GyreError `damaged` with file:line, `newer`, `disk`, `permission`
 */
export async function openJournal<E>(file: string): Promise<JsonlJournal<E>> {
  const journal = new FileJournal<E>(resolve(file));
  await journal.read();
  return journal;
}

class FileJournal<E> implements JsonlJournal<E> {
  readonly path: string;
  readonly repairs: Repair[] = [];
  #known: Parsed<E> = EMPTY;
  #stamp: Stamp | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(path: string) {
    this.path = path;
  }

  read(): Promise<readonly Entry<E>[]> {
    return this.#alone(async () => {
      await this.#refresh();
      return this.#known.entries.slice();
    });
  }

  head(): Promise<JournalHead> {
    return this.#alone(async () => {
      await this.#refresh();
      return headOf(this.#known);
    });
  }

  append(expected: number, at: number, events: readonly E[]): Promise<readonly Entry<E>[]> {
    return this.#alone(async () => {
      if (!Number.isSafeInteger(at)) throw new GyreError({ code: "bug", message: `journal ${this.path}: time ${at}` });
      const handle = await this.#openForWriting(expected);
      if (handle === undefined) throw this.#stale(expected, 0);
      try {
        await this.#lock(handle);
        await this.#catchUp(handle);
        if (this.#known.entries.length !== expected) throw this.#stale(expected, this.#known.entries.length);
        return events.length === 0 ? [] : await this.#write(handle, at, events);
      } finally {
        await handle.close();
      }
    });
  }

  /** Calls on one handle take turns. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work, work);
    this.#last = mine.catch(() => undefined);
    return mine;
  }

  async #refresh(): Promise<void> {
    const handle = await this.#open(constants.O_RDONLY);
    if (handle === undefined) {
      if (this.#known.size > 0) throw this.#replaced("it is gone");
      return;
    }
    try {
      if (same(this.#stamp, await stampOf(handle))) return;
      const parsed = await this.#load(handle);
      // What looks torn may be another process's append under way, and who only reads may not write: it is left out of
      // what was read, and left to the next append, which has the lock.
      if (parsed.torn !== undefined) this.#met({ ...parsed.torn, removed: false });
      await this.#adopt(handle, parsed);
    } finally {
      await handle.close();
    }
  }

  /** Each tail once, however often it is read. */
  #met(tail: Repair): void {
    const last = this.repairs.at(-1);
    const same = last?.line === tail.line && last.bytes === tail.bytes && last.removed === tail.removed;
    if (!same) this.repairs.push(tail);
  }

  /** Under the lock: makes `#known` what the file holds, and the file nothing but whole appends. */
  async #catchUp(handle: FileHandle): Promise<void> {
    await this.#stillThere(handle, "nothing was written");
    if (same(this.#stamp, await stampOf(handle))) return;
    const parsed = await this.#load(handle);
    if (parsed.torn !== undefined) {
      this.#fits(parsed);
      const doing = `journal ${this.path}: removing a torn line ${parsed.torn.line}`;
      try {
        await handle.truncate(parsed.size);
        await handle.sync();
      } catch (error) {
        throw diskError(error, doing, this.path, "all acknowledged entries are untouched");
      }
      this.#met({ ...parsed.torn, removed: true });
    }
    await this.#adopt(handle, parsed);
  }

  async #load(handle: FileHandle): Promise<Parsed<E>> {
    let bytes: Buffer;
    try {
      bytes = await handle.readFile();
    } catch (error) {
      throw diskError(error, `journal ${this.path}: reading`, this.path, "nothing was changed");
    }
    return parseJournal<E>(bytes, this.path);
  }

  async #adopt(handle: FileHandle, parsed: Parsed<E>): Promise<void> {
    this.#fits(parsed);
    // Taken after the bytes were read: worth something only when nobody added to them in between.
    const stamp = await stampOf(handle);
    this.#stamp = stamp.size === BigInt(parsed.size) ? stamp : undefined;
    this.#known = parsed;
  }

  /** What we have told callers must still be there: else this is another journal under the same name. */
  #fits(parsed: Parsed<E>): void {
    if (this.#known.size === 0) return;
    const { seq, hash } = headOf(this.#known);
    if (parsed.hashes[seq] !== hash) throw this.#replaced(`its entry ${seq} is not the one read before`);
  }

  async #write(handle: FileHandle, at: number, events: readonly E[]): Promise<readonly Entry<E>[]> {
    const { entries, hashes, size } = this.#known;
    const lines = toLines<E>(headOf(this.#known), at, events);
    const bytes = Buffer.from(lines.text, "utf8");
    const named = `${entries.length + 1}${events.length > 1 ? `-${entries.length + events.length}` : ""}`;
    try {
      await writeAll(handle, bytes);
      await handle.sync();
    } catch (error) {
      throw await this.#takeBack(handle, size, named, error);
    }
    await this.#stillThere(handle, `entry ${named} may be lost`);
    const stamp = await stampOf(handle);
    if (stamp.size !== BigInt(size + bytes.length)) throw this.#intruder(named);
    this.#stamp = stamp;
    this.#known = {
      entries: entries.concat(lines.entries),
      hashes: hashes.concat(lines.hashes),
      size: size + bytes.length,
    };
    return lines.entries;
  }

  async #takeBack(handle: FileHandle, size: number, named: string, error: unknown): Promise<GyreError> {
    const doing = `journal ${this.path}: writing entry ${named}`;
    try {
      await handle.truncate(size);
      await handle.sync();
      return diskError(error, doing, this.path, "its partial line was removed and all entries before it are untouched");
    } catch (second) {
      // The next reader finds either a torn tail, which it removes, or the whole append.
      return new GyreError({
        code: "disk",
        message: `${diskError(error, doing, this.path, "all entries before it are untouched").message}, but what was written of it could not be removed`,
        where: this.path,
        retry: "read back",
        next: "repair the file system, then run the command again: it reads first",
        cause: second,
      });
    }
  }

  async #lock(handle: FileHandle): Promise<void> {
    if (await flock(handle.fd, "wait", PATIENCE)) return;
    const { ino } = await handle.stat({ bigint: true });
    const holders = await holdersOf(await realpath(this.path), ino);
    const stopped = holders.find((holder) => holder.stopped);
    const pids = holders.map((holder) => holder.pid).join(", ");
    throw new GyreError({
      code: "locked",
      message: `journal ${this.path}: another process${pids === "" ? "" : ` (${pids}${stopped ? ", stopped" : ""})`} has been appending for ${PATIENCE / 1000} s; nothing was written`,
      where: this.path,
      retry: "later",
      next: stopped ? `wake it with \`kill -CONT ${stopped.pid}\`, or end it` : "see what it is doing, then try again",
    });
  }

  async #openForWriting(expected: number): Promise<FileHandle | undefined> {
    const flags = constants.O_RDWR | constants.O_APPEND;
    const there = await this.#open(flags);
    if (there !== undefined) return there;
    if (this.#known.size > 0) throw this.#replaced("it is gone");
    if (expected !== 0) return undefined;
    try {
      await makeDirectory(dirname(this.path), 0o755);
      // Two creators: one wins, both go on with its file.
      await createFile(this.path, Buffer.from(`${headerLine(randomBytes(16).toString("hex")).line}\n`), 0o644);
    } catch (error) {
      throw diskError(error, `journal ${this.path}: creating`, this.path, "nothing was left behind");
    }
    return this.#open(flags);
  }

  async #open(flags: number): Promise<FileHandle | undefined> {
    try {
      return await open(this.path, flags);
    } catch (error) {
      if (errno(error) === "ENOENT") return undefined;
      throw diskError(error, `journal ${this.path}: opening`, this.path, "nothing was changed");
    }
  }

  async #stillThere(handle: FileHandle, otherwise: string): Promise<void> {
    const ours = await handle.stat({ bigint: true });
    const there = await stat(this.path, { bigint: true }).catch(() => undefined);
    if (there?.ino !== ours.ino || there.dev !== ours.dev)
      throw this.#replaced(`another file has its name; ${otherwise}`);
  }

  #stale(expected: number, found: number): GyreError {
    return new GyreError({
      code: "conflict",
      message: `journal ${this.path}: it stands at entry ${found}, this writer planned on ${expected}; nothing was written`,
      where: this.path,
      next: "another runner went on with it; run the command again, it reads first",
    });
  }

  #replaced(what: string): GyreError {
    return new GyreError({
      code: "conflict",
      message: `journal ${this.path}: replaced under us: ${what}`,
      where: this.path,
      retry: "read back",
      next: "see who moved or restored the journal, then run the command again",
    });
  }

  #intruder(named: string): GyreError {
    return new GyreError({
      code: "conflict",
      message: `journal ${this.path}: something that does not take its lock wrote to it while entry ${named} was appended`,
      where: this.path,
      retry: "read back",
      next: "see what else writes to this file; only Gyre may",
    });
  }
}

function headOf(parsed: Parsed<unknown>): JournalHead {
  return { seq: parsed.entries.length, hash: parsed.hashes[parsed.entries.length]! };
}

function toLines<E>(head: JournalHead, at: number, events: readonly E[]) {
  const entries: Entry<E>[] = [];
  const hashes: string[] = [];
  let { seq, hash } = head;
  let text = "";
  for (const [index, event] of events.entries()) {
    const json: string | undefined = JSON.stringify(event);
    if (json === undefined) throw new GyreError({ code: "bug", message: `journal: event ${index} is no JSON value` });
    seq++;
    const chained = chainLine(hash, entryBody(seq, at, json, events.length - 1 - index));
    text += `${chained.line}\n`;
    hash = chained.hash;
    hashes.push(hash);
    // What a later `read` gives: nothing that JSON drops, and no object shared with the caller.
    entries.push({ seq, at, event: JSON.parse(json) as E });
  }
  return { text, entries, hashes };
}

async function stampOf(handle: FileHandle): Promise<Stamp> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await handle.stat({ bigint: true });
  return { dev, ino, size, mtimeNs, ctimeNs };
}

function same(a: Stamp | undefined, b: Stamp): boolean {
  if (a === undefined || a.ino !== b.ino || a.dev !== b.dev) return false;
  return a.size === b.size && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs;
}
