/**
 * One control plane for all Kubernetes scenes, started when the first of them needs it and lent to one after the other:
 * each has names of its own in it and mends what it broke.
 */
import { makeWorkspace, type Workspace } from "../../../lab/estate.ts";
import { buildGoTools } from "../../../lab/go-tools.ts";
import { type LabCluster, startCluster } from "../../../lab/peers/kubernetes.ts";

interface Shared {
  readonly workspace: Workspace;
  readonly cluster: LabCluster;
}

let shared: Promise<Shared> | undefined;
let turn: Promise<void> = Promise.resolve();

async function start(): Promise<Shared> {
  await buildGoTools(["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"]);
  const workspace = makeWorkspace("truth-cluster");
  return { workspace, cluster: await startCluster(workspace, { name: "prod" }) };
}

/** Waits for one's turn; `back` gives the cluster to the next. */
export async function borrowCluster(): Promise<{ readonly cluster: LabCluster; back(): void }> {
  const before = turn;
  let back = () => {};
  turn = new Promise((resolve) => {
    back = resolve;
  });
  await before;
  shared ??= start();
  return { cluster: (await shared).cluster, back };
}

/** Ends it, where it was started. */
export async function endCluster(): Promise<void> {
  await (await shared)?.workspace.end();
}
