import { hash, type KeyObject } from "node:crypto";
import { inspect } from "node:util";
import { GyreError } from "../errors.ts";
import {
  checkSignature,
  publicKeyOf,
  readKeyAlgorithm,
  readSignatureAlgorithm,
  type SignatureAlgorithm,
} from "./algorithms.ts";
import { constructed, DerReader, primitive, TAG } from "./der.ts";
import { readName } from "./distinguished-name.ts";
import {
  type BasicConstraints,
  EXTENSION,
  type Extension,
  type KeyUsage,
  type NameConstraints,
  readAuthorityKeyIdentifier,
  readBasicConstraints,
  readCrlDistributionPoints,
  readExtendedKeyUsage,
  readExtensions,
  readKeyUsage,
  readNameConstraints,
  readSubjectAltName,
} from "./extensions.ts";
import { spkiDigest } from "./keys.ts";
import { looksLikeDer, nothingFound, parsePem, toPem } from "./pem.ts";

/**
 * An X.509 certificate (RFC 5280 4.1). The constructor walks the whole outer structure and the list of extensions; what
 * is inside a field is decoded when it is first asked for, and kept. `parseCertificate` asks for all of it once, so
 * that its getters never throw; `readCertificateLazily` does not, and they may throw GyreError `input`.
 */
export class Certificate {
  readonly der: Buffer;
  /** The signed part. */
  readonly tbs: Buffer;
  /** 1, 2 or 3, as people count. */
  readonly version: number;
  readonly serialBytes: Buffer;
  readonly issuerDer: Buffer;
  readonly subjectDer: Buffer;
  readonly spkiDer: Buffer;
  /** Milliseconds since the epoch; both ends are within the validity (RFC 5280 4.1.2.5). */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly extensions: readonly Extension[];
  readonly signature: Buffer;
  readonly #what: string;
  readonly #signatureAlgorithm: Buffer;
  readonly #kept = new Map<string, unknown>();

  /** Throws GyreError `input`. `what` names the certificate in errors. */
  constructor(der: Buffer, what = "certificate") {
    this.der = der;
    this.#what = what;
    const file = new DerReader(der, what);
    const outer = file.enter(TAG.sequence);
    file.finish();
    const tbsAt = outer.pos;
    const tbs = outer.enter(TAG.sequence);
    this.tbs = der.subarray(tbsAt, outer.pos);
    this.version = readVersion(tbs);
    this.serialBytes = tbs.integerBytes();
    this.#signatureAlgorithm = tbs.element(TAG.sequence);
    this.issuerDer = tbs.element(TAG.sequence);
    const validity = tbs.enter(TAG.sequence);
    this.notBefore = validity.time();
    this.notAfter = validity.time();
    validity.finish();
    this.subjectDer = tbs.element(TAG.sequence);
    this.spkiDer = tbs.element(TAG.sequence);
    this.extensions = readTail(tbs, this.version);
    // A signature of another algorithm than the signed part names is a forgery's trick (RFC 5280 4.1.1.2).
    if (!outer.element(TAG.sequence).equals(this.#signatureAlgorithm))
      outer.fail("its two signature algorithms differ");
    this.signature = outer.bitString();
    outer.finish();
  }

  #keep<T>(name: string, make: () => T): T {
    const kept = this.#kept.get(name);
    if (kept !== undefined) return kept as T;
    const value = make();
    this.#kept.set(name, value);
    return value;
  }

  #extension<T>(id: string, read: (reader: DerReader) => T): T | undefined {
    const found = this.extension(id);
    return found && this.#keep(id, () => read(new DerReader(found.value, this.#what)));
  }

  /** PEM with a final newline. */
  get pem(): string {
    return this.#keep("pem", () => toPem("CERTIFICATE", this.der));
  }
  /** SHA-256 of the DER, lower-case hex. */
  get fingerprint(): string {
    return this.#keep("fingerprint", () => hash("sha256", this.der, "hex"));
  }
  /** SHA-256 of the DER SubjectPublicKeyInfo, lower-case hex. */
  get spki(): string {
    return this.#keep("spki", () => spkiDigest(this.spkiDer));
  }
  /** Lower-case hex without leading zeros; `-` before the hex of a negative one. */
  get serial(): string {
    return this.#keep("serial", () => serialText(this.serialBytes));
  }
  /** RFC 4514; the empty text for an empty name. */
  get subject(): string {
    return this.#keep("subject", () => readName(this.subjectDer, this.#what));
  }
  get issuer(): string {
    return this.#keep("issuer", () => readName(this.issuerDer, this.#what));
  }
  /** Subject alternative names as `DNS:a`, `IP:1.2.3.4`, `URI:…`, `email:…`, in their order. */
  get names(): readonly string[] {
    return this.#extension(EXTENSION.subjectAltName, readSubjectAltName) ?? [];
  }
  get basicConstraints(): BasicConstraints | undefined {
    return this.#extension(EXTENSION.basicConstraints, readBasicConstraints);
  }
  get isCa(): boolean {
    return this.basicConstraints?.isCa ?? false;
  }
  get pathLength(): number | undefined {
    return this.basicConstraints?.pathLength;
  }
  /** Empty when the extension is absent: then nothing is restricted. */
  get keyUsage(): readonly KeyUsage[] {
    return this.#extension(EXTENSION.keyUsage, readKeyUsage) ?? [];
  }
  /** `serverAuth`, `clientAuth`, … or object identifiers; empty when the extension is absent. */
  get extendedKeyUsage(): readonly string[] {
    return this.#extension(EXTENSION.extendedKeyUsage, readExtendedKeyUsage) ?? [];
  }
  /** subjectKeyIdentifier, hex. */
  get ski(): string | undefined {
    return this.#extension(EXTENSION.subjectKeyIdentifier, (reader) => {
      const ski = reader.content(TAG.octetString).toString("hex");
      reader.finish();
      return ski;
    });
  }
  /** keyIdentifier of authorityKeyIdentifier, hex. */
  get aki(): string | undefined {
    return this.#extension(EXTENSION.authorityKeyIdentifier, readAuthorityKeyIdentifier);
  }
  get nameConstraints(): NameConstraints | undefined {
    return this.#extension(EXTENSION.nameConstraints, readNameConstraints);
  }
  get crlDistributionPoints(): readonly string[] {
    return this.#extension(EXTENSION.crlDistributionPoints, readCrlDistributionPoints) ?? [];
  }
  /** `P-256`, `RSA-2048`, `Ed25519`, …, or an OID. */
  get algorithm(): string {
    return this.#keep("algorithm", () => readKeyAlgorithm(this.spkiDer, this.#what));
  }
  /** `ecdsa-with-SHA256`, …, or an OID. */
  get signatureAlgorithm(): string {
    return this.signatureDetails.name;
  }
  get signatureDetails(): SignatureAlgorithm {
    return this.#keep("signature", () => readSignatureAlgorithm(this.#signatureAlgorithm, this.#what));
  }
  /** Made on first use. Throws GyreError `input` for a key OpenSSL does not take. */
  get publicKey(): KeyObject {
    return this.#keep("publicKey", () => publicKeyOf(this.spkiDer, this.#what));
  }
  /** Subject and issuer are the same name; whether the signature is its own is `isSignedBy(itself)`. */
  get isSelfIssued(): boolean {
    return this.subjectDer.equals(this.issuerDer);
  }

  extension(id: string): Extension | undefined {
    for (const extension of this.extensions) if (extension.oid === id) return extension;
    return undefined;
  }

  /** Whether the issuer's key made this signature. Names, dates and usages are not looked at (see checkChain). */
  isSignedBy(issuer: { readonly publicKey: KeyObject }): boolean {
    return checkSignature(this.signatureDetails, this.tbs, this.signature, issuer.publicKey);
  }

  /** Decodes every field that other rooms read; afterwards no getter throws, except `publicKey`. */
  decodeAll(): this {
    void this.subject;
    void this.issuer;
    void this.names;
    void this.basicConstraints;
    void this.keyUsage;
    void this.extendedKeyUsage;
    void this.ski;
    void this.aki;
    void this.nameConstraints;
    void this.crlDistributionPoints;
    void this.algorithm;
    void this.signatureDetails;
    return this;
  }

  toJSON() {
    const { fingerprint, spki, serial, subject, issuer, notBefore, notAfter, names, algorithm } = this;
    return { fingerprint, spki, serial, subject, issuer, notBefore, notAfter, names, algorithm };
  }

  [inspect.custom](): string {
    return `Certificate ${JSON.stringify(this.toJSON())}`;
  }
}

function readVersion(tbs: DerReader): number {
  const outer = tbs.optional(constructed(0));
  if (outer === undefined) return 1;
  const version = outer.smallInteger() + 1;
  outer.finish();
  if (version > 3) tbs.fail(`its version ${version} is not known`);
  return version;
}

/** The unique identifiers nobody uses, and the extensions. */
function readTail(tbs: DerReader, version: number): Extension[] {
  if (tbs.done) return [];
  if (tbs.peek() === primitive(1)) tbs.read();
  if (tbs.peek() === primitive(2)) tbs.read();
  const outer = tbs.optional(constructed(3));
  tbs.finish();
  if (outer === undefined) return [];
  if (version !== 3) tbs.fail(`a version ${version} certificate has extensions`);
  const list = outer.enter(TAG.sequence);
  outer.finish();
  return readExtensions(list);
}

/** Lower-case hex of an INTEGER's octets without leading zeros. */
export function serialText(bytes: Buffer): string {
  if (bytes[0]! < 0x80) return bytes.toString("hex").replace(/^0+(?=.)/, "");
  const magnitude = (1n << BigInt(bytes.length * 8)) - BigInt(`0x${bytes.toString("hex")}`);
  return `-${magnitude.toString(16)}`;
}

// ---- parsing --------------------------------------------------------------------------------------------------------

/** Decodes only the outer structure; getters may throw GyreError `input` later. For `scan`, which reads thousands. */
export const readCertificateLazily = (der: Buffer, what = "certificate"): Certificate => new Certificate(der, what);

/**
 * Every certificate of a PEM text, in its order, or the one of a DER file. Throws GyreError `input` with the line: a
 * damaged block, a malformed certificate, or none at all. `where` names the file.
 */
export function parseCertificates(input: string | Uint8Array, where = "certificate"): Certificate[] {
  if (looksLikeDer(input)) return [new Certificate(Buffer.from(input), where).decodeAll()];
  const file = parsePem(input, where);
  const found: Certificate[] = [];
  for (const block of file.blocks) {
    if (block.kind !== "certificate" && block.kind !== "trusted-certificate") continue;
    // OpenSSL's TRUSTED CERTIFICATE has its trust settings after the certificate.
    const der = block.kind === "certificate" ? block.der : new DerReader(block.der, where).element(TAG.sequence);
    found.push(new Certificate(der, `${where}:${block.line}`).decodeAll());
  }
  if (found.length === 0) throw nothingFound("certificate", file, where);
  return found;
}

/** The one certificate of a text or DER file; more than one is an error. */
export function parseCertificate(input: string | Uint8Array, where = "certificate"): Certificate {
  const [first, ...more] = parseCertificates(input, where);
  if (first !== undefined && more.length === 0) return first;
  throw new GyreError({
    code: "input",
    message: `found ${more.length + 1} certificates where one is expected`,
    where,
  });
}
