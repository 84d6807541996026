import {
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  hash,
  type KeyObject,
  randomBytes,
  sign,
  verify,
} from "node:crypto";
import { promisify } from "node:util";
import { GyreError } from "../errors.ts";
import { signatureFor } from "./algorithms.ts";
import { DerReader, integer, octetString, oid, sequence, TAG } from "./der.ts";
import { decryptPbe, encryptPbes2, KEY_ITERATIONS, wrongPassphrase } from "./pbes.ts";
import { looksLikeDer, nothingFound, type PemBlock, parsePem, toPem } from "./pem.ts";
import { Secret } from "./secret.ts";

export type KeyAlgorithm = "P-256" | "P-384" | "Ed25519" | "RSA-2048" | "RSA-3072" | "RSA-4096";
export const KEY_ALGORITHMS: readonly KeyAlgorithm[] = [
  "P-256",
  "P-384",
  "Ed25519",
  "RSA-2048",
  "RSA-3072",
  "RSA-4096",
];

/** A private key in memory. Its bytes leave only through `exportPrivateKey`, as a Secret. */
export interface PrivateKey {
  /** A KeyAlgorithm, or what a key of somebody else is: `P-521`, `RSA-1024`. */
  readonly algorithm: string;
  readonly keyObject: KeyObject;
  /** DER SubjectPublicKeyInfo. */
  readonly spkiDer: Buffer;
  /** SHA-256 of `spkiDer`, lower-case hex. */
  readonly spki: string;
}

const generate = promisify(generateKeyPair);

/** Makes a key off the main thread: RSA-4096 takes seconds. */
export async function generateKey(algorithm: KeyAlgorithm): Promise<PrivateKey> {
  const { privateKey } = await makePair(algorithm);
  return wrap(privateKey, "new key");
}

function makePair(algorithm: KeyAlgorithm): Promise<{ privateKey: KeyObject }> {
  switch (algorithm) {
    case "P-256":
    case "P-384":
      return generate("ec", { namedCurve: algorithm });
    case "Ed25519":
      return generate("ed25519", {});
    case "RSA-2048":
    case "RSA-3072":
    case "RSA-4096":
      return generate("rsa", { modulusLength: Number(algorithm.slice(4)) });
    default:
      algorithm satisfies never;
      throw new GyreError({ code: "input", message: `key algorithm ${JSON.stringify(algorithm)} is not known` });
  }
}

/** SHA-256 of a DER SubjectPublicKeyInfo, lower-case hex. */
export const spkiDigest = (spkiDer: Buffer): string => hash("sha256", spkiDer, "hex");

const CURVES: Readonly<Record<string, string>> = { prime256v1: "P-256", secp384r1: "P-384", secp521r1: "P-521" };

function wrap(keyObject: KeyObject, what: string): PrivateKey {
  const algorithm = algorithmOf(keyObject);
  if (algorithm === undefined)
    throw new GyreError({
      code: "input",
      message: `${what}: a key of type ${keyObject.asymmetricKeyType ?? "unknown"} cannot be used for certificates here`,
      next: `use one of ${KEY_ALGORITHMS.join(", ")}`,
    });
  const spkiDer = createPublicKey(keyObject).export({ type: "spki", format: "der" });
  return { algorithm, keyObject, spkiDer, spki: spkiDigest(spkiDer) };
}

function algorithmOf(key: KeyObject): string | undefined {
  const { namedCurve, modulusLength } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case "ec":
      return CURVES[namedCurve ?? ""];
    case "ed25519":
      return "Ed25519";
    case "rsa":
      return `RSA-${modulusLength}`;
    default:
      return undefined;
  }
}

// ---- reading --------------------------------------------------------------------------------------------------------

export type Passphrase = Secret | string;

const passphraseBytes = <T>(passphrase: Passphrase, fn: (bytes: Buffer) => T): T =>
  typeof passphrase === "string" ? fn(Buffer.from(passphrase, "utf8")) : passphrase.use(fn);

/**
 * Reads the one private key of a PEM text (PKCS#8, encrypted PKCS#8, PKCS#1, SEC1, Talos' `ED25519 PRIVATE KEY`, legacy
 * `Proc-Type` encryption) or DER. A label is not believed: what the bytes are decides. Throws GyreError `input`, which
 * never holds a byte of the key: no key, several keys, passphrase missing or wrong, an algorithm of no use.
 */
export function readPrivateKey(
  input: Secret | string | Uint8Array,
  passphrase?: Passphrase,
  where = "private key",
): PrivateKey {
  if (input instanceof Secret) return input.use((bytes) => readPrivateKey(bytes, passphrase, where));
  if (looksLikeDer(input)) return wrap(readDer(Buffer.from(input), passphrase, where), where);
  const file = parsePem(input, where);
  const keys = file.blocks.filter((block) => KEY_KINDS.has(block.kind));
  const [block, second] = keys;
  if (block === undefined) throw nothingFound("private key", file, where);
  if (second !== undefined)
    throw new GyreError({
      code: "input",
      message: `found ${keys.length} private keys (lines ${keys.map((key) => key.line).join(", ")}) where one is expected`,
      where,
    });
  const at = `${where}:${block.line}`;
  const encrypted = block.headers["Proc-Type"]?.includes("ENCRYPTED") === true;
  return wrap(encrypted ? readLegacy(block, passphrase, at) : readDer(block.der, passphrase, at), at);
}

const KEY_KINDS: ReadonlySet<string> = new Set(["pkcs8", "encrypted-pkcs8", "pkcs1", "sec1", "ed25519"]);

function needed(passphrase: Passphrase | undefined, what: string): Passphrase {
  if (passphrase !== undefined) return passphrase;
  throw new GyreError({ code: "input", message: `${what}: it is encrypted and no passphrase was given` });
}

/** OpenSSL's own encryption of PEM bodies (`DEK-Info`): node:crypto knows it from the text. */
function readLegacy(block: PemBlock, passphrase: Passphrase | undefined, what: string): KeyObject {
  const dek = block.headers["DEK-Info"] ?? "";
  if (!/^[A-Z0-9-]{1,32},[0-9A-Fa-f]{16,32}$/.test(dek))
    throw new GyreError({ code: "input", message: `${what}: its DEK-Info header is missing or malformed` });
  const text = toPem(block.label, block.der).replace("\n", `\nProc-Type: 4,ENCRYPTED\nDEK-Info: ${dek}\n\n`);
  return passphraseBytes(needed(passphrase, what), (bytes) => {
    try {
      return createPrivateKey({ key: text, format: "pem", passphrase: bytes });
    } catch {
      throw wrongPassphrase(what);
    }
  });
}

/** Tells the formats apart by their first elements, since labels lie (Talos, and tools that rename). */
function readDer(der: Buffer, passphrase: Passphrase | undefined, what: string): KeyObject {
  if (der.length === 32) return open(ed25519FromSeed(der), "pkcs8", what);
  const outer = new DerReader(der, what);
  const body = outer.enter(TAG.sequence);
  outer.finish();
  if (body.peek() === TAG.sequence) return readEncrypted(body, passphrase, what);
  body.smallInteger();
  if (body.peek() === TAG.integer) return open(der, "pkcs1", what);
  if (body.peek() === TAG.octetString) return open(der, "sec1", what);
  // RFC 5958 version 2 repeats the public key, which OpenSSL 3.0 (Node 22) refuses: only what version 1 has is passed on.
  const algorithm = body.element(TAG.sequence);
  return open(sequence(integer(0), algorithm, octetString(body.content(TAG.octetString))), "pkcs8", what);
}

function readEncrypted(body: DerReader, passphrase: Passphrase | undefined, what: string): KeyObject {
  const algorithm = body.enter(TAG.sequence);
  const data = body.content(TAG.octetString);
  body.finish();
  const plain = passphraseBytes(needed(passphrase, what), (bytes) => decryptPbe(algorithm, data, bytes));
  try {
    return readDer(plain, undefined, what);
  } catch {
    throw wrongPassphrase(what); // padding fits by chance once in 256 tries; then the structure does not
  } finally {
    plain.fill(0);
  }
}

const ed25519FromSeed = (seed: Buffer): Buffer =>
  sequence(integer(0), sequence(oid("1.3.101.112")), octetString(octetString(seed)));

function open(der: Buffer, type: "pkcs8" | "pkcs1" | "sec1", what: string): KeyObject {
  try {
    return createPrivateKey({ key: der, format: "der", type });
  } catch {
    // OpenSSL's own words are left out: they say nothing to an operator, and must never quote the key.
    throw new GyreError({ code: "input", message: `${what}: its bytes are no private key (as ${type.toUpperCase()})` });
  }
}

// ---- writing --------------------------------------------------------------------------------------------------------

/**
 * PKCS#8 PEM of a key: `PRIVATE KEY`, or with a passphrase `ENCRYPTED PRIVATE KEY` (PBES2, PBKDF2-HMAC-SHA256,
 * AES-256-CBC), which openssl and Java read.
 */
export function exportPrivateKey(key: PrivateKey, passphrase?: Passphrase, iterations = KEY_ITERATIONS): Secret {
  const der = exportPkcs8(key.keyObject);
  try {
    if (passphrase === undefined) return Secret.of(toPem("PRIVATE KEY", der));
    if (passphrase.length === 0)
      throw new GyreError({ code: "input", message: "a private key is not encrypted with an empty passphrase" });
    const { algorithm, data } = passphraseBytes(passphrase, (bytes) => encryptPbes2(der, bytes, iterations));
    return Secret.of(toPem("ENCRYPTED PRIVATE KEY", sequence(algorithm, octetString(data))));
  } finally {
    der.fill(0);
  }
}

/** DER PKCS#8. The caller wipes it. */
export const exportPkcs8 = (keyObject: KeyObject): Buffer => keyObject.export({ type: "pkcs8", format: "der" });

// ---- matching -------------------------------------------------------------------------------------------------------

/**
 * Whether the key belongs to the certificate. Comparing public keys is not enough: a damaged file can carry the right
 * public half beside another private one, so something is signed and checked with the certificate's key.
 */
export function keyMatches(
  certificate: { readonly spkiDer: Buffer; readonly publicKey: KeyObject },
  key: PrivateKey,
): boolean {
  const theirs = certificate.publicKey;
  // In Node 24 comparing keys of two types leaves an error in OpenSSL's queue, which the next key that is read trips over.
  if (theirs.asymmetricKeyType !== key.keyObject.asymmetricKeyType) return false;
  if (!certificate.spkiDer.equals(key.spkiDer) && !theirs.equals(createPublicKey(key.keyObject))) return false;
  const challenge = randomBytes(32);
  const { hash: digest } = signatureFor(key.algorithm);
  try {
    return verify(digest, challenge, theirs, sign(digest, challenge, key.keyObject));
  } catch {
    return false;
  }
}

/** As `keyMatches`, as an error for the person who gave both. `what` names them. */
export function requireMatch(
  certificate: {
    readonly spkiDer: Buffer;
    readonly publicKey: KeyObject;
    readonly spki: string;
    readonly subject: string;
  },
  key: PrivateKey,
  what = "certificate and key",
): void {
  if (keyMatches(certificate, key)) return;
  throw new GyreError({
    code: "input",
    message:
      `${what}: the private key is not the one of certificate ${JSON.stringify(certificate.subject)} ` +
      `(its public key is sha256:${certificate.spki}, the private key's is sha256:${key.spki})`,
    next: "give the key that belongs to this certificate",
  });
}
