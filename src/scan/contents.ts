import { type Certificate, readCertificateLazily } from "../pki/certificate.ts";
import { type Crl, parseCrl } from "../pki/crl.ts";
import { type Csr, parseCsr } from "../pki/csr.ts";
import { DerReader, TAG } from "../pki/der.ts";
import { type PrivateKey, readPrivateKey } from "../pki/keys.ts";
import { type PemBlock, parsePem, toPem } from "../pki/pem.ts";
import { type FoundProblem, problem, wordsOf } from "./found.ts";

/** One thing of a file, read but not yet judged. */
export type Item =
  | { readonly is: "certificate"; readonly where: string; readonly certificate: Certificate }
  | { readonly is: "crl"; readonly where: string; readonly crl: Crl }
  | { readonly is: "request"; readonly where: string; readonly request: Csr }
  /** `key` is absent where a passphrase locks it. */
  | { readonly is: "key"; readonly where: string; readonly key?: PrivateKey }
  | { readonly is: "store"; readonly where: string; readonly type: "PKCS#12" | "JKS" }
  | { readonly is: "problem"; readonly where: string; readonly problem: FoundProblem };

/** What a file or a value holds, in its order. Empty when it holds nothing of ours. Never throws. */
export function itemsOf(bytes: Buffer, path: string): Item[] {
  if (bytes.includes("-----BEGIN ")) return pemItems(bytes, path);
  if (bytes.length > 4 && (bytes.readUInt32BE(0) === 0xfeedfeed || bytes.readUInt32BE(0) === 0xcececece))
    return [{ is: "store", where: path, type: "JKS" }];
  return derItems(bytes, path);
}

const failed = (where: string, error: unknown): Item => {
  const at = (error as { where?: unknown }).where;
  const place = typeof at === "string" ? at : where;
  return { is: "problem", where: place, problem: problem(place, wordsOf(error)) };
};

const BEGIN = "-----BEGIN CERTIFICATE-----\n";
const END = "\n-----END CERTIFICATE-----";

function pemItems(bytes: Buffer, path: string): Item[] {
  const quick = oneCertificate(bytes);
  if (quick) {
    try {
      return [{ is: "certificate", where: `${path}:1`, certificate: readCertificateLazily(quick, `${path}:1`) }];
    } catch {
      // The careful way below finds the words for what is wrong.
    }
  }
  try {
    return parsePem(bytes, path).blocks.flatMap((block) => blockItem(block, path));
  } catch (error) {
    return [...itemsBefore(bytes, path, error), failed(path, error)];
  }
}

/**
 * Most files are one certificate and nothing else, in the exact form every tool writes. Decoded without looking at
 * lines this takes a third of the time; a DER length that does not fit sends the file the careful way.
 */
function oneCertificate(bytes: Buffer): Buffer | undefined {
  const text = bytes.toString("latin1");
  if (!text.startsWith(BEGIN)) return undefined;
  const end = text.indexOf(END);
  if (end < 0 || text.length > end + END.length + 1) return undefined;
  const body = text.slice(BEGIN.length, end);
  return /^[A-Za-z0-9+/\n]+={0,2}$/.test(body) ? Buffer.from(body, "base64") : undefined;
}

/** A damaged block does not hide the whole ones before it. */
function itemsBefore(bytes: Buffer, path: string, error: unknown): Item[] {
  const line = Number(/:(\d+)$/.exec(String((error as { where?: unknown }).where))?.[1]);
  if (!(line > 1)) return [];
  const lines = bytes
    .toString("latin1")
    .split(/\r\n|\n|\r/)
    .slice(0, line);
  const begin = lines.findLastIndex((text) => text.trim().startsWith("-----BEGIN"));
  if (begin <= 0) return [];
  try {
    const file = parsePem(lines.slice(0, begin).join("\n"), path);
    return file.blocks.flatMap((block) => blockItem(block, path));
  } catch {
    return [];
  }
}

function blockItem(block: PemBlock, path: string): Item[] {
  const where = `${path}:${block.line}`;
  try {
    switch (block.kind) {
      case "certificate":
        return [{ is: "certificate", where, certificate: readCertificateLazily(block.der, where) }];
      case "trusted-certificate": {
        const der = new DerReader(block.der, where).element(TAG.sequence);
        return [{ is: "certificate", where, certificate: readCertificateLazily(der, where) }];
      }
      case "crl":
        return [{ is: "crl", where, crl: parseCrl(block.der, where) }];
      case "request":
        return [{ is: "request", where, request: parseCsr(block.der, where) }];
      case "public-key":
        return [];
      case "encrypted-pkcs8":
        return [{ is: "key", where }];
      default:
        return [keyItem(block, where)];
    }
  } catch (error) {
    return [failed(where, error)];
  }
}

function keyItem(block: PemBlock, where: string): Item {
  if (block.headers["Proc-Type"]?.includes("ENCRYPTED")) return { is: "key", where };
  try {
    return { is: "key", where, key: readPrivateKey(toPem(block.label, block.der), undefined, where) };
  } finally {
    block.der.fill(0);
  }
}

/** DER has no label: each reading is tried, and one that fits to the last byte is believed. */
function derItems(bytes: Buffer, path: string): Item[] {
  if (bytes[0] === 0x30) {
    // One buffer serves all files; what is kept must be a copy.
    const der = Buffer.from(bytes);
    if (isPkcs12(der)) return [{ is: "store", where: path, type: "PKCS#12" }];
    const tries: (() => Item)[] = [
      () => ({ is: "certificate", where: path, certificate: readCertificateLazily(der, path) }),
      () => ({ is: "crl", where: path, crl: parseCrl(der, path) }),
      () => ({ is: "request", where: path, request: parseCsr(der, path) }),
      // 32 bytes are no DER of a key, but a bare Ed25519 seed to its reader: a password of that length would do.
      ...(der.length === 32
        ? []
        : [(): Item => ({ is: "key", where: path, key: readPrivateKey(der, undefined, path) })]),
    ];
    for (const attempt of tries) {
      try {
        return [attempt()];
      } catch {
        // Not this kind.
      }
    }
  }
  if (!NAMED.test(path)) return [];
  const what =
    bytes.length === 0 ? "empty" : "by its name a certificate, CRL or key store, but nothing of that is in it";
  return [{ is: "problem", where: path, problem: problem(path, what) }];
}

/** Names that promise something of ours. `.key` does not: DNSSEC, GnuPG and others use it too. */
const NAMED = /\.(pem|der|crt|cer|cert|crl|csr|p12|pfx|jks)$/i;

/** PFX (RFC 7292 section 4): version 3, then a ContentInfo of type data (1.2.840.113549.1.7.1). BER from Java and Windows too. */
function isPkcs12(der: Buffer): boolean {
  const head = der.subarray(0, 48).toString("hex");
  return /^30(80|[0-7].|8[1-4](..){1,4})020103/.test(head) && head.includes("06092a864886f70d01070");
}
