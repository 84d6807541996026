import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { GyreError } from "../errors.ts";
import type { Certificate } from "./certificate.ts";
import { DerReader, derNull, octetString, oid, sequence, TAG } from "./der.ts";
import { checkStore, type KeyEntry, type KeyStore, storedCertificate, type TrustEntry } from "./key-store.ts";
import { exportPkcs8, type Passphrase, readPrivateKey } from "./keys.ts";
import { wrongPassphrase } from "./pbes.ts";
import { Secret } from "./secret.ts";

/**
 * Java's own key store format `JKS` (sun.security.provider.JavaKeyStore, KeyProtector), for consumers that cannot be
 * moved to PKCS#12. Its protection is SHA-1 and XOR: whoever reads the file can try passphrases at full speed.
 */
const MAGIC = 0xfeedfeed;
const VERSION = 2;
const KEY_ENTRY = 1;
const TRUST_ENTRY = 2;
const KEY_PROTECTOR = "1.3.6.1.4.1.42.2.17.1.1";
const SALT = 20;
const DIGEST = 20;
/** JavaKeyStore mixes this text into its integrity digest. */
const WHITENER = "Mighty Aphrodite";

/** Java takes each UTF-16 unit of a passphrase as two octets. */
const passwordOf = <T>(passphrase: Passphrase, fn: (bytes: Buffer) => T): T =>
  (typeof passphrase === "string" ? Secret.of(passphrase) : passphrase).use((utf8) => {
    const bytes = Buffer.from(utf8.toString("utf8"), "utf16le").swap16();
    try {
      return fn(bytes);
    } finally {
      bytes.fill(0);
    }
  });

const sha1 = (...parts: readonly (Uint8Array | string)[]): Buffer => {
  const digest = createHash("sha1");
  for (const part of parts) digest.update(part);
  return digest.digest();
};

// ---- writing --------------------------------------------------------------------------------------------------------

/** A JKS key or trust store. `at` (ms) is the creation date of its entries. Throws GyreError `input` as writePkcs12. */
export function writeJks(store: KeyStore, passphrase: Passphrase, at: number, what = "JKS store"): Buffer {
  checkStore(store, what);
  return passwordOf(passphrase, (password) => {
    const body = Buffer.concat([
      u32(MAGIC),
      u32(VERSION),
      u32(store.keys.length + store.trusted.length),
      ...store.keys.map((entry) => keyEntry(entry, password, at)),
      ...store.trusted.map((entry) => trustEntry(entry, at)),
    ]);
    return Buffer.concat([body, sha1(password, WHITENER, body)]);
  });
}

function u32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "utf8");
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes]);
}

function date(ms: number): Buffer {
  const out = Buffer.alloc(8);
  out.writeBigInt64BE(BigInt(Math.floor(ms)));
  return out;
}

const certificateRecord = (certificate: Certificate): Buffer =>
  Buffer.concat([text("X.509"), u32(certificate.der.length), certificate.der]);

// JavaKeyStore looks aliases up in lower case.
const trustEntry = ({ alias, certificate }: TrustEntry, at: number): Buffer =>
  Buffer.concat([u32(TRUST_ENTRY), text(alias.toLowerCase()), date(at), certificateRecord(certificate)]);

function keyEntry({ alias, key, chain }: KeyEntry, password: Buffer, at: number): Buffer {
  const plain = exportPkcs8(key.keyObject);
  const salt = randomBytes(SALT);
  const protectedKey = Buffer.concat([salt, xor(plain, password, salt), sha1(password, plain)]);
  plain.fill(0);
  const der = sequence(sequence(oid(KEY_PROTECTOR), derNull()), octetString(protectedKey));
  return Buffer.concat([
    u32(KEY_ENTRY),
    text(alias.toLowerCase()),
    date(at),
    u32(der.length),
    der,
    u32(chain.length),
    ...chain.map(certificateRecord),
  ]);
}

/** KeyProtector's stream: SHA-1 of passphrase and salt, then of passphrase and the block before. Its own inverse. */
function xor(bytes: Buffer, password: Buffer, salt: Buffer): Buffer {
  const out = Buffer.from(bytes);
  let block = salt;
  for (let i = 0; i < out.length; i++) {
    if (i % DIGEST === 0) block = sha1(password, block);
    out[i]! ^= block[i % DIGEST]!;
  }
  return out;
}

// ---- reading --------------------------------------------------------------------------------------------------------

/** Reads a JKS store. Throws GyreError `input`: wrong passphrase, damage, JCEKS or another format. */
export function readJks(input: Uint8Array, passphrase: Passphrase, what = "JKS store"): KeyStore {
  const file = Buffer.from(input);
  const magic = file.length < 32 ? 0 : file.readUInt32BE(0);
  if (magic !== MAGIC) throw notJks(what, magic === 0xcececece ? "it is a JCEKS store" : "it is no JKS store");
  return passwordOf(passphrase, (password) => {
    const body = file.subarray(0, file.length - DIGEST);
    if (!timingSafeEqual(sha1(password, WHITENER, body), file.subarray(file.length - DIGEST)))
      throw wrongPassphrase(what);
    return readEntries(new Cursor(body, what), password, what);
  });
}

const notJks = (what: string, why: string): GyreError =>
  new GyreError({
    code: "input",
    message: `${what}: ${why}`,
    next: "convert it with `keytool -importkeystore -deststoretype PKCS12`",
  });

class Cursor {
  readonly #bytes: Buffer;
  readonly what: string;
  #pos = 4;
  constructor(bytes: Buffer, what: string) {
    this.#bytes = bytes;
    this.what = what;
  }
  take(length: number): Buffer {
    const from = this.#pos;
    if (length > this.#bytes.length - from)
      throw new GyreError({ code: "input", message: `${this.what} is malformed: it ends early (byte ${from})` });
    this.#pos += length;
    return this.#bytes.subarray(from, this.#pos);
  }
  u32(): number {
    return this.take(4).readUInt32BE();
  }
  text(): string {
    return this.take(this.take(2).readUInt16BE()).toString("utf8");
  }
  get left(): number {
    return this.#bytes.length - this.#pos;
  }
}

function readEntries(cursor: Cursor, password: Buffer, what: string): KeyStore {
  const version = cursor.u32();
  if (version !== 1 && version !== VERSION) throw notJks(what, `version ${version} is not known`);
  const keys: KeyEntry[] = [];
  const trusted: TrustEntry[] = [];
  for (let count = cursor.u32(); count > 0; count--) {
    const tag = cursor.u32();
    const alias = cursor.text();
    cursor.take(8);
    if (tag === TRUST_ENTRY) trusted.push({ alias, certificate: readCertificate(cursor, version, what) });
    else if (tag === KEY_ENTRY) keys.push(readKeyEntry(cursor, alias, version, password, what));
    else throw notJks(what, `an entry of type ${tag} is not known`);
  }
  if (cursor.left > 0) throw notJks(what, `${cursor.left} bytes too many`);
  return { keys, trusted, others: [] };
}

function readCertificate(cursor: Cursor, version: number, what: string): Certificate {
  const type = version === 1 ? "X.509" : cursor.text();
  if (type !== "X.509") throw notJks(what, `a certificate of type ${JSON.stringify(type)} is not supported`);
  return storedCertificate(cursor.take(cursor.u32()), what);
}

function readKeyEntry(cursor: Cursor, alias: string, version: number, password: Buffer, what: string): KeyEntry {
  const plain = unprotect(cursor.take(cursor.u32()), password, what);
  const chain: Certificate[] = [];
  for (let count = cursor.u32(); count > 0; count--) chain.push(readCertificate(cursor, version, what));
  try {
    return { alias, key: readPrivateKey(plain, undefined, `${what}: key`), chain };
  } finally {
    plain.fill(0);
  }
}

function unprotect(der: Buffer, password: Buffer, what: string): Buffer {
  const body = new DerReader(der, what).enter(TAG.sequence);
  const algorithm = body.enter(TAG.sequence).oid();
  if (algorithm !== KEY_PROTECTOR) throw notJks(what, `a key protected with ${algorithm} is not supported`);
  const bytes = body.content(TAG.octetString);
  if (bytes.length < SALT + DIGEST) body.fail("a protected key is too short");
  const plain = xor(bytes.subarray(SALT, bytes.length - DIGEST), password, bytes.subarray(0, SALT));
  // Java lets a key have a passphrase of its own; such stores need both, which Gyre's settings do not have.
  if (timingSafeEqual(sha1(password, plain), bytes.subarray(bytes.length - DIGEST))) return plain;
  throw wrongPassphrase(`${what}: key`);
}
