import { createCipheriv, createDecipheriv, createHash, pbkdf2Sync, randomBytes } from "node:crypto";
import { GyreError } from "../errors.ts";
import { type DerReader, derNull, integer, octetString, oid, sequence, TAG } from "./der.ts";

/**
 * Password-based encryption of PKCS#8 and PKCS#12: PBES2 with PBKDF2 (RFC 8018) for writing, and for reading also the
 * SHA-1/3DES scheme of PKCS#12 (RFC 7292 appendix B), which stores from older Java and OpenSSL use.
 */

/** More rounds than any tool writes; a file that asks for more wants to stop us, not to be read. */
export const MAX_ITERATIONS = 5_000_000;
/** The same for PKCS#12's own derivation, which runs in JavaScript: a million rounds take about a second. */
export const MAX_PKCS12_ITERATIONS = 1_000_000;
/** OWASP's number for PBKDF2-HMAC-SHA256 (2023). */
export const KEY_ITERATIONS = 600_000;

const PBES2 = "1.2.840.113549.1.5.13";
const PBKDF2 = "1.2.840.113549.1.5.12";
const SCRYPT = "1.3.6.1.4.1.11591.4.11";
const PKCS12_3DES = "1.2.840.113549.1.12.1.3";
const AES_256_CBC = "2.16.840.1.101.3.4.1.42";
const CIPHERS: Readonly<Record<string, { readonly name: string; readonly key: number; readonly iv: number }>> = {
  "2.16.840.1.101.3.4.1.2": { name: "aes-128-cbc", key: 16, iv: 16 },
  "2.16.840.1.101.3.4.1.22": { name: "aes-192-cbc", key: 24, iv: 16 },
  [AES_256_CBC]: { name: "aes-256-cbc", key: 32, iv: 16 },
  "1.2.840.113549.3.7": { name: "des-ede3-cbc", key: 24, iv: 8 },
};
const PRFS: Readonly<Record<string, string>> = {
  "1.2.840.113549.2.7": "sha1",
  "1.2.840.113549.2.9": "sha256",
  "1.2.840.113549.2.10": "sha384",
  "1.2.840.113549.2.11": "sha512",
};

/** The error of every decryption that did not work out: padding and structure cannot tell the two causes apart. */
export const wrongPassphrase = (what: string): GyreError =>
  new GyreError({
    code: "input",
    message: `${what}: wrong passphrase, or the file is damaged; nothing was read from it`,
    next: "check the passphrase",
  });

/** Encrypts with PBES2 (PBKDF2-HMAC-SHA256, AES-256-CBC): the AlgorithmIdentifier and the ciphertext. */
export function encryptPbes2(plain: Uint8Array, passphrase: Uint8Array, iterations: number) {
  const salt = randomBytes(16);
  const iv = randomBytes(16);
  const key = pbkdf2Sync(passphrase, salt, iterations, 32, "sha256");
  const cipher = createCipheriv("aes-256-cbc", key, iv);
  const data = Buffer.concat([cipher.update(plain), cipher.final()]);
  key.fill(0);
  const prf = sequence(oid("1.2.840.113549.2.9"), derNull());
  const kdf = sequence(oid(PBKDF2), sequence(octetString(salt), integer(iterations), prf));
  const algorithm = sequence(oid(PBES2), sequence(kdf, sequence(oid(AES_256_CBC), octetString(iv))));
  return { algorithm, data };
}

/**
 * Decrypts `data` as its AlgorithmIdentifier says. `passphrase` is the text as UTF-8. Throws GyreError `input`: wrong
 * passphrase, an algorithm this room does not have, or a number of rounds meant to hang the reader.
 */
export function decryptPbe(algorithm: DerReader, data: Buffer, passphrase: Buffer): Buffer {
  const { what } = algorithm;
  const id = algorithm.oid();
  const params = algorithm.enter(TAG.sequence);
  if (id === PBES2) return decryptPbes2(params, data, passphrase);
  if (id !== PKCS12_3DES) return unsupported(what, id);
  const salt = params.content(TAG.octetString);
  const iterations = rounds(params, MAX_PKCS12_ITERATIONS);
  const password = pkcs12Password(passphrase);
  const key = pkcs12Kdf("sha1", 1, password, salt, iterations, 24);
  const iv = pkcs12Kdf("sha1", 2, password, salt, iterations, 8);
  return decipher("des-ede3-cbc", key, iv, data, what);
}

function decryptPbes2(params: DerReader, data: Buffer, passphrase: Buffer): Buffer {
  const kdf = params.enter(TAG.sequence);
  const kdfId = kdf.oid();
  const scheme = params.enter(TAG.sequence);
  const cipherId = scheme.oid();
  const cipher = CIPHERS[cipherId];
  if (kdfId !== PBKDF2) return unsupported(params.what, kdfId);
  if (cipher === undefined) return unsupported(params.what, cipherId);
  const inner = kdf.enter(TAG.sequence);
  const salt = inner.content(TAG.octetString);
  const iterations = rounds(inner);
  if (inner.peek() === TAG.integer && inner.smallInteger() !== cipher.key) inner.fail("the key length fits no cipher");
  const prf = inner.optional(TAG.sequence)?.oid() ?? "1.2.840.113549.2.7";
  const hash = PRFS[prf] ?? unsupported(params.what, prf);
  const iv = scheme.content(TAG.octetString);
  if (iv.length !== cipher.iv) scheme.fail("an initialisation vector has the wrong length");
  return decipher(cipher.name, pbkdf2Sync(passphrase, salt, iterations, cipher.key, hash), iv, data, params.what);
}

/** Reads an iteration count within bounds. */
export function rounds(reader: DerReader, most = MAX_ITERATIONS): number {
  const iterations = reader.smallInteger();
  if (iterations < 1 || iterations > most)
    reader.fail(`it asks for ${iterations} rounds of key derivation; at most ${most} are done`);
  return iterations;
}

function decipher(name: string, key: Buffer, iv: Buffer, data: Buffer, what: string): Buffer {
  try {
    const cipher = createDecipheriv(name, key, iv);
    return Buffer.concat([cipher.update(data), cipher.final()]);
  } catch {
    throw wrongPassphrase(what);
  } finally {
    key.fill(0);
  }
}

function unsupported(what: string, id: string): never {
  const name = id === SCRYPT ? "scrypt" : id;
  throw new GyreError({
    code: "input",
    message: `${what}: it is encrypted with ${name}, which is not supported`,
    next: "re-encrypt it with `openssl pkcs8 -topk8 -v2 aes-256-cbc` or, a key store, with OpenSSL 3 or Java 17",
  });
}

// ---- RFC 7292 appendix B --------------------------------------------------------------------------------------------

/** The passphrase as PKCS#12 wants it: UTF-16BE with two zero octets at the end (RFC 7292 B.1). */
export function pkcs12Password(utf8: Buffer): Buffer {
  const text = Buffer.from(`${utf8.toString("utf8")}\0`, "utf16le");
  return text.swap16();
}

const BLOCK: Readonly<Record<string, number>> = { sha1: 64, sha256: 64, sha384: 128, sha512: 128 };

/** Key derivation of PKCS#12 (RFC 7292 B.2). `purpose`: 1 key, 2 IV, 3 MAC key. */
export function pkcs12Kdf(
  hash: string,
  purpose: 1 | 2 | 3,
  password: Buffer,
  salt: Buffer,
  iterations: number,
  length: number,
) {
  const v = BLOCK[hash]!;
  const diversifier = Buffer.alloc(v, purpose);
  const blocks = Buffer.concat([stretch(salt, v), stretch(password, v)]);
  const out: Buffer[] = [];
  for (let have = 0; have < length; ) {
    let a = createHash(hash).update(diversifier).update(blocks).digest();
    for (let i = 1; i < iterations; i++) a = createHash(hash).update(a).digest();
    out.push(a);
    have += a.length;
    if (have < length) addToEach(blocks, stretch(a, v, v), v);
  }
  return Buffer.concat(out).subarray(0, length);
}

/** Repeats bytes up to a multiple of `v` (or to `exactly`). Nothing stays nothing. */
function stretch(bytes: Buffer, v: number, exactly = Math.ceil(bytes.length / v) * v): Buffer {
  const out = Buffer.alloc(bytes.length === 0 ? 0 : exactly);
  for (let i = 0; i < out.length; i++) out[i] = bytes[i % bytes.length]!;
  return out;
}

/** Step 6C: each v-octet block becomes (block + b + 1) mod 2^(8v). */
function addToEach(blocks: Buffer, b: Buffer, v: number): void {
  for (let at = 0; at < blocks.length; at += v) {
    let carry = 1;
    for (let i = v - 1; i >= 0; i--) {
      carry += blocks[at + i]! + b[i]!;
      blocks[at + i] = carry & 0xff;
      carry >>= 8;
    }
  }
}
