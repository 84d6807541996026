import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type LogServer, plainSerial, readLine } from "./log-line.ts";

const nginx = {
  ...{
    time: 1732470000.123,
    ssl_client_serial: "0A1B2C",
    ssl_client_i_dn: "CN=root,O=Lab",
    ssl_client_verify: "SUCCESS",
  },
  ...{ ssl_session_reused: "r", remote_addr: "10.0.0.9", status: 200, http_user_agent: "curl/8" },
};
const haproxy = { ...nginx, ssl_client_verify: "0", ssl_session_reused: "1" };
const line = (fields: object) => JSON.stringify(fields);
const use = {
  ...{ time: 1732470000123, ended: true, serial: "a1b2c", issuer: "CN=root,O=Lab", verified: true },
  ...{ resumed: true, from: "10.0.0.9", status: 200, userAgent: "curl/8" },
};

describe("an access line", () => {
  it("of nginx and of HAProxy says the same", () => {
    expect(readLine("nginx", line(nginx))).toEqual({ is: "use", use });
    expect(readLine("haproxy", line({ ...haproxy, duration_ms: "250" }))).toEqual({
      is: "use",
      use: { ...use, time: use.time + 250 },
    });
    expect(readLine("haproxy", line(haproxy))).toEqual({ is: "use", use: { ...use, ended: false } });
  });
  it("may carry ISO time, and stand behind a syslog prefix", () => {
    expect(readLine("nginx", line({ ...nginx, time: "2024-11-24T18:40:00.123+01:00" }))).toMatchObject({
      use: { time: Date.UTC(2024, 10, 24, 17, 40, 0, 123) },
    });
    expect(readLine("haproxy", `Nov 24 18:40:00 host haproxy[71]: ${line(haproxy)}`)).toMatchObject({ is: "use" });
  });
  it("may have no status yet: nginx writes 000, HAProxy -1", () => {
    expect(readLine("nginx", line({ ...nginx, status: "000" }))).toMatchObject({ use: { status: 0 } });
    expect(readLine("haproxy", line({ ...haproxy, status: "-1", duration_ms: "-1" }))).toMatchObject({
      use: { status: -1, time: use.time, ended: false },
    });
  });
  it("is verified only by the server's own word for it", () => {
    const verified = (server: LogServer, ssl_client_verify: string) => {
      const read = readLine(server, line({ ...nginx, ssl_client_verify }));
      return read.is === "use" && read.use.verified;
    };
    expect(["SUCCESS", "NONE", "FAILED:certificate revoked", "0", ""].map((one) => verified("nginx", one))).toEqual([
      true,
      false,
      false,
      false,
      false,
    ]);
    expect(["0", "10", "23", "SUCCESS", "-", ""].map((one) => verified("haproxy", one))).toEqual([
      true,
      false,
      false,
      false,
      false,
      false,
    ]);
  });
  it("that lacks a field, is cut off or is something else is unreadable", () => {
    for (const name of Object.keys(nginx).filter((one) => one !== "ssl_session_reused" && one !== "remote_addr"))
      expect(readLine("nginx", line({ ...nginx, [name]: undefined })).is).toBe("unreadable");
    expect(readLine("nginx", line(nginx).slice(0, -9)).is).toBe("unreadable");
    expect(readLine("nginx", '10.0.0.1 - - [24/Nov/2024] "GET /"').is).toBe("unreadable");
    expect(readLine("haproxy", line(haproxy).slice(30)).is).toBe("unreadable");
    expect(readLine("nginx", line({ ...nginx, time: "yesterday" })).is).toBe("unreadable");
    expect(readLine("nginx", line({ ...nginx, http_user_agent: "x".repeat(70_000) })).is).toBe("unreadable");
  });
  it("is not what HAProxy says of itself", () => {
    expect(readLine("haproxy", "Proxy tls started.").is).toBe("other");
    expect(
      readLine("haproxy", "127.0.0.1:50812 [24/Nov/2026:19:00:00.000] tls/1: SSL client certificate not trusted").is,
    ).toBe("other");
    expect(readLine("nginx", "").is).toBe("other");
  });
  it("has serials that compare", () => {
    expect(["0A:1B", "a1b", "0x0a1b", "00A1B"].map(plainSerial)).toEqual(["a1b", "a1b", "a1b", "a1b"]);
    expect(plainSerial("00")).toBe("0");
  });
});

describe("fuzz", () => {
  const mutated = fc
    .tuple(fc.constantFrom(line(nginx), line(haproxy)), fc.nat(300), fc.nat(20), fc.string({ maxLength: 12 }))
    .map(([text, at, cut, put]) => text.slice(0, at) + put + text.slice(at + cut));
  const value = fc.oneof(
    fc.string({ maxLength: 12 }),
    fc.integer(),
    fc.double(),
    fc.constant(null),
    fc.constant([]),
    fc.constant({}),
  );
  const replaced = fc
    .dictionary(fc.constantFrom(...Object.keys(nginx)), value)
    .map((some) => line({ ...nginx, ...some }));
  const text = fc.oneof(mutated, replaced, fc.string({ maxLength: 60 }));

  it("100,000 lines: never throws, and what it takes for a use is whole", () => {
    const seen = { use: 0, other: 0, unreadable: 0 };
    fc.assert(
      fc.property(text, fc.constantFrom<LogServer>("nginx", "haproxy"), (input, server) => {
        const read = readLine(server, input);
        seen[read.is]++;
        if (read.is !== "use") return;
        expect(Number.isFinite(read.use.time) && Number.isInteger(read.use.status)).toBe(true);
        expect(read.use.serial).toBe(plainSerial(read.use.serial));
        expect([read.use.userAgent, read.use.issuer, read.use.from].every((one) => typeof one === "string")).toBe(true);
      }),
      { numRuns: 100_000 },
    );
    expect(Math.min(seen.use, seen.other, seen.unreadable)).toBeGreaterThan(50);
  });
});
