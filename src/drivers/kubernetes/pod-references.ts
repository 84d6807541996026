/** Every Secret and ConfigMap that a pod spec names, and by which way its content gets into a container. Pure. */

export type Named = "Secret" | "ConfigMap";

/** Way of a content into a container. */
export type Way = "volume" | "subPath" | "env" | "serviceAccount" | "storage" | "imagePull";

export interface Reference {
  readonly kind: Named;
  readonly name: string;
  /** Empty where the pod as a whole names it, and where a volume is in no container. */
  readonly container: string;
  readonly way: Way;
  /** Keys it takes; absent: all. */
  readonly keys?: readonly string[];
  /** The pod starts without it. */
  readonly optional: boolean;
  /** Directory or file in the container, or the variable. */
  readonly at: string;
}

interface Ref {
  readonly name?: string;
  readonly optional?: boolean;
}
interface FilesOf extends Ref {
  readonly secretName?: string;
  readonly items?: readonly { readonly key: string; readonly path?: string }[];
}
export interface Mount {
  readonly name: string;
  readonly mountPath: string;
  readonly subPath?: string;
  readonly subPathExpr?: string;
  readonly readOnly?: boolean;
}
export interface Container {
  readonly name: string;
  /** On an init container, `Always`: a sidecar that runs beside the others. */
  readonly restartPolicy?: string;
  readonly env?: readonly {
    readonly name: string;
    readonly value?: string;
    readonly valueFrom?: {
      readonly secretKeyRef?: Ref & { readonly key: string };
      readonly configMapKeyRef?: Ref & { readonly key: string };
    };
  }[];
  readonly envFrom?: readonly { readonly secretRef?: Ref; readonly configMapRef?: Ref }[];
  readonly volumeMounts?: readonly Mount[];
}
export interface Volume {
  readonly name: string;
  readonly secret?: FilesOf;
  readonly configMap?: FilesOf;
  readonly projected?: { readonly sources?: readonly { readonly secret?: FilesOf; readonly configMap?: FilesOf }[] };
  readonly [source: string]: unknown;
}
/** core/v1 PodSpec, as far as it is looked at. */
export interface PodSpec {
  readonly containers: readonly Container[];
  readonly initContainers?: readonly Container[];
  readonly ephemeralContainers?: readonly Container[];
  readonly volumes?: readonly Volume[];
  readonly imagePullSecrets?: readonly Ref[];
}

/** Containers that run for as long as the pod does; sidecars are written as init containers that are restarted always. */
export const runningIn = (spec: PodSpec): Container[] => [
  ...spec.containers,
  ...(spec.ephemeralContainers ?? []),
  ...(spec.initContainers ?? []).filter(isSidecar),
];
/** Containers that run to their end before the others start. */
export const initIn = (spec: PodSpec): Container[] => (spec.initContainers ?? []).filter((one) => !isSidecar(one));
const isSidecar = ({ restartPolicy }: Container): boolean => restartPolicy === "Always";

export function referencesOf(spec: PodSpec): Reference[] {
  const containers = [...runningIn(spec), ...initIn(spec)];
  return [
    ...(spec.imagePullSecrets ?? []).flatMap(({ name }) =>
      name === undefined
        ? []
        : [{ kind: "Secret", name, container: "", way: "imagePull", optional: true, at: "imagePullSecrets" } as const],
    ),
    ...(spec.volumes ?? []).flatMap((volume) => inVolume(volume, containers)),
    ...containers.flatMap(inEnvironment),
  ];
}

function inVolume(volume: Volume, containers: readonly Container[]): Reference[] {
  const sources: (Pick<Reference, "kind" | "name" | "optional" | "keys"> & Pick<FilesOf, "items">)[] = [];
  const add = (kind: Named, files: FilesOf | undefined) => {
    const name = files?.secretName ?? files?.name;
    if (files === undefined || name === undefined) return;
    const { items, optional = false } = files;
    sources.push({
      kind,
      name,
      optional,
      ...(items === undefined ? {} : { items, keys: items.map(({ key }) => key) }),
    });
  };
  add("Secret", volume.secret);
  add("ConfigMap", volume.configMap);
  for (const source of volume.projected?.sources ?? []) {
    add("Secret", source.secret);
    add("ConfigMap", source.configMap);
  }
  const mounts = containers.flatMap(({ name: container, volumeMounts = [] }) =>
    volumeMounts.filter(({ name }) => name === volume.name).map((mount) => ({ container, mount })),
  );
  const stored = storageSecret(volume);
  const storage: Reference[] =
    stored === undefined
      ? []
      : [{ kind: "Secret", name: stored, container: "", way: "storage", optional: false, at: `volume ${volume.name}` }];
  if (mounts.length === 0)
    return [
      ...storage,
      ...sources.map(({ items: _, ...one }) => ({
        ...{ ...one, container: "", way: "volume" as const, at: `volume ${volume.name}` },
      })),
    ];
  return [
    ...storage,
    ...mounts.flatMap(({ container, mount }) =>
      sources.map(({ items, ...one }): Reference => {
        const way = wayOf(volume, one.name, mount);
        const only = mount.subPath === undefined ? undefined : keyAt(mount.subPath, items);
        return { ...one, container, way, at: mount.mountPath, ...(only === undefined ? {} : { keys: [only] }) };
      }),
    ),
  ];
}

/** The key behind a path in the volume; undefined for a directory, which holds several. */
function keyAt(path: string, items: FilesOf["items"]): string | undefined {
  if (items === undefined) return path.includes("/") || path === "" || path === "." ? undefined : path;
  return items.find((one) => one.path === path)?.key;
}

/** What the ServiceAccount admission plugin adds to every pod (pkg/serviceaccount, DefaultAPITokenMountPath). */
const accountVolume = /^kube-api-access-/;

function wayOf(volume: Volume, name: string, mount: Mount): Way {
  if ((mount.subPath ?? "") !== "" || (mount.subPathExpr ?? "") !== "") return "subPath";
  return accountVolume.test(volume.name) && name === "kube-root-ca.crt" ? "serviceAccount" : "volume";
}

/** Volume sources that hand a Secret to the driver that mounts them, and the field that names it (core/v1 VolumeSource). */
const storageFields: readonly (readonly [source: string, field: string])[] = [
  ["csi", "nodePublishSecretRef"],
  ["cephfs", "secretRef"],
  ["rbd", "secretRef"],
  ["iscsi", "secretRef"],
  ["flexVolume", "secretRef"],
  ["scaleIO", "secretRef"],
  ["storageos", "secretRef"],
  ["azureFile", "secretName"],
];

function storageSecret(volume: Volume): string | undefined {
  for (const [source, field] of storageFields) {
    const found = (volume[source] as Readonly<Record<string, unknown>> | undefined)?.[field];
    const name = typeof found === "object" && found !== null ? (found as Ref).name : found;
    if (typeof name === "string") return name;
  }
  return undefined;
}

function inEnvironment({ name: container, env = [], envFrom = [] }: Container): Reference[] {
  const found: Reference[] = [];
  const add = (kind: Named, ref: Ref | undefined, at: string, keys?: readonly string[]) => {
    if (ref?.name === undefined) return;
    const optional = ref.optional === true;
    found.push({ kind, name: ref.name, container, way: "env", optional, at, ...(keys === undefined ? {} : { keys }) });
  };
  for (const { name, valueFrom } of env) {
    const { secretKeyRef, configMapKeyRef } = valueFrom ?? {};
    add("Secret", secretKeyRef, `variable ${name}`, secretKeyRef && [secretKeyRef.key]);
    add("ConfigMap", configMapKeyRef, `variable ${name}`, configMapKeyRef && [configMapKeyRef.key]);
  }
  for (const { secretRef, configMapRef } of envFrom) {
    add("Secret", secretRef, "envFrom");
    add("ConfigMap", configMapRef, "envFrom");
  }
  return found;
}
