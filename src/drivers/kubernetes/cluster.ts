/**
 * One cluster, pinned by the UID of its kube-system namespace: its API through Gyre's own access, and each of its API
 * servers at its own address.
 */
import { resolve } from "node:path";
import { GyreError } from "../../errors.ts";
import { parseCertificates } from "../../pki/certificate.ts";
import type { Member } from "../roles.ts";
import { splitAddress } from "../tls/address.ts";
import { type Access, type ApiCredential, readAccess } from "./access.ts";
import { type Answer, type Call, type Dial, keepingAgent, NoAnswer, objectOf, send } from "./api.ts";
import type { ClusterSettings } from "./cluster-settings.ts";

/** What every object of the API has, as far as we look at it. */
export interface Meta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly creationTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly managedFields?: readonly {
    readonly manager?: string;
    readonly operation?: string;
    readonly subresource?: string;
    readonly fieldsV1?: unknown;
  }[];
  readonly ownerReferences?: readonly { readonly kind: string; readonly name: string; readonly controller?: boolean }[];
}
export interface ApiObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: Meta;
}

/** Who wrote a field, in managedFields (server-side apply and every other write). */
export const fieldManager = "gyre";

/** Drivers are handed clusters by the name of their document. */
export type ClusterByName = (name: string) => Cluster;

export class Cluster {
  readonly name: string;
  readonly #settings: ClusterSettings;
  readonly #baseDir: string;
  readonly #agent = keepingAgent();
  #access: Promise<Access> | undefined;

  constructor(name: string, settings: ClusterSettings, baseDir: string) {
    this.name = name;
    this.#settings = settings;
    this.#baseDir = baseDir;
  }

  /** The name in the API servers' certificates. */
  get serverName(): string {
    return this.#settings.apiServers.serverName;
  }
  /** Addresses that the manifest names one by one. */
  get listed(): readonly string[] | undefined {
    return this.#settings.apiServers.addresses;
  }
  /** How many there must be, where the manifest says so. */
  get count(): number | undefined {
    return this.#settings.apiServers.count;
  }
  /** The UID it is pinned to. */
  get uid(): string {
    return this.#settings.uid;
  }

  /** One request as Gyre itself. A 401 may come of our own access having been rotated: it is read anew, once. */
  async send(call: Call): Promise<Answer> {
    const answer = await this.#sendOnce(call);
    if (answer.status !== 401) return answer;
    this.#access = undefined;
    return send(await this.#dial(), call);
  }

  /** A kept connection may lead to an API server that is gone; asking again on a fresh one changes nothing. */
  async #sendOnce(call: Call): Promise<Answer> {
    const dial = await this.#dial();
    try {
      return await send(dial, call);
    } catch (error) {
      if (!(error instanceof NoAnswer) || call.method !== "GET" || call.signal?.aborted === true) throw error;
      const { agent: _, ...fresh } = dial;
      return send(fresh, call);
    }
  }

  async #dial(): Promise<Dial> {
    return { ...dialOf(await this.access()), agent: this.#agent };
  }

  /** How Gyre itself gets in. */
  access(): Promise<Access> {
    const { kubeconfig, context } = this.#settings;
    this.#access ??= readAccess(kubeconfig === undefined ? undefined : resolve(this.#baseDir, kubeconfig), context);
    return this.#access;
  }

  /** The object, or undefined where there is none. @throws GyreError as `objectOf` */
  async get<T extends ApiObject>(path: string, signal?: AbortSignal): Promise<T | undefined> {
    const answer = await this.send({ method: "GET", path, ...some({ signal }) });
    return answer.status === 404 ? undefined : objectOf<T>(answer, `reading ${path}`, this.name);
  }

  /** All objects of a list, page by page. @throws GyreError as `objectOf` */
  async list<T extends ApiObject>(path: string, signal?: AbortSignal): Promise<T[]> {
    const items: T[] = [];
    for await (const page of this.pages<T>(path, some({ signal }))) items.push(...page.items);
    return items;
  }

  /**
   * Page by page, so that memory stays flat. A list that grew too old to go on with (410 Gone) throws: half a list is no
   * list.
   */
  async *pages<T extends ApiObject>(
    path: string,
    how: { readonly accept?: string; readonly limit?: number; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<{ readonly items: readonly T[]; readonly bytes: number }> {
    const joint = path.includes("?") ? "&" : "?";
    let token = "";
    do {
      const page = `${path}${joint}limit=${how.limit ?? 500}${token === "" ? "" : `&continue=${encodeURIComponent(token)}`}`;
      const answer = await this.send({
        method: "GET",
        path: page,
        ...some({ accept: how.accept, signal: how.signal }),
      });
      const list = objectOf<{ items?: T[]; metadata?: { continue?: string } }>(answer, `listing ${path}`, this.name);
      yield { items: list.items ?? [], bytes: answer.bytes };
      token = list.metadata?.continue ?? "";
    } while (token !== "");
  }

  /** UID of kube-system as this access, or this API server, shows it. */
  async identity(at?: { readonly address: string; readonly credential?: ApiCredential }): Promise<string | undefined> {
    const path = "/api/v1/namespaces/kube-system";
    const call: Call = { method: "GET", path };
    const answer =
      at === undefined ? await this.send(call) : await send(await this.dialMember(at.address, at.credential), call);
    return objectOf<ApiObject>(answer, `reading ${path}`, at?.address ?? this.name).metadata.uid;
  }

  /** Before anything is written: is this the cluster that is meant? @throws GyreError `conflict` */
  async mustBeOurs(): Promise<void> {
    const seen = await this.identity();
    if (seen === this.uid) return;
    const { server } = await this.access();
    throw new GyreError({
      code: "conflict",
      message: `cluster ${this.name}: ${server.host} is another cluster: its kube-system has UID ${seen}, and ${this.uid} is meant; nothing was written`,
      where: server.host,
      next: "correct the kubeconfig of the Cluster document, or its uid if the cluster was built anew",
    });
  }

  /** A fresh connection to one API server at its own address, as Gyre itself unless another credential is given. */
  async dialMember(address: string, credential?: ApiCredential): Promise<Dial> {
    const { host, port } = splitAddress(address);
    const roots = await this.roots();
    return {
      host,
      port,
      serverName: this.serverName,
      roots,
      credential: credential ?? (await this.access()).credential,
    };
  }

  /**
   * The cluster's CA as the cluster itself publishes it, PEM: ConfigMap kube-root-ca.crt, which the controller manager
   * keeps in every namespace. Never a client certificate's issuer, nor what somebody's kubeconfig says.
   * @throws GyreError `input` where it is missing or holds something else than CA certificates
   */
  async roots(): Promise<string> {
    const path = "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt";
    const found = await this.get<ApiObject & { data?: Record<string, string> }>(path);
    const pem = found?.data?.["ca.crt"];
    const where = `${this.name}: ConfigMap kube-system/kube-root-ca.crt`;
    if (pem === undefined)
      throw new GyreError({
        code: "input",
        message: "kubernetes: the cluster publishes no CA",
        where,
        next: "look at the controller manager (--root-ca-file): it writes this ConfigMap",
      });
    const wrong = parseCertificates(pem).find((one) => !one.isCa);
    if (wrong !== undefined)
      throw new GyreError({ code: "input", message: `kubernetes: ${wrong.subject} is no CA certificate`, where });
    return pem;
  }

  /**
   * The API servers, each under its own address, counted against a second source.
   * @throws GyreError `unreachable`, to be tried again, where the sources do not agree: then "for all" is unknown
   */
  async members(): Promise<Member[]> {
    const { count, addresses } = this.#settings.apiServers;
    const published = addresses ?? (await this.#published());
    const wanted = count ?? (await this.#leases());
    if (published.length === 0 || published.length !== wanted)
      throw new GyreError({
        code: "unreachable",
        retry: "later",
        message: `cluster ${this.name}: ${addresses === undefined ? "the EndpointSlices of default/kubernetes list" : "the manifest lists"} ${published.length} API servers, but ${count === undefined ? "as many as hold a lease in kube-system are" : "there must be"} ${wanted}`,
        where: this.name,
        next: "wait until all API servers are up, or say how many there are (apiServers.count) and where (apiServers.addresses)",
      });
    return published.map((one) => ({ id: one, address: one }));
  }

  async #published(): Promise<string[]> {
    const slices = await this.list<EndpointSlice>(endpointSlicesOf("default", "kubernetes"));
    return addressesOf(slices, undefined).map(({ address }) => address);
  }

  /** Every API server holds a lease of its own name, renewed every ten seconds (kube-apiserver, APIServerIdentity). */
  async #leases(): Promise<number> {
    const path =
      "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases?labelSelector=apiserver.kubernetes.io%2Fidentity%3Dkube-apiserver";
    const leases = await this.list<ApiObject & { spec?: { renewTime?: string } }>(path);
    const times = leases.map(({ spec }) => Date.parse(spec?.renewTime ?? "")).filter((time) => !Number.isNaN(time));
    // By the newest of them and not by our own clock, which may be minutes off.
    const newest = Math.max(...times);
    return times.filter((time) => newest - time < leaseLife).length;
  }
}

/** Six missed renewals: an API server that is down or gone. */
const leaseLife = 60_000;

export interface EndpointSlice extends ApiObject {
  readonly addressType?: string;
  readonly ports?: readonly { readonly name?: string; readonly port?: number }[] | null;
  readonly endpoints?:
    | readonly {
        readonly addresses: readonly string[];
        readonly conditions?: { readonly ready?: boolean; readonly terminating?: boolean };
        readonly targetRef?: { readonly uid?: string; readonly name?: string; readonly kind?: string };
      }[]
    | null;
}
export const endpointSlicesOf = (namespace: string, service: string): string =>
  `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices?labelSelector=${encodeURIComponent(`kubernetes.io/service-name=${service}`)}`;

/** Addresses with a port (the named one, or the only one), each once; `uid` tells instances of a pod apart. */
export function addressesOf(
  slices: readonly EndpointSlice[],
  port: string | undefined,
): { readonly address: string; readonly uid?: string }[] {
  const found = new Map<string, { address: string; uid?: string }>();
  for (const slice of slices)
    for (const { name, port: number } of slice.ports ?? []) {
      if (number === undefined || (port !== undefined && name !== port && String(number) !== port)) continue;
      // Every address of an endpoint is the same pod: Kubernetes says to use the first.
      for (const endpoint of slice.endpoints ?? [])
        for (const host of endpoint.addresses.slice(0, 1)) {
          const address = `${host.includes(":") ? `[${host}]` : host}:${number}`;
          const uid = endpoint.targetRef?.uid;
          found.set(address, { address, ...some({ uid }) });
        }
    }
  return [...found.values()];
}

/** A kubeconfig's server as something to dial. */
export function dialOf(access: Access): Dial {
  const { server, serverName, roots, credential } = access;
  const host = server.hostname.replace(/^\[|\]$/g, "");
  return {
    host,
    port: server.port === "" ? 443 : Number(server.port),
    serverName: serverName ?? host,
    credential,
    ...(server.pathname === "/" ? {} : { prefix: server.pathname.replace(/\/$/, "") }),
    ...some({ roots }),
  };
}

/** Leaves out what is undefined: exactOptionalPropertyTypes tells an absent field from an undefined one. */
export function some<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
