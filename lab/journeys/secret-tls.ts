import { readFileSync, writeFileSync } from "node:fs";
import { waitFor } from "../estate.ts";
import { caBefore, gyre, receiptOf } from "../gyre.ts";
import type { Journey } from "../journey.ts";
import { ownAddresses } from "../own-addresses.ts";
import { startCluster } from "../peers/kubernetes.ts";
import { startPod } from "../peers/pod.ts";
import { fingerprintOf } from "../pki.ts";
import { servedFingerprint } from "../witness.ts";

export const journey: Journey = {
  summary: "a Secret of three servers behind a Service; one mounts it by subPath and holds the rotation",
  needs: ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"],
  async run({ workspace, step, say, expect }) {
    const { dir, path } = workspace;
    const cluster = await step("a control plane", () => startCluster(workspace, { name: "prod", apiServers: 1 }));
    const before = await caBefore(dir, "CN=Journey shop CA");
    const g1 = await before.issue({ subject: "CN=shop", names: ["DNS:shop.example"], usages: ["server"] });
    g1.writePem(path("g1.pem"), path("g1.key"));
    const base64 = (file: string) => readFileSync(path(file)).toString("base64");
    await step("Secret shop-tls and Service web", async () => {
      await cluster.kubectl("create", "namespace", "shop");
      await waitFor("its service account", () =>
        cluster.kubectl("-n", "shop", "get", "serviceaccount", "default").then(
          () => true,
          () => false,
        ),
      );
      await cluster.apply(
        {
          ...{ apiVersion: "v1", kind: "Secret", metadata: { namespace: "shop", name: "shop-tls" } },
          ...{ type: "kubernetes.io/tls", data: { "tls.crt": base64("g1.pem"), "tls.key": base64("g1.key") } },
        },
        {
          ...{ apiVersion: "v1", kind: "Service", metadata: { namespace: "shop", name: "web" } },
          spec: { selector: { app: "web" }, ports: [{ name: "https", port: 443, targetPort: 8443 }] },
        },
      );
    });
    const hosts = await ownAddresses(workspace, 3);
    const pods = await step("three pods serve it; the third mounts it by subPath", async () => {
      const started = [];
      for (const [n, host] of hosts.entries())
        started.push(
          await startPod(workspace, cluster, {
            ...{ namespace: "shop", name: `web-${n + 1}`, labels: { app: "web" }, secret: "shop-tls" },
            ...{ host, port: 8443, subPath: n === 2 },
          }),
        );
      await waitFor("three endpoints", async () => {
        const slices = await cluster.kubectl("-n", "shop", "get", "endpointslices", "-o", "json");
        return hosts.every((host) => slices.includes(host));
      });
      return started;
    });

    writeFileSync(
      path("gyre.yaml"),
      `apiVersion: gyre.dev/v1alpha1
kind: Cluster
metadata: { name: prod }
spec: { uid: ${cluster.uid}, kubeconfig: ${cluster.kubeconfig} }
---
apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: shop-ca }
spec: { ${before.manifest} }
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: shop-tls }
spec:
  issue: { issuer: shop-ca, dnsNames: [shop.example], lifetime: 24h }
  deliver:
    - secret: { cluster: prod, namespace: shop, name: shop-tls, takeOver: true }
  prove:
    - tls: { serverName: shop.example, endpoints: { cluster: prod, namespace: shop, service: web, port: https } }
  timing: { patience: 8s, poll: 500ms }
`,
    );
    const doctor = await step("gyre doctor, before anything is changed", () => gyre(dir, "doctor", "shop-tls"));
    say(doctor.out + doctor.err);
    expect("doctor names the pod that will not reload, and why", /web-3\b.*subPath/.test(doctor.out));
    expect("and accuses no other", !/web-[12]\b.*subPath/.test(doctor.out));

    const held = await step("gyre rotate shop-tls --now", () => gyre(dir, "rotate", "shop-tls", "--now"));
    say(held.out + held.err);
    // What each serves is asked outside, before Gyre's word is read.
    const served = await Promise.all(pods.map(({ address }) => servedFingerprint(address, "shop.example")));
    const old = fingerprintOf(path("g1.pem"));
    expect(`web-1 and web-2 serve the new one (${served})`, served[0] === served[1] && served[0] !== old);
    expect("web-3 still serves the old one", served[2] === old);
    expect("it holds, exit code 3", held.code === 3);
    const named = pods.map(({ address }) => held.out.includes(`${address} still presents g1`));
    expect(`it names web-3 and only that (${named})`, !named[0] && !named[1] && named[2] === true);
    expect("and says which pod it is", held.out.includes("still presents g1 (pod web-3"));

    await step("web-3 is replaced", () => pods[2]!.replace());
    const done = await step("gyre rotate shop-tls goes on", () => gyre(dir, "rotate", "shop-tls"));
    say(done.out + done.err);
    const now = await Promise.all(pods.map(({ address }) => servedFingerprint(address, "shop.example")));
    expect(
      `all serve the new one (${now})`,
      now.every((one) => one === served[0]),
    );
    expect("closed, exit code 0", done.code === 0 && /closed\s+SUPERSEDED/.test(done.out));
    const verified = await gyre(dir, "verify", receiptOf(dir), "--key", path(".gyre", "signing.pub"));
    expect(`VERIFIED\n${verified.out}${verified.err}`, verified.code === 0);
  },
};
