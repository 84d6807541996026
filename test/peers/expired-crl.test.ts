import { readFileSync, writeFileSync } from "node:fs";
import { expect, it } from "vitest";
import { caBefore, gyre, yamlCommand } from "../../lab/gyre.ts";
import { startNginx } from "../../lab/peers/nginx.ts";
import { issue, makeAuthority } from "../../lab/pki.ts";
import { useWorkspace } from "../../lab/testing.ts";
import { verifyReceipt } from "../../src/receipt/verify.ts";

const workspace = useWorkspace("expired-crl");
const day = 86_400_000;

it.each(["asked", "not asked"])("a CRL that expired is replaced, with the verifiers %s", async (verifiers) => {
  const { dir } = workspace;
  const home = workspace.folder(verifiers.replace(" ", "-"));
  const path = (name: string) => `${home}/${name}`;
  // A CRL lives a week.
  const before = await caBefore(home, "CN=Old CA", {}, 8 * day);
  before.writeRoots(path("ca.pem"));
  await before.writeCrl(path("ca.crl"));
  const own = issue(makeAuthority(dir, { name: "server-ca" }), { name: "server" });
  const nginx = await startNginx(workspace, {
    ...{ name: `nginx ${verifiers}`.replaceAll(" ", "-"), certificate: own.chain, privateKey: own.privateKey },
    ...{ clientCa: path("ca.pem"), crl: path("ca.crl"), verify: "on" },
  });
  const entry = `{ server: nginx, serverName: localhost, refuses: crl, request: { identityHeader: X-Client-Serial }, addresses: ["${nginx.address}"] }`;
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
${verifiers === "asked" ? `    prove: [{ mutualTls: ${entry} }]` : ""}
`,
  );
  const closed = await gyre(home, "rotate", "ca.crl", "--now");
  expect(closed.code, closed.out + closed.err).toBe(0);
  const judged = await verifyReceipt(readFileSync(path(".gyre/receipts/0.json")), {
    pin: readFileSync(path(".gyre/signing.pub"), "utf8"),
  });
  expect(judged.problems).toEqual([]);
  expect(judged.statement?.predicate.grade).toBe("EXPIRED");
});
