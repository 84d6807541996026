/** examples/envoy on four Envoy behind one name, one of which does not watch its files. */
import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../../lab/estate.ts";
import { caBefore } from "../../lab/gyre.ts";
import { type Envoy, startEnvoy } from "../../lab/peers/envoy.ts";
import { fingerprintOf } from "../../lab/pki.ts";
import { servedFingerprint } from "../../lab/witness.ts";
import { makeExample } from "./fixtures/example.ts";

const hosts = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"];
const example = makeExample("envoy", { "edge-replicas.internal": hosts });
const { at, ends } = example;
const files = { certificate: at("/etc/envoy/tls/edge.pem"), privateKey: at("/etc/envoy/tls/edge.key") };
const envoys: Envoy[] = [];
let failed = true;
afterAll(() => example.workspace.end({ failed }));

beforeAll(async () => {
  const passphrase = { file: at("/etc/gyre/mesh-ca.passphrase") };
  writeFileSync(passphrase.file, "only a test\n", { mode: 0o600 });
  const ca = await caBefore("/", "CN=Gyre local CA", { directory: at("/var/lib/gyre/mesh-ca"), passphrase });
  const names = ["DNS:edge.example", "DNS:*.edge.example"];
  (await ca.issue({ subject: "CN=edge.example", names, usages: ["server"] })).writePem(
    files.certificate,
    files.privateKey,
  );
  // The name has one port for all of them.
  const port = await freePort("0.0.0.0");
  for (const [index, host] of hosts.entries())
    envoys.push(
      await startEnvoy(example.workspace, { name: `edge-${index}`, host, port, ...files, watch: index !== 2 }),
    );
  example.write([
    ["edge-replicas.internal:8443", `edge-replicas.internal:${port}`],
    [", group: envoy", ""],
    ["patience: 1m, poll: 2s", "patience: 10s, poll: 1s"],
  ]);
});

const served = () => Promise.all(envoys.map(({ address }) => servedFingerprint(address, "edge.example")));

test("held while one Envoy goes on with what it read at its start, closed once it was started again", async () => {
  const [old] = await served();
  const deaf = envoys[2]!;
  expect(await ends(0, "doctor", "all")).toContain("nothing stands in the way");
  const held = await ends(3, "rotate", "edge-tls", "--now");
  const now = fingerprintOf(files.certificate);
  expect(held).toMatch(/adopted +3\/4 replicas present g2/);
  expect(held.match(/\S+ still presents g1/g)).toEqual([`${deaf.address} still presents g1`]);
  expect(await served()).toEqual([now, now, old, now]);
  await deaf.stop();
  await deaf.start();
  expect(await ends(0, "rotate", "edge-tls")).toMatch(/closed +SUPERSEDED/);
  expect(await served()).toEqual([now, now, now, now]);
  await example.verifyReceipts(1);
});

test("a replica that the name does not tell of is missed, before anything is changed", async () => {
  const before = await served();
  writeFileSync(
    example.workspace.path("hosts"),
    hosts
      .slice(1)
      .map((host) => `${host} edge-replicas.internal\n`)
      .join(""),
  );
  expect(await ends(3, "doctor", "edge-tls")).toMatch(/4 replicas expected, 3 addresses found/);
  expect(await served()).toEqual(before);
  failed = false;
});
