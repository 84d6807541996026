import type { Certificate } from "../pki/certificate.ts";
import { describeCrl } from "../pki/generation.ts";
import { covers } from "../pki/hostnames.ts";
import { keyMatches, type PrivateKey } from "../pki/keys.ts";
import { lint } from "../pki/lint.ts";
import type { Item } from "./contents.ts";
import { type Finding, type Found, type FoundCertificate, type FoundPrivateKey, problem, wordsOf } from "./found.ts";

const DAY = 86_400_000;
export const daysLeft = (notAfter: number, now: number): number => Math.floor((notAfter - now) / DAY);

export interface KeyAt {
  readonly where: string;
  readonly key: PrivateKey;
}

/** What is around a certificate while it is judged. */
export interface Around {
  readonly now: number;
  readonly lint: boolean;
  /** The certificate that comes next in the same file or handshake, when it issued this one. */
  readonly issuer?: Certificate;
  readonly chain?: FoundCertificate["chain"];
  /** Keys that should be its own: in the same file, or in a file of the same name. */
  readonly beside?: readonly KeyAt[];
  /** A key elsewhere in the directory, by SPKI digest. */
  readonly keyOf?: (spki: string) => KeyAt | undefined;
  /** A typed name clients ask for. */
  readonly wanted?: string;
  readonly more?: readonly Finding[];
}

/** A certificate as it is told, or the problem that keeps it from being read. */
export function judgeCertificate(where: string, certificate: Certificate, around: Around): Found {
  try {
    const { subject, issuer, serial, fingerprint, algorithm, notBefore, notAfter } = certificate;
    const key = keyFor(certificate, around);
    const findings: Finding[] = [...(around.more ?? [])];
    if (around.lint)
      findings.push(...lint(certificate, { now: around.now, ...(around.issuer ? { issuer: around.issuer } : {}) }));
    if (key && !key.matches)
      findings.push({
        severity: "error",
        code: "key-mismatch",
        message: `the private key in ${key.where} is not its own`,
      });
    if (around.wanted !== undefined && !covers(certificate.names, around.wanted))
      findings.push({ severity: "error", code: "name-mismatch", message: `it does not name ${around.wanted}` });
    return {
      what: certificate.isCa ? "CA" : "certificate",
      ...{ where, subject, names: [...certificate.names], issuer, serial, fingerprint, algorithm },
      usages: certificate.extendedKeyUsage,
      ...{ notBefore, notAfter, daysLeft: daysLeft(notAfter, around.now) },
      ...(around.chain === undefined ? {} : { chain: around.chain }),
      ...(key === undefined ? {} : { key }),
      findings,
    };
  } catch (error) {
    return problem(where, wordsOf(error));
  }
}

function keyFor(certificate: Certificate, around: Around): FoundCertificate["key"] {
  const { beside = [], keyOf } = around;
  const own = beside.find(({ key }) => belongs(certificate, key)) ?? matching(certificate, keyOf?.(certificate.spki));
  if (own) return { where: own.where, matches: true };
  // The intermediates of a file with a key are not the key's: only its leaf can be wrong.
  const first = certificate.isCa ? undefined : beside[0];
  return first && { where: first.where, matches: false };
}

function matching(certificate: Certificate, candidate: KeyAt | undefined): KeyAt | undefined {
  return candidate && belongs(certificate, candidate.key) ? candidate : undefined;
}

/** Keys of two algorithms are not compared: OpenSSL leaves that as an error, which Node 24 reports of the next key it reads. */
function belongs(certificate: Certificate, key: PrivateKey): boolean {
  return certificate.algorithm === key.algorithm && keyMatches(certificate, key);
}

/** Everything that is no certificate. `matches` is filled in by the caller, who knows the directory. */
export function judgeOther(item: Exclude<Item, { is: "certificate" }>, now: number, mode?: number): Found {
  switch (item.is) {
    case "crl": {
      const { issuer, serial, fingerprint, notBefore, notAfter } = describeCrl(item.crl);
      const findings: Finding[] =
        notAfter < now
          ? [{ severity: "error", code: "crl-expired", message: "verifiers that read it refuse everybody" }]
          : [];
      const revoked = item.crl.entries.size;
      return {
        what: "CRL",
        where: item.where,
        issuer,
        serial,
        fingerprint,
        revoked,
        notBefore,
        notAfter,
        daysLeft: daysLeft(notAfter, now),
        findings,
      };
    }
    case "request": {
      const { subject, names, algorithm } = item.request;
      return { what: "CSR", where: item.where, subject, names, algorithm, findings: [] };
    }
    case "key":
      return judgeKey(item, mode);
    case "store":
      return { what: item.type, where: item.where, findings: exposure(mode, "store", false) };
    default:
      return item.problem;
  }
}

function judgeKey(item: Extract<Item, { is: "key" }>, mode: number | undefined): FoundPrivateKey {
  const encrypted = item.key === undefined;
  return {
    what: "private key",
    where: item.where,
    ...(item.key === undefined ? {} : { algorithm: item.key.algorithm }),
    encrypted,
    matches: [],
    findings: exposure(mode, "private key", !encrypted),
  };
}

/** Who besides owner and group may read or change the file. */
function exposure(mode: number | undefined, what: string, plain: boolean): Finding[] {
  if (mode === undefined) return [];
  const shown = (mode & 0o7777).toString(8).padStart(4, "0");
  const found: Finding[] = [];
  if (mode & 0o004)
    found.push({
      severity: plain ? "error" : "warning",
      code: "key-permissions",
      message: `mode ${shown} lets every user of the host read the ${what}`,
    });
  return [...found, ...writable(mode)];
}

export function writable(mode: number | undefined): Finding[] {
  if (mode === undefined || !(mode & 0o002)) return [];
  const shown = (mode & 0o7777).toString(8).padStart(4, "0");
  return [{ severity: "error", code: "writable", message: `mode ${shown} lets every user of the host replace it` }];
}
