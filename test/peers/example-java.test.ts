/** examples/java-keystore on two Java services that read their key store once: only a restart shows them another. */
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { caBefore } from "../../lab/gyre.ts";
import type { Peer } from "../../lab/peers/peer.ts";
import { startJavaServer } from "../../lab/peers/tls-server.ts";
import { openssl } from "../../lab/pki.ts";
import { servedFingerprint } from "../../lab/witness.ts";
import { makeExample } from "./fixtures/example.ts";

const example = makeExample("java-keystore");
const { at, ends } = example;
const keystore = at("/etc/orders/keystore.p12");
const password = "only-a-test";
const services: Peer[] = [];
let reached: Peer[] = [];
let failed = true;

/** What the operator's script asks to have the services restarted, one after the other; it ends when they are up. */
const operator = createServer(async (_, answer) => {
  try {
    for (const one of reached) {
      await one.stop();
      await one.start();
    }
    answer.end();
  } catch (error) {
    answer.writeHead(500).end(String(error));
  }
});
afterAll(async () => {
  operator.close();
  await example.workspace.end({ failed });
});

beforeAll(async () => {
  const passphrase = { file: at("/etc/gyre/backend-ca.passphrase") };
  writeFileSync(passphrase.file, "only a test\n", { mode: 0o600 });
  writeFileSync(at("/etc/orders/keystore.password"), `${password}\n`, { mode: 0o600 });
  const ca = await caBefore("/", "CN=Gyre local CA", { directory: at("/var/lib/gyre/backend-ca"), passphrase });
  const pem = { certificate: example.workspace.path("before.pem"), privateKey: example.workspace.path("before.key") };
  const order = { subject: "CN=orders.internal", names: ["DNS:orders.internal"], usages: ["server"] } as const;
  (await ca.issue(order)).writePem(pem.certificate, pem.privateKey);
  openssl([
    ...["pkcs12", "-export", "-in", pem.certificate, "-inkey", pem.privateKey, "-name", "orders"],
    ...["-passout", `pass:${password}`, "-out", keystore],
  ]);
  for (const name of ["one", "two"])
    services.push(await startJavaServer(example.workspace, { name, keystore, password }));
  await new Promise<void>((listening) => operator.listen(0, "127.0.0.1", listening));
  const { port } = operator.address() as AddressInfo;
  example.program("/usr/local/sbin/restart-orders", `exec curl -sS --fail --noproxy '*' http://127.0.0.1:${port}/`);
  example.write([
    ["10.0.1.1:8443", services[0]!.address],
    ["10.0.1.2:8443", services[1]!.address],
    ["        owner: orders\n", ""],
    ["patience: 10m, poll: 5s", "patience: 5s, poll: 1s"],
  ]);
});

const served = () => Promise.all(services.map(({ address }) => servedFingerprint(address, "orders.internal")));
const stored = (): string =>
  openssl(["pkcs12", "-in", keystore, "-passin", `pass:${password}`, "-nokeys", "-clcerts"]).replace(
    /[\s\S]*?(-----BEGIN)/,
    "$1",
  );

test("held while one service was not restarted, closed once it was", async () => {
  const [old] = await served();
  const [reachable, deaf] = [services[0]!, services[1]!];
  reached = [reachable];
  expect(await ends(0, "doctor", "all")).toContain("nothing stands in the way");
  const held = await ends(3, "rotate", "orders-tls", "--now");
  expect(held).toMatch(/adopted +1\/2 replicas present g2/);
  expect(held.match(/\S+ still presents g1/g)).toEqual([`${deaf.address} still presents g1`]);
  const now = openssl(["x509", "-noout", "-fingerprint", "-sha256"], stored())
    .trim()
    .replace(/^.*=/, "")
    .replaceAll(":", "")
    .toLowerCase();
  expect(now).not.toBe(old);
  expect(await served()).toEqual([now, old]);
  await deaf.stop();
  await deaf.start();
  expect(await ends(0, "rotate", "orders-tls")).toMatch(/closed +SUPERSEDED/);
  expect(await served()).toEqual([now, now]);
});

test("with both restarted by the command the next one closes at once", async () => {
  const before = await served();
  reached = services;
  expect(await ends(0, "rotate", "orders-tls", "--now")).toMatch(/closed +SUPERSEDED/);
  for (const [index, print] of (await served()).entries()) expect(print).not.toBe(before[index]);
  await example.verifyReceipts(2);
  failed = false;
});
