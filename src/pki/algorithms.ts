import { constants, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { GyreError } from "../errors.ts";
import { DerReader, derNull, oid, sequence, TAG } from "./der.ts";

/** Object identifiers of keys and signatures (RFC 3279, 4055, 5480, 5758, 8410), and what node:crypto calls them. */

export interface SignatureAlgorithm {
  /** As in the RFC that registers it: `ecdsa-with-SHA256`, `sha256WithRSAEncryption`, `Ed25519`, or the OID. */
  readonly name: string;
  /** The key type of node:crypto that can make it; undefined where this room cannot check it. */
  readonly keyType: "ec" | "rsa" | "ed25519" | undefined;
  readonly hash: string | null;
  /** RSASSA-PSS only. */
  readonly saltLength?: number;
}

const KNOWN: Readonly<Record<string, SignatureAlgorithm>> = {
  "1.2.840.10045.4.1": { name: "ecdsa-with-SHA1", keyType: "ec", hash: "sha1" },
  "1.2.840.10045.4.3.1": { name: "ecdsa-with-SHA224", keyType: "ec", hash: "sha224" },
  "1.2.840.10045.4.3.2": { name: "ecdsa-with-SHA256", keyType: "ec", hash: "sha256" },
  "1.2.840.10045.4.3.3": { name: "ecdsa-with-SHA384", keyType: "ec", hash: "sha384" },
  "1.2.840.10045.4.3.4": { name: "ecdsa-with-SHA512", keyType: "ec", hash: "sha512" },
  "1.2.840.113549.1.1.4": { name: "md5WithRSAEncryption", keyType: "rsa", hash: "md5" },
  "1.2.840.113549.1.1.5": { name: "sha1WithRSAEncryption", keyType: "rsa", hash: "sha1" },
  "1.2.840.113549.1.1.14": { name: "sha224WithRSAEncryption", keyType: "rsa", hash: "sha224" },
  "1.2.840.113549.1.1.11": { name: "sha256WithRSAEncryption", keyType: "rsa", hash: "sha256" },
  "1.2.840.113549.1.1.12": { name: "sha384WithRSAEncryption", keyType: "rsa", hash: "sha384" },
  "1.2.840.113549.1.1.13": { name: "sha512WithRSAEncryption", keyType: "rsa", hash: "sha512" },
  "1.3.101.112": { name: "Ed25519", keyType: "ed25519", hash: null },
};
const PSS = "1.2.840.113549.1.1.10";
const HASHES: Readonly<Record<string, string>> = {
  "1.3.14.3.2.26": "sha1",
  "2.16.840.1.101.3.4.2.1": "sha256",
  "2.16.840.1.101.3.4.2.2": "sha384",
  "2.16.840.1.101.3.4.2.3": "sha512",
};

/** Reads an AlgorithmIdentifier of a signature. An unknown one is no error: its `keyType` is undefined. */
export function readSignatureAlgorithm(der: Buffer, what: string): SignatureAlgorithm {
  const reader = new DerReader(der, what).enter(TAG.sequence);
  const id = reader.oid();
  if (id === PSS) return readPss(reader);
  return KNOWN[id] ?? { name: id, keyType: undefined, hash: null };
}

/** RSASSA-PSS-params (RFC 4055 3.1). The mask hash must equal the hash: all that node:crypto can check. */
function readPss(reader: DerReader): SignatureAlgorithm {
  const unchecked = { name: "rsassaPss", keyType: undefined, hash: null } as const;
  const params = reader.optional(TAG.sequence);
  const hashOf = (n: number): string | undefined => {
    const outer = params?.optional(0xa0 | n);
    if (outer === undefined) return "sha1";
    const algorithm = outer.enter(TAG.sequence);
    const id = algorithm.oid();
    return n === 1 ? HASHES[algorithm.enter(TAG.sequence).oid()] : HASHES[id];
  };
  const hash = hashOf(0);
  const mask = hashOf(1);
  const saltLength = params?.optional(0xa2)?.smallInteger() ?? 20;
  if (hash === undefined || hash !== mask) return unchecked;
  return { name: "rsassaPss", keyType: "rsa", hash, saltLength };
}

const EC = "1.2.840.10045.2.1";
const CURVES: Readonly<Record<string, string>> = {
  "1.2.840.10045.3.1.7": "P-256",
  "1.3.132.0.34": "P-384",
  "1.3.132.0.35": "P-521",
};
const OTHER_KEYS: Readonly<Record<string, string>> = {
  "1.3.101.112": "Ed25519",
  "1.3.101.113": "Ed448",
  "1.3.101.110": "X25519",
  "1.2.840.10040.4.1": "DSA",
};

/** The AlgorithmIdentifiers nearly all certificates have, as octets: found without reading them. */
const COMMON = new Map([
  ...Object.entries(CURVES).map(([id, name]) => [sequence(oid(EC), oid(id)).toString("latin1"), name] as const),
  [sequence(oid("1.3.101.112")).toString("latin1"), "Ed25519"] as const,
]);

/** `P-256`, `RSA-2048`, `Ed25519` …, or the OID, from a SubjectPublicKeyInfo, without making a key of it. */
export function readKeyAlgorithm(spkiDer: Buffer, what: string): string {
  const spki = new DerReader(spkiDer, what).enter(TAG.sequence);
  const at = spki.pos;
  const common = COMMON.get(spki.element(TAG.sequence).toString("latin1"));
  if (common !== undefined) return common;
  spki.pos = at;
  const algorithm = spki.enter(TAG.sequence);
  const id = algorithm.oid();
  if (id === EC) {
    const curve = algorithm.peek() === TAG.oid ? algorithm.oid() : "explicit";
    return CURVES[curve] ?? `EC-${curve}`;
  }
  if (id === "1.2.840.113549.1.1.1" || id === PSS) {
    const key = spki.bitString();
    const modulus = new DerReader(key, what).enter(TAG.sequence).integerBytes();
    return `RSA-${bitLength(modulus)}`;
  }
  return OTHER_KEYS[id] ?? id;
}

function bitLength(unsigned: Buffer): number {
  let from = 0;
  while (from < unsigned.length - 1 && unsigned[from] === 0) from++;
  return (unsigned.length - from - 1) * 8 + (32 - Math.clz32(unsigned[from]!));
}

/** What node:crypto makes of a SubjectPublicKeyInfo. Throws GyreError `input`: off the curve, unknown algorithm. */
export function publicKeyOf(spkiDer: Buffer, what: string): KeyObject {
  try {
    return createPublicKey({ key: spkiDer, format: "der", type: "spki" });
  } catch (cause) {
    throw new GyreError({ code: "input", message: `${what}: its public key cannot be used`, cause });
  }
}

// ---- making and checking signatures ---------------------------------------------------------------------------------

const ecdsa = (id: string) => sequence(oid(id));
const BY_KEY: Readonly<Record<string, { readonly hash: string | null; readonly der: Buffer }>> = {
  "P-256": { hash: "sha256", der: ecdsa("1.2.840.10045.4.3.2") },
  "P-384": { hash: "sha384", der: ecdsa("1.2.840.10045.4.3.3") },
  "P-521": { hash: "sha512", der: ecdsa("1.2.840.10045.4.3.4") },
  Ed25519: { hash: null, der: ecdsa("1.3.101.112") },
};
const RSA = { hash: "sha256", der: sequence(oid("1.2.840.113549.1.1.11"), derNull()) };

/** The AlgorithmIdentifier and hash a key of this algorithm signs with (RFC 5758, RFC 4055, RFC 8410). */
export function signatureFor(keyAlgorithm: string): { readonly hash: string | null; readonly der: Buffer } {
  const known = keyAlgorithm.startsWith("RSA-") ? RSA : BY_KEY[keyAlgorithm];
  if (known === undefined)
    throw new GyreError({ code: "input", message: `a key of algorithm ${keyAlgorithm} cannot sign here` });
  return known;
}

/** Signs bytes the way X.509 writes signatures (ECDSA as DER). */
export const signBytes = (key: { readonly algorithm: string; readonly keyObject: KeyObject }, bytes: Buffer): Buffer =>
  sign(signatureFor(key.algorithm).hash, bytes, key.keyObject);

/** Whether `signature` over `bytes` was made by the holder of `key`. A key of another type is simply no. */
export function checkSignature(
  algorithm: SignatureAlgorithm,
  bytes: Buffer,
  signature: Buffer,
  key: KeyObject,
): boolean {
  if (algorithm.keyType === undefined || key.asymmetricKeyType !== algorithm.keyType) return false;
  try {
    if (algorithm.saltLength === undefined) return verify(algorithm.hash, bytes, key, signature);
    const { saltLength } = algorithm;
    return verify(algorithm.hash, bytes, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength }, signature);
  } catch {
    return false; // OpenSSL throws on signatures that are no signature at all
  }
}
