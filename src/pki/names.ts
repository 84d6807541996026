import { isIP } from "node:net";
import { domainToASCII } from "node:url";
import { GyreError } from "../errors.ts";
import { DerReader, explicit, primitive, tlv } from "./der.ts";
import { readName, writeName } from "./distinguished-name.ts";

/**
 * General names (RFC 5280 4.2.1.6) as text: `DNS:a.example`, `IP:10.0.0.1`, `URI:spiffe://td/x`, `email:x@y.example`.
 * `parseGeneralName` is strict, since its result goes into certificates; `readGeneralNames` shows whatever a
 * certificate of somebody else holds and never refuses a value that can be shown.
 */
export type NameType = "DNS" | "IP" | "URI" | "email";
export interface GeneralName {
  readonly type: NameType;
  readonly value: string;
}

const MAX_NAME = 2048;

function bad(text: string, why: string, next?: string): never {
  const shown = text.length > 120 ? `${text.slice(0, 120)}…` : text;
  throw new GyreError({
    code: "input",
    message: `name ${JSON.stringify(shown)}: ${why}`,
    ...(next === undefined ? {} : { next }),
  });
}

/** Parses and normalises one typed name. Throws GyreError `input` with what is wrong and, where known, what to write. */
export function parseGeneralName(text: string): GeneralName {
  const colon = text.indexOf(":");
  const type = text.slice(0, Math.max(colon, 0));
  const value = text.slice(colon + 1);
  if (text.length > MAX_NAME) bad(text, `longer than ${MAX_NAME} characters`);
  if (type === "DNS") return { type, value: normaliseDns(text, value, true) };
  if (type === "IP") return { type, value: normaliseIp(text, value) };
  if (type === "URI") return { type, value: normaliseUri(text, value) };
  if (type === "email") return { type, value: normaliseEmail(text, value) };
  return bad(text, "does not start with DNS:, IP:, URI: or email:", `write ${guessType(text)}`);
}

/** The typed, normalised text of a name: what `names` of a certificate hold, so that texts can be compared. */
export const formatGeneralName = (name: GeneralName): string => `${name.type}:${name.value}`;

/** Normalises a list of typed names; a name given twice counts once. Order is kept. */
export const normaliseNames = (names: readonly string[]): string[] => [
  ...new Set(names.map((name) => formatGeneralName(parseGeneralName(name)))),
];

function guessType(text: string): string {
  if (isIP(text) !== 0) return `IP:${text}`;
  if (text.includes("://")) return `URI:${text}`;
  return text.includes("@") ? `email:${text}` : `DNS:${text}`;
}

function normaliseDns(text: string, value: string, wildcard: boolean): string {
  if (/[^\x21-\x7e]/.test(value)) {
    const ascii = domainToASCII(value);
    bad(text, "is not ASCII", ascii === "" ? undefined : `write its A-label form: DNS:${ascii}`);
  }
  const name = value.toLowerCase();
  if (name.length === 0 || name.length > 253) bad(text, "a DNS name has 1 to 253 characters");
  if (isIP(name) !== 0) bad(text, "is an IP address", `write IP:${value}`);
  if (name.endsWith("."))
    bad(text, "certificates hold DNS names without the final dot", `write DNS:${value.slice(0, -1)}`);
  const labels = name.split(".");
  if (labels[0] === "*" && wildcard) {
    if (labels.length < 2) bad(text, "a wildcard needs a domain after it");
    labels.shift();
  }
  for (const label of labels)
    if (!/^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label))
      bad(text, `the label ${JSON.stringify(label)} is not 1 to 63 letters, digits and inner hyphens`);
  return name;
}

function normaliseIp(text: string, value: string): string {
  const bytes = ipBytes(value);
  return bytes === undefined ? bad(text, "is not an IPv4 or IPv6 address") : ipText(bytes);
}

function normaliseUri(text: string, value: string): string {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):(?=.)/.exec(value)?.[1];
  if (scheme === undefined) bad(text, "a URI needs a scheme and something after it");
  if (!/^[!#-;=?-[\]_a-z~]*$/.test(value)) bad(text, "holds characters a URI must percent-encode");
  if (/%(?![0-9A-Fa-f]{2})/.test(value)) bad(text, "holds a % that starts no escape");
  if (!URL.canParse(value)) bad(text, "is not a URI");
  return scheme.toLowerCase() + value.slice(scheme.length);
}

function normaliseEmail(text: string, value: string): string {
  const at = value.lastIndexOf("@");
  const local = value.slice(0, Math.max(at, 0));
  if (!/^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$/.test(local) || local.length > 64)
    bad(text, "the part before @ is not an RFC 5280 4.2.1.6 mailbox");
  return `${local}@${normaliseDns(text, value.slice(at + 1), false)}`;
}

/** The 4 or 16 octets of an address, undefined for anything else. Zone identifiers are refused. */
export function ipBytes(text: string): Buffer | undefined {
  const version = text.includes("%") ? 0 : isIP(text);
  if (version === 0) return undefined;
  if (version === 4) return Buffer.from(text.split(".").map(Number));
  let rest = text;
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  if (dotted !== null) {
    const [a, b, c, d] = dotted.slice(2).map(Number) as [number, number, number, number];
    rest = `${dotted[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const [head = "", tail] = rest.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const out = Buffer.alloc(16);
  const groups = [...left, ...Array<string>(8 - left.length - right.length).fill("0"), ...right];
  for (const [i, group] of groups.entries()) out.writeUInt16BE(Number.parseInt(group, 16), i * 2);
  return out;
}

/** The text of 4 or 16 octets, IPv6 in the form of RFC 5952 (groups in hex, the longest run of zeros as `::`). */
export function ipText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[i]! << 8) | bytes[i + 1]!).toString(16));
  let best = { at: -1, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (at + length < 8 && groups[at + length] === "0") length++;
    if (length > best.length) best = { at, length };
  }
  if (best.at < 0) return groups.join(":");
  return `${groups.slice(0, best.at).join(":")}::${groups.slice(best.at + best.length).join(":")}`;
}

// ---- DER ------------------------------------------------------------------------------------------------------------

const CONTEXT: Readonly<Record<NameType, number>> = { email: 1, DNS: 2, URI: 6, IP: 7 };

/** One GeneralName in DER. */
export function writeGeneralName(name: GeneralName): Buffer {
  if (name.type !== "IP") return tlv(primitive(CONTEXT[name.type]), Buffer.from(name.value, "latin1"));
  const bytes = ipBytes(name.value);
  return bytes === undefined ? bad(name.value, "is not an IP address") : tlv(primitive(7), bytes);
}

/** A directoryName in DER (the CHOICE of a Name is always explicit). */
export const writeDirectoryName = (rfc4514: string): Buffer => explicit(4, writeName(rfc4514));

/** Text for octets that should be ASCII: everything else is shown as `\xx`, so that a name cannot forge its neighbour. */
export function printable(bytes: Buffer): string {
  const text = bytes.toString("latin1");
  return /^[!-+\--[\]-~]*$/.test(text)
    ? text
    : text.replace(/[^!-+\--[\]-~]/g, (c) => `\\${c.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

/** Reads one GeneralName as text: the four types, and `other:`, `dirName:`, `RID:` and the like for the rest. */
export function readGeneralName(reader: DerReader): string {
  const from = reader.pos;
  const tag = reader.read();
  const body = reader.bytes.subarray(reader.start, reader.stop);
  switch (tag) {
    case 0x81:
      return `email:${printable(body)}`;
    case 0x82:
      return `DNS:${printable(body).toLowerCase()}`;
    case 0x86:
      return `URI:${printable(body)}`;
    case 0x87:
      if (body.length !== 4 && body.length !== 16) reader.fail("an IP address name is not 4 or 16 octets");
      return `IP:${ipText(body)}`;
    case 0xa4: {
      const inner = new DerReader(reader.bytes, reader.what, reader.start, reader.stop, reader.depth + 1);
      const name = `dirName:${readName(inner.element(0x30), reader.what)}`;
      inner.finish();
      return name;
    }
    case 0x88: {
      const inner = new DerReader(Buffer.concat([Buffer.from([6, body.length & 0x7f]), body]), reader.what);
      return `RID:${inner.oid()}`;
    }
    case 0xa0:
    case 0xa3:
    case 0xa5:
      return `other:#${reader.bytes.toString("hex", from, reader.stop)}`;
    default:
      return reader.fail("a general name of an unknown type");
  }
}

/** Reads the content of GeneralNames. An empty list is an error (RFC 5280: SIZE (1..MAX)). */
export function readGeneralNames(reader: DerReader): string[] {
  const names: string[] = [];
  while (!reader.done) names.push(readGeneralName(reader));
  if (names.length === 0) reader.fail("a list of general names is empty");
  return names;
}
