/** nginx does not start without the file that `ssl_crl` names, so its first CRL is there before it, and before its proof. */
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { expect, it } from "vitest";
import { caBefore, gyre, yamlCommand } from "../../lab/gyre.ts";
import { startNginx } from "../../lab/peers/nginx.ts";
import { runCommand } from "../../lab/peers/peer.ts";
import { issue, makeAuthority } from "../../lab/pki.ts";
import { useWorkspace, verdict } from "../../lab/testing.ts";
import { verifyReceipt } from "../../src/receipt/verify.ts";

const workspace = useWorkspace("first-crl");

it.each([false, true])("a first CRL, then nginx, then the proof (with an intermediate: %s)", async (intermediate) => {
  const home = workspace.folder(`home-${intermediate}`);
  const path = (name: string) => `${home}/${name}`;
  const before = await caBefore(home, "CN=First CA", { intermediate });
  before.writeRoots(path("ca.pem"));
  const client = await before.issue({ subject: "CN=client", names: [], usages: ["client"] });
  client.writePem(path("client.pem"), path("client.key"));
  const own = issue(makeAuthority(home, { name: "server-ca" }), { name: "server" });
  // As it will run; then taken back to the day before.
  await before.writeCrl(path("ca.crl"));
  const nginx = await startNginx(workspace, {
    ...{ name: `nginx-${intermediate}`, certificate: own.chain, privateKey: own.privateKey },
    ...{ clientCa: path("ca.pem"), crl: path("ca.crl"), verify: "on" },
  });
  await nginx.stop();
  rmSync(path("ca.crl"));
  await expect(runCommand(nginx.validateCommand)).rejects.toThrow(/ca\.crl/);
  writeFileSync(
    path("gyre.yaml"),
    `apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: ca }
spec:
  ${before.manifest}
  crl:
    lifetime: 24h
    deliver: [{ files: { crl: ca.crl, mode: "0644" }, reload: ${yamlCommand(nginx.reloadCommand)} }]
    prove: [{ mutualTls: { server: nginx, serverName: localhost, refuses: crl, request: { identityHeader: X-Client-Serial }, addresses: ["${nginx.address}"] } }]
`,
  );
  const held = await gyre(home, "rotate", "ca.crl");
  expect(held.code, held.out + held.err).toBe(3);
  expect(held.out).toMatch(/next: start what reads .*ca\.crl, then gyre rotate ca\.crl/);
  expect(existsSync(path("ca.crl"))).toBe(true);

  expect(await runCommand(nginx.validateCommand)).toContain("test is successful");
  await nginx.start();
  const closed = await gyre(home, "rotate", "ca.crl");
  expect(closed.code, closed.out + closed.err).toBe(0);
  const pin = readFileSync(path(".gyre/signing.pub"), "utf8");
  const judged = await verifyReceipt(readFileSync(path(".gyre/receipts/0.json")), { pin });
  expect(judged.problems).toEqual([]);
  expect(judged.statement?.predicate.grade).toBe("FIRST");
  const pair = { ...own, name: "client", chain: path("client.pem"), privateKey: path("client.key") };
  expect(await verdict(nginx.address, pair)).toBe("200");
});
