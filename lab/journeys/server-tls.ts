import { writeFileSync } from "node:fs";
import { caBefore, gyre, receiptOf, yamlCommand } from "../gyre.ts";
import type { Journey } from "../journey.ts";
import { startEnvoy } from "../peers/envoy.ts";
import { startHaproxy } from "../peers/haproxy.ts";
import { startNginx } from "../peers/nginx.ts";
import { fingerprintOf } from "../pki.ts";
import { servedFingerprint } from "../witness.ts";

export const journey: Journey = {
  summary: "a server certificate on nginx, HAProxy and Envoy to SUPERSEDED",
  async run({ workspace, step, say, expect }) {
    const { dir, path } = workspace;
    for (const name of ["n", "h", "e"]) workspace.folder(name);
    const before = await caBefore(dir, "CN=Journey server CA", { intermediate: true });
    const g1 = await before.issue({ subject: "CN=shop", names: ["DNS:shop.example"], usages: ["server"] });
    g1.writePem(path("n", "tls.pem"), path("n", "tls.key"));
    g1.writeCombined(path("h", "tls.pem"));
    g1.writePem(path("e", "tls.pem"), path("e", "tls.key"));
    const pair = (at: string) => ({ certificate: path(at, "tls.pem"), privateKey: path(at, "tls.key") });
    const nginx = await step("nginx", () =>
      startNginx(workspace, { name: "nginx", ...pair("n"), serverName: "shop.example" }),
    );
    const haproxy = await step("HAProxy", () =>
      startHaproxy(workspace, { name: "haproxy", combined: path("h", "tls.pem") }),
    );
    const envoy = await step("Envoy", () => startEnvoy(workspace, { name: "envoy", ...pair("e") }));
    const peers = [nginx, haproxy, envoy];

    writeFileSync(
      path("gyre.yaml"),
      `apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: server-ca }
spec:
  ${before.manifest}
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: shop-tls }
spec:
  issue: { issuer: server-ca, subject: CN=shop, dnsNames: [shop.example], lifetime: 24h }
  deliver:
    - files: { certificate: n/tls.pem, privateKey: n/tls.key }
      validate: ${yamlCommand(nginx.validateCommand)}
      reload: ${yamlCommand(nginx.reloadCommand)}
    - files: { combined: h/tls.pem }
      validate: ${yamlCommand(haproxy.validateCommand)}
      reload: ${yamlCommand(haproxy.reloadCommand)}
    # Envoy watches the directory: it sees a rename of the files themselves, and nothing has to tell it
    - files: { certificate: e/tls.pem, privateKey: e/tls.key, layout: rename }
      reload: { watch: true }
  prove:
    - tls: { serverName: shop.example, addresses: [${peers.map((one) => one.address).join(", ")}], replicas: 3 }
  timing: { patience: 10s, poll: 300ms }
`,
    );
    const rotated = await step("gyre rotate shop-tls --now", () => gyre(dir, "rotate", "shop-tls", "--now"));
    say(rotated.out + rotated.err);
    const wanted = fingerprintOf(path("n", "tls.pem"));
    for (const peer of peers) {
      const served = await servedFingerprint(peer.address, "shop.example");
      expect(`${peer.name} serves g2: ${served}`, served === wanted);
    }
    expect("gyre said closed, exit code 0", rotated.code === 0);
    expect("the grade is SUPERSEDED", /closed\s+SUPERSEDED/.test(rotated.out));
    await step("the receipt verifies", async () => {
      const verified = await gyre(dir, "verify", receiptOf(dir), "--key", path(".gyre", "signing.pub"));
      expect(`VERIFIED\n${verified.out}${verified.err}`, verified.code === 0 && verified.out.startsWith("VERIFIED"));
    });
  },
};
