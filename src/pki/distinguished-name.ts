import { isUtf8 } from "node:buffer";
import { GyreError } from "../errors.ts";
import {
  DerReader,
  ia5String,
  isOid,
  MAX_DEPTH,
  oid,
  printableString,
  sequence,
  setOf,
  TAG,
  utf8String,
} from "./der.ts";

/**
 * Distinguished names: RFC 4514 text <-> DER. The text is in reverse order of the DER, as RFC 4514 2.1 says: what is
 * written last (`O=lab` in `CN=shop,O=lab`) is the outermost. Comparing names is comparing bytes everywhere in Gyre.
 */

// RFC 4514 section 3, and the few others that certificates of Kubernetes, Talos and public CAs hold.
const TYPES: readonly (readonly [name: string, oid: string])[] = [
  ["CN", "2.5.4.3"],
  ["SN", "2.5.4.4"],
  ["serialNumber", "2.5.4.5"],
  ["C", "2.5.4.6"],
  ["L", "2.5.4.7"],
  ["ST", "2.5.4.8"],
  ["STREET", "2.5.4.9"],
  ["O", "2.5.4.10"],
  ["OU", "2.5.4.11"],
  ["title", "2.5.4.12"],
  ["GN", "2.5.4.42"],
  ["DC", "0.9.2342.19200300.100.1.25"],
  ["UID", "0.9.2342.19200300.100.1.1"],
  ["emailAddress", "1.2.840.113549.1.9.1"],
];
const NAME_OF = new Map(TYPES.map(([name, id]) => [id, name]));
const OID_OF = new Map(TYPES.map(([name, id]) => [name.toLowerCase(), id]));
const PRINTABLE = /^[A-Za-z0-9 '()+,\-./:=?]*$/;
const MAX_TEXT = 16_384;

function bad(text: string, why: string): never {
  const shown = text.length > 120 ? `${text.slice(0, 120)}…` : text;
  throw new GyreError({ code: "input", message: `distinguished name ${JSON.stringify(shown)}: ${why}` });
}

// ---- DER to text ----------------------------------------------------------------------------------------------------

/** RFC 4514 text of a DER Name. Values that are no text, and types without a short name, come as `OID=#hex`. */
export function readName(der: Buffer, what = "distinguished name"): string {
  const outer = new DerReader(der, what);
  const rdns = outer.enter(TAG.sequence);
  outer.finish();
  let text = "";
  while (!rdns.done) {
    const rdn = rdns.enter(TAG.set);
    let one = "";
    while (!rdn.done) {
      const attribute = rdn.enter(TAG.sequence);
      const pair = readAttribute(attribute);
      attribute.finish();
      one = one === "" ? pair : `${one}+${pair}`;
    }
    if (one === "") rdns.fail("a relative distinguished name is empty");
    text = text === "" ? one : `${one},${text}`;
  }
  return text;
}

/** All values of one attribute type in a DER Name, outermost first; `CN` of most certificates has one. */
export function attributeValues(der: Buffer, type: string): string[] {
  const wanted = OID_OF.get(type.toLowerCase());
  const rdns = new DerReader(der, "distinguished name").enter(TAG.sequence);
  const values: string[] = [];
  while (!rdns.done) {
    const rdn = rdns.enter(TAG.set);
    while (!rdn.done) {
      const attribute = rdn.enter(TAG.sequence);
      if (attribute.oid() !== wanted) continue;
      const tag = attribute.read();
      values.push(stringValue(attribute.bytes.subarray(attribute.start, attribute.stop), tag) ?? "");
    }
  }
  return values;
}

function readAttribute(attribute: DerReader): string {
  const id = attribute.oid();
  const from = attribute.pos;
  const tag = attribute.read();
  const name = NAME_OF.get(id);
  const value =
    name === undefined ? undefined : stringValue(attribute.bytes.subarray(attribute.start, attribute.stop), tag);
  if (value === undefined) return `${name ?? id}=#${attribute.bytes.toString("hex", from, attribute.stop)}`;
  return `${name}=${escapeValue(value)}`;
}

function stringValue(bytes: Buffer, tag: number): string | undefined {
  switch (tag) {
    case TAG.utf8:
      return isUtf8(bytes) ? bytes.toString("utf8") : undefined;
    case TAG.printable:
    case TAG.ia5:
    case TAG.teletex: // T.61 in the standard, Latin-1 in the field
      return bytes.toString("latin1");
    case TAG.bmp:
      return bytes.length % 2 === 0 ? Buffer.from(bytes).swap16().toString("utf16le") : undefined;
    default:
      return undefined;
  }
}

/** RFC 4514 2.4, and every control character as hex pairs so that a name cannot move a terminal's cursor. */
function escapeValue(value: string): string {
  if (/^[A-Za-z0-9_:.@*/-][A-Za-z0-9_:.@*/ -]*$/.test(value) && !value.endsWith(" ")) return value;
  return value
    .replace(/["+,;<>\\]/g, "\\$&")
    .replace(/^[ #]| $/g, "\\$&")
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]|[\ud800-\udfff]/gu, hexEscape);
}

const hexEscape = (c: string): string => Buffer.from(c, "utf8").toString("hex").replace(/../g, "\\$&");

// ---- text to DER ----------------------------------------------------------------------------------------------------

/** DER of an RFC 4514 text; the empty text is the empty name. Throws GyreError `input`. */
export function writeName(text: string): Buffer {
  if (text.length > MAX_TEXT) bad(text, `longer than ${MAX_TEXT} characters`);
  if (text.trim() === "") return sequence();
  const rdns = splitUnescaped(text, ",");
  const parts = rdns.map((rdn) => setOf(...splitUnescaped(rdn, "+").map((pair) => writeAttribute(pair, text))));
  return sequence(...parts.reverse());
}

/** The same name in the spelling `subject` and `issuer` of certificates have. */
export const normaliseDistinguishedName = (text: string): string => readName(writeName(text));

/** Splits at a separator that is neither escaped nor inside quotes (quotes are RFC 2253's older form). */
export function splitUnescaped(text: string, separator: string): string[] {
  const parts: string[] = [];
  let from = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const c = text[at];
    if (c === "\\") at++;
    else if (c === '"') quoted = !quoted;
    else if (c === separator && !quoted) {
      parts.push(text.slice(from, at));
      from = at + 1;
    }
  }
  parts.push(text.slice(from));
  return parts;
}

function writeAttribute(pair: string, whole: string): Buffer {
  const equals = pair.indexOf("=");
  if (equals < 0) bad(whole, `${JSON.stringify(pair)} is not TYPE=value`);
  const type = pair.slice(0, equals).trim();
  const id = OID_OF.get(type.toLowerCase()) ?? type.replace(/^oid\./i, "");
  if (!isOid(id)) bad(whole, `the attribute type ${JSON.stringify(type)} is not known; write its object identifier`);
  const raw = pair.slice(equals + 1).trimStart();
  if (raw.startsWith("#")) return sequence(oid(id), hexValue(raw.slice(1).trimEnd(), whole));
  const value = unescapeValue(raw, whole);
  if (value === "") bad(whole, `${type} has no value`);
  return sequence(oid(id), directoryString(id, value, whole));
}

function hexValue(hex: string, whole: string): Buffer {
  if (!/^([0-9A-Fa-f]{2})+$/.test(hex)) bad(whole, "after =# come pairs of hexadecimal digits");
  const der = Buffer.from(hex, "hex");
  const reader = new DerReader(
    der,
    `distinguished name ${JSON.stringify(whole.slice(0, 120))}`,
    0,
    der.length,
    MAX_DEPTH - 8,
  );
  reader.read();
  reader.finish();
  return der;
}

function unescapeValue(raw: string, whole: string): string {
  let text = raw;
  if (text.startsWith('"')) {
    text = text.trimEnd();
    if (text.length < 2 || !text.endsWith('"')) bad(whole, "a quoted value has no end");
    text = text.slice(1, -1);
  } else {
    let end = text.length;
    while (end > 0 && text[end - 1] === " " && text[end - 2] !== "\\") end--;
    text = text.slice(0, end);
  }
  const bytes: Buffer[] = [];
  for (let at = 0; at < text.length; ) {
    const slash = text.indexOf("\\", at);
    if (slash !== at) {
      const to = slash < 0 ? text.length : slash;
      bytes.push(Buffer.from(text.slice(at, to), "utf8"));
      at = to;
      continue;
    }
    const hex = /^[0-9A-Fa-f]{2}/.exec(text.slice(at + 1, at + 3))?.[0];
    if (hex !== undefined) bytes.push(Buffer.from(hex, "hex"));
    else if (/^["+,;<>\\ #=]/.test(text.slice(at + 1))) bytes.push(Buffer.from(text[at + 1]!, "utf8"));
    else bad(whole, "a backslash starts no escape");
    at += hex !== undefined ? 3 : 2;
  }
  const value = Buffer.concat(bytes);
  if (!isUtf8(value)) bad(whole, "an escaped value is not UTF-8");
  return value.toString("utf8");
}

/** RFC 5280 4.1.2.4: UTF8String, except where the attribute's own definition says PrintableString or IA5String. */
function directoryString(id: string, value: string, whole: string): Buffer {
  if (id === "2.5.4.6" || id === "2.5.4.5") {
    if (!PRINTABLE.test(value)) bad(whole, `${JSON.stringify(value)} may hold only PrintableString characters`);
    if (id === "2.5.4.6" && value.length !== 2) bad(whole, "C is a country code of two letters");
    return printableString(value);
  }
  if (id === "0.9.2342.19200300.100.1.25" || id === "1.2.840.113549.1.9.1") {
    if (/[^\x00-\x7f]/.test(value)) bad(whole, `${JSON.stringify(value)} must be ASCII`);
    return ia5String(value);
  }
  return utf8String(value);
}
