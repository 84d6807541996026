import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { type CaBefore, caBefore } from "../../lab/gyre.ts";
import { targetSettings } from "../drivers/files/settings.ts";
import { createFilesTarget } from "../drivers/files/target.ts";
import type { Event } from "../engine/events.ts";
import { emptyLineage } from "../engine/state.ts";
import { openEvidence } from "../journal/evidence.ts";
import { openSecrets } from "../journal/secrets.ts";
import type { Estate } from "./api.ts";
import { openEstate } from "./estate.ts";
import { adoptFound, findInPlace } from "./found.ts";

const homes: string[] = [];
afterEach(() => {
  for (const home of homes.splice(0)) rmSync(home, { recursive: true, force: true });
});

const hour = 3600_000;
const day = 24 * hour;

interface Scene {
  readonly home: string;
  readonly ca: CaBefore;
  path(...parts: string[]): string;
  open(): Promise<Estate>;
  /** Every file and directory, with content. */
  everything(): string;
}

/** A CA, and a manifest for one certificate at two places and the CA's CRL at two; nothing answers at the address. */
async function scene(): Promise<Scene> {
  const home = await mkdtemp(join(tmpdir(), "gyre-found-"));
  homes.push(home);
  const path = (...parts: string[]) => join(home, ...parts);
  const ca = await caBefore(home, "CN=Found CA");
  for (const name of ["a", "b"]) mkdirSync(path(name));
  const files = (name: string) => `    - files: { certificate: ${name}/tls.pem, privateKey: ${name}/tls.key }`;
  writeFileSync(
    path("gyre.yaml"),
    `apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: ca }
spec:
  ${ca.manifest}
  crl: { lifetime: 7d, deliver: [{ files: { crl: a/ca.crl } }, { files: { crl: b/ca.crl } }] }
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: shop }
spec:
  issue: { issuer: ca, dnsNames: [shop.example], lifetime: 24h }
  deliver:
${files("a")}
${files("b")}
  prove: [{ tls: { serverName: shop.example, addresses: ["127.0.0.1:9"] } }]
  timing: { patience: 1ms, poll: 1ms }
`,
  );
  return {
    home,
    ca,
    path,
    open: () => openEstate({ manifests: [path("gyre.yaml")], stateDirectory: path(".gyre"), env: {} }),
    everything: () =>
      readdirSync(home, { recursive: true, withFileTypes: true })
        .map(
          (entry) =>
            join(entry.parentPath, entry.name) +
            (entry.isFile() ? readFileSync(join(entry.parentPath, entry.name), "latin1") : ""),
        )
        .sort()
        .join("\n"),
  };
}

async function withPair({ ca, path }: Scene, ...places: string[]): Promise<void> {
  const pair = await ca.issue({
    subject: "CN=shop",
    names: ["DNS:shop.example"],
    usages: ["server"],
    lifetime: 30 * day,
  });
  for (const place of places) pair.writePem(path(place, "tls.pem"), path(place, "tls.key"));
}

const shopOf = async (estate: Estate) => (await estate.status()).find(({ name }) => name === "shop")!;
const options = { now: true, waitUpTo: 0, runner: "test" };

test("what is in place is planned for and told as the old generation, and asking writes nothing", async () => {
  const it = await scene();
  await withPair(it, "a", "b");
  const before = it.everything();
  const estate = await it.open();

  const quiet = await estate.plan("shop");
  expect(quiet.due.action).toBe("wait");
  const planned = await estate.plan("shop", { now: true });
  expect(planned.plan?.from).toMatchObject({ number: 1, subject: "CN=shop" });
  expect(planned.plan?.to).toBe(2);
  const status = await shopOf(estate);
  expect(status.current).toEqual(planned.plan?.from);
  expect(status.due?.action).toBe("wait");
  expect(status.unread).toBeUndefined();
  await estate.who("0123456789abcdef");
  await estate.doctor("shop");
  expect(it.everything()).toBe(before);

  // To the last field it is what the rotation takes in and plans on.
  await (await it.open()).rotate("shop", { ...options, reason: planned.plan!.reason });
  const { lineage, entries } = await estate.show("shop");
  expect(lineage.rotations[0]?.plan.from).toEqual(planned.plan?.from);
  expect(entries[0]?.words).toContain("found g1");
});

test("one of ours that somebody put back brings its key, which had been deleted", async () => {
  const it = await scene();
  await withPair(it, "a");
  const files = { certificate: it.path("a", "tls.pem"), privateKey: it.path("a", "tls.key") };
  const instance = createFilesTarget(targetSettings.parse(files), { baseDir: it.home });
  const targets = [{ id: "a", driver: "files", instance }];
  const sought = { name: "shop", kind: "certificate" } as const;
  const found = await findInPlace(targets, sought, emptyLineage());
  const secrets = await openSecrets(it.path("secrets"), { file: it.path("store.key") });
  const lineage = { ...emptyLineage(), generations: new Map([[1, found!.generation]]), current: 2 };
  const appended: Event[] = [];
  const runner = { lineage, append: async (...events: Event[]) => void appended.push(...events) };
  await adoptFound(runner, { parties: { targets }, secrets, evidence: openEvidence(it.path("evidence")) }, sought);
  expect(appended).toMatchObject([{ type: "GenerationAdopted", generation: { number: 1 } }]);
  expect(await secrets.list()).toEqual(["shop/g1.key"]);
});

test("nothing in place is a first issue, due now", async () => {
  const it = await scene();
  const estate = await it.open();
  expect((await estate.plan("shop")).plan).toMatchObject({ to: 1, grade: { reachable: "FIRST" } });
  expect((await shopOf(estate)).due?.action).toBe("rotate");
});

test("what somebody put there after the last rotation is the one in use", async () => {
  const it = await scene();
  await it.ca.writeCrl(it.path("a", "ca.crl"), it.path("b", "ca.crl"));
  const rotated = await (await it.open()).rotate("ca.crl", options);
  expect(rotated).toMatchObject({ result: "closed" });
  const numbers = async () => (await (await it.open()).status()).find(({ name }) => name === "ca.crl")?.current?.number;
  expect(await numbers()).toBe(2);
  await it.ca.writeCrl(it.path("a", "ca.crl"), it.path("b", "ca.crl"));
  expect(await numbers()).toBe(3);
  expect((await (await it.open()).plan("ca.crl", { now: true })).plan).toMatchObject({ from: { number: 3 }, to: 4 });
});

test("places that hold different certificates: plan refuses, status says so and goes on", async () => {
  const it = await scene();
  await withPair(it, "a");
  await withPair(it, "b");
  const estate = await it.open();
  await expect(estate.plan("shop")).rejects.toMatchObject({ code: "conflict" });
  const all = await estate.status();
  expect(all.map(({ name }) => name)).toEqual(["ca.crl", "shop"]);
  expect(all[1]).toMatchObject({ unread: expect.stringContaining("hold different certificates") });
  expect(all[1]?.due).toBeUndefined();
  expect(all[0]?.unread).toBeUndefined();
});

test("a target that cannot be read: status says so and goes on", async () => {
  const it = await scene();
  mkdirSync(it.path("a", "tls.pem"));
  const status = await shopOf(await it.open());
  expect(status.unread).toContain(it.path("a", "tls.pem"));
  expect(status.due).toBeUndefined();
});

test("the newest CRL in place counts, and one that ends far from now is not due", async () => {
  const it = await scene();
  await it.ca.writeCrl(it.path("a", "ca.crl"));
  const crl = async () => (await (await it.open()).status()).find(({ name }) => name === "ca.crl")!;
  const old = await crl();
  expect(old).toMatchObject({ current: { number: 1, kind: "crl" }, due: { action: "wait" } });

  const late = await caBefore(it.home, "CN=Found CA", { crlLifetime: "14d", backdate: "1m" });
  await late.writeCrl(it.path("b", "ca.crl"));
  const young = await crl();
  expect(young.current?.notAfter).toBeGreaterThan(old.current!.notAfter);
  expect((await (await it.open()).plan("ca.crl")).due.action).toBe("wait");

  rmSync(it.path("a", "ca.crl"));
  rmSync(it.path("b", "ca.crl"));
  expect(await crl()).toMatchObject({ due: { action: "rotate" } });
});

test("a CA that is not there is created by the first issue, never by asking", async () => {
  const it = await scene();
  await withPair(it, "a", "b");
  cpSync(it.path("ca"), it.path("kept"), { recursive: true });
  rmSync(it.path("ca"), { recursive: true });
  const before = it.everything();
  const estate = await it.open();
  const planned = await estate.plan("shop", { now: true });
  expect(planned.notes?.join()).toContain("will be created");
  await estate.status();
  await estate.who("0123456789abcdef");
  await estate.doctor("shop");
  expect(it.everything()).toBe(before);

  await estate.rotate("shop", options);
  expect(existsSync(it.path("ca", "ca.crt"))).toBe(true);
  expect((await estate.plan("shop")).notes).toBeUndefined();
});

test("half of a CA is told, and nothing is created beside it", async () => {
  const it = await scene();
  rmSync(it.path("ca", "ca.crt"));
  const before = it.everything();
  await expect((await it.open()).plan("shop")).rejects.toThrow("ca.key is there but ca.crt is not");
  expect(it.everything()).toBe(before);
});
