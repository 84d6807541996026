/** Who uses a Secret or a ConfigMap: pods by their workloads, Ingresses, Gateways. Kept by name alone. */
import type { ApiObject, Meta } from "../../drivers/kubernetes/cluster.ts";
import type { User } from "../found.ts";

type How = User["how"];
type Kind = "Secret" | "ConfigMap";

export class Uses {
  readonly #of = new Map<string, Map<string, User>>();

  note(kind: Kind, namespace: string, name: string | undefined, user: { who: string; how: How; pod?: boolean }): void {
    if (name === undefined) return;
    const key = `${kind} ${namespace}/${name}`;
    const users = this.#of.get(key) ?? new Map<string, User>();
    this.#of.set(key, users);
    const { who, how, pod } = user;
    const pods = (users.get(`${how} ${who}`)?.pods ?? 0) + 1;
    users.set(`${how} ${who}`, { who, how, ...(pod === true ? { pods } : {}) });
  }

  of(kind: string, namespace: string | undefined, name: string): readonly User[] {
    return [...(this.#of.get(`${kind} ${namespace}/${name}`)?.values() ?? [])];
  }
}

interface Reference {
  readonly name?: string;
}
interface Source {
  readonly secret?: { readonly secretName?: string } & Reference;
  readonly configMap?: Reference;
  readonly csi?: { readonly nodePublishSecretRef?: Reference };
}
interface Container {
  readonly env?: readonly { valueFrom?: { secretKeyRef?: Reference; configMapKeyRef?: Reference } }[];
  readonly envFrom?: readonly { secretRef?: Reference; configMapRef?: Reference }[];
  readonly volumeMounts?: readonly {
    readonly name: string;
    readonly subPath?: string;
    readonly subPathExpr?: string;
  }[];
}
interface Pod extends ApiObject {
  readonly spec?: {
    readonly volumes?: readonly (Source & {
      readonly name: string;
      readonly projected?: { readonly sources?: readonly Source[] | null };
    })[];
    readonly containers?: readonly Container[];
    readonly initContainers?: readonly Container[];
    readonly ephemeralContainers?: readonly Container[];
  };
  readonly status?: { readonly phase?: string };
}
interface Ingress extends ApiObject {
  readonly spec?: { readonly tls?: readonly { readonly secretName?: string }[] };
}
interface GatewayReference extends Reference {
  readonly kind?: string;
  readonly namespace?: string;
}
interface Gateway extends ApiObject {
  readonly spec?: {
    readonly listeners?: readonly {
      readonly tls?: {
        readonly certificateRefs?: readonly GatewayReference[];
        readonly frontendValidation?: { readonly caCertificateRefs?: readonly GatewayReference[] };
      };
    }[];
  };
}

/** Kinds of users: where they are listed, and what they name. */
export const userKinds = [
  {
    ...{ kind: "Pod", group: "", resource: "pods", versions: ["v1"] },
    note: (pod: Pod, uses: Uses) => notePod(pod, uses),
  },
  {
    ...{ kind: "Ingress", group: "networking.k8s.io", resource: "ingresses", versions: ["v1"] },
    note({ metadata: { namespace = "", name }, spec }: Ingress, uses: Uses) {
      for (const { secretName } of spec?.tls ?? [])
        uses.note("Secret", namespace, secretName, { who: `Ingress ${namespace}/${name}`, how: "tls" });
    },
  },
  {
    ...{ kind: "Gateway", group: "gateway.networking.k8s.io", resource: "gateways", versions: ["v1", "v1beta1"] },
    note({ metadata: { namespace = "", name }, spec }: Gateway, uses: Uses) {
      for (const { tls } of spec?.listeners ?? [])
        for (const one of [...(tls?.certificateRefs ?? []), ...(tls?.frontendValidation?.caCertificateRefs ?? [])])
          uses.note(one.kind === "ConfigMap" ? "ConfigMap" : "Secret", one.namespace ?? namespace, one.name, {
            ...{ who: `Gateway ${namespace}/${name}`, how: "tls" },
          });
    },
  },
] as const;

/** A pod that has ended uses nothing. */
function notePod({ metadata, spec, status }: Pod, uses: Uses): void {
  if (spec === undefined || status?.phase === "Succeeded" || status?.phase === "Failed") return;
  const namespace = metadata.namespace ?? "";
  const who = workloadOf(metadata, namespace);
  // Two containers of one pod, and a volume and a variable of the same kind, are one use of it.
  const told = new Set<string>();
  const note = (kind: Kind, name: string | undefined, how: How) => {
    if (told.has(`${kind} ${how} ${name}`)) return;
    told.add(`${kind} ${how} ${name}`);
    uses.note(kind, namespace, name, { who, how, pod: true });
  };
  const containers = [...(spec.containers ?? []), ...(spec.initContainers ?? []), ...(spec.ephemeralContainers ?? [])];
  const mounts = containers.flatMap((one) => one.volumeMounts ?? []);
  for (const volume of spec.volumes ?? []) {
    const own = mounts.filter(({ name }) => name === volume.name);
    // The kubelet never renews a subPath (docs: "will not receive updates").
    const once = own.length > 0 && own.every(({ subPath, subPathExpr }) => (subPath ?? subPathExpr ?? "") !== "");
    for (const source of [volume, ...(volume.projected?.sources ?? [])]) {
      note("Secret", source.secret?.secretName ?? source.secret?.name, once ? "subPath" : "mount");
      note("Secret", source.csi?.nodePublishSecretRef?.name, "mount");
      note("ConfigMap", source.configMap?.name, once ? "subPath" : "mount");
    }
  }
  for (const { env = [], envFrom = [] } of containers) {
    for (const { valueFrom } of env) {
      note("Secret", valueFrom?.secretKeyRef?.name, "env");
      note("ConfigMap", valueFrom?.configMapKeyRef?.name, "env");
    }
    for (const { secretRef, configMapRef } of envFrom) {
      note("Secret", secretRef?.name, "env");
      note("ConfigMap", configMapRef?.name, "env");
    }
  }
}

/** A ReplicaSet is named after its Deployment and the pod template's hash. */
function workloadOf(pod: Meta, namespace: string): string {
  const owner = pod.ownerReferences?.find(({ controller }) => controller === true);
  if (owner === undefined) return `Pod ${namespace}/${pod.name}`;
  const tail = `-${pod.labels?.["pod-template-hash"]}`;
  return owner.kind === "ReplicaSet" && owner.name.endsWith(tail)
    ? `Deployment ${namespace}/${owner.name.slice(0, -tail.length)}`
    : `${owner.kind} ${namespace}/${owner.name}`;
}
