import { execFile } from "node:child_process";
import { access, constants, cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { dyingDisk } from "../conformance/dying-disk.ts";
import { type TestCa, testCa, testMaterial, testStep } from "../conformance/material.ts";
import { leafOf } from "../conformance/target.ts";
import type { Step, Stored, Target } from "../roles.ts";
import type { Disk } from "./disk.ts";
import { type TargetSettings, targetSettings } from "./settings.ts";
import { createFilesTarget } from "./target.ts";

const run = promisify(execFile);
const THREE = { certificate: "tls.pem", privateKey: "tls.key", chain: "chain.pem" };
const shapes: Readonly<Record<string, object>> = {
  "three files, switched": THREE,
  "three files, renamed": { ...THREE, layout: "rename" },
  "three files, switched, checked after the switch": { ...THREE, validate: { command: ["true"] } },
  "three files, renamed, checked after the renames": { ...THREE, layout: "rename", validate: { command: ["true"] } },
  "combined, renamed": { combined: "tls.pem" },
};

type TestMaterial = Awaited<ReturnType<typeof testMaterial>>;
let ca: TestCa;
let old: TestMaterial;
let fresh: TestMaterial;
let templates: string;
beforeAll(async () => {
  ca = await testCa();
  [old, fresh] = [await testMaterial(ca), await testMaterial(ca)];
  // In memory where there is such a place: a thousand fsyncs are waited for here.
  const inMemory = await access("/dev/shm", constants.W_OK).then(
    () => true,
    () => false,
  );
  templates = await mkdtemp(join(inMemory ? "/dev/shm" : tmpdir(), "gyre-crash-"));
});
afterAll(() => rm(templates, { recursive: true }));

/** A directory before the action, the material in it (none when empty), and a copy of it for each try. */
interface Start {
  readonly directory: string;
  readonly version: string;
  readonly content: Readonly<Record<string, string>>;
}

const FILES = ["tls.pem", "tls.key", "chain.pem"];
async function contentOf(directory: string): Promise<Record<string, string>> {
  const content: Record<string, string> = {};
  for (const name of FILES) {
    content[name] = await readFile(join(directory, name), "latin1").catch((error) =>
      error.code === "ENOENT" ? "" : `? ${error.code}`,
    );
  }
  return content;
}

const targetIn = (directory: string, settings: TargetSettings, disk: Disk = freshDisk()): Target =>
  createFilesTarget(settings, { baseDir: directory, disk });

/** The real calls; only the lock, which nobody else wants here, is left out: it starts a program each time. */
const freshDisk = (): Disk => dyingDisk(Number.POSITIVE_INFINITY).disk;

type Prepare = (directory: string, settings: TargetSettings) => Promise<void>;
const prepared: Readonly<Record<string, Prepare>> = {
  "where nothing was": async () => undefined,
  "over plain files of somebody else": async (directory, settings) => {
    const target = targetIn(directory, { ...settings, layout: "rename", validate: undefined });
    await target.deliver(old, "absent", testStep());
    for (const name of await readdir(directory))
      if (name.startsWith(".gyre-")) await rm(join(directory, name), { recursive: true });
  },
  "over an older delivery": async (directory, settings) => {
    await targetIn(directory, settings).deliver(old, "absent", testStep("older"));
  },
};

async function start(name: string, settings: TargetSettings): Promise<Start> {
  const directory = await mkdtemp(join(templates, "t-"));
  await prepared[name]!(directory, settings);
  const { version } = await targetIn(directory, settings).read();
  return { directory, version, content: await contentOf(directory) };
}

async function copyOf(directory: string): Promise<string> {
  const copy = await mkdtemp(join(templates, "c-"));
  await cp(directory, copy, { recursive: true, verbatimSymlinks: true });
  return copy;
}

/** Runs `action` on copies of a start, killed after 0, 1, 2 … system calls until one run reaches its end. */
async function killedEverywhere(
  from: string,
  settings: TargetSettings,
  action: (target: Target) => Promise<unknown>,
  then: (directory: string, survived: boolean, calls: string) => Promise<void>,
): Promise<number> {
  for (let last = 0; ; last++) {
    const directory = await copyOf(from);
    const dying = dyingDisk(last);
    const survived = await action(targetIn(directory, settings, dying.disk)).then(
      () => true,
      () => false,
    );
    // Clean-up that is done without error handling may be cut and still end well: reached is what counts.
    const reached = dying.calls() <= last;
    await then(directory, survived, `after ${last} calls, before: ${dying.names[last] ?? "the end"}`);
    await rm(directory, { recursive: true });
    if (reached) return last;
  }
}

const isNew = (stored: Stored): boolean => leafOf(stored) === fresh.leaf.fingerprint;

/** What read says must be what is there. */
async function mustBeTrue(
  directory: string,
  settings: TargetSettings,
  from: Start,
  full: Record<string, string>,
  step: Step,
  calls: string,
) {
  const content = await contentOf(directory);
  const stored = await targetIn(directory, settings).read();
  const names = FILES.filter((name) => full[name] !== from.content[name]);
  const arrived = names.filter((name) => content[name] === full[name]);
  const untouched = names.filter((name) => content[name] === from.content[name]);
  expect(arrived.length + untouched.length, `${calls}: each file is the old one or the new one`).toBe(names.length);
  if (settings.layout !== "rename" && names.length > 1) {
    expect([0, names.length], `${calls}: all files change at once`).toContain(arrived.length);
  }
  if (arrived.length === 0) {
    expect(stored.torn, `${calls}: nothing has changed`).toBeUndefined();
    expect(stored.op, calls).not.toBe(step.op);
    expect(stored.version, calls).toBe(from.version);
  } else {
    expect(stored.op, `${calls}: something has changed`).toBe(step.op);
    if (arrived.length < names.length) expect(stored.torn, `${calls}: half of it has changed`).toBe(true);
  }
  return stored;
}

/** Nothing is left of a delivery that is over: no intent, no half-written file, and after forget no second copy. */
async function mustBeTidy(directory: string, settings: TargetSettings, calls: string): Promise<void> {
  await targetIn(directory, settings).forget(testStep());
  const names = await readdir(directory, { recursive: true });
  expect(
    names.filter((name) => /gyre-new|gyre-old|\/next$/.test(name)),
    calls,
  ).toEqual([]);
  expect(names.filter((name) => /\/v\d+$/.test(name)).length, calls).toBeLessThanOrEqual(1);
}

describe.each(Object.entries(shapes))("files, killed at every system call (%s)", (_, shape) => {
  const settings = targetSettings.parse(shape);

  it.each(Object.keys(prepared))("a delivery %s: read tells the truth, the same op finishes it", async (name) => {
    const from = await start(name, settings);
    const step = testStep("the delivery");
    const full = await contentAfter(from.directory, (target) => target.deliver(fresh, from.version, step), settings);
    const count = await killedEverywhere(
      from.directory,
      settings,
      (target) => target.deliver(fresh, from.version, step),
      async (directory, survived, calls) => {
        const stored = await mustBeTrue(directory, settings, from, full, step, calls);
        if (survived) expect(isNew(stored), calls).toBe(true);
        // The runtime may give the version it planned on, or the one it read.
        for (const expected of new Set([from.version, stored.version])) {
          const copy = await copyOf(directory);
          const done = await targetIn(copy, settings).deliver(fresh, expected, step);
          expect([isNew(done), done.op, done.torn], calls).toEqual([true, step.op, undefined]);
          expect(await contentOf(copy), calls).toEqual(full);
          expect(
            (await readdir(copy)).filter((one) => one.includes("gyre-new")),
            calls,
          ).toEqual([]);
          await mustRestore(copy, settings, from, done.version, calls);
          await rm(copy, { recursive: true });
        }
      },
    );
    expect(count).toBeGreaterThan(15);
  });

  it.each(["over an older delivery"])(
    "a delivery %s: another op takes over, and restore still finds the old",
    async (name) => {
      const from = await start(name, settings);
      await killedEverywhere(
        from.directory,
        settings,
        (target) => target.deliver(fresh, from.version, testStep("the delivery")),
        async (directory, _, calls) => {
          const { version } = await targetIn(directory, settings).read();
          const other = await testMaterialOnce();
          const done = await targetIn(directory, settings).deliver(other, version, testStep("another"));
          expect([leafOf(done), done.op, done.torn], calls).toEqual([other.leaf.fingerprint, "another", undefined]);
        },
      );
    },
  );

  it.each(["where nothing was", "over an older delivery"])(
    "a delivery %s: restore puts back what was there",
    async (name) => {
      const from = await start(name, settings);
      await killedEverywhere(
        from.directory,
        settings,
        (target) => target.deliver(fresh, from.version, testStep("the delivery")),
        async (directory, _, calls) => {
          const stored = await targetIn(directory, settings).read();
          if (stored.op !== "the delivery") return; // it never came to its switch
          await mustRestore(directory, settings, from, stored.version, calls);
          await mustBeTidy(directory, settings, calls);
        },
      );
    },
  );

  it("a restore: read tells the truth, the same op and another one finish it", async () => {
    const from = await start("over an older delivery", settings);
    const delivered = await targetIn(from.directory, settings).deliver(fresh, from.version, testStep("the delivery"));
    const step = testStep("the restore");
    await killedEverywhere(
      from.directory,
      settings,
      (target) => target.restore(delivered.version, step),
      async (directory, _, calls) => {
        const stored = await targetIn(directory, settings).read();
        const back = (await contentOf(directory))["tls.pem"] === from.content["tls.pem"];
        if (back) expect(stored.op, calls).toBe(step.op);
        else if (stored.torn !== true) expect(stored.op, calls).toBe("the delivery");
        for (const again of [step, testStep("another restore")]) {
          if (again !== step && back && stored.torn !== true) continue; // it is over
          const copy = await copyOf(directory);
          const done = await targetIn(copy, settings).restore(stored.version, again);
          expect(done.torn, calls).toBeUndefined();
          expect(await contentOf(copy), calls).toEqual(from.content);
          await mustBeTidy(copy, settings, calls);
          await rm(copy, { recursive: true });
        }
      },
    );
  });

  it("a forget: what is in place stays, and repeating it ends it", async () => {
    const from = await start("over an older delivery", settings);
    const delivered = await targetIn(from.directory, settings).deliver(fresh, from.version, testStep("the delivery"));
    await killedEverywhere(
      from.directory,
      settings,
      (target) => target.forget(testStep()),
      async (directory, _, calls) => {
        const seen = await targetIn(directory, settings).read();
        expect([seen.version, seen.op], calls).toEqual([delivered.version, "the delivery"]);
        await mustBeTidy(directory, settings, calls);
        expect((await targetIn(directory, settings).read()).version, calls).toBe(delivered.version);
      },
    );
  });
});

let third: Promise<TestMaterial> | undefined;
const testMaterialOnce = (): Promise<TestMaterial> => (third ??= testMaterial(ca));

async function contentAfter(directory: string, action: (target: Target) => Promise<unknown>, settings: TargetSettings) {
  const copy = await copyOf(directory);
  await action(targetIn(copy, settings));
  const content = await contentOf(copy);
  await rm(copy, { recursive: true });
  return content;
}

async function mustRestore(directory: string, settings: TargetSettings, from: Start, version: string, calls: string) {
  const back = await targetIn(directory, settings).restore(version, testStep("back"));
  expect([back.version, back.torn], calls).toEqual([from.version, undefined]);
  expect(await contentOf(directory), calls).toEqual(from.content);
}

describe("files, a real process killed by SIGKILL", () => {
  const child = join(import.meta.dirname, "..", "conformance", "deliver-child.ts");
  const settings = targetSettings.parse(THREE);

  it("before every third system call of a first delivery over plain files: the same op finishes it", async () => {
    const from = await start("over plain files of somebody else", settings);
    const step = testStep("the delivery");
    const full = await contentAfter(from.directory, (target) => target.deliver(fresh, from.version, step), settings);
    const privateKey = fresh.privateKey!.use((key) => key.toString());
    const order = {
      settings: THREE,
      expected: from.version,
      op: step.op,
      material: { ...fresh, leaf: null, privateKey },
    };
    // Each third call: above, every one is tried without a process.
    let killed = 0;
    for (let dieBefore = 1; dieBefore <= 3 * killed + 1; dieBefore += 3) {
      const directory = await copyOf(from.directory);
      await writeFile(join(directory, "order.json"), JSON.stringify({ ...order, dieBefore, baseDir: directory }));
      await run(process.execPath, [child, join(directory, "order.json")]).catch((error) => {
        if (error.signal !== "SIGKILL") throw error;
        killed += 1;
      });
      const calls = `before call ${dieBefore}`;
      await mustBeTrue(directory, settings, from, full, step, calls);
      const done = await targetIn(directory, settings).deliver(fresh, from.version, step);
      expect([isNew(done), done.op, done.torn], calls).toEqual([true, step.op, undefined]);
      await mustRestore(directory, settings, from, done.version, calls);
      await rm(directory, { recursive: true });
    }
    expect(killed).toBeGreaterThan(15);
  });
});
