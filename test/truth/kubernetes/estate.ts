/**
 * A Kubernetes estate of the truth table: a kubeconfig whose certificate comes of the CSR API, with a group for each
 * generation, which three API servers judge. The generation from before is Gyre's own first one; its pair is kept aside.
 */
import { copyFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { makeWorkspace, type Workspace } from "../../../lab/estate.ts";
import { goTool } from "../../../lab/go-tools.ts";
import { gyre } from "../../../lab/gyre.ts";
import type { ApiServer, LabCluster } from "../../../lab/peers/kubernetes.ts";
import type { World } from "../scene.ts";
import { borrowCluster } from "./cluster.ts";
import { kubectlWith, lookAtCluster } from "./reality.ts";

/** What scenes change in the manifest. */
export interface ClusterManifest {
  /** `apiServers` of the Cluster document; default none: they are found. */
  readonly apiServers: string | undefined;
  /** Gyre's own way in; default the admin's. */
  readonly access: string | undefined;
  readonly approval: "gyre" | "somebody";
  /** How long the issuer waits for an approval. */
  readonly csrPatience: string;
  readonly lifetime: string;
  readonly patience: string;
  /** Audit logs as sensors. */
  readonly audit: boolean;
}

export interface ClusterEstate extends World {
  readonly workspace: Workspace;
  readonly cluster: LabCluster;
  /** The delivered kubeconfig, and the one from before the rotation. */
  readonly kubeconfig: string;
  readonly kept: string;
  /** Group of a generation, and the binding that Gyre makes of it. */
  group(generation: number): string;
  binding(generation: number): string;
  api(number: number): ApiServer;
  write(change?: Partial<ClusterManifest>): void;
  /** What is done at the end however it went, last said first: the next scene needs the cluster whole. */
  mend(undo: () => Promise<unknown> | unknown): void;
}

const user = "ops";
/** Told apart by their names: objects that a scene leaves behind are nobody else's. */
let count = 0;

export async function buildClusterEstate(name: string, options: Partial<ClusterManifest> = {}): Promise<ClusterEstate> {
  const { cluster, back } = await borrowCluster();
  const workspace = makeWorkspace(`truth-${name}`);
  const mine = `t${++count}`;
  const undos: (() => Promise<unknown> | unknown)[] = [];
  let settings: ClusterManifest = {
    ...{ apiServers: undefined, access: undefined, approval: "gyre", csrPatience: "5s", lifetime: "12h" },
    ...{ patience: "8s", audit: true },
  };
  const estate: ClusterEstate = {
    ...{ workspace, cluster, home: workspace.dir, credential: user, grade: "DENIED" },
    kubeconfig: workspace.path("ops.kubeconfig"),
    kept: workspace.path("kept-g1.kubeconfig"),
    members: cluster.apiServers.map(({ address, auditLog }) => ({ address, dir: dirname(auditLog) })),
    group: (generation) => `gyre:${mine}:g${generation}`,
    binding: (generation) => `gyre:gyre:${mine}:g${generation}`,
    api: (number) => cluster.apiServers[number - 1]!,
    write(change = {}) {
      settings = { ...settings, ...change };
      writeFileSync(workspace.path("gyre.yaml"), manifestOf(estate, mine, settings));
    },
    mend: (undo) => void undos.push(undo),
    look: (extra) => lookAtCluster(estate, extra),
    lies: () => ({ kubectl: [goTool("kubectl"), "--kubeconfig", cluster.kubeconfig], kubeconfig: estate.kubeconfig }),
    plainly(text) {
      let plain = text;
      for (const [n, { address, auditLog }] of cluster.apiServers.entries())
        plain = plain.replaceAll(auditLog, `api-${n + 1}/audit.log`).replaceAll(address, `api-${n + 1}`);
      return plain.replaceAll(cluster.balancer.address, "balancer").replaceAll(`${workspace.dir}/`, "");
    },
    async end(failed) {
      try {
        for (const undo of undos.reverse()) await undo();
      } finally {
        await workspace.end({ failed });
        back();
      }
    },
  };
  try {
    estate.write();
    const first = await gyre(workspace.dir, "rotate", user, "--now");
    if (first.code !== 0) throw new Error(`the first issue: ${first.out}${first.err}`);
    copyFileSync(estate.kubeconfig, estate.kept);
    estate.write(options);
  } catch (problem) {
    await estate.end(true);
    throw problem;
  }
  return estate;
}

function manifestOf({ cluster, kubeconfig }: ClusterEstate, mine: string, settings: ClusterManifest): string {
  const audits = cluster.apiServers.map(
    (one) => `\n    - auditLog: { cluster: prod, path: ${one.auditLog}, member: "${one.address}" }`,
  );
  return `apiVersion: gyre.dev/v1alpha1
kind: Cluster
metadata: { name: prod }
spec:
  uid: ${cluster.uid}
  kubeconfig: ${settings.access ?? cluster.kubeconfig}
${settings.apiServers === undefined ? "" : `  apiServers: ${settings.apiServers}\n`}---
apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: prod-clients }
spec: { kubernetesCSR: { cluster: prod, approval: ${settings.approval}, patience: ${settings.csrPatience} } }
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: ${user} }
spec:
  issue: { issuer: prod-clients, subject: "CN=${user},O=gyre:${mine}:{generation}", usages: [client], lifetime: ${settings.lifetime} }
  deliver:
    - kubeconfig: { file: ${kubeconfig}, cluster: prod, server: "https://${cluster.balancer.address}" }
  trust:
    - groupBinding: { cluster: prod, group: "gyre:${mine}:{generation}", clusterRole: cluster-admin }
  prove:
    - kubernetesApi: { cluster: prod, refuses: group, may: [{ verb: list, resource: secrets }] }
    - kubeconfig: { file: ${kubeconfig}, cluster: prod }${settings.audit ? audits.join("") : ""}
  quiet: { window: 2s }
  timing: { patience: ${settings.patience}, poll: 500ms }
`;
}

/** A client of the old kubeconfig that nobody declared, at one API server: `once` holds one watch open. */
export function undeclared(estate: ClusterEstate, number: number, how: "again and again" | "one watch") {
  const { address } = estate.api(number);
  const kubectl = kubectlWith(estate.kept, address);
  let running: Awaited<ReturnType<Workspace["start"]>> | undefined;
  const called = `${how === "one watch" ? "a watch" : "somebody"} with the old one`;
  return {
    async start() {
      const words =
        how === "one watch" ? ["get", "namespaces", "--watch", "-o", "name"] : ["get", "namespaces", "-o", "name"];
      const loop = 'while :; do "$@" || echo FAILED; sleep 0.3; done';
      running = await estate.workspace.start({
        name: "undeclared",
        command:
          how === "one watch" ? [...kubectl, ...words] : ["/bin/sh", "-c", loop, "undeclared", ...kubectl, ...words],
        ready: (one) => one.output().includes("namespace/kube-system"),
      });
    },
    async stop() {
      await running?.stop();
      running = undefined;
    },
    async look() {
      return running?.running === true && !running.output().includes("FAILED")
        ? { at: called, what: `is still at work at ${address}` }
        : undefined;
    },
  };
}
