import {
  appendFileSync,
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Named } from "../roles.ts";
import { createKubernetesAuditSensor } from "./audit-sensor.ts";
import { auditLogSettings } from "./audit-settings.ts";
import { auditEvent, type EventFields } from "./audit-testing.ts";

const now = Date.UTC(2026, 10, 26, 18);
const minute = 60_000;
const since = now - 30 * minute;
const fingerprint = "ab".repeat(32);
const old: Named = { fingerprint, serial: "1", issuer: "CN=kubernetes", notAfter: now };

let dir: string;
let path: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "gyre-audit-"));
  path = join(dir, "audit.log");
});
afterEach(() => rmSync(dir, { recursive: true }));

const use = (at: number, fields: Partial<EventFields> = {}) =>
  auditEvent({ at, fingerprint, user: "alice", ...fields });
/** Somebody else's request: shows that the log reaches back. */
const other = (at: number, fields: Partial<EventFields> = {}) => auditEvent({ at, ...fields });
const before = other(since - 20 * minute);
const write = (...lines: string[]) => writeFileSync(path, lines.join(""));
const append = (...lines: string[]) => appendFileSync(path, lines.join(""));
const settings = auditLogSettings.parse({ cluster: "prod", path: "audit.log", member: "10.0.0.1:6443" });
const sensor = (at: () => number = () => now) => createKubernetesAuditSensor(settings, { baseDir: dir, now: at });
const usage = (one = sensor(), from = since) => one.usage(old, from, "admin.7");
const silent = { count: 0, succeeded: 0, from: [] };
const alice = "10.0.0.5 kubectl/v1.35.4 as alice";
const octetsRead = () => Number(/^rchar: (\d+)/m.exec(readFileSync("/proc/self/io", "utf8"))![1]);

describe("usage", () => {
  it("counts requests by this certificate since then, whatever they were answered, and says whose", async () => {
    write(before, use(since - 1), use(since), use(since + minute, { status: 403, from: ["10.0.0.6"] }), other(now));
    expect(await usage()).toEqual({
      ...{ count: 2, succeeded: 1, last: since + minute },
      from: [alice, "10.0.0.6 kubectl/v1.35.4 as alice"],
    });
  });

  it("does not count other certificates, tokens, those whom it impersonates, refusals and our own probes", async () => {
    write(
      before,
      ...[other(since + 1), use(since + 2, { fingerprint: "" }), use(since + 3, { fingerprint: "ac".repeat(32) })],
      use(since + 4, { user: "", status: 401, stage: "ResponseStarted" }),
      ...[use(since + 5, { agent: "gyre-probe/admin.7.abc" }), use(since + 6, { agent: "gyre-probe/admin.7" })],
    );
    expect(await usage()).toEqual(silent);
    append(use(since + 7, { impersonated: "root" }));
    expect(await usage()).toMatchObject({ count: 1, from: [`${alice} (impersonating root)`] });
  });

  it("of nobody's certificate is none, although many requests show none", async () => {
    const token = { fingerprint: "", verb: "watch", stage: "ResponseStarted" };
    write(before, use(since + 1, { fingerprint: "" }), use(since + 2, token));
    expect(await sensor().usage({ ...old, fingerprint: "" }, since, "doctor")).toEqual(silent);
  });

  it("counts a probe of another rotation, and one that only looks like ours", async () => {
    write(
      before,
      use(since + 1, { agent: "gyre-probe/admin.70.x" }),
      use(since + 2, { agent: "x gyre-probe/admin.7.x" }),
    );
    expect(await usage()).toMatchObject({ count: 2 });
  });

  it("leaves out and counts every probe of a Gyre where nobody says which are ours", async () => {
    write(before, ...["admin.7.abc", "doctor12.ab"].map((tag) => use(since + 1, { agent: `gyre-probe/${tag}` })));
    append(use(since + 2), use(since + 3, { agent: "gyre-probes/1" }));
    expect(await sensor().usage(old, since)).toMatchObject({ count: 2, ours: 2, last: since + 3 });
    expect(await usage()).toMatchObject({ count: 3 });
    expect(await usage()).not.toHaveProperty("ours");
  });

  it("counts one request once, in all its stages and when a webhook repeats it", async () => {
    const stages = ["RequestReceived", "ResponseStarted", "ResponseComplete", "ResponseComplete"];
    write(before, ...stages.map((stage, n) => use(since + n, { id: "a", stage })));
    expect(await usage()).toMatchObject({ count: 1, last: since + 2 });
  });

  it("counts a request whose handling panicked", async () => {
    write(before, use(since + 1, { id: "a", stage: "Panic", status: 500 }));
    expect(await usage()).toMatchObject({ count: 1, succeeded: 0 });
  });

  it("leaves out a line that is still being written, and counts it when it is whole", async () => {
    const line = use(since + 1);
    write(before, line.slice(0, -20));
    const one = sensor();
    expect(await usage(one)).toEqual(silent);
    append(line.slice(-20));
    expect(await usage(one)).toMatchObject({ count: 1 });
  });
});

describe("a watch", () => {
  const started = (at: number, id: string, uri = "/api/v1/pods?watch=true") =>
    use(at, { id, verb: "watch", stage: "ResponseStarted", uri });
  const ended = (at: number, received: number, id: string) => use(at, { id, verb: "watch", received });

  it("that is open is a use that goes on, also when it began long before", async () => {
    write(before, started(since - 9 * 60 * minute, "w"), other(since + 1));
    expect(await usage()).toEqual({ count: 1, succeeded: 1, last: now, from: [`${alice} (still open)`] });
    const one = sensor();
    expect(await usage(one, now - 1)).toMatchObject({ count: 1 });
    append(ended(now - 5 * minute, since - 9 * 60 * minute, "w"));
    expect(await usage(one, now - 1)).toEqual(silent);
    expect(await usage()).toMatchObject({ count: 1, last: now - 5 * minute, from: [alice] });
  });

  it("ends by itself when the time that the client asked for is over", async () => {
    write(before, started(since - 10 * minute, "w", "/api/v1/pods?watch=true&timeoutSeconds=120"), other(now));
    expect(await usage()).toEqual(silent);
    write(before, started(since - 10 * minute, "w", "/api/v1/pods?watch=true&timeoutSeconds=7200"), other(now));
    expect(await usage()).toMatchObject({ count: 1 });
  });

  it("whose beginning was left out by the policy is a gap: an open one would not show", async () => {
    const watch = (id: string) => ({ id, verb: "watch", received: since + 2 * minute });
    const end = other(since + 12 * minute, watch("v"));
    write(before, end, other(since + 20 * minute));
    expect(await usage()).toMatchObject({
      gap: expect.stringMatching(/ResponseStarted/),
      gapUntil: since + 12 * minute,
    });
    write(
      before,
      other(since + 2 * minute, { ...watch("v"), stage: "ResponseStarted" }),
      end,
      other(since + 20 * minute),
    );
    expect(await usage()).not.toHaveProperty("gap");
    // A webhook's batch that overtook another, and a look between the two.
    const late = other(since + 2 * minute, { ...watch("v"), stage: "ResponseStarted" });
    write(before, other(since + 2 * minute + 500, watch("v")));
    const one = sensor();
    expect(await usage(one)).not.toHaveProperty("gap");
    append(late, other(since + 20 * minute));
    expect(await usage(one)).not.toHaveProperty("gap");
  });
});

describe("a gap", () => {
  it("is a log that is missing, or cannot be read", async () => {
    expect(await usage()).toMatchObject({ ...silent, gapUntil: now, gap: expect.stringMatching(/ENOENT/) });
    writeFileSync(join(dir, "file"), "");
    const below = createKubernetesAuditSensor({ ...settings, path: "file/x" }, { baseDir: dir, now: () => now });
    expect(await usage(below)).toMatchObject({ gapUntil: now, gap: expect.stringMatching(/ENOTDIR/) });
  });

  it("is a log that begins later than asked, until its first line; an empty one until now", async () => {
    write(other(since + 5 * minute), other(since + 6 * minute));
    expect(await usage()).toMatchObject({ gapUntil: since + 5 * minute, gap: expect.stringMatching(/reach back/) });
    expect(await usage(sensor(), since + 5 * minute)).not.toHaveProperty("gap");
    write("");
    expect(await usage()).toMatchObject({ gapUntil: now });
  });

  it.each([
    ["cut off", use(since + minute).slice(0, 200)],
    ["cut off, with the next one behind it", use(since + minute).slice(0, 200) + use(since + minute).trim()],
    ["of another format", "2026-11-26T17:31:00Z AUDIT: id=x"],
  ])("is a line %s, until the line behind it", async (_, damaged) => {
    write(before, other(since + minute), `${damaged}\n`, other(since + 3 * minute), other(since + 9 * minute));
    expect(await usage()).toMatchObject({ gapUntil: since + 3 * minute, gap: expect.stringMatching(/hidden/) });
    write(before, `${damaged}\n`, other(since - minute), other(since + 9 * minute));
    expect(await usage()).not.toHaveProperty("gap");
    write(before, other(since + minute), `${damaged}\n`);
    expect(await usage()).toMatchObject({ gapUntil: now });
  });

  it("is an event that does not say who it was, except a refusal", async () => {
    write(before, other(since + minute, { user: "", status: 401, stage: "ResponseStarted" }), other(now - minute));
    expect(await usage()).not.toHaveProperty("gap");
    append(other(now, { user: "" }));
    expect(await usage()).toMatchObject({ gapUntil: now, gap: expect.stringMatching(/who it was/) });
  });

  it("is a clock set back, but not a little disorder", async () => {
    write(before, other(since + 12 * minute), other(since + 2 * minute), other(since + 3 * minute));
    expect(await usage()).toMatchObject({ gapUntil: since + 12 * minute, gap: expect.stringMatching(/back by 600 s/) });
    write(before, other(since + 2 * minute + 900), other(since + 2 * minute), other(since + 3 * minute));
    expect(await usage()).not.toHaveProperty("gap");
  });

  it("is a log that was cut between two looks, also when it has grown again, and not before the first", async () => {
    write(before, other(since + minute));
    const one = sensor();
    expect(await usage(one)).toEqual(silent);
    truncateSync(path);
    append(before, other(since + 2 * minute), other(since + 3 * minute));
    expect(await usage(one)).toMatchObject({ gapUntil: now, gap: expect.stringMatching(/truncated/) });
    expect(await usage()).not.toHaveProperty("gap");
    // Compressing it afterwards brings nothing back.
    const name = join(dir, "audit-2026-11-26T17-40-00.000.log");
    renameSync(path, name);
    write(other(now));
    writeFileSync(`${name}.gz`, gzipSync(readFileSync(name)));
    rmSync(name);
    expect(await usage(one)).toMatchObject({ gapUntil: now, gap: expect.stringMatching(/truncated/) });
  });

  it("is the last file gone before it was read to its end, but not when it was compressed", async () => {
    write(before, other(since + minute));
    const [one, two] = [sensor(), sensor()];
    expect([await usage(one), await usage(two)]).toEqual([silent, silent]);
    // The new one comes before the old one goes, as in a rotation: it has another inode.
    const name = join(dir, "audit-2026-11-26T17-40-00.000.log");
    renameSync(path, name);
    write(other(now));
    writeFileSync(`${name}.gz`, gzipSync(before + use(since + minute)));
    rmSync(name);
    expect(await usage(one)).toEqual({ count: 1, succeeded: 1, last: since + minute, from: [alice] });
    rmSync(`${name}.gz`);
    expect(await usage(two)).toMatchObject({ gap: expect.stringMatching(/gone/), gapUntil: now });
  });
});

describe("rotated logs", () => {
  it.each([
    ["audit-2026-11-26T17-40-00.000.log", (text: string) => text],
    ["audit-2026-11-26T17-40-00.000.log.gz", gzipSync],
    ["audit.log.1", (text: string) => text],
    ["audit.log-20261126.gz", gzipSync],
  ])("are read too: %s", async (name, pack) => {
    write(other(since + 20 * minute));
    writeFileSync(join(dir, name), pack(before + use(since + minute)));
    expect(await usage()).toEqual({ count: 1, succeeded: 1, last: since + minute, from: [alice] });
    rmSync(join(dir, name));
    expect(await usage()).toMatchObject({ count: 0, gapUntil: since + 20 * minute });
  });

  it("are taken in the order of their names, whatever their times, and not when they are something else", async () => {
    const [first, second] = ["17-31-00", "17-40-00"].map((at) => join(dir, `audit-2026-11-26T${at}.000.log`));
    writeFileSync(second!, use(since + 5 * minute));
    writeFileSync(first!, before + other(since + minute));
    utimesSync(second!, 1_000, 1_000);
    for (const name of ["audit-old.log", "audit.log.bak", "audit2-2026-11-26T17-31-00.000.log"])
      writeFileSync(join(dir, name), use(since + 2));
    write(other(now));
    expect(await usage()).toEqual({ count: 1, succeeded: 1, last: since + 5 * minute, from: [alice] });
  });

  it("are read once while one is being compressed, from the plain file", async () => {
    write(other(now));
    const name = join(dir, "audit-2026-11-26T17-40-00.000.log");
    const ends = Array.from({ length: 3 }, (_, n) => use(since + n * minute));
    writeFileSync(name, before + ends.join(""));
    writeFileSync(`${name}.gz`, gzipSync(before + ends.join("")).subarray(0, 60));
    expect(await usage()).toMatchObject({ count: 3 });
    expect(await usage()).not.toHaveProperty("gap");
  });

  it("are a gap when damaged", async () => {
    write(other(since + 20 * minute));
    const packed = gzipSync(before + use(since + minute)).subarray(0, 60);
    writeFileSync(join(dir, "audit-2026-11-26T17-40-00.000.log.gz"), packed);
    expect(await usage()).toMatchObject({ gapUntil: now, gap: expect.stringMatching(/cannot be read/) });
  });

  it("are followed from where the last look ended, while there is no new one yet too", async () => {
    const one = sensor();
    write(before, use(since + minute));
    expect(await usage(one)).toMatchObject({ count: 1 });
    append(use(since + 2 * minute));
    renameSync(path, join(dir, "audit-2026-11-26T17-40-00.000.log"));
    expect(await usage(one)).toMatchObject({ count: 2 });
    write(use(since + 3 * minute));
    expect(await usage(one)).toMatchObject({ count: 3 });
    expect(await usage(one)).not.toHaveProperty("gap");
  });
});

describe("a later look", () => {
  it("goes on where the last one ended, whatever it asks for", async () => {
    write(before, use(since + minute), ...Array.from({ length: 8_000 }, (_, n) => other(since + 2 * minute + n)));
    const one = sensor();
    expect(await usage(one)).toMatchObject({ count: 1 });
    append(use(since + 5 * minute));
    const already = octetsRead();
    expect(await usage(one)).toMatchObject({ count: 2, last: since + 5 * minute });
    expect(await usage(one, since + 6 * minute)).toEqual(silent);
    expect(octetsRead() - already).toBeLessThan(200_000);
    // Further back, or into the middle: read anew.
    expect(await usage(one)).toMatchObject({ count: 2 });
    expect(await usage(one, since + 2 * minute)).toMatchObject({ count: 1 });
    expect(await one.usage({ ...old, fingerprint: "99".repeat(32) }, since, "x")).toMatchObject({ count: 8_000 });
  });

  it("that comes at the same time waits for the other, and does not read all of it again", async () => {
    write(before, use(since + minute), ...Array.from({ length: 8_000 }, (_, n) => other(since + 2 * minute + n)));
    const { size } = statSync(path);
    const one = sensor();
    const already = octetsRead();
    expect((await Promise.all([usage(one), usage(one), usage(one)])).map(({ count }) => count)).toEqual([1, 1, 1]);
    expect(octetsRead() - already).toBeLessThan(2 * size);
  });
});

describe("alive", () => {
  const tagged = (tag: string, more: Partial<EventFields> = {}) => use(now, { agent: `gyre-probe/${tag}`, ...more });
  it("is our own accepted probe, by its whole tag", async () => {
    write(before, tagged("admin.7.abc"), other(now));
    expect(await sensor().alive("admin.7.abc")).toBe(true);
    expect(await sensor().alive("admin.7.ab")).toBe(false);
    expect(await sensor().alive("admin.7.abcd")).toBe(false);
  });
  it("is not a refused control, nor where the certificate is not named", async () => {
    write(
      tagged("t.1", { user: "", status: 401, stage: "ResponseStarted" }),
      tagged("t.1", { fingerprint: "" }),
      tagged("t.1", { status: 403 }),
    );
    expect(await sensor().alive("t.1")).toBe(false);
    append(tagged("t.1"));
    expect(await sensor().alive("t.1")).toBe(true);
  });
  it("is seen in the file that was rotated right behind it", async () => {
    write(tagged("t.1"));
    renameSync(path, join(dir, "audit-2026-11-26T17-40-00.000.log"));
    expect(await sensor().alive("t.1")).toBe(true);
    write(other(now));
    expect(await sensor().alive("t.1")).toBe(true);
  });
  it("is false while there is no log", async () => expect(await sensor().alive("t.1")).toBe(false));
});

describe("an API server whose clock differs", () => {
  const slow = -10 * minute;
  it("is read by our clock once our own probe was seen there", async () => {
    // A use five minutes into the window by our clock; by the server's it lies before it.
    const probe = use(now + slow, { agent: "gyre-probe/admin.7.t" });
    write(other(since - 30 * minute), use(since + 5 * minute + slow), probe);
    expect(await usage()).toMatchObject({ count: 0 });
    const one = sensor();
    expect(await usage(one)).toMatchObject({ count: 0 });
    expect(await one.alive("admin.7.t")).toBe(true);
    expect(await usage(one)).toMatchObject({ count: 1, last: since + 5 * minute });
  });
  it("is read alike by a look that lags more: the beginning of a log does not move", async () => {
    const probe = (tag: string, at: number) => use(at, { agent: `gyre-probe/admin.7.${tag}` });
    let clock = now;
    const one = sensor(() => clock);
    write(probe("a", now));
    expect(await one.alive("admin.7.a")).toBe(true);
    expect(await usage(one)).toMatchObject({ gapUntil: now });
    clock = now + minute;
    append(probe("b", clock - 400));
    expect(await one.alive("admin.7.b")).toBe(true);
    expect(await usage(one, now + 1)).toEqual(silent);
  });
});

describe("a big log", () => {
  it("of 100 MB is read in a stream: memory stays flat", async () => {
    const block = Array.from({ length: 1_000 }, (_, n) => other(since + n)).join("");
    const file = openSync(path, "w");
    writeSync(file, before);
    for (let size = 0; size < 100 * 1024 ** 2; size += block.length) writeSync(file, block);
    writeSync(file, use(since + minute));
    closeSync(file);
    const rss = process.memoryUsage().rss;
    expect(await usage()).toMatchObject({ count: 1 });
    expect(process.memoryUsage().rss - rss).toBeLessThan(100 * 1024 ** 2);
  });

  it("is cut at every place between chunks without losing a line", async () => {
    const lines = Array.from({ length: 6_000 }, (_, n) => use(since + n, { agent: "x".repeat(n % 97) }));
    write(before, ...lines);
    expect(await usage()).toMatchObject({ count: 6_000, last: since + 5_999 });
    expect(await usage()).not.toHaveProperty("gap");
  });
});
