import type { Cluster } from "../../drivers/kubernetes/cluster.ts";
import type { AnyEntry } from "../../drivers/kubernetes/rights-of.ts";
import type { CredentialHandle, Issuer, Step, Target, TrustStore } from "../../drivers/roles.ts";
import type { Reload } from "../../drivers/shared-settings.ts";
import type { Due } from "../../engine/due.ts";
import type { Lineage } from "../../engine/state.ts";
import type { SecretStore } from "../../journal/secret-store.ts";
import type { ClusterManifest, CredentialManifest, IssuerManifest } from "../../manifest/manifest.ts";
import { type Certificate, parseCertificates } from "../../pki/certificate.ts";
import type { Diagnosis, Planned } from "../api.ts";
import type { Clock } from "../clock.ts";
import { keyName } from "../context.ts";
import type { Found } from "../found.ts";
import type { Resolved } from "../inventory.ts";
import type { Bound, Parties } from "../parties.ts";

/** A driver's instance beside what the manifest says of it. */
export interface Entry<T> {
  readonly bound: Bound<T>;
  readonly settings: Readonly<Record<string, unknown>> & { readonly reload?: Reload | undefined };
  readonly baseDir: string;
}

/** One credential and everything around it, as far as it could be opened: what the checks look at. */
export interface Patient {
  readonly manifest: CredentialManifest;
  readonly issuer: IssuerManifest;
  readonly parties: Parties;
  /** Places of the certificate; none for a CRL, whose places are `stores`. */
  readonly targets: readonly Entry<Target>[];
  readonly stores: readonly Entry<TrustStore>[];
  /** Every driver the credential uses, with its settings: issuer, places and proof. */
  readonly entries: readonly AnyEntry[];
  /** The clusters they name. */
  readonly clusters: readonly { readonly manifest: ClusterManifest; readonly cluster: Cluster }[];
  readonly lineage: Lineage;
  readonly found?: Found;
  readonly resolved: Resolved;
  /** Planned as if it were due. Absent where no plan could be made. */
  readonly planned?: Planned;
  /** The issuer's CRL, where the manifests have one and this is not it. */
  readonly crl?: { readonly name: string; readonly due?: Due };
  readonly secrets?: SecretStore;
  readonly stateDirectory: string;
  readonly clock: Clock;
  /** Marks our probes: sensors leave out those of a rotation under way. */
  readonly step: Step;
  /** What our probes' tags begin with. */
  readonly ours: string;
}

/** One question. It gives what it found, the good too; what it throws is told as a problem. */
export type Check = (patient: Patient) => Promise<readonly Diagnosis[]> | readonly Diagnosis[];

export const ok = (about: string, what: string): Diagnosis => ({ level: "ok", about, what });
export const note = (about: string, what: string, next?: string): Diagnosis => ({
  ...{ level: "note", about, what },
  ...(next === undefined ? {} : { next }),
});
export const warning = (about: string, what: string, next: string): Diagnosis => ({
  level: "warning",
  about,
  what,
  next,
});
export const problem = (about: string, what: string, next: string): Diagnosis => ({
  level: "problem",
  about,
  what,
  next,
});

/** An error in the words it has, without the place twice. */
export function failed(about: string, error: unknown, next = "look at it, then gyre doctor again"): Diagnosis {
  const given = error instanceof Error && "next" in error && typeof error.next === "string" ? error.next : next;
  return problem(about, error instanceof Error ? error.message : String(error), given);
}

/** Certificates that the issuer issues under, as far as it knows them before an issue: intermediates and roots. */
export function authoritiesOf(issuer: Issuer): {
  readonly intermediates: Certificate[];
  readonly roots: Certificate[];
} {
  const read = (pem: string | undefined) => (pem === undefined || pem.trim() === "" ? [] : parseCertificates(pem));
  return { intermediates: read(issuer.chain?.()), roots: read(issuer.roots?.()) };
}

/** What is in place is of another CA than the manifest's issuer: an estate that moves to Gyre. */
export function isForeign({ found, parties }: Patient): boolean {
  const leaf = found?.generation.kind === "certificate" ? parseCertificates(found.open.certificate)[0] : undefined;
  const { intermediates, roots } = authoritiesOf(parties.issuer.instance);
  if (leaf === undefined || roots.length === 0) return false;
  return ![...intermediates, ...roots].some((ca) => ca.subjectDer.equals(leaf.issuerDer) && leaf.isSignedBy(ca));
}

/** The credential in place, in the hand of a probe: its key from where it is stored, or from the secret store. */
export async function handleInPlace(patient: Patient): Promise<CredentialHandle | undefined> {
  const { found, manifest, secrets } = patient;
  if (found === undefined || manifest.kind === "crl") return undefined;
  const { generation, open, stored } = found;
  const privateKey = stored.privateKey ?? (await secrets?.get(keyName(manifest.name, generation.number)));
  if (privateKey === undefined) return undefined;
  const { fingerprint, serial, issuer, notAfter } = generation;
  return { fingerprint, serial, issuer, notAfter, certificate: open.certificate, chain: open.chain, privateKey };
}

export const nameOfFound = ({ found }: Patient): string =>
  found === undefined ? "nothing" : `g${found.generation.number}`;
