import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { connects, freePort, makeWorkspace, type Supervised, type Workspace } from "../../lab/estate.ts";
import { gyre, gyreHere, startGyre } from "./fixtures/gyre-process.ts";
import { passphrase, smallEstate } from "./fixtures/small-estate.ts";

const server = fileURLToPath(new URL("../../lab/servers/node-tls.ts", import.meta.url));
const open: Workspace[] = [];
afterEach(async () => {
  for (const workspace of open.splice(0)) await workspace.end();
});

interface Estate {
  readonly home: string;
  readonly addresses: readonly string[];
  /** Starts the replica, or starts it anew with the files as they are. */
  readonly start: (index: number, ignoreReload?: boolean) => Promise<void>;
}

/** Two real TLS servers and a manifest; `ignoring` never reloads. */
async function estate(options: { ignoring?: number; patience?: string } = {}): Promise<Estate> {
  const workspace = makeWorkspace("cli-estate");
  open.push(workspace);
  const home = workspace.dir;
  const ports = [await freePort(), await freePort()];
  const replicas = ports.map((port, index) => ({ name: `replica-${index + 1}`, address: `127.0.0.1:${port}` }));
  await smallEstate(home, replicas, options);
  const running: (Supervised | undefined)[] = [];
  const start = async (index: number, ignoreReload = false) => {
    await running[index]?.stop();
    const { name, address } = replicas[index]!;
    const file = (base: string) => join(home, name, base);
    running[index] = await workspace.start({
      name,
      command: [
        process.execPath,
        server,
        "--listen",
        address,
        "--pid-file",
        file("server.pid"),
        "--cert",
        file("tls.pem"),
        "--key",
        file("tls.key"),
        ...(ignoreReload ? ["--ignore-reload"] : []),
      ],
      ready: () => connects("127.0.0.1", ports[index]!),
    });
  };
  for (const index of [0, 1]) await start(index, index === options.ignoring);
  return { home, addresses: replicas.map(({ address }) => address), start };
}

interface Told {
  readonly credentials: readonly { readonly current: { readonly number: number; readonly fingerprint: string } }[];
  readonly news: readonly { readonly type: string }[];
}
const json = (out: string) => JSON.parse(out) as Told;

test("from a held rotation to a receipt, by the exit codes and the words of every command", async () => {
  const { home, addresses, start } = await estate({ ignoring: 1 });
  const said: string[] = [];
  const run = async (...args: string[]) => {
    const ended = await gyre(args, { cwd: home });
    said.push(ended.out, ended.err);
    return ended;
  };

  const doctor = await run("doctor");
  expect(doctor.code, doctor.out + doctor.err).toBe(0);
  expect((await run("plan", "shop-tls", "--now")).code).toBe(0);
  expect(existsSync(join(home, ".gyre", "credentials"))).toBe(false);

  const held = await run("rotate", "shop-tls", "--now", "--wait", "30s", "--reason", "a test");
  expect(held.code, held.out + held.err).toBe(3);
  expect(held.out).toMatch(/^shop-tls {2}g1 -> g2 {3}replace$/m);
  expect(held.out).toMatch(/^ {2}ok {4}delivered {3}2\/2 targets hold g2$/m);
  expect(held.out).toMatch(/^ {2}HELD {2}adopted {5}1\/2 replicas present g2$/m);
  expect(held.out).toContain(`${addresses[1]} still presents g1`);
  expect(held.out).not.toContain(`${addresses[0]} still`);
  expect(held.out).toContain(`gyre waive shop-tls ${addresses[1]} --claim presented --reason ...`);
  expect(held.out).not.toContain("\u001b");

  expect((await run("plan", "shop-tls")).out).toMatch(/^shop-tls {2}under way: shop-tls\/1; this is its plan/);
  const status = await run("status");
  expect(status.code).toBe(0);
  expect(status.out).toMatch(/shop-tls +g1 .*HELD adopted/);
  const file = join(home, "gyre.yaml");
  const manifest = readFileSync(file, "utf8");
  expect(status.out).not.toContain("WITHOUT A MANIFEST");
  writeFileSync(file, manifest.replace("name: shop-tls", "name: web-tls"));
  const renamed = await run("status");
  expect(renamed.out).toContain("\nJOURNALS WITHOUT A MANIFEST\nshop-tls: no manifest given names shop-tls, and");
  expect(renamed.out).toMatch(/shop-tls\/1 \(g1 -> g2\) is not over: HELD adopted for [^;]+; live: g1 until/);
  expect(renamed.out).toContain("next: call the credential shop-tls again");
  const { unnamed } = JSON.parse((await run("status", "--json")).out) as { unnamed: unknown };
  expect(unnamed).toMatchObject([{ name: "shop-tls", active: { rotation: "shop-tls/1", held: { stage: "adopted" } } }]);
  for (const about of ["web-tls", "all"])
    expect((await run("doctor", about)).out, about).toContain("no manifest given names shop-tls");
  expect((await run("show", "shop-tls")).out).toContain("HELD");
  expect((await run("plan", "shop-tls")).code).toBe(2);
  writeFileSync(file, manifest);
  const typo = await run("rotate", "shop-tsl");
  expect(typo.code).toBe(2);
  expect(typo.err).toContain("did you mean shop-tls?");
  const nobody = await run("waive", "shop-tls", "127.0.0.1:9", "--reason", "none");
  expect(nobody.code).toBe(2);
  const ahead = await run("waive", "shop-tls", addresses[0]!, "--reason", "it may fail");
  expect([ahead.code, ahead.err]).toEqual([2, expect.stringContaining("--claim, one of: presented")]);
  const strange = await run("waive", "shop-tls", addresses[1]!, "--claim", "refused", "--reason", "x");
  expect([strange.code, strange.err]).toEqual([2, expect.stringContaining("does not ask refused")]);
  const waived = await run("waive", "shop-tls", addresses[1]!, "--reason", "it is rebuilt");
  expect([waived.code, waived.out]).toEqual([0, expect.stringContaining("waived for presented by")]);
  const none = await run("waive", "shop-tls", addresses[0]!, "--withdraw", "--reason", "x");
  expect([none.code, none.err]).toEqual([2, expect.stringContaining(`in force: ${addresses[1]} (presented)`)]);
  const withdrawn = await run("waive", "shop-tls", addresses[1]!, "--withdraw", "--reason", "it stays");
  expect([withdrawn.code, withdrawn.out]).toEqual([0, expect.stringContaining("no longer waived for presented")]);
  expect((await run("show", "shop-tls")).out).toMatch(
    /waived {2}\S+ for presented by \S+ it is rebuilt \(withdrawn .*: it stays\)/,
  );
  expect((await run("rotate", "shop-tls", "--wait", "30s")).code).toBe(3);

  await start(1);
  const closed = await run("rotate", "shop-tls", "--wait", "30s");
  expect(closed.code, closed.out + closed.err).toBe(0);
  expect(closed.out).toContain("taken up again");
  expect(closed.out).toMatch(/^ {2}ok {4}closed {6}SUPERSEDED: nobody presents g1 any more/m);

  const receipt = /receipt (\S+)$/m.exec(closed.out)![1]!;
  const told = await run("verify", receipt, "--key", ".gyre/signing.pub");
  expect([told.code, told.out]).toEqual([
    0,
    expect.stringMatching(/ for presented by .*it is rebuilt \(withdrawn .*: it stays\)/),
  ]);
  const early = await gyreHere(
    ["verify", receipt, "--key", ".gyre/signing.pub"],
    home,
    {},
    () => Date.now() - 3_600_000,
  );
  expect([early.code, early.out]).toEqual([
    0,
    expect.stringMatching(/note +dated .* \(in \d+ min\), by a clock ahead/),
  ]);
  expect(told.out).not.toContain("a clock ahead");
  const unpinned = await run("verify", receipt);
  expect(unpinned.code).toBe(1);
  expect(unpinned.out).toMatch(/^UNPINNED/);
  const pin = /--key (sha256:[0-9a-f]{64})/.exec(unpinned.out)![1]!;
  expect(closed.out).toContain(`gyre verify ${receipt} --key ${join(home, ".gyre/signing.pub")}`);
  expect((await run("verify", receipt, "--key", ".gyre/signing.pub")).code).toBe(0);
  const beside = [
    "--journal",
    ".gyre/credentials/shop-tls/journal.jsonl",
    "--evidence",
    ".gyre/evidence",
    "--log",
    ".gyre",
  ];
  const verified = await run("verify", receipt, "--key", pin, ...beside);
  expect(verified.code, verified.out).toBe(0);
  expect(verified.out).toMatch(/^VERIFIED/);
  expect((await run("verify", receipt, "--key", `sha256:${"0".repeat(64)}`)).code).toBe(1);
  const flipped = join(home, "flipped.json");
  writeFileSync(flipped, readFileSync(receipt, "utf8").replace(/"payload":"e/, '"payload":"f'));
  const broken = await run("verify", flipped, "--key", pin);
  expect(broken.code).toBe(1);
  expect(broken.out).toMatch(/^BROKEN/);

  const shown = await run("show", "shop-tls");
  const digest = /\[([0-9a-f]{8})\]/.exec(shown.out)![1]!;
  const evidence = await run("show", "shop-tls", "--evidence", digest);
  expect(evidence.code).toBe(0);
  expect(JSON.parse(evidence.out)).toBeTypeOf("object");
  expect((await run("show", "shop-tls", "--evidence", "00000000")).code).toBe(2);

  const current = json((await run("status", "--json")).out).credentials[0]!.current;
  expect(current).toMatchObject({ number: 2, notAfter: expect.stringMatching(/^20..-/) });
  const who = await run("who", current.fingerprint.slice(0, 12));
  expect(who.code).toBe(0);
  expect(who.out).toContain(addresses[0]);
  expect((await run("who", "0123456789ab")).code).toBe(1);

  const again = await run("rotate", "shop-tls");
  expect(again).toMatchObject({ code: 0, out: expect.stringContaining("not due before") });
  expect((await run("plan", "shop-tls")).out).toContain("not due before");
  const planned = await run("plan", "shop-tls", "--now");
  expect(planned.out).toMatch(/grade +SUPERSEDED/);
  expect(planned.out).toContain("nothing was written; to do it: gyre rotate shop-tls --now");
  expect((await run("__names")).out).toBe("shop-tls\n");
  for (const text of said) expect(text.includes(passphrase) || text.includes("PRIVATE KEY")).toBe(false);
});

test("JSON is one object, with what happened and the exit code in it", async () => {
  const { home } = await estate({ ignoring: 0 });
  const held = await gyre(["rotate", "shop-tls", "--now", "--wait", "30s", "--json"], { cwd: home });
  expect(held).toMatchObject({ code: 3, err: "" });
  expect(json(held.out)).toMatchObject({
    credential: "shop-tls",
    result: "held",
    stage: "adopted",
    exit: 3,
    reasons: [{ verdict: "no", since: expect.stringMatching(/^20/) }],
  });
  expect(json(held.out).news.map((one) => one.type)).toEqual(expect.arrayContaining(["started", "passed", "held"]));
  const back = await gyre(["revert", "shop-tls", "--reason", "a test", "--wait", "30s", "--json"], { cwd: home });
  expect(back.code, back.out).toBe(0);
  expect(json(back.out)).toMatchObject({ result: "put back", failed: false, exit: 0 });
});

test("Ctrl-C in the midst ends with 5, and the same rotation goes on", async () => {
  const { home, start } = await estate({ ignoring: 1, patience: "10m" });
  const first = startGyre(["rotate", "shop-tls", "--now", "--wait", "10m"], { cwd: home });
  await first.seen("1/2 replicas present g2");
  first.child.kill("SIGINT");
  const stopped = await first.ended;
  expect(stopped, stopped.out).toMatchObject({ code: 5, signal: null });
  expect(stopped.out).toContain("stopped on request");
  expect(stopped.out).toContain("gyre revert shop-tls --reason ...");
  expect(stopped.out).toContain("gyre rotate shop-tls");
  await start(1);
  const closed = await gyre(["rotate", "shop-tls", "--wait", "30s"], { cwd: home });
  expect(closed, closed.out).toMatchObject({ code: 0 });
});

test("another runner at the same rotation is no failure", async () => {
  const { home } = await estate({ ignoring: 1, patience: "10m" });
  const first = startGyre(["rotate", "shop-tls", "--now", "--wait", "10m"], { cwd: home });
  await first.seen("1/2 replicas present g2");
  const second = await gyre(["rotate", "shop-tls"], { cwd: home });
  expect(second.code, second.err).toBe(5);
  const all = await gyre(["run"], { cwd: home });
  expect(all).toMatchObject({ code: 0, out: expect.stringContaining("another runner is at it") });
  first.child.kill("SIGTERM");
  expect((await first.ended).code).toBe(5);
});

test("a reader that has gone does not stop the rotation", async () => {
  const { home } = await estate();
  const { child, ended, seen } = startGyre(["rotate", "shop-tls", "--now", "--wait", "30s"], { cwd: home });
  await seen("shop-tls");
  child.stdout.destroy();
  expect((await ended).code).toBe(0);
  expect((await gyre(["status"], { cwd: home })).out).toContain("closed SUPERSEDED");
});

test("run rotates what is due, tells a line each, and one that fails stops no other", async () => {
  const { home } = await estate();
  const first = readFileSync(join(home, "gyre.yaml"), "utf8");
  // Comes first, and can never be delivered: its directory is a file.
  writeFileSync(join(home, "blocked"), "");
  const broken = `---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: a-broken }
spec:
  issue: { issuer: small-ca, dnsNames: [b.example], usages: [server], lifetime: 24h }
  deliver: [{ files: { certificate: blocked/tls.pem, privateKey: blocked/tls.key } }]
  prove: [{ tls: { serverName: b.example, addresses: ["127.0.0.1:1"] } }]
`;
  writeFileSync(
    join(home, "gyre.yaml"),
    `${first.split("---\n")[0]}${broken}---\n${first.split("---\n")[1]!.replace("after: 66%", "every: 1s")}`,
  );
  const ended = await gyre(["run", "--wait", "30s"], { cwd: home });
  expect(ended.code, ended.out + ended.err).toBe(4);
  expect(ended.out).toMatch(/^FAIL {2}a-broken/m);
  expect(ended.out).toMatch(/^ok {4}shop-tls +closed SUPERSEDED/m);
});

test("a damaged journal is named, and the other credentials are still told", async () => {
  const { home } = await estate();
  expect((await gyre(["rotate", "shop-tls", "--now", "--wait", "30s"], { cwd: home })).code).toBe(0);
  const journal = join(home, ".gyre/credentials/shop-tls/journal.jsonl");
  const lines = readFileSync(journal, "utf8").split("\n");
  writeFileSync(journal, [lines[0], lines[1]!.replace(/\d/, "x"), ...lines.slice(2)].join("\n"));
  const status = await gyreHere(["status"], home);
  expect(status.code).toBe(1);
  expect(status.out).toContain("unreadable");
  const rotate = await gyreHere(["rotate", "shop-tls", "--now"], home);
  expect(rotate.code).toBe(4);
  expect(rotate.err).toContain("journal");
  expect((await gyreHere(["show", "shop-tls"], home)).code).toBe(1);
});

test("manifest errors come with line and column, before anything is done", async () => {
  const { home } = await estate();
  appendFileSync(join(home, "gyre.yaml"), "  renewal: { after: 66% }\n");
  const ended = await gyre(["rotate", "shop-tls"], { cwd: home });
  expect(ended.code).toBe(2);
  expect(ended.err).toMatch(/gyre\.yaml:\d+:\d+/);
  expect(ended.err).not.toContain(passphrase);
  expect(existsSync(join(home, ".gyre"))).toBe(false);
  mkdirSync(join(home, "elsewhere"));
});
