/**
 * `gyre scan --kubernetes` of a real control plane with 30,000 Secrets, 1,000 of which hold certificates; beside
 * `kubectl get secrets -A -o json`, which only fetches them. Both by turns, from process start to end.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { makeWorkspace } from "../lab/estate.ts";
import { buildGoTools, goTool } from "../lab/go-tools.ts";
import { gyreProgram } from "../lab/gyre.ts";
import { type LabCluster, startCluster } from "../lab/peers/kubernetes.ts";
import { prepareAuthority, signCertificate, signSelfSigned } from "../src/pki/issue.ts";
import { exportPrivateKey, generateKey } from "../src/pki/keys.ts";
import { type Figure, figure } from "./figure.ts";

const rounds = 3;
const namespaces = 60;
const atOnce = 24;

/** Of `total` Secrets as clusters have them: one in thirty holds a certificate, one in 150 is a Helm release of 50 to 200 KB. */
export async function scanKubernetesBench(total = 30_000): Promise<Figure[]> {
  await buildGoTools(["etcd", "kube-apiserver", "kubectl"]);
  const workspace = makeWorkspace("bench-scan-kubernetes");
  try {
    const lab = await startCluster(workspace, { name: "bench", apiServers: 1, controllerManager: false });
    await fill(lab, total);
    const certificates = Math.round(total / 30);
    const ours: Ran[] = [];
    const kubectl: Ran[] = [];
    for (let round = 0; round < rounds; round++) {
      kubectl.push(
        await run([goTool("kubectl"), "--kubeconfig", lab.kubeconfig, "get", "secrets", "-A", "-o", "json"]),
      );
      ours.push(
        await run([process.execPath, gyreProgram, "scan", "--kubernetes", "--kubeconfig", lab.kubeconfig, "--json"]),
      );
    }
    const [last] = ours.slice(-1);
    const sum = JSON.parse(last!.tail.trimEnd().split("\n").at(-1)!) as Sum;
    // A leaf and its CA each; three CA certificates are the cluster's own. A scan that missed something has no figure.
    const expected = 2 * certificates + 3;
    if (sum.sum.certificates !== expected || sum.sum.problems > 0)
      throw new Error(`told ${sum.sum.certificates} certificates of ${expected}, ${sum.sum.problems} problems`);
    const best = (all: readonly Ran[], of: (ran: Ran) => number) => Math.min(...all.map(of));
    const worst = (all: readonly Ran[], of: (ran: Ran) => number) => Math.max(...all.map(of));
    const { requests, bytes } = sum.sum.cluster;
    const name = `scan of a cluster with ${total} Secrets, ${certificates} with certificates`;
    const beside = "kubectl get secrets -A -o json";
    return [
      figure(
        `${name}: full inventory`,
        "s",
        best(ours, (one) => one.ms) / 1000,
        best(kubectl, (one) => one.ms) / 1000,
        beside,
      ),
      figure(
        `${name}: peak memory`,
        "MB",
        worst(ours, (one) => one.mb),
        worst(kubectl, (one) => one.mb),
        beside,
      ),
      figure(`${name}: from the API server`, "MB", bytes / 1e6, kubectl[0]!.bytes / 1e6, `what ${beside} prints`),
      figure(`${name}: requests`, "", requests, Math.ceil(total / 500), "pages of 500 Secrets alone"),
    ];
  } finally {
    await workspace.end({ failed: false });
  }
}

interface Sum {
  readonly sum: {
    readonly certificates: number;
    readonly problems: number;
    readonly cluster: { readonly requests: number; readonly bytes: number };
  };
}
interface Ran {
  readonly ms: number;
  readonly mb: number;
  /** Of standard output. */
  readonly bytes: number;
  /** The last of it. */
  readonly tail: string;
}

/** One process from start to end; its peak resident size is the kernel's own high-water mark, read until it ends. */
function run([program = "", ...args]: readonly string[]): Promise<Ran> {
  const from = performance.now();
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  let [bytes, tail, mb] = [0, "", 0];
  child.stdout.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    tail = (tail + chunk.subarray(-8192).toString("utf8")).slice(-8192);
  });
  const look = setInterval(() => {
    try {
      const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
      mb = Math.max(mb, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
    } catch {
      // It has just ended.
    }
  }, 10);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      clearInterval(look);
      if (code !== 0) reject(new Error(`${program} ended with ${code}: ${tail.slice(-500)}`));
      else resolve({ ms: performance.now() - from, mb, bytes, tail });
    });
  });
}

async function fill(lab: LabCluster, total: number): Promise<void> {
  const { certificate, privateKey } = lab.admin;
  const agent = new Agent({ keepAlive: true, maxSockets: atOnce });
  const [host = "", port = ""] = lab.apiServers[0]!.address.split(":");
  const tls = {
    ...{ host, port, agent, servername: "kubernetes.default.svc", ca: readFileSync(lab.ca.certificate) },
    ...{ cert: readFileSync(certificate), key: readFileSync(privateKey) },
  };
  const post = (path: string, body: object): Promise<void> =>
    new Promise((resolve, reject) => {
      const call = request(
        { ...tls, path, method: "POST", headers: { "content-type": "application/json" } },
        (answer) => {
          answer.resume();
          const { statusCode: status = 0 } = answer;
          answer.once("end", () => (status === 201 ? resolve() : reject(new Error(`POST ${path}: HTTP ${status}`))));
        },
      );
      call.once("error", reject);
      call.end(JSON.stringify(body));
    });
  const secrets = await makeSecrets();
  for (let n = 0; n < namespaces; n++) await post("/api/v1/namespaces", { metadata: { name: space(n) } });
  // The controller manager would write it; without it the scan says that it is missing.
  await post("/api/v1/namespaces/kube-system/configmaps", {
    metadata: { name: "kube-root-ca.crt" },
    data: { "ca.crt": readFileSync(lab.ca.certificate, "utf8") },
  });
  let next = 0;
  const worker = async () => {
    for (let at = next++; at < total; at = next++)
      await post(`/api/v1/namespaces/${space(at % namespaces)}/secrets`, secrets(at));
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  agent.destroy();
}

const space = (n: number): string => `team-${n}`;

/** What the n-th Secret holds; sizes and types as in clusters that cert-manager and Helm work in. */
async function makeSecrets(): Promise<(n: number) => object> {
  const key = await generateKey("P-256");
  const now = Date.now();
  const validity = { notBefore: now - 3_600_000, notAfter: now + 60 * 86_400_000 };
  const root = signSelfSigned(key, { subject: "CN=bench root", isCa: true, ...validity });
  const authority = prepareAuthority(root, key);
  const keyPem = exportPrivateKey(key).use((bytes) => bytes.toString("utf8"));
  const base64 = (text: string | Buffer) => Buffer.from(text).toString("base64");
  const noise = randomBytes(200_000);
  const piece = (n: number, size: number) => noise.subarray((n * 37) % 1000, ((n * 37) % 1000) + size);
  return (n) => {
    const metadata = (name: string, more: object = {}) => ({
      name: `${name}-${n}`,
      labels: { team: space(n) },
      ...more,
    });
    if (n % 30 === 0) {
      const host = `host-${n}.example`;
      const fields = {
        subject: `CN=${host}`,
        names: [`DNS:${host}`],
        usages: ["server"] as const,
        spkiDer: key.spkiDer,
      };
      const leaf = signCertificate(authority, { ...fields, ...validity });
      const annotations = { "cert-manager.io/certificate-name": host, "cert-manager.io/issuer-name": "bench" };
      const data = { "tls.crt": base64(leaf.pem), "tls.key": base64(keyPem), "ca.crt": base64(root.pem) };
      return { metadata: metadata("tls", { annotations }), type: "kubernetes.io/tls", data };
    }
    if (n % 150 === 1) {
      const labels = { owner: "helm", name: `release-${n}`, status: "deployed", version: "1" };
      const release = base64(base64(piece(n, 50_000 + ((n * 7919) % 60_000))));
      return { metadata: metadata("sh.helm.release.v1", { labels }), type: "helm.sh/release.v1", data: { release } };
    }
    if (n % 20 === 2) {
      const auths = { "registry.example": { auth: base64(piece(n, 40)) } };
      const data = { ".dockerconfigjson": base64(JSON.stringify({ auths })) };
      return { metadata: metadata("pull"), type: "kubernetes.io/dockerconfigjson", data };
    }
    const data = {
      username: base64("app"),
      password: base64(piece(n, 24)),
      "config.json": base64(piece(n, 100 + (n % 900))),
    };
    return { metadata: metadata("app"), type: "Opaque", data };
  };
}

if (import.meta.main)
  console.log(JSON.stringify(await scanKubernetesBench(Number(process.argv[2] ?? 30_000)), null, 2));
