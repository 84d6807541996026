import type { CredentialHandle, Issued, Stored } from "../drivers/roles.ts";
import type { Generation, Instant, IssueRequest, Plan } from "../engine/model.ts";
import { GyreError } from "../errors.ts";
import type { SecretStore } from "../journal/secret-store.ts";
import { type Certificate, parseCertificate, parseCertificates } from "../pki/certificate.ts";
import { checkChain } from "../pki/chain.ts";
import { type Crl, parseCrl } from "../pki/crl.ts";
import { createCsr } from "../pki/csr.ts";
import { describeCertificate, describeCrl } from "../pki/generation.ts";
import {
  exportPrivateKey,
  generateKey,
  KEY_ALGORITHMS,
  type KeyAlgorithm,
  keyMatches,
  readPrivateKey,
} from "../pki/keys.ts";
import { lint } from "../pki/lint.ts";
import { normaliseNames } from "../pki/names.ts";
import type { Secret } from "../pki/secret.ts";
import { crlsIn, standsFor } from "./crls.ts";

/** What the runtime asks of certificates and keys: the one place between rotation logic and src/pki. */

/** The key under `name`, born here and durable before it is used; one from an earlier, cut-off try is taken again. */
export async function keyFor(secrets: SecretStore, name: string, algorithm: string): Promise<Secret> {
  const kept = await secrets.get(name);
  if (kept !== undefined) return kept;
  const wanted = KEY_ALGORITHMS.find((known): known is KeyAlgorithm => known === algorithm);
  if (wanted === undefined)
    throw new GyreError({
      code: "manifest",
      message: `key algorithm ${algorithm} is not known`,
      next: `one of ${KEY_ALGORITHMS.join(", ")}`,
    });
  const key = exportPrivateKey(await generateKey(wanted));
  await secrets.put(name, key);
  return key;
}

/** A DER request, signed with the key: proof of possession for the issuer. */
export const newCsr = (key: Secret, request: IssueRequest): Buffer =>
  createCsr(readPrivateKey(key), { subject: request.subject, names: request.names, usages: request.usages });

export function describeIssued(issued: Pick<Issued, "certificate">, kind: "certificate" | "crl") {
  if (kind === "crl") return describeCrl(parseCrl(issued.certificate));
  // A target's file has the chain behind the leaf.
  return describeCertificate(parseCertificates(issued.certificate)[0]!);
}

/** A lifetime may come out a little shorter (whole seconds, backdating cut off); more than this is another lifetime. */
const lifetimeTolerance = 0.02;

/** The gate: in words, what the issuer gave that was not asked for; undefined when it is what was asked for. */
export function checkIssued(issued: Issued, plan: Plan, key: Secret | undefined, now: Instant): string | undefined {
  if (plan.kind === "crl") return checkCrl(parseCrl(issued.certificate), plan, now);
  const leaf = parseCertificate(issued.certificate);
  const { request } = plan;
  const names = [...normaliseNames(request.names)].sort().join(", ");
  const given = [...leaf.names].sort().join(", ");
  if (names !== given) return `names ${given || "(none)"} instead of ${names || "(none)"}`;
  if (key === undefined || !keyMatches(leaf, readPrivateKey(key))) return "a certificate for another key";
  const life = leaf.notAfter - Math.max(now, leaf.notBefore);
  if (life < request.lifetime * (1 - lifetimeTolerance) - 60_000)
    return `a lifetime of ${hours(life)} instead of ${hours(request.lifetime)}`;
  if (life > request.lifetime * (1 + lifetimeTolerance) + plan.timing.skew)
    return `a lifetime of ${hours(life)} instead of ${hours(request.lifetime)}`;
  if (leaf.notBefore > now) return `a certificate that is not valid before ${new Date(leaf.notBefore).toISOString()}`;
  const wrong = lint(leaf, { now }).find((finding) => finding.severity === "error");
  if (wrong !== undefined) return `${wrong.message} (${wrong.reference})`;
  return checkTrust(leaf, issued, plan, now);
}

const hours = (ms: number): string => `${Math.round((ms / 3600_000) * 10) / 10} h`;

/** The chain holds now, when clocks differ, and at the horizon (the leaf's last minute). */
function checkTrust(leaf: Certificate, issued: Issued, plan: Plan, now: Instant): string | undefined {
  const roots = parseCertificates(issued.roots);
  const intermediates = issued.chain.trim() === "" ? [] : parseCertificates(issued.chain);
  const at = [now, now + plan.timing.skew, leaf.notAfter - 60_000].filter((instant) => instant <= leaf.notAfter);
  for (const purpose of plan.request.usages) {
    const { problems } = checkChain({ leaf, intermediates, roots, at, purpose });
    if (problems[0] !== undefined) return `a chain that does not hold: ${problems[0].message} (${problems[0].about})`;
  }
  return undefined;
}

function checkCrl(crl: Crl, plan: Plan, now: Instant): string | undefined {
  if (crl.nextUpdate === undefined) return "a CRL without nextUpdate";
  if (crl.thisUpdate > now) return `a CRL that is not valid before ${new Date(crl.thisUpdate).toISOString()}`;
  if (crl.nextUpdate - now < plan.request.lifetime * (1 - lifetimeTolerance) - 60_000)
    return `a CRL that ends ${new Date(crl.nextUpdate).toISOString()}`;
  return undefined;
}

/**
 * Why what is stored is not this generation as a whole; undefined when it is. `fingerprint`: the leaf that is there.
 * A newer CRL with all that this one lists is as good; `due`: what CRLs must list now, see `standsFor`.
 */
export function sameMaterial(
  stored: Stored,
  generation: Generation,
  open: { readonly certificate: string; readonly chain: string },
  due?: ReadonlySet<string>,
): { readonly what: string; readonly fingerprint?: string } | undefined {
  if (stored.version === "absent" || stored.certificate.trim() === "") return { what: "holds nothing" };
  if (stored.torn === true) return { what: "holds half of one and half of another: a delivery was cut off" };
  if (generation.kind === "crl") {
    const crl = parseCrl(stored.certificate);
    return standsFor(crl, parseCrl(open.certificate), due)
      ? undefined
      : { what: "holds another CRL", fingerprint: crl.fingerprint };
  }
  const [leaf, ...chain] = parseCertificates(stored.certificate);
  if (leaf === undefined || leaf.fingerprint !== generation.fingerprint)
    return { what: "holds another certificate", ...(leaf === undefined ? {} : { fingerprint: leaf.fingerprint }) };
  const planned = open.chain.trim() === "" ? [] : parseCertificates(open.chain);
  if (!planned.every((certificate, index) => chain[index]?.fingerprint === certificate.fingerprint)) {
    return {
      what: `holds g${generation.number} with another chain (${chain.length} certificates instead of ${planned.length})`,
    };
  }
  if (stored.privateKey === undefined) return { what: `holds g${generation.number} without its private key` };
  if (!keyMatches(leaf, readPrivateKey(stored.privateKey)))
    return { what: `holds g${generation.number} with a private key that is not its own` };
  if (stored.malformed !== undefined || stored.flaw !== undefined)
    return { what: `holds g${generation.number}, but ${stored.malformed ?? stored.flaw}` };
  return undefined;
}

const certificatesIn = (pem: string): Certificate[] => (pem.includes("CERTIFICATE-----") ? parseCertificates(pem) : []);

export const listsCertificate = (pem: string, generation: Generation): boolean =>
  certificatesIn(pem).some((certificate) => certificate.fingerprint === generation.fingerprint);

/** The bundle with one more certificate at its end; as it was when it is there already. */
export function addCertificate(pem: string, certificate: string): string {
  const added = parseCertificate(certificate);
  const kept = certificatesIn(pem);
  if (kept.some((one) => one.fingerprint === added.fingerprint)) return pem;
  return [...kept, added].map((one) => one.pem).join("");
}

export const removeCertificate = (pem: string, generation: Generation): string =>
  certificatesIn(pem)
    .filter((certificate) => certificate.fingerprint !== generation.fingerprint)
    .map((certificate) => certificate.pem)
    .join("");

/** Why a CRL file would not refuse this generation; undefined when it would. */
export function listsRevoked(pem: string, generation: Generation, now: Instant): string | undefined {
  // More than one where the CA changed its key under its old name.
  const crls = crlsIn(pem).filter((one) => one.issuer === generation.issuer);
  if (crls.length === 0) return `holds no CRL of ${generation.issuer}`;
  const listing = crls.filter((one) => one.entries.has(generation.serial));
  if (listing.length === 0) return `its CRL does not list serial ${generation.serial}`;
  const ends = Math.max(...listing.map((one) => one.nextUpdate ?? Number.POSITIVE_INFINITY));
  return ends <= now ? `its CRL expired ${new Date(ends).toISOString()}` : undefined;
}

/** The canary and the control that were issued with a CRL: its chain holds them in this order, then their intermediates. */
export function canaryOf(crl: CredentialHandle): CredentialHandle[] {
  const [canary, control, ...intermediates] = certificatesIn(crl.chain);
  if (canary === undefined || control === undefined) return [];
  const chain = intermediates.map((one) => one.pem).join("");
  return [canary, control].map(({ fingerprint, serial, issuer, notAfter, pem }) => ({
    fingerprint,
    serial,
    issuer,
    notAfter,
    certificate: pem,
    chain,
    privateKey: crl.privateKey,
  }));
}
