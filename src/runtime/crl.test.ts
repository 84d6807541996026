import { writeFileSync } from "node:fs";
import { afterEach, expect, test } from "vitest";
import { makeWorkspace, type Workspace } from "../../lab/estate.ts";
import { caBefore } from "../../lab/gyre.ts";
import { startNodeTls } from "../../lab/peers/tls-server.ts";
import { issue, makeAuthority } from "../../lab/pki.ts";
import { verdict } from "../../lab/testing.ts";
import type { Estate } from "./api.ts";
import { openEstate } from "./estate.ts";

const open: Workspace[] = [];
afterEach(async () => {
  for (const workspace of open.splice(0)) await workspace.end();
});

const hour = 3600_000;

/** A real server that checks client certificates against the CRL in place, which was signed `age` ago to last an hour. */
async function scene(age: number): Promise<{ estate: () => Promise<Estate>; saysTo: () => Promise<string> }> {
  const workspace = makeWorkspace("crl");
  open.push(workspace);
  const { dir, path } = workspace;
  await caBefore(dir, "CN=CRL CA", {}, 24 * hour);
  const ca = await caBefore(dir, "CN=CRL CA", { crlLifetime: "1h" }, age);
  ca.writeRoots(path("ca.pem"));
  await ca.writeCrl(path("ca.crl"));
  const client = await (await caBefore(dir, "CN=CRL CA")).issue({ subject: "CN=c", names: [], usages: ["client"] });
  client.writePem(path("client.pem"), path("client.key"));
  const serverCa = makeAuthority(dir, { name: "server-ca" });
  const pair = issue(serverCa, { name: "server" });
  const files = { certificate: pair.chain, privateKey: pair.privateKey, clientCa: path("ca.pem"), crl: path("ca.crl") };
  const server = await startNodeTls(workspace, { name: "server", ...files });
  writeFileSync(
    path("gyre.yaml"),
    `apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: ca }
spec:
  ${(await caBefore(dir, "CN=CRL CA")).manifest}
  crl:
    lifetime: 24h
    deliver: [{ files: { crl: ca.crl }, reload: { signal: SIGHUP, pidFile: ${server.pidFile} } }]
    prove: [{ mutualTls: { serverName: localhost, addresses: ["${server.address}"], refuses: crl, request: { identityHeader: x-client-serial } } }]
`,
  );
  return {
    estate: () => openEstate({ manifests: [path("gyre.yaml")], stateDirectory: path(".gyre"), env: {} }),
    saysTo: () =>
      verdict(server.address, { ...pair, name: "c", chain: path("client.pem"), privateKey: path("client.key") }),
  };
}

const options = { waitUpTo: 20_000, runner: "test" };

test("a CRL that lapsed is replaced: the server that refused everybody accepts again", async () => {
  const { estate, saysTo } = await scene(2 * hour);
  expect(await saysTo()).toBe("certificate_expired");
  expect(await (await estate()).rotate("ca.crl", options)).toMatchObject({ result: "closed", grade: "EXPIRED" });
  expect(await saysTo()).toBe("200");
});

test("a CRL in its time is replaced, and who knows since when the journal has each", async () => {
  const { estate, saysTo } = await scene(40 * 60_000);
  expect(await saysTo()).toBe("200");
  const asked = await estate();
  const { plan } = await asked.plan("ca.crl");
  expect(plan?.grade).toMatchObject({
    reachable: "SUPERSEDED",
    why: expect.stringContaining("replaced, never refused"),
  });
  expect(await (await estate()).rotate("ca.crl", options)).toMatchObject({ result: "closed", grade: "SUPERSEDED" });
  const { lineage, entries } = await asked.show("ca.crl");
  for (const [number, words] of [
    [1, /^found g1/],
    [2, / by CN=CRL CA, until /],
  ] as const) {
    const [told] = (await asked.who(lineage.generations.get(number)!.fingerprint)).filter(
      ({ how }) => how === "issued",
    );
    expect(told?.at).toBe(entries.find((entry) => words.test(entry.words))?.at);
    expect(told?.at).toBeGreaterThan(lineage.generations.get(number)!.notBefore);
    expect(/found at /.test(told!.detail)).toBe(number === 1);
  }
});
