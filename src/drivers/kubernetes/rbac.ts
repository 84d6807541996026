/**
 * TrustStore: bindings of per-generation groups. It "lists" a certificate when the binding of that certificate's group is
 * in force, so that the overlap strategy's admit and withdraw are a binding made and a binding deleted.
 */
import { createHash } from "node:crypto";
import { GyreError } from "../../errors.ts";
import { type Certificate, parseCertificates } from "../../pki/certificate.ts";
import type { Step, TrustStore, Version } from "../roles.ts";
import { objectOf } from "./api.ts";
import { type ApiObject, type Cluster, fieldManager } from "./cluster.ts";
import { type GroupBindingSettings, generationMark } from "./rbac-settings.ts";
import { mustHave, type Right } from "./rights.ts";

interface Binding extends ApiObject {
  readonly subjects?: readonly { readonly kind: string; readonly name: string }[] | null;
  readonly roleRef: { readonly apiGroup: string; readonly kind: string; readonly name: string };
}

const group = "rbac.authorization.k8s.io";
const managed = { "app.kubernetes.io/managed-by": "gyre" };
/** The certificate whose group is bound: public, and what `read` gives back. */
const certificateOf = "gyre.dev/certificate";

/** What the driver must be allowed. Binding a role one does not hold oneself needs `bind` on it. */
export function groupBindingRights(settings: GroupBindingSettings): Right[] {
  const { kind, resource, roleResource, name } = shapeOf(settings);
  const scope = settings.namespace === undefined ? {} : { namespace: settings.namespace };
  return [
    ...["list", "create", "delete"].map((verb) => ({
      ...{ verb, group, resource, ...scope, why: `to keep one ${kind} for each generation` },
    })),
    { verb: "bind", group, resource: roleResource, name, ...scope, why: `to bind ${name}` },
    { verb: "get", group, resource: roleResource, name, ...scope, why: "to see that it exists" },
  ];
}

function shapeOf(settings: GroupBindingSettings) {
  const { namespace, role, clusterRole } = settings;
  const inside = namespace === undefined ? "" : `namespaces/${namespace}/`;
  const kind = namespace === undefined ? "ClusterRoleBinding" : "RoleBinding";
  const resource = namespace === undefined ? "clusterrolebindings" : "rolebindings";
  const roleKind = role === undefined ? "ClusterRole" : "Role";
  const roleResource = role === undefined ? "clusterroles" : "roles";
  const name = (role ?? clusterRole)!;
  const base = `/apis/${group}/v1`;
  return {
    ...{ kind, resource, roleKind, roleResource, name },
    path: `${base}/${inside}${resource}`,
    rolePath: `${base}/${role === undefined ? "" : inside}${roleResource}/${encodeURIComponent(name)}`,
  };
}

export function createGroupBindings(
  settings: GroupBindingSettings,
  around: { readonly cluster: (name: string) => Cluster },
): TrustStore {
  return new GroupBindings(settings, around.cluster(settings.cluster));
}

class GroupBindings implements TrustStore {
  readonly can = { reload: "watch", conditionalWrite: true } as const;
  readonly holds = "certificates";
  readonly place: string;
  readonly #settings: GroupBindingSettings;
  readonly #cluster: Cluster;
  readonly #shape: ReturnType<typeof shapeOf>;

  constructor(settings: GroupBindingSettings, cluster: Cluster) {
    this.#settings = settings;
    this.#cluster = cluster;
    this.#shape = shapeOf(settings);
    const where = settings.namespace === undefined ? cluster.name : `${cluster.name}/${settings.namespace}`;
    this.place = `${where} ${settings.group} -> ${this.#shape.name}`;
  }

  async read(): Promise<{ version: Version; pem: string }> {
    const bindings = await this.#bindings();
    return { version: versionOf(bindings), pem: bindings.map(({ certificate }) => certificate.pem).join("") };
  }

  /** Makes what is missing before it deletes what is too much: at no moment has a generation in the list no binding. */
  async put(pem: string, expected: Version, step: Step): Promise<{ version: Version }> {
    await this.#cluster.mustBeOurs();
    const wanted = pem.trim() === "" ? [] : parseCertificates(pem);
    const groups = wanted.map((certificate) => [certificate, this.#groupOf(certificate)] as const);
    const there = await this.#bindings();
    if (versionOf(there) !== expected)
      throw new GyreError({
        code: "conflict",
        message: `${this.place}: its bindings changed since they were read; nothing was written`,
        where: this.#cluster.name,
        retry: "later",
      });
    const { path } = this.#shape;
    for (const [certificate, name] of groups) {
      if (there.some((one) => one.certificate.fingerprint === certificate.fingerprint)) continue;
      const answer = await this.#cluster.send({
        ...{
          method: "POST",
          path: `${path}?fieldManager=${fieldManager}`,
          body: this.#bindingOf(certificate, name, step),
        },
        signal: step.signal,
      });
      objectOf(answer, `creating ${this.#shape.kind} ${nameOf(name)}`, this.#cluster.name);
    }
    for (const { binding, certificate } of there) {
      if (wanted.some((one) => one.fingerprint === certificate.fingerprint)) continue;
      const { name, uid, resourceVersion } = binding.metadata;
      const answer = await this.#cluster.send({
        method: "DELETE",
        path: `${path}/${encodeURIComponent(name)}`,
        body: { apiVersion: "v1", kind: "DeleteOptions", preconditions: { uid, resourceVersion } },
        signal: step.signal,
      });
      if (answer.status !== 404) objectOf(answer, `deleting ${this.#shape.kind} ${name}`, this.#cluster.name);
    }
    return { version: versionOf(await this.#bindings()) };
  }

  /** Only what has a group of its own can be denied: a certificate from before may be of a group that others need. */
  canList(subject: string): boolean {
    return this.#ownGroups({ subject }).length === 1;
  }

  async check(): Promise<void> {
    await this.#cluster.mustBeOurs();
    await mustHave(this.#cluster, groupBindingRights(this.#settings));
    const { roleKind, rolePath, name } = this.#shape;
    if ((await this.#cluster.get(rolePath)) === undefined)
      throw new GyreError({
        code: "input",
        message: `${this.place}: there is no ${roleKind} ${name}; a binding to it would give nothing`,
        where: this.#cluster.name,
        next: "create it, or correct its name in spec.trust",
      });
  }

  #ownGroups(certificate: Pick<Certificate, "subject">): string[] {
    const [before = "", after = ""] = this.#settings.group.split(generationMark);
    return organizationsOf(certificate).filter(
      (one) =>
        one.startsWith(before) &&
        one.endsWith(after) &&
        /^g\d+$/.test(one.slice(before.length, one.length - after.length)),
    );
  }

  #groupOf(certificate: Certificate): string {
    const [own, second] = this.#ownGroups(certificate);
    if (own !== undefined && second === undefined) return own;
    throw new GyreError({
      code: "input",
      message: `${this.place}: ${certificate.subject} has no group ${this.#settings.group} of its own; nothing was bound`,
      next: `put O=${this.#settings.group} into spec.issue.subject`,
    });
  }

  #bindingOf(certificate: Certificate, name: string, step: Step): object {
    const { kind, roleKind, name: role } = this.#shape;
    const { namespace } = this.#settings;
    return {
      apiVersion: `${group}/v1`,
      kind,
      metadata: {
        name: nameOf(name),
        ...(namespace === undefined ? {} : { namespace }),
        labels: managed,
        annotations: { [certificateOf]: certificate.pem, "gyre.dev/op": step.op },
      },
      subjects: [{ apiGroup: group, kind: "Group", name }],
      roleRef: { apiGroup: group, kind: roleKind, name: role },
    };
  }

  /** Bindings of ours that do what they say: one whose subject or role somebody changed binds nothing of ours. */
  async #bindings(): Promise<{ readonly binding: Binding; readonly certificate: Certificate }[]> {
    const selector = encodeURIComponent("app.kubernetes.io/managed-by=gyre");
    const all = await this.#cluster.list<Binding>(`${this.#shape.path}?labelSelector=${selector}`);
    return all.flatMap((binding) => {
      const pem = binding.metadata.annotations?.[certificateOf];
      const [certificate] = pem === undefined ? [] : parseCertificates(pem);
      if (certificate === undefined) return [];
      const [own] = this.#ownGroups(certificate);
      const { kind, name } = binding.roleRef;
      const bound = binding.subjects?.some((one) => one.kind === "Group" && one.name === own) === true;
      const ours = bound && kind === this.#shape.roleKind && name === this.#shape.name;
      return ours ? [{ binding, certificate }] : [];
    });
  }
}

/** `O=` of the subject: API servers take each as a group (authentication/request/x509). */
export const organizationsOf = (certificate: Pick<Certificate, "subject">): string[] =>
  certificate.subject
    .split(/(?<!\\),/)
    .filter((part) => part.startsWith("O="))
    .map((part) => part.slice(2).replace(/\\(.)/g, "$1"));

const nameOf = (of: string): string => `gyre:${of}`;

const versionOf = (bindings: readonly { readonly binding: Binding }[]): Version =>
  `sha256:${createHash("sha256")
    .update(
      bindings
        .map(({ binding: { metadata } }) => `${metadata.uid} ${metadata.resourceVersion}`)
        .sort()
        .join("\n"),
    )
    .digest("hex")}`;
