import { hash, randomBytes } from "node:crypto";
import { GyreError } from "../errors.ts";
import { readKeyAlgorithm, signatureFor, signBytes } from "./algorithms.ts";
import { Certificate } from "./certificate.ts";
import { violations } from "./constraints.ts";
import { bitString, DerReader, explicit, integer, isWritableTime, octetString, sequence, TAG, time } from "./der.ts";
import { writeName } from "./distinguished-name.ts";
import {
  EXTENSION,
  type KeyUsage,
  type NameConstraints,
  writeAuthorityKeyIdentifier,
  writeBasicConstraints,
  writeCrlDistributionPoints,
  writeExtendedKeyUsage,
  writeExtension,
  writeKeyUsage,
  writeNameConstraints,
  writeSubjectAltName,
} from "./extensions.ts";
import { type PrivateKey, requireMatch } from "./keys.ts";
import { normaliseNames } from "./names.ts";

/** What is to be certified. The public key is that of a CSR, or of any key. */
export interface CertificateFields {
  readonly spkiDer: Buffer;
  /** RFC 4514; the empty text makes the subjectAltName critical (RFC 5280 4.2.1.6). */
  readonly subject: string;
  /** Typed names: `DNS:a`, `IP:1.2.3.4`, `URI:…`, `email:…`. */
  readonly names?: readonly string[];
  readonly usages?: readonly ("server" | "client")[];
  /** Milliseconds since the epoch; whole seconds are written. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** A CA certificate: keyCertSign and cRLSign, basicConstraints critical. */
  readonly isCa?: boolean;
  readonly pathLength?: number;
  readonly nameConstraints?: NameConstraints;
  /** Unsigned big-endian, at most 20 octets; left out: 128 random bits. */
  readonly serial?: Uint8Array;
  readonly crlDistributionPoints?: readonly string[];
}

/** A CA made ready: everything that is the same in each certificate it signs is encoded once. */
export interface CertificateAuthority {
  readonly certificate: Certificate;
  readonly key: PrivateKey;
  readonly signatureAlgorithm: Buffer;
  /** The authorityKeyIdentifier extension. */
  readonly authorityKeyIdentifier: Buffer;
}

/** Checks that key and certificate belong together and may sign. Throws GyreError `input`. */
export function prepareAuthority(certificate: Certificate, key: PrivateKey): CertificateAuthority {
  requireMatch(certificate, key, "CA");
  const { keyUsage } = certificate;
  if (!certificate.isCa || (keyUsage.length > 0 && !keyUsage.includes("keyCertSign")))
    throw new GyreError({
      code: "input",
      message: `certificate ${JSON.stringify(certificate.subject)} is not a CA: it may not sign certificates`,
    });
  const ski = certificate.ski === undefined ? keyIdentifier(certificate.spkiDer) : Buffer.from(certificate.ski, "hex");
  return {
    certificate,
    key,
    signatureAlgorithm: signatureFor(key.algorithm).der,
    authorityKeyIdentifier: authorityKeyIdentifier(ski),
  };
}

const authorityKeyIdentifier = (ski: Buffer): Buffer =>
  writeExtension(EXTENSION.authorityKeyIdentifier, false, writeAuthorityKeyIdentifier(ski));

/** RFC 7093 method 1: the leftmost 160 bits of the SHA-256 of the subjectPublicKey's octets. */
export function keyIdentifier(spkiDer: Buffer): Buffer {
  const spki = new DerReader(spkiDer, "public key").enter(TAG.sequence);
  spki.read(TAG.sequence);
  return hash("sha256", spki.bitString(), "buffer").subarray(0, 20);
}

/** 128 random bits, never zero in practice and far above the 64 bits the CA/Browser Forum asks for. */
export const randomSerial = (): Buffer => randomBytes(16);

/**
 * Signs a certificate. It never outlives its issuer, never leaves the issuer's name constraints or path length: then
 * GyreError `refused`, and nothing was signed. Fields that make no certificate are GyreError `input`.
 */
export function signCertificate(authority: CertificateAuthority, fields: CertificateFields): Certificate {
  const names = normaliseNames(fields.names ?? []);
  const subject = checkFields(fields, names);
  checkIssuer(authority.certificate, fields, names, subject);
  const { key, signatureAlgorithm, authorityKeyIdentifier: aki } = authority;
  return assemble(fields, names, subject, authority.certificate.subjectDer, signatureAlgorithm, aki, key);
}

/** A certificate signed with its own key: a root CA (`isCa`), or a leaf that verifiers pin. */
export function signSelfSigned(key: PrivateKey, fields: Omit<CertificateFields, "spkiDer">): Certificate {
  const own = { ...fields, spkiDer: key.spkiDer };
  const names = normaliseNames(own.names ?? []);
  const subject = checkFields(own, names);
  if (fields.isCa === true && fields.subject === "") throw refuse("input", "a CA needs a subject");
  const aki = authorityKeyIdentifier(keyIdentifier(key.spkiDer));
  return assemble(own, names, subject, subject, signatureFor(key.algorithm).der, aki, key);
}

function assemble(
  fields: CertificateFields,
  names: readonly string[],
  subject: Buffer,
  issuer: Buffer,
  signatureAlgorithm: Buffer,
  aki: Buffer,
  key: PrivateKey,
): Certificate {
  const tbs = sequence(
    V3,
    integer(fields.serial ?? randomSerial()),
    signatureAlgorithm,
    issuer,
    sequence(time(fields.notBefore), time(fields.notAfter)),
    subject,
    fields.spkiDer,
    explicit(3, sequence(...extensionsOf(fields, names, aki))),
  );
  return new Certificate(sequence(tbs, signatureAlgorithm, bitString(signBytes(key, tbs))));
}

const V3 = explicit(0, integer(2));
const LEAF = writeExtension(EXTENSION.basicConstraints, true, writeBasicConstraints(false));
const usageExtension = (usages: readonly KeyUsage[]): Buffer =>
  writeExtension(EXTENSION.keyUsage, true, writeKeyUsage(usages));
const CA_USAGE = usageExtension(["keyCertSign", "cRLSign"]);
const SIGN_USAGE = usageExtension(["digitalSignature"]);
// RSA key transport is still what TLS 1.2 clients without ECDHE use, and what some checkers ask of RSA servers.
const RSA_SERVER_USAGE = usageExtension(["digitalSignature", "keyEncipherment"]);
const purposeExtension = (purposes: readonly string[]): Buffer =>
  writeExtension(EXTENSION.extendedKeyUsage, false, writeExtendedKeyUsage(purposes));
const PURPOSES: Readonly<Record<string, Buffer>> = {
  server: purposeExtension(["serverAuth"]),
  client: purposeExtension(["clientAuth"]),
  both: purposeExtension(["serverAuth", "clientAuth"]),
};

function extensionsOf(fields: CertificateFields, names: readonly string[], aki: Buffer): Buffer[] {
  const { usages = [], nameConstraints, crlDistributionPoints = [] } = fields;
  const list: Buffer[] = [];
  if (fields.isCa === true)
    list.push(
      writeExtension(EXTENSION.basicConstraints, true, writeBasicConstraints(true, fields.pathLength)),
      CA_USAGE,
    );
  else {
    const rsaServer = usages.includes("server") && readKeyAlgorithm(fields.spkiDer, "public key").startsWith("RSA-");
    list.push(LEAF, rsaServer ? RSA_SERVER_USAGE : SIGN_USAGE);
  }
  const purpose = usages.includes("server") ? (usages.includes("client") ? "both" : "server") : usages[0];
  if (purpose !== undefined) list.push(PURPOSES[purpose]!);
  list.push(writeExtension(EXTENSION.subjectKeyIdentifier, false, octetString(keyIdentifier(fields.spkiDer))), aki);
  if (names.length > 0)
    list.push(writeExtension(EXTENSION.subjectAltName, fields.subject === "", writeSubjectAltName(names)));
  if (nameConstraints !== undefined)
    list.push(writeExtension(EXTENSION.nameConstraints, true, writeNameConstraints(nameConstraints)));
  if (crlDistributionPoints.length > 0)
    list.push(
      writeExtension(EXTENSION.crlDistributionPoints, false, writeCrlDistributionPoints(crlDistributionPoints)),
    );
  return list;
}

// ---- what is not signed ---------------------------------------------------------------------------------------------

const refuse = (code: "input" | "refused", why: string, next?: string): GyreError =>
  new GyreError({ code, message: `${why}; nothing was signed`, ...(next === undefined ? {} : { next }) });

/** Checks what the fields say by themselves and returns the subject in DER. */
function checkFields(fields: CertificateFields, names: readonly string[]): Buffer {
  const { notBefore, notAfter, serial, isCa = false, pathLength, nameConstraints } = fields;
  if (!isWritableTime(notBefore) || !isWritableTime(notAfter))
    throw refuse("input", "a validity outside the years 1950 to 9999");
  if (Math.floor(notAfter / 1000) <= Math.floor(notBefore / 1000))
    throw refuse("input", `a validity that ends (${iso(notAfter)}) before it begins (${iso(notBefore)})`);
  if (
    serial !== undefined &&
    (serial.length > 20 || (serial.length === 20 && serial[0]! >= 0x80) || serial.every((b) => b === 0))
  )
    throw refuse("input", "a serial number must be positive and of at most 20 octets (RFC 5280 4.1.2.2)");
  if (pathLength !== undefined && (!isCa || !Number.isInteger(pathLength) || pathLength < 0 || pathLength > 255))
    throw refuse("input", "a path length is a number from 0 to 255 and belongs to a CA");
  if (
    nameConstraints !== undefined &&
    (!isCa || nameConstraints.permitted.length + nameConstraints.excluded.length === 0)
  )
    throw refuse("input", "name constraints belong to a CA and are not empty");
  const subject = writeName(fields.subject);
  if (subject.length === 2 && names.length === 0) throw refuse("input", "a certificate with neither subject nor names");
  return subject;
}

const iso = (ms: number): string => new Date(ms).toISOString().slice(0, 19).concat("Z");

function checkIssuer(issuer: Certificate, fields: CertificateFields, names: readonly string[], subject: Buffer): void {
  const { isCa = false } = fields;
  if (fields.notAfter > issuer.notAfter + 999)
    throw refuse(
      "refused",
      `certificate until ${iso(fields.notAfter)} would outlive its issuer ${JSON.stringify(issuer.subject)} (${iso(issuer.notAfter)})`,
      "ask for a shorter lifetime, or rotate the CA",
    );
  if (isCa && issuer.pathLength !== undefined && (fields.pathLength ?? 255) >= issuer.pathLength)
    throw refuse("refused", `issuer's path length ${issuer.pathLength} allows no such CA below it`);
  const constraints = issuer.nameConstraints;
  if (constraints === undefined || isCa) return;
  const [first] = violations(constraints, names, subject);
  if (first !== undefined) throw refuse("refused", `issuer's name constraints: ${first}`);
}
