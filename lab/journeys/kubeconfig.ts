import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { waitFor } from "../estate.ts";
import { goTool } from "../go-tools.ts";
import { gyre, receiptOf } from "../gyre.ts";
import type { Journey } from "../journey.ts";
import { startCluster } from "../peers/kubernetes.ts";
import { runCommand } from "../peers/peer.ts";

export const journey: Journey = {
  summary: "an admin kubeconfig on three API servers: DENIED with a group for each generation, SUPERSEDED without",
  needs: ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"],
  async run({ workspace, step, say, expect }) {
    const { dir, path } = workspace;
    const cluster = await step("etcd, three API servers behind HAProxy, a controller manager", () =>
      startCluster(workspace, { name: "prod" }),
    );
    const audit = cluster.apiServers
      .map((one) => `    - auditLog: { cluster: prod, path: ${one.auditLog}, member: "${one.address}" }`)
      .join("\n");
    writeFileSync(
      path("gyre.yaml"),
      `apiVersion: gyre.dev/v1alpha1
kind: Cluster
metadata: { name: prod }
spec: { uid: ${cluster.uid}, kubeconfig: ${cluster.kubeconfig} }
---
apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: prod-clients }
spec: { kubernetesCSR: { cluster: prod, approval: gyre } }
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: ops }
spec:
  issue: { issuer: prod-clients, subject: "CN=ops,O=gyre:admins:{generation}", usages: [client], lifetime: 12h }
  deliver:
    - kubeconfig: { file: ops.kubeconfig, cluster: prod, server: "https://${cluster.balancer.address}" }
  trust:
    - groupBinding: { cluster: prod, group: "gyre:admins:{generation}", clusterRole: cluster-admin }
  prove:
    - kubernetesApi: { cluster: prod, refuses: group, may: [{ verb: list, resource: secrets }, { verb: "*", resource: "*" }] }
    - kubeconfig: { file: ops.kubeconfig, cluster: prod }
${audit}
  quiet: { window: 3s }
  timing: { patience: 20s, poll: 500ms }
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: viewer }
spec:
  issue: { issuer: prod-clients, subject: "CN=viewer,O=viewers", usages: [client], lifetime: 12h }
  deliver:
    - kubeconfig: { file: viewer.kubeconfig, cluster: prod, server: "https://${cluster.balancer.address}" }
  prove:
    - kubernetesApi: { cluster: prod }
    - kubeconfig: { file: viewer.kubeconfig, cluster: prod }
  timing: { patience: 20s, poll: 500ms }
`,
    );
    const rotate = (name: string) =>
      step(`gyre rotate ${name} --now`, async () => {
        const ran = await gyre(dir, "rotate", name, "--now");
        say(ran.out + ran.err);
        return ran;
      });
    /** kubectl at one API server's own address, by this kubeconfig's user. */
    const at = (server: string, kubeconfig: string, ...args: string[]) =>
      runCommand([
        ...[goTool("kubectl"), "--kubeconfig", kubeconfig, "--server", `https://${server}`],
        ...["--tls-server-name", "kubernetes.default.svc", ...args],
      ]).then(
        (out) => out.trim(),
        (error: Error) => `failed: ${error.message.split("\n").slice(1).join(" ").trim()}`,
      );

    const first = await rotate("ops");
    expect("a first issue closes with FIRST", first.code === 0 && /closed\s+FIRST/.test(first.out));
    expect(
      "the kubeconfig is not the key's own CA",
      readFileSync(path("ops.kubeconfig"), "utf8").includes("certificate-authority-data"),
    );
    const consumer = await step("somebody uses the kubeconfig all the time, through the load balancer", () =>
      workspace.start({
        name: "consumer",
        command: [
          ...[
            "/bin/sh",
            "-c",
            'while :; do "$0" --kubeconfig "$1" get namespaces -o name >/dev/null && echo ok || echo FAILED; sleep 0.3; done',
          ],
          ...[goTool("kubectl"), path("ops.kubeconfig")],
        ],
        ready: (one) => one.output().includes("ok"),
      }),
    );
    copyFileSync(path("ops.kubeconfig"), path("kept-g1.kubeconfig"));

    const denied = await rotate("ops");
    // What the old and the new may do is asked outside, at every API server, before Gyre's word is read.
    for (const { address } of cluster.apiServers) {
      const who = await at(
        address,
        path("kept-g1.kubeconfig"),
        "auth",
        "whoami",
        "-o",
        "jsonpath={.status.userInfo.groups}",
      );
      expect(`${address} still knows g1 (${who})`, who.includes("gyre:admins:g1"));
      const old = await at(address, path("kept-g1.kubeconfig"), "get", "secrets", "-A");
      expect(`${address} denies g1 (${old})`, old.includes("Forbidden"));
      const now = await at(address, path("ops.kubeconfig"), "auth", "can-i", "*", "*");
      expect(`${address} allows g2 everything (${now})`, now.endsWith("yes"));
    }
    expect("gyre said closed, exit code 0", denied.code === 0);
    expect("the grade is DENIED", /closed\s+DENIED/.test(denied.out));
    await step("whoever used the kubeconfig was never turned away", async () => {
      const before = consumer.output().length;
      await waitFor("it to go on", () => consumer.output().slice(before).includes("ok"));
      expect("no call failed", !consumer.output().includes("FAILED"));
    });
    await step("the receipt verifies, and says what the old one can still do", async () => {
      const key = ["--key", path(".gyre", "signing.pub")];
      const verified = await gyre(dir, "verify", receiptOf(dir, 1), ...key);
      say(verified.out);
      expect(`VERIFIED\n${verified.err}`, verified.code === 0 && verified.out.startsWith("VERIFIED"));
      expect("what remains is said", /still authenticates/.test(verified.out));
    });

    await rotate("viewer");
    copyFileSync(path("viewer.kubeconfig"), path("kept-viewer.kubeconfig"));
    const superseded = await rotate("viewer");
    for (const { address } of cluster.apiServers) {
      const who = await at(
        address,
        path("kept-viewer.kubeconfig"),
        "auth",
        "whoami",
        "-o",
        "jsonpath={.status.userInfo.username}",
      );
      expect(`${address} still knows the old viewer (${who})`, who === "viewer");
    }
    expect("SUPERSEDED without a group", superseded.code === 0 && /closed\s+SUPERSEDED/.test(superseded.out));
  },
};
