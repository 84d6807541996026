import { randomBytes } from "node:crypto";
import type { Target } from "../drivers/roles.ts";
import { emptyLineage, type Lineage } from "../engine/state.ts";
import { GyreError } from "../errors.ts";
import type { SecretStore } from "../journal/secret-store.ts";
import type { CredentialManifest, IssuerManifest, Manifests } from "../manifest/manifest.ts";
import type { CredentialStatus, Diagnosis, Planned } from "./api.ts";
import { bindAll, bindParties, clustersOf, surroundingsOf } from "./bind.ts";
import type { Clock } from "./clock.ts";
import { rotationTag } from "./context.ts";
import { consumers } from "./doctor/consumers.ts";
import { csrSigner } from "./doctor/csr.ts";
import { issuerAllows, issuerAnswers, issuerCrl, issuerLives } from "./doctor/issuer.ts";
import { apiServers, auditLogs, clusterAccess, clusterRights, denial } from "./doctor/kubernetes.ts";
import { type Check, type Entry, failed, type Patient, problem } from "./doctor/patient.ts";
import { grade, outstanding, policy, quiet } from "./doctor/policy.ts";
import { presenters } from "./doctor/presenters.ts";
import { reloads } from "./doctor/reloads.ts";
import { secretFiles } from "./doctor/secret-files.ts";
import { sensors } from "./doctor/sensors.ts";
import { journal, lock, oldKey, secretsFailed, secretsIfThere, stateDirectory } from "./doctor/state.ts";
import { targets } from "./doctor/targets.ts";
import { trustStores } from "./doctor/trust-stores.ts";
import { verifiers } from "./doctor/verifiers.ts";
import { findInPlace } from "./found.ts";
import { resolveInventory } from "./inventory.ts";
import type { BoundIssuer, Parties } from "./parties.ts";

/** Every question, in the order in which somebody would solve what it finds: each `about` is told when it throws. */
const checks: readonly { readonly about: string; readonly check: Check }[] = [
  { about: "state", check: stateDirectory },
  { about: "lock", check: lock },
  { about: "journal", check: journal },
  { about: "secrets", check: oldKey },
  { about: "secrets", check: secretFiles },
  { about: "cluster", check: clusterAccess },
  { about: "cluster", check: clusterRights },
  { about: "cluster", check: apiServers },
  { about: "issuer", check: issuerAnswers },
  { about: "issuer", check: issuerLives },
  { about: "issuer", check: issuerAllows },
  { about: "issuer", check: csrSigner },
  { about: "CRL", check: issuerCrl },
  { about: "targets", check: targets },
  { about: "trust stores", check: trustStores },
  { about: "reloads", check: reloads },
  { about: "consumers", check: consumers },
  { about: "presenters", check: presenters },
  { about: "verifiers", check: verifiers },
  { about: "sensors", check: sensors },
  { about: "sensors", check: auditLogs },
  { about: "policy", check: policy },
  { about: "quiet", check: quiet },
  { about: "outstanding", check: outstanding },
  { about: "grade", check: grade },
  { about: "grade", check: denial },
];

/** What the doctor is given to look with. Each may fail: then that is told, and the rest is looked at all the same. */
export interface Examination {
  readonly manifest: CredentialManifest;
  readonly manifests: Manifests;
  readonly issuerManifest: IssuerManifest;
  readonly stateDirectory: string;
  readonly clock: Clock;
  issuer(): Promise<BoundIssuer>;
  lineage(): Promise<Lineage>;
  planned(): Promise<Planned>;
  crl(): Promise<CredentialStatus | undefined>;
}

/** A credential of the manifest against reality, before anything changes. Reads and dials; writes nothing. */
export async function diagnose(examination: Examination): Promise<Diagnosis[]> {
  const found: Diagnosis[] = [];
  const patient = await admit(examination, found);
  for (const { about, check } of checks) {
    try {
      found.push(...(await check(patient)));
    } catch (error) {
      found.push(failed(about === "issuer" ? `issuer ${patient.issuer.name}` : about, error));
    }
  }
  return onlyOnce(found);
}

/** What ends a plan is found by a check as well, and told there with its place. */
function onlyOnce(found: readonly Diagnosis[]): Diagnosis[] {
  const summing = ["plan", "in place"];
  const told = new Set(found.filter(({ about }) => !summing.includes(about)).map(({ what }) => what));
  // A cluster that nobody gets into, or in which Gyre lacks rights, is met by every driver that works there.
  const ofClusters = found.filter(({ about, level }) => about.startsWith("cluster ") && level === "problem");
  return found.filter(({ about, what }, index) => {
    if (summing.includes(about) && told.has(what)) return false;
    if (!about.startsWith("cluster ") && ofClusters.some((one) => isPartOf(what, one))) return false;
    return (
      found.findIndex(
        (other) => bare(other.what) === bare(what) && (other.about === about || summing.includes(about)),
      ) === index
    );
  });
}

/** What went wrong with a request, whatever was asked. */
const bare = (words: string): string => words.replace(/^kubernetes: [A-Z]+ \S+ at /, "");

/** The same words apart from what was asked, or a part of the rights that are missing. */
function isPartOf(what: string, { about, what: told }: Diagnosis): boolean {
  return bare(what) === bare(told) || (told.includes("Gyre may not ") && what.startsWith(`${about}: Gyre may not `));
}

async function admit(examination: Examination, found: Diagnosis[]): Promise<Patient> {
  const { manifest, manifests, issuerManifest, clock } = examination;
  const told = (about: string) => (error: unknown) => void found.push(failed(about, error));
  const lineage = await examination.lineage().catch(told("journal"));
  const issuer = await examination.issuer().catch(told(`issuer ${manifest.issuer}`));
  const bound = issuer ?? noIssuer(issuerManifest, found.at(-1)?.what);
  const parties = bindParties(manifest, manifests, bound, async () => undefined);
  const written = lineage ?? emptyLineage();
  const inPlace = await findInPlace(parties.targets, manifest, written).catch(told("in place"));
  const resolved = await resolveInventory(parties);
  found.push(
    ...resolved.inventory.unresolved.map(({ of, why }) => problem(of, why, "correct it: a rotation would hold")),
  );
  const planned =
    issuer === undefined || lineage === undefined ? undefined : await examination.planned().catch(told("plan"));
  let secrets: SecretStore | undefined;
  try {
    secrets = await secretsIfThere(examination.stateDirectory);
  } catch (error) {
    found.push(secretsFailed(error));
  }
  const crl = await examination.crl();
  const ours = written.active === undefined ? `doctor${randomBytes(4).toString("hex")}` : rotationTag(written.active);
  const tag = `${ours}.${randomBytes(4).toString("hex")}`;
  return {
    ...{ manifest, issuer: issuerManifest, parties, lineage: written, resolved, clock, ours },
    ...placesOf(examination, parties),
    ...clustersFor(examination),
    stateDirectory: examination.stateDirectory,
    step: { op: "doctor", signal: new AbortController().signal, tag },
    ...(inPlace === undefined ? {} : { found: inPlace }),
    ...(planned === undefined ? {} : { planned }),
    ...(crl === undefined ? {} : { crl: { name: crl.name, ...(crl.due === undefined ? {} : { due: crl.due }) } }),
    ...(secrets === undefined ? {} : { secrets }),
  };
}

/** Stands for one that could not be opened, so that the rest can be looked at. */
function noIssuer({ name, driver }: IssuerManifest, why = "it could not be opened"): BoundIssuer {
  const gone = async () => {
    throw new GyreError({ code: "issuer", message: why });
  };
  return { id: name, driver: driver.driver, instance: { can: {}, issue: gone, check: gone } };
}

/** Every entry with its settings, and the clusters that they name: under `cluster`, of a Secret or of endpoints as well. */
function clustersFor({ manifest, manifests, issuerManifest }: Examination): Pick<Patient, "entries" | "clusters"> {
  const { targets, trustStores, presenters, verifiers, sensors } = manifest;
  const entries = [issuerManifest.driver, ...targets, ...trustStores, ...presenters, ...verifiers, ...sensors];
  type Naming = { readonly cluster?: string };
  const named = entries.flatMap(({ settings }) => {
    const { cluster, secret, endpoints } = settings as Naming & { secret?: Naming; endpoints?: Naming };
    return [cluster, secret?.cluster, endpoints?.cluster].filter((name) => name !== undefined);
  });
  const open = clustersOf(manifests);
  const used = manifests.clusters.filter(({ name }) => named.includes(name));
  return { entries, clusters: used.map((one) => ({ manifest: one, cluster: open(one.name) })) };
}

/** The driver instances beside their settings. A CRL's places are looked at as what they are, trust stores. */
function placesOf({ manifest, manifests }: Examination, parties: Parties): Pick<Patient, "targets" | "stores"> {
  if (manifest.kind === "crl")
    return {
      targets: [],
      stores: entries(
        bindAll("trustStore", manifest.trustStores, surroundingsOf(manifests, manifest)),
        manifest.trustStores,
        manifest.baseDir,
      ),
    };
  const crl = manifests.credentials.find((other) => other.kind === "crl" && other.issuer === manifest.issuer);
  const holder = manifest.strategy === "overlap" || crl === undefined ? manifest : crl;
  // Certificates that no verifier can refuse by it do not depend on the issuer's CRL.
  const refusing = holder === manifest || manifest.verifiers.some(({ settings }) => settings.refuses === "crl");
  return {
    targets: entries<Target>(parties.targets, manifest.targets, manifest.baseDir),
    stores: refusing ? entries(parties.trustStores, holder.trustStores, holder.baseDir) : [],
  };
}

const entries = <T>(
  bound: readonly Entry<T>["bound"][],
  given: readonly { readonly settings: object }[],
  baseDir: string,
): Entry<T>[] =>
  bound.map((one, index) => ({ bound: one, settings: given[index]!.settings as Entry<T>["settings"], baseDir }));
