import { GyreError } from "../errors.ts";

/**
 * A DER writer and a bounded DER reader (X.690), the two ends of everything in this room. Only what X.509, PKCS#8,
 * PKCS#10 and PKCS#12 need: low tag numbers and definite, minimal lengths. The reader throws nothing but GyreError
 * `input`, never reads outside its window, and allocates only what it is asked for.
 */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8: 0x0c,
  printable: 0x13,
  teletex: 0x14,
  ia5: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  universal: 0x1c,
  bmp: 0x1e,
  sequence: 0x30,
  set: 0x31,
} as const;

/** Context-specific tag `[n]`, constructed (EXPLICIT, or IMPLICIT of a SEQUENCE). */
export const constructed = (n: number): number => 0xa0 | n;
/** Context-specific tag `[n]`, primitive (IMPLICIT of a primitive type). */
export const primitive = (n: number): number => 0x80 | n;

/** Nesting deeper than this is an attack or an accident: real certificates stay under 12. */
export const MAX_DEPTH = 32;

// ---- writer ---------------------------------------------------------------------------------------------------------

function lengthOfLength(length: number): number {
  if (length < 0x80) return 1;
  if (length < 0x100) return 2;
  if (length < 0x10000) return 3;
  return length < 0x1000000 ? 4 : 5;
}

function writeHead(out: Buffer, tag: number, length: number): number {
  out[0] = tag;
  const octets = lengthOfLength(length) - 1;
  if (octets === 0) {
    out[1] = length;
    return 2;
  }
  out[1] = 0x80 | octets;
  for (let i = 0; i < octets; i++) out[2 + i] = (length >>> (8 * (octets - 1 - i))) & 0xff;
  return 2 + octets;
}

/** One element with the given tag; its content is the parts, one after the other. */
export function tlv(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = Buffer.allocUnsafe(1 + lengthOfLength(length) + length);
  let at = writeHead(out, tag, length);
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

export const sequence = (...parts: readonly Uint8Array[]): Buffer => tlv(TAG.sequence, ...parts);
export const explicit = (n: number, ...parts: readonly Uint8Array[]): Buffer => tlv(constructed(n), ...parts);
export const octetString = (bytes: Uint8Array): Buffer => tlv(TAG.octetString, bytes);
export const utf8String = (text: string): Buffer => tlv(TAG.utf8, Buffer.from(text, "utf8"));
export const printableString = (text: string): Buffer => tlv(TAG.printable, Buffer.from(text, "latin1"));
export const ia5String = (text: string): Buffer => tlv(TAG.ia5, Buffer.from(text, "latin1"));
export const derNull = (): Buffer => Buffer.from([TAG.null, 0]);
export const boolean = (value: boolean): Buffer => Buffer.from([TAG.boolean, 1, value ? 0xff : 0]);

/** SET OF: the elements are sorted by their encoding (X.690 11.6). */
export const setOf = (...parts: readonly Uint8Array[]): Buffer =>
  tlv(TAG.set, ...(parts.length < 2 ? parts : [...parts].sort(Buffer.compare)));

/** A non-negative INTEGER. Bytes are read as an unsigned big-endian number. */
export function integer(value: number | bigint | Uint8Array): Buffer {
  if (typeof value !== "object") {
    if (value < 0) throw new RangeError("a negative INTEGER is never written");
    const hex = value.toString(16);
    return integer(Buffer.from(hex.length % 2 === 1 ? `0${hex}` : hex, "hex"));
  }
  let from = 0;
  while (from < value.length - 1 && value[from] === 0) from++;
  const bytes = value.subarray(from);
  if (bytes.length === 0) return Buffer.from([TAG.integer, 1, 0]);
  return (bytes[0]! & 0x80) === 0 ? tlv(TAG.integer, bytes) : tlv(TAG.integer, Buffer.from([0]), bytes);
}

/** A whole number of octets as BIT STRING, as signatures and keys are. */
export const bitString = (bytes: Uint8Array): Buffer => tlv(TAG.bitString, Buffer.from([0]), bytes);

/** A named bit list (X.690 11.2.2): trailing zero bits are left out. Bit 0 is the first one. */
export function namedBits(bits: readonly number[]): Buffer {
  if (bits.length === 0) return Buffer.from([TAG.bitString, 1, 0]);
  const highest = Math.max(...bits);
  const bytes = Buffer.alloc((highest >> 3) + 1);
  for (const bit of bits) bytes[bit >> 3]! |= 0x80 >> (bit & 7);
  return tlv(TAG.bitString, Buffer.from([7 - (highest & 7)]), bytes);
}

const oidCache = new Map<string, Buffer>();
/** OBJECT IDENTIFIER from dotted text. The text comes from code, or was checked by `isOid`. */
export function oid(dotted: string): Buffer {
  const known = oidCache.get(dotted);
  if (known !== undefined) return known;
  const arcs = dotted.split(".").map(BigInt);
  const bytes: number[] = [];
  const put = (arc: bigint) => {
    const groups = [Number(arc & 0x7fn)];
    for (let rest = arc >> 7n; rest > 0n; rest >>= 7n) groups.unshift(Number(rest & 0x7fn) | 0x80);
    bytes.push(...groups);
  };
  put(arcs[0]! * 40n + arcs[1]!);
  for (const arc of arcs.slice(2)) put(arc);
  const der = tlv(TAG.oid, Uint8Array.from(bytes));
  if (oidCache.size < MAX_CACHED_OIDS) oidCache.set(dotted, der);
  return der;
}

/** Whether the text is a dotted object identifier this writer takes. */
export function isOid(text: string): boolean {
  if (text.length > 128 || !/^[0-2](\.(0|[1-9]\d*))+$/.test(text)) return false;
  return text[0] === "2" || Number(text.split(".")[1]) < 40;
}

/**
 * A time as RFC 5280 4.1.2.5 wants it: UTCTime through 2049, GeneralizedTime from 2050 on, whole seconds (rounded
 * down), `Z`. Takes milliseconds since the epoch; years 0 to 9999.
 */
export function time(ms: number): Buffer {
  const text = new Date(Math.floor(ms / 1000) * 1000).toISOString();
  const digits = text.replace(/[-:T]|\.\d+/g, "");
  const year = Number(digits.slice(0, 4));
  if (text.length !== 24) throw new RangeError(`a time of year ${text.slice(0, 7)} cannot be written`);
  return year >= 1950 && year < 2050
    ? tlv(TAG.utcTime, Buffer.from(digits.slice(2), "latin1"))
    : tlv(TAG.generalizedTime, Buffer.from(digits, "latin1"));
}

/** What `time` can write: years 1950 to 9999; the last second also means "no end" (RFC 5280 4.1.2.5). */
export const isWritableTime = (ms: number): boolean =>
  ms >= Date.UTC(1950, 0, 1) && ms <= Date.UTC(9999, 11, 31, 23, 59, 59, 999);

// ---- reader ---------------------------------------------------------------------------------------------------------

const MAX_CACHED_OIDS = 512;
const dottedCache = new Map<string, string>();

function dotted(bytes: Buffer, start: number, end: number): string | undefined {
  const key = bytes.toString("latin1", start, end);
  const known = dottedCache.get(key);
  if (known !== undefined) return known;
  // 64 octets hold every identifier ever registered; the bound keeps BigInt arithmetic small.
  if (end <= start || end - start > 64 || (bytes[end - 1]! & 0x80) !== 0) return undefined;
  const arcs: string[] = [];
  let arc = 0n;
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!;
    if (arc === 0n && byte === 0x80) return undefined; // a padded arc (X.690 8.19.2)
    arc = (arc << 7n) | BigInt(byte & 0x7f);
    if ((byte & 0x80) !== 0) continue;
    if (arcs.length === 0) {
      const first = arc < 40n ? 0n : arc < 80n ? 1n : 2n;
      arcs.push(first.toString(), (arc - first * 40n).toString());
    } else arcs.push(arc.toString());
    arc = 0n;
  }
  const text = arcs.join(".");
  if (dottedCache.size < MAX_CACHED_OIDS) dottedCache.set(key, text);
  return text;
}

/**
 * Reads elements one after the other out of a window of a buffer. `what` names the thing being read in errors
 * (`certificate`, `certificate request`, …).
 */
export class DerReader {
  readonly bytes: Buffer;
  readonly what: string;
  readonly end: number;
  readonly depth: number;
  /** Where the next element begins. */
  pos: number;
  /** Bounds of the content of the element read last. */
  start = 0;
  stop = 0;

  constructor(bytes: Buffer, what: string, pos = 0, end = bytes.length, depth = 0) {
    this.bytes = bytes;
    this.what = what;
    this.pos = pos;
    this.end = end;
    this.depth = depth;
  }

  get done(): boolean {
    return this.pos >= this.end;
  }

  /** The tag of the next element, -1 at the end. */
  peek(): number {
    return this.pos < this.end ? this.bytes[this.pos]! : -1;
  }

  fail(why: string): never {
    throw new GyreError({
      code: "input",
      message: `${this.what} is malformed: ${why} (byte ${this.pos} of ${this.bytes.length})`,
    });
  }

  /** Reads one element, sets `start` and `stop`, and returns its tag. With `tag`: fails unless it is that one. */
  read(tag?: number): number {
    const { bytes, end } = this;
    const at = this.pos;
    if (at + 2 > end) this.fail("it ends where another element must follow");
    const seen = bytes[at]!;
    // What was found instead is not told: it may be a byte of a private key.
    if (tag !== undefined && seen !== tag) this.fail(`an element of tag 0x${tag.toString(16)} must be here`);
    if ((seen & 0x1f) === 0x1f) this.fail("tag numbers above 30 do not occur here");
    let length = bytes[at + 1]!;
    let body = at + 2;
    if (length >= 0x80) {
      const octets = length & 0x7f;
      if (octets === 0) this.fail("indefinite lengths are BER, not DER");
      if (octets > 4 || body + octets > end) this.fail("a length runs past the end");
      length = 0;
      for (let i = 0; i < octets; i++) length = length * 256 + bytes[body + i]!;
      body += octets;
      if (length < 0x80 || lengthOfLength(length) !== octets + 1) this.fail("a length is not written the shortest way");
    }
    if (length > end - body) this.fail("an element is longer than what holds it");
    this.start = body;
    this.stop = body + length;
    this.pos = this.stop;
    return seen;
  }

  /** Reads one element and returns a reader over its content. */
  enter(tag: number): DerReader {
    if (this.depth >= MAX_DEPTH) this.fail("it is nested too deeply");
    this.read(tag);
    return new DerReader(this.bytes, this.what, this.start, this.stop, this.depth + 1);
  }

  /** As `enter` when the next element has this tag; otherwise nothing is read. */
  optional(tag: number): DerReader | undefined {
    return this.peek() === tag ? this.enter(tag) : undefined;
  }

  /** The whole next element, header included, as a view. */
  element(tag?: number): Buffer {
    const from = this.pos;
    this.read(tag);
    return this.bytes.subarray(from, this.stop);
  }

  /** The content of the next element as a view. */
  content(tag: number): Buffer {
    this.read(tag);
    return this.bytes.subarray(this.start, this.stop);
  }

  /** Fails when something is left: DER has no room for trailing bytes. */
  finish(): void {
    if (this.pos < this.end) this.fail(`${this.end - this.pos} bytes too many`);
  }

  oid(): string {
    this.read(TAG.oid);
    return dotted(this.bytes, this.start, this.stop) ?? this.fail("an object identifier is malformed");
  }

  boolean(): boolean {
    this.read(TAG.boolean);
    const value = this.bytes[this.start];
    if (this.stop - this.start !== 1 || (value !== 0 && value !== 0xff)) this.fail("a BOOLEAN is neither 00 nor ff");
    return value !== 0;
  }

  /** The content octets of an INTEGER (two's complement), checked to be the shortest form. */
  integerBytes(tag: number = TAG.integer): Buffer {
    this.read(tag);
    const { bytes, start, stop } = this;
    if (stop === start) this.fail("an INTEGER is empty");
    const first = bytes[start]!;
    if (
      stop - start > 1 &&
      ((first === 0 && bytes[start + 1]! < 0x80) || (first === 0xff && bytes[start + 1]! >= 0x80))
    )
      this.fail("an INTEGER is not written the shortest way");
    return bytes.subarray(start, stop);
  }

  /** A small non-negative INTEGER: counts, versions, path lengths. */
  smallInteger(tag: number = TAG.integer): number {
    const bytes = this.integerBytes(tag);
    if (bytes.length > 6 || bytes[0]! >= 0x80) this.fail("a number is out of range");
    return bytes.readUIntBE(0, bytes.length);
  }

  /** The octets of a BIT STRING that is a whole number of octets. */
  bitString(): Buffer {
    this.read(TAG.bitString);
    if (this.stop === this.start || this.bytes[this.start] !== 0) this.fail("a BIT STRING is not whole octets");
    return this.bytes.subarray(this.start + 1, this.stop);
  }

  /** The set bits of a named bit list; at most the first 32 are looked at. */
  namedBits(tag: number = TAG.bitString): number[] {
    this.read(tag);
    const { bytes, start, stop } = this;
    if (stop === start) this.fail("a BIT STRING is empty");
    const unused = bytes[start]!;
    if (unused > 7 || (stop - start === 1 && unused !== 0)) this.fail("a BIT STRING has a wrong count of unused bits");
    const count = Math.min((stop - start - 1) * 8 - unused, 32);
    const set: number[] = [];
    for (let bit = 0; bit < count; bit++)
      if ((bytes[start + 1 + (bit >> 3)]! & (0x80 >> (bit & 7))) !== 0) set.push(bit);
    return set;
  }

  /** UTCTime or GeneralizedTime in the one form RFC 5280 4.1.2.5 allows, as milliseconds since the epoch. */
  time(): number {
    const tag = this.read();
    const { bytes, start, stop } = this;
    const short = tag === TAG.utcTime && stop - start === 13;
    const long = tag === TAG.generalizedTime && stop - start === 15;
    if (!(short || long) || bytes[stop - 1] !== 0x5a) this.fail("a time is not YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ");
    const two = (at: number): number => {
      const tens = bytes[at]! - 48;
      const ones = bytes[at + 1]! - 48;
      if (tens < 0 || tens > 9 || ones < 0 || ones > 9) this.fail("a time holds something other than digits");
      return tens * 10 + ones;
    };
    const yy = two(start);
    const year = short ? (yy < 50 ? 2000 + yy : 1900 + yy) : yy * 100 + two(start + 2);
    const at = short ? start + 2 : start + 4;
    const month = two(at);
    const day = two(at + 2);
    const hour = two(at + 4);
    const minute = two(at + 6);
    const second = two(at + 8);
    if (month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || second > 59)
      this.fail("a time does not exist in the calendar");
    return utc(year, month, day, hour, minute, second);
  }
}

const DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
function daysIn(year: number, month: number): number {
  return month === 2 && year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : DAYS[month - 1]!;
}

/** Date.UTC takes years 0 to 99 for 1900 to 1999. */
function utc(year: number, month: number, day: number, hour: number, minute: number, second: number): number {
  const ms = Date.UTC(year < 100 ? year + 400 : year, month - 1, day, hour, minute, second);
  return year < 100 ? ms - 146_097 * 86_400_000 : ms; // 400 years are always 146,097 days
}
