import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { berToDer, joinPieces } from "./ber.ts";
import type { Certificate } from "./certificate.ts";
import {
  constructed,
  DerReader,
  derNull,
  explicit,
  integer,
  octetString,
  oid,
  primitive,
  sequence,
  setOf,
  TAG,
  tlv,
} from "./der.ts";
import { badStore, checkStore, type KeyEntry, type KeyStore, storedCertificate, type TrustEntry } from "./key-store.ts";
import { exportPkcs8, type Passphrase, type PrivateKey, readPrivateKey } from "./keys.ts";
import {
  decryptPbe,
  encryptPbes2,
  MAX_PKCS12_ITERATIONS,
  pkcs12Kdf,
  pkcs12Password,
  rounds,
  wrongPassphrase,
} from "./pbes.ts";
import { Secret } from "./secret.ts";

/**
 * PKCS#12 (RFC 7292): written as Java 17 and OpenSSL 3 do by default (PBES2 with AES-256-CBC, HMAC-SHA256 MAC), so that
 * neither needs legacy providers; read also with SHA-1 and 3DES, and in BER.
 */
const OID = {
  data: "1.2.840.113549.1.7.1",
  encryptedData: "1.2.840.113549.1.7.6",
  keyBag: "1.2.840.113549.1.12.10.1.1",
  shroudedKeyBag: "1.2.840.113549.1.12.10.1.2",
  certBag: "1.2.840.113549.1.12.10.1.3",
  safeContentsBag: "1.2.840.113549.1.12.10.1.6",
  x509Certificate: "1.2.840.113549.1.9.22.1",
  friendlyName: "1.2.840.113549.1.9.20",
  localKeyId: "1.2.840.113549.1.9.21",
  /** Oracle's: without it Java takes a certificate for part of a chain and trusts nothing. */
  trustedKeyUsage: "2.16.840.1.113894.746875.1.1",
  anyExtendedKeyUsage: "2.5.29.37.0",
  sha256: "2.16.840.1.101.3.4.2.1",
} as const;

const MAC_HASHES: Readonly<Record<string, string>> = {
  "1.3.14.3.2.26": "sha1",
  [OID.sha256]: "sha256",
  "2.16.840.1.101.3.4.2.2": "sha384",
  "2.16.840.1.101.3.4.2.3": "sha512",
};

/** Java 17's own number; store passphrases lie in plain text beside the store, so more would only slow start-up. */
const ITERATIONS = 10_000;

const withBytes = <T>(passphrase: Passphrase, fn: (bytes: Buffer) => T): T =>
  (typeof passphrase === "string" ? Secret.of(passphrase) : passphrase).use(fn);

// ---- writing --------------------------------------------------------------------------------------------------------

/**
 * A PKCS#12 key store (`keys`), Java trust store (`trusted`), or both. Throws GyreError `input` when an alias occurs
 * twice or a key is not its certificate's.
 */
export function writePkcs12(store: KeyStore, passphrase: Passphrase, what = "PKCS#12 store"): Buffer {
  checkStore(store, what);
  return withBytes(passphrase, (bytes) => {
    const certificates = [...store.keys.flatMap(chainBags), ...store.trusted.map(trustBag)];
    const keys = store.keys.map((entry) => keyBag(entry, bytes));
    const safes = [
      ...(certificates.length === 0 ? [] : [encryptedSafe(sequence(...certificates), bytes)]),
      ...(keys.length === 0 ? [] : [contentInfo(OID.data, octetString(sequence(...keys)))]),
    ];
    const authenticated = sequence(...safes);
    return sequence(integer(3), contentInfo(OID.data, octetString(authenticated)), macData(authenticated, bytes));
  });
}

const contentInfo = (type: string, content: Buffer): Buffer => sequence(oid(type), explicit(0, content));

function encryptedSafe(content: Buffer, passphrase: Buffer): Buffer {
  const { algorithm, data } = encryptPbes2(content, passphrase, ITERATIONS);
  const info = sequence(oid(OID.data), algorithm, tlv(primitive(0), data));
  return contentInfo(OID.encryptedData, sequence(integer(0), info));
}

function macData(content: Buffer, passphrase: Buffer): Buffer {
  const salt = randomBytes(16);
  const key = pkcs12Kdf("sha256", 3, pkcs12Password(passphrase), salt, ITERATIONS, 32);
  const digest = createHmac("sha256", key).update(content).digest();
  const info = sequence(sequence(oid(OID.sha256), derNull()), octetString(digest));
  return sequence(info, octetString(salt), integer(ITERATIONS));
}

const bag = (type: string, value: Buffer, attributes: readonly Buffer[]): Buffer =>
  sequence(oid(type), explicit(0, value), ...(attributes.length === 0 ? [] : [setOf(...attributes)]));

const attribute = (type: string, value: Buffer): Buffer => sequence(oid(type), setOf(value));
const friendlyName = (alias: string): Buffer =>
  attribute(OID.friendlyName, tlv(TAG.bmp, Buffer.from(alias, "utf16le").swap16()));
/** Ties a key to its leaf: the leaf's fingerprint, which is as good as any other octets. */
const localKeyId = (leaf: Certificate): Buffer =>
  attribute(OID.localKeyId, octetString(Buffer.from(leaf.fingerprint, "hex")));

const certBag = (certificate: Certificate, attributes: readonly Buffer[]): Buffer =>
  bag(OID.certBag, sequence(oid(OID.x509Certificate), explicit(0, octetString(certificate.der))), attributes);

const chainBags = ({ alias, chain }: KeyEntry): Buffer[] =>
  chain.map((certificate, i) => certBag(certificate, i === 0 ? [friendlyName(alias), localKeyId(certificate)] : []));

const trustBag = ({ alias, certificate }: TrustEntry): Buffer =>
  certBag(certificate, [friendlyName(alias), attribute(OID.trustedKeyUsage, oid(OID.anyExtendedKeyUsage))]);

function keyBag({ alias, key, chain }: KeyEntry, passphrase: Buffer): Buffer {
  const plain = exportPkcs8(key.keyObject);
  const { algorithm, data } = encryptPbes2(plain, passphrase, ITERATIONS);
  plain.fill(0);
  return bag(OID.shroudedKeyBag, sequence(algorithm, octetString(data)), [friendlyName(alias), localKeyId(chain[0]!)]);
}

// ---- reading --------------------------------------------------------------------------------------------------------

interface Attributes {
  readonly alias?: string;
  readonly keyId?: string;
  readonly trusted?: boolean;
}
interface Bags {
  readonly keys: { readonly key: PrivateKey; readonly attributes: Attributes }[];
  readonly certificates: { readonly certificate: Certificate; readonly attributes: Attributes }[];
}

/**
 * Reads a PKCS#12 store (ours, openssl's, keytool's, streamed BER). The MAC is checked before anything is decrypted.
 * Throws GyreError `input`: wrong passphrase, damage, an algorithm of the legacy kind that OpenSSL 3 leaves out too.
 */
export function readPkcs12(input: Uint8Array, passphrase: Passphrase, what = "PKCS#12 store"): KeyStore {
  return withBytes(passphrase, (bytes) => {
    const file = new DerReader(berToDer(Buffer.from(input), what), what);
    const pfx = file.enter(TAG.sequence);
    if (pfx.smallInteger() !== 3) pfx.fail("its version is not 3");
    const content = dataOf(pfx.enter(TAG.sequence));
    if (!pfx.done) checkMac(pfx.enter(TAG.sequence), content, bytes);
    pfx.finish();
    const bags: Bags = { keys: [], certificates: [] };
    const safes = new DerReader(berToDer(content, what), what).enter(TAG.sequence);
    while (!safes.done) {
      const plain = safeOf(safes.enter(TAG.sequence), bytes);
      readBags(new DerReader(berToDer(plain, what), what).enter(TAG.sequence), bytes, bags);
    }
    return assemble(bags, what);
  });
}

/** The octets of a `data` ContentInfo. */
function dataOf(info: DerReader): Buffer {
  if (info.oid() !== OID.data)
    throw badStore(info.what, "it is not protected by a passphrase but by a signature, which is not supported");
  return info.enter(constructed(0)).content(TAG.octetString);
}

function safeOf(info: DerReader, passphrase: Buffer): Buffer {
  const type = info.oid();
  const content = info.enter(constructed(0));
  if (type === OID.data) return content.content(TAG.octetString);
  if (type !== OID.encryptedData) throw badStore(info.what, `a part of type ${type} is not supported`);
  const encrypted = content.enter(TAG.sequence);
  encrypted.smallInteger();
  const body = encrypted.enter(TAG.sequence);
  body.oid();
  const algorithm = body.enter(TAG.sequence);
  return decryptPbe(algorithm, encryptedContent(body), passphrase);
}

/** [0] IMPLICIT OCTET STRING: in one piece, or (BER) in several. */
function encryptedContent(body: DerReader): Buffer {
  if (body.peek() === primitive(0)) return body.content(primitive(0));
  const list = body.enter(constructed(0));
  const pieces: Buffer[] = [];
  while (!list.done) pieces.push(list.element(TAG.octetString));
  return joinPieces(pieces, body.what);
}

function checkMac(mac: DerReader, content: Buffer, passphrase: Buffer): void {
  const info = mac.enter(TAG.sequence);
  const id = info.enter(TAG.sequence).oid();
  const hash = MAC_HASHES[id];
  if (hash === undefined) throw badStore(mac.what, `its MAC of type ${id} is not supported`);
  const expected = info.content(TAG.octetString);
  const salt = mac.content(TAG.octetString);
  const iterations = mac.done ? 1 : rounds(mac, MAX_PKCS12_ITERATIONS);
  // An empty passphrase is written as two zero octets by some tools and as nothing at all by others.
  const passwords =
    passphrase.length === 0 ? [pkcs12Password(passphrase), Buffer.alloc(0)] : [pkcs12Password(passphrase)];
  for (const password of passwords) {
    const key = pkcs12Kdf(hash, 3, password, salt, iterations, expected.length);
    const digest = createHmac(hash, key).update(content).digest();
    if (digest.length === expected.length && timingSafeEqual(digest, expected)) return;
  }
  throw wrongPassphrase(mac.what);
}

function readBags(list: DerReader, passphrase: Buffer, bags: Bags): void {
  while (!list.done) {
    const one = list.enter(TAG.sequence);
    const type = one.oid();
    const value = one.enter(constructed(0));
    const attributes = one.done ? {} : readAttributes(one.enter(TAG.set));
    if (type === OID.certBag) {
      const certificate = readCertBag(value);
      if (certificate !== undefined) bags.certificates.push({ certificate, attributes });
    } else if (type === OID.shroudedKeyBag || type === OID.keyBag) {
      const der = value.element(TAG.sequence);
      bags.keys.push({ key: readPrivateKey(der, Secret.of(passphrase), `${list.what}: key`), attributes });
    } else if (type === OID.safeContentsBag) readBags(value.enter(TAG.sequence), passphrase, bags);
    // CRL and secret bags are left aside
  }
}

function readCertBag(value: DerReader): Certificate | undefined {
  const body = value.enter(TAG.sequence);
  if (body.oid() !== OID.x509Certificate) return undefined;
  return storedCertificate(body.enter(constructed(0)).content(TAG.octetString), value.what);
}

function readAttributes(set: DerReader): Attributes {
  const found: { alias?: string; keyId?: string; trusted?: boolean } = {};
  while (!set.done) {
    const one = set.enter(TAG.sequence);
    const type = one.oid();
    const values = one.enter(TAG.set);
    if (type === OID.friendlyName) {
      const name = values.content(TAG.bmp);
      if (name.length % 2 === 1) values.fail("a friendly name is not UTF-16");
      found.alias = Buffer.from(name).swap16().toString("utf16le");
    } else if (type === OID.localKeyId) found.keyId = values.content(TAG.octetString).toString("hex");
    else if (type === OID.trustedKeyUsage) found.trusted = true;
  }
  return found;
}

/** Puts keys and certificates together: a key's leaf by its public key, its chain by issuer names. */
function assemble({ keys, certificates }: Bags, what: string): KeyStore {
  const used = new Set<Certificate>();
  const entries = keys.map(({ key, attributes }, i): KeyEntry => {
    const leaf = certificates.find(({ certificate }) => certificate.spki === key.spki);
    if (leaf === undefined) throw badStore(what, "a private key has no certificate that belongs to it");
    const chain = follow(
      leaf.certificate,
      certificates.map((one) => one.certificate),
    );
    for (const certificate of chain) used.add(certificate);
    return { alias: attributes.alias ?? leaf.attributes.alias ?? String(i + 1), key, chain };
  });
  const trusted = certificates
    .filter(({ attributes }) => attributes.trusted === true)
    .map(({ certificate, attributes }, i) => ({ alias: attributes.alias ?? String(i + 1), certificate }));
  const others = certificates
    .filter(({ certificate, attributes }) => attributes.trusted !== true && !used.has(certificate))
    .map(({ certificate }) => certificate);
  return { keys: entries, trusted, others };
}

function follow(leaf: Certificate, pool: readonly Certificate[]): Certificate[] {
  const chain = [leaf];
  for (let last = leaf; !last.isSelfIssued; ) {
    const named = pool.filter((one) => one.subjectDer.equals(last.issuerDer) && !chain.includes(one));
    const issuer = named.find((one) => last.aki !== undefined && one.ski === last.aki) ?? named[0];
    if (issuer === undefined) break;
    chain.push(issuer);
    last = issuer;
  }
  return chain;
}
