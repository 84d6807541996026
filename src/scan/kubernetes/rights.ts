/** What a scan must be allowed, as data and as RBAC objects: it lists, and nothing else. */
import type { Right } from "../../drivers/kubernetes/rights.ts";
import { kinds } from "./kinds.ts";
import { userKinds } from "./uses.ts";

export const rootCa = { namespace: "kube-system", name: "kube-root-ca.crt" };

/** `namespaces` empty: the whole cluster. */
export function scanRights(namespaces: readonly string[]): Right[] {
  const list = ({ group, resource }: { group: string; resource: string }, why: string, namespace?: string): Right => ({
    ...{ verb: "list", group, resource, why, namespace },
  });
  const all = (namespace?: string): Right[] => [
    ...kinds
      .filter(({ namespaced }) => namespaced || namespace === undefined)
      .map((one) => list(one, "to find certificates", namespace)),
    ...userKinds.map((one) => list(one, "to say who uses them", namespace)),
  ];
  if (namespaces.length === 0) return all();
  const root = { ...list({ group: "", resource: "configmaps" }, "to know the cluster's CA"), ...rootCa };
  const rest = namespaces.flatMap((namespace) => all(namespace));
  return namespaces.includes(rootCa.namespace) ? rest : [...rest, root];
}

/** RBAC objects that give these rights and no others, in YAML; binding them is left to whoever knows the subject. */
export function scanRbac(namespaces: readonly string[]): string {
  const scopes = Map.groupBy(scanRights(namespaces), ({ namespace }) => namespace);
  const head = [
    "# What gyre scan --kubernetes needs. RBAC knows nothing smaller for Secrets: to list them is to read them.",
    namespaces.length === 0
      ? "# kubectl create clusterrolebinding gyre-scan --clusterrole=gyre-scan --user=NAME"
      : "# in each namespace: kubectl create rolebinding gyre-scan -n NAMESPACE --role=gyre-scan --user=NAME",
  ];
  const objects = [...scopes].map(([namespace, rights]) => [
    "apiVersion: rbac.authorization.k8s.io/v1",
    `kind: ${namespace === undefined ? "ClusterRole" : "Role"}`,
    `metadata: { name: gyre-scan${namespace === undefined ? "" : `, namespace: ${namespace}`} }`,
    "rules:",
    ...rights.map(
      ({ group, resource, name, verb, why }) =>
        `  - { apiGroups: [${JSON.stringify(group ?? "")}], resources: [${resource}]${name === undefined ? "" : `, resourceNames: [${name}]`}, verbs: [${verb}] } # ${why}`,
    ),
  ]);
  return `${[head, ...objects].map((lines) => lines.join("\n")).join("\n---\n")}\n`;
}
