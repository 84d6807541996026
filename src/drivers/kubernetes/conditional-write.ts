/**
 * One object of a cluster, changed only as it was seen: every write carries the resourceVersion it was decided on, goes
 * to the pinned cluster or nowhere, and is decided anew where somebody else was faster.
 */
import { GyreError } from "../../errors.ts";
import { nearest } from "../nearest.ts";
import { type Answer, type Call, objectOf, statusOf } from "./api.ts";
import { type ApiObject, type Cluster, fieldManager, some } from "./cluster.ts";
import { mustHave } from "./rights.ts";

/** What to do about an object as it is; undefined: nothing. */
export type Change =
  | { readonly do: "create"; readonly body: Readonly<Record<string, unknown>> }
  | { readonly do: "patch"; readonly patch: Readonly<Record<string, unknown>> }
  | { readonly do: "delete" }
  | undefined;

/** A kind of object, as its address and its errors need it. */
export interface Kind {
  /** `Secret`. */
  readonly kind: string;
  readonly apiVersion: string;
  /** `secrets`, in the API group of `apiVersion`. */
  readonly resource: string;
  /** Lists in it are merged by name (strategic merge patch); for all others a merge patch does. */
  readonly named?: boolean;
}
export const kinds = {
  secret: { kind: "Secret", apiVersion: "v1", resource: "secrets" },
  configMap: { kind: "ConfigMap", apiVersion: "v1", resource: "configmaps" },
  validatingWebhook: {
    kind: "ValidatingWebhookConfiguration",
    apiVersion: "admissionregistration.k8s.io/v1",
    resource: "validatingwebhookconfigurations",
    named: true,
  },
  mutatingWebhook: {
    kind: "MutatingWebhookConfiguration",
    apiVersion: "admissionregistration.k8s.io/v1",
    resource: "mutatingwebhookconfigurations",
    named: true,
  },
  apiService: { kind: "APIService", apiVersion: "apiregistration.k8s.io/v1", resource: "apiservices" },
} as const satisfies Readonly<Record<string, Kind>>;

export interface ObjectRef {
  readonly kind: Kind;
  readonly namespace?: string;
  readonly name: string;
}

/** Somebody else may be faster a few times; who is faster every time is in a loop against us. */
const attempts = 5;

export class WritableObject<T extends ApiObject> {
  readonly cluster: Cluster;
  readonly ref: ObjectRef;
  /** `secret/prod/shop/shop-tls`: kind, cluster, namespace, name. */
  readonly place: string;
  readonly #collection: string;

  constructor(cluster: Cluster, ref: ObjectRef) {
    this.cluster = cluster;
    this.ref = ref;
    const { kind, namespace, name } = ref;
    this.place = [kind.kind.toLowerCase(), cluster.name, ...(namespace === undefined ? [] : [namespace]), name].join(
      "/",
    );
    const root = kind.apiVersion === "v1" ? "/api/v1" : `/apis/${kind.apiVersion}`;
    this.#collection = `${root}${namespace === undefined ? "" : `/namespaces/${namespace}`}/${kind.resource}`;
  }

  get group(): string {
    const [group, version] = this.ref.kind.apiVersion.split("/");
    return version === undefined ? "" : group!;
  }

  /** @throws GyreError as `objectOf` */
  read(signal?: AbortSignal): Promise<T | undefined> {
    return this.cluster.get<T>(this.#path, signal);
  }

  /**
   * Carries out what `decide` says of the object as it is, and only on that: where it changed in between, `decide` is
   * asked again, and throws where the change is one that matters. Gives the object as it is then.
   * @throws GyreError of `decide`; `conflict`, `permission`, `input`; `unreachable` with `read back` where the write may
   *   have happened
   */
  async change(decide: (now: T | undefined) => Change | Promise<Change>, signal: AbortSignal): Promise<T | undefined> {
    await this.cluster.mustBeOurs();
    for (let attempt = 0; attempt < attempts; attempt++) {
      const now = await this.read(signal);
      const change = await decide(now);
      if (change === undefined) return now;
      const answer = await this.cluster.send({ ...this.#call(change, now), signal });
      // 409: changed or created in between; 404 for what was there: deleted in between.
      if (answer.status === 409 || (answer.status === 404 && now !== undefined)) continue;
      const done = this.#result(answer, change);
      return change.do === "delete" ? undefined : done;
    }
    throw new GyreError({
      code: "conflict",
      message: `${this.place}: somebody else changed it between each of ${attempts} looks and the write; nothing written`,
      where: this.place,
      next: "see who else writes it (kubectl get --show-managed-fields), then try again",
    });
  }

  #result(answer: Answer, change: NonNullable<Change>): T {
    const doing = { create: "creating", patch: "changing", delete: "deleting" }[change.do];
    // A server that gave up on etcd does not know whether the write got there.
    if (answer.status >= 500)
      throw new GyreError({
        code: "unreachable",
        retry: "read back",
        message: `kubernetes: ${doing} ${this.place}: ${statusOf(answer).message ?? `HTTP ${answer.status}`}`,
        where: this.place,
      });
    return objectOf<T>(answer, `${doing} ${this.place}; nothing written`, this.place);
  }

  #call(change: NonNullable<Change>, now: T | undefined): Call {
    const { apiVersion, kind, named } = this.ref.kind as Kind;
    const { uid, resourceVersion } = now?.metadata ?? {};
    const query = `?fieldManager=${fieldManager}`;
    switch (change.do) {
      case "create": {
        const { metadata, ...rest } = change.body;
        const { name, namespace } = this.ref;
        const named = { name, ...some({ namespace }), ...(metadata as object | undefined) };
        return {
          method: "POST",
          path: `${this.#collection}${query}`,
          body: { apiVersion, kind, ...rest, metadata: named },
        };
      }
      case "patch": {
        const { metadata, ...rest } = change.patch;
        return {
          method: "PATCH",
          path: `${this.#path}${query}`,
          type: `application/${named === true ? "strategic-merge-patch" : "merge-patch"}+json`,
          body: { ...rest, metadata: { ...(metadata as object | undefined), uid, resourceVersion } },
        };
      }
      case "delete":
        return { method: "DELETE", path: this.#path, body: { preconditions: { uid, resourceVersion } } };
    }
  }

  get #path(): string {
    return `${this.#collection}/${this.ref.name}`;
  }

  /**
   * The object is missing and Gyre was not told to make it: most often a slip in the name or the namespace.
   * Names the nearest one where Gyre may list them.
   */
  async missing(): Promise<GyreError> {
    const { kind, namespace, name } = this.ref;
    const names = await this.#names().catch(() => []);
    const meant = nearest(name, names);
    const scope = namespace === undefined ? `cluster ${this.cluster.name}` : `namespace ${namespace}`;
    return new GyreError({
      code: "input",
      message: `${this.place}: ${scope} has no ${kind.kind} ${name}${meant === undefined ? "" : `; did you mean ${meant}?`} Nothing was written`,
      where: this.place,
      next: `correct the name, or say create: true`,
    });
  }

  /** Names alone: what else is in the objects is none of our business. */
  async #names(): Promise<string[]> {
    const accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    const names: string[] = [];
    for await (const { items } of this.cluster.pages<T>(this.#collection, { accept }))
      names.push(...items.map(({ metadata }) => metadata.name));
    return names;
  }

  /** @throws GyreError `permission` naming the verbs that Gyre lacks on this object */
  async mustAllow(verbs: Readonly<Record<string, string>>): Promise<void> {
    const { kind, namespace, name } = this.ref;
    const rights = Object.entries(verbs).map(([verb, why]) => ({
      ...{ verb, why, group: this.group, resource: kind.resource },
      ...some({ namespace }),
      // RBAC cannot bind `create` to a name: the API server does not know the name yet.
      ...(verb === "create" ? {} : { name }),
    }));
    await mustHave(this.cluster, rights);
  }
}

/** One path of managedFields: `["f:data", "f:tls.crt"]`. */
export type FieldPath = readonly string[];

/**
 * Who else writes these fields: field managers that are programs, and a controller that owns the object. What people do
 * by kubectl is no controller and comes back to nobody; everything else would undo our change, or we theirs, for ever.
 */
export function otherWriters(object: ApiObject, fields: readonly FieldPath[]): string[] {
  const managers = (object.metadata.managedFields ?? [])
    .filter(({ fieldsV1 }) => fields.some((path) => isIn(fieldsV1, path)))
    .map(({ manager }) => manager ?? "a program without a name")
    .filter((manager) => manager !== fieldManager && !/^kubectl($|-)|^before-first-apply$/.test(manager));
  const owners = (object.metadata.ownerReferences ?? [])
    .filter(({ controller }) => controller === true)
    .map(({ kind, name }) => `${kind} ${name}`);
  return [...new Set([...managers, ...owners])];
}

function isIn(fields: unknown, [first, ...rest]: FieldPath): boolean {
  if (first === undefined) return true;
  if (typeof fields !== "object" || fields === null || !(first in fields)) return false;
  return isIn((fields as Readonly<Record<string, unknown>>)[first], rest);
}

/** @throws GyreError `refused` where a program other than Gyre writes these fields */
export function mustBeNobodyElses(
  object: ApiObject,
  place: string,
  fields: readonly FieldPath[],
  takeOver: boolean,
): void {
  const others = takeOver ? [] : otherWriters(object, fields);
  if (others.length === 0) return;
  throw new GyreError({
    code: "refused",
    message: `${place}: ${others.join(" and ")} writes what Gyre would; the two would undo each other for ever. Nothing was written`,
    where: place,
    next: `take it out of ${others.join(" and ")}, or say takeOver: true once it no longer writes it`,
  });
}

/** @throws GyreError `refused`: nobody can change it any more */
export function mustBeMutable(object: ApiObject & { readonly immutable?: boolean }, place: string): void {
  if (object.immutable !== true) return;
  throw new GyreError({
    code: "refused",
    message: `${place} is immutable: Kubernetes lets nobody change it, nor take that back. Nothing was written`,
    where: place,
    next: "name another one (create: true) and point its consumers there; or delete it and let Gyre make it anew",
  });
}

export const changedUnderUs = (place: string, now: string, expected: string): GyreError =>
  new GyreError({
    code: "conflict",
    message: `${place} changed under us (now ${now.slice(0, 19)}, planned on ${expected.slice(0, 19)}); nothing written`,
    where: place,
    next: "see who else writes it, then plan again",
  });
