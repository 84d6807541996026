import {
  appendFileSync,
  closeSync,
  linkSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
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
import { createAccessLogSensor } from "./sensor.ts";
import { accessLogSettings } from "./settings.ts";

const now = Date.UTC(2026, 10, 24, 18);
const minute = 60_000;
const since = now - 30 * minute;
const old: Named = { fingerprint: "f", serial: "a1b2c3d4e5f60718", issuer: "CN=root,O=Lab", notAfter: now };

let dir: string;
let path: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "gyre-log-"));
  path = join(dir, "access.log");
});
afterEach(() => rmSync(dir, { recursive: true }));

interface Fields {
  readonly at: number;
  readonly serial?: string;
  readonly issuer?: string;
  readonly verify?: string;
  readonly agent?: string;
  readonly status?: number;
  readonly from?: string;
}
const line = ({
  at,
  serial = old.serial,
  issuer = old.issuer,
  verify = "SUCCESS",
  agent = "curl/8",
  status = 200,
  from = "10.0.0.9",
}: Fields) =>
  `${JSON.stringify({
    ...{ time: at / 1000, ssl_client_serial: serial.toUpperCase(), ssl_client_i_dn: issuer, ssl_client_verify: verify },
    ...{ ssl_session_reused: ".", remote_addr: from, status, http_user_agent: agent },
  })}\n`;
/** Somebody else's request: shows that the log reaches back. */
const before = line({ at: since - 20 * minute, serial: "99" });
const other = (at: number) => line({ at, serial: "99" });
const write = (...lines: string[]) => writeFileSync(path, lines.join(""));
const sensor = (clock = now, more: object = {}) =>
  createAccessLogSensor(
    accessLogSettings.parse({ path: "access.log", server: "nginx", member: "10.0.0.1:443", ...more }),
    { baseDir: dir, now: () => clock },
  );
const usage = (one = sensor()) => one.usage(old, since, "shop.7");
const silent = { count: 0, succeeded: 0, from: [] };

describe("usage", () => {
  it("counts who used it since then, and when last", async () => {
    write(
      ...[before, line({ at: since - 1 }), line({ at: since, from: "10.0.0.7" }), other(since + minute)],
      ...[line({ at: since + 2 * minute, status: 503 }), other(now - minute)],
    );
    expect(await usage()).toEqual({ count: 2, succeeded: 1, last: since + 2 * minute, from: ["10.0.0.9", "10.0.0.7"] });
  });

  it("is silence where only others, refused ones and our own probes are seen", async () => {
    write(
      ...[before, line({ at: since + 1, serial: "a1b2c3d4e5f60719" }), line({ at: since + 2, issuer: "CN=other" })],
      ...[
        line({ at: since + 3, verify: "FAILED:certificate revoked", status: 400 }),
        line({ at: since + 4, serial: "", verify: "NONE" }),
      ],
      ...[line({ at: since + 5, agent: "gyre-probe/shop.7.abc" }), line({ at: since + 6, agent: "gyre-probe/shop.7" })],
    );
    expect(await usage()).toEqual(silent);
  });

  it("leaves out and counts every probe of a Gyre where nobody says which are ours", async () => {
    write(
      ...[before, line({ at: since + 1, agent: "gyre-probe/shop.7.abc" }), line({ at: since + 2 })],
      ...[line({ at: since + 3, agent: "gyre-probe/doctor12.ab" }), line({ at: since + 4, agent: "gyre-probes/1" })],
    );
    expect(await sensor().usage(old, since)).toMatchObject({ count: 2, ours: 2, last: since + 4 });
    expect(await usage()).toMatchObject({ count: 3 });
    expect(await usage()).not.toHaveProperty("ours");
  });

  it("counts a probe of another rotation, and one that only looks like ours", async () => {
    write(
      before,
      line({ at: since + 1, agent: "gyre-probe/shop.70.x" }),
      line({ at: since + 2, agent: "x gyre-probe/shop.7.x" }),
    );
    expect(await usage()).toMatchObject({ count: 2 });
  });

  it("compares serials and issuers however they are written", async () => {
    write(before, line({ at: since + 1, serial: "00A1:B2C3:D4E5:F607:18", issuer: "/O=Lab/CN=root" }));
    expect(await usage()).toMatchObject({ count: 1 });
  });

  it("reads HAProxy's lines between its messages", async () => {
    write(
      before.replace("SUCCESS", "0"),
      "Proxy tls started.\n",
      line({ at: since + 1, verify: "0" }),
      line({ at: since + 2, verify: "10" }),
    );
    expect(await usage(sensor(now, { server: "haproxy" }))).toEqual({
      count: 1,
      succeeded: 1,
      last: since + 1,
      from: ["10.0.0.9"],
    });
  });

  it("leaves out a line that is still being written, and counts it when it is whole", async () => {
    const use = line({ at: since + 1 });
    write(before, use.slice(0, -20));
    expect(await usage()).toEqual(silent);
    appendFileSync(path, use.slice(-20));
    expect(await usage()).toMatchObject({ count: 1 });
  });
});

describe("a gap", () => {
  it("is a log that is missing, or cannot be read", async () => {
    expect(await usage()).toMatchObject({ ...silent, gapUntil: now, gap: expect.stringMatching(/ENOENT/) });
    rmSync(path, { force: true, recursive: true });
    writeFileSync(join(dir, "file"), "");
    const below = createAccessLogSensor(
      accessLogSettings.parse({ path: join(dir, "file", "x"), server: "nginx", member: "m:1" }),
      { now: () => now },
    );
    expect(await below.usage(old, since, "x")).toMatchObject({ gapUntil: now, gap: expect.stringMatching(/ENOTDIR/) });
  });

  it("is a log that begins later than asked, until its first line; an empty one until now", async () => {
    write(other(since + 5 * minute), other(since + 6 * minute));
    expect(await usage()).toMatchObject({ gapUntil: since + 5 * minute, gap: expect.stringMatching(/reach back/) });
    write(before, other(since + 5 * minute));
    expect(await usage()).not.toHaveProperty("gap");
    truncateSync(path);
    expect(await usage()).toMatchObject({ gapUntil: now });
  });

  it.each([
    ["another format", '10.0.0.1 - - "GET /" 200\n'],
    ["a cut line", line({ at: since + minute }).replace(/"status".*/, "")],
    ["a line without the serial", line({ at: since + minute }).replace("ssl_client_serial", "serial")],
  ])("is %s, until the line behind it", async (_, damaged) => {
    write(before, other(since + minute), damaged, other(since + 3 * minute), other(since + 9 * minute));
    expect(await usage()).toMatchObject({ gapUntil: since + 3 * minute, gap: expect.stringMatching(/hidden/) });
    write(before, damaged, other(since - minute), other(since + 9 * minute));
    expect(await usage()).not.toHaveProperty("gap");
    write(before, other(since + minute), damaged);
    expect(await usage()).toMatchObject({ gapUntil: now });
  });

  it("is a clock set back, but not a little disorder", async () => {
    write(before, other(since + 12 * minute), other(since + 2 * minute), other(since + 3 * minute));
    expect(await usage()).toMatchObject({
      gapUntil: since + 12 * minute,
      gap: expect.stringMatching(/set back by 600 s/),
    });
    write(before, other(since + 2 * minute + 900), other(since + 2 * minute), other(since + 3 * minute));
    expect(await usage()).not.toHaveProperty("gap");
  });
});

describe("rotated logs", () => {
  const use = line({ at: since + minute, from: "10.0.0.7" });
  it.each([
    ["access.log.1", (text: string) => text],
    ["access.log-20261124", (text: string) => text],
    ["access.log.2.gz", (text: string) => gzipSync(text)],
  ])("are read on: %s", async (name, pack) => {
    write(other(since + 20 * minute));
    writeFileSync(join(dir, name), pack(before + use));
    expect(await usage()).toEqual({ count: 1, succeeded: 1, last: since + minute, from: ["10.0.0.7"] });
    rmSync(join(dir, name));
    expect(await usage()).toMatchObject({ count: 0, gapUntil: since + 20 * minute });
  });

  it("are read as far as needed, newest first, and not when they are something else", async () => {
    write(other(now - minute));
    writeFileSync(join(dir, "access.log.2"), before + use);
    writeFileSync(join(dir, "access.log.1"), line({ at: since + 10 * minute }));
    utimesSync(join(dir, "access.log.2"), 1_000, 1_000);
    writeFileSync(join(dir, "access.log.bak"), use);
    writeFileSync(join(dir, "access.log2.1"), use);
    expect(await usage()).toMatchObject({ count: 2 });
    expect(await usage()).not.toHaveProperty("gap");
  });

  it("are a gap when damaged", async () => {
    write(other(since + 20 * minute));
    writeFileSync(join(dir, "access.log.1.gz"), gzipSync(before + use).subarray(0, 60));
    expect(await usage()).toMatchObject({ gapUntil: now, gap: expect.stringMatching(/cannot be read/) });
  });

  it("do not count twice the file that was renamed while it was open", async () => {
    write(use, other(since + 20 * minute));
    linkSync(path, join(dir, "access.log.1"));
    expect(await usage()).toMatchObject({ count: 1 });
  });
});

describe("alive", () => {
  const tagged = (tag: string, more: Partial<Fields> = {}) => line({ at: now, agent: `gyre-probe/${tag}`, ...more });
  it("is our own accepted probe, by its whole tag", async () => {
    write(before, tagged("shop.7.abc"), other(now));
    expect(await sensor().alive("shop.7.abc")).toBe(true);
    expect(await sensor().alive("shop.7.ab")).toBe(false);
    expect(await sensor().alive("shop.7.abcd")).toBe(false);
  });
  it("is seen with the slash escaped, as HAProxy writes it", async () => {
    write(tagged("shop.7.abc").replaceAll("/", "\\/"));
    expect(await sensor().alive("shop.7.abc")).toBe(true);
  });
  it("is not a refused control, nor one without a certificate", async () => {
    write(
      tagged("t.1", { verify: "FAILED:x", status: 400 }),
      tagged("t.1", { serial: "", verify: "NONE", status: 400 }),
    );
    expect(await sensor().alive("t.1")).toBe(false);
    appendFileSync(path, tagged("t.1"));
    expect(await sensor().alive("t.1")).toBe(true);
  });
  it("is false while there is no log", async () => expect(await sensor().alive("t.1")).toBe(false));
});

describe("a server whose clock differs", () => {
  const slow = -10 * minute;
  it("is read by our clock once our own probe was seen there", async () => {
    // A use five minutes into the window by our clock; by the server's it lies before it.
    write(
      other(since - 30 * minute),
      line({ at: since + 5 * minute + slow }),
      line({ at: now + slow, agent: "gyre-probe/shop.7.t" }),
    );
    expect(await usage()).toMatchObject({ count: 0 });
    const one = sensor();
    expect(await one.alive("shop.7.t")).toBe(true);
    expect(await one.usage(old, since, "shop.7")).toMatchObject({ count: 1, last: since + 5 * minute });
  });
  it("is read alike by a look that lags more: the beginning of a log does not move", async () => {
    const probe = (tag: string, at: number) => line({ at, agent: `gyre-probe/shop.7.${tag}` });
    let clock = now;
    const one = createAccessLogSensor(
      accessLogSettings.parse({ path: "access.log", server: "nginx", member: "10.0.0.1:443" }),
      { baseDir: dir, now: () => clock },
    );
    write(probe("a", now));
    expect(await one.alive("shop.7.a")).toBe(true);
    const { gapUntil } = await one.usage(old, since, "shop.7");
    expect(gapUntil).toBe(now);
    clock = now + minute;
    appendFileSync(path, probe("b", clock - 400));
    expect(await one.alive("shop.7.b")).toBe(true);
    expect(await one.usage(old, now + 1, "shop.7")).toEqual(silent);
    // A clock that was set is followed.
    clock = now + 2 * minute;
    appendFileSync(path, probe("c", clock + slow));
    expect(await one.alive("shop.7.c")).toBe(true);
    expect(await one.usage(old, now, "shop.7")).toMatchObject({ gap: expect.stringContaining("set back") });
  });
});

describe("a big log", () => {
  it("is read from its end: a sparse gigabyte costs no more than its last lines", async () => {
    const file = openSync(path, "w");
    const tail = `\n${before}${line({ at: since + 1 })}`;
    writeSync(file, tail, 1024 ** 3);
    closeSync(file);
    const read = () => Number(/^rchar: (\d+)/m.exec(readFileSync("/proc/self/io", "utf8"))![1]);
    const already = read();
    expect(await usage()).toMatchObject({ count: 1 });
    expect(read() - already).toBeLessThan(4 * 1024 ** 2);
  });

  it("is read whole where it must be, in constant memory", async () => {
    const block = Array.from({ length: 2_000 }, () => other(since + minute)).join("");
    write(before, ...Array.from({ length: 60 }, () => block));
    const rss = process.memoryUsage().rss;
    expect(await usage()).toEqual(silent);
    expect(process.memoryUsage().rss - rss).toBeLessThan(100 * 1024 ** 2);
  });

  it("is cut at every place between chunks without losing a line", async () => {
    // Lines of uneven length over several chunks of 256 KiB.
    const lines = Array.from({ length: 6_000 }, (_, n) =>
      line({ at: since + n, agent: "x".repeat(n % 97), from: `10.0.${n >> 8}.${n & 255}` }),
    );
    write(before, ...lines);
    expect(await usage()).toMatchObject({ count: 6_000, last: since + 5_999 });
    expect(await usage()).not.toHaveProperty("gap");
  });
});
