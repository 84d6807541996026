/**
 * How news of a Secret or ConfigMap reaches each container that uses it. Pure: pod specs in, uses out. What a process does
 * with a file that changed under it stands in no pod spec: only a look at what it presents or accepts shows that.
 */
import { nearest } from "../nearest.ts";
import {
  initIn,
  type Named,
  type PodSpec,
  type Reference,
  referencesOf,
  runningIn,
  type Way,
} from "./pod-references.ts";

/** One thing that runs pods, or one pod; a running pod's own spec says more than its template (sidecars are injected). */
export interface Workload {
  /** `Deployment`. */
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly spec: PodSpec;
  /** Its own and its pods'. */
  readonly annotations?: Readonly<Record<string, string>>;
}
export const sayWorkload = ({ kind, namespace, name }: Workload): string => `${kind} ${namespace}/${name}`;

/** What is rotated. */
export interface Wanted {
  readonly kind: Named;
  readonly name: string;
  /** Keys that a rotation changes: who takes others only is no consumer of it. */
  readonly keys: readonly string[];
  /** It cannot change any more. */
  readonly immutable?: boolean;
}

/** `itself`: it is handed the new one with nobody's help; `restart`: a new pod is; `never`: nobody is. */
export type ReloadClass = "itself" | "restart" | "never";
type How = Way | "init" | "copy" | "istioFiles" | "eachRun" | "immutable";

const restart = "restart it when a rotation has delivered (kubectl rollout restart), by `reload` or by hand";

/** Kubernetes' own behaviour (kubernetes.io/docs/concepts/configuration/secret, …/storage/volumes#secret). */
const table: Readonly<Record<How, { readonly reload: ReloadClass; readonly words: string; readonly next: string }>> = {
  volume: {
    reload: "itself",
    words:
      "kubelet brings the new files within one to two minutes; whether its process reads them again cannot be seen in its pod",
    next: "prove it: an entry (tls, mutualTls) that dials each of its replicas",
  },
  serviceAccount: {
    reload: "itself",
    words: "kubelet brings the new ca.crt; most clients read it once",
    next: "restart it before an old CA is taken out",
  },
  imagePull: { reload: "itself", words: "kubelet reads it at every pull", next: "nothing to do" },
  eachRun: { reload: "itself", words: "each run begins with a new pod", next: "nothing to do" },
  subPath: {
    reload: "restart",
    words: "a file mounted by subPath never changes in a running pod",
    next: `${restart}; or mount the directory without subPath`,
  },
  env: {
    reload: "restart",
    words: "its environment is read once, at its start",
    next: `${restart}; or mount it as files`,
  },
  storage: { reload: "restart", words: "it is read when the volume is mounted", next: restart },
  init: { reload: "restart", words: "an init container reads it once, at the pod's start", next: restart },
  copy: {
    reload: "restart",
    words: "an init container copies it at the pod's start; restarting the container alone copies nothing",
    next: `${restart}; or read the mounted files themselves`,
  },
  istioFiles: {
    reload: "restart",
    words:
      "istio-agent takes its workload certificate from these files; versions from 1.29 on miss changes behind a Secret's symbolic links (istio #61161)",
    next: "look at what Envoy presents after each rotation (a tls entry), and restart the pod where it is the old one",
  },
  immutable: {
    reload: "never",
    words: "it is immutable: nobody changes it, and kubelet does not look at it again",
    next: "point the consumer at another one (create: true)",
  },
};

/** One container, and how it learns of a new content. */
export interface Use {
  readonly workload: Workload;
  readonly container: string;
  readonly reload: ReloadClass;
  /** In words: how it gets it, and what follows. */
  readonly what: string;
  readonly next: string;
  /** Another program says it restarts this workload on a change (stakater/Reloader). */
  readonly restartedBy?: string;
}

export function usesOf(workload: Workload, wanted: Wanted): Use[] {
  const ours = referencesOf(workload.spec).filter((one) => isOurs(one, wanted));
  const copiers = initIn(workload.spec).filter(({ name }) => ours.some(({ container }) => container === name));
  const uses = ours
    .filter(({ container, way }) => container !== "" || way !== "volume")
    .map((one) => useOf(one, workload, wanted));
  return onlyOnce([...uses, ...copiers.flatMap((copier) => copiedBy(copier.name, workload, wanted))]);
}

const isOurs = (one: Reference, { kind, name, keys }: Wanted): boolean =>
  one.kind === kind && one.name === name && (one.keys === undefined || one.keys.some((key) => keys.includes(key)));

const onlyOnce = (uses: readonly Use[]): Use[] => [
  ...new Map(uses.map((use) => [`${use.container} ${use.what}`, use])).values(),
];

function useOf(reference: Reference, workload: Workload, wanted: Wanted): Use {
  const { container, at } = reference;
  const missing = reference.optional ? ", optional: without it the pod starts all the same" : "";
  return use(howOf(reference, workload), container, `${at}${missing}`, workload, wanted);
}

function howOf({ container, way, at }: Reference, workload: Workload): How {
  if (workload.kind === "CronJob") return "eachRun";
  if (initIn(workload.spec).some(({ name }) => name === container)) return "init";
  return way === "volume" && at.replace(/\/$/, "").endsWith(istio.files) ? "istioFiles" : way;
}

function use(how: How, container: string, at: string, workload: Workload, wanted: Wanted): Use {
  const { reload, words, next } = table[wanted.immutable === true ? "immutable" : how];
  const by = restarterOf(workload, wanted);
  return {
    ...{ workload, container, reload, what: `${at}: ${words}`, next },
    ...(by === undefined ? {} : { restartedBy: by }),
  };
}

/** Volumes that a container can write and another read. */
const shared = ["emptyDir", "ephemeral", "persistentVolumeClaim", "hostPath"];

/** Running containers that share a volume with an init container that has the content: keystores are built so. */
function copiedBy(copier: string, workload: Workload, wanted: Wanted): Use[] {
  const { spec } = workload;
  const written = (initIn(spec).find(({ name }) => name === copier)?.volumeMounts ?? []).filter(
    ({ readOnly }) => readOnly !== true,
  );
  const volumes = (spec.volumes ?? []).filter(
    (volume) => shared.some((source) => source in volume) && written.some(({ name }) => name === volume.name),
  );
  return runningIn(spec).flatMap((container) =>
    (container.volumeMounts ?? [])
      .filter((mount) => volumes.some(({ name }) => name === mount.name))
      .map((mount) => {
        const how = workload.kind === "CronJob" ? "eachRun" : "copy";
        return use(how, container.name, `${mount.mountPath} (from init container ${copier})`, workload, wanted);
      }),
  );
}

/** stakater/Reloader rolls a workload whose annotations ask for it; whether it runs is not known here. */
function restarterOf({ annotations = {} }: Workload, { kind, name }: Wanted): string | undefined {
  const of = kind.toLowerCase();
  const named = (annotations[`${of}.reloader.stakater.com/reload`] ?? "").split(",").map((one) => one.trim());
  const auto = ["reloader.stakater.com/auto", `${of}.reloader.stakater.com/auto`].some(
    (key) => annotations[key] === "true",
  );
  return auto || named.includes(name) ? "Reloader" : undefined;
}

/** A name that a pod needs, or would use, and that is not there. */
export interface Missing {
  readonly workload: Workload;
  readonly kind: Named;
  readonly name: string;
  readonly container: string;
  readonly at: string;
  readonly optional: boolean;
  /** The nearest name that is there, or that is to be rotated. */
  readonly meant?: string;
}

/** References to names that are not in the namespace. `there`: names of that kind; the wanted one counts as one of them. */
export function missingFrom(workload: Workload, kind: Named, there: readonly string[], wanted: string): Missing[] {
  const known = [...new Set([...there, wanted])];
  const gone = referencesOf(workload.spec).filter((one) => one.kind === kind && !known.includes(one.name));
  const found = gone.map(({ name, container, at, optional }): Missing => {
    const meant = nearest(name, known);
    return { ...{ workload, kind, name, container, at, optional }, ...(meant === undefined ? {} : { meant }) };
  });
  return [...new Map(found.map((one) => [`${one.name} ${one.container} ${one.at}`, one])).values()];
}

/** Where istio-agent looks, once, at its start (istio pkg/istio-agent/agent.go); first the socket, then the files. */
const istio = {
  socket: "/var/run/secrets/workload-spiffe-uds",
  files: "/var/run/secrets/workload-spiffe-credentials",
  socketName: "WORKLOAD_IDENTITY_SOCKET_FILE",
  output: "OUTPUT_CERTS",
};

export interface IstioTrap {
  readonly workload: Workload;
  readonly container: string;
  /** `sure`: something puts files there, which count whenever the socket is late; else it may happen. */
  readonly sure: boolean;
  readonly what: string;
  readonly next: string;
}

/**
 * A SPIFFE socket and the directory of certificate files in one container: a socket that does not answer at the start is
 * passed over without a word, and files that lie there are then used until they expire. Nobody renews them: HTTP 503 at night.
 */
export function istioTrapOf(workload: Workload): IstioTrap | undefined {
  const { spec } = workload;
  const volumeAt = (path: string, { volumeMounts = [] }: (typeof spec.containers)[number]) => {
    const mount = volumeMounts.find(({ mountPath }) => mountPath.replace(/\/$/, "").endsWith(path));
    return spec.volumes?.find(({ name }) => name === mount?.name);
  };
  const proxy = runningIn(spec).find((one) => volumeAt(istio.socket, one) && volumeAt(istio.files, one));
  if (proxy === undefined) return undefined;
  const [socket, files] = [volumeAt(istio.socket, proxy)!, volumeAt(istio.files, proxy)!];
  // As injected: the socket's volume is empty as well, and Istio's own CA is meant.
  if ("emptyDir" in socket) return undefined;
  const value = (name: string) => proxy.env?.find((one) => one.name === name)?.value;
  const writer = [...runningIn(spec), ...initIn(spec)].find(
    (one) =>
      one.name !== proxy.name &&
      one.volumeMounts?.some(({ name, readOnly }) => name === files.name && readOnly !== true),
  );
  const why = !("emptyDir" in files)
    ? `volume ${files.name} is no empty directory`
    : value(istio.output)?.replace(/\/$/, "").endsWith(istio.files)
      ? `${istio.output} writes there`
      : writer === undefined
        ? undefined
        : `container ${writer.name} can write there`;
  const named = value(istio.socketName);
  if (why === undefined && named !== undefined && named !== "socket") return undefined;
  const both = `has a SPIFFE socket (volume ${socket.name}) and ${istio.files} (volume ${files.name})`;
  const once =
    "istio-agent decides once, at its start: a socket that does not answer then is passed over without a word";
  return {
    ...{ workload, container: proxy.name, sure: why !== undefined },
    what: `${both}: ${once}, ${why === undefined ? "and Istio's own CA is used instead" : `and files there are used until they expire (${why})`}`,
    next: `${why === undefined ? "" : `take volume ${files.name} out by an injection template of the same name; `}give the socket another name (${istio.socketName}), so that the pod does not start without it; look at what Envoy presents`,
  };
}
