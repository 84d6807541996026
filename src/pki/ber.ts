import { GyreError } from "../errors.ts";
import { MAX_DEPTH, TAG, tlv } from "./der.ts";

/**
 * BER to DER for key stores of NSS, BouncyCastle and others that stream: indefinite and long-winded lengths become the
 * shortest ones, strings in pieces become one. What an OCTET STRING holds is not touched (a MAC is computed over it).
 * Throws GyreError `input`.
 */
export function berToDer(bytes: Buffer, what: string): Buffer {
  const { der, next } = convert(bytes, 0, bytes.length, 0, what);
  if (next !== bytes.length) fail(what, next, "bytes after its end");
  return der;
}

function fail(what: string, at: number, why: string): never {
  throw new GyreError({ code: "input", message: `${what} is malformed: ${why} (byte ${at})` });
}

interface Head {
  readonly tag: number;
  readonly body: number;
  /** Undefined: indefinite. */
  readonly stop: number | undefined;
}

function head(bytes: Buffer, at: number, end: number, what: string): Head {
  if (at + 2 > end) fail(what, at, "it is cut off");
  const tag = bytes[at]!;
  const first = bytes[at + 1]!;
  if ((tag & 0x1f) === 0x1f) fail(what, at, "tag numbers above 30 do not occur here");
  if (first === 0x80) {
    if ((tag & 0x20) === 0) fail(what, at, "a primitive element of indefinite length");
    return { tag, body: at + 2, stop: undefined };
  }
  const octets = first < 0x80 ? 0 : first & 0x7f;
  const body = at + 2 + octets;
  if (octets > 6 || body > end) fail(what, at, "a length runs past the end");
  const length = octets === 0 ? first : bytes.readUIntBE(at + 2, octets);
  if (length > end - body) fail(what, at, "an element is longer than what holds it");
  return { tag, body, stop: body + length };
}

function convert(bytes: Buffer, at: number, end: number, depth: number, what: string): { der: Buffer; next: number } {
  if (depth > MAX_DEPTH) fail(what, at, "it is nested too deeply");
  const { tag, body, stop } = head(bytes, at, end, what);
  if ((tag & 0x20) === 0) return { der: tlv(tag, bytes.subarray(body, stop)), next: stop! };
  const parts: Buffer[] = [];
  let pos = body;
  for (;;) {
    if (stop !== undefined && pos >= stop) break;
    if (stop === undefined && pos + 2 <= end && bytes[pos] === 0 && bytes[pos + 1] === 0) {
      pos += 2;
      break;
    }
    const { der, next } = convert(bytes, pos, stop ?? end, depth + 1, what);
    parts.push(der);
    pos = next;
  }
  if (tag !== (TAG.octetString | 0x20)) return { der: tlv(tag, ...parts), next: pos };
  return { der: tlv(TAG.octetString, joinPieces(parts, what, at)), next: pos };
}

/** The content of a string that came in pieces, each an OCTET STRING in DER by now. */
export function joinPieces(parts: readonly Buffer[], what: string, at = 0): Buffer {
  return Buffer.concat(
    parts.map((part) => {
      if (part[0] !== TAG.octetString) fail(what, at, "a string has a piece of another type");
      const { body } = head(part, 0, part.length, what);
      return part.subarray(body);
    }),
  );
}
