import { sign } from "node:crypto";
import { Certificate } from "../../../src/pki/certificate.ts";
import { bitString, derNull, explicit, integer, oid, sequence, time } from "../../../src/pki/der.ts";
import { writeName } from "../../../src/pki/distinguished-name.ts";
import {
  type CertificateAuthority,
  type CertificateFields,
  prepareAuthority,
  signCertificate,
  signSelfSigned,
} from "../../../src/pki/issue.ts";
import { generateKey, type KeyAlgorithm, type PrivateKey } from "../../../src/pki/keys.ts";

/** A small estate to judge, and certificates nobody should issue. Used by tests only. */

export const NOW = Date.UTC(2030, 5, 1, 12, 0, 0);
export const DAY = 86_400_000;

export type Fields = Partial<Omit<CertificateFields, "spkiDer">>;

export interface Estate {
  readonly rootKey: PrivateKey;
  readonly root: CertificateAuthority;
  readonly middleKey: PrivateKey;
  readonly middle: CertificateAuthority;
  readonly leafKey: PrivateKey;
  readonly leaf: Certificate;
}

/** A root with other fields over the same key and name: what it signs chains to every one of them. */
export const rootOf = (key: PrivateKey, fields: Fields = {}): CertificateAuthority =>
  prepareAuthority(
    signSelfSigned(key, {
      subject: "CN=judged root,O=Lab",
      notBefore: NOW - 30 * DAY,
      notAfter: NOW + 3650 * DAY,
      isCa: true,
      ...fields,
    }),
    key,
  );

export const middleOf = (issuer: CertificateAuthority, key: PrivateKey, fields: Fields = {}): CertificateAuthority =>
  prepareAuthority(
    signCertificate(issuer, {
      spkiDer: key.spkiDer,
      subject: "CN=judged intermediate,O=Lab",
      notBefore: NOW - 20 * DAY,
      notAfter: NOW + 1000 * DAY,
      isCa: true,
      pathLength: 0,
      ...fields,
    }),
    key,
  );

export const leafOf = (issuer: CertificateAuthority, key: PrivateKey, fields: Fields = {}): Certificate =>
  signCertificate(issuer, {
    spkiDer: key.spkiDer,
    subject: "CN=shop.lab.example",
    names: ["DNS:shop.lab.example", "DNS:*.shop.lab.example", "IP:10.0.0.1", "IP:2001:db8::1"],
    usages: ["server", "client"],
    notBefore: NOW - DAY,
    notAfter: NOW + 30 * DAY,
    ...fields,
  });

export async function makeEstate(algorithm: KeyAlgorithm = "P-256"): Promise<Estate> {
  const [rootKey, middleKey, leafKey] = await Promise.all([
    generateKey(algorithm),
    generateKey(algorithm),
    generateKey(algorithm),
  ]);
  const root = rootOf(rootKey);
  const middle = middleOf(root, middleKey);
  return { rootKey, root, middleKey, middle, leafKey, leaf: leafOf(middle, leafKey) };
}

export interface Forgery {
  readonly key: PrivateKey;
  readonly spkiDer: Buffer;
  readonly issuer: string;
  readonly subject: string;
  /** Extensions in DER. */
  readonly extensions: readonly Buffer[];
  /** The whole INTEGER. */
  readonly serial?: Buffer;
  readonly version?: 1 | 3;
  readonly notBefore?: number;
  readonly notAfter?: number;
  readonly hash?: "sha1" | "sha256";
}

const ECDSA = { sha1: "1.2.840.10045.4.1", sha256: "1.2.840.10045.4.3.2" };
const RSA = { sha1: "1.2.840.113549.1.1.5", sha256: "1.2.840.113549.1.1.11" };

/** DER of a certificate with whatever in it, signed by `key` (P-256 or RSA). */
export function forge(what: Forgery): Buffer {
  const { version = 3, hash = "sha256" } = what;
  const algorithm = what.key.algorithm.startsWith("RSA")
    ? sequence(oid(RSA[hash]), derNull())
    : sequence(oid(ECDSA[hash]));
  const tbs = sequence(
    ...(version === 1 ? [] : [explicit(0, integer(version - 1))]),
    what.serial ?? integer(Buffer.from("5f9d0c3ab1e24c7e9d5b11f7a6c3e2d1", "hex")),
    algorithm,
    writeName(what.issuer),
    sequence(time(what.notBefore ?? NOW - DAY), time(what.notAfter ?? NOW + 30 * DAY)),
    writeName(what.subject),
    what.spkiDer,
    ...(what.extensions.length === 0 ? [] : [explicit(3, sequence(...what.extensions))]),
  );
  return sequence(tbs, algorithm, bitString(sign(hash, tbs, what.key.keyObject)));
}

/** As `forge`, read back without being judged. */
export const forged = (what: Forgery): Certificate => new Certificate(forge(what));
