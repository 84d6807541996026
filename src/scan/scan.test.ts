import { execFileSync } from "node:child_process";
import { chmodSync, linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer as createTcpServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Certificate } from "../pki/certificate.ts";
import { signCrl } from "../pki/crl.ts";
import { createCsr, csrPem } from "../pki/csr.ts";
import { type CertificateAuthority, prepareAuthority, signCertificate, signSelfSigned } from "../pki/issue.ts";
import { writeJks } from "../pki/jks.ts";
import { exportPkcs8, exportPrivateKey, generateKey, type PrivateKey } from "../pki/keys.ts";
import { writePkcs12 } from "../pki/pkcs12.ts";
import type { Found, FoundCertificate, FoundPrivateKey } from "./found.ts";
import { scan } from "./scan.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const now = Date.UTC(2026, 10, 24, 12);
const top = mkdtempSync(join(tmpdir(), "gyre-scan-"));
afterAll(() => rmSync(top, { recursive: true, force: true }));

let folder: string;
let keys: { root: PrivateKey; issuing: PrivateKey; leaf: PrivateKey; other: PrivateKey };
let root: Certificate;
let issuing: Certificate;
let leaf: Certificate;
let authority: CertificateAuthority;

beforeAll(async () => {
  const [a, b, c, d] = await Promise.all(
    ["P-256", "P-256", "P-256", "Ed25519"].map((name) => generateKey(name as "P-256")),
  );
  keys = { root: a!, issuing: b!, leaf: c!, other: d! };
  const life = { notBefore: now - HOUR, notAfter: now + 100 * DAY };
  root = signSelfSigned(keys.root, { subject: "CN=root", isCa: true, ...life });
  issuing = signCertificate(prepareAuthority(root, keys.root), {
    subject: "CN=issuing",
    isCa: true,
    spkiDer: keys.issuing.spkiDer,
    ...life,
  });
  authority = prepareAuthority(issuing, keys.issuing);
  leaf = leafFor(keys.leaf);
});
beforeEach(() => {
  folder = mkdtempSync(join(top, "t-"));
});

function leafFor(key: PrivateKey, more: object = {}): Certificate {
  const usages = ["server"] as const;
  const life = { notBefore: now - HOUR, notAfter: now + 10 * DAY + HOUR };
  return signCertificate(authority, {
    subject: "CN=shop.example",
    names: ["DNS:shop.example", "DNS:localhost"],
    usages,
    spkiDer: key.spkiDer,
    ...life,
    ...more,
  });
}
const keyPem = (key: PrivateKey): string => exportPrivateKey(key).use((bytes) => bytes.toString("utf8"));

function write(name: string, content: string | Uint8Array, mode = 0o600): string {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}
async function finds(targets: string | readonly string[] = folder, options: object = {}): Promise<Found[]> {
  const all: Found[] = [];
  for await (const found of scan([targets].flat(), { now, lint: false, ...options })) all.push(found);
  return all;
}
/** `what where`, with the folder left out. */
const words = (all: readonly Found[]): string[] =>
  all.map((one) => `${one.what} ${one.where.replaceAll(`${folder}/`, "")}`);
const codes = (found: Found | undefined): string[] => (found?.findings ?? []).map((finding) => finding.code);
const certificate = (all: readonly Found[], where: string): FoundCertificate =>
  all.find((one) => one.where === join(folder, where)) as FoundCertificate;
const privateKey = (all: readonly Found[]): FoundPrivateKey =>
  all.find((one) => one.what === "private key") as FoundPrivateKey;

describe("one file", () => {
  test("a certificate is told with all its fields", async () => {
    expect(await finds(write("shop.pem", leaf.pem))).toEqual([
      {
        what: "certificate",
        where: join(folder, "shop.pem:1"),
        subject: "CN=shop.example",
        names: ["DNS:shop.example", "DNS:localhost"],
        issuer: "CN=issuing",
        serial: leaf.serial,
        fingerprint: leaf.fingerprint,
        algorithm: "P-256",
        usages: ["serverAuth"],
        notBefore: now - HOUR,
        notAfter: now + 10 * DAY + HOUR,
        daysLeft: 10,
        findings: [],
      },
    ]);
  });

  test("what openssl says of the same file agrees", async () => {
    const path = write("shop.pem", leaf.pem);
    const said = execFileSync("openssl", ["x509", "-in", path, "-noout", "-serial", "-fingerprint", "-sha256"], {
      encoding: "utf8",
    });
    const [found] = (await finds(path)) as FoundCertificate[];
    expect(said.replaceAll(":", "").toLowerCase()).toContain(found!.fingerprint);
    expect(BigInt(`0x${/serial=(\w+)/.exec(said)![1]}`)).toBe(BigInt(`0x${found!.serial}`));
  });

  test("days left are whole days, and negative as soon as it has ended", async () => {
    const path = write("shop.pem", leaf.pem);
    const left = async (at: number) => ((await finds(path, { now: at })) as FoundCertificate[])[0]!.daysLeft;
    expect(await left(leaf.notAfter - DAY)).toBe(1);
    expect(await left(leaf.notAfter - DAY + 1)).toBe(0);
    expect(await left(leaf.notAfter)).toBe(0);
    expect(await left(leaf.notAfter + 1)).toBe(-1);
  });

  test("lint is told with it, unless it is not wanted", async () => {
    const path = write("shop.pem", leaf.pem);
    const late = { now: leaf.notAfter + DAY };
    expect(codes((await finds(path, { ...late, lint: true }))[0])).toContain("expired");
    expect(codes((await finds(path, late))[0])).not.toContain("expired");
  });

  test("a chain is grouped, and a bundle of CAs is not", async () => {
    const chain = await finds(write("fullchain.pem", `# shop\n${leaf.pem}${issuing.pem}${root.pem}`));
    expect(words(chain)).toEqual([
      "certificate fullchain.pem:2",
      `CA fullchain.pem:${2 + lines(leaf)}`,
      `CA fullchain.pem:${2 + lines(leaf) + lines(issuing)}`,
    ]);
    expect(chain.map((one) => (one as FoundCertificate).chain)).toEqual(
      [1, 2, 3].map((position) => ({ position, of: 3 })),
    );
    const stranger = signSelfSigned(keys.other, {
      subject: "CN=other root",
      isCa: true,
      notBefore: now,
      notAfter: now + DAY,
    });
    const bundle = await finds(write("bundle.pem", root.pem + root.pem + stranger.pem));
    expect(bundle.map((one) => (one as FoundCertificate).chain)).toEqual([undefined, undefined, undefined]);
  });

  test("every other kind, PEM and DER", async () => {
    const crl = signCrl(authority, {
      number: 7,
      thisUpdate: now - 2 * DAY,
      nextUpdate: now - DAY,
      entries: [{ serial: "ab", revocationDate: now - 2 * DAY }],
    });
    const request = createCsr(keys.leaf, { subject: "CN=wish", names: ["DNS:wish.example"] });
    const store = { keys: [{ alias: "a", key: keys.leaf, chain: [leaf, issuing] }], trusted: [] };
    write("a.crl", crl.pem);
    write("b.crl", crl.der);
    write("c.csr", csrPem(request));
    write("d.csr", request);
    write("e.der", leaf.der);
    write("f.p12", writePkcs12(store, "secret"));
    write("g.jks", writeJks(store, "secret", now));
    const all = await finds();
    expect(words(all)).toEqual([
      "CRL a.crl:1",
      "CRL b.crl",
      "CSR c.csr:1",
      "CSR d.csr",
      "certificate e.der",
      "PKCS#12 f.p12",
      "JKS g.jks",
    ]);
    expect(all[0]).toMatchObject({ issuer: "CN=issuing", serial: "7", revoked: 1, daysLeft: -1 });
    expect(all.map(codes).slice(0, 3)).toEqual([["crl-expired"], ["crl-expired"], []]);
    expect(all[2]).toMatchObject({ subject: "CN=wish", names: ["DNS:wish.example"], algorithm: "P-256" });
  });

  test("stores as openssl and keytool write them", async () => {
    write("k.pem", keyPem(keys.leaf));
    write("c.pem", leaf.pem);
    const inside = { cwd: folder, stdio: "pipe" } as const;
    execFileSync(
      "openssl",
      ["pkcs12", "-export", "-inkey", "k.pem", "-in", "c.pem", "-out", "o.p12", "-passout", "pass:secret"],
      inside,
    );
    execFileSync(
      "keytool",
      [
        "-importcert",
        "-noprompt",
        "-file",
        "c.pem",
        "-keystore",
        "t.p12",
        "-storepass",
        "secret",
        "-storetype",
        "PKCS12",
      ],
      inside,
    );
    execFileSync(
      "keytool",
      ["-importcert", "-noprompt", "-file", "c.pem", "-keystore", "t.jks", "-storepass", "secret", "-storetype", "JKS"],
      inside,
    );
    const stores = (await finds()).filter((one) => one.what === "PKCS#12" || one.what === "JKS");
    expect(words(stores)).toEqual(["PKCS#12 o.p12", "JKS t.jks", "PKCS#12 t.p12"]);
  });
});
const lines = (c: Certificate): number => c.pem.trimEnd().split("\n").length;

describe("private keys", () => {
  test.each([
    ["shop.pem", "shop.key"],
    ["shop.pem", "shop-key.pem"],
    ["tls.crt", "tls.key"],
    ["fullchain.pem", "privkey.pem"],
  ])("%s and %s belong together", async (cert, key) => {
    write(cert, leaf.pem);
    write(key, keyPem(keys.leaf));
    for (const target of [folder, join(folder, cert)]) {
      const all = await finds(target);
      expect(certificate(all, `${cert}:1`).key).toEqual({ where: join(folder, `${key}:1`), matches: true });
      expect(privateKey(all)).toMatchObject({
        algorithm: "P-256",
        encrypted: false,
        matches: [join(folder, `${cert}:1`)],
      });
    }
    write(key, keyPem(keys.other));
    for (const target of [folder, join(folder, cert)]) {
      const all = await finds(target);
      expect(certificate(all, `${cert}:1`)).toMatchObject({ key: { matches: false } });
      expect(codes(certificate(all, `${cert}:1`))).toEqual(["key-mismatch"]);
      expect(privateKey(all).matches).toEqual([]);
    }
  });

  test("a key of another name is told where it matches, and is no mismatch where it does not", async () => {
    write("a.pem", leaf.pem);
    write("b.pem", leafFor(keys.issuing).pem);
    write("z-key.pem", keyPem(keys.leaf));
    const all = await finds();
    expect(certificate(all, "a.pem:1").key).toEqual({ where: join(folder, "z-key.pem:1"), matches: true });
    expect(certificate(all, "b.pem:1").key).toBeUndefined();
    expect(codes(certificate(all, "b.pem:1"))).toEqual([]);
  });

  test("in one file with its chain; the intermediates are not held to it", async () => {
    const all = await finds(write("combined.pem", keyPem(keys.leaf) + leaf.pem + issuing.pem));
    expect(all.map((one) => [one.what, codes(one)])).toEqual([
      ["certificate", []],
      ["CA", []],
      ["private key", []],
    ]);
    expect((all[0] as FoundCertificate).key?.matches).toBe(true);
    const wrong = await finds(write("combined.pem", keyPem(keys.other) + leaf.pem + issuing.pem));
    expect(wrong.map((one) => [one.what, codes(one)])).toEqual([
      ["certificate", ["key-mismatch"]],
      ["CA", []],
      ["private key", []],
    ]);
  });

  test("beside a key the order of the chain counts", async () => {
    expect(codes((await finds(write("a.pem", keyPem(keys.leaf) + issuing.pem + leaf.pem)))[0])).toEqual([
      "chain-order",
    ]);
    expect(codes((await finds(write("b.pem", keyPem(keys.leaf) + leaf.pem + root.pem)))[0])).toEqual(["chain-order"]);
    expect(codes((await finds(write("c.pem", keyPem(keys.leaf) + leaf.pem + issuing.pem)))[0])).toEqual([]);
  });

  test("an encrypted one is told as that", async () => {
    const locked = exportPrivateKey(keys.leaf, "secret", 1000).use((bytes) => bytes.toString("utf8"));
    expect(await finds(write("a.key", locked))).toMatchObject([{ what: "private key", encrypted: true, matches: [] }]);
    expect(privateKey(await finds(join(folder, "a.key")))).not.toHaveProperty("algorithm");
  });

  test("readable by everybody, writable by everybody", async () => {
    const path = write("a.key", keyPem(keys.leaf));
    const open = async (mode: number) => {
      chmodSync(path, mode);
      return codes((await finds(path))[0]);
    };
    expect(await open(0o600)).toEqual([]);
    expect(await open(0o640)).toEqual([]);
    expect(await open(0o644)).toEqual(["key-permissions"]);
    expect(await open(0o602)).toEqual(["writable"]);
    expect(codes((await finds(write("a.pem", leaf.pem, 0o644)))[0])).toEqual([]);
    expect(codes((await finds(write("b.pem", leaf.pem, 0o666)))[0])).toEqual(["writable"]);
  });

  test("a password of 32 characters is no key, whatever it begins with", async () => {
    write("password", "0".repeat(32));
    expect(await finds()).toEqual([]);
    // The control: a key in DER, in a file of a name that promises nothing either.
    write("other", exportPkcs8(keys.other.keyObject));
    expect(words(await finds())).toEqual(["private key other"]);
  });

  test("no byte of a key is in what is told", async () => {
    write("a.key", keyPem(keys.leaf), 0o644);
    write("a.pem", leaf.pem);
    write("bad.key", keyPem(keys.leaf).replace(/\n-----END/, "!\n-----END"));
    write("cut.key", keyPem(keys.leaf).slice(0, 120));
    const told = JSON.stringify(await finds());
    const body = keyPem(keys.leaf).split("\n")[1]!;
    expect(told).toContain("a.key:1");
    for (let at = 24; at + 12 < body.length; at += 6) expect(told).not.toContain(body.slice(at, at + 12));
  });
});

describe("a directory", () => {
  test("is read to the bottom, in order; what is not ours is passed over", async () => {
    write("b/two.pem", leaf.pem);
    write("a.pem", leaf.pem);
    write("b/c/three.crt", leaf.pem);
    write(".kube/ca.crt", root.pem);
    write("notes.txt", "0 is no certificate");
    write("id.key", "0 is no key");
    write("image.bin", Buffer.from([0x30, 0x82, 0xff, 0xff, 1, 2, 3]));
    expect(words(await finds())).toEqual([
      "certificate a.pem:1",
      "CA .kube/ca.crt:1",
      "certificate b/two.pem:1",
      "certificate b/c/three.crt:1",
    ]);
  });

  test("links: loops end, links to neighbours and mounted Secrets are told once", async () => {
    write("a.pem", leaf.pem);
    symlinkSync("a.pem", join(folder, "1a2b3c4d.0"));
    symlinkSync(".", join(folder, "self"));
    mkdirSync(join(folder, "in"));
    symlinkSync("..", join(folder, "in", "up"));
    symlinkSync("nowhere", join(folder, "dangling.pem"));
    write("mount/..2026_11_24/tls.crt", leaf.pem);
    symlinkSync("..2026_11_24", join(folder, "mount", "..data"));
    symlinkSync("..data/tls.crt", join(folder, "mount", "tls.crt"));
    const own = words(await finds()).filter((word) => !word.includes("/in/up/"));
    expect(own).toEqual(["certificate a.pem:1", "certificate mount/tls.crt:1"]);
  });

  test("a FIFO, a device and a socket hold nobody", async () => {
    execFileSync("mkfifo", [join(folder, "pipe.pem")]);
    write("a.pem", leaf.pem);
    expect(words(await finds())).toEqual(["certificate a.pem:1"]);
    const named = await finds([join(folder, "pipe.pem"), "/dev/null"]);
    expect(named.map((one) => one.what === "problem" && one.message)).toEqual(Array(2).fill("not a regular file"));
  });

  test("damaged files are told and stop nothing; whole blocks before the damage are told too", async () => {
    write("a.pem", `${leaf.pem}${issuing.pem.slice(0, 200)}`);
    write("b.pem", leaf.pem.replace("MII", "MIH"));
    write("c.pem", "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n");
    write("d.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    write("e.der", Buffer.from([0x30, 0x03, 0x02, 0x01, 0x00]));
    write("f.pem", leaf.pem);
    write("g.pem", "");
    write("h.crt", "0 is no certificate");
    write("i.p12", Buffer.from("3003020103", "hex"));
    expect(words(await finds())).toEqual([
      "problem d.key:1",
      "certificate a.pem:1",
      `problem a.pem:${1 + lines(leaf)}`,
      "problem b.pem:1",
      "problem c.pem:2",
      "problem e.der",
      "certificate f.pem:1",
      "problem g.pem",
      "problem h.crt",
      "problem i.p12",
    ]);
  });

  test("memory is that of a few files, however many there are", async () => {
    const program = join(folder, "count.mjs");
    const source = join(import.meta.dirname, "scan.ts");
    writeFileSync(
      program,
      `import { scan } from ${JSON.stringify(source)};\nlet n = 0;\nfor await (const f of scan([process.argv[2]])) n++;\nconsole.log(n, process.resourceUsage().maxRSS);\n`,
    );
    const blocks = Array(50).fill(leaf.pem).join("");
    const peak = (name: string, files: number): number => {
      write(`${name}/0.pem`, blocks);
      for (let i = 1; i < files; i++) linkSync(join(folder, name, "0.pem"), join(folder, name, `${i}.pem`));
      const [count, kilobytes] = execFileSync(process.execPath, [program, join(folder, name)], { encoding: "utf8" })
        .split(" ")
        .map(Number);
      expect(count).toBe(files * 50);
      return kilobytes! / 1024;
    };
    // 800 files of 50 certificates are 33 MB of text, and 40,000 finds several times that.
    expect(peak("many", 800) - peak("few", 20)).toBeLessThan(40);
  });

  test("an abort ends it, before and within", async () => {
    write("0.pem", leaf.pem);
    await expect(finds(folder, { signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow("enough");
    // More than one slice of reading; the rest of the slice may still be told.
    for (let i = 1; i < 5000; i++) linkSync(join(folder, "0.pem"), join(folder, `${i}.pem`));
    const abort = new AbortController();
    let told = 0;
    const stopped = (async () => {
      for await (const _ of scan([folder], { now, signal: abort.signal }))
        if (++told === 10) abort.abort(new Error("enough"));
    })();
    await expect(stopped).rejects.toThrow("enough");
    expect(told).toBeLessThan(5000);
  });
});

test("what is nothing at all is told for each target", async () => {
  const path = write("notes.txt", "no certificate");
  const all = await finds([join(folder, "gone.pem"), path, "neither", "127.0.0.1:0"]);
  expect(all.map((one) => one.what === "problem" && one.message)).toEqual([
    "no such file or directory (and it is no host:port)",
    "nothing in it that Gyre knows: no PEM, DER, PKCS#12, JKS or kubeconfig",
    "no such file or directory (and it is no host:port)",
    "no port from 1 to 65535",
  ]);
});

describe("a kubeconfig", () => {
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  const config = (user: string, cluster: string) => `apiVersion: v1
kind: Config
clusters: [ { name: prod, cluster: { server: "https://10.0.0.1:6443", ${cluster} } } ]
users: [ { name: admin, user: { ${user} } } ]
`;

  test("certificates and keys it carries, each under its user or cluster", async () => {
    const path = write(
      "config",
      config(
        `client-certificate-data: ${base64(leaf.pem)}, client-key-data: ${base64(keyPem(keys.leaf))}`,
        `certificate-authority-data: ${base64(root.pem)}`,
      ),
    );
    const all = await finds(path);
    expect(words(all)).toEqual([
      "CA config#cluster/prod",
      "certificate config#user/admin",
      "private key config#user/admin",
    ]);
    expect((all[1] as FoundCertificate).key?.matches).toBe(true);
    const wrong = config(
      `client-certificate-data: ${base64(leaf.pem)}, client-key-data: ${base64(keyPem(keys.other))}`,
      "",
    );
    expect(codes((await finds(write("wrong.yaml", wrong)))[0])).toEqual(["key-mismatch"]);
  });

  test("files it names are followed, from its own directory", async () => {
    write("pki/admin.crt", leaf.pem);
    write("pki/admin.key", keyPem(keys.leaf), 0o644);
    const path = write(
      "admin.conf",
      config("client-certificate: pki/admin.crt, client-key: pki/admin.key", "certificate-authority: pki/gone.crt"),
    );
    const all = await finds(path);
    expect(words(all)).toEqual([
      "problem admin.conf#cluster/prod pki/gone.crt",
      "certificate admin.conf#user/admin pki/admin.crt:1",
      "private key admin.conf#user/admin pki/admin.key:1",
    ]);
    expect(codes(all[2])).toEqual(["key-permissions"]);
  });

  test("a certificate in DER is still itself after the next file was read", async () => {
    write("admin.der", leaf.der);
    write("admin.key", keyPem(keys.leaf));
    const all = await finds(write("config", config("client-certificate: admin.der, client-key: admin.key", "")));
    expect(all[0]).toMatchObject({ fingerprint: leaf.fingerprint, key: { matches: true } });
  });

  test("tokens, passwords and plugins are noted and not told", async () => {
    const all = await finds(
      write(
        "config",
        config(
          "token: hunter2-hunter2, password: hunter3-hunter3, exec: { command: login }",
          "insecure-skip-tls-verify: true",
        ),
      ),
    );
    expect(words(all)).toEqual([
      "problem config#cluster/prod",
      "token config#user/admin",
      "password config#user/admin",
      "exec config#user/admin",
    ]);
    expect(JSON.stringify(all)).not.toMatch(/hunter/);
  });

  test("damage is told, and other YAML in a directory is passed over", async () => {
    write("a.yaml", "kind: Config\nclusters: [ hunter2 : :\n");
    write(
      "b.yaml",
      "kind: Config\nclusters: 7\nusers: [ 1, null, { name: x, user: { client-certificate-data: '!!' } } ]\n",
    );
    write("c.yaml", "kind: Deployment\n");
    const all = await finds();
    expect(words(all)).toEqual(["problem a.yaml", "problem b.yaml#user/x"]);
    expect(all[1]).toMatchObject({ message: "client-certificate-data is not base64" });
    expect(JSON.stringify(all)).not.toContain("hunter2");
  });
});

describe("a server", () => {
  const servers: Server[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) server.close();
  });
  const listen = async (server: Server): Promise<string> => {
    servers.push(server);
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    return `localhost:${(server.address() as AddressInfo).port}`;
  };
  const tls = (options: TlsOptions): Promise<string> =>
    listen(createTlsServer({ key: keyPem(keys.leaf), ...options }).on("tlsClientError", () => undefined));

  test("the chain as it is sent, the leaf judged by the name asked for", async () => {
    const address = await tls({ cert: leaf.pem + issuing.pem });
    const all = await finds(address);
    expect(words(all)).toEqual([`certificate ${address}#1`, `CA ${address}#2`]);
    expect(all[0]).toMatchObject({ fingerprint: leaf.fingerprint, chain: { position: 1, of: 2 }, findings: [] });
    expect(codes((await finds(address, { serverName: "other.example" }))[0])).toEqual(["name-mismatch"]);
  });

  test.each(["TLSv1.2", "TLSv1.3"] as const)(
    "one that wants a client certificate still shows its own (%s)",
    async (version) => {
      const address = await tls({
        cert: leaf.pem,
        requestCert: true,
        rejectUnauthorized: true,
        ca: root.pem,
        minVersion: version,
        maxVersion: version,
      });
      expect(await finds(address)).toMatchObject([{ what: "certificate", fingerprint: leaf.fingerprint }]);
    },
  );

  test("closed, silent about TLS, and gone", async () => {
    const plain = await listen(
      createTcpServer((socket) => socket.on("error", () => undefined).end("HTTP/1.1 400 Bad Request\r\n\r\n")),
    );
    const rude = await listen(createTcpServer((socket) => socket.on("error", () => undefined).destroy()));
    const gone = await listen(createTcpServer());
    await new Promise((done) => servers.pop()!.close(done));
    const all = await finds([plain, rude, gone]);
    expect(words(all)).toEqual([plain, rude, gone].map((address) => `problem ${address}`));
    expect((all[2] as { message: string }).message).toBe("connection refused; no certificate was seen");
  });
});
