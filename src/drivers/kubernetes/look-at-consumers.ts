/** Reads who in a namespace uses an object: pods as they run, and templates whose pods do not. Lists only; writes nothing. */
import { GyreError } from "../../errors.ts";
import { type ApiObject, type Cluster, some } from "./cluster.ts";
import type { Wanted, Workload } from "./consumers.ts";
import type { KubeconfigSettings } from "./kubeconfig-settings.ts";
import type { Named, PodSpec } from "./pod-references.ts";
import type { Right } from "./rights.ts";
import { SecretKeys } from "./secret-keys.ts";
import type { ConfigMapSettings, SecretSettings } from "./secret-settings.ts";

/** An object of a namespace whose consumers are pods. */
export interface Consumed extends Wanted {
  readonly cluster: string;
  readonly namespace: string;
}

/** What a driver's entry writes that pods use; undefined for all that they do not. */
export function consumedBy(driver: string, settings: object): Consumed | undefined {
  // The schema of this very driver parsed them; the table is keyed by what tells them apart.
  return consumed[driver]?.(settings as never);
}
const consumed: Readonly<Record<string, (settings: never) => Consumed | undefined>> = {
  "kubernetes-secret": (settings: SecretSettings) => {
    const { cluster, namespace, name } = settings;
    return { cluster, namespace, kind: "Secret", name, keys: new SecretKeys(settings, name).names };
  },
  kubeconfig: ({ secret }: KubeconfigSettings) =>
    secret && {
      cluster: secret.cluster,
      namespace: secret.namespace,
      kind: "Secret",
      name: secret.name,
      keys: [secret.key],
    },
  "kubernetes-configmap": ({ cluster, namespace, name, key }: ConfigMapSettings) => ({
    ...{ cluster, namespace, kind: "ConfigMap", name, keys: [key] },
  }),
};

export interface NamespaceLook {
  readonly workloads: readonly Workload[];
  /** How many running pods each of them stands for, by `kind/name`. */
  readonly pods: ReadonlyMap<string, number>;
  /** What Gyre may not list: who uses it there is not seen. */
  readonly blind: readonly Right[];
}
export const keyOf = ({ kind, name }: Pick<Workload, "kind" | "name">): string => `${kind}/${name}`;

interface Pod extends ApiObject {
  readonly spec: PodSpec;
  readonly status?: { readonly phase?: string };
}
interface Templated extends ApiObject {
  readonly spec: {
    readonly template?: Template;
    readonly jobTemplate?: { readonly spec: { readonly template?: Template } };
  };
}
interface Template {
  readonly metadata?: { readonly annotations?: Readonly<Record<string, string>> };
  readonly spec?: PodSpec;
}

/** What runs pods, and where it is listed. A ReplicaSet is its Deployment's, a Job may be a CronJob's. */
const templated = [
  { kind: "Deployment", group: "apps", resource: "deployments" },
  { kind: "StatefulSet", group: "apps", resource: "statefulsets" },
  { kind: "DaemonSet", group: "apps", resource: "daemonsets" },
  { kind: "CronJob", group: "batch", resource: "cronjobs" },
] as const;

const why = "to see who uses what is rotated, and whom nothing tells of it";
/** What looking at consumers needs; rotating needs none of it. */
export const consumerRights = (namespace: string): Right[] => [
  { verb: "list", resource: "pods", namespace, why },
  ...templated.map(({ group, resource }) => ({ verb: "list", group, resource, namespace, why })),
];

/** @throws GyreError as Cluster.list, apart from what Gyre may not list, which is in `blind` */
export async function lookAtNamespace(cluster: Cluster, namespace: string): Promise<NamespaceLook> {
  const blind: Right[] = [];
  const list = async <T extends ApiObject>(right: Right): Promise<T[]> => {
    const root = right.group === undefined ? "/api/v1" : `/apis/${right.group}/v1`;
    try {
      return await cluster.list<T>(`${root}/namespaces/${namespace}/${right.resource}`);
    } catch (error) {
      if (!(error instanceof GyreError) || error.code !== "permission") throw error;
      blind.push(right);
      return [];
    }
  };
  const [ofPods, ...ofTemplates] = consumerRights(namespace);
  const templates = new Map<string, Workload>();
  for (const [index, right] of ofTemplates.entries())
    for (const one of await list<Templated>(right)) {
      const found = fromTemplate(templated[index]!.kind, namespace, one);
      if (found !== undefined) templates.set(keyOf(found), found);
    }
  const running: Workload[] = [];
  const pods = new Map<string, number>();
  for (const pod of await list<Pod>(ofPods!)) {
    // One that has ended uses nothing, and is not started again.
    if (pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed") continue;
    const one = fromPod(namespace, pod, templates);
    running.push(one);
    pods.set(keyOf(one), (pods.get(keyOf(one)) ?? 0) + 1);
  }
  // A CronJob's next pod is another than the one that runs.
  const idle = [...templates.values()].filter((one) => !pods.has(keyOf(one)) || one.kind === "CronJob");
  return { workloads: [...running, ...idle], pods, blind };
}

function fromTemplate(kind: string, namespace: string, { metadata, spec }: Templated): Workload | undefined {
  const template = spec.template ?? spec.jobTemplate?.spec.template;
  if (template?.spec === undefined) return undefined;
  const annotations = { ...metadata.annotations, ...template.metadata?.annotations };
  return { kind, namespace, name: metadata.name, spec: template.spec, annotations };
}

function fromPod(namespace: string, { metadata, spec }: Pod, templates: ReadonlyMap<string, Workload>): Workload {
  const owner = ownerOf(metadata);
  const annotations = { ...templates.get(keyOf(owner))?.annotations, ...metadata.annotations };
  return { ...owner, namespace, spec, annotations };
}

/** A Deployment names its ReplicaSets `<name>-<pod-template-hash>`, and writes that hash on their pods. */
function ownerOf({ name, labels, ownerReferences = [] }: ApiObject["metadata"]): Pick<Workload, "kind" | "name"> {
  const owner = ownerReferences.find(({ controller }) => controller === true);
  if (owner === undefined) return { kind: "Pod", name };
  const hash = `-${labels?.["pod-template-hash"]}`;
  if (owner.kind === "ReplicaSet" && owner.name.endsWith(hash))
    return { kind: "Deployment", name: owner.name.slice(0, -hash.length) };
  return { kind: owner.kind, name: owner.name };
}

const resources: Readonly<Record<Named, string>> = { Secret: "secrets", ConfigMap: "configmaps" };

/** Names alone: what is in them is none of our business. Undefined where Gyre may not list them. */
export async function namesIn(cluster: Cluster, namespace: string, kind: Named): Promise<string[] | undefined> {
  const accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
  const names: string[] = [];
  try {
    for await (const { items } of cluster.pages(`/api/v1/namespaces/${namespace}/${resources[kind]}`, { accept }))
      names.push(...items.map(({ metadata }) => metadata.name));
    return names;
  } catch (error) {
    if (error instanceof GyreError && error.code === "permission") return undefined;
    throw error;
  }
}

/** Whether nobody can change it any more; undefined where it is not there or cannot be read. */
export async function isImmutable(cluster: Cluster, { namespace, kind, name }: Consumed): Promise<boolean | undefined> {
  const path = `/api/v1/namespaces/${namespace}/${resources[kind]}/${name}`;
  const found = await cluster.get<ApiObject & { immutable?: boolean }>(path).catch(() => undefined);
  return found === undefined ? undefined : found.immutable === true;
}

/** The object with what is known of it now. */
export const withImmutable = (one: Consumed, immutable: boolean | undefined): Consumed => ({
  ...one,
  ...some({ immutable }),
});
