import { createPublicKey } from "node:crypto";
import { GyreError } from "../errors.ts";
import { type Checkpoint, parseCheckpoint, signedBy } from "./checkpoint.ts";
import { type Envelope, keyIdOf, parseEnvelope, parseStatement, publicKeyOf, signatureProblems } from "./envelope.ts";
import { parseLeaves } from "./log.ts";
import { checkpointFile, countReceipts, leavesFile, readIfThere, receiptFile } from "./log-files.ts";
import { leafHash, rootOf, verifyInclusion } from "./merkle.ts";
import { contradictions, evidenceOf, type Sha256, type Signer, type Statement } from "./statement.ts";
import { verifyEvidence, verifyJournal } from "./verify-journal.ts";

export interface VerifyOptions {
  /** The key that must have signed: `sha256:…` of its SPKI, or its public key as PEM. From somewhere you trust. */
  readonly pin?: string;
  /** Directory of the receipt log it should be in. */
  readonly log?: string;
  /** A checkpoint kept elsewhere: shows whether the log's tail was cut off since. */
  readonly checkpoint?: string | Uint8Array;
  /** Place in the log for a check without the log, against `checkpoint`. */
  readonly proof?: { readonly index: number; readonly size: number; readonly proof: readonly string[] };
  /** The journal file it speaks of. */
  readonly journal?: string;
  /** The evidence directory it speaks of. */
  readonly evidence?: string;
}

export interface ReceiptJudgement {
  /** True for VERIFIED alone. */
  readonly ok: boolean;
  readonly verdict: "VERIFIED" | "UNPINNED" | "BROKEN";
  /** What does not add up; empty unless BROKEN. */
  readonly problems: readonly string[];
  /** What was not looked at, and what would show it. */
  readonly notes: readonly string[];
  /** Absent when it could not be read at all. Not to be believed when BROKEN. */
  readonly statement?: Statement;
}

/**
 * Judges a receipt from its exact bytes, without network. Everything given beside it must fit too: the log, a
 * checkpoint, the journal, the evidence. Without a pin the signature shows only that it is whole, not whose it is.
 * @throws GyreError `input` for an unusable pin; `disk`, `permission` when a file beside it cannot be read
 */
export async function verifyReceipt(
  receipt: string | Uint8Array,
  options: VerifyOptions = {},
): Promise<ReceiptJudgement> {
  const pin = options.pin === undefined ? undefined : parsePin(options.pin);
  const bytes = Buffer.from(receipt);
  let envelope: Envelope;
  let statement: Statement;
  try {
    envelope = parseEnvelope(bytes);
    statement = parseStatement(envelope);
  } catch (error) {
    return judge([said(error)], [], undefined, false);
  }
  const problems = [...signatureProblems(envelope, statement), ...contradictions(statement)];
  const notes: string[] = [];
  const { signers, journal } = statement.predicate;
  const pinned = pin === undefined ? undefined : signers.filter((one) => one.keyId === pin);
  if (pinned?.length === 0) problems.push(`signed by ${signers.map((one) => one.keyId).join(", ")}, not by ${pin}`);
  if (pinned === undefined) notes.push("no key pinned: anybody could have signed this; give the key it must be by");
  // With a pin, nothing but the pinned key vouches for the log either.
  const trusted = problems.length === 0 ? (pinned ?? signers) : [];
  if (problems.length === 0) {
    const place = await judgePlace(bytes, statement, trusted, options);
    problems.push(...place.problems);
    notes.push(...place.notes);
  }
  if (options.journal === undefined) notes.push("the journal was not given: it was not compared with the head named");
  else {
    const verdict = await verifyJournal(options.journal, journal);
    problems.push(...verdict.problems);
    notes.push(...verdict.notes.map((note) => `journal: ${note}`));
  }
  if (options.evidence === undefined) notes.push("the evidence was not given: its digests were not compared");
  else problems.push(...(await verifyEvidence(evidenceOf(statement), options.evidence)));
  return judge(problems, notes, statement, pin !== undefined);
}

function judge(
  problems: readonly string[],
  notes: readonly string[],
  statement: Statement | undefined,
  pinned: boolean,
): ReceiptJudgement {
  const verdict = problems.length > 0 ? "BROKEN" : pinned ? "VERIFIED" : "UNPINNED";
  const judged = { ok: verdict === "VERIFIED", verdict, problems, notes } as const;
  return statement === undefined ? judged : { ...judged, statement };
}

function said(error: unknown): string {
  if (error instanceof GyreError && error.code === "damaged") return error.message;
  throw error;
}

/**
 * A pin as an operator gives it: `sha256:<hex>`, the bare hex, or a public key in PEM.
 * @throws GyreError `input`
 */
export function parsePin(text: string): Sha256 {
  const hex = /^(?:sha256:)?([0-9a-fA-F]{64})$/.exec(text.trim())?.[1];
  if (hex !== undefined) return `sha256:${hex.toLowerCase()}`;
  try {
    if (text.includes("-----BEGIN PUBLIC KEY-----")) {
      return keyIdOf(createPublicKey(text).export({ format: "der", type: "spki" }));
    }
  } catch {
    // Said below.
  }
  throw new GyreError({
    code: "input",
    message: "the pinned key is neither sha256: with 64 hex digits nor a PUBLIC KEY in PEM",
    next: "give the key id that gyre printed when the key was made, from a place you trust",
  });
}

interface Found {
  readonly problems: readonly string[];
  readonly notes: readonly string[];
}

async function judgePlace(
  bytes: Buffer,
  statement: Statement,
  trusted: readonly Signer[],
  options: VerifyOptions,
): Promise<Found> {
  const kept = options.checkpoint === undefined ? undefined : readCheckpoint(options.checkpoint, "given", trusted);
  if (typeof kept === "string") return { problems: [kept], notes: [] };
  if (options.log !== undefined) return judgeLog(bytes, statement, trusted, options.log, kept);
  if (kept !== undefined && options.proof !== undefined) return judgeProof(bytes, kept, options.proof);
  const missing =
    kept === undefined
      ? "the receipt log was not given"
      : "a checkpoint alone holds no receipts: give the log, or a proof";
  return { problems: [], notes: [`${missing}; whether later receipts were removed was not looked at`] };
}

/** A checkpoint by one of the trusted keys, or what is wrong with it. */
function readCheckpoint(text: string | Uint8Array, which: string, trusted: readonly Signer[]): Checkpoint | string {
  try {
    const checkpoint = parseCheckpoint(Buffer.from(text));
    if (trusted.some((signer) => signedBy(checkpoint, publicKeyOf(signer)))) return checkpoint;
    return `the checkpoint ${which} is not signed by a key that signed this receipt`;
  } catch (error) {
    return said(error);
  }
}

function judgeProof(bytes: Buffer, kept: Checkpoint, place: NonNullable<VerifyOptions["proof"]>): Found {
  const notes = [
    "whether later receipts were removed was not looked at: that needs the log and a checkpoint kept elsewhere",
  ];
  const fits =
    place.size === kept.size &&
    place.proof.every((one) => /^[0-9a-f]{64}$/.test(one)) &&
    verifyInclusion(
      leafHash(bytes),
      place.index,
      place.size,
      place.proof.map((one) => Buffer.from(one, "hex")),
      kept.root,
    );
  if (fits) return { problems: [], notes };
  return { problems: [`the proof does not lead from this receipt to the checkpoint of ${kept.size} receipts`], notes };
}

async function judgeLog(
  bytes: Buffer,
  statement: Statement,
  trusted: readonly Signer[],
  directory: string,
  kept: Checkpoint | undefined,
): Promise<Found> {
  const problems: string[] = [];
  const notes: string[] = [];
  // Before the receipts: while others append, a checkpoint read later may cover more than we have read.
  const own = await readIfThere(checkpointFile(directory));
  let leaves: Buffer[];
  try {
    leaves = await readLog(directory, problems);
  } catch (error) {
    return { problems: [said(error)], notes };
  }
  const checkpoint = own === undefined ? "the log has no checkpoint" : readCheckpoint(own, "of the log", trusted);
  for (const one of [checkpoint, kept ?? []].flat()) {
    if (typeof one === "string") problems.push(one);
    else problems.push(...continues(leaves, one, one === kept ? "kept elsewhere" : "of the log"));
  }
  if (typeof checkpoint !== "string" && checkpoint.size < leaves.length) {
    notes.push(
      `${leaves.length - checkpoint.size} receipts are newer than the log's checkpoint: the next one signs them`,
    );
  }
  if (kept !== undefined && typeof checkpoint !== "string" && kept.origin !== checkpoint.origin) {
    problems.push(`the checkpoint kept elsewhere is of another log (${kept.origin})`);
  }
  const leaf = leafHash(bytes);
  const index = leaves.findIndex((one) => one.equals(leaf));
  if (index < 0) problems.push(`the log ${directory} does not hold this receipt`);
  else problems.push(...follows(leaves, index, statement));
  if (kept === undefined) {
    notes.push(
      "a cut-off tail of the log shows only against a checkpoint kept elsewhere (in git, say): none was given",
    );
  }
  return { problems, notes };
}

/** Leaf hashes from the receipts themselves, compared with those recorded. */
async function readLog(directory: string, problems: string[]): Promise<Buffer[]> {
  const recorded = parseLeaves(await readIfThere(leavesFile(directory)), directory);
  const count = await countReceipts(directory);
  const leaves: Buffer[] = [];
  for (let index = 0; index < count; index++) {
    const receipt = await readIfThere(receiptFile(directory, index));
    leaves.push(leafHash(receipt ?? Buffer.alloc(0)));
    if (recorded[index]?.equals(leaves[index]!) === false) problems.push(`receipt ${index} of the log was changed`);
  }
  if (count < recorded.length) problems.push(`the log recorded ${recorded.length} receipts, ${count} are there`);
  return leaves;
}

function continues(leaves: readonly Buffer[], checkpoint: Checkpoint, which: string): string[] {
  if (checkpoint.size > leaves.length) {
    return [
      `the checkpoint ${which} covers ${checkpoint.size} receipts, the log has ${leaves.length}: its tail was cut off`,
    ];
  }
  if (rootOf(leaves, 0, checkpoint.size).equals(checkpoint.root)) return [];
  return [`the log is not the one whose first ${checkpoint.size} receipts the checkpoint ${which} signed`];
}

/** The receipt names the log as it stood before: that tree must be a beginning of this one, and end before it. */
function follows(leaves: readonly Buffer[], index: number, statement: Statement): string[] {
  const before = statement.predicate.log;
  if (before === undefined) return [];
  if (before.size <= index && rootOf(leaves, 0, before.size).toString("hex") === before.root) return [];
  return [
    `receipts before this one were changed or removed: it was signed over a log of ${before.size} with another root`,
  ];
}
