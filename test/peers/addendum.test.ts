import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { caBefore, gyre, yamlCommand } from "../../lab/gyre.ts";
import { startNginx } from "../../lab/peers/nginx.ts";
import { useWorkspace } from "../../lab/testing.ts";
import { loadManifests } from "../../src/manifest/load.ts";
import { verifyReceipt } from "../../src/receipt/verify.ts";
import { FileEstate } from "../../src/runtime/estate.ts";

const workspace = useWorkspace("addendum");
const day = 86_400_000;

it("a grade that comes later is an addendum receipt", async () => {
  const { dir, path } = workspace;
  const before = await caBefore(dir, "CN=Addendum CA");
  const g1 = await before.issue({ subject: "CN=shop", names: ["DNS:shop.example"], usages: ["server"] });
  g1.writePem(path("tls.pem"), path("tls.key"));
  const nginx = await startNginx(workspace, {
    name: "nginx",
    certificate: path("tls.pem"),
    privateKey: path("tls.key"),
    serverName: "shop.example",
  });
  writeFileSync(
    path("gyre.yaml"),
    `apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: ca }
spec: { ${before.manifest} }
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: shop-tls }
spec:
  issue: { issuer: ca, subject: CN=shop, dnsNames: [shop.example], lifetime: 30d }
  renew: { after: 90% }
  deliver: [{ files: { certificate: tls.pem, privateKey: tls.key }, reload: ${yamlCommand(nginx.reloadCommand)} }]
  prove: [{ tls: { serverName: shop.example, addresses: ["${nginx.address}"] } }]
  timing: { patience: 5s, poll: 200ms }
`,
  );
  const closed = await gyre(dir, "rotate", "shop-tls", "--now");
  expect(closed.code, closed.out + closed.err).toBe(0);
  const at = async (now: number) => {
    const estate = new FileEstate(await loadManifests([path("gyre.yaml")], {}), path(".gyre"), {
      now: () => now,
      sleep: async () => undefined,
    });
    return estate.rotate("shop-tls", { waitUpTo: 0, runner: "test" });
  };
  const addendum = join(dir, ".gyre", "receipts", "1.json");
  // g1 lives a day: half a day later nothing has come, two days later it has, and another run adds no second one.
  expect((await at(Date.now() + day / 2)).result).toBe("nothing due");
  expect(existsSync(addendum)).toBe(false);
  expect((await at(Date.now() + 2 * day)).result).toBe("nothing due");
  expect((await at(Date.now() + 3 * day)).result).toBe("nothing due");
  expect(existsSync(join(dir, ".gyre", "receipts", "2.json"))).toBe(false);
  const pin = readFileSync(path(".gyre", "signing.pub"), "utf8");
  const judged = await verifyReceipt(readFileSync(addendum), { pin });
  expect(judged.problems).toEqual([]);
  expect(judged.statement?.predicate).toMatchObject({ grade: "EXPIRED", rotation: "shop-tls/1" });
  expect(judged.statement?.predicate.addendumTo).toBeDefined();
});
