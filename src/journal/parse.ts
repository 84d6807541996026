import { GyreError } from "../errors.ts";
import { FORMAT, hidesLine, lineHash, NOTHING, VERSION } from "./chain.ts";
import type { Entry } from "./journal.ts";

/** A journal's bytes, checked. */
export interface Parsed<E> {
  readonly entries: Entry<E>[];
  /** hashes[n] is the chain value of entry n; hashes[0] that of the header. */
  readonly hashes: string[];
  /** Bytes that hold whole appends; anything after them is torn. */
  readonly size: number;
  /** What a writer that died left behind `size`: never acknowledged, so it may go. */
  readonly torn?: { readonly line: number; readonly bytes: number };
}

type Line = { readonly seq: number; readonly at: number; readonly event: unknown; readonly left: number };

/**
 * Reads and checks a whole journal. A tail that a cut-off write can leave is reported as torn; anything else that does
 * not fit is refused.
 * @param name the file's path, for messages
 * @throws GyreError `damaged` with file:line, `newer` for a later version of the format
 */
export function parseJournal<E>(file: Buffer, name: string): Parsed<E> {
  const entries: Entry<E>[] = [];
  const hashes = [readHeader(file, name)];
  let start = file.indexOf(10) + 1;
  let size = start;
  let left = 0;
  while (start < file.length) {
    const end = file.indexOf(10, start);
    const line = entries.length + 2;
    if (end < 0) {
      if (hidesLine(file, start, file.length)) throw damaged(name, line, "the end of this line was changed");
      if (!looksTorn(file.subarray(start), line - 1)) throw damaged(name, line, "no write of ours begins so", true);
      break;
    }
    const digest = lineHash(file, start, end);
    if (digest === undefined) {
      const last = end + 1 === file.length;
      throw damaged(name, line, "its hash does not fit: changed, removed, added or moved", last);
    }
    const read = readLine(file.toString("utf8", start, end));
    if (read === undefined || read.seq !== entries.length + 1 || (left > 0 && read.left !== left - 1)) {
      throw damaged(name, line, `it is not entry ${entries.length + 1} as this version writes it`);
    }
    // The caller says what E is; the chain says that these are the bytes which an `append` of E wrote.
    entries.push({ seq: read.seq, at: read.at, event: read.event as E });
    hashes.push(digest);
    left = read.left;
    start = end + 1;
    if (left === 0) size = start;
  }
  if (size === file.length) return { entries, hashes, size };
  // Lines of an append that is not there in full were never acknowledged.
  const whole = left === 0 ? entries.length : entries.length - unfinished(file, size, start);
  entries.length = whole;
  hashes.length = whole + 1;
  return { entries, hashes, size, torn: { line: whole + 2, bytes: file.length - size } };
}

/** A cut-off write leaves the beginning of entry `seq`, or zeros where the file grew before its bytes came. */
function looksTorn(tail: Buffer, seq: number): boolean {
  const begins = Buffer.from(`{"seq":${seq},"at":`);
  const length = Math.min(tail.length, begins.length);
  return tail.every((byte) => byte === 0) || tail.compare(begins, 0, length, 0, length) === 0;
}

function unfinished(file: Buffer, from: number, to: number): number {
  let lines = 0;
  for (let at = from; at < to; at++) if (file[at] === 10) lines++;
  return lines;
}

function readHeader(file: Buffer, name: string): string {
  const end = file.indexOf(10);
  // A journal is created with its header by link(2), in one piece: a part of a header is no torn write.
  if (end < 0) throw damaged(name, 1, file.length === 0 ? "it is empty" : "its first line is cut off");
  const header = parseJson(file.toString("utf8", 0, end));
  if (header?.format === FORMAT && typeof header.version === "number" && header.version > VERSION) {
    throw new GyreError({
      code: "newer",
      message: `journal ${name}: written by a newer Gyre (format version ${header.version}, this one knows ${VERSION}); nothing was touched`,
      where: `${name}:1`,
      next: "use the newer Gyre",
    });
  }
  if (header?.format !== FORMAT) throw damaged(name, 1, `it does not begin as a journal does ("format":"${FORMAT}")`);
  const digest = lineHash(file, 0, end);
  if (digest === undefined) throw damaged(name, 1, "its hash does not fit");
  if (header.version !== VERSION || typeof header.id !== "string") throw damaged(name, 1, "no header of version 1");
  return digest;
}

function readLine(text: string): Line | undefined {
  const value = parseJson(text);
  if (value === undefined) return undefined;
  const { seq, at, event, left } = value;
  if (!Number.isSafeInteger(seq) || !Number.isSafeInteger(at) || event === undefined) return undefined;
  if (left !== undefined && !(Number.isSafeInteger(left) && (left as number) > 0)) return undefined;
  return { seq: seq as number, at: at as number, event, left: (left as number | undefined) ?? 0 };
}

function parseJson(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Not JSON: the caller says what that means here.
  }
  return undefined;
}

function damaged(name: string, line: number, what: string, last = false): GyreError {
  const intact = line < 3 ? "no entry before it can be vouched for" : `entries 1 to ${line - 2} before it are intact`;
  const powerCut = last
    ? `; if the machine lost power while this last line was written, removing that one line is right (keep a copy)`
    : "";
  return new GyreError({
    code: "damaged",
    message: `journal ${name}: line ${line} does not add up: ${what}; ${intact}; nothing was changed`,
    where: `${name}:${line}`,
    next: `restore ${name} from a copy and do not mend it by hand${powerCut}`,
  });
}

export const EMPTY: Parsed<never> = { entries: [], hashes: [NOTHING], size: 0 };
