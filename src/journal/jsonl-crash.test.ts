import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Sample } from "./conformance.ts";
import { type Child, startChild } from "./fixtures/child.ts";
import { openJournal } from "./jsonl.ts";

let home: string;
const children: Child[] = [];
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "gyre-crash-"));
});
afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  await Promise.all(children.map((child) => child.ended()));
  rmSync(home, { recursive: true });
});

function appender(file: string, by: string, count: number): Child {
  const child = startChild("appender.ts", [file, by, String(count)]);
  children.push(child);
  return child;
}

/** The numbers each writer has in the journal, whole appends only: `x` and its companion `x'` side by side. */
async function stored(file: string): Promise<Map<string, number[]>> {
  const entries = await (await openJournal<Sample>(file)).read();
  const found = new Map<string, number[]>();
  for (let index = 0; index < entries.length; index += 2) {
    const [one, two] = [entries[index]!.event, entries[index + 1]!.event];
    expect([two.by, two.n]).toEqual([`${one.by}'`, one.n]);
    found.set(one.by, [...(found.get(one.by) ?? []), one.n]);
  }
  return found;
}

const upTo = (count: number) => [...Array(count).keys()];

describe("a journal and processes that die", () => {
  it("keeps every acknowledged entry of a writer killed at 30 points", async () => {
    for (let round = 0; round < 30; round++) {
      const file = join(home, `killed-${round}.jsonl`);
      const child = appender(file, "a", 1_000_000);
      // Some appends in, then at any point of one: the spread of a few milliseconds covers lock, write and fsync.
      for (let line = 0; line <= round % 5; line++) await child.next();
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 6));
      child.kill("SIGKILL");
      await child.ended();
      const acknowledged = child.lines.slice(1).map(Number);
      const journal = await openJournal<Sample>(file);
      const found = (await stored(file)).get("a") ?? [];
      // All that was acknowledged, in order, once; and at most the one append under way.
      expect(found.slice(0, acknowledged.length)).toEqual(acknowledged);
      expect(found).toEqual(upTo(found.length));
      expect(found.length - acknowledged.length).toBeLessThanOrEqual(1);
      await journal.append(found.length * 2, 1, [{ by: "z", n: 0 }]);
    }
  });

  it("gives three writing processes every acknowledged entry once, in each one's order", async () => {
    const file = join(home, "three.jsonl");
    const writers = ["a", "b", "c"].map((by) => appender(file, by, 40));
    for (const writer of writers) expect(await writer.ended()).toBe(0);
    const found = await stored(file);
    expect([...found.keys()].sort()).toEqual(["a", "b", "c"]);
    for (const numbers of found.values()) expect(numbers).toEqual(upTo(40));
  });

  it("waits while another process appends, and loses nothing when that one is frozen and woken", async () => {
    const file = join(home, "frozen.jsonl");
    const child = appender(file, "a", 60);
    await child.next();
    await child.next();
    child.kill("SIGSTOP");
    await child.state("T");
    const journal = await openJournal<Sample>(file);
    const writing = (async () => {
      for (;;) {
        const seq = (await journal.read()).length;
        try {
          return await journal.append(seq, 1, [
            { by: "b", n: 0 },
            { by: "b'", n: 0 },
          ]);
        } catch {
          // The woken writer was faster.
        }
      }
    })();
    child.kill("SIGCONT");
    expect(await child.ended()).toBe(0);
    await writing;
    const found = await stored(file);
    expect(found.get("a")).toEqual(upTo(60));
    expect(found.get("b")).toEqual([0]);
  });

  it("writes nothing when its file is exchanged while it waits for the lock", async () => {
    const file = join(home, "exchanged.jsonl");
    const journal = await openJournal<Sample>(file);
    await journal.append(0, 1, [{ by: "a", n: 0 }]);
    const before = readFileSync(file);
    // Another process in mid-append: it has the kernel's lock on the journal until its stdin ends.
    const other = spawn("flock", ["-x", file, "sh", "-c", "echo held; read line"], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    await once(other.stdout, "data");
    const waiting = journal.append(1, 1, [{ by: "a", n: 1 }]).catch((error) => error.toJSON());
    await waitingFor(file);
    renameSync(file, `${file}.old`);
    writeFileSync(file, before);
    other.stdin.end();
    expect(await waiting).toMatchObject({ code: "conflict", retry: "read back" });
    for (const path of [file, `${file}.old`]) expect(readFileSync(path)).toEqual(before);
    await journal.append(1, 1, [{ by: "a", n: 1 }]);
    expect(await (await openJournal<Sample>(file)).read()).toHaveLength(2);
  });

  it("gives up on a frozen appender after a while, and names it with the way to wake it", async () => {
    const file = join(home, "stuck.jsonl");
    const journal = await openJournal<Sample>(file);
    await journal.append(0, 1, [{ by: "a", n: 0 }]);
    const other = spawn("flock", ["-x", file, "cat"], { stdio: ["pipe", "pipe", "inherit"] });
    other.stdin.write("held\n");
    await once(other.stdout, "data");
    other.kill("SIGSTOP");
    const told = await journal.append(1, 1, [{ by: "a", n: 1 }]).catch((error) => error.toJSON());
    expect(told).toMatchObject({ code: "locked", where: file, retry: "later" });
    expect(told.next).toContain(`kill -CONT ${other.pid}`);
    other.kill("SIGCONT");
    other.stdin.end();
    await once(other, "close");
    await journal.append(1, 1, [{ by: "a", n: 1 }]);
  });

  it("leaves nothing half-written on a full or read-only disk, and says so", () => {
    const directory = join(home, "small");
    mkdirSync(directory);
    // A mount namespace of its own: the file system goes with the process, whatever happens.
    const root = process.getuid?.() === 0 ? [] : ["-U", "-r"];
    const script = `mount -t tmpfs -o size=64k,mode=700 none "$0" && exec "$1" "$2" "$0"`;
    const fixture = join(import.meta.dirname, "fixtures", "full-disk.ts");
    const output = execFileSync("unshare", [...root, "-m", "sh", "-c", script, directory, process.execPath, fixture], {
      encoding: "utf8",
    });
    const report = JSON.parse(output);
    const file = join(directory, "journal.jsonl");
    for (const failed of ["append", "full"]) {
      expect(report[failed]).toMatchObject({ code: "disk", where: file, retry: "later" });
      expect(report[failed].message).toBe(
        `journal ${file}: writing entry 2: no space left on the device; its partial line was removed and all entries before it are untouched`,
      );
      expect(report[failed].next).toContain("free space");
    }
    expect(report).toMatchObject({
      unchanged: true,
      fullUnchanged: true,
      evidence: { code: "disk" },
      secret: { code: "disk" },
      list: ["a/g1.key"],
      left: "",
      fullNew: { code: "disk" },
      lock: "no error",
      freed: "no error",
      entries: 2,
      readOnly: { code: "disk", message: expect.stringContaining("read-only file system") },
      readOnlyNew: { code: "disk" },
      readOnlyRead: 2,
      readOnlyLock: { code: "disk" },
    });
  });

  it("tells a user without the right to write, and lets him read past a torn tail", async () => {
    const directory = join(home, "foreign");
    mkdirSync(directory);
    const file = join(directory, "j.jsonl");
    const journal = await openJournal<Sample>(file);
    await journal.append(0, 1, [{ by: "a", n: 1 }]);
    writeFileSync(file, '{"seq":2,"at', { flag: "a" });
    const before = readFileSync(file);
    chmodSync(home, 0o755);
    chmodSync(file, 0o444);
    chmodSync(directory, 0o555);
    const output = await asNobody(
      directory,
      `
      const journal = await openJournal(${JSON.stringify(file)});
      const entries = (await journal.read()).length;
      const refused = await journal.append(1, 1, [1]).catch((error) => error.code);
      const created = await (await openJournal(${JSON.stringify(join(directory, "new"))})).append(0, 1, [1]).catch((error) => error.code);
      console.log(JSON.stringify({ entries, refused, created, repairs: journal.repairs }));
    `,
    );
    expect(JSON.parse(output)).toEqual({
      entries: 1,
      refused: "permission",
      created: "permission",
      repairs: [{ line: 3, bytes: 12, removed: false }],
    });
    expect(readFileSync(file)).toEqual(before);
    chmodSync(directory, 0o755);
  });
});

/** Until a process waits in line for a flock on the file: the kernel lists it behind an arrow. */
async function waitingFor(file: string): Promise<void> {
  const waiter = new RegExp(`-> FLOCK .*:${statSync(file).ino} `);
  while (!waiter.test(readFileSync("/proc/locks", "utf8"))) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** Runs a script as a user who owns nothing; when we are not root, we are such a user ourselves. */
async function asNobody(directory: string, script: string): Promise<string> {
  const root = process.getuid?.() === 0;
  const code = `import { openJournal } from ${JSON.stringify(join(import.meta.dirname, "jsonl.ts"))};${script}`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", code], {
    cwd: directory,
    stdio: ["ignore", "pipe", "inherit"],
    ...(root ? { uid: 65_534, gid: 65_534 } : {}),
  });
  let output = "";
  for await (const chunk of child.stdout) output += String(chunk);
  return output;
}
