import type { Certificate } from "./certificate.ts";
import type { Crl } from "./crl.ts";

/** What the engine writes down of an issued instance, except its number and where its public part lies. */
export interface Description {
  readonly kind: "certificate" | "crl";
  readonly fingerprint: string;
  readonly spki?: string;
  readonly serial: string;
  readonly issuer: string;
  readonly subject: string;
  readonly names: readonly string[];
  readonly algorithm: string;
  readonly notBefore: number;
  readonly notAfter: number;
}

/** The fields of a generation that a certificate gives. */
export function describeCertificate(certificate: Certificate): Description {
  const { fingerprint, spki, serial, issuer, subject, names, algorithm, notBefore, notAfter } = certificate;
  return {
    kind: "certificate",
    fingerprint,
    spki,
    serial,
    issuer,
    subject,
    names: [...names],
    algorithm,
    notBefore,
    notAfter,
  };
}

/**
 * The fields of a generation that a CRL gives: its number for the serial, thisUpdate and nextUpdate for the validity.
 * Without a nextUpdate it never ends: then notAfter is the last instant X.509 can write.
 */
export function describeCrl(crl: Crl): Description {
  return {
    kind: "crl",
    fingerprint: crl.fingerprint,
    serial: crl.number ?? "0",
    issuer: crl.issuer,
    subject: crl.issuer,
    names: [],
    algorithm: crl.signatureAlgorithm,
    notBefore: crl.thisUpdate,
    notAfter: crl.nextUpdate ?? Date.UTC(9999, 11, 31, 23, 59, 59),
  };
}
