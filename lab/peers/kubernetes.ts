/**
 * A Kubernetes control plane of real programs: etcd, several kube-apiservers each at an address of its own, HAProxy in
 * front of them, kube-controller-manager. No kubelet: servers behind Services are processes of the lab that are written
 * into EndpointSlices. Versions and flags: lab/go-tools.ts and below; build them first with
 * `node lab/go-tools.ts kubernetes etcd`.
 */
import { copyFileSync, existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort, type Supervised, type Workspace, waitFor } from "../estate.ts";
import { goTool } from "../go-tools.ts";
import { ownAddresses } from "../own-addresses.ts";
import { type Authority, issue, makeAuthority, openssl, type Pair } from "../pki.ts";
import { request } from "../witness.ts";
import { type Balancer, startBalancer } from "./haproxy.ts";
import { runCommand } from "./peer.ts";

export interface ClusterOptions {
  readonly name: string;
  /** How many API servers; three unless told. */
  readonly apiServers?: number;
  /** More flags for every API server. */
  readonly apiServerFlags?: readonly string[];
  /** Without it no CSR is signed and no namespace gets its kube-root-ca.crt. */
  readonly controllerManager?: boolean;
  /** How long a signed certificate lives at most; the controller manager's own default (a year) unless told. */
  readonly signingDuration?: string;
  /** Signs client certificates by the CSR API; the cluster's own CA unless told. */
  readonly clientSigner?: Authority;
  /** Where every API server posts its audit events besides its log file. */
  readonly auditWebhook?: { readonly url: string; readonly roots: string };
}

export interface ApiServer {
  readonly name: string;
  /** `host:port`; the host is its own. */
  readonly address: string;
  readonly host: string;
  /** JSON lines, every request at level Metadata. */
  readonly auditLog: string;
  /** Its own copy of the client CAs; replaced by `trustClients`. */
  readonly clientCa: string;
  readonly process: Supervised;
  /** The client CAs it accepts from now on (PEM files); it reads them by itself within a tenth of a second. */
  trustClients(...certificates: readonly string[]): void;
  /** Another serving certificate, by rename: new connections show it at once. */
  present(pair: Pair): void;
  stop(): Promise<void>;
  start(): Promise<void>;
}

export interface LabCluster {
  readonly name: string;
  readonly apiServers: readonly ApiServer[];
  readonly balancer: Balancer;
  /** Signs what API servers present and, by the controller manager, client certificates: one CA as kubeadm and Talos have it. */
  readonly ca: Authority;
  /** Of `system:masters`. */
  readonly admin: Pair;
  /** Path of a kubeconfig of the admin through the balancer. */
  readonly kubeconfig: string;
  /** UID of kube-system, which tells clusters of one name apart. */
  readonly uid: string;
  /** Writes a kubeconfig that uses this pair; returns its path. */
  writeKubeconfig(name: string, pair: Pair, options?: { server?: string; ca?: string }): string;
  /** kubectl as the admin; rejects with its words when it fails. */
  kubectl(...args: string[]): Promise<string>;
  /** `kubectl apply` of manifests given as objects or YAML. */
  apply(...manifests: readonly (object | string)[]): Promise<string>;
  /** A client certificate of the cluster's CA, made by openssl and known to no CSR. */
  client(name: string, subject: string): Pair;
  /** kube-controller-manager, where there is one. */
  readonly controllerManager: Supervised | undefined;
  /** Starts the controller manager again with these settings (without one: as the cluster was started), or for the first time. */
  restartControllerManager(options?: Pick<ClusterOptions, "signingDuration" | "clientSigner">): Promise<void>;
  stopControllerManager(): Promise<void>;
}

const serviceNet = "10.96.0.0/16";
const names = [
  "localhost",
  "kubernetes",
  "kubernetes.default",
  "kubernetes.default.svc",
  "kubernetes.default.svc.cluster.local",
];

/** Starts one; ends with the workspace. Some ten seconds when the programs are built. */
export async function startCluster(workspace: Workspace, options: ClusterOptions): Promise<LabCluster> {
  const home = workspace.folder(options.name);
  const hosts = await ownAddresses(workspace, options.apiServers ?? 3);
  const pki = makeClusterPki(home, hosts);
  const etcd = await startEtcd(workspace, options.name, home, pki);
  const apiServers = await Promise.all(
    hosts.map((host, n) =>
      startApiServer(workspace, { ...options, name: `${options.name}-api-${n + 1}` }, host, etcd, pki),
    ),
  );
  const balancer = await startBalancer(workspace, {
    name: `${options.name}-lb`,
    backends: apiServers.map((one) => one.address),
  });
  const writeKubeconfig: LabCluster["writeKubeconfig"] = (name, pair, at = {}) =>
    kubeconfigFile(join(home, `${name}.kubeconfig`), {
      server: at.server ?? `https://${balancer.address}`,
      ca: at.ca ?? pki.ca.certificate,
      pair,
    });
  const kubeconfig = writeKubeconfig("admin", pki.admin);
  const kubectl = (...args: string[]) => runCommand([goTool("kubectl"), "--kubeconfig", kubeconfig, ...args]);
  let manager: Supervised | undefined;
  const restartControllerManager = async (change: Pick<ClusterOptions, "signingDuration" | "clientSigner"> = {}) => {
    await manager?.stop();
    manager = await startControllerManager(workspace, { ...options, ...change }, home, pki, writeKubeconfig);
  };
  if (options.controllerManager !== false) {
    await restartControllerManager();
    await waitFor("kube-root-ca.crt in kube-system", () =>
      kubectl("get", "configmap", "-n", "kube-system", "kube-root-ca.crt").then(
        () => true,
        () => false,
      ),
    );
  }
  const uid = await waitFor("kube-system", () =>
    kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}").catch(() => undefined),
  );
  let applied = 0;
  return {
    name: options.name,
    ...{ apiServers, balancer, ca: pki.ca, admin: pki.admin, kubeconfig, uid, writeKubeconfig, kubectl },
    async apply(...manifests) {
      const file = join(home, `apply-${applied++}.yaml`);
      const documents = manifests.map((one) => (typeof one === "string" ? one : JSON.stringify(one)));
      writeFileSync(file, documents.join("\n---\n"), { mode: 0o600 });
      return kubectl("apply", "-f", file);
    },
    client: (name, subject) => issue(pki.ca, { name, subject, usages: ["client"] }),
    get controllerManager() {
      return manager;
    },
    restartControllerManager,
    async stopControllerManager() {
      await manager?.stop();
    },
  };
}

interface ClusterPki {
  readonly ca: Authority;
  readonly etcdCa: Authority;
  readonly etcdServer: Pair;
  readonly etcdClient: Pair;
  readonly frontProxyCa: Authority;
  readonly frontProxy: Pair;
  readonly admin: Pair;
  readonly controllerManager: Pair;
  readonly serving: readonly Pair[];
  readonly serviceAccountKey: string;
}

function makeClusterPki(home: string, hosts: readonly string[]): ClusterPki {
  const ca = makeAuthority(home, { name: "ca", subject: "/CN=kubernetes" });
  const etcdCa = makeAuthority(home, { name: "etcd-ca", subject: "/CN=etcd-ca" });
  const frontProxyCa = makeAuthority(home, { name: "front-proxy-ca", subject: "/CN=front-proxy-ca" });
  const serviceAccountKey = join(home, "service-account.key");
  openssl(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", serviceAccountKey]);
  return {
    ca,
    etcdCa,
    etcdServer: issue(etcdCa, { name: "etcd-server", usages: ["server", "client"] }),
    etcdClient: issue(etcdCa, { name: "apiserver-etcd-client", usages: ["client"] }),
    frontProxyCa,
    frontProxy: issue(frontProxyCa, {
      name: "front-proxy-client",
      subject: "/CN=front-proxy-client",
      usages: ["client"],
    }),
    admin: issue(ca, { name: "admin", subject: "/O=system:masters/CN=lab-admin", usages: ["client"] }),
    controllerManager: issue(ca, {
      name: "controller-manager",
      subject: "/CN=system:kube-controller-manager",
      usages: ["client"],
    }),
    serving: hosts.map((host, n) =>
      issue(ca, {
        name: `apiserver-${n + 1}`,
        subject: "/CN=kube-apiserver",
        names: [...names.map((name) => `DNS:${name}`), "IP:127.0.0.1", "IP:10.96.0.1", `IP:${host}`],
      }),
    ),
    serviceAccountKey,
  };
}

async function startEtcd(workspace: Workspace, name: string, home: string, pki: ClusterPki): Promise<string> {
  const [client, peer] = [await freePort(), await freePort()];
  const [clientUrl, peerUrl] = [`https://127.0.0.1:${client}`, `http://127.0.0.1:${peer}`];
  await workspace.start({
    name: `${name}-etcd`,
    command: [
      ...[goTool("etcd"), "--name", "lab", "--data-dir", join(home, "etcd")],
      ...["--listen-client-urls", clientUrl, "--advertise-client-urls", clientUrl],
      ...[
        "--listen-peer-urls",
        peerUrl,
        "--initial-advertise-peer-urls",
        peerUrl,
        "--initial-cluster",
        `lab=${peerUrl}`,
      ],
      ...["--client-cert-auth", "--trusted-ca-file", pki.etcdCa.certificate],
      ...["--cert-file", pki.etcdServer.certificate, "--key-file", pki.etcdServer.privateKey],
      // Nothing here needs to outlive a power cut, and the disk is shared with everything else on the machine.
      ...["--unsafe-no-fsync", "--log-level", "warn"],
    ],
    ready: async () => {
      const { certificate, privateKey } = pki.etcdClient;
      const answer = await request(`127.0.0.1:${client}`, { certificate, privateKey, path: "/health" });
      return answer.saw === "reply" && answer.status === 200;
    },
    timeout: 60_000,
  });
  return clientUrl;
}

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
`;

async function startApiServer(
  workspace: Workspace,
  options: ClusterOptions,
  host: string,
  etcd: string,
  pki: ClusterPki,
): Promise<ApiServer> {
  const home = workspace.folder(options.name);
  const port = 6443;
  const own = (file: string) => join(home, file);
  const replace = (from: string, to: string) => {
    copyFileSync(from, `${to}.new`);
    renameSync(`${to}.new`, to);
  };
  const serving = pki.serving.find((pair) =>
    openssl(["x509", "-noout", "-ext", "subjectAltName", "-in", pair.certificate]).includes(host),
  )!;
  replace(pki.ca.certificate, own("client-ca.pem"));
  replace(serving.certificate, own("serving.pem"));
  replace(serving.privateKey, own("serving.key"));
  writeFileSync(own("audit-policy.yaml"), auditPolicy);
  if (options.auditWebhook !== undefined) writeFileSync(own("audit-webhook.yaml"), webhookConfig(options.auditWebhook));
  const auditLog = own("audit.log");
  const command = [
    // API servers are told apart by their host names (the lease each of them holds is named after it).
    ...["unshare", "--uts", "/bin/sh", "-c", 'hostname "$0" && exec "$@"', options.name],
    ...[goTool("kube-apiserver"), "--bind-address", host, "--advertise-address", host, "--secure-port", String(port)],
    ...["--etcd-servers", etcd, "--etcd-cafile", pki.etcdCa.certificate],
    ...["--etcd-certfile", pki.etcdClient.certificate, "--etcd-keyfile", pki.etcdClient.privateKey],
    ...["--client-ca-file", own("client-ca.pem")],
    ...["--tls-cert-file", own("serving.pem"), "--tls-private-key-file", own("serving.key")],
    ...["--service-account-issuer", "https://kubernetes.default.svc.cluster.local"],
    ...["--service-account-key-file", pki.serviceAccountKey],
    ...["--service-account-signing-key-file", pki.serviceAccountKey],
    ...["--service-cluster-ip-range", serviceNet, "--authorization-mode", "Node,RBAC"],
    ...["--requestheader-client-ca-file", pki.frontProxyCa.certificate],
    ...["--requestheader-allowed-names", "front-proxy-client", "--requestheader-username-headers", "X-Remote-User"],
    ...["--requestheader-group-headers", "X-Remote-Group", "--requestheader-extra-headers-prefix", "X-Remote-Extra-"],
    ...["--proxy-client-cert-file", pki.frontProxy.certificate, "--proxy-client-key-file", pki.frontProxy.privateKey],
    ...["--audit-policy-file", own("audit-policy.yaml"), "--audit-log-path", auditLog],
    ...(options.auditWebhook === undefined
      ? []
      : ["--audit-webhook-config-file", own("audit-webhook.yaml"), "--audit-webhook-batch-max-wait", "1s"]),
    ...(options.apiServerFlags ?? []),
  ];
  const address = `${host}:${port}`;
  const { certificate, privateKey } = pki.admin;
  let current: Supervised | undefined;
  const start = async () => {
    current = await workspace.start({
      ...{ name: options.name, command },
      ready: async () => {
        const answer = await request(address, { certificate, privateKey, path: "/readyz" });
        return answer.saw === "reply" && answer.status === 200;
      },
      timeout: 120_000,
    });
  };
  await start();
  return {
    ...{ name: options.name, address, host, auditLog, start, clientCa: own("client-ca.pem") },
    get process() {
      return current!;
    },
    trustClients(...certificates) {
      writeFileSync(own("client-ca.pem.new"), certificates.map((file) => readFileSync(file, "utf8")).join(""));
      renameSync(own("client-ca.pem.new"), own("client-ca.pem"));
    },
    present(pair) {
      replace(pair.privateKey, own("serving.key"));
      replace(pair.certificate, own("serving.pem"));
    },
    stop: async () => current?.stop(),
  };
}

const webhookConfig = ({ url, roots }: { url: string; roots: string }) => `apiVersion: v1
kind: Config
clusters: [{ name: audit, cluster: { server: ${JSON.stringify(url)}, certificate-authority: ${JSON.stringify(roots)} } }]
contexts: [{ name: audit, context: { cluster: audit } }]
current-context: audit
`;

/** Where any signer has a CA of its own, every one needs its own pair of flags. */
const signers = (ca: Authority, client: Authority): string[] =>
  ["kube-apiserver-client", "kubelet-client", "kubelet-serving", "legacy-unknown"].flatMap((name) => {
    const by = name === "kube-apiserver-client" ? client : ca;
    return [`--cluster-signing-${name}-cert-file`, by.certificate, `--cluster-signing-${name}-key-file`, by.privateKey];
  });

async function startControllerManager(
  workspace: Workspace,
  options: ClusterOptions,
  home: string,
  pki: ClusterPki,
  writeKubeconfig: LabCluster["writeKubeconfig"],
): Promise<Supervised> {
  const kubeconfig = writeKubeconfig("controller-manager", pki.controllerManager);
  const port = await freePort();
  return workspace.start({
    name: `${options.name}-controller-manager`,
    command: [
      ...[goTool("kube-controller-manager"), "--bind-address", "127.0.0.1", "--secure-port", String(port)],
      ...[
        "--kubeconfig",
        kubeconfig,
        "--authentication-kubeconfig",
        kubeconfig,
        "--authorization-kubeconfig",
        kubeconfig,
      ],
      ...signers(pki.ca, options.clientSigner ?? pki.ca),
      ...(options.signingDuration === undefined ? [] : ["--cluster-signing-duration", options.signingDuration]),
      ...["--root-ca-file", pki.ca.certificate, "--service-account-private-key-file", pki.serviceAccountKey],
      ...["--use-service-account-credentials", "--leader-elect=false"],
      // Nodes have no kubelet here that would keep them ready.
      ...["--controllers", "*,-node-lifecycle-controller,-taint-eviction-controller"],
      ...["--cert-dir", workspace.folder(options.name, "controller-manager")],
    ],
    ready: async () => {
      const answer = await request(`127.0.0.1:${port}`, { path: "/healthz" });
      return existsSync(home) && answer.saw === "reply" && answer.status === 200;
    },
    timeout: 120_000,
  });
}

function kubeconfigFile(path: string, of: { server: string; ca: string; pair: Pair }): string {
  const base64 = (file: string) => readFileSync(file).toString("base64");
  writeFileSync(
    path,
    `apiVersion: v1
kind: Config
clusters:
  - name: lab
    cluster: { server: ${of.server}, certificate-authority-data: ${base64(of.ca)} }
users:
  - name: ${of.pair.name}
    user: { client-certificate-data: ${base64(of.pair.certificate)}, client-key-data: ${base64(of.pair.privateKey)} }
contexts:
  - name: lab
    context: { cluster: lab, user: ${of.pair.name} }
current-context: lab
`,
    { mode: 0o600 },
  );
  return path;
}
