import type { Certificate } from "./certificate.ts";
import { violations } from "./constraints.ts";
import { type Crl, isRevoked } from "./crl.ts";
import { EXTENSION } from "./extensions.ts";
import { covers } from "./hostnames.ts";

export type ChainCode =
  | "no-issuer" // no certificate at hand signed this one
  | "not-trusted" // the chain ends at a root nobody trusts
  | "signature"
  | "expired"
  | "not-yet-valid"
  | "not-a-ca"
  | "path-length"
  | "key-usage"
  | "extended-key-usage"
  | "name-constraints"
  | "name" // a wanted name is not in the leaf
  | "critical-extension"
  | "weak"
  | "revoked"
  | "crl" // missing, not current, badly signed or not processable
  | "malformed"
  | "no-instant"; // nobody said when it must hold: "always true of nothing" is no proof

export interface ChainProblem {
  readonly code: ChainCode;
  readonly message: string;
  /** Subject and serial of the certificate it is about. */
  readonly about: string;
}

export interface ChainQuestion {
  readonly leaf: Certificate;
  readonly intermediates: readonly Certificate[];
  readonly roots: readonly Certificate[];
  /** The instants (ms) at which the chain must hold: now, now plus skew, the horizon. */
  readonly at: readonly number[];
  readonly purpose: "server" | "client";
  /** Typed names the leaf must cover, as the clients will ask for them. */
  readonly names?: readonly string[];
  /** When given, every certificate below the root needs a current CRL of its issuer among them. */
  readonly crls?: readonly Crl[];
}

export interface ChainAnswer {
  /** Leaf first, root last: the path that holds, or the one that comes nearest; absent where none reaches a root. */
  readonly path?: readonly Certificate[];
  /** Empty means it holds at every instant. */
  readonly problems: readonly ChainProblem[];
}

// Longer chains than eight and more than a hundred signature checks occur only in attacks (Go bounds the same way).
const MAX_LENGTH = 8;
const MAX_CHECKS = 100;

/** Builds and judges paths from the leaf to a root (RFC 5280 6.1). Never throws; the best path's problems come back. */
export function checkChain(question: ChainQuestion): ChainAnswer {
  const search = { checks: MAX_CHECKS, dead: [] as ChainProblem[] };
  let best: ChainAnswer | undefined;
  for (const path of paths([question.leaf], question, search)) {
    const problems = judge(path, question);
    if (problems.length === 0) return { path, problems };
    if (best === undefined || problems.length < best.problems.length) best = { path, problems };
  }
  if (best !== undefined) return best;
  const alone = guarded(question.leaf, () => leafProblems(question));
  return { problems: [...unique(search.dead), ...alone] };
}

const about = (certificate: Certificate): string => {
  const name = certificate.subject === "" ? (certificate.names[0] ?? "(no name)") : certificate.subject;
  return `${name} (serial ${certificate.serial})`;
};

const problem = (code: ChainCode, certificate: Certificate, message: string): ChainProblem => ({
  code,
  message,
  about: about(certificate),
});

const unique = (problems: readonly ChainProblem[]): ChainProblem[] => [
  ...new Map(problems.map((one) => [`${one.code} ${one.about} ${one.message}`, one])).values(),
];

// ---- building -------------------------------------------------------------------------------------------------------

interface Search {
  checks: number;
  /** Why branches ended, for the case that none reaches a root. */
  readonly dead: ChainProblem[];
}

function* paths(
  path: readonly Certificate[],
  question: ChainQuestion,
  search: Search,
): Generator<readonly Certificate[]> {
  const last = path[path.length - 1]!;
  if (question.roots.some((root) => root.der.equals(last.der))) {
    yield path;
    return;
  }
  if (path.length >= MAX_LENGTH) return;
  const candidates = issuers(last, path, question);
  for (const issuer of candidates) {
    if (search.checks-- <= 0) return;
    if (signs(issuer, last)) yield* paths([...path, issuer], question, search);
    else search.dead.push(problem("signature", last, `${about(issuer)} has the issuer's name but did not sign it`));
  }
  if (candidates.length > 0) return;
  if (last.isSelfIssued)
    search.dead.push(problem("not-trusted", last, "the chain ends at this root, which is not trusted"));
  else
    search.dead.push(
      problem("no-issuer", last, `its issuer ${JSON.stringify(last.issuer)} is neither in the chain nor trusted`),
    );
}

/** Roots first, then those whose key identifier fits. The identifiers are hints: the signature decides. */
function issuers(
  certificate: Certificate,
  path: readonly Certificate[],
  { roots, intermediates }: ChainQuestion,
): Certificate[] {
  const fits = (other: Certificate): number =>
    certificate.aki !== undefined && other.ski !== undefined ? (certificate.aki === other.ski ? 0 : 2) : 1;
  const used = (other: Certificate): boolean =>
    path.some((one) => one.subjectDer.equals(other.subjectDer) && one.spkiDer.equals(other.spkiDer));
  const named = (list: readonly Certificate[]) =>
    list.filter((one) => one.subjectDer.equals(certificate.issuerDer) && !used(one)).sort((a, b) => fits(a) - fits(b));
  return [...named(roots), ...named(intermediates)];
}

function signs(issuer: Certificate, certificate: Certificate): boolean {
  try {
    return certificate.isSignedBy(issuer);
  } catch {
    return false; // a public key OpenSSL does not take signs nothing
  }
}

// ---- judging --------------------------------------------------------------------------------------------------------

function judge(path: readonly Certificate[], question: ChainQuestion): ChainProblem[] {
  const found = guarded(question.leaf, () => leafProblems(question));
  if (question.at.length === 0 || !question.at.every(Number.isFinite))
    found.push(problem("no-instant", question.leaf, "it was not said at which instants the chain must hold"));
  path.forEach((certificate, depth) => {
    found.push(
      ...guarded(certificate, () => [
        ...dates(certificate, question.at),
        ...common(certificate, depth, path),
        ...(depth === 0 ? [] : issuerProblems(certificate, depth, path, question)),
      ]),
    );
  });
  if (question.crls !== undefined) found.push(...revocation(path, question.crls, question.at));
  return unique(found);
}

/** A field that cannot be read is a problem of that certificate, not an exception. */
function guarded(certificate: Certificate, look: () => ChainProblem[]): ChainProblem[] {
  try {
    return look();
  } catch (error) {
    return [problem("malformed", certificate, error instanceof Error ? error.message : "cannot be read")];
  }
}

const iso = (ms: number): string => new Date(ms).toISOString().slice(0, 19).concat("Z");

/** RFC 5280 counts the second of notAfter as valid, and so does Go; OpenSSL does not, so here it is not either. */
function dates(certificate: Certificate, at: readonly number[]): ChainProblem[] {
  const found: ChainProblem[] = [];
  for (const instant of at) {
    if (instant < certificate.notBefore)
      found.push(
        problem("not-yet-valid", certificate, `not valid at ${iso(instant)}: it begins ${iso(certificate.notBefore)}`),
      );
    if (instant >= certificate.notAfter)
      found.push(problem("expired", certificate, `not valid at ${iso(instant)}: it ends ${iso(certificate.notAfter)}`));
  }
  return found;
}

const PROCESSED: ReadonlySet<string> = new Set([
  EXTENSION.subjectAltName,
  EXTENSION.basicConstraints,
  EXTENSION.keyUsage,
  EXTENSION.extendedKeyUsage,
  EXTENSION.nameConstraints,
  EXTENSION.subjectKeyIdentifier,
  EXTENSION.authorityKeyIdentifier,
  EXTENSION.crlDistributionPoints,
  EXTENSION.certificatePolicies,
]);

function common(certificate: Certificate, depth: number, path: readonly Certificate[]): ChainProblem[] {
  const found: ChainProblem[] = [];
  for (const { oid, critical } of certificate.extensions)
    if (critical && !PROCESSED.has(oid))
      found.push(problem("critical-extension", certificate, `its critical extension ${oid} is not known`));
  // A root's own signature is not relied upon, so its hash does not matter.
  const { hash } = certificate.signatureDetails;
  if (depth < path.length - 1 && (hash === "sha1" || hash === "md5"))
    found.push(problem("weak", certificate, `signed with ${certificate.signatureAlgorithm}, which verifiers refuse`));
  return found;
}

const PURPOSE = { server: "serverAuth", client: "clientAuth" } as const;

function purposeProblem(certificate: Certificate, purpose: "server" | "client"): ChainProblem[] {
  const purposes = certificate.extendedKeyUsage;
  if (purposes.length === 0 || purposes.includes(PURPOSE[purpose]) || purposes.includes("anyExtendedKeyUsage"))
    return [];
  return [
    problem(
      "extended-key-usage",
      certificate,
      `its extended key usage ${purposes.join(", ")} lacks ${PURPOSE[purpose]}`,
    ),
  ];
}

function leafProblems({ leaf, purpose, names = [] }: ChainQuestion): ChainProblem[] {
  const found = purposeProblem(leaf, purpose);
  const usage = leaf.keyUsage;
  const wanted =
    purpose === "server"
      ? (["digitalSignature", "keyEncipherment", "keyAgreement"] as const)
      : (["digitalSignature"] as const);
  if (usage.length > 0 && !wanted.some((one) => usage.includes(one)))
    found.push(problem("key-usage", leaf, `its key usage ${usage.join(", ")} has none of ${wanted.join(", ")}`));
  for (const name of names)
    if (!covers(leaf.names, name))
      found.push(problem("name", leaf, `it does not cover ${name}; it has ${leaf.names.join(", ") || "no names"}`));
  return found;
}

function issuerProblems(
  ca: Certificate,
  depth: number,
  path: readonly Certificate[],
  question: ChainQuestion,
): ChainProblem[] {
  const found = purposeProblem(ca, question.purpose);
  if (!ca.isCa)
    found.push(problem("not-a-ca", ca, "it signed a certificate of the chain but is no CA (basicConstraints)"));
  if (ca.keyUsage.length > 0 && !ca.keyUsage.includes("keyCertSign"))
    found.push(problem("key-usage", ca, "its key usage has no keyCertSign"));
  // Self-issued certificates do not count (RFC 5280 4.2.1.9); the leaf never does.
  const below = path.slice(1, depth).filter((one) => !one.isSelfIssued).length;
  if (ca.pathLength !== undefined && below > ca.pathLength)
    found.push(problem("path-length", ca, `its path length is ${ca.pathLength}, and ${below} CAs are below it`));
  const constraints = ca.nameConstraints;
  if (constraints === undefined) return found;
  for (const [i, one] of path.slice(0, depth).entries()) {
    if (i > 0 && one.isSelfIssued) continue; // RFC 5280 6.1.4 (b)
    for (const why of violations(constraints, one.names, one.subjectDer))
      found.push(problem("name-constraints", one, `${why} (name constraints of ${about(ca)})`));
  }
  return found;
}

function revocation(path: readonly Certificate[], crls: readonly Crl[], at: readonly number[]): ChainProblem[] {
  const found: ChainProblem[] = [];
  for (const [depth, certificate] of path.slice(0, -1).entries()) {
    const issuer = path[depth + 1]!;
    const theirs = crls.filter((crl) => crl.issuerDer.equals(certificate.issuerDer) && crlSignedBy(crl, issuer));
    for (const crl of theirs) {
      const entry = isRevoked(crl, certificate);
      if (entry !== undefined)
        found.push(problem("revoked", certificate, `revoked since ${iso(entry.revocationDate)}`));
    }
    for (const instant of at) {
      const why = currency(theirs, instant);
      if (why !== undefined) found.push(problem("crl", certificate, `${why} of ${about(issuer)} at ${iso(instant)}`));
    }
  }
  return found;
}

function crlSignedBy(crl: Crl, issuer: Certificate): boolean {
  const usage = issuer.keyUsage;
  return (usage.length === 0 || usage.includes("cRLSign")) && crl.isSignedBy(issuer);
}

function currency(crls: readonly Crl[], instant: number): string | undefined {
  const whole = crls.filter((crl) => crl.unsupported.length === 0);
  const begun = whole.filter((crl) => crl.thisUpdate <= instant);
  if (begun.some((crl) => crl.nextUpdate === undefined || instant < crl.nextUpdate)) return undefined;
  if (begun.length > 0) return "an expired CRL";
  return whole.length > 0 ? "a CRL that is not valid yet" : "no CRL that can be used";
}
