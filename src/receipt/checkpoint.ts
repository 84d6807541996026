import { hash, type KeyObject, verify } from "node:crypto";
import { GyreError } from "../errors.ts";
import type { SigningKey } from "./envelope.ts";
import { broken, parseBase64 } from "./json.ts";

/**
 * A checkpoint is a signed statement "the log `origin` has `size` receipts with this root" in the text form that
 * transparency logs share (C2SP: tlog-checkpoint.md, signed-note.md). Kept anywhere else (a git commit, a ticket, a
 * sheet of paper) it shows later whether the tail of the log was cut off.
 */
export interface Checkpoint {
  readonly origin: string;
  readonly size: number;
  readonly root: Buffer;
  /** The signed text, its last newline included. */
  readonly text: string;
  readonly signatures: readonly { readonly name: string; readonly key: Buffer; readonly signature: Buffer }[];
}

const ED25519 = 0x01;
const DASH = "\u2014";

/** Key hash of signed-note: SHA-256(name, newline, type, public key), its first four bytes. */
function noteKeyHash(name: string, publicKey: Uint8Array): Buffer {
  return hash(
    "sha256",
    Buffer.concat([Buffer.from(`${name}\n`), Buffer.from([ED25519]), publicKey]),
    "buffer",
  ).subarray(0, 4);
}

/** The 32 bytes of an Ed25519 key: the end of its SPKI (RFC 8410 section 4). */
function rawKey(spki: Uint8Array): Uint8Array {
  return spki.subarray(-32);
}

/** The key in the form that other checkpoint verifiers take: `name+hash+base64`. */
export function verifierKey(origin: string, publicKey: string): string {
  const raw = rawKey(Buffer.from(publicKey, "base64"));
  const typed = Buffer.concat([Buffer.from([ED25519]), raw]);
  return `${origin}+${noteKeyHash(origin, raw).toString("hex")}+${typed.toString("base64")}`;
}

/** A name in a note holds no white space and no plus. @throws GyreError `input` */
export function checkOrigin(origin: string): void {
  if (/^[^\s+\p{Cc}]{1,200}$/u.test(origin)) return;
  throw new GyreError({
    code: "input",
    message: `receipt log: ${JSON.stringify(origin)} cannot be its name (1 to 200 characters, no space, no plus)`,
    next: "name it like a URL without scheme: example.com/gyre/receipts",
  });
}

/** Writes and signs a checkpoint. */
export function signCheckpoint(origin: string, size: number, root: Uint8Array, keys: readonly SigningKey[]): string {
  checkOrigin(origin);
  const text = `${origin}\n${size}\n${Buffer.from(root).toString("base64")}\n`;
  const lines = keys.map((key) => {
    const id = noteKeyHash(origin, rawKey(Buffer.from(key.publicKey, "base64")));
    return `${DASH} ${origin} ${Buffer.concat([id, key.sign(Buffer.from(text))]).toString("base64")}\n`;
  });
  return `${text}\n${lines.join("")}`;
}

/** Reads a checkpoint; its signatures are checked by `signedBy`. @throws GyreError `damaged` */
export function parseCheckpoint(bytes: Uint8Array): Checkpoint {
  const note = decode(bytes);
  const cut = note.lastIndexOf("\n\n");
  if (cut < 0 || !note.endsWith("\n")) throw broken("checkpoint: not a signed note (text, empty line, signatures)");
  const text = note.slice(0, cut + 1);
  const [origin = "", size = "", root = "", ...extensions] = text.slice(0, -1).split("\n");
  if (origin === "" || extensions.includes("")) throw broken("checkpoint: an empty line within its text");
  if (!/^(0|[1-9][0-9]{0,15})$/.test(size) || !Number.isSafeInteger(Number(size))) {
    throw broken("checkpoint: its second line is no tree size");
  }
  const hashed = parseBase64(root, "checkpoint root");
  if (hashed.length !== 32) throw broken("checkpoint: its root is no SHA-256");
  const lines = note.slice(cut + 2, -1).split("\n");
  return { origin, size: Number(size), root: hashed, text, signatures: lines.map(parseSignature) };
}

function decode(bytes: Uint8Array): string {
  let note: string;
  try {
    note = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw broken("checkpoint: not UTF-8", cause);
  }
  if (/[\u0000-\u0009\u000b-\u001f]/.test(note)) throw broken("checkpoint: holds control characters");
  return note;
}

function parseSignature(line: string): Checkpoint["signatures"][number] {
  const [dash, name, blob, ...more] = line.split(" ");
  if (dash !== DASH || !name || !blob || more.length > 0 || name.includes("+")) {
    throw broken("checkpoint: a signature line is malformed");
  }
  const bytes = parseBase64(blob, "checkpoint signature");
  if (bytes.length < 5) throw broken("checkpoint: a signature is too short");
  return { name, key: bytes.subarray(0, 4), signature: bytes.subarray(4) };
}

/** Whether this very key signed it. Signatures by other keys (witnesses) neither help nor hurt, as signed-note has it. */
export function signedBy(checkpoint: Checkpoint, key: KeyObject): boolean {
  const id = noteKeyHash(checkpoint.origin, rawKey(key.export({ format: "der", type: "spki" })));
  return checkpoint.signatures.some(
    (one) =>
      one.name === checkpoint.origin &&
      one.key.equals(id) &&
      one.signature.length === 64 &&
      verify(null, Buffer.from(checkpoint.text), key, one.signature),
  );
}
