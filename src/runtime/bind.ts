import { createAccessLogSensor } from "../drivers/access-log/sensor.ts";
import type { DriverEntry, DriverRole } from "../drivers/catalogue.ts";
import { createFilesTarget } from "../drivers/files/target.ts";
import { createFilesTrustStore } from "../drivers/files/trust-store.ts";
import { createKubernetesAuditSensor } from "../drivers/kubernetes/audit-sensor.ts";
import { Cluster, type ClusterByName } from "../drivers/kubernetes/cluster.ts";
import { createCsrIssuer } from "../drivers/kubernetes/csr.ts";
import { createKubeconfigPresenter } from "../drivers/kubernetes/kubeconfig-presenter.ts";
import { createKubeconfigTarget } from "../drivers/kubernetes/kubeconfig-target.ts";
import { createGroupBindings } from "../drivers/kubernetes/rbac.ts";
import { createSecretTarget } from "../drivers/kubernetes/secret-target.ts";
import { createCaBundleStore, createConfigMapStore } from "../drivers/kubernetes/secret-trust.ts";
import { createApiVerifier } from "../drivers/kubernetes/verifier.ts";
import { openLocalCa } from "../drivers/local-ca/local-ca.ts";
import { type LookedAt, lookAtLocalCa } from "../drivers/local-ca/look.ts";
import { createSelfSigned } from "../drivers/local-ca/self-signed.ts";
import type { Issuer, Presenter, Sensor, Target, TrustStore, Verifier } from "../drivers/roles.ts";
import { createTlsPresenter } from "../drivers/tls/presenter.ts";
import { createTlsVerifier } from "../drivers/tls/verifier.ts";
import { GyreError } from "../errors.ts";
import type { CredentialManifest, IssuerManifest, Manifests } from "../manifest/manifest.ts";
import type { Clock } from "./clock.ts";
import { crlTarget, withCrlsAbove } from "./crl-target.ts";
import type { Bound, BoundIssuer, Parties } from "./parties.ts";

interface Instances {
  readonly target: Target;
  readonly trustStore: TrustStore;
  readonly presenter: Presenter;
  readonly verifier: Verifier;
  readonly sensor: Sensor;
}
type Bindable = keyof Instances & DriverRole;
/** What a driver is made with besides its settings. */
export interface Surroundings {
  readonly baseDir: string;
  readonly cluster: ClusterByName;
}
type Constructors = {
  readonly [R in Bindable]: {
    readonly [D in DriverEntry<R>["driver"]]: (
      settings: Extract<DriverEntry<R>, { driver: D }>["settings"],
      around: Surroundings,
    ) => Instances[R];
  };
};

/** The constructor behind every row of the catalogue. */
const constructors: Constructors = {
  target: {
    files: createFilesTarget,
    "kubernetes-secret": createSecretTarget,
    kubeconfig: createKubeconfigTarget,
  },
  trustStore: {
    files: createFilesTrustStore,
    "kubernetes-rbac": createGroupBindings,
    "kubernetes-configmap": createConfigMapStore,
    "kubernetes-ca-bundle": createCaBundleStore,
  },
  presenter: { tls: createTlsPresenter, kubeconfig: createKubeconfigPresenter },
  verifier: { tls: createTlsVerifier, "kubernetes-api": createApiVerifier },
  sensor: { "access-log": createAccessLogSensor, "kubernetes-audit": createKubernetesAuditSensor },
};

/** A manifest's entry, as far as binding looks at it; which settings fit which driver was checked when it was read. */
interface AnyEntry {
  readonly key: string;
  readonly driver: string;
  readonly settings: unknown;
}

/** Instances for a manifest's entries of one role, with ids that name them in plans, holds and waivers. */
export function bindAll<R extends Bindable>(
  role: R,
  entries: readonly AnyEntry[],
  around: Surroundings,
): Bound<Instances[R]>[] {
  const make = constructors[role] as unknown as Readonly<
    Record<string, (settings: unknown, around: Surroundings) => Instances[R]>
  >;
  const taken = new Set<string>();
  return entries.map((entry) => {
    const instance = make[entry.driver]!(entry.settings, around);
    const id = idOf(entry, instance);
    const unique = taken.has(id) ? `${id} #${taken.size + 1}` : id;
    taken.add(unique);
    return { id: unique, driver: entry.driver, instance };
  });
}

/** A place is its own id; servers go by their key and server name. */
function idOf(entry: AnyEntry, instance: object): string {
  if ("place" in instance && typeof instance.place === "string") return instance.place;
  const { serverName } = entry.settings as { serverName?: string };
  return serverName === undefined ? entry.key : `${entry.key} ${serverName}`;
}

const opened = new WeakMap<object, ClusterByName>();

/** The clusters that manifests name, each opened once for all who ask with the same manifests. */
export function clustersOf(manifests: Pick<Manifests, "clusters">): ClusterByName {
  const known = opened.get(manifests);
  if (known !== undefined) return known;
  const open = new Map<string, Cluster>();
  const byName: ClusterByName = (name) => {
    const manifest = manifests.clusters.find((one) => one.name === name);
    if (manifest === undefined) throw new GyreError({ code: "manifest", message: `there is no cluster ${name}` });
    const cluster = open.get(name) ?? new Cluster(name, manifest.settings, manifest.baseDir);
    open.set(name, cluster);
    return cluster;
  };
  opened.set(manifests, byName);
  return byName;
}

/** What the drivers of one document are made with. */
export const surroundingsOf = (manifests: Manifests, { baseDir }: { readonly baseDir: string }): Surroundings => ({
  baseDir,
  cluster: clustersOf(manifests),
});

/** How issuers are opened: to issue, which creates what is missing, or only to ask, which creates nothing. */
export type Purpose = "issue" | "ask";

/** Issuers by name, opened when first asked for: a CA that cannot be opened stops only what needs it. */
export class Issuers {
  readonly #manifests: Manifests;
  readonly #clock: Clock;
  readonly #open = new Map<string, Promise<Issuer>>();

  constructor(manifests: Manifests, clock: Clock) {
    this.#manifests = manifests;
    this.#clock = clock;
  }

  manifest(name: string): IssuerManifest {
    const found = this.#manifests.issuers.find((issuer) => issuer.name === name);
    if (found === undefined) throw new GyreError({ code: "manifest", message: `there is no issuer ${name}` });
    return found;
  }

  async get(name: string, purpose: Purpose): Promise<BoundIssuer> {
    const manifest = this.manifest(name);
    return { id: name, driver: manifest.driver.driver, ...(await this.#get(manifest, purpose)) };
  }

  async #get(manifest: IssuerManifest, purpose: Purpose): Promise<LookedAt> {
    const opened = this.#open.get(manifest.name);
    if (opened !== undefined) return { instance: await opened };
    // One that was only looked at is not kept: by the next time it may have been created.
    if (purpose === "ask") return lookAtIssuer(manifest, this.#surroundings(manifest));
    const opening = openIssuer(manifest, this.#surroundings(manifest));
    this.#open.set(manifest.name, opening);
    return { instance: await opening };
  }

  #surroundings(manifest: IssuerManifest): IssuerSurroundings {
    return { ...surroundingsOf(this.#manifests, manifest), now: () => this.#clock.now() };
  }
}
interface IssuerSurroundings extends Surroundings {
  readonly now: () => number;
}

async function lookAtIssuer(manifest: IssuerManifest, around: IssuerSurroundings): Promise<LookedAt> {
  const { driver } = manifest;
  if (driver.driver === "local-ca") return lookAtLocalCa(driver.settings, around);
  return { instance: await openIssuer(manifest, around) };
}

async function openIssuer({ driver }: IssuerManifest, around: IssuerSurroundings): Promise<Issuer> {
  switch (driver.driver) {
    case "local-ca":
      return openLocalCa(driver.settings, around);
    case "self-signed":
      return createSelfSigned(driver.settings, around);
    case "kubernetes-csr":
      return createCsrIssuer(driver.settings, around);
    default:
      return driver satisfies never;
  }
}

/** Everything one credential's rotation talks to. A CRL's places are its targets; a certificate's CRL places carry its refusal. */
export function bindParties(
  manifest: CredentialManifest,
  manifests: Manifests,
  issuer: BoundIssuer,
  previousCrl: () => Promise<string | undefined>,
): Parties {
  const around = surroundingsOf(manifests, manifest);
  const proof = {
    issuer,
    presenters: bindAll("presenter", manifest.presenters, around),
    verifiers: bindAll("verifier", manifest.verifiers, around),
    sensors: bindAll("sensor", manifest.sensors, around),
  };
  const targets = bindTargets(manifest, manifests, issuer.instance, previousCrl);
  if (manifest.kind === "crl") return { ...proof, targets, trustStores: [] };
  const stores = bindAll("trustStore", manifest.trustStores, around);
  const crl = manifests.credentials.find((other) => other.kind === "crl" && other.issuer === manifest.issuer);
  const refusing =
    manifest.strategy === "overlap" || crl === undefined ? stores : bindCrlStores(crl, manifests, issuer.instance);
  return { ...proof, targets, trustStores: refusing };
}

const bindCrlStores = (crl: CredentialManifest, manifests: Manifests, issuer: Issuer): Bound<TrustStore>[] =>
  bindAll("trustStore", crl.trustStores, surroundingsOf(manifests, crl)).map((store) => ({
    ...store,
    instance: withCrlsAbove(store.instance, issuer),
  }));

function bindTargets(
  manifest: CredentialManifest,
  manifests: Manifests,
  issuer: Issuer,
  previousCrl: () => Promise<string | undefined>,
): Bound<Target>[] {
  if (manifest.kind !== "crl") return bindAll("target", manifest.targets, surroundingsOf(manifests, manifest));
  return bindCrlStores(manifest, manifests, issuer).map((store) => ({
    ...store,
    instance: crlTarget(store.instance, issuer, previousCrl),
  }));
}
