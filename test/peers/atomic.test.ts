/**
 * One rotation, system call by system call: nothing that a reader may open is ever written to, no mode is wider than it
 * is meant to be even for a moment, and the journal is on disk before every effect.
 */
import { readFileSync, readlinkSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import { peers } from "../../lab/install.ts";
import { makeShop, type Shop } from "./fixtures/shop.ts";

interface Call {
  readonly name: string;
  readonly args: string;
  readonly result: string;
}

const calls =
  "openat,open,creat,write,pwrite64,writev,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat,chmod,fchmod,fchmodat,chown,fchown,fchownat,fsync,fdatasync,truncate,ftruncate,kill";

let shop: Shop | undefined;
let failed = true;
afterEach(async () => {
  await shop?.end(failed);
  shop = undefined;
  failed = true;
});

/** The calls of one `gyre rotate` in the order they ended, paths below home without it. */
async function traced(change: Parameters<Shop["write"]>[0]): Promise<{ calls: Call[]; shop: Shop; current: string }> {
  shop = await makeShop("atomic", { ...(change === undefined ? {} : { change }) });
  const first = await shop.rotate();
  expect(first.code, first.said).toBe(0);
  const current = readlinkSync(shop.path("server-1/.gyre-tls.pem/current"));
  const trace = shop.workspace.path("trace");
  const under = [peers().strace, "-f", "--seccomp-bpf", "-y", "-qq", "-s", "200", "-e", `trace=${calls}`, "-o", trace];
  const ran = await shop.rotate({ under });
  expect(ran.code, ran.said).toBe(0);
  const text = readFileSync(trace, "utf8").replaceAll(`${shop.home}/`, "");
  return { calls: parse(text), shop, current };
}

/** A call that another thread interrupted comes in two lines: it counts from where it ended. */
function parse(text: string): Call[] {
  const begun = new Map<string, string>();
  const found: Call[] = [];
  for (const line of text.split("\n")) {
    const [, pid, rest] = /^(\d+) +(.*)$/.exec(line) ?? [];
    if (pid === undefined || rest === undefined) continue;
    const cut = /^(.*) <unfinished \.\.\.>$/.exec(rest);
    if (cut !== null) {
      begun.set(pid, cut[1]!);
      continue;
    }
    const whole = rest.replace(/^<\.\.\. \w+ resumed>/, () => begun.get(pid) ?? "");
    const call = /^(\w+)\((.*)\)\s+= (.*)$/.exec(whole);
    if (call !== null) found.push({ name: call[1]!, args: call[2]!, result: call[3]! });
  }
  return found;
}

const pathOf = ({ args }: Call): string => /"([^"]*)"/.exec(args)?.[1] ?? "";
/** The path behind the descriptor that is the first argument. */
const fileOf = ({ args }: Call): string => /^\d+<([^>]*)>/.exec(args)?.[1] ?? "";
const succeeded = ({ result }: Call): boolean => !result.startsWith("-1");
const opens = (all: readonly Call[]): Call[] => all.filter(({ name }) => name === "openat" || name === "open");
const forWriting = (call: Call): boolean => /O_WRONLY|O_RDWR/.test(call.args) && succeeded(call);
const among =
  (...directories: string[]) =>
  (path: string) =>
    directories.some((directory) => path.startsWith(directory));

const inTargets = among("server-1/");
const inState = among(".gyre/", "ca/");

/** Written in place on purpose: appended to under a lock (each line chained or summed), or the lock itself. */
const appended = /^(\.gyre\/credentials\/[^/]+\/(journal\.jsonl|lock)|ca\/issued\.jsonl)$/;

/** `current`: the version that the paths lead to when it begins; undefined where they are plain files beside the store. */
function expectNothingLiveIsWritten(all: readonly Call[], before: string | undefined): void {
  let current = before;
  const born = new Set<string>();
  const gone = new Set<string>();
  for (const call of all.filter(succeeded)) {
    const path = pathOf(call);
    if (before !== undefined && call.name.startsWith("symlink") && /\.current\.gyre-new/.test(call.args))
      current = /"([^"]*)"/.exec(call.args)![1]!;
    if (forWriting(call) && call.name === "openat" && (inTargets(path) || inState(path)) && !appended.test(path)) {
      if (call.args.includes("O_EXCL")) {
        born.add(path);
        expect(isHidden(path, current), path).toBe(true);
      } else {
        // Only what nobody can be led to any more may be overwritten, and that is then taken away.
        expect(path, call.args).toMatch(/\/v\d+\/|\.gyre-new$|^\.gyre\/secrets\//);
        expect(path.includes(`/${current}/`), `${path} is in place`).toBe(false);
        gone.add(path);
      }
    }
    if (call.name.startsWith("unlink")) gone.delete(path);
  }
  expect(born.size).toBeGreaterThan(5);
  expect([...gone]).toEqual([]);
}

/** A new file is born where no reader looks: under a temporary name, or in a version that is not yet current. */
function isHidden(path: string, current: string | undefined): boolean {
  if (/(^|\/)\.[^/]+\.(tmp|gyre-new)$/.test(path)) return true;
  const version = /\/\.gyre-[^/]+\/(v\d+)\//.exec(path)?.[1];
  return version !== undefined && version !== current;
}

/** Octal modes as asked by open, mkdir and chmod, against what each file is meant to have in the end. */
function expectModes(all: readonly Call[], meant: (path: string) => number): void {
  let seen = 0;
  for (const call of all.filter(succeeded)) {
    const creates = opens([call]).length > 0 && call.args.includes("O_CREAT");
    const changes = /^f?chmod/.test(call.name);
    const path = call.name === "fchmod" ? fileOf(call) : pathOf(call);
    if (!(creates || changes) || !(inTargets(path) || inState(path))) continue;
    const mode = Number.parseInt(/, (0\d*)\)?$/.exec(call.args)![1]!, 8);
    expect((mode & ~meant(path)).toString(8), `${call.name} ${path} ${mode.toString(8)}`).toBe("0");
    seen++;
  }
  expect(seen).toBeGreaterThan(8);
}

/** Where a private key or a secret may be read: 0600 or what the manifest says; everything else is public. */
const meantMode = (keyMode: number) => (path: string) => {
  if (/^\.gyre\/secrets\/|store\.key|^ca\/(ca\.key|issued\.jsonl)/.test(path)) return 0o600;
  return /privateKey$|tls\.key/.test(path) ? keyMode : 0o644;
};

/** An intent is written and synced before the effect it announces begins; and no effect goes without one. */
function expectJournalFirst(all: readonly Call[]): void {
  let [synced, intended] = [true, false];
  const effects = { target: 0, issue: 0, signal: 0, secret: 0 };
  for (const call of all.filter(succeeded)) {
    const written = fileOf(call);
    if (written.endsWith("journal.jsonl")) {
      if (call.name === "write") {
        synced = false;
        if (call.args.includes("StepIntended")) intended = true;
        if (call.args.includes("StepDone")) intended = false;
      } else if (call.name === "fsync") synced = true;
    }
    const effect = effectOf(call);
    if (effect === undefined) continue;
    effects[effect]++;
    expect([synced, intended], `${call.name} ${call.args.slice(0, 200)}`).toEqual([true, true]);
  }
  for (const [name, count] of Object.entries(effects)) expect(count, name).toBeGreaterThan(0);
}

function effectOf(call: Call): "target" | "issue" | "signal" | "secret" | undefined {
  if (call.name === "kill" && /SIGHUP/.test(call.args)) return "signal";
  const changes = /^(rename|link|symlink|unlink|rmdir|mkdir|write|pwrite|truncate|ftruncate|f?chmod|f?chown)/.test(
    call.name,
  );
  const creates = opens([call]).length > 0 && call.args.includes("O_CREAT");
  if (!changes && !creates) return undefined;
  const path = /^(write|pwrite|ftruncate|fchmod|fchown)/.test(call.name) ? fileOf(call) : pathOf(call);
  const second = [...call.args.matchAll(/"([^"]*)"/g)].at(-1)?.[1] ?? "";
  if (inTargets(path) || inTargets(second)) return "target";
  if (path === "ca/issued.jsonl") return "issue";
  return path.startsWith(".gyre/secrets/shop-tls/") ? "secret" : undefined;
}

/** Everything that is renamed or linked into place was synced under its temporary name before. */
function expectSyncedBeforePlaced(all: readonly Call[]): void {
  const synced = new Set<string>();
  let placed = 0;
  for (const call of all.filter(succeeded)) {
    if (call.name === "fsync" || call.name === "fdatasync") synced.add(fileOf(call));
    const path = pathOf(call);
    if (!/^(rename|link)/.test(call.name) || !/\.tmp$|\.(tls\.(pem|key))\.gyre-new$/.test(path)) continue;
    expect(synced.has(path), `${call.name} ${path}`).toBe(true);
    placed++;
  }
  expect(placed).toBeGreaterThan(2);
}

describe("one rotation, system call by system call", () => {
  test.each([
    ["switch", "0600"],
    ["rename", "0640"],
  ] as const)("with layout %s and mode %s", async (layout, mode) => {
    const {
      calls: all,
      shop: estate,
      current,
    } = await traced(({ credential }) => {
      Object.assign(credential.spec.deliver[0]!.files, { layout, ...(mode === "0600" ? {} : { mode }) });
    });
    expect(all.length).toBeGreaterThan(100);
    expectNothingLiveIsWritten(all, layout === "switch" ? current : undefined);
    expectModes(all, meantMode(Number.parseInt(mode, 8)));
    expectJournalFirst(all);
    expectSyncedBeforePlaced(all);
    expect([...estate.inPlace().values()].at(-1)).toMatch(new RegExp(`^${mode.slice(1)} `));
    failed = false;
  });
});
