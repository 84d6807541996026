import { writeFileSync } from "node:fs";
import { startClient } from "../clients/client.ts";
import { waitFor } from "../estate.ts";
import { caBefore, gyre, receiptOf, yamlCommand } from "../gyre.ts";
import type { Journey } from "../journey.ts";
import { startBalancer } from "../peers/haproxy.ts";
import { startNginx } from "../peers/nginx.ts";
import { fingerprintOf, issue, makeAuthority } from "../pki.ts";
import { accepts } from "../witness.ts";

export const journey: Journey = {
  summary: "a client certificate to REFUSED through a CRL, on three nginx behind HAProxy, each dialled itself",
  async run({ workspace, step, say, expect }) {
    const { dir, path } = workspace;
    const before = await caBefore(dir, "CN=Journey client CA", { intermediate: true });
    before.writeRoots(path("client-ca.pem"));
    const names = ["nginx-1", "nginx-2", "nginx-3"];
    await before.writeCrl(...names.map((name) => path(`${name}.crl`)));
    const g1 = await before.issue({ subject: "CN=billing", names: [], usages: ["client"] });
    g1.writePem(path("billing.pem"), path("billing.key"));
    g1.writePem(path("kept-g1.pem"), path("kept-g1.key"));

    const serverCa = makeAuthority(dir, { name: "server-ca" });
    const server = issue(serverCa, { name: "server" });
    const nginxes = await step("three nginx ask for client certificates and check a CRL", () =>
      Promise.all(
        names.map((name) =>
          startNginx(workspace, {
            ...{ name, certificate: server.chain, privateKey: server.privateKey },
            ...{ clientCa: path("client-ca.pem"), crl: path(`${name}.crl`), verify: "on" },
          }),
        ),
      ),
    );
    const balancer = await step("HAProxy in front of them", () =>
      startBalancer(workspace, { name: "balancer", backends: nginxes.map((one) => one.address) }),
    );
    const client = await step("a client calls through it with g1", () =>
      startClient(workspace, {
        ...{
          name: "billing",
          address: balancer.address,
          certificate: path("billing.pem"),
          privateKey: path("billing.key"),
        },
        ...{ roots: serverCa.certificate, reread: true, every: 100 },
      }),
    );

    writeFileSync(
      path("gyre.yaml"),
      `apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: client-ca }
spec:
  ${before.manifest}
  crl:
    lifetime: 24h
    deliver:
${nginxes.map((one) => `      - files: { crl: ${one.name}.crl, mode: "0644" }\n        reload: ${yamlCommand(one.reloadCommand)}`).join("\n")}
    prove:
      - mutualTls: { server: nginx, serverName: localhost, roots: ${serverCa.certificate}, refuses: crl, request: { identityHeader: X-Client-Serial }, addresses: [${nginxes.map((one) => one.address).join(", ")}] }
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: billing }
spec:
  issue: { issuer: client-ca, subject: CN=billing, usages: [client], lifetime: 24h }
  deliver:
    - files: { certificate: billing.pem, privateKey: billing.key }
      reload: { watch: true }
  prove:
    - mutualTls: { server: nginx, serverName: localhost, roots: ${serverCa.certificate}, refuses: crl, request: { identityHeader: X-Client-Serial }, addresses: [${nginxes.map((one) => one.address).join(", ")}] }
${nginxes.map((one) => `    - accessLog: { server: nginx, path: ${one.name}/access.log, member: "${one.address}", mustSeeNewUse: true }`).join("\n")}
  quiet: { window: 3s }
  timing: { patience: 10s, poll: 500ms }
`,
    );

    const rotated = await step("gyre rotate billing --now", () => gyre(dir, "rotate", "billing", "--now"));
    say(rotated.out + rotated.err);
    // Who really accepts what is asked outside, before Gyre's word is read.
    for (const nginx of nginxes) {
      const old = await accepts(nginx.address, path("kept-g1.pem"), path("kept-g1.key"), {
        roots: serverCa.certificate,
      });
      const now = await accepts(nginx.address, path("billing.pem"), path("billing.key"), {
        roots: serverCa.certificate,
      });
      expect(
        `${nginx.name} refuses g1 (it ${old.saw} ${old.saw === "reply" ? old.status : ""})`,
        old.saw === "reply" && old.status === 400,
      );
      expect(`${nginx.name} accepts g2 (it ${now.saw})`, now.saw === "reply" && now.status === 200);
    }
    expect("gyre said closed, exit code 0", rotated.code === 0);
    expect("the grade is REFUSED", /closed\s+REFUSED/.test(rotated.out));

    await step("the client was never turned away", async () => {
      const changed = await waitFor(
        "its calls with g2",
        () => client.uses().length > 0 && client.uses().at(-1)?.status === 200,
      );
      expect("the client goes on", changed);
      expect(
        "no call failed",
        client.uses().every((use) => use.status === 200),
      );
    });

    await step("the receipt verifies with its journal and evidence", async () => {
      const verified = await gyre(
        dir,
        "verify",
        receiptOf(dir),
        "--key",
        path(".gyre", "signing.pub"),
        "--journal",
        path(".gyre", "credentials", "billing", "journal.jsonl"),
      );
      expect(`VERIFIED\n${verified.out}${verified.err}`, verified.code === 0 && verified.out.startsWith("VERIFIED"));
    });
    await step("gyre who finds where g2 lies", async () => {
      const found = await gyre(dir, "who", fingerprintOf(path("billing.pem")).slice(0, 16));
      expect(found.out + found.err, found.out.includes("billing.pem"));
    });
    await step("a CRL of its own, proven at every nginx by a canary", async () => {
      const crl = await gyre(dir, "rotate", "client-ca.crl", "--now");
      say(crl.out + crl.err);
      expect("closed", crl.code === 0);
    });
  },
};
