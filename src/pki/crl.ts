import { hash, type KeyObject } from "node:crypto";
import { GyreError } from "../errors.ts";
import { checkSignature, readSignatureAlgorithm, type SignatureAlgorithm, signBytes } from "./algorithms.ts";
import { type Certificate, serialText } from "./certificate.ts";
import {
  bitString,
  constructed,
  DerReader,
  explicit,
  integer,
  isWritableTime,
  sequence,
  TAG,
  time,
  tlv,
} from "./der.ts";
import { readName } from "./distinguished-name.ts";
import { EXTENSION, type Extension, readAuthorityKeyIdentifier, readExtensions, writeExtension } from "./extensions.ts";
import type { CertificateAuthority } from "./issue.ts";
import { looksLikeDer, nothingFound, parsePem, toPem } from "./pem.ts";

/** CRLReason (RFC 5280 5.3.1); 7 is not used. `unspecified` is written by leaving the extension out. */
const REASONS = {
  unspecified: 0,
  keyCompromise: 1,
  cACompromise: 2,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
  certificateHold: 6,
  removeFromCRL: 8,
  privilegeWithdrawn: 9,
  aACompromise: 10,
} as const;
export type CrlReason = keyof typeof REASONS;
const REASON_NAMES = new Map<number, CrlReason>(Object.entries(REASONS).map(([name, n]) => [n, name as CrlReason]));

export interface CrlEntry {
  /** Lower-case hex without leading zeros, as `serial` of a certificate. */
  readonly serial: string;
  /** Milliseconds since the epoch. */
  readonly revocationDate: number;
  readonly reason?: CrlReason;
}

export interface CrlFields {
  /** Must grow with every CRL of the issuer. */
  readonly number: number | bigint;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  readonly entries: readonly CrlEntry[];
}

/** A certificate revocation list (RFC 5280 5). Getters never throw. */
export interface Crl {
  readonly der: Buffer;
  readonly pem: string;
  /** SHA-256 of the DER, lower-case hex. */
  readonly fingerprint: string;
  readonly issuer: string;
  readonly issuerDer: Buffer;
  /** CRL number, lower-case hex without leading zeros; undefined where the extension is missing. */
  readonly number: string | undefined;
  readonly thisUpdate: number;
  /** Undefined where the issuer promises no next one (RFC 5280 asks for it). */
  readonly nextUpdate: number | undefined;
  readonly entries: ReadonlyMap<string, CrlEntry>;
  readonly aki: string | undefined;
  readonly signatureAlgorithm: string;
  /** Critical extensions this room does not process (delta, partitioned or indirect CRLs): not usable as a whole CRL. */
  readonly unsupported: readonly string[];
  isSignedBy(issuer: { readonly publicKey: KeyObject }): boolean;
}

// ---- writing --------------------------------------------------------------------------------------------------------

/** Signs a version 2 CRL. An empty list is a valid CRL. Throws GyreError `input` for fields that make none. */
export function signCrl(authority: CertificateAuthority, fields: CrlFields): Crl {
  const { certificate, key, signatureAlgorithm, authorityKeyIdentifier } = authority;
  checkFields(fields, certificate);
  const extensions = [
    authorityKeyIdentifier,
    writeExtension(EXTENSION.crlNumber, false, integer(BigInt(fields.number))),
  ];
  // revokedCertificates is absent, not empty, when there is none (RFC 5280 5.1.2.6).
  const revoked = fields.entries.length === 0 ? [] : [sequence(...fields.entries.map(writeEntry))];
  const tbs = sequence(
    integer(1),
    signatureAlgorithm,
    certificate.subjectDer,
    time(fields.thisUpdate),
    time(fields.nextUpdate),
    ...revoked,
    explicit(0, sequence(...extensions)),
  );
  return parseCrl(sequence(tbs, signatureAlgorithm, bitString(signBytes(key, tbs))));
}

function writeEntry(entry: CrlEntry): Buffer {
  const serial = integer(
    Buffer.from(entry.serial.padStart(entry.serial.length + (entry.serial.length % 2), "0"), "hex"),
  );
  const date = time(entry.revocationDate);
  if (entry.reason === undefined || entry.reason === "unspecified") return sequence(serial, date);
  const reason = writeExtension(EXTENSION.reasonCode, false, tlv(TAG.enumerated, Buffer.from([REASONS[entry.reason]])));
  return sequence(serial, date, sequence(reason));
}

function checkFields(fields: CrlFields, issuer: Certificate): void {
  const fail = (why: string): never => {
    throw new GyreError({
      code: "input",
      message: `CRL of ${JSON.stringify(issuer.subject)}: ${why}; nothing was signed`,
    });
  };
  if (issuer.keyUsage.length > 0 && !issuer.keyUsage.includes("cRLSign")) fail("the CA's key usage has no cRLSign");
  const times = [fields.thisUpdate, fields.nextUpdate, ...fields.entries.map((entry) => entry.revocationDate)];
  if (!times.every(isWritableTime)) fail("a time outside the years 1950 to 9999");
  if (!(Math.floor(fields.nextUpdate / 1000) > Math.floor(fields.thisUpdate / 1000)))
    fail("nextUpdate is not after thisUpdate");
  if (typeof fields.number === "number" && !Number.isSafeInteger(fields.number)) fail("its number is no whole number");
  const number = BigInt(fields.number);
  if (number < 0n || number >= 1n << 159n) fail("its number is not from 0 to 2^159 (RFC 5280 5.2.3)");
  const seen = new Set<string>();
  for (const { serial } of fields.entries) {
    if (!/^[1-9a-f][0-9a-f]{0,39}$/.test(serial)) fail(`serial ${JSON.stringify(serial)} is not lower-case hex`);
    if (seen.has(serial)) fail(`serial ${serial} occurs twice`);
    seen.add(serial);
  }
}

// ---- reading --------------------------------------------------------------------------------------------------------

/** Every CRL of a PEM text, or the one of a DER file. Throws GyreError `input`. */
export function parseCrls(input: string | Uint8Array, where = "CRL"): Crl[] {
  if (looksLikeDer(input)) return [readCrl(Buffer.from(input), where)];
  const file = parsePem(input, where);
  const blocks = file.blocks.filter((block) => block.kind === "crl");
  if (blocks.length === 0) throw nothingFound("CRL", file, where);
  return blocks.map((block) => readCrl(block.der, `${where}:${block.line}`));
}

/** The one CRL of a text or DER file; more than one is an error. */
export function parseCrl(input: string | Uint8Array, where = "CRL"): Crl {
  const [first, ...more] = parseCrls(input, where);
  if (first !== undefined && more.length === 0) return first;
  throw new GyreError({ code: "input", message: `found ${more.length + 1} CRLs where one is expected`, where });
}

function readCrl(der: Buffer, what: string): Crl {
  const file = new DerReader(der, what);
  const outer = file.enter(TAG.sequence);
  file.finish();
  const tbsAt = outer.pos;
  const tbs = outer.enter(TAG.sequence);
  const signed = der.subarray(tbsAt, outer.pos);
  const version = tbs.peek() === TAG.integer ? tbs.smallInteger() + 1 : 1;
  if (version > 2) tbs.fail(`its version ${version} is not known`);
  const innerAlgorithm = tbs.element(TAG.sequence);
  const issuerDer = tbs.element(TAG.sequence);
  const thisUpdate = tbs.time();
  const nextUpdate = isTime(tbs.peek()) ? tbs.time() : undefined;
  const unsupported = new Set<string>();
  const entries = readEntries(tbs.optional(TAG.sequence), unsupported);
  const extensions = readCrlExtensions(tbs, version);
  tbs.finish();
  if (!outer.element(TAG.sequence).equals(innerAlgorithm)) outer.fail("its two signature algorithms differ");
  const signature = outer.bitString();
  outer.finish();
  const algorithm = readSignatureAlgorithm(innerAlgorithm, what);
  const number = extensionValue(extensions, EXTENSION.crlNumber, what, (reader) => serialText(reader.integerBytes()));
  const aki = extensionValue(extensions, EXTENSION.authorityKeyIdentifier, what, readAuthorityKeyIdentifier);
  for (const extension of extensions)
    if (extension.critical && !PROCESSED.has(extension.oid)) unsupported.add(extension.oid);
  const body = { issuerDer, thisUpdate, nextUpdate, entries, number, aki, unsupported: [...unsupported] };
  return finish(der, what, body, { algorithm, signed, signature });
}

type Body = Pick<Crl, "issuerDer" | "thisUpdate" | "nextUpdate" | "entries" | "number" | "aki" | "unsupported">;
type Signed = { readonly algorithm: SignatureAlgorithm; readonly signed: Buffer; readonly signature: Buffer };

function finish(der: Buffer, what: string, body: Body, { algorithm, signed, signature }: Signed): Crl {
  return {
    ...body,
    der,
    pem: toPem("X509 CRL", der),
    fingerprint: hash("sha256", der, "hex"),
    issuer: readName(body.issuerDer, what),
    signatureAlgorithm: algorithm.name,
    isSignedBy: (issuer) => checkSignature(algorithm, signed, signature, issuer.publicKey),
  };
}

const PROCESSED: ReadonlySet<string> = new Set([EXTENSION.crlNumber, EXTENSION.authorityKeyIdentifier]);
const isTime = (tag: number): boolean => tag === TAG.utcTime || tag === TAG.generalizedTime;

function extensionValue<T>(
  list: readonly Extension[],
  id: string,
  what: string,
  read: (reader: DerReader) => T,
): T | undefined {
  const found = list.find((extension) => extension.oid === id);
  return found === undefined ? undefined : read(new DerReader(found.value, what));
}

function readCrlExtensions(tbs: DerReader, version: number): Extension[] {
  const outer = tbs.optional(constructed(0));
  if (outer === undefined) return [];
  if (version < 2) tbs.fail("a version 1 CRL has extensions");
  const list = outer.enter(TAG.sequence);
  outer.finish();
  return readExtensions(list);
}

function readEntries(list: DerReader | undefined, unsupported: Set<string>): Map<string, CrlEntry> {
  const entries = new Map<string, CrlEntry>();
  while (list !== undefined && !list.done) {
    const one = list.enter(TAG.sequence);
    const serial = serialText(one.integerBytes());
    const revocationDate = one.time();
    const extensions = one.done ? [] : readExtensions(one.enter(TAG.sequence));
    one.finish();
    // An unknown critical entry extension (certificateIssuer) changes whose serials these are.
    for (const { oid, critical } of extensions) if (critical && oid !== EXTENSION.reasonCode) unsupported.add(oid);
    const reason = extensionValue(extensions, EXTENSION.reasonCode, list.what, (r) => r.smallInteger(TAG.enumerated));
    const name = reason === undefined ? undefined : REASON_NAMES.get(reason);
    entries.set(serial, { serial, revocationDate, ...(name === undefined ? {} : { reason: name }) });
  }
  return entries;
}

/** The entry of a certificate in its issuer's CRL. Says nothing about the CRL's own dates and signature. */
export function isRevoked(crl: Crl, certificate: Pick<Certificate, "serial" | "issuerDer">): CrlEntry | undefined {
  const entry = crl.issuerDer.equals(certificate.issuerDer) ? crl.entries.get(certificate.serial) : undefined;
  return entry?.reason === "removeFromCRL" ? undefined : entry;
}
