import { execFile } from "node:child_process";
import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { GyreError } from "../../errors.ts";
import { parseCrls } from "../../pki/crl.ts";
import { prepareAuthority, signSelfSigned } from "../../pki/issue.ts";
import { generateKey } from "../../pki/keys.ts";
import { writePkcs12 } from "../../pki/pkcs12.ts";
import { dyingDisk } from "../conformance/dying-disk.ts";
import { codeOf, type TestCa, testCa, testMaterial, testStep } from "../conformance/material.ts";
import { testCrl, trustStoreConformance } from "../conformance/trust-store.ts";
import type { Disk } from "./disk.ts";
import { trustStoreSettings } from "./settings.ts";
import { createFilesTrustStore } from "./trust-store.ts";

const run = promisify(execFile);
const SHAPES = {
  bundle: { bundle: "trust" },
  crl: { crl: "trust" },
  truststore: { truststore: { path: "trust", password: "changeit" } },
};

for (const [name, shape] of Object.entries(SHAPES)) {
  trustStoreConformance(`files (${name})`, async () => {
    const baseDir = await mkdtemp(join(tmpdir(), "gyre-trust-"));
    const open = () => createFilesTrustStore(trustStoreSettings.parse(shape), { baseDir });
    return {
      open,
      tamper: async () => {
        const ca = await testCa("stranger");
        await rm(join(baseDir, "trust"));
        await open().put(name === "crl" ? testCrl(ca, 7) : ca.root.pem, "absent", testStep());
      },
      close: () => rm(baseDir, { recursive: true }),
    };
  });
}

let baseDir: string;
let ca: TestCa;
let other: TestCa;
beforeEach(async () => {
  baseDir = await mkdtemp(join(tmpdir(), "gyre-trust-"));
  [ca, other] = [await testCa("ours"), await testCa("theirs")];
});
afterEach(() => rm(baseDir, { recursive: true }));

const at = (name: string) => join(baseDir, name);
const store = (shape: object, disk?: Disk) =>
  createFilesTrustStore(trustStoreSettings.parse(shape), disk === undefined ? { baseDir } : { baseDir, disk });
async function errorOf(work: Promise<unknown>): Promise<GyreError> {
  return work.then(
    () => Promise.reject(new Error("it succeeded")),
    (error: unknown) => (error instanceof GyreError ? error : Promise.reject(error)),
  );
}
const issuers = async () => parseCrls(await readFile(at("crl.pem"))).map((crl) => `${crl.issuer} ${crl.number}`);

describe("files trust store: CRLs", () => {
  it("replaces the CRL of the same issuer in its place and leaves the others", async () => {
    await writeFile(at("crl.pem"), testCrl(ca, 1) + testCrl(other, 5));
    const crls = store({ crl: "crl.pem" });
    await crls.put(testCrl(ca, 2, ["ab"]), (await crls.read()).version, testStep());
    expect(await issuers()).toEqual(["CN=ours issuing 2", "CN=theirs issuing 5"]);
  });

  it("goes back to an older CRL when asked", async () => {
    const [one, two] = [testCrl(ca, 1), testCrl(ca, 2)];
    const crls = store({ crl: "crl.pem" });
    const first = await crls.put(one, "absent", testStep());
    const second = await crls.put(two, first.version, testStep());
    expect((await crls.put(one, second.version, testStep())).version).toBe(first.version);
  });

  it("keeps the CRL of a CA's old key beside that of its new one", async () => {
    const key = await generateKey("P-256");
    const { subject, notBefore, notAfter } = ca.authority.certificate;
    const authority = prepareAuthority(signSelfSigned(key, { subject, notBefore, notAfter, isCa: true }), key);
    const crls = store({ crl: "crl.pem" });
    const { version } = await crls.put(testCrl(ca, 1), "absent", testStep());
    await crls.put(testCrl({ ...ca, authority }, 9), version, testStep());
    expect(await issuers()).toEqual(["CN=ours issuing 1", "CN=ours issuing 9"]);
  });

  it("openssl refuses by what was put", async () => {
    const material = await testMaterial(ca);
    await store({ crl: "crl.pem" }).put(testCrl(ca, 1), "absent", testStep());
    await writeFile(at("leaf.pem"), material.certificate);
    await writeFile(at("ca.pem"), material.roots + material.chain);
    const verify = ["verify", "-crl_check", "-CRLfile", at("crl.pem"), "-CAfile", at("ca.pem"), at("leaf.pem")];
    expect((await run("openssl", verify)).stdout).toMatch(/OK/);
    const crls = store({ crl: "crl.pem" });
    await crls.put(testCrl(ca, 2, [material.leaf.serial]), (await crls.read()).version, testStep());
    await expect(run("openssl", verify)).rejects.toThrow(/certificate revoked/);
  });
});

describe("files trust store: stores of others", () => {
  it("keytool trusts what was put into a PKCS#12 trust store, and aliases of others stay", async () => {
    const password = ["-storetype", "PKCS12", "-storepass", "changeit", "-keystore", at("trust.p12")];
    await writeFile(at("theirs.pem"), other.root.pem);
    await run("keytool", ["-importcert", "-noprompt", "-alias", "theirs", "-file", at("theirs.pem"), ...password]);
    const trust = store({ truststore: { path: "trust.p12", password: "changeit" } });
    const present = await trust.read();
    expect(present.pem).toBe(other.root.pem);
    await trust.put(present.pem + ca.root.pem, present.version, testStep());
    const { stdout } = await run("keytool", ["-list", ...password]);
    expect(stdout.match(/trustedCertEntry/g)?.length).toBe(2);
    expect(stdout).toMatch(/^theirs,/m);
  });

  it("reads a store made by openssl, whose certificates carry no mark", async () => {
    await writeFile(at("ca.pem"), ca.root.pem);
    await run("openssl", [
      "pkcs12",
      "-export",
      "-nokeys",
      "-in",
      at("ca.pem"),
      "-passout",
      "pass:changeit",
      "-out",
      at("trust.p12"),
    ]);
    expect((await store({ truststore: { path: "trust.p12", password: "changeit" } }).read()).pem).toBe(ca.root.pem);
  });

  it("refuses a key store and a PEM file with a key, which a write would take away", async () => {
    const material = await testMaterial(ca);
    const key = await generateKey("P-256");
    const { notBefore, notAfter } = ca.root;
    const chain = [signSelfSigned(key, { subject: "CN=x", notBefore, notAfter })];
    await writeFile(at("keys.p12"), writePkcs12({ keys: [{ alias: "x", key, chain }], trusted: [] }, "changeit"));
    const keys = store({ truststore: { path: "keys.p12", password: "changeit" } });
    expect((await errorOf(keys.put(ca.root.pem, (await keys.read()).version, testStep()))).message).toMatch(
      /also holds a private key/,
    );
    const pem = material.certificate + material.privateKey!.use((bytes) => bytes.toString());
    await writeFile(at("bundle.pem"), pem);
    const bundle = store({ bundle: "bundle.pem" });
    expect((await bundle.read()).pem).toBe(material.certificate);
    expect((await errorOf(bundle.put(ca.root.pem, (await bundle.read()).version, testStep()))).message).toMatch(
      /also holds PRIVATE KEY/,
    );
    expect(await readFile(at("bundle.pem"), "utf8")).toBe(pem);
  });

  it("says the line of a damaged bundle, a wrong password, somebody else's link", async () => {
    await writeFile(at("bundle.pem"), `${ca.root.pem}-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n`);
    expect((await errorOf(store({ bundle: "bundle.pem" }).read())).where).toMatch(/bundle\.pem:\d+$/);
    await store({ truststore: { path: "t.p12", password: "changeit" } }).put(ca.root.pem, "absent", testStep());
    const wrong = await errorOf(store({ truststore: { path: "t.p12", password: "marked-wrong" } }).read());
    expect([wrong.code, wrong.message.includes("marked")]).toEqual(["input", false]);
    await symlink("bundle.pem", at("link.pem"));
    await writeFile(at("bundle.pem"), ca.root.pem);
    const linked = store({ bundle: "link.pem" });
    expect(await codeOf(linked.put(other.root.pem, (await linked.read()).version, testStep()))).toBe("refused");
    expect(await codeOf(linked.check!())).toBe("refused");
    expect(await codeOf(store({ bundle: "bundle.pem" }).check!())).toBe("none");
  });

  it("keeps owner and mode of the file, and makes a new one readable", async () => {
    const bundle = store({ bundle: "bundle.pem" });
    const one = await bundle.put(ca.root.pem, "absent", testStep());
    expect((await stat(at("bundle.pem"))).mode & 0o777).toBe(0o644);
    await chmod(at("bundle.pem"), 0o640);
    await bundle.put(other.root.pem, one.version, testStep());
    expect((await stat(at("bundle.pem"))).mode & 0o777).toBe(0o640);
  });
});

describe("files trust store: validate", () => {
  const validated = (line: string) => store({ bundle: "bundle.pem", validate: { command: ["sh", "-c", line] } });

  it("before the switch: is given the staged file; refusing changes nothing", async () => {
    const { version } = await store({ bundle: "bundle.pem" }).put(ca.root.pem, "absent", testStep());
    const error = await errorOf(
      validated("cp {bundle} seen; echo no >&2; exit 1").put(other.root.pem, version, testStep()),
    );
    expect(error.message).toMatch(/it said: no; what was in place is untouched$/);
    expect(await readFile(at("seen"), "utf8")).toBe(other.root.pem);
    expect(await readFile(at("bundle.pem"), "utf8")).toBe(ca.root.pem);
    expect((await readdir(baseDir)).sort()).toEqual(["bundle.pem", "seen"]);
  });

  it("after the switch: refusing puts the old file back, or takes the first one away", async () => {
    const refuse = validated("cp bundle.pem seen; exit 1");
    expect((await errorOf(refuse.put(ca.root.pem, "absent", testStep()))).message).toMatch(/is in place again$/);
    expect(await readdir(baseDir)).toEqual(["seen"]);
    const { version } = await store({ bundle: "bundle.pem" }).put(ca.root.pem, "absent", testStep());
    await errorOf(refuse.put(other.root.pem, version, testStep()));
    expect(await readFile(at("seen"), "utf8")).toBe(other.root.pem);
    expect(await readFile(at("bundle.pem"), "utf8")).toBe(ca.root.pem);
    expect((await readdir(baseDir)).sort()).toEqual(["bundle.pem", "seen"]);
    await validated("true").put(other.root.pem, version, testStep());
    expect((await readdir(baseDir)).sort()).toEqual(["bundle.pem", "seen"]);
  });
});

describe("files trust store: killed at every system call", () => {
  it.each([
    ["plain", {}],
    ["checked after the switch", { validate: { command: ["true"] } }],
  ])("%s: the file is the old or the new one, and repeating the put ends it", async (_, change) => {
    const shape = { bundle: "bundle.pem", ...change };
    for (let last = 0, reached = false; !reached; last++) {
      await rm(baseDir, { recursive: true });
      baseDir = await mkdtemp(join(tmpdir(), "gyre-trust-"));
      const { version } = await store({ bundle: "bundle.pem" }).put(ca.root.pem, "absent", testStep());
      const dying = dyingDisk(last);
      const done = await codeOf(store(shape, dying.disk).put(other.root.pem, version, testStep()));
      reached = dying.calls() <= last;
      const calls = `after ${last} calls, before: ${dying.names[last] ?? "the end"}`;
      const text = await readFile(at("bundle.pem"), "utf8");
      expect([ca.root.pem, other.root.pem], calls).toContain(text);
      if (done === "none") expect(text, calls).toBe(other.root.pem);
      // As the runtime does: read, then put on what was read.
      const seen = await store(shape).read();
      await store(shape).put(other.root.pem, seen.version, testStep());
      expect(await readFile(at("bundle.pem"), "utf8"), calls).toBe(other.root.pem);
      expect(await readdir(baseDir), calls).toEqual(["bundle.pem"]);
    }
  });

  it("cut before its validate command spoke: that is asked again, and refusing puts the old file back", async () => {
    const { version } = await store({ bundle: "bundle.pem" }).put(ca.root.pem, "absent", testStep());
    const shape = { bundle: "bundle.pem", validate: { command: ["false"] } };
    let renamed = false;
    const dying = dyingDisk(Number.POSITIVE_INFINITY, async (call) => {
      if (renamed) throw new Error("killed");
      renamed = call === "rename";
    });
    await errorOf(store(shape, dying.disk).put(other.root.pem, version, testStep()));
    expect(await readFile(at("bundle.pem"), "utf8")).toBe(other.root.pem);
    expect(await codeOf(store(shape).put(other.root.pem, version, testStep()))).toBe("command");
    expect(await readFile(at("bundle.pem"), "utf8")).toBe(ca.root.pem);
  });
});
