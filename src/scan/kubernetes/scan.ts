/** Everything in a cluster that holds certificates, by lists alone: nothing is written, watched or kept. */
import { type Access, readAccess } from "../../drivers/kubernetes/access.ts";
import { type Answer, type Call, keepingAgent, send } from "../../drivers/kubernetes/api.ts";
import { type ApiObject, dialOf } from "../../drivers/kubernetes/cluster.ts";
import { GyreError } from "../../errors.ts";
import { parseCertificates } from "../../pki/certificate.ts";
import { type Found, type FoundSkipped, problem } from "../found.ts";
import { type ScanOptions, withDefaults } from "../scan.ts";
import { helmRelease, type Kind, kinds, type Listed, listPath } from "./kinds.ts";
import { type Cost, ListFailed, Lists, metadataOnly } from "./lists.ts";
import { examineObject, type Surroundings } from "./object.ts";
import { rootCa } from "./rights.ts";
import { Uses, userKinds } from "./uses.ts";

export interface ClusterToScan {
  /** Absent: as the service account of the pod. */
  readonly kubeconfig?: string;
  readonly context?: string;
  /** Only these; absent or empty: the whole cluster. */
  readonly namespaces?: readonly string[];
}

export interface ClusterScan {
  readonly server: string;
  readonly cost: Cost;
  /** Finds as they are made. Rejects where nobody answers, or when the signal aborts. */
  readonly finds: AsyncIterable<Found>;
}

/**
 * Reads the access and makes the scan; the API server is first asked by `finds`.
 * @throws GyreError `input`, `permission`: no usable access
 */
export async function openClusterScan(of: ClusterToScan, given: ScanOptions = {}): Promise<ClusterScan> {
  const options = withDefaults(given);
  const client = await Client.open(of);
  const cost: Cost = { requests: 0, bytes: 0, objects: {} };
  const lists = new Lists((call) => client.send(call), cost, options.signal);
  return { server: client.server, cost, finds: scanCluster(lists, of.namespaces ?? [], options) };
}

/** One kept connection; an access that was renewed meanwhile is read anew, once for each refusal. */
class Client {
  readonly #of: ClusterToScan;
  readonly #agent = keepingAgent();
  #access: Access;

  private constructor(of: ClusterToScan, access: Access) {
    this.#of = of;
    this.#access = access;
  }
  static async open(of: ClusterToScan): Promise<Client> {
    return new Client(of, await readAccess(of.kubeconfig, of.context));
  }
  get server(): string {
    return this.#access.server.host;
  }
  async send(call: Call): Promise<Answer> {
    const answer = await send({ ...dialOf(this.#access), agent: this.#agent }, call);
    if (answer.status !== 401) return answer;
    this.#access = await readAccess(this.#of.kubeconfig, this.#of.context);
    return send({ ...dialOf(this.#access), agent: this.#agent }, call);
  }
}

/** `namespaces` empty: the whole cluster. */
export async function* scanCluster(
  lists: Lists,
  namespaces: readonly string[],
  options: Required<ScanOptions>,
): AsyncGenerator<Found> {
  const scopes: readonly (string | undefined)[] = namespaces.length === 0 ? [undefined] : namespaces;
  const roots = yield* clusterRoots(lists);
  const uses = new Uses();
  const usersUnseen: string[] = [];
  for (const kind of userKinds)
    for (const scope of scopes)
      for await (const one of listed<ApiObject>(lists, kind, scope)) {
        if (!("failed" in one)) (kind.note as (object: ApiObject, uses: Uses) => void)(one, uses);
        else {
          if (!usersUnseen.includes(kind.kind)) usersUnseen.push(kind.kind);
          yield problem(one.where, `${one.failed}; who uses what is found is not known in full`);
        }
      }
  let same = 0;
  /** A namespace that does not exist is listed as an empty one; every real one has this ConfigMap. */
  const there = new Set<string | undefined>();
  const around: Surroundings = {
    ...{ options, uses, usersUnseen, ...(roots === undefined ? {} : { roots }) },
    sameRoots: () => {
      same += 1;
    },
  };
  const looked = kinds.filter(({ namespaced }) => namespaced || namespaces.length === 0);
  for (const kind of looked)
    for (const scope of scopes)
      for await (const one of listed<Listed>(lists, kind, scope))
        if ("failed" in one) {
          yield problem(one.where, one.failed);
          if (kind.kind === "ConfigMap" && scope !== undefined) there.add(scope);
        } else {
          if (one.metadata.name === rootCa.name) there.add(one.metadata.namespace);
          yield* examineObject(kind, one, around);
        }
  for (const scope of namespaces)
    if (!there.has(scope))
      yield problem(
        `namespace ${scope}`,
        `it has no ConfigMap ${rootCa.name}, which every namespace has: is it there?`,
      );
  for (const scope of scopes) yield* helmReleases(lists, scope);
  if (same > 0) yield skipped("copies of the cluster's CA", "each the same as kube-system publishes", same);
  const left = kinds.filter((kind) => !looked.includes(kind)).map(({ kind }) => kind);
  if (left.length > 0) yield skipped(left.join(", "), "not looked at: they belong to no namespace");
}

/** No answer, or one that does not know who asks: nothing else would be answered either. */
const isNobody = (error: GyreError): boolean =>
  error instanceof ListFailed && (error.status === 401 || (error.status === undefined && error.code === "unreachable"));

const skipped = (where: string, message: string, count?: number): FoundSkipped => ({
  ...{ what: "skipped", where, message: count === undefined ? message : `${count}, ${message}` },
  ...(count === undefined ? {} : { count }),
  findings: [],
});

interface Failed {
  readonly where: string;
  readonly failed: string;
}

/** Objects of a kind one by one; a list that fails ends with what is not known. An API that is not served has none. */
async function* listed<T>(
  lists: Lists,
  kind: Pick<Kind, "kind" | "group" | "resource" | "versions" | "fieldSelector">,
  namespace: string | undefined,
): AsyncGenerator<T | Failed> {
  const selector = kind.fieldSelector === undefined ? "" : `?fieldSelector=${encodeURIComponent(kind.fieldSelector)}`;
  const where = `${kind.kind}${namespace === undefined ? "" : ` in ${namespace}`}`;
  for (const version of kind.versions) {
    try {
      for await (const page of lists.pages<T>(`${listPath(kind, version, namespace)}${selector}`, where)) {
        lists.cost.objects[kind.kind] = (lists.cost.objects[kind.kind] ?? 0) + page.length;
        yield* page;
      }
      return;
    } catch (error) {
      if (!(error instanceof ListFailed)) throw error;
      if (error.status === 404) continue;
      yield { where, failed: sayFailed(error) };
      return;
    }
  }
}

/** What kube-system publishes as the cluster's CA, by fingerprint. The first question: who does not answer it is not there. */
async function* clusterRoots(lists: Lists): AsyncGenerator<Found, ReadonlySet<string> | undefined> {
  const where = `ConfigMap ${rootCa.namespace}/${rootCa.name}`;
  const path = `${listPath({ group: "", resource: "configmaps" }, "v1", rootCa.namespace)}?fieldSelector=${encodeURIComponent(`metadata.name=${rootCa.name}`)}`;
  const unknown = "copies of it are told as they are, not compared";
  try {
    for await (const page of lists.pages<Listed>(path, where)) {
      const pem = page[0]?.data?.["ca.crt"];
      if (pem !== undefined) return new Set(parseCertificates(pem, where).map(({ fingerprint }) => fingerprint));
    }
    yield problem(where, `the cluster publishes no CA; ${unknown}`);
  } catch (error) {
    if (!(error instanceof GyreError) || isNobody(error)) throw error;
    yield problem(where, `${error instanceof ListFailed ? sayFailed(error) : error.message}; ${unknown}`);
  }
  return undefined;
}

/** Counted by their metadata alone: they are compressed, up to a megabyte each, and of what they install we see the original. */
async function* helmReleases(lists: Lists, namespace: string | undefined): AsyncGenerator<Found> {
  const where = `Secret of type ${helmRelease}${namespace === undefined ? "" : ` in ${namespace}`}`;
  const selector = `?fieldSelector=${encodeURIComponent(`type=${helmRelease}`)}`;
  let number = 0;
  try {
    const path = `${listPath({ group: "", resource: "secrets" }, "v1", namespace)}${selector}`;
    for await (const page of lists.pages(path, where, metadataOnly)) number += page.length;
  } catch (error) {
    // Without the right to list Secrets this was said of the others already.
    if (error instanceof ListFailed && error.code === "permission") return;
    if (!(error instanceof ListFailed)) throw error;
    yield problem(where, sayFailed(error));
  }
  if (number > 0)
    yield skipped(where, "not read: compressed records of releases, whose Secrets are read themselves", number);
}

const sayFailed = (error: ListFailed): string => `not seen: ${error.message.replace(/^kubernetes: /, "")}`;
