import { writeFileSync } from "node:fs";
import { expect, it } from "vitest";
import { caBefore, gyre, yamlCommand } from "../../lab/gyre.ts";
import { startBalancer } from "../../lab/peers/haproxy.ts";
import { startNginx } from "../../lab/peers/nginx.ts";
import { issue, makeAuthority } from "../../lab/pki.ts";
import { useWorkspace } from "../../lab/testing.ts";

const workspace = useWorkspace("two-states");

it("an address that answers from two states is held, whichever answers first", async () => {
  const { dir, path } = workspace;
  const before = await caBefore(dir, "CN=Two CA");
  before.writeRoots(path("ca.pem"));
  const g1 = await before.issue({ subject: "CN=shop", names: ["DNS:localhost"], usages: ["server"] });
  for (const name of ["split", "balanced", "whole"]) g1.writePem(path(`${name}.pem`), path(`${name}.key`));
  const server = (name: string, pair: string, splitWorkers = false) =>
    startNginx(workspace, {
      ...{ name, splitWorkers, serverName: "localhost" },
      ...{ certificate: path(`${pair}.pem`), privateKey: path(`${pair}.key`) },
    });
  // A half-finished upgrade of the program: two masters on the port, and the pid file names one of them.
  const split = await server("split", "split", true);
  const told = await server("told", "balanced");
  const deaf = await server("deaf", "balanced");
  const balancer = await startBalancer(workspace, { name: "balancer", backends: [told.address, deaf.address] });
  const whole = await server("whole", "whole");

  const billing = await before.issue({ subject: "CN=billing", names: [], usages: ["client"] });
  billing.writePem(path("billing.pem"), path("billing.key"));
  await before.writeCrl(path("ca.crl"));
  const own = issue(makeAuthority(dir, { name: "server-ca" }), { name: "server" });
  const verifier = await startNginx(workspace, {
    ...{ name: "verifier", splitWorkers: true, certificate: own.chain, privateKey: own.privateKey },
    ...{ clientCa: path("ca.pem"), crl: path("ca.crl"), verify: "on", tickets: "off" },
  });

  const tls = (name: string, reload: readonly string[], address: string) => `---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: ${name} }
spec:
  issue: { issuer: ca, subject: CN=shop, dnsNames: [localhost], lifetime: 24h }
  deliver: [{ files: { certificate: ${name}.pem, privateKey: ${name}.key }, reload: ${yamlCommand(reload)} }]
  prove: [{ tls: { serverName: localhost, addresses: ["${address}"] } }]
  timing: { patience: 2s, poll: 200ms }
`;
  writeFileSync(
    path("gyre.yaml"),
    `apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: ca }
spec:
  ${before.manifest}
  crl: { lifetime: 24h, deliver: [{ files: { crl: ca.crl, mode: "0644" }, reload: ${yamlCommand(verifier.reloadCommand)} }] }
${tls("split", split.reloadCommand, split.address)}${tls("balanced", told.reloadCommand, balancer.address)}${tls("whole", whole.reloadCommand, whole.address)}---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: billing }
spec:
  issue: { issuer: ca, subject: CN=billing, usages: [client], lifetime: 24h }
  deliver: [{ files: { certificate: billing.pem, privateKey: billing.key }, reload: { watch: true } }]
  prove:
    - mutualTls: { server: nginx, serverName: localhost, refuses: crl, request: { identityHeader: X-Client-Serial }, addresses: ["${verifier.address}"] }
  quiet: { window: 1s }
  timing: { patience: 2s, poll: 200ms }
`,
  );
  for (const name of ["split", "balanced", "billing"]) {
    const held = await gyre(dir, "rotate", name, "--now");
    expect(held.code, held.out + held.err).toBe(3);
  }
  const closed = await gyre(dir, "rotate", "whole", "--now");
  expect(closed.code, closed.out + closed.err).toBe(0);
});
