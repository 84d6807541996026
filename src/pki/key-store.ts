import { GyreError } from "../errors.ts";
import { Certificate } from "./certificate.ts";
import { type PrivateKey, requireMatch } from "./keys.ts";

/** What a Java or PKCS#12 store holds. */
export interface KeyStore {
  readonly keys: readonly KeyEntry[];
  /** Certificates marked as trusted: a Java trust store. */
  readonly trusted: readonly TrustEntry[];
  /** Certificates that are neither trusted nor part of a key's chain. */
  readonly others?: readonly Certificate[];
}
export interface KeyEntry {
  readonly alias: string;
  readonly key: PrivateKey;
  /** Leaf first. */
  readonly chain: readonly Certificate[];
}
export interface TrustEntry {
  readonly alias: string;
  readonly certificate: Certificate;
}

export const badStore = (what: string, why: string): GyreError =>
  new GyreError({ code: "input", message: `${what}: ${why}` });

/** Throws GyreError `input` for a store Java could not read back: aliases, chains, keys of another certificate. */
export function checkStore(store: KeyStore, what: string): void {
  const seen = new Set<string>();
  for (const { alias } of [...store.keys, ...store.trusted]) {
    // Java compares aliases in lower case; plain ASCII keeps clear of its own kind of UTF-8.
    if (!/^[!-~]([ -~]{0,198}[!-~])?$/.test(alias))
      throw badStore(what, `alias ${JSON.stringify(alias)} is not 1 to 200 printable ASCII characters`);
    if (seen.has(alias.toLowerCase()))
      throw badStore(what, `alias ${JSON.stringify(alias)} occurs twice (Java ignores case)`);
    seen.add(alias.toLowerCase());
  }
  for (const { alias, key, chain } of store.keys) {
    const leaf = chain[0];
    if (leaf === undefined) throw badStore(what, `key ${JSON.stringify(alias)} has no certificate`);
    requireMatch(leaf, key, `${what}, alias ${alias}`);
    chain.slice(1).forEach((issuer, i) => {
      if (!chain[i]!.issuerDer.equals(issuer.subjectDer))
        throw badStore(
          what,
          `chain of ${JSON.stringify(alias)}: ${JSON.stringify(issuer.subject)} is not the issuer of the one before`,
        );
    });
  }
}

/** Reads a certificate found in a store completely, so that what comes out never fails later. */
export function storedCertificate(der: Buffer, what: string): Certificate {
  const certificate = new Certificate(Buffer.from(der), `${what}: certificate`);
  certificate.decodeAll();
  return certificate;
}
