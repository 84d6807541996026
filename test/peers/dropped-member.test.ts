import { readFileSync, writeFileSync } from "node:fs";
import { expect, it } from "vitest";
import { caBefore, gyre, yamlCommand } from "../../lab/gyre.ts";
import { startNginx } from "../../lab/peers/nginx.ts";
import { useWorkspace } from "../../lab/testing.ts";

const workspace = useWorkspace("dropped");

it("a replica taken out of the manifest in mid-rotation is not proven by being forgotten", async () => {
  const { dir, path } = workspace;
  const before = await caBefore(dir, "CN=Dropped CA");
  const g1 = await before.issue({ subject: "CN=shop", names: ["DNS:shop.example"], usages: ["server"] });
  g1.writePem(path("tls.pem"), path("tls.key"));
  const start = (name: string) =>
    startNginx(workspace, {
      name,
      certificate: path("tls.pem"),
      privateKey: path("tls.key"),
      serverName: "shop.example",
    });
  const [good, deaf] = await Promise.all([start("good"), start("deaf")]);
  const manifest = (addresses: readonly string[]) => `apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: ca }
spec: { ${before.manifest} }
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: shop-tls }
spec:
  issue: { issuer: ca, subject: CN=shop, dnsNames: [shop.example], lifetime: 24h }
  deliver: [{ files: { certificate: tls.pem, privateKey: tls.key }, reload: ${yamlCommand(good.reloadCommand)} }]
  prove: [{ tls: { serverName: shop.example, addresses: ${JSON.stringify(addresses)} } }]
  timing: { patience: 1s, poll: 200ms }
`;
  writeFileSync(path("gyre.yaml"), manifest([good.address, deaf.address]));
  const held = await gyre(dir, "rotate", "shop-tls", "--now");
  expect(held.code, held.out).toBe(3);
  expect(held.out).toContain(`${deaf.address} still presents g1`);

  writeFileSync(path("gyre.yaml"), manifest([good.address]));
  const dropped = await gyre(dir, "rotate", "shop-tls");
  expect(dropped.code, dropped.out).toBe(3);
  expect(dropped.out.replace(/\s+/g, " ")).toContain(`${deaf.address} is in the plan and no longer in the manifest`);
  expect(dropped.out.replace(/\s+/g, " ")).toContain("it still presents g1");

  const waived = await gyre(dir, "waive", "shop-tls", deaf.address, "--reason", "the machine was taken apart");
  expect(waived.code, waived.err).toBe(0);
  const closed = await gyre(dir, "rotate", "shop-tls");
  expect(closed.code, closed.out + closed.err).toBe(0);
  const journal = readFileSync(path(".gyre", "credentials", "shop-tls", "journal.jsonl"), "utf8");
  expect(journal).toContain("the machine was taken apart");
});
