/**
 * What a driver needs to be allowed, as data: asked of the API server before anything is changed, and printed as the
 * RBAC rules that give exactly that (RBAC: kubernetes.io/docs/reference/access-authn-authz/rbac).
 */
import { GyreError } from "../../errors.ts";
import { objectOf } from "./api.ts";
import type { Cluster } from "./cluster.ts";

/** One verb on one resource; `namespace` absent: in the whole cluster, `name` absent: on all of them. */
export interface Right {
  readonly verb: string;
  readonly group?: string | undefined;
  /** `certificatesigningrequests/approval` names a subresource. */
  readonly resource: string;
  readonly namespace?: string | undefined;
  readonly name?: string | undefined;
  /** What for, in words. */
  readonly why: string;
}

/** Those of the rights that Gyre's own access has not. @throws GyreError where the API server does not answer */
export async function missingRights(cluster: Cluster, rights: readonly Right[]): Promise<Right[]> {
  const answers = await Promise.all(rights.map((right) => isAllowed(cluster, right)));
  return rights.filter((_, index) => !answers[index]);
}

async function isAllowed(cluster: Cluster, right: Right): Promise<boolean> {
  const answer = await cluster.send({
    method: "POST",
    path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    body: accessReview(right),
  });
  return (
    objectOf<{ status?: { allowed?: boolean } }>(answer, `asking whether Gyre may ${sayRight(right)}`, cluster.name)
      .status?.allowed === true
  );
}

/** A SelfSubjectAccessReview that asks for one right. */
export function accessReview(right: Omit<Right, "why">): object {
  const [resource = "", subresource] = right.resource.split("/");
  return {
    apiVersion: "authorization.k8s.io/v1",
    kind: "SelfSubjectAccessReview",
    spec: {
      resourceAttributes: {
        verb: right.verb,
        group: right.group ?? "",
        resource,
        ...(subresource === undefined ? {} : { subresource }),
        ...(right.namespace === undefined ? {} : { namespace: right.namespace }),
        ...(right.name === undefined ? {} : { name: right.name }),
      },
    },
  };
}

export const sayRight = ({ verb, resource, group, namespace, name }: Omit<Right, "why">): string =>
  `${verb} ${resource}${group ? `.${group}` : ""}${name === undefined ? "" : ` ${name}`}${namespace === undefined ? "" : ` in ${namespace}`}`;

/** @throws GyreError `permission` naming every right that is missing, with the rules that give them */
export async function mustHave(cluster: Cluster, rights: readonly Right[]): Promise<void> {
  const missing = await missingRights(cluster, rights);
  if (missing.length === 0) return;
  throw new GyreError({
    code: "permission",
    message: `cluster ${cluster.name}: Gyre may not ${missing.map((right) => `${sayRight(right)} (${right.why})`).join("; ")}; nothing was changed`,
    where: cluster.name,
    next: `give it these rules:\n${rulesOf(missing)}`,
  });
}

/** RBAC rules in YAML, one for each set of verbs; those of a namespace are under its name. */
export function rulesOf(rights: readonly Right[]): string {
  const rules = new Map<string, { right: Right; verbs: string[] }>();
  for (const right of rights) {
    const key = JSON.stringify([right.namespace, right.group, right.resource, right.name]);
    const rule = rules.get(key) ?? { right, verbs: [] };
    if (!rule.verbs.includes(right.verb)) rule.verbs.push(right.verb);
    rules.set(key, rule);
  }
  const scopes = new Map<string, string[]>();
  for (const { right, verbs } of rules.values()) {
    const scope =
      right.namespace === undefined
        ? "# ClusterRole, bound in the whole cluster"
        : `# Role in namespace ${right.namespace}`;
    const names = right.name === undefined ? "" : `, resourceNames: [${JSON.stringify(right.name)}]`;
    const line = `- { apiGroups: [${JSON.stringify(right.group ?? "")}], resources: [${JSON.stringify(right.resource)}]${names}, verbs: [${verbs.join(", ")}] }`;
    scopes.set(scope, [...(scopes.get(scope) ?? []), line]);
  }
  return [...scopes].map(([scope, lines]) => [scope, ...lines].join("\n")).join("\n");
}
