/** A Secret that a server behind a Service mounts: what Gyre delivers is an object of the cluster. */
import { readFileSync, writeFileSync } from "node:fs";
import { makeWorkspace, type Workspace, waitFor } from "../../../lab/estate.ts";
import { caBefore } from "../../../lab/gyre.ts";
import { ownAddresses } from "../../../lab/own-addresses.ts";
import type { LabCluster } from "../../../lab/peers/kubernetes.ts";
import { type Pod, startPod } from "../../../lab/peers/pod.ts";
import { fingerprintOf } from "../../../lab/pki.ts";
import { servedFingerprint } from "../../../lab/witness.ts";
import type { Reality, Trouble } from "../reality.ts";
import type { World } from "../scene.ts";
import { borrowCluster } from "./cluster.ts";

export interface SecretOptions {
  /** The server mounts it by subPath: it never sees a change. */
  readonly subPath?: boolean;
}

export interface SecretEstate extends World {
  readonly workspace: Workspace;
  readonly pod: Pod;
  /** kubectl in the namespace of the scene. */
  kubectl(...args: string[]): Promise<string>;
  /** Writes the manifest; `more` goes into its `secret` entry. */
  write(more?: string): void;
  /** The old pair as a Secret of this name. */
  secretOf(name?: string): object;
  apply(...objects: object[]): Promise<string>;
}

export const secretName = "shop-tls";
const serverName = "shop.example";
let count = 0;

export async function buildSecretEstate(name: string, options: SecretOptions = {}): Promise<SecretEstate> {
  const { cluster, back } = await borrowCluster();
  const workspace = makeWorkspace(`truth-${name}`);
  const namespace = `shop-${++count}`;
  const kubectl: SecretEstate["kubectl"] = (...args) => cluster.kubectl("-n", namespace, ...args);
  const end = async (failed: boolean) => {
    try {
      await workspace.end({ failed });
      await cluster.kubectl("delete", "namespace", namespace, "--wait=false", "--ignore-not-found");
    } finally {
      back();
    }
  };
  try {
    const ca = await caBefore(workspace.dir, "CN=Truth shop CA");
    const before = await ca.issue({ subject: "CN=shop", names: [`DNS:${serverName}`], usages: ["server"] });
    const [certificate, privateKey] = [workspace.path("g1.pem"), workspace.path("g1.key")];
    before.writePem(certificate, privateKey);
    const old = fingerprintOf(certificate);
    const base64 = (file: string) => readFileSync(file).toString("base64");
    const secretOf = (called = secretName) => ({
      ...{ apiVersion: "v1", kind: "Secret", metadata: { namespace, name: called } },
      ...{ type: "kubernetes.io/tls", data: { "tls.crt": base64(certificate), "tls.key": base64(privateKey) } },
    });
    const pod = await servedBy(workspace, cluster, namespace, secretOf(), options);
    const estate: SecretEstate = {
      ...{ workspace, pod, kubectl, secretOf, home: workspace.dir, credential: secretName, grade: "SUPERSEDED", end },
      members: [{ address: pod.address, dir: workspace.path("nobody") }],
      apply: (...objects) => cluster.apply(...objects),
      write(more = "") {
        writeFileSync(workspace.path("gyre.yaml"), manifestOf(cluster, namespace, ca.manifest, more));
      },
      async look() {
        const stored = await storedFingerprint(workspace, kubectl);
        const served = await servedFingerprint(pod.address, serverName);
        return realityOf(old, stored, served);
      },
      lies: () => ({}),
      plainly: (text) =>
        text.replaceAll(pod.address, "web").replaceAll(namespace, "shop").replaceAll(`${workspace.dir}/`, ""),
    };
    estate.write();
    return estate;
  } catch (problem) {
    await end(true);
    throw problem;
  }
}

async function servedBy(
  workspace: Workspace,
  cluster: LabCluster,
  namespace: string,
  secret: object,
  options: SecretOptions,
): Promise<Pod> {
  await cluster.kubectl("create", "namespace", namespace);
  const account = ["-n", namespace, "get", "serviceaccount", "default", "--ignore-not-found", "-o", "name"];
  await waitFor("its service account", async () => (await cluster.kubectl(...account)) !== "");
  await cluster.apply(secret, {
    ...{ apiVersion: "v1", kind: "Service", metadata: { namespace, name: "web" } },
    spec: { selector: { app: "web" }, ports: [{ name: "https", port: 443, targetPort: 8443 }] },
  });
  const [host = ""] = await ownAddresses(workspace, 1);
  const pod = await startPod(workspace, cluster, {
    ...{ namespace, name: "web-1", labels: { app: "web" }, secret: secretName, host, port: 8443, ...options },
  });
  await waitFor("its endpoint", async () =>
    (await cluster.kubectl("-n", namespace, "get", "endpointslices", "-o", "json")).includes(host),
  );
  return pod;
}

const manifestOf = (cluster: LabCluster, namespace: string, ca: string, more: string) => `apiVersion: gyre.dev/v1alpha1
kind: Cluster
metadata: { name: prod }
spec: { uid: ${cluster.uid}, kubeconfig: ${cluster.kubeconfig} }
---
apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: shop-ca }
spec: { ${ca} }
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: ${secretName} }
spec:
  issue: { issuer: shop-ca, dnsNames: [${serverName}], lifetime: 24h }
  deliver:
    - secret: { cluster: prod, namespace: ${namespace}, name: ${secretName}${more} }
  prove:
    - tls: { serverName: ${serverName}, endpoints: { cluster: prod, namespace: ${namespace}, service: web, port: https } }
  timing: { patience: 5s, poll: 500ms }
`;

async function storedFingerprint(workspace: Workspace, kubectl: SecretEstate["kubectl"]): Promise<string | undefined> {
  const out = await kubectl(
    ...["get", "secret", secretName, "--ignore-not-found"],
    ...["-o", "jsonpath={.data.tls\\.crt}"],
  );
  if (out === "") return undefined;
  const file = workspace.path("stored.pem");
  writeFileSync(file, Buffer.from(out, "base64"));
  return fingerprintOf(file);
}

function realityOf(old: string, stored: string | undefined, served: string | undefined): Reality {
  const called = (one: string | undefined) =>
    one === undefined ? "nothing" : one === old ? "the old one" : "the new one";
  const troubles: Trouble[] = [];
  if (stored === undefined || stored === old) troubles.push({ at: "the Secret", what: `holds ${called(stored)}` });
  if (served === undefined || served === old) troubles.push({ at: "the server", what: `serves ${called(served)}` });
  else if (stored !== served) troubles.push({ at: "the server", what: "serves another one than is stored" });
  return {
    ...{ done: troubles.length === 0, asBefore: stored === old && served === old, troubles },
    words: `the Secret holds ${called(stored)}; the server serves ${called(served)}`,
  };
}
