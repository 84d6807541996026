import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { GyreError } from "../../errors.ts";
import { Secret } from "../../pki/secret.ts";
import { dyingDisk, Killed } from "../conformance/dying-disk.ts";
import { type TestCa, testCa, testMaterial, testStep } from "../conformance/material.ts";
import { leafOf } from "../conformance/target.ts";
import { runCommand, withoutSecrets } from "./command.ts";
import { targetSettings } from "./settings.ts";
import { createFilesTarget } from "./target.ts";

const run = promisify(execFile);
const PAIR = { certificate: "tls.pem", privateKey: "tls.key" };

let ca: TestCa;
let baseDir: string;
let children: ChildProcess[];
beforeAll(async () => {
  ca = await testCa();
});
beforeEach(async () => {
  baseDir = await mkdtemp(join(tmpdir(), "gyre-files-"));
  children = [];
});
afterEach(async () => {
  for (const child of children) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill("SIGKILL");
    await once(child, "exit");
  }
  await rm(baseDir, { recursive: true });
});

const at = (name: string) => join(baseDir, name);
const target = (shape: object) => createFilesTarget(targetSettings.parse({ ...PAIR, ...shape }), { baseDir });
async function errorOf(work: Promise<unknown>): Promise<GyreError> {
  return work.then(
    () => Promise.reject(new Error("it succeeded")),
    (error: unknown) => (error instanceof GyreError ? error : Promise.reject(error)),
  );
}
const sh = (line: string) => ["sh", "-c", line];
const DAMAGES = ["switch", "rename"] as const;

describe.each(DAMAGES)("validate (layout %s)", (layout) => {
  it("before the switch: is given the staged files, and what is in place is still the old", async () => {
    const [old, fresh] = [await testMaterial(ca), await testMaterial(ca)];
    const one = await target({ layout }).deliver(old, "absent", testStep());
    const command = sh(
      `openssl x509 -noout -pubkey -in {certificate} >seen.staged && openssl pkey -pubout -in {privateKey} | cmp - seen.staged && cp tls.pem seen.place`,
    );
    const two = await target({ layout, validate: { command } }).deliver(fresh, one.version, testStep());
    expect(leafOf(two)).toBe(fresh.leaf.fingerprint);
    const staged = await run("openssl", ["x509", "-in", at("tls.pem"), "-noout", "-pubkey"]);
    expect(await readFile(at("seen.staged"), "utf8")).toBe(staged.stdout);
    expect(await readFile(at("seen.place"), "utf8")).toContain(old.certificate.slice(60, 120));
  });

  it("before the switch: refusing leaves everything as it was and repeats what it said", async () => {
    const one = await target({ layout }).deliver(await testMaterial(ca), "absent", testStep());
    const files = (await readdir(baseDir, { recursive: true })).sort();
    const refuse = target({ layout, validate: { command: sh("test -s {certificate}; echo no good >&2; exit 3") } });
    const error = await errorOf(refuse.deliver(await testMaterial(ca), one.version, testStep()));
    expect(error.code).toBe("command");
    expect(error.message).toMatch(
      /^validate command `sh -c .*` ended with exit code 3; it said: no good; what was in place is untouched$/,
    );
    expect(await target({ layout }).read()).toMatchObject({ version: one.version, op: one.op });
    expect((await readdir(baseDir, { recursive: true })).sort()).toEqual(files);
  });

  it("after the switch: sees the new files in place; refusing puts the old ones back", async () => {
    const [old, fresh] = [await testMaterial(ca), await testMaterial(ca)];
    const one = await target({ layout }).deliver(old, "absent", testStep());
    const refuse = target({ layout, validate: { command: sh("cp tls.pem seen; echo no good >&2; exit 1") } });
    const error = await errorOf(refuse.deliver(fresh, one.version, testStep()));
    expect(error.code).toBe("command");
    expect(error.message).toMatch(
      /it said: no good; the switch was undone, what was in place before is in place again$/,
    );
    expect(await readFile(at("seen"), "utf8")).toContain(fresh.certificate.slice(60, 120));
    const now = await refuse.read();
    expect([leafOf(now), now.version, now.op, now.torn]).toEqual([
      old.leaf.fingerprint,
      one.version,
      one.op,
      undefined,
    ]);
    const agree = target({ layout, validate: { command: ["cmp", "tls.pem", "tls.pem"] } });
    expect(leafOf(await agree.deliver(fresh, one.version, testStep()))).toBe(fresh.leaf.fingerprint);
  });

  it("after the switch: cut before it spoke, the delivery is half-done until it has agreed", async () => {
    const [old, fresh] = [await testMaterial(ca), await testMaterial(ca)];
    const one = await target({ layout }).deliver(old, "absent", testStep());
    const step = testStep();
    const settings = targetSettings.parse({ ...PAIR, layout, validate: { command: ["test", "!", "-e", "bad"] } });
    const cut = async () => {
      const dying = dyingDisk(Number.POSITIVE_INFINITY, async () => {
        const now = await target({ layout }).read();
        if (leafOf(now) === fresh.leaf.fingerprint && now.op === step.op && now.torn === true) throw new Killed();
      });
      // With layout rename it is also half-done before the last rename: cut only when the link has moved.
      await createFilesTarget(settings, { baseDir, disk: dying.disk })
        .deliver(fresh, one.version, step)
        .catch(() => undefined);
      const seen = await target({ layout }).read();
      expect([leafOf(seen), seen.op, seen.torn]).toEqual([fresh.leaf.fingerprint, step.op, true]);
    };
    await cut();
    await writeFile(at("bad"), "");
    const checked = createFilesTarget(settings, { baseDir });
    expect((await errorOf(checked.deliver(fresh, one.version, step))).code).toBe("command");
    expect(await checked.read()).toMatchObject({ version: one.version, op: one.op });
    await rm(at("bad"));
    await cut();
    const done = await checked.deliver(fresh, one.version, step);
    expect([leafOf(done), done.op, done.torn]).toEqual([fresh.leaf.fingerprint, step.op, undefined]);
  });

  it("after the switch where nothing was: refusing leaves nothing", async () => {
    const refuse = target({ layout, validate: { command: ["false"] } });
    expect((await errorOf(refuse.deliver(await testMaterial(ca), "absent", testStep()))).code).toBe("command");
    expect((await refuse.read()).version).toBe("absent");
    await refuse.forget(testStep());
    expect(await readdir(baseDir)).toEqual([]);
  });

  it("is killed with its children when the run is stopped, and the switch is undone", async () => {
    const one = await target({ layout }).deliver(await testMaterial(ca), "absent", testStep());
    const abort = new AbortController();
    const slow = target({ layout, validate: { command: sh("sleep 1000 & echo $! > child; wait") } });
    const delivery = errorOf(
      slow.deliver(await testMaterial(ca), one.version, { ...testStep(), signal: abort.signal }),
    );
    const pid = await untilWritten("child");
    abort.abort();
    expect((await delivery).message).toMatch(/was killed because the run was stopped/);
    expect((await slow.read()).version).toBe(one.version);
    expect(await isGone(pid)).toBe(true);
  });
});

/** Waits for a state, not for a time. */
async function untilWritten(name: string): Promise<number> {
  for (;;) {
    const text = await readFile(at(name), "utf8").catch(() => "");
    if (text.endsWith("\n")) return Number(text);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
async function isGone(pid: number): Promise<boolean> {
  for (;;) {
    const state = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "gone");
    if (state === "gone" || / Z /.test(state)) return true;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

describe("validate: what it may say", () => {
  it("names a placeholder without a file before anything is written", async () => {
    const error = await errorOf(
      target({ validate: { command: ["cat", "{chain}"] } }).deliver(await testMaterial(ca), "absent", testStep()),
    );
    expect([error.code, error.next]).toEqual(["manifest", "use one of {certificate}, {privateKey}"]);
    expect(await readdir(baseDir)).toEqual([]);
  });

  it.each([
    ["the whole staged key", "cat {privateKey} >&2; exit 1"],
    ["one line of the staged key", "sed -n 2p {privateKey} >&2; exit 1"],
    ["the key at the end of a flood", "yes x | head -c 200000 >&2; cat {privateKey} >&2; exit 1"],
    ["the key cut by the end of what is kept", "cat {privateKey} >&2; yes y | head -c 16250 >&2; exit 1"],
    ["the key in place", "cat tls.key >&2; exit 1 # {certificate}"],
    ["the key as hex", "xxd -p -c 1000 {privateKey} >&2; exit 1"],
  ])("never repeats %s", async (_, line) => {
    const [old, fresh] = [await testMaterial(ca), await testMaterial(ca)];
    const one = await target({}).deliver(old, "absent", testStep());
    const error = await errorOf(target({ validate: { command: sh(line) } }).deliver(fresh, one.version, testStep()));
    const told = `${error.message} ${JSON.stringify(error)} ${error.stack}`;
    for (const { privateKey } of [old, fresh]) {
      const text = privateKey!.use((bytes) => bytes.toString());
      for (const part of text.split("\n").filter((part) => part.length > 8 && !part.startsWith("---"))) {
        for (let from = 0; from + 12 <= part.length; from++) expect(told).not.toContain(part.slice(from, from + 12));
      }
      expect(told).not.toContain(Buffer.from(text).toString("hex").slice(60, 100));
    }
    expect(error.code).toBe("command");
  });

  it("never repeats the key store's password", async () => {
    const keystore = { path: "store", password: "marked-pass-4711" };
    const settings = {
      keystore,
      validate: { command: sh("echo could not open {keystore} with marked-pass-4711 >&2; exit 1") },
    };
    const store = createFilesTarget(targetSettings.parse(settings), { baseDir });
    const error = await errorOf(store.deliver(await testMaterial(ca), "absent", testStep()));
    expect(error.message).toMatch(/it said: could not open \S+ with \[secret\];/);
    expect(error.message).not.toMatch(/marked/);
  });

  it("is given no variable of our environment but the harmless ones", async () => {
    process.env.GYRE_TEST_TAINT = "marked-env-4711";
    try {
      await target({ validate: { command: sh("env > seen") } }).deliver(await testMaterial(ca), "absent", testStep());
    } finally {
      delete process.env.GYRE_TEST_TAINT;
    }
    expect(await readFile(at("seen"), "utf8")).toMatch(/^PATH=/m);
    expect(await readFile(at("seen"), "utf8")).not.toMatch(/marked/);
  });

  it("takes out private keys it does not know, whole or cut off", () => {
    const body = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg";
    const key = `-----BEGIN EC PRIVATE KEY-----\n${body}\n-----END EC PRIVATE KEY-----`;
    expect(withoutSecrets(`before ${key} after`, [])).toBe("before [key] after");
    expect(withoutSecrets(`before ${key.slice(0, 60)}`, [])).toBe("before [key]");
    expect(withoutSecrets("-----BEGIN CERTIFICATE-----\nMIIB", [])).toMatch(/MIIB/);
  });

  it("takes secrets out in every form", () => {
    const secret = Secret.of("tangerine-dream");
    const forms = [
      "tangerine-dream",
      Buffer.from("tangerine-dream").toString("hex"),
      Buffer.from("tangerine-dream").toString("base64"),
    ];
    expect(withoutSecrets(forms.join(" and "), [secret])).toBe("[secret] and [secret] and [secret]");
  });
});

describe("commands", () => {
  const options = (change: object = {}) => ({
    what: "reload command",
    cwd: baseDir,
    timeout: 60_000,
    signal: new AbortController().signal,
    secrets: [],
    untouched: "as it was",
    ...change,
  });

  it("does not wait for a daemon that a command leaves behind", async () => {
    await runCommand(sh("sleep 1000 & echo $! > daemon"), options());
    const pid = await untilWritten("daemon");
    process.kill(pid, "SIGKILL");
  });
  it("kills one that takes too long, with its children", async () => {
    const error = await errorOf(runCommand(sh("sleep 1000 & echo $! > child; wait"), options({ timeout: 300 })));
    expect([error.message.includes("took longer than 0.3 s and was killed"), error.retry]).toEqual([true, "later"]);
    expect(await isGone(await untilWritten("child"))).toBe(true);
  });
  it("says when there is no such program", async () => {
    const error = await errorOf(runCommand(["no-such-program"], options()));
    expect([error.code, error.message]).toEqual([
      "command",
      "reload command: no-such-program could not be started (no such program on PATH); as it was",
    ]);
  });
  it("uses no shell", async () => {
    await runCommand(["touch", "$HOME; touch x"], options());
    expect(await readdir(baseDir)).toEqual(["$HOME; touch x"]);
  });
});

describe("reload", () => {
  it("by command, in the manifest's directory; a failure says that the files are in place", async () => {
    const command = target({ reload: { command: sh("pwd > seen") } });
    expect(await command.reload!(testStep())).toMatch(/^ran sh -c/);
    expect((await readFile(at("seen"), "utf8")).trim()).toBe(baseDir);
    const error = await errorOf(target({ reload: { command: ["false"] } }).reload!(testStep()));
    expect(error.code).toBe("command");
    expect(error.message).toMatch(
      /it said nothing; the files are in place; the process may still use what it loaded before/,
    );
  });

  /** A process that counts its signals in a file. */
  async function listener(): Promise<ChildProcess> {
    const program = `let n = 0; const fs = require("node:fs");
      process.on("SIGHUP", () => fs.writeFileSync("signals", String(++n) + "\\n"));
      fs.writeFileSync("ready", "1\\n"); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ["-e", program], { cwd: baseDir, stdio: "ignore" });
    children.push(child);
    await untilWritten("ready");
    await writeFile(at("pid"), `${child.pid}\n`);
    return child;
  }
  const bySignal = () => target({ reload: { signal: "SIGHUP", pidFile: "pid" } });

  it("by signal to the process of the pid file", async () => {
    const child = await listener();
    expect(await bySignal().reload!(testStep())).toMatch(new RegExp(`^sent SIGHUP to pid ${child.pid} \\(\\S+\\)$`));
    expect(await untilWritten("signals")).toBe(1);
  });

  it("not to a dead process", async () => {
    const child = await listener();
    child.kill("SIGKILL");
    await once(child, "exit");
    const error = await errorOf(bySignal().reload!(testStep()));
    expect(error.code).toBe("command");
    expect(error.message).toMatch(new RegExp(`no process has pid ${child.pid} of .*; nothing was sent`));
  });

  it("not to a zombie", async () => {
    // The shell becomes a program that never asks how its child ended.
    const parent = spawn(
      "sh",
      ["-c", "sh -c 'until grep -q sleep /proc/$PPID/comm; do :; done' & echo $! > pid; exec sleep 1000"],
      {
        cwd: baseDir,
        stdio: "ignore",
      },
    );
    children.push(parent);
    const pid = await untilWritten("pid");
    expect(await isGone(pid)).toBe(true);
    expect((await errorOf(bySignal().reload!(testStep()))).message).toMatch(/is dead \(a zombie\); nothing was sent/);
  });

  it("not to a process that got the number after the pid file was written", async () => {
    await listener();
    const before = new Date(Date.now() - 3_600_000);
    await utimes(at("pid"), before, before);
    const error = await errorOf(bySignal().reload!(testStep()));
    expect(error.message).toMatch(/the number was given to another process; nothing was sent/);
    expect(await readdir(baseDir)).not.toContain("signals");
  });

  it("not to a process of another user", async () => {
    const child = await listener();
    const program = `
      import { performReload } from ${JSON.stringify(join(import.meta.dirname, "reload.ts"))};
      const step = { op: "op", signal: new AbortController().signal, tag: "t" };
      performReload({ signal: "SIGHUP", pidFile: process.argv[1], timeout: 1000 }, "/", step, []).then(console.log, (error) => console.log(error.code, error.message));`;
    await run("chmod", ["-R", "a+rX", baseDir]);
    const as = [
      "--reuid=65534",
      "--regid=65534",
      "--clear-groups",
      process.execPath,
      "--input-type=module-typescript",
      "-e",
      program,
      at("pid"),
    ];
    const { stdout } = await run("setpriv", as);
    expect(stdout).toMatch(new RegExp(`^permission reload by signal: pid ${child.pid} of .* belongs to another user`));
  });

  it.each([
    ["no pid file", undefined, "command"],
    ["an empty one", "", "input"],
    ["a process group", "-1\n", "input"],
    ["words", "running\n", "input"],
  ])("not with %s", async (_, content, code) => {
    if (content !== undefined) await writeFile(at("pid"), content);
    expect((await errorOf(bySignal().reload!(testStep()))).code).toBe(code);
  });

  it("is nothing to do for a process that watches, and the facts say what there is", async () => {
    expect(await target({ reload: { watch: true } }).reload!(testStep())).toMatch(/watches its files/);
    const facts = [{ watch: true }, { command: ["true"] }, { signal: "SIGHUP", pidFile: "pid" }].map(
      (reload) => target({ reload }).can.reload,
    );
    expect([...facts, target({}).can.reload]).toEqual(["watch", "command", "signal", "none"]);
  });
});
