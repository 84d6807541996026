import { GyreError } from "../errors.ts";

/** What a PEM block holds, whatever its label says. */
export type PemKind =
  | "certificate"
  | "trusted-certificate" // OpenSSL's: a certificate followed by trust settings
  | "request"
  | "crl"
  | "pkcs8"
  | "encrypted-pkcs8"
  | "pkcs1"
  | "sec1"
  | "ed25519" // Talos: PKCS#8 under another label
  | "public-key";

export interface PemBlock {
  readonly kind: PemKind;
  readonly label: string;
  readonly der: Buffer;
  /** Line of the BEGIN, counted from 1. */
  readonly line: number;
  /** RFC 1421 headers (`Proc-Type`, `DEK-Info`) of legacy encrypted keys; empty for all others. */
  readonly headers: Readonly<Record<string, string>>;
}

/** A block that is well-formed but of no use here, and why. */
export interface IgnoredBlock {
  readonly label: string;
  readonly line: number;
  readonly why: string;
}

export interface PemFile {
  readonly blocks: readonly PemBlock[];
  readonly ignored: readonly IgnoredBlock[];
}

// Labels seen in the wild. RFC 7468 names the first of each group; the others come from OpenSSL, Netscape and Talos.
const KINDS: Readonly<Record<string, PemKind>> = {
  CERTIFICATE: "certificate",
  "X509 CERTIFICATE": "certificate",
  "X.509 CERTIFICATE": "certificate",
  "TRUSTED CERTIFICATE": "trusted-certificate",
  "CERTIFICATE REQUEST": "request",
  "NEW CERTIFICATE REQUEST": "request",
  "X509 CRL": "crl",
  CRL: "crl",
  "PRIVATE KEY": "pkcs8",
  "ENCRYPTED PRIVATE KEY": "encrypted-pkcs8",
  "RSA PRIVATE KEY": "pkcs1",
  "EC PRIVATE KEY": "sec1",
  "ED25519 PRIVATE KEY": "ed25519",
  "PUBLIC KEY": "public-key",
};

const IGNORED: Readonly<Record<string, string>> = {
  PKCS7: "a PKCS#7 bundle: convert it with `openssl pkcs7 -print_certs`",
  "PKCS #7 SIGNED DATA": "a PKCS#7 bundle: convert it with `openssl pkcs7 -print_certs`",
  CMS: "a CMS message: convert it with `openssl pkcs7 -print_certs`",
  "EC PARAMETERS": "curve parameters, which the key repeats",
  "DH PARAMETERS": "Diffie-Hellman parameters",
  "OPENSSH PRIVATE KEY": "an OpenSSH key: convert it with `ssh-keygen -p -m PKCS8 -f FILE`",
  "RSA PUBLIC KEY": "a bare RSA public key",
};

const LINE = /\r\n|\n|\r/;
const BEGIN = /^-----BEGIN ([!-,.-~]+(?:[ -][!-,.-~]+)*)-----$/;
const BAD_CHARACTER = /[^A-Za-z0-9+/=]/;

function fail(where: string, line: number, why: string): never {
  throw new GyreError({ code: "input", message: `PEM is malformed: ${why}`, where: `${where}:${line}` });
}

/**
 * Reads every PEM block of a text (RFC 7468, laxly where files in the wild are: CRLF, byte order mark, text before and
 * after blocks, blank lines and spaces around lines, a missing last newline). Blocks of no use here come back in
 * `ignored` with the reason. Throws GyreError `input` with the line where a block is damaged; `where` names the file.
 */
export function parsePem(input: string | Uint8Array, where = "PEM"): PemFile {
  const text = asText(input);
  const strict = strictBlocks(text);
  if (strict !== undefined) return { blocks: strict, ignored: [] };
  return parseLaxly(text.split(LINE), where);
}

/**
 * The blocks of a text that is nothing but blocks the way `toPem` writes them, as most files are: five times as fast as
 * the lax way. Decoding base64 skips what is none, so the block is written again and compared. Undefined for any other
 * text, be it lax or damaged.
 */
function strictBlocks(text: string): PemBlock[] | undefined {
  const blocks: PemBlock[] = [];
  let line = 1;
  for (let at = 0; at < text.length; ) {
    const labelEnd = text.indexOf("-----\n", at + 11);
    if (labelEnd < 0 || labelEnd - at > 64 || !text.startsWith("-----BEGIN ", at)) return undefined;
    const label = text.slice(at + 11, labelEnd);
    const kind = Object.hasOwn(KINDS, label) ? KINDS[label] : undefined;
    const end = text.indexOf("\n-----END ", labelEnd);
    if (kind === undefined || end <= labelEnd + 6) return undefined;
    const der = Buffer.from(text.slice(labelEnd + 6, end), "base64");
    const next = end + label.length + 16;
    if (toPem(label, der) !== text.slice(at, next)) return undefined;
    blocks.push({ kind, label, der, line, headers: {} });
    line += Math.ceil((end - labelEnd - 6) / 65) + 2;
    at = next;
  }
  return blocks;
}

function parseLaxly(lines: readonly string[], where: string): PemFile {
  const blocks: PemBlock[] = [];
  const ignored: IgnoredBlock[] = [];
  for (let at = 0; at < lines.length; at++) {
    const text = lines[at]!.trim();
    // A commented-out block (`# -----BEGIN …`) is text like any other.
    if (!text.startsWith("-----")) continue;
    if (text.startsWith("-----END ")) fail(where, at + 1, "an END line without its BEGIN");
    if (!text.startsWith("-----BEGIN")) continue;
    const label = BEGIN.exec(text)?.[1];
    if (label === undefined) fail(where, at + 1, "a BEGIN line is not `-----BEGIN LABEL-----` and nothing else");
    const { der, headers, last } = readBody(lines, at, label, where);
    const kind = Object.hasOwn(KINDS, label) ? KINDS[label] : undefined;
    if (kind !== undefined) blocks.push({ kind, label, der, line: at + 1, headers });
    else {
      const why = Object.hasOwn(IGNORED, label) ? IGNORED[label]! : "a label that is not used here";
      ignored.push({ label, line: at + 1, why });
    }
    at = last;
  }
  return { blocks, ignored };
}

function asText(input: string | Uint8Array): string {
  const text =
    typeof input === "string" ? input : Buffer.from(input.buffer, input.byteOffset, input.length).toString("latin1");
  // UTF-16 files come from Windows editors; as Latin-1 every second character is NUL.
  if (text.startsWith("\u00ff\u00fe")) return Buffer.from(text, "latin1").toString("utf16le").slice(1);
  return text.replace(/^(\ufeff|\u00ef\u00bb\u00bf)/, "");
}

function readBody(lines: readonly string[], begin: number, label: string, where: string) {
  const end = `-----END ${label}-----`;
  const headers: Record<string, string> = {};
  let body = "";
  for (let at = begin + 1; at < lines.length; at++) {
    const text = lines[at]!.trim();
    if (text === end) return { der: decode(body, begin, label, where), headers, last: at };
    if (text.startsWith("-----")) fail(where, at + 1, `expected \`${end}\` for the block of line ${begin + 1}`);
    // Headers come before the base64, which has no colon in its alphabet.
    const colon = body === "" ? text.indexOf(":") : -1;
    if (colon > 0) {
      headers[text.slice(0, colon)] = text.slice(colon + 1).trim();
      continue;
    }
    if (BAD_CHARACTER.test(text)) fail(where, at + 1, `a character that is not base64 in ${label}`);
    if (body.endsWith("=") && text !== "") fail(where, at + 1, `base64 goes on after its end in ${label}`);
    body += text;
  }
  fail(where, begin + 1, `${label} has no END line: the file is cut off`);
}

function decode(body: string, begin: number, label: string, where: string): Buffer {
  const padding = /=*$/.exec(body)![0].length;
  const data = body.length - padding;
  if (body.length === 0) fail(where, begin + 1, `${label} is empty`);
  if (body.indexOf("=") !== -1 && body.indexOf("=") < data) fail(where, begin + 1, `base64 of ${label} has = inside`);
  if (data % 4 === 1 || padding !== (4 - (data % 4)) % 4) fail(where, begin + 1, `base64 of ${label} is cut off`);
  return Buffer.from(body, "base64");
}

/** One PEM block, 64 characters to the line, with a newline at the end (RFC 7468). */
export function toPem(label: string, der: Uint8Array): string {
  const base64 = Buffer.from(der.buffer, der.byteOffset, der.length).toString("base64");
  let text = `-----BEGIN ${label}-----\n`;
  for (let at = 0; at < base64.length; at += 64) text += `${base64.slice(at, at + 64)}\n`;
  return `${text}-----END ${label}-----\n`;
}

/** How an input that is not PEM is told from one that is: DER of everything here is a SEQUENCE. */
export function looksLikeDer(input: string | Uint8Array): input is Uint8Array {
  return typeof input !== "string" && input.length > 0 && input[0] === 0x30;
}

/** The error for a file in which what was wanted is not: it says what was there instead. */
export function nothingFound(wanted: string, file: PemFile, where: string): GyreError {
  const seen = [
    ...file.blocks.map((block) => `line ${block.line}: ${block.label}`),
    ...file.ignored.map((block) => `line ${block.line}: ${block.label} (${block.why})`),
  ];
  const what = seen.length === 0 ? "no PEM block at all" : seen.slice(0, 5).join("; ");
  return new GyreError({ code: "input", message: `found no ${wanted}: ${what}`, where });
}
