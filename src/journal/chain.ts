import { hash } from "node:crypto";

/**
 * The lines of a journal and the chain that binds them. Each line is JSON that ends in its own hash:
 *
 *   {"format":"gyre-journal","version":1,"id":"5f…","hash":"a1…"}
 *   {"seq":1,"at":1764000000000,"event":{…},"hash":"b2…"}
 *   {"seq":2,"at":1764000000000,"event":{…},"left":1,"hash":"c3…"}
 *   {"seq":3,"at":1764000000000,"event":{…},"hash":"d4…"}
 *
 * The hash is SHA-256 over the bytes of the file from the first hex digit of the *previous* line's hash up to the
 * `,"hash":` of this line, so that one contiguous slice is hashed and every byte of the file but the last two is bound.
 * The random id makes each chain its own: no line can be moved from one journal to another.
 * `left` counts the lines of the same append that follow; a reader drops a tail whose append is not complete.
 */
export const FORMAT = "gyre-journal";
export const VERSION = 1;

/** Chain value of a journal that was never written. */
export const NOTHING = "0".repeat(64);

const MARK = Buffer.from(',"hash":"');
const CLOSE = '"}';
/** Bytes after the hashed part of a line: the mark, 64 digits, the close; no newline. */
const TAIL = MARK.length + 64 + CLOSE.length;

/** Finishes a line with its hash. `previous` is the hash of the line before, or undefined for the header. No newline at the end. */
export function chainLine(
  previous: string | undefined,
  body: string,
): { readonly line: string; readonly hash: string } {
  const bound = previous === undefined ? body : `${previous}${CLOSE}\n${body}`;
  const digest = hash("sha256", bound, "hex");
  return { line: `${body}${MARK.toString()}${digest}${CLOSE}`, hash: digest };
}

/** The header line; `id` is 32 random hex digits. */
export function headerLine(id: string): { readonly line: string; readonly hash: string } {
  return chainLine(undefined, `{"format":"${FORMAT}","version":${VERSION},"id":"${id}"`);
}

/** The body of an entry; `event` must be JSON text. */
export function entryBody(seq: number, at: number, event: string, left: number): string {
  return `{"seq":${seq},"at":${at},"event":${event}${left > 0 ? `,"left":${left}` : ""}`;
}

/**
 * The hash of the line at [start, end) of `file` (newline excluded) when it is formed and chained as it must be,
 * `undefined` otherwise. The line before it, if any, must have been checked already.
 */
export function lineHash(file: Buffer, start: number, end: number): string | undefined {
  const mark = end - TAIL;
  if (mark < start || file.compare(MARK, 0, MARK.length, mark, mark + MARK.length) !== 0) return undefined;
  if (file[end - 2] !== 0x22 || file[end - 1] !== 0x7d) return undefined;
  const from = start === 0 ? 0 : start - 1 - CLOSE.length - 64;
  const digest = hash("sha256", file.subarray(from, mark), "hex");
  return file.toString("latin1", end - 66, end - 2) === digest ? digest : undefined;
}

/** True when [start, end) begins with a complete, rightly chained line followed by at least one more byte. */
export function hidesLine(file: Buffer, start: number, end: number): boolean {
  const mark = file.lastIndexOf(MARK, end);
  const lineEnd = mark + TAIL;
  return mark > start && lineEnd < end && lineHash(file, start, lineEnd) !== undefined;
}
