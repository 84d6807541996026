import { resolve } from "node:path";
import type { Cluster } from "../../drivers/kubernetes/cluster.ts";
import type { KubeconfigSettings } from "../../drivers/kubernetes/kubeconfig-settings.ts";
import { lookAtOwnAccess, type OwnAccess } from "../../drivers/kubernetes/own-access.ts";
import { missingRights, rulesOf, sayRight } from "../../drivers/kubernetes/rights.ts";
import { nearMisses, rightsOf } from "../../drivers/kubernetes/rights-of.ts";
import { placeOfServer, servedBy } from "../../drivers/kubernetes/served-by.ts";
import { sayInstant, sayMillis } from "../../engine/time-words.ts";
import { GyreError } from "../../errors.ts";
import type { Diagnosis } from "../api.ts";
import { type Check, failed, note, ok, type Patient, problem, warning } from "./patient.ts";

const about = (name: string): string => `cluster ${name}`;

/** Gyre's own way in: it is read, leads to the pinned cluster, and lasts as long as the rotation. */
export const clusterAccess: Check = async (patient) => {
  const found: Diagnosis[] = [];
  for (const { manifest, cluster } of patient.clusters) {
    const at = about(manifest.name);
    try {
      const own = await lookAtOwnAccess(manifest.settings, manifest.baseDir);
      const flaws = own.flaws.map(({ what, next }) => problem(at, what, next));
      found.push(...flaws, ...lasts(at, own, patient));
    } catch (error) {
      found.push(failed(at, error, "correct spec.kubeconfig of the Cluster document"));
      continue;
    }
    const identity = await cluster.mustBeOurs().then(
      () => [ok(at, `is the one that is meant (${manifest.settings.uid})`)],
      async (error: unknown) => [failed(at, error), ...(await whatIsThere(at, cluster, patient))],
    );
    found.push(...identity);
  }
  return found;
};

/** Nobody gets in: what its address presents, and to whom that leads nowhere. */
async function whatIsThere(at: string, cluster: Cluster, { clock, step }: Patient): Promise<Diagnosis[]> {
  const { server, serverName, roots } = await cluster.access();
  if (roots === undefined) return [];
  const place = placeOfServer(server, serverName);
  const seen = await servedBy(place.address, place.serverName, roots, clock.now(), step.signal);
  if (seen.trouble === undefined || seen.silent === true) return [];
  const what = `${place.address} presents a certificate of ${seen.issuer}, which the CA in Gyre's own kubeconfig does not cover: ${seen.trouble}`;
  return [problem(at, what, "correct certificate-authority-data or server of the kubeconfig")];
}

/** A rotation waits at least the quiet window, and for answers on the way. */
function lasts(at: string, { ends, subject, kubeconfig }: OwnAccess, patient: Patient): Diagnosis[] {
  if (ends === undefined) return [];
  const { planned, manifest, clock } = patient;
  const left = ends - clock.now();
  const who = `${subject === undefined ? "its token" : `its certificate ${JSON.stringify(subject)}`}${kubeconfig === undefined ? "" : ` in ${kubeconfig}`}`;
  const next = "renew it first";
  if (left <= 0) return [problem(at, `Gyre's own access: ${who} expired ${sayInstant(ends)}`, next)];
  const quiet = planned?.stages.includes("quiet") === true ? (planned.plan?.quiet.window ?? 0) : 0;
  const needed = quiet + manifest.timing.patience + manifest.timing.skew;
  if (left < needed) {
    const what = `Gyre's own access: ${who} expires ${sayInstant(ends)}, in ${sayMillis(left)}; the rotation takes ${sayMillis(needed)} at least, and would stop half-way`;
    return [problem(at, what, next)];
  }
  return [note(at, `Gyre's own access: ${who} lasts ${sayMillis(left)}`)];
}

/** Everything it lacks, at once, with the rules that give it. */
export const clusterRights: Check = async ({ entries, clusters }) => {
  const open = (name: string): Cluster => {
    const found = clusters.find(({ manifest }) => manifest.name === name);
    if (found === undefined) throw new GyreError({ code: "manifest", message: `there is no cluster ${name}` });
    return found.cluster;
  };
  const found: Diagnosis[] = [];
  for (const [name, rights] of rightsOf(entries, open)) {
    const at = about(name);
    const missing = await missingRights(open(name), rights).catch(() => undefined);
    // Who is not let in was told of that already.
    if (missing === undefined) continue;
    if (missing.length === 0) {
      found.push(ok(at, `Gyre has the ${rights.length} rights it needs`));
      continue;
    }
    const near = await nearMisses(open(name), missing, rights).catch(() => []);
    const lacks = missing.map((right) => `${sayRight(right)} (${right.why})`).join("; ");
    const why = near.length === 0 ? "" : `. ${near.join(". ")}`;
    found.push(problem(at, `Gyre may not ${lacks}${why}`, `give it these rules:\n${rulesOf(missing)}`));
  }
  return found;
};

/** Each API server under its own address, and the `server` of each kubeconfig, against the CA that the cluster publishes. */
export const apiServers: Check = async (patient) => {
  const found: Diagnosis[] = [];
  for (const { manifest, cluster } of patient.clusters) {
    const at = about(manifest.name);
    const told = (error: unknown) => {
      // What Gyre may not read is in the list of rights.
      if (!(error instanceof GyreError) || error.code !== "permission") found.push(failed(at, error));
      return undefined;
    };
    const roots = await cluster.roots().catch(told);
    if (roots === undefined) continue;
    const presented = (address: string, serverName: string) =>
      servedBy(address, serverName, roots, patient.clock.now(), patient.step.signal);
    const published = "ConfigMap kube-system/kube-root-ca.crt";
    const members = usesApiServers(patient, manifest.name) ? await cluster.members().catch(told) : [];
    const seen = await Promise.all((members ?? []).map(({ address }) => presented(address, cluster.serverName)));
    for (const { address, issuer, trouble, silent } of seen)
      if (trouble !== undefined)
        found.push(
          problem(
            at,
            silent === true
              ? `the API server at ${address} presents nothing: ${trouble}`
              : `the API server at ${address} presents a certificate of ${issuer}, which ${published} does not cover: ${trouble}`,
            silent === true
              ? "start it, or wait until its address is gone from the EndpointSlices"
              : `give it one of the cluster's CA for ${cluster.serverName}, or let ${published} list its CA too (--root-ca-file)`,
          ),
        );
    if (seen.length > 0 && seen.every(({ trouble }) => trouble === undefined))
      found.push(ok(at, `${seen.length} API servers, counted twice, each presents a certificate of the cluster's CA`));
    for (const { who, server, serverName, written } of await serversNamed(patient, manifest.name)) {
      const place = placeOfServer(server, serverName);
      const one = await presented(place.address, place.serverName);
      if (one.trouble === undefined || one.silent === true) continue;
      const what = `${who} names ${server.href.replace(/\/$/, "")}, which presents a certificate of ${one.issuer}; ${published} does not cover it: ${one.trouble}`;
      found.push(
        written
          ? problem(
              at,
              what,
              "name a server that presents the cluster's CA: the kubeconfig gets that CA and would not work there",
            )
          : note(at, what, "a kubeconfig with the cluster's CA does not work at this address"),
      );
    }
  }
  return found;
};

const usesApiServers = ({ entries }: Patient, name: string): boolean =>
  entries.some(
    ({ driver, settings }) =>
      (driver === "kubernetes-api" || driver === "kubernetes-audit") &&
      (settings as { cluster?: string }).cluster === name,
  );

interface Server {
  readonly who: string;
  readonly server: URL;
  readonly serverName?: string;
  /** Gyre writes the cluster's CA beside it. */
  readonly written: boolean;
}

async function serversNamed({ clusters, targets }: Patient, name: string): Promise<Server[]> {
  const { manifest, cluster } = clusters.find((one) => one.manifest.name === name)!;
  const found: Server[] = [];
  for (const { bound, settings } of targets) {
    const { cluster: of, server } = settings as Partial<KubeconfigSettings>;
    if (bound.driver === "kubeconfig" && of === name && server !== undefined)
      found.push({ who: `kubeconfig ${bound.instance.place}`, server: new URL(server), written: true });
  }
  if (manifest.settings.kubeconfig === undefined) return found;
  const access = await cluster.access();
  const { server, serverName } = access;
  const who = `Gyre's own kubeconfig ${resolve(manifest.baseDir, manifest.settings.kubeconfig)}`;
  return [...found, { who, server, written: false, ...(serverName === undefined ? {} : { serverName }) }];
}

/** Every API server writes a log of its own: one without a sensor is a place where nobody sees the old one used. */
export const auditLogs: Check = ({ manifest, resolved }) => {
  const servers = [...resolved.verifiers].filter(([, { bound }]) => bound.driver === "kubernetes-api");
  if (servers.length === 0) return [];
  const watched = manifest.sensors.flatMap(({ driver, settings }) =>
    driver === "kubernetes-audit" ? [settings.member] : [],
  );
  const without = servers.map(([, { member }]) => member.address).filter((address) => !watched.includes(address));
  const each =
    "name each API server's audit log (auditLog: cluster, path, member); see docs/drivers/kubernetes-audit.md";
  if (watched.length === 0)
    return [
      note(
        "sensors",
        "no audit log is named: who still uses the old one is not seen, and quiet is a time bound only",
        each,
      ),
    ];
  if (without.length === 0) return [ok("sensors", `each of ${servers.length} API servers has its audit log`)];
  return [warning("sensors", `no audit log of ${without.join(", ")}: who uses the old one there is not seen`, each)];
};

/** Kubernetes revokes no client certificate; what has a group of its own can be denied. */
export const denial: Check = ({ manifest, planned, found }) => {
  const reachable = planned?.plan?.grade.reachable;
  const servers = manifest.verifiers.filter(({ driver }) => driver === "kubernetes-api");
  if (servers.length === 0 || (reachable !== "SUPERSEDED" && reachable !== "FIRST")) return [];
  const subject = found?.generation.subject ?? manifest.request.subject;
  if (/(^|,)O=system:masters(,|$)/.test(manifest.request.subject))
    return [
      warning(
        "grade",
        "the subject is of system:masters, which no binding can be taken from: it is good until it expires",
        "name a group of your own in issue.subject, and bind it",
      ),
    ];
  if (manifest.trustStores.some(({ driver }) => driver === "kubernetes-rbac")) return [];
  const what = `an API server refuses no certificate of a CA that it trusts, but one with a group of its own is denied when the group's binding goes (${subject} has none)`;
  return [
    note(
      "grade",
      what,
      "for DENIED: O=gyre:NAME:{generation} in issue.subject, trust: groupBinding with that group and its role, and refuses: group with `may` in kubernetesApi",
    ),
  ];
};
