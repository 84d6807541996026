import { createHash } from "node:crypto";
import { type Certificate, parseCertificates } from "../../pki/certificate.ts";
import { comparableName } from "./comparable-name.ts";

/**
 * `ours`: it names this certificate. `other`: it names something else. `subject`: our subject, which every generation
 * shares and a stranger can write: not enough to tell by. `none`: empty, or not enough either.
 */
export type Naming = "ours" | "other" | "subject" | "none";

/**
 * Whom a header names, as servers write it: serial (hex in any case, with colons, 0x or leading zeros; decimal),
 * SHA-1 or SHA-256 fingerprint, subject (RFC 4514 or OpenSSL's slash form), a PEM certificate (percent-encoded), or
 * Envoy's x-forwarded-client-cert with several of these.
 */
export function whomItNames(value: string, certificate: Certificate): Naming {
  const text = value.trim();
  if (text === "" || text === "-") return "none";
  const parts = partsOf(text);
  if (parts.some((part) => isOurNumber(part, certificate) || isOurPem(part, certificate))) return "ours";
  // A number that is not ours beside our subject is another generation of it.
  const numbered = parts.some((part) => /^(?:0x)?[0-9a-f: ]{16,}$/i.test(part));
  if (!numbered && parts.some((part) => isOurSubject(part, certificate))) return "subject";
  // A serial this short reads the same in hex and decimal for two different certificates: no evidence either way.
  return isShortSerial(text, certificate) ? "none" : "other";
}

/** The value itself, and what stands in `Key=value;Key="value"` lists. */
function partsOf(text: string): string[] {
  const pairs = text.matchAll(/(?:^|[;,])\s*(?:Hash|Subject|Cert|Serial)=(?:"((?:[^"\\]|\\.)*)"|([^;,"]*))/gi);
  return [text, ...[...pairs].map((pair) => pair[1]?.replace(/\\(.)/g, "$1") ?? pair[2] ?? "")];
}

const shortest = 16;

function isOurNumber(part: string, certificate: Certificate): boolean {
  if (/^(?:0x)?[0-9a-f]+(?:[: ][0-9a-f]+)*$/i.test(part) === false) return false;
  const digits = part.replace(/^0x/i, "").replace(/[: ]/g, "").toLowerCase();
  const sha1 = createHash("sha1").update(certificate.der).digest("hex");
  if (digits === certificate.fingerprint || digits === sha1) return true;
  const { serial } = certificate;
  if (serial.length < shortest || serial.startsWith("-")) return false;
  return digits.replace(/^0+(?=.)/, "") === serial || (/^\d+$/.test(part) && BigInt(part).toString(16) === serial);
}

function isShortSerial(text: string, { serial }: Certificate): boolean {
  return serial.length < shortest && /^(?:0x)?[0-9a-f:]{1,20}$/i.test(text);
}

function isOurSubject(part: string, { subject }: Certificate): boolean {
  return subject !== "" && part.includes("=") && comparableName(part) === comparableName(subject);
}

function isOurPem(part: string, { fingerprint }: Certificate): boolean {
  if (!part.includes("BEGIN")) return false;
  try {
    const pem = part.includes("%") ? decodeURIComponent(part) : part;
    return parseCertificates(pem, "identity header")[0]?.fingerprint === fingerprint;
  } catch {
    return false; // cut off by a header limit, or not a certificate
  }
}
