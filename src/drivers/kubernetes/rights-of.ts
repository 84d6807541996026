/** Everything that the entries of a manifest must be allowed in their clusters, and why what is missing may be missing. */
import { objectOf } from "./api.ts";
import { type Cluster, some } from "./cluster.ts";
import { type Kind, kinds } from "./conditional-write.ts";
import { csrRights } from "./csr.ts";
import type { CsrSettings } from "./csr-settings.ts";
import type { EndpointsSettings } from "./endpoints-settings.ts";
import type { KubeconfigPresenterSettings, KubeconfigSettings } from "./kubeconfig-settings.ts";
import { groupBindingRights } from "./rbac.ts";
import type { GroupBindingSettings } from "./rbac-settings.ts";
import { type Right, sayRight } from "./rights.ts";
import type { CaBundleSettings, ConfigMapSettings, SecretSettings } from "./secret-settings.ts";
import { verifierRights } from "./verifier.ts";
import type { ApiVerifierSettings } from "./verifier-settings.ts";

/** An entry of a manifest, whatever its driver. */
export interface AnyEntry {
  readonly role: string;
  readonly driver: string;
  readonly settings: object;
}
interface Wanted {
  readonly cluster: string;
  readonly rights: readonly Right[];
}

const identity: Right = {
  verb: "get",
  resource: "namespaces",
  name: "kube-system",
  why: "to tell clusters of one name apart",
};
const authority: Right = {
  ...{ verb: "get", resource: "configmaps", namespace: "kube-system", name: "kube-root-ca.crt" },
  why: "to know the cluster's CA",
};

function toWrite(kind: Kind, of: { namespace?: string; name: string; create?: boolean }, removes = true): Right[] {
  const [group = "", version] = kind.apiVersion.split("/");
  const right = (verb: string, why: string, name: string | undefined = of.name): Right => ({
    ...{ verb, resource: kind.resource, why, ...some({ namespace: of.namespace, name }) },
    ...(version === undefined ? {} : { group }),
  });
  // RBAC cannot bind `create` to a name: the API server does not know the name yet.
  const { name: _, ...create } = right("create", "to make it where it is missing");
  return [
    right("get", "to see what is there"),
    right("patch", "to deliver"),
    ...(of.create !== true ? [] : [create, ...(removes ? [right("delete", "to take it away again")] : [])]),
  ];
}

/** By role and driver; the identity of the cluster is asked by all of them. */
const table: Readonly<Record<string, (settings: never, cluster: (name: string) => Cluster) => readonly Wanted[]>> = {
  "issuer kubernetes-csr": (s: CsrSettings) => [{ cluster: s.cluster, rights: csrRights(s) }],
  "target kubernetes-secret": (s: SecretSettings) => [{ cluster: s.cluster, rights: toWrite(kinds.secret, s) }],
  "target kubeconfig": (s: KubeconfigSettings) => [
    { cluster: s.cluster, rights: [authority] },
    ...(s.secret === undefined ? [] : [{ cluster: s.secret.cluster, rights: toWrite(kinds.secret, s.secret) }]),
  ],
  "presenter kubeconfig": (s: KubeconfigPresenterSettings) => [
    { cluster: s.cluster, rights: [authority] },
    ...(s.secret === undefined
      ? []
      : [{ cluster: s.secret.cluster, rights: toWrite(kinds.secret, s.secret).filter(({ verb }) => verb === "get") }]),
  ],
  "trustStore kubernetes-configmap": (s: ConfigMapSettings) => [
    { cluster: s.cluster, rights: toWrite(kinds.configMap, s, false) },
  ],
  "trustStore kubernetes-ca-bundle": (s: CaBundleSettings) => [
    {
      cluster: s.cluster,
      rights: (["validatingWebhook", "mutatingWebhook", "apiService"] as const).flatMap((field) =>
        s[field] === undefined ? [] : toWrite(kinds[field], { name: s[field] }),
      ),
    },
  ],
  "trustStore kubernetes-rbac": (s: GroupBindingSettings) => [{ cluster: s.cluster, rights: groupBindingRights(s) }],
  "verifier kubernetes-api": (s: ApiVerifierSettings, open) => [
    { cluster: s.cluster, rights: verifierRights(open(s.cluster), s) },
  ],
  "presenter tls": endpointRights,
  "verifier tls": endpointRights,
};

function endpointRights({ endpoints }: { endpoints?: EndpointsSettings }): Wanted[] {
  if (endpoints === undefined) return [];
  const { cluster, namespace, service } = endpoints;
  const why = "to find every endpoint of the Service, and to count them";
  const rights: Right[] = [
    { verb: "get", resource: "services", namespace, name: service, why },
    { verb: "list", group: "discovery.k8s.io", resource: "endpointslices", namespace, why },
    { verb: "list", resource: "pods", namespace, why },
  ];
  return [{ cluster, rights }];
}

/** What the entries need, by cluster. */
export function rightsOf(entries: readonly AnyEntry[], cluster: (name: string) => Cluster): Map<string, Right[]> {
  const found = new Map<string, Right[]>();
  // The schema of this very driver parsed the settings; the table is keyed by what tells them apart.
  for (const { role, driver, settings } of entries)
    for (const wanted of table[`${role} ${driver}`]?.(settings as never, cluster) ?? []) {
      const known = found.get(wanted.cluster) ?? [identity];
      const added = wanted.rights.filter((right) => !known.some((one) => sayRight(one) === sayRight(right)));
      found.set(wanted.cluster, [...known, ...added]);
    }
  return found;
}

interface Rule {
  readonly verbs: readonly string[];
  readonly apiGroups?: readonly string[];
  readonly resources?: readonly string[];
  readonly resourceNames?: readonly string[];
}

/**
 * Rules that come near to what is missing, as the API server itself gives them (SelfSubjectRulesReview, which everybody
 * may ask): other names, or another namespace. In words, one for each right that has such a rule.
 */
export async function nearMisses(
  cluster: Cluster,
  missing: readonly Right[],
  wanted: readonly Right[],
): Promise<string[]> {
  const namespaces = wanted.flatMap(({ namespace }) => namespace ?? []);
  // A rule for a name that is wanted as well is no slip.
  const meant = wanted.flatMap(({ name }) => name ?? []);
  const rules = new Map<string, readonly Rule[]>();
  for (const namespace of new Set([...namespaces, ...(await ownNamespace(cluster)), "kube-system", "default"]))
    rules.set(namespace, await rulesIn(cluster, namespace));
  const found = missing.map((right) => nearMiss(right, rules, meant));
  return [...new Set(found.filter((one) => one !== undefined))];
}

/** What Gyre is allowed by namespace, against one right it lacks. */
export function nearMiss(
  right: Right,
  rules: ReadonlyMap<string, readonly Rule[]>,
  meant: readonly string[] = [],
): string | undefined {
  const has = (list: readonly string[] | undefined, value: string) =>
    list?.some((one) => one === value || one === "*") === true;
  const about = (rule: Rule) =>
    has(rule.verbs, right.verb) && has(rule.apiGroups, right.group ?? "") && has(rule.resources, right.resource);
  const here = right.namespace === undefined ? [...rules.values()].flat() : (rules.get(right.namespace) ?? []);
  const names = [...new Set(here.filter(about).flatMap(({ resourceNames = [] }) => resourceNames))];
  if (right.name !== undefined && names.some((one) => !meant.includes(one)) && !names.includes(right.name))
    return `its rule to ${right.verb} ${right.resource} names ${names.join(", ")} (resourceNames), and not ${right.name}`;
  const elsewhere = [...rules].find(
    ([namespace, list]) =>
      namespace !== right.namespace &&
      list.some(
        (rule) => about(rule) && ((rule.resourceNames ?? []).length === 0 || has(rule.resourceNames, right.name ?? "")),
      ),
  )?.[0];
  if (elsewhere === undefined) return undefined;
  const only =
    "a Role counts in its own namespace only, and a rule has no field `namespaces`: Kubernetes drops it, or refuses the object";
  return `it may ${right.verb} ${right.resource} in namespace ${elsewhere}, and not ${right.namespace === undefined ? "in the whole cluster" : `in ${right.namespace}`}: ${only}`;
}

async function rulesIn(cluster: Cluster, namespace: string): Promise<readonly Rule[]> {
  const answer = await cluster.send({
    ...{ method: "POST", path: "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews" },
    body: { apiVersion: "authorization.k8s.io/v1", kind: "SelfSubjectRulesReview", spec: { namespace } },
  });
  const { status } = objectOf<{ status?: { resourceRules?: readonly Rule[] } }>(
    answer,
    "asking for Gyre's own rules",
    cluster.name,
  );
  return status?.resourceRules ?? [];
}

/** Where a service account lives, its Role may have been put by mistake. */
async function ownNamespace(cluster: Cluster): Promise<string[]> {
  const answer = await cluster.send({
    ...{ method: "POST", path: "/apis/authentication.k8s.io/v1/selfsubjectreviews" },
    body: { apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" },
  });
  if (answer.status !== 201) return [];
  const { status } = answer.body as { status?: { userInfo?: { username?: string } } };
  const account = /^system:serviceaccount:([^:]+):[^:]+$/.exec(status?.userInfo?.username ?? "");
  return account === null ? [] : [account[1]!];
}
