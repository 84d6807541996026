/** examples/haproxy on two HAProxy, one of which does not hear of its reloads. */
import { cpSync, symlinkSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { caBefore } from "../../lab/gyre.ts";
import { type Haproxy, startHaproxy } from "../../lab/peers/haproxy.ts";
import { fingerprintOf } from "../../lab/pki.ts";
import { accepts, servedFingerprint } from "../../lab/witness.ts";
import { makeExample } from "./fixtures/example.ts";

const example = makeExample("haproxy");
const { at, ends } = example;
const combined = at("/etc/haproxy/tls/shop.pem");
const crl = at("/etc/haproxy/tls/clients.crl");
const shopRoot = at("/etc/gyre/shop-root.pem");
const caller = { certificate: at("/etc/billing/tls.pem"), privateKey: at("/etc/billing/tls.key") };
let hears: Haproxy;
let deaf: Haproxy;
let failed = true;
afterAll(() => example.workspace.end({ failed }));

beforeAll(async () => {
  for (const name of ["clients", "servers"])
    writeFileSync(at(`/etc/gyre/${name}-ca.passphrase`), `${name}, a test\n`, { mode: 0o600 });
  const ca = (name: string, more: object) =>
    caBefore("/", "CN=Gyre local CA", {
      ...{
        directory: at(`/var/lib/gyre/${name}-ca`),
        passphrase: { file: at(`/etc/gyre/${name}-ca.passphrase`) },
        ...more,
      },
    });
  const servers = await ca("servers", { intermediate: true });
  const clients = await ca("clients", {});
  const shop = { subject: "CN=shop.example", names: ["DNS:shop.example"], usages: ["server"] } as const;
  (await servers.issue(shop)).writeCombined(combined);
  (await clients.issue({ subject: "CN=billing", names: [], usages: ["client"] })).writePem(
    caller.certificate,
    caller.privateKey,
  );
  servers.writeRoots(shopRoot);
  clients.writeRoots(at("/etc/haproxy/tls/clients.pem"));
  await clients.writeCrl(crl);
  const start = (name: string) =>
    startHaproxy(example.workspace, {
      ...{ name, combined, clientCa: at("/etc/haproxy/tls/clients.pem"), crl, tickets: "off" },
    });
  hears = await start("one");
  deaf = await start("two");
  symlinkSync(hears.configFile, at("/etc/haproxy/haproxy.cfg"));
  // What systemd would do to the one unit, it does to both: SIGUSR2 to the master; a client needs no reload.
  const tell = [hears, deaf].map(({ pidFile }) => `kill -USR2 "$(cat '${pidFile}')"`);
  example.program(
    "systemctl",
    `case "$*" in\n"reload haproxy") ${tell.join("; ")} ;;\n"reload billing") ;;\n*) exit 9 ;;\nesac`,
  );
  example.write([
    ["10.0.0.1:443", hears.address],
    ["10.0.0.2:443", deaf.address],
    ["/var/log/haproxy/10.0.0.1.log", hears.accessLog],
    ["/var/log/haproxy/10.0.0.2.log", deaf.accessLog],
    [", owner: root, group: haproxy", ""],
    [", owner: billing", ""],
    ["connectionAge: 1m, ticketLifetime: 5m", "connectionAge: 1s, ticketLifetime: 2s"],
  ]);
});

test("nothing stands in its way", async () => {
  expect((await ends(0, "doctor", "all")).match(/nothing stands in the way/g)).toHaveLength(3);
});

test("the server certificate: held while one HAProxy goes on with the old one, closed once it has reloaded", async () => {
  const old = await servedFingerprint(deaf.address, "shop.example");
  await deaf.ignoreReload(true);
  const held = await ends(3, "rotate", "shop-tls", "--now");
  expect(held).toContain(`${deaf.address} still presents g1`);
  expect(held).not.toContain(`${hears.address} still`);
  const seen = [hears, deaf].map(({ address }) => servedFingerprint(address, "shop.example"));
  expect(await Promise.all(seen)).toEqual([fingerprintOf(combined), old]);
  await deaf.ignoreReload(false);
  await deaf.reload();
  expect(await ends(0, "rotate", "shop-tls")).toMatch(/closed +SUPERSEDED/);
  expect(await servedFingerprint(deaf.address, "shop.example")).toBe(fingerprintOf(combined));
});

test("the caller's certificate: held while one HAProxy has the CRL of before, closed once it refuses", async () => {
  const before = { certificate: example.workspace.path("old.pem"), privateKey: example.workspace.path("old.key") };
  for (const part of ["certificate", "privateKey"] as const) cpSync(caller[part], before[part]);
  const ask = ({ address }: Haproxy, pair: typeof before) =>
    accepts(address, pair.certificate, pair.privateKey, { roots: shopRoot, name: "shop.example" });
  await deaf.ignoreReload(true);
  const held = await ends(3, "rotate", "billing", "--now");
  expect(held).toMatch(/HELD +refused/);
  expect(held).toContain(deaf.address);
  expect(await ask(hears, before)).toMatchObject({ saw: "alert" });
  expect(await ask(deaf, before)).toMatchObject({ saw: "reply", status: 200 });
  await deaf.ignoreReload(false);
  await deaf.reload();
  expect(await ends(0, "rotate", "billing")).toMatch(/closed +REFUSED/);
  for (const one of [hears, deaf]) {
    expect(await ask(one, before)).toMatchObject({ saw: "alert" });
    expect(await ask(one, caller)).toMatchObject({ saw: "reply", status: 200 });
  }
});

test("the CRL closes too, and all receipts are good", async () => {
  expect(await ends(0, "rotate", "clients.crl", "--now")).toContain("every place holds the new CRL");
  await example.verifyReceipts(3);
  failed = false;
});
