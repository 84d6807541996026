/**
 * No secret gets out: every secret of an estate is searched, in many forms, in everything that Gyre prints and writes,
 * and in the arguments and environment of every program it starts, through rotations that close, hold, fail and are
 * refused. What the search cannot miss is shown first.
 */
import { execFileSync } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../../lab/estate.ts";
import { peers } from "../../lab/install.ts";
import { openSecrets } from "../../src/journal/secrets.ts";
import { findMarked, type Marked, markBytes, markKey, markText } from "./fixtures/marked.ts";
import { execute, makeShop, passphrase, type Ran, type Shop } from "./fixtures/shop.ts";

const storePassword = `store/pass+word ${randomBytes(6).toString("hex")}`;
const wrongPassphrase = `quite another passphrase ${randomBytes(6).toString("hex")}`;
const environment = { CA_PASSPHRASE: passphrase, STORE_PASSWORD: storePassword };

let shop: Shop;
const secrets = new Map<string, Marked>();
const said: { readonly what: string; readonly text: string }[] = [];
let traces = 0;

const mark = (one: Marked): void => void secrets.set(one.forms[0]!.text, one);

beforeAll(async () => {
  shop = await makeShop("taint");
  mkdirSync(shop.path("extra"));
  mark(markText("CA passphrase", passphrase));
  mark(markText("wrong passphrase", wrongPassphrase));
  mark(markText("key store password", storePassword));
  mark(markKey("CA key", readFileSync(shop.path("ca/ca.key")), passphrase));
  mark(markKey("key before Gyre", readFileSync(shop.path("server-1/tls.key"))));
});
let failed = true;
afterAll(() => shop?.end(failed));

/** Programs that write down what they and their parent can be seen with, as any user of the host could. */
function witness(name: string, more = ""): string {
  const script = `#!/bin/sh\ncat /proc/$$/environ /proc/$$/cmdline /proc/$PPID/cmdline >> "$(dirname "$0")/seen.bin"\n${more}\n`;
  writeFileSync(shop.path(name), script);
  chmodSync(shop.path(name), 0o755);
  return shop.named(name);
}

function writeManifest(options: { readonly reload?: string; readonly dead?: string } = {}): void {
  shop.write(({ credential }) => {
    const { pidFile } = shop.servers[0]!;
    const reload = options.reload ?? `kill -HUP "$(cat '${pidFile}')"`;
    const [first] = credential.spec.deliver;
    first!.reload = { command: [witness("reload.sh", reload)] };
    first!.validate = { command: [witness("validate.sh"), "{certificate}", "{privateKey}"] };
    const keystore = (path: string, format: string) => ({
      keystore: { path, password: `$${"{"}STORE_PASSWORD}`, format },
    });
    credential.spec.deliver.push(
      { files: { combined: "extra/combined.pem" } },
      { files: keystore("extra/store.p12", "pkcs12") },
      { files: keystore("extra/store.jks", "jks") },
    );
    if (options.dead !== undefined) (credential.spec.prove[0]!.tls!.addresses as string[]).push(options.dead);
  });
}

/** Runs it with every program start on record, keeps what it said, and takes in what secrets there are by now. */
async function run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
  const trace = shop.workspace.path(`execs-${traces++}`);
  const under = [peers().strace, "-f", "--seccomp-bpf", "-qq", "-e", "trace=execve", "-v", "-s", "65536", "-o", trace];
  const ran = await shop.gyre(args, { under, env: { ...environment, GYRE_DEBUG: "1", ...env } });
  said.push({ what: `gyre ${args.join(" ")}`, text: ran.said });
  await collect();
  return ran;
}

/** Keys are destroyed in time: each is marked as soon as it is there. */
async function collect(): Promise<void> {
  const file = shop.path(".gyre/store.key");
  if (!existsSync(file)) return;
  mark(markBytes("store key", readFileSync(file)));
  const store = await openSecrets(shop.path(".gyre/secrets"), { file });
  for (const name of await store.list())
    (await store.get(name))?.use((bytes) =>
      mark(bytes.includes("PRIVATE KEY") ? markKey(name, bytes) : markBytes(name, bytes)),
    );
  mark(markKey("key in place", readFileSync(shop.path("server-1/tls.key"))));
}

/** Each file of the workspace, and what it may hold. */
function files(): { readonly name: string; readonly bytes: Buffer; readonly holds: RegExp | undefined }[] {
  const root = shop.workspace.dir;
  return readdirSync(root, { recursive: true, encoding: "utf8" }).flatMap((name) => {
    const path = join(root, name);
    if (!lstatSync(path).isFile() || /^execs-\d+$/.test(name)) return [];
    return [{ name, bytes: readFileSync(path), holds: mayHold(name) }];
  });
}
function mayHold(name: string): RegExp | undefined {
  if (/^home\/\.gyre\/store\.key$/.test(name)) return /^store key/;
  if (/\/tls\.key$|\/(v\d+|current)\/(privateKey|combined)$|\/combined\.pem$/.test(name))
    return /key \(|key in place|key before Gyre/;
  return undefined;
}

const leaksIn = (hay: string | Buffer): string[] => findMarked(hay, [...secrets.values()]);

test("the search finds every secret in every form, broken into lines or escaped", () => {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const key = markKey("planted", privateKey);
  const pem = privateKey.export({ format: "pem", type: "pkcs8" }).toString();
  const sec1 = privateKey.export({ format: "pem", type: "sec1" }).toString();
  const der = privateKey.export({ format: "der", type: "pkcs8" });
  const hex = der.toString("hex");
  const dump = hex.replaceAll(/(..)(?=.)/g, "$1:").replaceAll(/(.{45})/g, "$1\n    ");
  const shown = [
    pem,
    sec1,
    JSON.stringify({ pem }),
    JSON.stringify(JSON.stringify({ pem })),
    hex,
    hex.toUpperCase(),
    dump,
  ];
  const encoded = [0, 1, 2, 3].map((offset) =>
    Buffer.concat([randomBytes(offset), der, randomBytes(5)]).toString("base64"),
  );
  const lines = [pem.split("\n")[2]!, Buffer.from(pem).toString("hex"), Buffer.from(pem).toString("base64")];
  const others = [der.toString("base64url"), JSON.stringify(der), Buffer.concat([randomBytes(9), der, randomBytes(9)])];
  for (const [index, hay] of [...shown, ...encoded, ...lines, ...others].entries())
    expect(findMarked(typeof hay === "string" ? `before ${hay} after` : hay, [key]), `${index}`).not.toEqual([]);
  const word = markText("planted", storePassword);
  for (const hay of [
    storePassword,
    encodeURIComponent(storePassword),
    Buffer.from(`x${storePassword}`).toString("base64"),
  ])
    expect(findMarked(`password=${hay};`, [word])).not.toEqual([]);
  const other = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  expect(findMarked(other.export({ format: "pem", type: "pkcs8" }).toString(), [key, word])).toEqual([]);
});

test("through all commands and failures no secret is in any output, file or process list", async () => {
  writeManifest();
  const wrong = await run(["rotate", "shop-tls", "--now"], { CA_PASSPHRASE: wrongPassphrase });
  expect(wrong.code, wrong.said).toBe(2);
  expect((await run(["doctor", "--json"], { CA_PASSPHRASE: wrongPassphrase })).code).not.toBe(0);
  await run(["doctor"]);
  await run(["plan", "shop-tls", "--now", "--json"]);

  // A rotation that holds, looked at in every way, waived, and closed.
  const dead = `127.0.0.1:${await freePort()}`;
  writeManifest({ dead });
  const held = await run(["rotate", "shop-tls", "--now", "--wait", "10s"]);
  expect(held.code, held.said).toBe(3);
  for (const json of [[], ["--json"]]) {
    await run(["status", ...json]);
    await run(["show", "shop-tls", ...json]);
    await run(["doctor", ...json]);
    await run(["scan", "server-1", "extra", "ca", shop.servers[0]!.address, ...json]);
    await run(["run", "--wait", "1s", ...json]);
    const print = execFileSync("openssl", [
      "x509",
      "-in",
      shop.path("server-1/tls.pem"),
      "-noout",
      "-fingerprint",
      "-sha256",
    ]);
    await run(["who", print.toString().trim().split("=")[1]!.replaceAll(":", "").toLowerCase(), ...json]);
  }
  for (const { name } of files().filter((file) => /\/sha256\//.test(file.name))) {
    const [head, tail] = name.split("/").slice(-2);
    await run(["show", "shop-tls", "--evidence", `${head}${tail}`.slice(0, 12)]);
  }
  expect((await run(["waive", "shop-tls", dead, "--reason", "not there"])).code).toBe(0);
  const closed = await run(["rotate", "shop-tls", "--wait", "20s", "--json"]);
  expect(closed.code, closed.said).toBe(0);
  expect((await run(["verify", ".gyre/receipts/0.json", "--key", ".gyre/signing.pub", "--json"])).code).toBe(0);

  // A reload command that shows the key it was pointed at, in whole and line by line, and fails.
  writeManifest({ reload: "cat server-1/tls.key >&2; sed -n 2p server-1/tls.key >&2; exit 3" });
  for (const json of [[], ["--json"]]) {
    const shown = await run(["rotate", "shop-tls", "--now", "--wait", "10s", ...json]);
    expect(shown.code, shown.said).toBe(4);
    expect(shown.said).toContain("ended with exit code 3");
  }
  // One that is put back on request.
  writeManifest({ dead });
  expect((await run(["rotate", "shop-tls", "--now", "--wait", "10s"])).code).toBe(3);
  expect((await run(["waive", "shop-tls", dead, "--reason", "still not there"])).code).toBe(0);
  // Nor does it have the old one again: a question of its own.
  expect((await run(["revert", "shop-tls", "--reason", "a test", "--wait", "10s"])).code).toBe(3);
  expect((await run(["waive", "shop-tls", dead, "--reason", "nor will it be"])).code).toBe(0);
  const reverted = await run(["revert", "shop-tls", "--reason", "a test", "--wait", "10s"]);
  expect(reverted.code, reverted.said).toBe(0);

  // Keys that do not fit: in place, and at the CA.
  const foreign = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  mark(markKey("foreign key", foreign));
  const pem = foreign.export({ format: "pem", type: "pkcs8" }).toString();
  for (const name of ["server-1/tls.key", "ca/ca.key"]) {
    const before = readFileSync(shop.path(name));
    writeFileSync(shop.path(name), pem);
    for (const json of [[], ["--json"]]) {
      const refused = await run(["rotate", "shop-tls", "--now", ...json]);
      expect(refused.code, refused.said).toBe(2);
      await run(["doctor", ...json]);
      await run(["scan", "server-1", "ca", ...json]);
    }
    writeFileSync(shop.path(name), before);
  }
  expect((await run(["doctor"], { STORE_PASSWORD: wrongPassphrase })).code).not.toBe(0);
  expect((await run(["rotate", "shop-tls", "--now"], { STORE_PASSWORD: wrongPassphrase })).code).not.toBe(0);

  writeManifest();
  const last = await run(["rotate", "shop-tls", "--now", "--wait", "20s"]);
  expect(last.code, last.said).toBe(0);

  for (const { what, text } of said) expect(leaksIn(text), what).toEqual([]);
  for (const { name, bytes, holds } of files())
    expect(
      leaksIn(bytes).filter((leak) => holds?.test(leak) !== true),
      name,
    ).toEqual([]);
  // The places where secrets belong are where the search does find them.
  const found = files().flatMap(({ bytes }) => leaksIn(bytes));
  expect(found.filter((leak) => leak.startsWith("store key"))).not.toEqual([]);
  expect(found.filter((leak) => leak.startsWith("key in place") || leak.includes(".key"))).not.toEqual([]);
  expect(secrets.size).toBeGreaterThan(8);
});

test("what Gyre starts is given no secret, by argument or environment", async () => {
  const execs = Array.from({ length: traces }, (_, index) =>
    readFileSync(shop.workspace.path(`execs-${index}`), "utf8")
      .split("\n")
      .filter((line) => line.includes("execve(")),
  );
  // The first is Gyre itself, which has from its environment what the manifest names, and nothing else.
  const own = execs.map(([first]) => first!);
  const fromEnvironment = /^(CA passphrase|wrong passphrase|key store password) /;
  for (const line of own) {
    expect(leaksIn(line).filter((leak) => !fromEnvironment.test(leak))).toEqual([]);
    expect(leaksIn(line.slice(0, line.indexOf("], [")))).toEqual([]);
  }
  expect(own.flatMap(leaksIn)).not.toEqual([]);
  const children = execs.flatMap((lines) => lines.slice(1));
  for (const line of children) expect(leaksIn(line), line.slice(0, 200)).toEqual([]);
  for (const program of ["reload.sh", "validate.sh", "flock"])
    expect(
      children.some((line) => line.includes(program)),
      program,
    ).toBe(true);
  // The same as the programs saw it in /proc.
  const seen = readFileSync(shop.path("seen.bin"));
  expect(seen.includes("PATH=") && seen.includes("gyre.js")).toBe(true);
  expect(leaksIn(seen)).toEqual([]);
});

test("what a command prints that Gyre cannot know is told, and would be found", async () => {
  const planted = randomBytes(24).toString("hex");
  writeManifest({ reload: `printf ${planted} | base64 >&2; exit 3` });
  const ran = await run(["rotate", "shop-tls", "--now", "--wait", "10s"]);
  expect(ran.code, ran.said).toBe(4);
  expect(findMarked(ran.said, [markText("planted", planted)])).not.toEqual([]);
  const journal = await execute(["cat", shop.path(".gyre/credentials/shop-tls/journal.jsonl")], {
    cwd: "/",
    env: process.env,
  });
  expect(findMarked(journal.out, [markText("planted", planted)])).not.toEqual([]);
  failed = false;
});
