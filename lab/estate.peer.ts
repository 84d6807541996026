import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { freePort, makeWorkspace, processesOf, waitFor } from "./estate.ts";
import { useWorkspace } from "./testing.ts";

/** A process with a child of its own; both ignore SIGTERM. */
const stubborn = ["/bin/sh", "-c", `trap "" TERM; sleep 1000 & echo up $!; while :; do wait; done`];
const up = { ready: (one: { output(): string }) => one.output().startsWith("up") };
const alive = (pid: number) =>
  existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));

describe("processes", () => {
  const workspace = useWorkspace("estate");

  it("stops what a process started, even when both ignore SIGTERM", async () => {
    const one = await workspace.start({ name: "stubborn", command: stubborn, ...up });
    expect(processesOf(one)).toHaveLength(2);
    await one.stop();
    expect(processesOf(one)).toEqual([]);
    expect(one.running).toBe(false);
  });

  it("lets a frozen process end in its own way", async () => {
    const command = ["/bin/sh", "-c", 'trap "exit 3" TERM; echo up; while :; do sleep 0.05; done'];
    const one = await workspace.start({ name: "frozen", command, ...up });
    one.signal("SIGSTOP");
    await one.stop();
    expect(await one.exited).toEqual({ code: 3, signal: null });
  });

  it("says what a process wrote when it ends before it is ready", async () => {
    const command = ["/bin/sh", "-c", "echo no such thing >&2; exit 7"];
    await expect(workspace.start({ name: "broken", command, ready: () => false })).rejects.toThrow(
      /code 7[\s\S]*no such thing/,
    );
    await expect(workspace.start({ name: "none", command: ["/no/such/program"], ready: () => false })).rejects.toThrow(
      /no\/such\/program/,
    );
  });

  it.each(["SIGKILL", "SIGTERM", "an exception", "an ordinary end"])("leaves nothing behind after %s", async (how) => {
    const estate = join(import.meta.dirname, "estate.ts");
    const ending =
      how === "an exception"
        ? "setTimeout(() => { throw new Error('x') })"
        : how === "an ordinary end"
          ? ""
          : "setInterval(() => {}, 1000)";
    const script = `
      const { makeWorkspace } = await import(${JSON.stringify(estate)});
      const workspace = makeWorkspace("crash");
      const one = await workspace.start({ name: "s", command: ${JSON.stringify(stubborn)}, ready: (o) => o.output().startsWith("up") });
      console.log(workspace.dir, one.pid, one.output().trim().split(" ")[1]);
      ${ending}`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    let said = "";
    child.stdout.on("data", (chunk) => {
      said += chunk;
    });
    const ended = new Promise((resolve) => child.once("exit", resolve));
    const [dir, ...pids] = await waitFor("its processes", () =>
      said.includes("\n") ? said.trim().split(" ") : undefined,
    );
    expect(pids).toHaveLength(2);
    if (how.startsWith("SIG")) {
      expect(pids.map(Number).map(alive)).toEqual([true, true]);
      child.kill(how as NodeJS.Signals);
    }
    await ended;
    await waitFor("all of them to be gone", () => pids.map(Number).every((pid) => !alive(pid)));
    expect(existsSync(dir!)).toBe(true);
    await (await import("node:fs/promises")).rm(dir!, { recursive: true });
  });
});

describe("workspace", () => {
  it("is removed at the end, with its processes", async () => {
    const workspace = makeWorkspace("end");
    const one = await workspace.start({ name: "sleeper", command: ["sleep", "1000"] });
    expect(workspace.processes).toEqual([one]);
    await workspace.end();
    expect(one.running).toBe(false);
    expect(existsSync(workspace.dir)).toBe(false);
  });

  it("is kept when something failed", async () => {
    const workspace = makeWorkspace("kept");
    await workspace.end({ failed: true });
    expect(existsSync(workspace.dir)).toBe(true);
    await (await import("node:fs/promises")).rm(workspace.dir, { recursive: true });
  });

  it("hands out ports that differ and can be bound", async () => {
    const ports = await Promise.all(Array.from({ length: 50 }, () => freePort()));
    expect(new Set(ports).size).toBe(50);
  });
});

describe("waitFor", () => {
  it("returns what it waited for, and gives up by name", async () => {
    let looks = 0;
    expect(await waitFor("three looks", () => (++looks === 3 ? looks : undefined), { poll: 1 })).toBe(3);
    await expect(waitFor("the moon", () => false, { timeout: 20, poll: 5 })).rejects.toThrow("the moon");
  });
});
