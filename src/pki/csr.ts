import type { KeyObject } from "node:crypto";
import { GyreError } from "../errors.ts";
import {
  checkSignature,
  publicKeyOf,
  readKeyAlgorithm,
  readSignatureAlgorithm,
  signatureFor,
  signBytes,
} from "./algorithms.ts";
import { bitString, constructed, DerReader, explicit, integer, oid, sequence, setOf, TAG } from "./der.ts";
import { readName, writeName } from "./distinguished-name.ts";
import {
  EXTENSION,
  type Extension,
  readBasicConstraints,
  readExtendedKeyUsage,
  readExtensions,
  readSubjectAltName,
  writeExtendedKeyUsage,
  writeExtension,
  writeSubjectAltName,
} from "./extensions.ts";
import { type PrivateKey, spkiDigest } from "./keys.ts";
import { normaliseNames } from "./names.ts";
import { looksLikeDer, nothingFound, parsePem, toPem } from "./pem.ts";

/** PKCS#9 extensionRequest (RFC 2985 5.4.2). */
const EXTENSION_REQUEST = "1.2.840.113549.1.9.14";

export interface CsrFields {
  /** RFC 4514; may be empty. */
  readonly subject: string;
  /** Typed names: `DNS:a`, `IP:1.2.3.4`, … */
  readonly names: readonly string[];
  readonly usages?: readonly ("server" | "client")[];
}

const PURPOSE = { server: "serverAuth", client: "clientAuth" } as const;

/** A DER PKCS#10 request (RFC 2986), signed with the key it asks a certificate for. */
export function createCsr(key: PrivateKey, fields: CsrFields): Buffer {
  const names = normaliseNames(fields.names);
  const subject = writeName(fields.subject);
  const extensions: Buffer[] = [];
  if (names.length > 0) {
    const critical = fields.subject === "";
    extensions.push(writeExtension(EXTENSION.subjectAltName, critical, writeSubjectAltName(names)));
  }
  if (fields.usages !== undefined && fields.usages.length > 0) {
    const purposes = fields.usages.map((usage) => PURPOSE[usage]);
    extensions.push(writeExtension(EXTENSION.extendedKeyUsage, false, writeExtendedKeyUsage(purposes)));
  }
  const attributes = extensions.length === 0 ? [] : [sequence(oid(EXTENSION_REQUEST), setOf(sequence(...extensions)))];
  const info = sequence(integer(0), subject, key.spkiDer, explicit(0, ...attributes));
  return sequence(info, signatureFor(key.algorithm).der, bitString(signBytes(key, info)));
}

export const csrPem = (der: Uint8Array): string => toPem("CERTIFICATE REQUEST", der);

/** A request whose signature was found good: the sender holds the private key. What it asks for is only asked. */
export interface Csr {
  readonly der: Buffer;
  readonly subject: string;
  readonly subjectDer: Buffer;
  readonly names: readonly string[];
  readonly spkiDer: Buffer;
  readonly spki: string;
  readonly algorithm: string;
  readonly signatureAlgorithm: string;
  readonly publicKey: KeyObject;
  readonly extendedKeyUsage: readonly string[];
  readonly isCa: boolean;
  readonly extensions: readonly Extension[];
}

/** Parses a request (PEM or DER) and checks its own signature. Throws GyreError `input`. */
export function parseCsr(input: string | Uint8Array, where = "certificate request"): Csr {
  if (looksLikeDer(input)) return readCsr(Buffer.from(input.buffer, input.byteOffset, input.length), where);
  const file = parsePem(input, where);
  const [block, second] = file.blocks.filter((one) => one.kind === "request");
  if (block === undefined || second !== undefined) throw nothingFound("single certificate request", file, where);
  return readCsr(block.der, `${where}:${block.line}`);
}

function readCsr(der: Buffer, what: string): Csr {
  const file = new DerReader(der, what);
  const outer = file.enter(TAG.sequence);
  file.finish();
  const infoAt = outer.pos;
  const info = outer.enter(TAG.sequence);
  const signed = der.subarray(infoAt, outer.pos);
  if (info.smallInteger() !== 0) info.fail("its version is not known");
  const subjectDer = info.element(TAG.sequence);
  const spkiDer = info.element(TAG.sequence);
  const extensions = readRequested(info);
  info.finish();
  const signatureAlgorithm = readSignatureAlgorithm(outer.element(TAG.sequence), what);
  const signature = outer.bitString();
  outer.finish();
  const subject = readName(subjectDer, what);
  const asked = <T>(id: string, read: (reader: DerReader) => T): T | undefined => {
    const found = extensions.find((extension) => extension.oid === id);
    return found === undefined ? undefined : read(new DerReader(found.value, what));
  };
  const names = asked(EXTENSION.subjectAltName, readSubjectAltName) ?? [];
  const extendedKeyUsage = asked(EXTENSION.extendedKeyUsage, readExtendedKeyUsage) ?? [];
  const isCa = asked(EXTENSION.basicConstraints, readBasicConstraints)?.isCa ?? false;
  const algorithm = readKeyAlgorithm(spkiDer, what);
  const publicKey = publicKeyOf(spkiDer, what);
  if (!checkSignature(signatureAlgorithm, signed, signature, publicKey)) throw notProven(what, signatureAlgorithm.name);
  const spki = spkiDigest(spkiDer);
  const details = { der, subject, subjectDer, names, spkiDer, spki, algorithm, publicKey };
  return { ...details, signatureAlgorithm: signatureAlgorithm.name, extendedKeyUsage, isCa, extensions };
}

const notProven = (what: string, algorithm: string): GyreError =>
  new GyreError({
    code: "input",
    message: `${what}: its ${algorithm} signature does not prove possession of the key it asks a certificate for`,
  });

/** The extensions asked for. Attributes are [0] IMPLICIT; some tools leave the empty set out. */
function readRequested(info: DerReader): Extension[] {
  const attributes = info.optional(constructed(0));
  let extensions: Extension[] = [];
  while (attributes !== undefined && !attributes.done) {
    const attribute = attributes.enter(TAG.sequence);
    const id = attribute.oid();
    const values = attribute.enter(TAG.set);
    attribute.finish();
    if (id !== EXTENSION_REQUEST) continue;
    if (extensions.length > 0) attributes.fail("it asks for extensions twice");
    extensions = readExtensions(values.enter(TAG.sequence));
    values.finish();
  }
  return extensions;
}
