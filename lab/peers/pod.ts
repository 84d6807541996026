/**
 * A pod that serves TLS from a mounted Secret: the Pod object and its place in the Service's EndpointSlices are real (the
 * controller manager makes the slices), the server is a real nginx at the pod's own address, and the volume is kept by
 * servers/secret-volume.ts in place of a kubelet.
 */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Supervised, type Workspace, waitFor } from "../estate.ts";
import { goTool } from "../go-tools.ts";
import type { LabCluster } from "./kubernetes.ts";
import { type Nginx, startNginx } from "./nginx.ts";

export interface PodOptions {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** A kubernetes.io/tls Secret. */
  readonly secret: string;
  /** Mounted file by file (subPath): kubelet never updates it. */
  readonly subPath?: boolean;
  /** Its own address, from `ownAddresses`. */
  readonly host: string;
  readonly port: number;
}
export interface Pod {
  readonly name: string;
  readonly address: string;
  readonly nginx: Nginx;
  /** What replacing the pod does: the volume is written anew, the server starts again, the Pod object has another UID. */
  replace(): Promise<void>;
}

export async function startPod(workspace: Workspace, cluster: LabCluster, options: PodOptions): Promise<Pod> {
  const { namespace, name, host, port } = options;
  const folder = workspace.folder(`${name}-tls`);
  const script = join(dirname(fileURLToPath(import.meta.url)), "..", "servers", "secret-volume.ts");
  let nginx: Nginx | undefined;
  let volume: Supervised | undefined;
  const mount = async () => {
    await volume?.stop();
    const reload = ["/bin/sh", "-c", `kill -HUP "$(cat ${workspace.path(name, "nginx.pid")})"`];
    volume = await workspace.start({
      name: `${name}-volume`,
      command: [
        ...[process.execPath, script, goTool("kubectl"), cluster.kubeconfig, namespace, options.secret, folder],
        ...[options.subPath === true ? "once" : "follow", ...(nginx === undefined ? reload : nginx.reloadCommand)],
      ],
      ready: (one) => one.output().includes("wrote "),
    });
  };
  const appear = async () => {
    // Only pods of a node that is there become endpoints.
    await cluster.apply({ apiVersion: "v1", kind: "Node", metadata: { name: node } }, podObject(options));
    const status = { status: statusOf(host) };
    await cluster.kubectl("-n", namespace, "patch", "pod", name, "--subresource=status", "-p", JSON.stringify(status));
  };
  await mount();
  nginx = await startNginx(workspace, {
    ...{ name, host, port, certificate: join(folder, "tls.crt"), privateKey: join(folder, "tls.key") },
  });
  const server = nginx;
  await appear();
  return {
    name,
    address: server.address,
    nginx: server,
    async replace() {
      await cluster.kubectl("-n", namespace, "delete", "pod", name, "--force", "--grace-period=0");
      await server.stop();
      await mount();
      await server.start();
      await appear();
      await waitFor(`the new ${name} to be an endpoint`, async () =>
        (await cluster.kubectl("-n", namespace, "get", "endpointslices", "-o", "json")).includes(host),
      );
    },
  };
}

const node = "lab";

function podObject({ namespace, name, labels, secret, subPath }: PodOptions): object {
  const mounts =
    subPath === true
      ? ["tls.crt", "tls.key"].map((key) => ({ name: "tls", mountPath: `/etc/nginx/tls/${key}`, subPath: key }))
      : [{ name: "tls", mountPath: "/etc/nginx/tls" }];
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { namespace, name, labels },
    spec: {
      nodeName: node,
      containers: [{ name: "nginx", image: "nginx", volumeMounts: mounts }],
      volumes: [{ name: "tls", secret: { secretName: secret } }],
    },
  };
}

const statusOf = (host: string) => ({
  phase: "Running",
  podIP: host,
  podIPs: [{ ip: host }],
  conditions: [{ type: "Ready", status: "True" }],
});
