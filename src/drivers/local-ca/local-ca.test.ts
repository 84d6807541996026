import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFile,
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { GyreError } from "../../errors.ts";
import { parseCertificate, parseCertificates } from "../../pki/certificate.ts";
import { parseCrl, signCrl } from "../../pki/crl.ts";
import { prepareAuthority } from "../../pki/issue.ts";
import { readPrivateKey } from "../../pki/keys.ts";
import { Secret } from "../../pki/secret.ts";
import { issuerConformance, namedOf } from "../conformance/issuer.ts";
import { codeOf, testOrder, testStep } from "../conformance/material.ts";
import { type LocalCa, openLocalCa } from "./local-ca.ts";
import { createSelfSigned } from "./self-signed.ts";
import { localCaSettings, selfSignedSettings } from "./settings.ts";

const run = promisify(execFile);
const DAY = 86_400_000;
// Creating a CA key derives a key from the passphrase, which takes its time on purpose.
const PASSPHRASE = "marked-passphrase-4711";

let baseDir: string;
let clock: number;
beforeEach(async () => {
  baseDir = await mkdtemp(join(tmpdir(), "gyre-ca-"));
  clock = Date.now();
});
afterEach(() => rm(baseDir, { recursive: true }));

const options = () => ({ baseDir, now: () => clock });
const open = (change: Record<string, unknown> = {}) =>
  openLocalCa(localCaSettings.parse({ directory: "ca", passphrase: PASSPHRASE, ...change }), options());

async function errorOf(work: Promise<unknown>): Promise<GyreError> {
  return work.then(
    () => Promise.reject(new Error("it succeeded")),
    (error: unknown) => (error instanceof GyreError ? error : Promise.reject(error)),
  );
}

for (const [name, change] of Object.entries({ root: {}, intermediate: { intermediate: true } })) {
  issuerConformance(`local-ca (${name})`, async () => {
    const directory = await mkdtemp(join(tmpdir(), "gyre-ca-"));
    return {
      open: () => open({ directory: join(directory, "ca"), ...change }),
      now: () => clock,
      close: () => rm(directory, { recursive: true }),
    };
  });
}

for (const [name, directory] of [
  ["no directory", undefined],
  ["a directory", "issued"],
] as const) {
  issuerConformance(`self-signed (${name})`, async () => {
    const baseDir = await mkdtemp(join(tmpdir(), "gyre-ca-"));
    const settings = selfSignedSettings.parse(directory === undefined ? {} : { directory });
    return {
      open: async () => createSelfSigned(settings, { baseDir, now: () => clock }),
      now: () => clock,
      close: () => rm(baseDir, { recursive: true }),
    };
  });
}

describe("local-ca: creation", () => {
  it("leaves an encrypted key only the owner reads, and openssl agrees with the certificate", async () => {
    const ca = await open({ permitted: { dns: ["example"] }, subject: "CN=lab root,O=lab" });
    const directory = join(baseDir, "ca");
    expect((await stat(directory)).mode & 0o777).toBe(0o700);
    expect((await stat(join(directory, "ca.key"))).mode & 0o777).toBe(0o600);
    expect(await readFile(join(directory, "ca.key"), "utf8")).toMatch(/^-----BEGIN ENCRYPTED PRIVATE KEY-----/);
    const { stdout } = await run("openssl", ["x509", "-in", join(directory, "ca.crt"), "-noout", "-text"]);
    expect(stdout).toMatch(/CA:TRUE, pathlen:0/);
    expect(stdout).toMatch(/X509v3 Name Constraints: critical/);
    await run("openssl", ["pkey", "-in", join(directory, "ca.key"), "-passin", `pass:${PASSPHRASE}`, "-noout"]);
    expect(parseCertificate(ca.roots()).subject).toBe("CN=lab root,O=lab");
    expect((await readdir(directory)).sort()).toEqual(["ca.crt", "ca.json", "ca.key"]);
  });

  it("makes one CA when several processes open the same directory at once", async () => {
    const program = `
      import { openLocalCa } from ${JSON.stringify(join(import.meta.dirname, "local-ca.ts"))};
      import { localCaSettings } from ${JSON.stringify(join(import.meta.dirname, "settings.ts"))};
      const settings = localCaSettings.parse({ directory: "ca", passphrase: "p" });
      const ca = await openLocalCa(settings, { baseDir: process.argv[1], now: () => Date.now() });
      await ca.check();
      console.log(ca.certificate.fingerprint);`;
    const children = [1, 2, 3, 4].map(() =>
      run(process.execPath, ["--input-type=module-typescript", "-e", program, baseDir]),
    );
    const seen = (await Promise.all(children)).map(({ stdout }) => stdout.trim());
    expect(new Set(seen).size).toBe(1);
    expect(seen[0]).toMatch(/^[0-9a-f]{64}$/);
  });

  it.each(["ca.key", "issuing.key", "issuing.crt", "root.crl", "ca.json", "ca.crt"])(
    "takes up a creation that was cut before %s was in its place",
    async (stuck) => {
      const ca = await open({ intermediate: true });
      const [directory, staging] = [join(baseDir, "ca"), join(baseDir, "ca", ".created")];
      const order = ["ca.key", "issuing.key", "issuing.crt", "root.crl", "ca.json", "ca.crt"];
      await mkdir(staging);
      for (const name of order.slice(order.indexOf(stuck))) {
        await copyFile(join(directory, name), join(staging, name));
        await rm(join(directory, name));
      }
      const again = await open({ intermediate: true });
      expect(again.certificate.fingerprint).toBe(ca.certificate.fingerprint);
      await again.check();
      expect((await readdir(directory)).sort()).toEqual([...order].sort());
    },
  );

  it("starts again after a creation that was cut before the CA existed", async () => {
    const staging = join(baseDir, "ca", ".creating");
    await mkdir(staging, { recursive: true });
    await writeFile(join(staging, "ca.key"), "half of a");
    await (await open()).check();
    expect((await readdir(join(baseDir, "ca"))).sort()).toEqual(["ca.crt", "ca.json", "ca.key"]);
  });

  it("does not create over half of a CA", async () => {
    await mkdir(join(baseDir, "ca"));
    await writeFile(join(baseDir, "ca", "ca.key"), "a key that is all that is left\n");
    const error = await errorOf(open());
    expect(error.code).toBe("input");
    expect(error.message).toMatch(/ca\.key is there but ca\.crt is not/);
    expect(await readFile(join(baseDir, "ca", "ca.key"), "utf8")).toBe("a key that is all that is left\n");
  });

  it("issues from the intermediate, and openssl verifies the whole path with both CRLs", async () => {
    const ca = await open({ intermediate: true, permitted: { dns: ["shop.example"] } });
    const issued = await ca.issue(await testOrder(), testStep());
    const file = async (name: string, pem: string) => {
      await writeFile(join(baseDir, name), pem);
      return join(baseDir, name);
    };
    const [leaf, chain, root] = [
      await file("leaf.pem", issued.certificate),
      await file("chain.pem", issued.chain),
      await file("root.pem", issued.roots),
    ];
    const crls = await file("crls.pem", (await ca.publishCrl(testStep())) + (await ca.rootCrl()));
    const verify = [
      "verify",
      "-x509_strict",
      "-crl_check_all",
      "-CRLfile",
      crls,
      "-CAfile",
      root,
      "-untrusted",
      chain,
      leaf,
    ];
    expect((await run("openssl", verify)).stdout).toMatch(/leaf\.pem: OK/);
    await ca.retire(namedOf(issued), testStep());
    await file("crls.pem", (await ca.publishCrl(testStep())) + (await ca.rootCrl()));
    expect(await errorText(run("openssl", verify))).toMatch(/certificate revoked/);
  });
});

const errorText = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "it succeeded",
    (error) => String(error.stderr),
  );

describe("local-ca: what it refuses", () => {
  it.each([
    ["subject", { subject: "CN=another" }, /created with subject CN=Gyre local CA, the manifest says CN=another/],
    ["algorithm", { algorithm: "P-384" }, /created with algorithm P-256, the manifest says P-384/],
    ["lifetime", { lifetime: "3651d" }, /created with lifetime 3650d, the manifest says 3651d/],
    ["intermediate", { intermediate: true }, /created with intermediate false/],
    [
      "permitted",
      { permitted: { dns: ["example"] } },
      /created with permitted \(none\), the manifest says DNS:example/,
    ],
  ])("opens no CA whose %s differs from the manifest's", async (_, change, message) => {
    await open();
    const error = await errorOf(open(change));
    expect(error.code).toBe("refused");
    expect(error.message).toMatch(message);
    await open(); // and with the values it was created with it opens
  });

  it("a wrong passphrase, without saying the right or the wrong one", async () => {
    await open();
    const wrong = await open({ passphrase: "marked-wrong-0815" });
    const error = await errorOf(wrong.issue(await testOrder(), testStep()));
    expect(error.code).toBe("input");
    expect(error.message).toMatch(/passphrase/);
    expect(error.message).toContain(join(baseDir, "ca", "ca.key"));
    expect(JSON.stringify(error) + String(error.stack)).not.toMatch(/marked/);
    expect(await codeOf(wrong.check!())).toBe("input");
  });

  it("an expired CA, a CA of the future", async () => {
    const ca = await open({ lifetime: "10d" });
    const start = clock;
    clock = start + 11 * DAY;
    const expired = await errorOf(ca.issue(await testOrder(), testStep()));
    expect(expired.code).toBe("issuer");
    expect(expired.message).toMatch(/expired 2/);
    expect(await codeOf(ca.publishCrl(testStep()))).toBe("issuer");
    clock = start - DAY;
    const early = await errorOf(ca.issue(await testOrder(), testStep()));
    expect(early.message).toMatch(/is not valid before .* and the clock says/);
    clock = start;
    expect(await codeOf(ca.issue(await testOrder(), testStep()))).toBe("none");
  });

  it("a lifetime beyond its limit or its own end, and says what to ask for", async () => {
    const ca = await open({ lifetime: "10d", maxLifetime: "20d" });
    const long = await errorOf(ca.issue(await testOrder({ lifetime: 21 * DAY }), testStep()));
    expect([long.code, long.next]).toEqual(["issuer", "ask for 20d, or raise maxLifetime"]);
    const beyond = await errorOf(ca.issue(await testOrder({ lifetime: 11 * DAY }), testStep()));
    expect(beyond.code).toBe("issuer");
    expect(beyond.next).toMatch(/^ask for (10|9)d, or move to a new CA$/);
    const asked = beyond.next!.includes("10d") ? 10 * DAY : 9 * DAY;
    expect(await codeOf(ca.issue(await testOrder({ lifetime: asked }), testStep()))).toBe("none");
  });

  it.each([
    ["another domain", { names: ["DNS:evil.test"] }],
    ["an address, of a kind not permitted", { names: ["DNS:shop.example", "IP:10.0.0.1"] }],
    ["a URI, of a kind not permitted", { names: ["URI:spiffe://shop.example/x"] }],
    ["a common name that is a host of another domain", { subject: "CN=evil.test", names: [] }],
  ])("names outside its constraints: %s", async (_, change) => {
    const ca = await open({ permitted: { dns: ["shop.example"] } });
    const step = testStep();
    expect(await codeOf(ca.issue(await testOrder(change), step))).toBe("issuer");
    expect(await ca.find(step.op)).toBeUndefined();
    expect(await codeOf(ca.issue(await testOrder(), testStep()))).toBe("none");
  });
});

describe("local-ca: a CA that was brought", () => {
  async function openssl(...args: string[]): Promise<void> {
    await run("openssl", args, { cwd: join(baseDir, "ca") });
    clock = Date.now() + 1000; // openssl's notBefore is this very second
  }
  beforeEach(() => mkdir(join(baseDir, "ca")));
  const request = ["-x509", "-days", "30", "-subj", "/O=brought/CN=root"];

  it.each([
    ["PKCS#8, plain", ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]],
    ["PKCS#8, encrypted", ["req", "-newkey", "rsa:2048", "-passout", `pass:${PASSPHRASE}`]],
    ["Ed25519", ["req", "-newkey", "ed25519", "-noenc"]],
  ])("signs with a key in the form %s", async (_, command) => {
    await openssl(...command, ...request, "-keyout", "ca.key", "-out", "ca.crt");
    const ca = await open();
    const issued = await ca.issue(await testOrder(), testStep());
    await writeFile(join(baseDir, "leaf.pem"), issued.certificate);
    await openssl("verify", "-CAfile", "ca.crt", "../leaf.pem");
    const crl = parseCrl(await ca.publishCrl(testStep()));
    expect(crl.isSignedBy(ca.certificate)).toBe(true);
  });

  it.each([
    ["SEC1", ["ec", "-in", "p8.key", "-out", "ca.key"]],
    [
      "SEC1, encrypted in OpenSSL's old way",
      ["ec", "-aes256", "-passout", `pass:${PASSPHRASE}`, "-in", "p8.key", "-out", "ca.key"],
    ],
  ])("signs with a key in the form %s", async (_, convert) => {
    await openssl(
      "req",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-noenc",
      ...request,
      "-keyout",
      "p8.key",
      "-out",
      "ca.crt",
    );
    await openssl(...convert);
    expect(await codeOf((await open()).issue(await testOrder(), testStep()))).toBe("none");
  });

  it("refuses a key that is not the certificate's", async () => {
    await openssl("req", "-newkey", "ed25519", "-noenc", ...request, "-keyout", "ca.key", "-out", "ca.crt");
    await openssl("genpkey", "-algorithm", "ed25519", "-out", "ca.key");
    const error = await errorOf((await open()).issue(await testOrder(), testStep()));
    expect(error.code).toBe("input");
    expect(error.message).toMatch(/is not the one of certificate/);
  });

  it("refuses a certificate that is no CA, and one whose root is missing", async () => {
    await openssl("req", "-newkey", "ed25519", "-noenc", ...request, "-keyout", "root.key", "-out", "root.crt");
    await openssl("req", "-newkey", "ed25519", "-noenc", "-subj", "/CN=leaf", "-keyout", "ca.key", "-out", "ca.csr");
    await openssl(
      "x509",
      "-req",
      "-in",
      "ca.csr",
      "-CA",
      "root.crt",
      "-CAkey",
      "root.key",
      "-days",
      "9",
      "-out",
      "ca.crt",
    );
    const alone = await errorOf(open());
    expect(alone.message).toMatch(/the root above .* is missing/);
    await appendFile(join(baseDir, "ca", "ca.crt"), await readFile(join(baseDir, "ca", "root.crt")));
    const error = await errorOf((await open()).issue(await testOrder(), testStep()));
    expect(error.message).toMatch(/is not a CA/);
  });
});

describe("local-ca: the ledger", () => {
  const path = () => join(baseDir, "ca", "issued.jsonl");
  /** A program that issues for op0, op1, … and prints each certificate as soon as it has it. */
  const issuing = (count: number) => `
      import fs from "node:fs";
      import { openLocalCa } from ${JSON.stringify(join(import.meta.dirname, "local-ca.ts"))};
      import { localCaSettings } from ${JSON.stringify(join(import.meta.dirname, "settings.ts"))};
      import { testOrder } from ${JSON.stringify(join(import.meta.dirname, "..", "conformance", "material.ts"))};
      const settings = localCaSettings.parse({ directory: "ca", passphrase: ${JSON.stringify(PASSPHRASE)} });
      const ca = await openLocalCa(settings, { baseDir: process.argv[1], now: () => Date.now() });
      const step = (op) => ({ op, signal: new AbortController().signal, tag: "t" });
      for (let i = 0; i < ${count}; i++) console.log((await ca.issue(await testOrder(), step("op" + i))).certificate.replaceAll("\\n", ""));`;

  it("drops a line that was cut off, and goes on after it", async () => {
    const ca = await open();
    const [first, second, third] = [testStep(), testStep(), testStep()];
    const issued = await ca.issue(await testOrder(), first);
    const { size } = await stat(path());
    await ca.issue(await testOrder(), second);
    await truncate(path(), (await stat(path())).size - 1);
    const again = await open();
    expect(await again.find(first.op)).toEqual(issued);
    expect(await again.find(second.op)).toBeUndefined();
    await again.issue(await testOrder(), third);
    const lines = (await readFile(path(), "utf8")).trimEnd().split("\n");
    expect(lines.length).toBe(2);
    expect(JSON.parse(lines[1]!).op).toBe(third.op);
    expect(size).toBe(lines[0]!.length + 1);
    expect(await (await open()).find(third.op)).toBeDefined();
  });

  it("cut anywhere in its last line, holds what came before it and takes the same op again", async () => {
    const ca = await open();
    const [first, second] = [testStep(), testStep()];
    const issued = await ca.issue(await testOrder(), first);
    const kept = (await stat(path())).size;
    await ca.issue(await testOrder(), second);
    const whole = await readFile(path());
    for (let size = kept; size < whole.length; size += 41) {
      await writeFile(path(), whole.subarray(0, size));
      const again = await open();
      expect(await again.find(first.op)).toEqual(issued);
      expect(await again.find(second.op)).toBeUndefined();
    }
    await (await open()).issue(await testOrder(), second);
    expect((await readFile(path(), "utf8")).trimEnd().split("\n").length).toBe(2);
  });

  it("leaves nothing of a cut-off line that is longer than the next one", async () => {
    const ca = await open();
    const names = Array.from({ length: 60 }, (_, i) => `DNS:host-${i}.example`);
    await ca.issue(await testOrder({ names }), testStep());
    await truncate(path(), (await stat(path())).size - 1);
    await (await open()).publishCrl(testStep());
    const lines = (await readFile(path(), "utf8")).split("\n");
    expect([lines.length, lines[1], JSON.parse(lines[0]!).kind]).toEqual([2, "", "crl"]);
  });

  it("has every certificate that a killed process handed out, and none twice", async () => {
    await open();
    const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", issuing(1_000_000), baseDir]);
    let heard = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      heard += text;
      if (heard.split("\n").length > 8) child.kill("SIGKILL");
    });
    await once(child, "close");
    const lines = heard.split("\n").slice(0, -1);
    expect(lines.length).toBeGreaterThan(7);
    const ca = await open();
    for (const [i, line] of lines.entries())
      expect(((await ca.find(`op${i}`)) as { certificate: string } | undefined)?.certificate.replaceAll("\n", "")).toBe(
        line,
      );
    const resumed = await ca.find(`op${lines.length}`);
    const again = await ca.issue(await testOrder(), { ...testStep(), op: `op${lines.length}` });
    if (resumed !== undefined) expect(again).toEqual(resumed);
    expect((await readFile(path(), "utf8")).trimEnd().split("\n").length).toBe(lines.length + 1);
  });

  it("on a full disk issues nothing, says so, and is as it was", async () => {
    const line = `mount -t tmpfs -o size=16k none '${join(baseDir, "full")}'
      cp -r '${join(baseDir, "ca")}' '${join(baseDir, "full", "ca")}'
      cd '${join(baseDir, "full")}'; head -c 1000000 /dev/zero > filler || true
      exec '${process.execPath}' --input-type=module-typescript -e "$PROGRAM" '${join(baseDir, "full")}'`;
    await (await open()).issue(await testOrder(), testStep("before"));
    await mkdir(join(baseDir, "full"));
    const program = issuing(40).replace(
      /console\.log.*;/,
      `{
      const told = await ca.issue(await testOrder(), step("op" + i)).catch((error) => error);
      if (told instanceof Error) { console.log(told.code, told.message); console.log(await ca.find("op" + i) === undefined, await ca.find("before") !== undefined, fs.readFileSync(process.argv[1] + "/ca/issued.jsonl", "utf8").endsWith("\\n")); break; }
    }`,
    );
    const { stdout } = await run("unshare", ["--mount", "sh", "-ec", line], {
      env: { ...process.env, PROGRAM: program },
    });
    expect(stdout).toMatch(
      /^disk recording at .*issued\.jsonl: no space left on the device; nothing was issued\ntrue true true/,
    );
  });

  it("names the line in which a byte was changed, and issues nothing", async () => {
    const ca = await open();
    for (let i = 0; i < 3; i++) await ca.issue(await testOrder(), testStep());
    const lines = (await readFile(path(), "utf8")).split("\n");
    const { serial } = JSON.parse(lines[1]!);
    lines[1] = lines[1]!.replace(
      serial,
      serial.replace(/.$/, (last: string) => (last === "0" ? "1" : "0")),
    );
    await writeFile(path(), lines.join("\n"));
    const error = await errorOf((await open()).issue(await testOrder(), testStep()));
    expect([error.code, error.where]).toEqual(["damaged", `${path()}:2`]);
    expect((await readFile(path(), "utf8")).split("\n").length).toBe(4);
  });

  it("refuses a record of a newer Gyre", async () => {
    const ca = await open();
    await ca.issue(await testOrder(), testStep());
    await appendFile(path(), `${JSON.stringify({ kind: "frozen", format: 2, sum: "x" })}\n`);
    expect(await codeOf((await open()).find(testStep().op))).toBe("newer");
  });

  it("issues once for one op when several processes ask, and loses no issue", async () => {
    await open();
    const children = [1, 2, 3].map(() =>
      run(process.execPath, ["--input-type=module-typescript", "-e", issuing(10), baseDir]),
    );
    const outputs = (await Promise.all(children)).map(({ stdout }) => stdout);
    expect(new Set(outputs).size).toBe(1);
    expect(new Set(outputs[0]!.trim().split("\n")).size).toBe(10);
    expect((await readFile(path(), "utf8")).trimEnd().split("\n").length).toBe(10);
  });

  it("keeps an expired serial for one CRL, then leaves it out", async () => {
    const ca = await open();
    const issued = await ca.issue(await testOrder({ lifetime: 2 * DAY }), testStep());
    await ca.retire(namedOf(issued), testStep());
    const listed = async () => parseCrl(await ca.publishCrl(testStep())).entries.has(namedOf(issued).serial);
    expect(await listed()).toBe(true);
    clock += 3 * DAY;
    expect(await listed()).toBe(true);
    clock += DAY;
    expect(await listed()).toBe(false);
  });

  it("never repeats or lowers a CRL number, not even when the clock goes back", async () => {
    const ca = await open();
    const numbers: bigint[] = [];
    for (const step of [0, 0, -10 * 60_000, 60_000]) {
      clock += step;
      numbers.push(BigInt(`0x${parseCrl(await ca.publishCrl(testStep())).number}`));
    }
    expect(numbers.every((number, i) => i === 0 || number > numbers[i - 1]!)).toBe(true);
  });

  it("takes in what a CRL of its own lists and the record does not, once, and no CRL of others", async () => {
    const other = await open({ directory: "other" });
    const [serial, stranger] = ["5e", "6f"];
    const theirs = async (ca: LocalCa, directory: string, listed: string, number: number) => {
      const key = readPrivateKey(await readFile(join(baseDir, directory, "ca.key")), Secret.of(PASSPHRASE));
      const entries = [{ serial: listed, revocationDate: clock - DAY, reason: "keyCompromise" as const }];
      const fields = { number, thisUpdate: clock - DAY, nextUpdate: clock + DAY, entries };
      return signCrl(prepareAuthority(ca.certificate, key), fields).pem;
    };
    const ca = await open();
    const number = 20_261_126_205_914; // a date, as other software counts
    const pem = (await theirs(ca, "ca", serial, number)) + (await theirs(other, "other", stranger, 1));
    expect(await ca.takeIn(pem, testStep())).toEqual([serial]);
    expect(await (await open()).takeIn(pem, testStep())).toEqual([]);
    expect(await ca.takeIn("", testStep())).toEqual([]);
    const next = parseCrl(await ca.publishCrl(testStep()));
    expect([...next.entries.values()]).toMatchObject([{ serial, reason: "keyCompromise" }]);
    expect(BigInt(`0x${next.number}`)).toBeGreaterThan(number);
    expect(await ca.revoked()).toEqual(new Set([serial]));
  });

  it("says which serials a CRL must list now: those that have not expired", async () => {
    const ca = await open();
    const issued = await ca.issue(await testOrder({ lifetime: 2 * DAY }), testStep());
    expect(await ca.revoked()).toEqual(new Set());
    await ca.retire(namedOf(issued), testStep());
    expect(await ca.revoked()).toEqual(new Set([namedOf(issued).serial]));
    clock += 3 * DAY;
    expect(await ca.revoked()).toEqual(new Set());
  });

  it("writes no passphrase and no key anywhere in the directory but encrypted", async () => {
    const ca = await open({ intermediate: true });
    await ca.issue(await testOrder(), testStep());
    for (const name of await readdir(join(baseDir, "ca"))) {
      const text = await readFile(join(baseDir, "ca", name), "latin1");
      expect(text).not.toContain(PASSPHRASE);
      expect(text).not.toMatch(/BEGIN (EC |RSA )?PRIVATE KEY/);
    }
    expect(parseCertificates(ca.chain()).length).toBe(1);
  });
});
