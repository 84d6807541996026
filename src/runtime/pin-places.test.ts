/** The file of pins before and after a first rotation that was given up. Files only; nobody answers at the address. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { afterEach, expect, test } from "vitest";
import { makeWorkspace, type Workspace } from "../../lab/estate.ts";
import { caBefore } from "../../lab/gyre.ts";
import { parseCertificates } from "../pki/certificate.ts";
import { openEstate } from "./estate.ts";

const open: Workspace[] = [];
afterEach(async () => {
  for (const workspace of open.splice(0)) await workspace.end();
});

async function scene() {
  const workspace = makeWorkspace("pin-places");
  open.push(workspace);
  const { dir, path } = workspace;
  writeFileSync(
    path("gyre.yaml"),
    `apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: self }
spec: { selfSigned: { directory: issued } }
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: mesh }
spec:
  issue: { issuer: self, subject: CN=mesh, dnsNames: [mesh.example], usages: [server, client], lifetime: 24h }
  deliver: [{ files: { certificate: tls.pem, privateKey: tls.key } }]
  trust: [{ files: { bundle: pins.pem }, reload: { command: [test, -e, ${path("server-runs")}] } }]
  prove:
    - mutualTls: { serverName: mesh.example, addresses: ["127.0.0.1:9"], refuses: pins, request: { identityHeader: x-serial } }
  timing: { patience: 1ms, poll: 1ms }
`,
  );
  const estate = () => openEstate({ manifests: [path("gyre.yaml")], stateDirectory: path(".gyre"), env: {} });
  const options = { waitUpTo: 1000, runner: "test", now: true };
  return {
    ...{ dir, path },
    rotate: async () => (await estate()).rotate("mesh", options),
    revert: async () => (await estate()).revert("mesh", { ...options, by: "ops", reason: "asked" }),
    told: async () => (await (await estate()).show("mesh")).entries.map(({ words }) => words).join("\n"),
  };
}

test("the first pin waits for the server that could not start without the file", async () => {
  const { rotate, path } = await scene();
  expect(await rotate()).toMatchObject({
    result: "held",
    stage: "created",
    reasons: [{ verdict: "failed", release: expect.stringMatching(/pins\.pem, then gyre rotate mesh$/) }],
  });
  expect(parseCertificates(readFileSync(path("pins.pem")))).toHaveLength(1);
  writeFileSync(path("server-runs"), "");
  expect(await rotate(), "asks the server next").toMatchObject({ result: "held", stage: "verified" });
});

test("given up: what was not there is not there again, and it is said", async () => {
  const { rotate, revert, path, told } = await scene();
  await rotate();
  expect(await revert()).toMatchObject({ result: "put back" });
  expect(existsSync(path("pins.pem"))).toBe(false);
  expect(await told()).toMatch(/pins\.pem no longer lists g1: it is gone again, as before/);
});

test("given up: an empty file is empty again", async () => {
  const { rotate, revert, path, told } = await scene();
  writeFileSync(path("pins.pem"), "");
  await rotate();
  expect(readFileSync(path("pins.pem"), "utf8")).not.toBe("");
  expect(await revert()).toMatchObject({ result: "put back" });
  expect(readFileSync(path("pins.pem"), "utf8")).toBe("");
  expect(await told()).toMatch(/pins\.pem no longer lists g1: it is empty again/);
});

test("given up: the pin that another credential put there meanwhile stays", async () => {
  const { rotate, revert, path, dir } = await scene();
  await rotate();
  const other = (await caBefore(dir, "CN=Other CA")).ca.roots();
  writeFileSync(path("pins.pem"), readFileSync(path("pins.pem"), "utf8") + other);
  expect(await revert()).toMatchObject({ result: "put back" });
  expect(readFileSync(path("pins.pem"), "utf8")).toBe(other);
});
