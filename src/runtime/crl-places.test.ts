/** CRLs at their places: first ones, old ones, and those of others. Files and a real CA; no servers. */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import { makeWorkspace, type Workspace } from "../../lab/estate.ts";
import { type CaBefore, caBefore, passphrase } from "../../lab/gyre.ts";
import { createFilesTrustStore } from "../drivers/files/trust-store.ts";
import { parseCertificate } from "../pki/certificate.ts";
import { type Crl, parseCrl, parseCrls, signCrl } from "../pki/crl.ts";
import { prepareAuthority } from "../pki/issue.ts";
import { readPrivateKey } from "../pki/keys.ts";
import { Secret } from "../pki/secret.ts";
import type { Progress } from "./api.ts";
import { crlTarget, withCrlsAbove } from "./crl-target.ts";
import { numberOf } from "./crls.ts";
import { openEstate } from "./estate.ts";
import { describeIssued, listsRevoked } from "./material.ts";

const open: Workspace[] = [];
afterEach(async () => {
  for (const workspace of open.splice(0)) await workspace.end();
});
const day = 86_400_000;
const step = { op: "test", tag: "test.0", signal: new AbortController().signal };

async function scene(settings: Record<string, unknown> = {}) {
  const workspace = makeWorkspace("crl-places");
  open.push(workspace);
  const { dir, path } = workspace;
  const before = await caBefore(dir, "CN=Places CA", settings);
  writeFileSync(
    path("gyre.yaml"),
    `apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: ca }
spec:
  ${before.manifest}
  crl:
    lifetime: 24h
    deliver: [{ files: { crl: ca.crl }, reload: { command: [test, -e, ${path("server-runs")}] } }]
    timing: { skew: 1m }
`,
  );
  const estate = () => openEstate({ manifests: [path("gyre.yaml")], stateDirectory: path(".gyre"), env: {} });
  const said: Progress[] = [];
  const options = { waitUpTo: 1000, runner: "test", now: true, onProgress: (one: Progress) => void said.push(one) };
  return {
    ...{ dir, path, before },
    rotate: async () => (await estate()).rotate("ca.crl", options),
    revert: async () => (await estate()).revert("ca.crl", { ...options, by: "ops", reason: "asked" }),
    serverRuns: (yes: boolean) =>
      yes ? writeFileSync(path("server-runs"), "") : rmSync(path("server-runs"), { force: true }),
    inPlace: (): Crl => parseCrl(readFileSync(path("ca.crl"), "utf8")),
    /** Of the CA as it is on disk, so that the rotation's own writes are seen. */
    ca: async () => (await caBefore(dir, "CN=Places CA", settings)).ca,
    left: () => said.findLast((one) => one.type === "reverted")?.left,
  };
}

const client = async (before: CaBefore, subject: string) =>
  describeIssued(await before.issue({ subject, names: [], usages: ["client"] }), "certificate");

describe("the first CRL", () => {
  test("waits for the server that could not start without it, and closes once it runs", async () => {
    const { rotate, serverRuns, inPlace } = await scene();
    expect(await rotate()).toMatchObject({
      result: "held",
      stage: "adopted",
      reasons: [{ verdict: "failed", release: expect.stringMatching(/ca\.crl, then gyre rotate ca\.crl$/) }],
    });
    const first = inPlace().fingerprint;
    expect(await rotate(), "and no second one meanwhile").toMatchObject({ result: "held" });
    serverRuns(true);
    expect(await rotate()).toMatchObject({ result: "closed", grade: "FIRST" });
    expect(inPlace().fingerprint).toBe(first);
  });

  test("stays when it is given up, which is said, and its number is nobody's serial", async () => {
    const { rotate, revert, serverRuns, inPlace, left, ca } = await scene();
    await rotate();
    const first = inPlace();
    expect(await revert()).toMatchObject({ result: "put back", failed: false });
    expect(left()).toMatch(/ca\.crl keeps g1: there was none before to go back to$/);
    expect(inPlace().fingerprint).toBe(first.fingerprint);
    expect([...parseCrl(await (await ca()).publishCrl(step)).entries.keys()]).toEqual([]);
    serverRuns(true);
    expect(await rotate()).toMatchObject({ result: "closed" });
    expect([...inPlace().entries.keys()]).toEqual([]);
  });
});

describe("going back", () => {
  test("to the CRL from before, where verifiers lose nothing by it", async () => {
    const { rotate, serverRuns, inPlace, left } = await scene();
    serverRuns(true);
    await rotate();
    const first = inPlace();
    serverRuns(false);
    expect(await rotate()).toMatchObject({ result: "put back", failed: true });
    expect(inPlace().fingerprint).toBe(first.fingerprint);
    expect(left()).toMatch(/ca\.crl holds g1 again$/);
  });

  test("never takes a revocation back: the newer one stays, and why", async () => {
    const { rotate, serverRuns, inPlace, left, before } = await scene();
    const revoked = await client(before, "CN=revoked since");
    serverRuns(true);
    await rotate();
    await before.ca.retire(revoked, step);
    serverRuns(false);
    expect(await rotate()).toMatchObject({ result: "put back", failed: true });
    expect([...inPlace().entries.keys()]).toEqual([revoked.serial]);
    expect(left()).toContain(`keeps g2: g1 does not list serial ${revoked.serial}, revoked since`);
    serverRuns(true);
    expect(await rotate(), "and the next goes on from there").toMatchObject({ result: "closed" });
  });

  test("nor to one that is about to lapse", async () => {
    const { rotate, serverRuns, inPlace, left, path, before } = await scene();
    writeFileSync(path("ca.crl"), await before.ca.publishCrl(step, 30_000));
    const old = inPlace().fingerprint;
    serverRuns(false);
    expect(await rotate()).toMatchObject({ result: "put back", failed: true });
    expect(inPlace().fingerprint).not.toBe(old);
    expect(left()).toMatch(/keeps g2: g1 ends .*, and verifiers would refuse everybody by it$/);
  });

  test("leaves the newer one of another rotation", async () => {
    const { rotate, revert, inPlace, left, before, path } = await scene();
    const revoked = await client(before, "CN=revoked since");
    await rotate();
    await before.ca.retire(revoked, step);
    writeFileSync(path("ca.crl"), await before.ca.publishCrl(step, day));
    expect(await revert()).toMatchObject({ result: "put back" });
    expect([...inPlace().entries.keys()]).toEqual([revoked.serial]);
    expect(left()).toMatch(/keeps the CRL with number [0-9a-f]+: there was none/);
  });
});

test("what the CRL in place lists and the CA's record does not goes on being listed, with a higher number", async () => {
  const { rotate, serverRuns, inPlace, before, path } = await scene();
  const [theirs, later] = [await client(before, "CN=theirs"), await client(before, "CN=later")];
  await before.ca.retire(theirs, step);
  writeFileSync(path("ca.crl"), await before.ca.publishCrl(step, day));
  const old = inPlace();
  // As with a CA whose other software revoked it, or a record put back from a backup.
  rmSync(path("ca", "issued.jsonl"));
  await before.ca.retire(later, step);
  serverRuns(true);
  expect(await rotate()).toMatchObject({ result: "closed" });
  expect([...inPlace().entries.keys()].sort()).toEqual([theirs.serial, later.serial].sort());
  expect(numberOf(inPlace())).toBeGreaterThan(numberOf(old));
});

describe("two rotations, one place", () => {
  test("a newer CRL that stands for ours is left; one that ours would shorten is a conflict", async () => {
    const { before, path, dir } = await scene();
    const store = createFilesTrustStore({ crl: path("ca.crl") }, { baseDir: dir });
    const target = crlTarget(store, before.ca, async () => undefined);
    const expected = (await target.read()).version;
    const material = { certificate: await before.ca.publishCrl(step, day), chain: "", roots: "" };
    const revoked = await client(before, "CN=revoked");
    await before.ca.retire(revoked, step);
    const newer = await before.ca.publishCrl(step, 2 * day);
    await store.put(newer, "absent", step);
    await target.deliver(material, expected, step);
    expect(readFileSync(path("ca.crl"), "utf8")).toBe(newer);
    // Shorter-lived, so it does not stand for ours.
    await store.put(await before.ca.publishCrl(step, day / 2), (await store.read()).version, step);
    await expect(target.deliver(material, expected, step)).rejects.toMatchObject({
      code: "conflict",
      message: expect.stringContaining(`lists serial ${revoked.serial}`),
    });
    // The control: what lists no more than ours is replaced.
    rmSync(path("ca", "issued.jsonl"));
    writeFileSync(path("ca.crl"), material.certificate);
    const next = { ...material, certificate: await before.ca.publishCrl(step, day) };
    await target.deliver(next, expected, step);
    expect(readFileSync(path("ca.crl"), "utf8")).toBe(next.certificate);
  });

  test("the CRL of a CA's old key beside that of its new one hides nothing", async () => {
    const { before, path, dir } = await scene();
    const remade = await caBefore(dir, "CN=Places CA", { directory: "ca-2" });
    const revoked = await client(remade, "CN=revoked");
    await remade.ca.retire(revoked, step);
    const store = createFilesTrustStore({ crl: path("ca.crl") }, { baseDir: dir });
    await store.put(await before.ca.publishCrl(step, day), "absent", step);
    const target = crlTarget(store, remade.ca, async () => undefined);
    expect((await target.read()).version).toBe("absent");
    const fresh = await remade.ca.publishCrl(step, day);
    expect((await target.deliver({ certificate: fresh, chain: "", roots: "" }, "absent", step)).certificate).toBe(
      fresh,
    );
    const { pem } = await store.read();
    expect(parseCrls(pem)).toHaveLength(2);
    const generation = { ...revoked, number: 1, material: "sha256:" as const };
    expect(listsRevoked(pem, generation, Date.now())).toBeUndefined();
    expect(listsRevoked(pem, { ...generation, serial: "5e" }, Date.now())).toContain("does not list serial 5e");
  });
});

describe("with an intermediate", () => {
  test("the root's CRL is there though its key was moved away, and stays byte for byte", async () => {
    const { rotate, serverRuns, path, left } = await scene({ intermediate: true });
    rmSync(path("ca", "ca.key"));
    serverRuns(true);
    expect(await rotate()).toMatchObject({ result: "closed" });
    const issuers = () => parseCrls(readFileSync(path("ca.crl"))).map(({ issuer }) => issuer);
    expect(issuers()).toEqual(["CN=Places CA issuing", "CN=Places CA"]);
    const root = parseCrls(readFileSync(path("ca.crl")))[1]!.fingerprint;
    const first = parseCrls(readFileSync(path("ca.crl")))[0]!.fingerprint;
    serverRuns(false);
    expect(await rotate()).toMatchObject({ result: "put back" });
    expect(left()).toMatch(/holds g1 again$/);
    expect(parseCrls(readFileSync(path("ca.crl"))).map(({ fingerprint }) => fingerprint)).toEqual([first, root]);
  });

  test("a CRL that the root's owner published is not replaced by our empty one", async () => {
    const { before, path, dir } = await scene({ intermediate: true });
    const [certificate, key] = ["ca.crt", "ca.key"].map((name) => readFileSync(path("ca", name)));
    const root = prepareAuthority(parseCertificate(certificate!), readPrivateKey(key!, Secret.of(passphrase)));
    const entries = [{ serial: "5e", revocationDate: Date.now() - day }];
    const ending = { thisUpdate: Date.now() - 1000, nextUpdate: Date.now() + day };
    const theirs = signCrl(root, { ...ending, number: 7, entries });
    writeFileSync(path("ca.crl"), theirs.pem);
    const store = createFilesTrustStore({ crl: path("ca.crl") }, { baseDir: dir });
    const whole = withCrlsAbove(store, before.ca);
    const put = async () => whole.put(await before.ca.publishCrl(step), (await store.read()).version, step);
    await put();
    const second = () => parseCrls(readFileSync(path("ca.crl"))).find(({ issuer }) => issuer === "CN=Places CA")?.pem;
    expect(second()).toBe(theirs.pem);
    // The controls: one that lists nothing and ends sooner gives way, and so does none at all.
    writeFileSync(path("ca.crl"), signCrl(root, { ...ending, number: 7, entries: [] }).pem);
    await put();
    expect(second()).toBe(await before.ca.rootCrl());
    rmSync(path("ca.crl"));
    await put();
    expect(second()).toBe(await before.ca.rootCrl());
  });
});
