import { GyreError } from "../errors.ts";
import {
  boolean,
  constructed,
  type DerReader,
  explicit,
  integer,
  namedBits,
  octetString,
  oid,
  primitive,
  sequence,
  TAG,
  tlv,
} from "./der.ts";
import { readName, writeName } from "./distinguished-name.ts";
import {
  ipBytes,
  ipText,
  parseGeneralName,
  printable,
  readGeneralName,
  readGeneralNames,
  writeGeneralName,
} from "./names.ts";

/** The extensions of RFC 5280 4.2 that Gyre writes, reads and judges: text and numbers <-> DER. */

export const EXTENSION = {
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  crlNumber: "2.5.29.20",
  reasonCode: "2.5.29.21",
  deltaCrl: "2.5.29.27",
  issuingDistributionPoint: "2.5.29.28",
  certificateIssuer: "2.5.29.29",
  nameConstraints: "2.5.29.30",
  crlDistributionPoints: "2.5.29.31",
  certificatePolicies: "2.5.29.32",
  authorityKeyIdentifier: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
} as const;

export interface Extension {
  readonly oid: string;
  readonly critical: boolean;
  /** The content of extnValue. */
  readonly value: Buffer;
}

/** One Extension in DER; FALSE is the default of `critical` and therefore not written (X.690 11.5). */
export const writeExtension = (id: string, critical: boolean, value: Buffer): Buffer =>
  critical ? sequence(oid(id), boolean(true), octetString(value)) : sequence(oid(id), octetString(value));

/** More than any certificate has; looking for duplicates is quadratic. */
const MAX_EXTENSIONS = 256;

/** Reads Extensions; an extension that occurs twice is an error (RFC 5280 4.2). */
export function readExtensions(list: DerReader): Extension[] {
  const extensions: Extension[] = [];
  while (!list.done) {
    const one = list.enter(TAG.sequence);
    const id = one.oid();
    const critical = one.peek() === TAG.boolean && one.boolean();
    const value = one.content(TAG.octetString);
    one.finish();
    if (extensions.some((other) => other.oid === id)) list.fail(`extension ${id} occurs twice`);
    if (extensions.length >= MAX_EXTENSIONS) list.fail(`it has more than ${MAX_EXTENSIONS} extensions`);
    extensions.push({ oid: id, critical, value });
  }
  if (extensions.length === 0) list.fail("its list of extensions is empty");
  return extensions;
}

// ---- key usage ------------------------------------------------------------------------------------------------------

/** In the order of the bits (RFC 5280 4.2.1.3). */
export const KEY_USAGES = [
  "digitalSignature",
  "contentCommitment",
  "keyEncipherment",
  "dataEncipherment",
  "keyAgreement",
  "keyCertSign",
  "cRLSign",
  "encipherOnly",
  "decipherOnly",
] as const;
export type KeyUsage = (typeof KEY_USAGES)[number];

export const writeKeyUsage = (usages: readonly KeyUsage[]): Buffer =>
  namedBits(usages.map((u) => KEY_USAGES.indexOf(u)));

export function readKeyUsage(reader: DerReader): KeyUsage[] {
  const usages = reader.namedBits().flatMap((bit) => KEY_USAGES[bit] ?? []);
  reader.finish();
  return usages;
}

const PURPOSES: Readonly<Record<string, string>> = {
  serverAuth: "1.3.6.1.5.5.7.3.1",
  clientAuth: "1.3.6.1.5.5.7.3.2",
  codeSigning: "1.3.6.1.5.5.7.3.3",
  emailProtection: "1.3.6.1.5.5.7.3.4",
  timeStamping: "1.3.6.1.5.5.7.3.8",
  OCSPSigning: "1.3.6.1.5.5.7.3.9",
  anyExtendedKeyUsage: "2.5.29.37.0",
};
const PURPOSE_NAMES = new Map(Object.entries(PURPOSES).map(([name, id]) => [id, name]));

/** Takes names (`serverAuth`) and object identifiers. */
export const writeExtendedKeyUsage = (purposes: readonly string[]): Buffer =>
  sequence(...purposes.map((purpose) => oid(PURPOSES[purpose] ?? purpose)));

export function readExtendedKeyUsage(reader: DerReader): string[] {
  const list = reader.enter(TAG.sequence);
  reader.finish();
  const purposes: string[] = [];
  while (!list.done) {
    const id = list.oid();
    purposes.push(PURPOSE_NAMES.get(id) ?? id);
  }
  if (purposes.length === 0) list.fail("extendedKeyUsage is empty");
  return purposes;
}

// ---- basic constraints, identifiers, distribution points ------------------------------------------------------------

export interface BasicConstraints {
  readonly isCa: boolean;
  readonly pathLength: number | undefined;
}

export function writeBasicConstraints(isCa: boolean, pathLength?: number): Buffer {
  if (!isCa) return sequence();
  return pathLength === undefined ? sequence(boolean(true)) : sequence(boolean(true), integer(pathLength));
}

export function readBasicConstraints(reader: DerReader): BasicConstraints {
  const body = reader.enter(TAG.sequence);
  reader.finish();
  const isCa = body.peek() === TAG.boolean && body.boolean();
  const pathLength = body.done ? undefined : body.smallInteger();
  body.finish();
  return { isCa, pathLength };
}

export const writeAuthorityKeyIdentifier = (ski: Buffer): Buffer => sequence(tlv(primitive(0), ski));

/** The keyIdentifier as hex; undefined when only issuer and serial are given. */
export function readAuthorityKeyIdentifier(reader: DerReader): string | undefined {
  const body = reader.enter(TAG.sequence);
  reader.finish();
  const ski = body.peek() === primitive(0) ? body.content(primitive(0)).toString("hex") : undefined;
  while (!body.done) body.read();
  return ski;
}

export const writeCrlDistributionPoints = (uris: readonly string[]): Buffer =>
  sequence(...uris.map((uri) => sequence(explicit(0, explicit(0, tlv(primitive(6), Buffer.from(uri, "latin1")))))));

/** URIs of the fullName of every distribution point. */
export function readCrlDistributionPoints(reader: DerReader): string[] {
  const list = reader.enter(TAG.sequence);
  reader.finish();
  const uris: string[] = [];
  while (!list.done) {
    const full = list.enter(TAG.sequence).optional(constructed(0))?.optional(constructed(0));
    if (full === undefined) continue;
    for (const name of readGeneralNames(full)) if (name.startsWith("URI:")) uris.push(name.slice(4));
  }
  return uris;
}

// ---- subjectAltName, name constraints -------------------------------------------------------------------------------

/** GeneralNames of typed, normalised names. */
export const writeSubjectAltName = (names: readonly string[]): Buffer =>
  sequence(...names.map((name) => writeGeneralName(parseGeneralName(name))));

export function readSubjectAltName(reader: DerReader): string[] {
  const list = reader.enter(TAG.sequence);
  reader.finish();
  return readGeneralNames(list);
}

/**
 * Subtrees as typed text: `DNS:lab.example` (the name and all below), `IP:10.0.0.0/8`, `URI:.lab.example` (hosts),
 * `email:lab.example`, `dirName:O=lab`.
 */
export interface NameConstraints {
  readonly permitted: readonly string[];
  readonly excluded: readonly string[];
}

export function writeNameConstraints(constraints: NameConstraints): Buffer {
  const side = (n: number, subtrees: readonly string[]) =>
    subtrees.length === 0 ? [] : [explicit(n, ...subtrees.map((text) => sequence(writeSubtree(text))))];
  return sequence(...side(0, constraints.permitted), ...side(1, constraints.excluded));
}

function writeSubtree(text: string): Buffer {
  const colon = text.indexOf(":");
  const value = text.slice(colon + 1);
  const dotted = value.replace(/^\./, "");
  switch (text.slice(0, colon)) {
    case "IP":
      return tlv(primitive(7), cidr(value));
    case "dirName":
      return explicit(4, writeName(value));
    case "DNS":
      return tlv(primitive(2), host(value, dotted));
    case "URI":
      return tlv(primitive(6), host(value, dotted));
    case "email":
      // A mailbox is constrained by its host, by `.domain`, or by itself.
      return tlv(primitive(1), value.includes("@") ? Buffer.from(parseGeneralName(text).value) : host(value, dotted));
    default:
      throw new GyreError({
        code: "input",
        message: `name constraint ${JSON.stringify(text)}: does not start with DNS:, IP:, URI:, email: or dirName:`,
      });
  }
}

function host(value: string, bare: string): Buffer {
  const { value: checked } = parseGeneralName(`DNS:${bare}`);
  return Buffer.from(value.startsWith(".") ? `.${checked}` : checked, "latin1");
}

/** Address and mask of `10.0.0.0/8`; a bare address means that one. Throws GyreError `input`. */
function cidr(text: string): Buffer {
  const [address = "", bits] = text.split("/");
  const bytes = ipBytes(address);
  const length = (bytes?.length ?? 0) * 8;
  const prefix = bits === undefined ? length : /^\d{1,3}$/.test(bits) ? Number(bits) : -1;
  if (bytes === undefined || prefix < 0 || prefix > length)
    throw new GyreError({ code: "input", message: `IP range ${JSON.stringify(text)}: is not ADDRESS or ADDRESS/BITS` });
  const mask = Buffer.alloc(bytes.length);
  for (let bit = 0; bit < prefix; bit++) mask[bit >> 3]! |= 0x80 >> (bit & 7);
  for (const [i, m] of mask.entries()) bytes[i]! &= m;
  return Buffer.concat([bytes, mask]);
}

export function readNameConstraints(reader: DerReader): NameConstraints {
  const body = reader.enter(TAG.sequence);
  reader.finish();
  const permitted = readSubtrees(body.optional(constructed(0)));
  const excluded = readSubtrees(body.optional(constructed(1)));
  body.finish();
  return { permitted, excluded };
}

function readSubtrees(list: DerReader | undefined): string[] {
  const subtrees: string[] = [];
  while (list !== undefined && !list.done) {
    const subtree = list.enter(TAG.sequence);
    if (subtree.peek() !== 0x87) subtrees.push(readSubtree(subtree));
    else subtrees.push(`IP:${rangeText(subtree.content(0x87), subtree)}`);
    // minimum and maximum must be absent (RFC 5280 4.2.1.10); a verifier that ignored them would be wrong
    subtree.finish();
  }
  return subtrees;
}

function readSubtree(subtree: DerReader): string {
  const tag = subtree.peek();
  if (tag === 0xa4) {
    const inner = subtree.enter(0xa4);
    return `dirName:${readName(inner.element(TAG.sequence), subtree.what)}`;
  }
  const type = { 129: "email", 130: "DNS", 134: "URI" }[tag];
  return type === undefined ? readGeneralName(subtree) : `${type}:${printable(subtree.content(tag)).toLowerCase()}`;
}

function rangeText(bytes: Buffer, reader: DerReader): string {
  if (bytes.length !== 8 && bytes.length !== 32) reader.fail("an IP range is not an address and a mask");
  const half = bytes.length / 2;
  const mask = bytes.subarray(half);
  let prefix = 0;
  while (prefix < half * 8 && (mask[prefix >> 3]! & (0x80 >> (prefix & 7))) !== 0) prefix++;
  for (let bit = prefix; bit < half * 8; bit++)
    if ((mask[bit >> 3]! & (0x80 >> (bit & 7))) !== 0) reader.fail("the mask of an IP range has a gap");
  return `${ipText(bytes.subarray(0, half))}/${prefix}`;
}
