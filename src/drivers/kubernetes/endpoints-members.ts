import { GyreError } from "../../errors.ts";
import type { Member } from "../roles.ts";
import { joinAddress } from "../tls/address.ts";
import { type ApiObject, type Cluster, type EndpointSlice, endpointSlicesOf, some } from "./cluster.ts";
import type { EndpointsSettings } from "./endpoints-settings.ts";

interface Service extends ApiObject {
  readonly spec?: {
    readonly type?: string;
    readonly selector?: Readonly<Record<string, string>>;
    readonly ports?: readonly { readonly name?: string; readonly port: number; readonly protocol?: string }[];
  };
}

/**
 * One member per endpoint of a Service, whatever its state: one that is not ready, or on its way out, may still answer
 * with the old certificate. Counted against the running pods that the Service selects, and against `replicas`.
 * @throws GyreError `unreachable`, to be tried again, where the lists disagree or there is nothing to count against;
 * `conflict` where the cluster is another one than the manifest's; as Cluster.get and list
 */
export async function endpointMembers(
  cluster: Cluster,
  where: EndpointsSettings,
  replicas: number | undefined,
): Promise<Member[]> {
  const { namespace, service: name } = where;
  // A Service of this name in another cluster would count as proof.
  await cluster.mustBeOurs();
  const service = await cluster.get<Service>(`/api/v1/namespaces/${namespace}/services/${name}`);
  if (service === undefined) throw disagreement(cluster, where, "there is no such Service");
  const port = portOf(cluster, where, service);
  const found = endpointsOf(await cluster.list<EndpointSlice>(endpointSlicesOf(namespace, name)), port);
  const pods = await podsOf(cluster, namespace, service);
  // Pods of a dual-stack Service have two addresses: both are looked at, and the pod counts once.
  const instances = new Map(found.map((one) => [one.uid ?? one.address, one.name ?? one.address]));
  const missing = [...pods].filter(([uid]) => !instances.has(uid)).map(([, pod]) => pod);
  const strange = [...instances].filter(([uid]) => !pods.has(uid)).map(([, one]) => one);
  if (pods.size > 0 && missing.length + strange.length > 0)
    throw disagreement(
      cluster,
      where,
      [
        ...(missing.length === 0 ? [] : [`the pods ${list(missing)} run and are no endpoints of port ${nameOf(port)}`]),
        ...(strange.length === 0 ? [] : [`the endpoints ${list(strange)} are no running pods that it selects`]),
      ].join("; "),
    );
  if (replicas !== undefined && replicas !== instances.size)
    throw disagreement(cluster, where, `${replicas} replicas expected, ${instances.size} endpoints found`);
  if (pods.size === 0 && replicas === undefined)
    throw disagreement(
      cluster,
      where,
      `it selects no running pod, so that its ${instances.size} endpoints cannot be counted`,
      "say how many there must be (`replicas`), or wait for its pods",
    );
  return found.map(({ address, uid, name: pod }) => ({
    id: address,
    address,
    ...some({ instance: uid, known: pod === undefined ? undefined : `pod ${pod}` }),
  }));
}

const nameOf = (port: string): string => (port === "" ? "(unnamed)" : port);
const list = (names: readonly string[]): string =>
  names.length > 5 ? `${names.slice(0, 5).join(", ")} and ${names.length - 5} more` : names.join(", ");

function disagreement(cluster: Cluster, { namespace, service }: EndpointsSettings, what: string, next?: string) {
  return new GyreError({
    code: "unreachable",
    retry: "later",
    message: `kubernetes: Service ${namespace}/${service} in cluster ${cluster.name}: ${what}; none was looked at`,
    where: `${cluster.name}: ${namespace}/${service}`,
    next: next ?? "wait until its EndpointSlices and pods agree, or correct the manifest",
  });
}

/** EndpointSlices know a Service's port by its name, which is empty where the only one has none; their number is the pods'. */
function portOf(cluster: Cluster, where: EndpointsSettings, { spec }: Service): string {
  const ports = (spec?.ports ?? []).filter(({ protocol = "TCP" }) => protocol === "TCP");
  const wanted =
    where.port === undefined
      ? ports
      : ports.filter(({ name, port }) => name === where.port || String(port) === String(where.port));
  if (wanted.length === 1) return wanted[0]!.name ?? "";
  const known = ports.map(({ name, port }) => (name === undefined ? `${port}` : `${name} (${port})`)).join(", ");
  const what = where.port === undefined ? "it has several ports, or none" : `it has no port ${where.port}`;
  throw disagreement(cluster, where, `${what}: ${known || "none"}`, "name one of them (`port`)");
}

interface Endpoint {
  readonly address: string;
  readonly uid: string | undefined;
  readonly name: string | undefined;
}

function endpointsOf(slices: readonly EndpointSlice[], port: string): Endpoint[] {
  const found = new Map<string, Endpoint>();
  for (const slice of slices)
    for (const { name, port: number } of slice.ports ?? [])
      if (number !== undefined && (name ?? "") === port)
        for (const { addresses, targetRef } of slice.endpoints ?? []) {
          // Every address of an endpoint is the same pod: Kubernetes says to use the first.
          const [host] = addresses;
          if (host === undefined) continue;
          const address = joinAddress(host, number);
          found.set(address, { address, uid: targetRef?.uid, name: targetRef?.name });
        }
  return [...found.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
}

/** Running pods that the Service selects, uid to name. One on its way out is running until it is gone. */
async function podsOf(cluster: Cluster, namespace: string, { spec }: Service): Promise<ReadonlyMap<string, string>> {
  const selector = Object.entries(spec?.selector ?? {}).map(([key, value]) => `${key}=${value}`);
  // An empty selector would select every pod of the namespace; a Service without one selects none.
  if (selector.length === 0) return new Map();
  const query = `labelSelector=${encodeURIComponent(selector.join(","))}&fieldSelector=status.phase%3DRunning`;
  const pods = await cluster.list<ApiObject>(`/api/v1/namespaces/${namespace}/pods?${query}`);
  return new Map(pods.map(({ metadata }) => [metadata.uid ?? metadata.name, metadata.name]));
}
