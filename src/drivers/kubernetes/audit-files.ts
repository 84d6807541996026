import { createReadStream } from "node:fs";
import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";
import { createGunzip } from "node:zlib";

const chunkSize = 1024 * 1024;
/** A longer line is no Event at level Metadata; of a longer one only that it was there is kept. */
const lineLimit = 32 * 1024 * 1024;

/** Each complete line without its newline; `undefined` for one that is too long. The buffer is ours: copy what is kept. */
export type OnLine = (line: Buffer | undefined) => void;

/** Cuts chunks into lines. What stands behind the last newline is still being written: it is kept back. */
export class Lines {
  readonly #onLine: OnLine;
  #carry: Buffer[] = [];
  #carried = 0;

  constructor(onLine: OnLine) {
    this.#onLine = onLine;
  }

  /** Octets behind the last newline. */
  get unfinished(): number {
    return this.#carried;
  }

  push(chunk: Buffer): void {
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      this.#emit(chunk.subarray(from, at));
      from = at + 1;
    }
    const rest = chunk.length - from;
    if (rest === 0) return;
    // Counted on in full, but no longer kept.
    if (this.#carried + rest <= lineLimit) this.#carry.push(Buffer.from(chunk.subarray(from)));
    else this.#carry = [];
    this.#carried += rest;
  }

  #emit(end: Buffer): void {
    const carried = this.#carried === 0 ? end : Buffer.concat([...this.#carry, end]);
    const isWhole = this.#carried + end.length <= lineLimit;
    this.#carry = [];
    this.#carried = 0;
    this.#onLine(isWhole ? carried : undefined);
  }
}

/** Reads on from an offset to the end; gives the offset behind the last complete line. */
export async function readForward(file: FileHandle, from: number, onLine: OnLine): Promise<number> {
  const lines = new Lines(onLine);
  const chunk = Buffer.allocUnsafe(chunkSize);
  for (let position = from; ; ) {
    const { bytesRead } = await file.read(chunk, 0, chunkSize, position);
    if (bytesRead === 0) return position - lines.unfinished;
    lines.push(chunk.subarray(0, bytesRead));
    position += bytesRead;
  }
}

/** A compressed file, which is never written to again. */
export async function readGzip(path: string, onLine: OnLine): Promise<void> {
  const lines = new Lines(onLine);
  const input = createReadStream(path);
  const plain = createGunzip();
  // An error of the source does not travel through pipe; the reader must see it or it would wait for ever.
  input.on("error", (error) => plain.destroy(error));
  try {
    for await (const chunk of input.pipe(plain)) lines.push(chunk as Buffer);
  } finally {
    input.destroy();
    plain.destroy();
  }
}

export interface LogFile {
  readonly path: string;
  readonly gzip: boolean;
  readonly ino: number;
}

/**
 * What rotation made of `path`, oldest first, without the file of inode `except`. API servers rotate themselves:
 * `audit-2026-11-26T21-05-01.000.log`, `.gz` behind it with --audit-log-compress (lumberjack.v2); logrotate says
 * `audit.log.1`, `audit.log-20261126.gz`.
 */
export async function rotatedLogs(path: string, except: number | undefined): Promise<LogFile[]> {
  const extension = extname(path);
  const [name, stem] = [basename(path), basename(path, extension)];
  const dir = dirname(path);
  const entries = await readdir(dir);
  const there = new Set(entries);
  const found: (LogFile & { readonly at: number })[] = [];
  for (const entry of entries) {
    const gzip = entry.endsWith(".gz");
    const plain = gzip ? entry.slice(0, -3) : entry;
    // It is being compressed: the plain one is whole until it goes.
    if (gzip && there.has(plain)) continue;
    const own = plain.startsWith(`${stem}-`) && plain.endsWith(extension) ? plain.slice(stem.length + 1) : "";
    const stamp = /^(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d\.\d{3})$/.exec(own.slice(0, own.length - extension.length));
    const byLogrotate =
      plain !== name && plain.startsWith(name) && /^(?:\.\d+|-\d{8}(?:[-.]?\d+)?)$/.test(plain.slice(name.length));
    if (stamp === null && !byLogrotate) continue;
    const about = await ifThere(stat(join(dir, entry)));
    if (about === undefined || !about.isFile() || about.ino === except) continue;
    const [, day, hour, minute, second] = stamp ?? [];
    const at = stamp === null ? about.mtimeMs : Date.parse(`${day}T${hour}:${minute}:${second}Z`);
    found.push({ path: join(dir, entry), gzip, ino: about.ino, at });
  }
  return found.sort((a, b) => a.at - b.at);
}

/** Up to where a file was read, and what stood there: tells a file that was cut and has grown again from one that grew. */
export interface Mark {
  readonly ino: number;
  readonly offset: number;
  readonly tail: Buffer;
}
const tailSize = 256;

export async function markAt(file: FileHandle, ino: number, offset: number): Promise<Mark> {
  const size = Math.min(tailSize, offset);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(size), 0, size, offset - size);
  return { ino, offset, tail: buffer.subarray(0, bytesRead) };
}

/** True when the file still holds what was read of it. */
export async function stillHolds(file: FileHandle, mark: Mark): Promise<boolean> {
  const { ino, size } = await file.stat();
  if (ino !== mark.ino || size < mark.offset) return false;
  return (await markAt(file, ino, mark.offset)).tail.equals(mark.tail);
}

/** Undefined where there is no such file (rotation renames before it creates). Other errors are thrown. */
export async function ifThere<T>(looking: Promise<T>): Promise<T | undefined> {
  try {
    return await looking;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Opens, works, closes whatever happens. */
export async function withFile<T>(path: string, work: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(path, "r");
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}
