import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { GyreError } from "../../errors.ts";
import type { ReceiptJudgement } from "../../receipt/verify.ts";
import { type ExitCode, exits } from "../exit.ts";
import { receiptLines } from "../render/receipt.ts";
import type { Session } from "../session.ts";
import { momentWords } from "../words.ts";

export interface VerifyFlags {
  /** A key id, or a PEM file that holds the public key. */
  readonly key?: string;
  readonly journal?: string;
  readonly checkpoint?: string;
  readonly log?: string;
  readonly evidence?: string;
}

/** Judges a receipt without manifest, state or network. Only VERIFIED is 0. */
export async function verify(session: Session, file: string, flags: VerifyFlags): Promise<ExitCode> {
  const path = (name: string) => resolve(session.cwd, name);
  const receipt = await read(path(file), "receipt");
  const { verifyReceipt } = await import("../../receipt/verify.ts");
  const { console } = session;
  const seen = await verifyReceipt(receipt, {
    ...(flags.key === undefined ? {} : { pin: await pinOf(flags.key, path) }),
    ...(flags.journal === undefined ? {} : { journal: path(flags.journal) }),
    ...(flags.log === undefined ? {} : { log: path(flags.log) }),
    ...(flags.evidence === undefined ? {} : { evidence: path(flags.evidence) }),
    ...(flags.checkpoint === undefined ? {} : { checkpoint: await read(path(flags.checkpoint), "checkpoint") }),
  });
  const judged = { ...seen, notes: [...fromTheFuture(seen, console.now()), ...seen.notes] };
  const exit = judged.ok ? exits.ok : exits.unanswered;
  console.data({ file, ...judged, exit });
  const lines = receiptLines(file, judged, console.width);
  console.say(console.quiet ? lines.slice(0, judged.ok ? 0 : 1 + judged.problems.length) : lines);
  return exit;
}

/** Clocks of two machines differ; by more than this, one of them is wrong. */
const clocksApart = 5 * 60_000;

/** A signature says nothing of when: the date is what the signer's clock said. */
function fromTheFuture({ statement }: ReceiptJudgement, now: number): string[] {
  const closedAt = Date.parse(statement?.predicate.closedAt ?? "");
  if (!(closedAt > now + clocksApart)) return [];
  return [`dated ${momentWords(closedAt, now)}, by a clock ahead of this one: one of the two is wrong`];
}

/** Hex is a key id; anything else is a file. */
async function pinOf(key: string, path: (name: string) => string): Promise<string> {
  return /^(sha256:)?[0-9a-fA-F]{64}$/.test(key) ? key : (await read(path(key), "key")).toString("utf8");
}

/** A receipt is some kilobytes; a file that is much larger is something else. */
const mostBytes = 16 * 1024 * 1024;

async function read(path: string, what: string): Promise<Buffer> {
  try {
    const bytes = await readFile(path);
    if (bytes.length <= mostBytes) return bytes;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unreadable";
    const seen = { ENOENT: "no such file", EACCES: "permission denied", EISDIR: "a directory" }[code] ?? code;
    throw new GyreError({
      code: code === "EACCES" ? "permission" : "input",
      message: `${what} ${path}: ${seen}; nothing was verified`,
      where: path,
      cause: error,
    });
  }
  throw new GyreError({
    code: "input",
    message: `${what} ${path}: larger than 16 MiB, so it is none; nothing was verified`,
    where: path,
  });
}
