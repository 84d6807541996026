import type { Cluster } from "../../drivers/kubernetes/cluster.ts";
import {
  istioTrapOf,
  missingFrom,
  sayWorkload,
  type Use,
  usesOf,
  type Wanted,
} from "../../drivers/kubernetes/consumers.ts";
import {
  type Consumed,
  consumedBy,
  isImmutable,
  keyOf,
  lookAtNamespace,
  type NamespaceLook,
  namesIn,
  withImmutable,
} from "../../drivers/kubernetes/look-at-consumers.ts";
import { rulesOf, sayRight } from "../../drivers/kubernetes/rights.ts";
import type { Reload } from "../../drivers/shared-settings.ts";
import type { Diagnosis } from "../api.ts";
import { type Check, failed, note, ok, type Patient, problem, warning } from "./patient.ts";

/** Whoever has a Secret or a bundle in a pod, and whom nothing tells that it changed. */
export const consumers: Check = async (patient) => {
  const found: Diagnosis[] = [];
  const looks = new Map<string, Promise<NamespaceLook>>();
  for (const { bound, settings } of [...patient.targets, ...patient.stores]) {
    const wanted = consumedBy(bound.driver, settings);
    const cluster = patient.clusters.find(({ manifest }) => manifest.name === wanted?.cluster)?.cluster;
    if (wanted === undefined || cluster === undefined) continue;
    const at = `consumers of ${bound.instance.place}`;
    const key = `${wanted.cluster}/${wanted.namespace}`;
    const looking = looks.get(key) ?? lookAtNamespace(cluster, wanted.namespace);
    looks.set(key, looking);
    const seen = await looking.then(
      (look) => all(at, look, wanted, cluster, settings.reload, patient),
      (error: unknown) => [failed(at, error)],
    );
    found.push(...seen);
  }
  for (const [key, looking] of looks) found.push(...traps(key, await looking.catch(() => undefined)));
  return found;
};

async function all(
  at: string,
  look: NamespaceLook,
  wanted: Consumed,
  cluster: Cluster,
  reload: Reload | undefined,
  patient: Patient,
): Promise<Diagnosis[]> {
  const now = withImmutable(wanted, await isImmutable(cluster, wanted));
  const uses = onePerContainer(look.workloads.flatMap((workload) => usesOf(workload, now)));
  const seen = uses.map((use) => judge(at, use, look, reload, patient));
  const nobody = `no pod of ${wanted.namespace} uses it: whoever reads it through the API (an ingress controller) or elsewhere is not seen here`;
  return [
    ...(uses.length === 0 && look.blind.length === 0 ? [note(at, nobody, "prove it where it is used")] : []),
    ...seen,
    ...(await missing(at, look, wanted, cluster)),
    ...blind(at, look),
  ];
}

/** Pods of one workload are alike, and a template that waits for its turn says nothing new. */
const onePerContainer = (uses: readonly Use[]): Use[] => [
  ...new Map(uses.map((use) => [`${sayWorkload(use.workload)} ${use.container} ${use.what}`, use])).values(),
];

function judge(at: string, use: Use, look: NamespaceLook, reload: Reload | undefined, patient: Patient): Diagnosis {
  const { workload, container, what, next } = use;
  const running = look.pods.get(keyOf(workload)) ?? 0;
  const count =
    workload.kind === "Pod" || workload.kind === "CronJob" ? "" : running === 1 ? " (1 pod)" : ` (${running} pods)`;
  const who = `${sayWorkload(workload)}${count}${container === "" ? "" : `, container ${container}`}: ${what}`;
  if (use.reload === "never") return problem(at, who, next);
  if (use.reload === "itself") return isProven(patient) ? ok(at, who) : note(at, who, next);
  if (use.restartedBy !== undefined)
    return note(at, `${who}; its annotations ask ${use.restartedBy} to restart it`, `see that ${use.restartedBy} runs`);
  if (reload?.command?.some((part) => part.split("/").at(-1) === workload.name) === true)
    return ok(at, `${who}; reload runs ${reload.command.join(" ")}`);
  const claims = reload?.watch === true ? "; `reload: { watch: true }` is not true of it" : "";
  return warning(at, `${who}${claims}`, next);
}

/** Something in the manifest dials whoever has it: what a process does with its files is seen there. */
const isProven = ({ manifest }: Patient): boolean =>
  manifest.presenters.some(({ driver }) => driver === "tls") ||
  manifest.verifiers.some(({ driver }) => driver === "tls");

/** A name nearest to ours is most likely meant to be ours; any other is somebody else's fault, and told as that. */
async function missing(
  at: string,
  look: NamespaceLook,
  wanted: Wanted & Consumed,
  cluster: Cluster,
): Promise<Diagnosis[]> {
  const { namespace, kind, name } = wanted;
  const there = await namesIn(cluster, namespace, kind);
  if (there === undefined) return [];
  const found = look.workloads.flatMap((workload) => missingFrom(workload, kind, there, name));
  const once = new Map(
    found.map((one) => [`${sayWorkload(one.workload)} ${one.container} ${one.at} ${one.name}`, one]),
  );
  return [...once.values()].flatMap((one): Diagnosis[] => {
    if (one.optional && one.meant !== name) return [];
    const who = `${sayWorkload(one.workload)}${one.container === "" ? "" : `, container ${one.container}`}`;
    const meant = one.meant === undefined ? "" : `; did you mean ${one.meant}?`;
    const follows = one.optional ? "it starts without it" : "its pods do not start";
    const what = `${who}: ${one.at}: there is no ${kind} ${one.name} in ${namespace}${meant} (${follows})`;
    return [
      (one.meant === name && !one.optional ? problem : warning)(at, what, `correct the name, or make the ${kind}`),
    ];
  });
}

function blind(at: string, { blind: rights }: NamespaceLook): Diagnosis[] {
  if (rights.length === 0) return [];
  const what = `who uses it is not seen in full: Gyre may not ${rights.map(sayRight).join(", ")}`;
  return [note(at, what, `for the doctor alone, give it these rules:\n${rulesOf(rights)}`)];
}

function traps(namespace: string, look: NamespaceLook | undefined): Diagnosis[] {
  const found = (look?.workloads ?? []).flatMap((workload) => istioTrapOf(workload) ?? []);
  const once = new Map(found.map((one) => [sayWorkload(one.workload), one]));
  return [...once.values()].map(({ workload, container, sure, what, next }) =>
    (sure ? warning : note)(`Istio in ${namespace}`, `${sayWorkload(workload)}, container ${container}: ${what}`, next),
  );
}
