import { GyreError } from "../../errors.ts";
import { type Certificate, parseCertificates } from "../../pki/certificate.ts";
import { type Crl, parseCrls } from "../../pki/crl.ts";
import { parsePem } from "../../pki/pem.ts";
import { readPkcs12, writePkcs12 } from "../../pki/pkcs12.ts";
import type { Secret } from "../../pki/secret.ts";

/** One kind of file that says what a verifier trusts. */
export interface TrustFormat {
  readonly holds: "certificates" | "crls";
  /** PEM of what is in it. Throws GyreError `input` for a file that is no such thing, naming the line. */
  read(bytes: Buffer): string;
  /**
   * The content that holds `pem`; undefined when `present` holds just that already, so that nothing needs writing.
   * Throws GyreError `input`, also for a present file whose content would be lost.
   */
  write(present: Buffer | undefined, pem: string): Buffer | undefined;
}

const isEmpty = (bytes: Uint8Array | string): boolean => Buffer.from(bytes).toString("latin1").trim() === "";
const certificatesOf = (pem: Buffer | string, where: string): Certificate[] =>
  isEmpty(pem) ? [] : parseCertificates(pem, where);
const crlsOf = (pem: Buffer | string, where: string): Crl[] => (isEmpty(pem) ? [] : parseCrls(pem, where));
const text = (parts: readonly { readonly pem: string }[]): string => parts.map((part) => part.pem).join("");

function same(a: readonly { readonly fingerprint: string }[], b: readonly { readonly fingerprint: string }[]): boolean {
  return a.length === b.length && a.every((one, index) => one.fingerprint === b[index]!.fingerprint);
}

/** What else is in a PEM file would be lost with the next write: a key in it means that it is another kind of file. */
function mustHoldOnly(kinds: readonly string[], bytes: Buffer, where: string): void {
  const other = parsePem(bytes, where).blocks.find((block) => !kinds.includes(block.kind));
  if (other === undefined) return;
  throw new GyreError({
    code: "input",
    message: `${where} also holds ${other.label}, which a write would take away; nothing written`,
    where: `${where}:${other.line}`,
    next: "name another file, or move that block out of it",
  });
}

/** CA certificates or pins, PEM. */
export const bundleFormat = (where: string): TrustFormat => ({
  holds: "certificates",
  read: (bytes) => text(certificatesOf(bytes, where)),
  write(present, pem) {
    const wanted = certificatesOf(pem, "certificates to write");
    if (present !== undefined) {
      mustHoldOnly(["certificate", "trusted-certificate"], present, where);
      if (same(certificatesOf(present, where), wanted)) return undefined;
    }
    return Buffer.from(text(wanted), "latin1");
  },
});

/** CRLs, PEM. Only those of the issuers in the new text are replaced. */
export const crlFormat = (where: string): TrustFormat => ({
  holds: "crls",
  read: (bytes) => text(crlsOf(bytes, where)),
  write(present, pem) {
    const wanted = parseCrls(pem, "CRL to write");
    if (present !== undefined) mustHoldOnly(["crl"], present, where);
    const kept = present === undefined ? [] : crlsOf(present, where);
    // In the old one's place, so that a file of many keeps its order.
    const merged = kept.map((old) => wanted.find((fresh) => sameIssuer(fresh, old)) ?? old);
    const all = [...merged, ...wanted.filter((fresh) => !merged.includes(fresh))];
    const once = all.filter((crl, index) => all.findIndex((other) => other.fingerprint === crl.fingerprint) === index);
    return present !== undefined && same(kept, once) ? undefined : Buffer.from(text(once), "latin1");
  },
});

/** A CA that changed its key under its old name has two CRLs; a verifier needs both (RFC 5280 5.2.1). */
function sameIssuer(a: Crl, b: Crl): boolean {
  if (!a.issuerDer.equals(b.issuerDer)) return false;
  return a.aki === undefined || b.aki === undefined || a.aki === b.aki;
}

/** A PKCS#12 trust store, as Java reads it. Aliases that are there stay. */
export const trustStoreFormat = (where: string, password: Secret): TrustFormat => {
  const open = (bytes: Buffer) => {
    const store = readPkcs12(bytes, password, `trust store ${where}`);
    // openssl marks nothing as trusted, and what reads its stores does not ask for the mark.
    const unmarked = (store.others ?? []).map((certificate) => ({ alias: aliasOf(certificate), certificate }));
    return { keys: store.keys, entries: [...store.trusted, ...unmarked] };
  };
  return {
    holds: "certificates",
    read: (bytes) => text(open(bytes).entries.map((entry) => entry.certificate)),
    write(present, pem) {
      const wanted = certificatesOf(pem, "certificates to write");
      const { keys, entries } = present === undefined ? { keys: [], entries: [] } : open(present);
      if (keys.length > 0) {
        const message = `trust store ${where} also holds a private key, which a write would take away; nothing written`;
        throw new GyreError({ code: "input", message, where, next: "name another file" });
      }
      const kept = entries.map((entry) => entry.certificate);
      if (present !== undefined && same(kept, wanted)) return undefined;
      const known = (certificate: Certificate) =>
        entries.find((entry) => entry.certificate.fingerprint === certificate.fingerprint)?.alias;
      const trusted = wanted.map((certificate) => ({ alias: known(certificate) ?? aliasOf(certificate), certificate }));
      return writePkcs12({ keys: [], trusted }, password, `trust store ${where}`);
    },
  };
};

const aliasOf = (certificate: Certificate): string => `gyre-${certificate.fingerprint.slice(0, 16)}`;
