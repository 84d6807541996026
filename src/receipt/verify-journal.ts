import { hash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { errno } from "../disk/disk-error.ts";
import { parseStrict } from "./json.ts";
import { fileError } from "./log-files.ts";

export interface JournalVerdict {
  readonly ok: boolean;
  /** Sentences that name the line. */
  readonly problems: readonly string[];
  readonly notes: readonly string[];
  readonly entries: number;
  /** Chain value of the last entry that fits. */
  readonly head: { readonly seq: number; readonly hash: string };
}

/**
 * Recomputes a journal's chain and compares it with the head a receipt names. It shares no code with the room that
 * writes journals: one mistake cannot hide in both. Reads only; a torn last line is reported as a note.
 * @throws GyreError `disk`, `permission` when the file cannot be read
 */
export async function verifyJournal(
  file: string,
  named?: { readonly seq: number; readonly hash: string },
): Promise<JournalVerdict> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (error) {
    if (errno(error) !== "ENOENT") throw fileError(error, `reading ${file}`, file);
    const head = { seq: 0, hash: "" };
    return { ok: false, problems: [`journal ${file}: no such file`], notes: [], entries: 0, head };
  }
  return judgeJournal(bytes, file, named);
}

/** The same on bytes in hand. Total. */
export function judgeJournal(
  bytes: Buffer,
  file: string,
  named?: { readonly seq: number; readonly hash: string },
): JournalVerdict {
  const problems: string[] = [];
  const notes: string[] = [];
  const hashes: string[] = [];
  let open = 0;
  let start = 0;
  for (let line = 1; start < bytes.length; line++) {
    const end = bytes.indexOf(10, start);
    if (end < 0) {
      if (looksTorn(bytes.subarray(start), line)) notes.push(`line ${line} is cut off: it was never acknowledged`);
      else problems.push(`${file}:${line}: the end of the line was changed`);
      break;
    }
    const judged = judgeLine(bytes.subarray(start, end), hashes.at(-1), line, open);
    if (typeof judged === "string") {
      problems.push(`${file}:${line}: ${judged}`);
      break;
    }
    hashes.push(judged.hash);
    open = judged.left;
    start = end + 1;
  }
  if (bytes.length === 0) problems.push(`${file}: empty`);
  if (open > 0 && problems.length === 0) notes.push("its last append is not complete: it was never acknowledged");
  const seq = Math.max(0, hashes.length - 1);
  if (named !== undefined && problems.length === 0 && hashes[named.seq] !== named.hash) {
    const what = named.seq > seq ? `it ends at entry ${seq}: the end was cut off` : `entry ${named.seq} is another one`;
    problems.push(`${file}: the receipt was signed over entry ${named.seq}, but ${what}`);
  }
  return { ok: problems.length === 0, problems, notes, entries: seq, head: { seq, hash: hashes[seq] ?? "" } };
}

const ENDING = /^([\s\S]*),"hash":"([0-9a-f]{64})"\}$/;

function judgeLine(
  line: Buffer,
  previous: string | undefined,
  number: number,
  open: number,
): string | { readonly hash: string; readonly left: number } {
  let value: unknown;
  try {
    value = parseStrict(line, "line");
  } catch {
    return "not one JSON value in its one spelling";
  }
  const text = line.toString("utf8");
  const [, body, stated] = ENDING.exec(text) ?? [];
  if (body === undefined || stated === undefined) return "it does not end in its hash";
  const bound = previous === undefined ? body : `${previous}"}\n${body}`;
  if (hash("sha256", bound, "hex") !== stated) return "its hash does not fit: changed, removed, added or moved";
  const fields = value as Record<string, unknown>;
  if (number === 1) {
    const known = fields.format === "gyre-journal" && fields.version === 1;
    return known ? { hash: stated, left: 0 } : "not the header of a journal of version 1";
  }
  const left = fields.left ?? 0;
  if (fields.seq !== number - 1) return `it is not entry ${number - 1}`;
  if (typeof left !== "number" || (open > 0 && left !== open - 1)) return "it is not of the append before it";
  return { hash: stated, left };
}

/** A cut-off write leaves the beginning of an entry, or zeros; never a whole line and something else. */
function looksTorn(tail: Buffer, line: number): boolean {
  if (line === 1) return false;
  const text = tail.toString("latin1");
  if (/^\0+$/.test(text)) return true;
  const begins = `{"seq":${line - 1},"at":`;
  const fits = text.length < begins.length ? begins.startsWith(text) : text.startsWith(begins);
  return fits && !/,"hash":"[0-9a-f]{64}"\}[\s\S]/.test(text);
}

/** Checks each named digest against the evidence directory. Sentences; empty when all are there and fit. */
export async function verifyEvidence(digests: readonly string[], directory: string): Promise<readonly string[]> {
  const problems: string[] = [];
  for (const digest of digests) {
    const hex = digest.replace(/^sha256:/, "");
    if (!/^[0-9a-f]{64}$/.test(hex)) {
      problems.push(`evidence ${JSON.stringify(digest)}: no digest`);
      continue;
    }
    const path = join(directory, "sha256", hex.slice(0, 2), hex.slice(2));
    try {
      if (hash("sha256", await readFile(path), "hex") !== hex) problems.push(`${path}: changed since it was recorded`);
    } catch (error) {
      if (errno(error) !== "ENOENT") throw fileError(error, `reading ${path}`, path);
      problems.push(`${path}: missing`);
    }
  }
  return problems;
}
