import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Child, startChild } from "./fixtures/child.ts";
import { acquireLock } from "./lock.ts";

let home: string;
let path: string;
let log: string;
let children: Child[];
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "gyre-lock-"));
  path = join(home, "lock");
  log = join(home, "acts");
  writeFileSync(log, "");
  children = [];
});
afterEach(async () => {
  for (const child of children) child.kill("SIGKILL");
  await Promise.all(children.map((child) => child.ended()));
  rmSync(home, { recursive: true });
});

function holder(name: string): Child {
  const child = startChild("lock-holder.ts", [path, log, name]);
  children.push(child);
  return child;
}
async function holding(name: string): Promise<Child> {
  const child = holder(name);
  expect(await child.next()).toBe("held");
  return child;
}
const acts = () => readFileSync(log, "utf8");
const us = { command: "gyre run", since: 1_764_000_000_000 };
const busy = () =>
  acquireLock(path, us).then(
    () => "taken",
    (error) => error.toJSON(),
  );

describe("a lock that the kernel releases", () => {
  it("is had by one process, and the other is told by whom", async () => {
    const a = await holding("a");
    const b = holder("b");
    const told = JSON.parse(await b.next());
    expect(told).toMatchObject({ code: "locked", where: path, retry: "later" });
    expect(told.message).toBe(
      `lock ${path}: held by process ${a.pid} on ${hostname()} (gyre rotate a), since 2025-11-24T16:00:00.000Z; nothing was done`,
    );
    a.tell("release");
    await a.next();
    const lock = await acquireLock(path, us);
    expect((await busy()).code).toBe("locked");
    await lock.release();
    await lock.release();
    await (await acquireLock(path, us)).release();
  });

  it("stays with a frozen process; woken, it goes on alone", async () => {
    const a = await holding("a");
    a.kill("SIGSTOP");
    await a.state("T");
    const told = await busy();
    expect(told.code).toBe("locked");
    expect(told.message).toContain("which is stopped");
    expect(told.next).toContain(`kill -CONT ${a.pid}`);
    expect(JSON.parse(await holder("b").next()).code).toBe("locked");
    a.kill("SIGCONT");
    a.tell("act");
    expect(await a.next()).toBe("done act");
    expect((await busy()).next).not.toContain("kill");
    expect(acts()).toBe("a\n");
  });

  it("is free at once when its holder is killed, frozen or not", async () => {
    for (const frozen of [false, true]) {
      const a = await holding("a");
      if (frozen) {
        a.kill("SIGSTOP");
        await a.state("T");
      }
      a.kill("SIGKILL");
      await a.ended();
      const lock = await acquireLock(path, us);
      await lock.check();
      await lock.release();
    }
  });

  it("deleted and taken again under a frozen holder: the woken one notices before it acts", async () => {
    const a = await holding("a");
    a.kill("SIGSTOP");
    await a.state("T");
    rmSync(path);
    const b = await holding("b");
    b.tell("act");
    expect(await b.next()).toBe("done act");
    a.kill("SIGCONT");
    a.tell("act");
    expect(await a.next()).toBe("conflict");
    b.tell("act");
    expect(await b.next()).toBe("done act");
    expect(acts()).toBe("b\nb\n");
  });

  it("deleted and nothing in its place: check refuses", async () => {
    const lock = await acquireLock(path, us);
    await lock.check();
    rmSync(path);
    await expect(lock.check()).rejects.toMatchObject({ code: "conflict" });
    await lock.release();
    await expect(lock.check()).rejects.toMatchObject({ code: "conflict" });
  });

  it("is inherited by no child of its holder", async () => {
    const a = await holding("a");
    a.tell("child");
    expect(await a.next()).toBe("clean");
  });

  it("does not believe what the file says", async () => {
    writeFileSync(path, JSON.stringify({ pid: 1, host: hostname(), command: "init", since: 1 }));
    const lock = await acquireLock(path, us);
    // Somebody else's words in the file we hold: the kernel knows better.
    const a = await (async () => {
      await lock.release();
      return holding("a");
    })();
    writeFileSync(path, '{"pid":1,"host":"elsewhere","command":"init","since":1}');
    expect((await busy()).message).toContain(`held by process ${a.pid} on ${hostname()};`);
    writeFileSync(path, "not json");
    expect((await busy()).message).toContain(`held by process ${a.pid} on ${hostname()};`);
  });

  it("names a directory that is not there", async () => {
    const told = await acquireLock(join(home, "none", "lock"), us).catch((error) => error.toJSON());
    expect(told).toMatchObject({ code: "disk", where: join(home, "none", "lock") });
  });

  it("says what is missing without a flock program", async () => {
    const kept = process.env.PATH;
    process.env.PATH = home;
    try {
      const told = await busy();
      expect(told.code).toBe("command");
      expect(told.next).toContain("util-linux");
    } finally {
      process.env.PATH = kept;
    }
    await (await acquireLock(path, us)).release();
  });
});
