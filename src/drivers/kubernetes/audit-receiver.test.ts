import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { issue, makeAuthority, type Pair } from "../../../lab/pki.ts";
import { type AuditReceiver, type AuditReceiverOptions, startAuditReceiver } from "./audit-receiver.ts";
import { createKubernetesAuditSensor } from "./audit-sensor.ts";
import { auditLogSettings } from "./audit-settings.ts";
import { auditEvent } from "./audit-testing.ts";

const now = Date.UTC(2026, 10, 26, 18);
const fingerprint = "ab".repeat(32);
const at = (path: string) => join(dir, path);
let dir: string;
let server: Pair;
let client: Pair;
let ca: string;
let receiver: AuditReceiver | undefined;
let problems: string[];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "gyre-receive-"));
  const authority = makeAuthority(dir, { name: "ca" });
  server = issue(authority, { name: "server" });
  client = issue(authority, { name: "api-1", subject: "/CN=api-1", usages: ["client"] });
  ca = authority.certificate;
  problems = [];
});
afterEach(async () => {
  await receiver?.drain();
  receiver = undefined;
  rmSync(dir, { recursive: true, force: true });
});

async function start(more: Partial<AuditReceiverOptions> = {}): Promise<AuditReceiver> {
  receiver = await startAuditReceiver({
    ...{ host: "127.0.0.1", port: 0, certificate: server.certificate, privateKey: server.privateKey },
    ...{ directory: at("audit"), onProblem: (problem: string) => problems.push(problem), ...more },
  });
  return receiver;
}

interface Post {
  readonly path?: string;
  readonly method?: string;
  readonly as?: Pair;
  /** Called when the receiver has the head and waits for the body. */
  readonly before?: () => Promise<void>;
}
function post(
  body: string,
  { path = "/audit/10.0.0.1:6443", method = "POST", as, before }: Post = {},
): Promise<number> {
  const [host = "", port = ""] = receiver!.address.split(":");
  return new Promise((answered, failed) => {
    const keys = as === undefined ? {} : { cert: readFileSync(as.certificate), key: readFileSync(as.privateKey) };
    const headers = before === undefined ? {} : { expect: "100-continue" };
    const roots = { ca: readFileSync(ca), agent: false, headers, ...keys };
    const asking = request({ host, port, path, method, ...roots, servername: "localhost" }, (response) => {
      response.resume().once("end", () => answered(response.statusCode ?? 0));
    });
    asking.once("error", failed);
    if (before === undefined) asking.end(body);
    else {
      asking.once("continue", () => before().then(() => asking.end(body), failed));
      asking.flushHeaders();
    }
  });
}
/** As an API server posts it: the items have neither kind nor version. */
const listOf = (...events: string[]): string =>
  JSON.stringify({
    ...{ kind: "EventList", apiVersion: "audit.k8s.io/v1", metadata: {} },
    items: events.map((event) => ({ ...JSON.parse(event), kind: undefined, apiVersion: undefined })),
  });
const event = (when: number, more: { agent?: string } = {}) =>
  auditEvent({ at: when, fingerprint, user: "alice", ...more });
const file = (name: string) => readFileSync(at(`audit/${name}.jsonl`), "utf8");

describe("what API servers post", () => {
  it("is written as one event a line, which the sensor reads like an API server's own file", async () => {
    await start();
    expect(await post(listOf(event(now - 1000), event(now - 500)))).toBe(200);
    expect(await post(listOf(event(now, { agent: "gyre-probe/t.1" })))).toBe(200);
    expect(file("10.0.0.1:6443").match(/^\{"kind":"Event","apiVersion":"audit.k8s.io\/v1",.*\}$/gm)).toHaveLength(3);
    const settings = { cluster: "prod", path: "audit/10.0.0.1:6443.jsonl", member: "10.0.0.1:6443" };
    const sensor = createKubernetesAuditSensor(auditLogSettings.parse(settings), { baseDir: dir, now: () => now });
    const of = { fingerprint, serial: "1", issuer: "CN=x", notAfter: now };
    expect(await sensor.usage(of, now - 1000, "t")).toMatchObject({ count: 2, last: now - 500 });
    expect(await sensor.alive("t.1")).toBe(true);
  });

  it("goes to a file of its own for each API server: by path, by client certificate, by address", async () => {
    await start({ clientCa: ca });
    const one = listOf(event(now));
    expect(await post(one, { path: "/api-7", as: client })).toBe(200);
    expect(await post(one, { path: "/audit/[fd00::1]:6443?timeout=30s", as: client })).toBe(200);
    expect(await post(one, { path: "/audit/", as: client })).toBe(200);
    await receiver!.drain();
    await start();
    expect(await post(one, { path: "/" })).toBe(200);
    for (const name of ["api-7", "[fd00::1]:6443", "api-1", "127.0.0.1"]) expect(file(name)).toContain(fingerprint);
  });

  it("side by side is not mixed", async () => {
    await start();
    const batch = (n: number) => listOf(...Array.from({ length: 50 }, () => event(now + n)));
    const answers = await Promise.all(Array.from({ length: 12 }, (_, n) => post(batch(n))));
    expect(answers).toEqual(answers.map(() => 200));
    const lines = file("10.0.0.1:6443").trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line).kind)).toEqual(Array.from({ length: 600 }, () => "Event"));
  });

  it("follows half a line that a killed receiver left: nobody was told that it is there", async () => {
    await start();
    await post(listOf(event(now)));
    appendFileSync(at("audit/10.0.0.1:6443.jsonl"), event(now).slice(0, 70_000).trimEnd().slice(0, -5));
    expect(await post(listOf(event(now)))).toBe(200);
    const lines = file("10.0.0.1:6443").trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line).kind)).toEqual(["Event", "Event"]);
    writeFileSync(at("audit/api-7.jsonl"), "{".repeat(200_000));
    expect(await post(listOf(event(now)), { path: "/api-7" })).toBe(200);
    expect(JSON.parse(file("api-7")).kind).toBe("Event");
  });
});

describe("what is not taken", () => {
  it.each([
    ["no JSON", "{", 400],
    ["no list", JSON.stringify({ kind: "Event", apiVersion: "audit.k8s.io/v1" }), 400],
    ["another version", listOf().replace("audit.k8s.io/v1", "audit.k8s.io/v1beta1"), 400],
    ["a list with something else in it", listOf(event(now)).replace('"auditID"', '"id"'), 400],
  ])("is %s: refused, and nothing is written", async (_, body, status) => {
    await start();
    expect(await post(body)).toBe(status);
    expect(problems).toHaveLength(1);
    expect(() => file("10.0.0.1:6443")).toThrow(/ENOENT/);
    expect(await post(listOf(event(now)))).toBe(200);
  });

  it("is a name that would lead out of the directory, or another method", async () => {
    await start();
    const one = listOf(event(now));
    for (const path of ["/..%2f..%2fetc%2fpasswd", "/..", "/.hidden", "/%00", "/%ff", "/a%20b"])
      expect(await post(one, { path }), path).toBe(400);
    expect(await post("", { method: "GET" })).toBe(405);
    expect(await post(one, { path: "/fine" })).toBe(200);
  });

  it("is anybody without a client certificate, where one is demanded", async () => {
    await start({ clientCa: ca });
    await expect(post(listOf(event(now)))).rejects.toThrow();
    expect(await post(listOf(event(now)), { as: client })).toBe(200);
  });

  it("is what the disk has no room for: to be sent again, and nothing of it is left", async () => {
    await start();
    const one = listOf(event(now));
    expect(await post(one)).toBe(200);
    const { size } = statSync(at("audit/10.0.0.1:6443.jsonl"));
    symlinkSync("/dev/full", at("audit/full.jsonl"));
    expect(await post(one, { path: "/full" })).toBe(500);
    expect(problems.join()).toMatch(/ENOSPC/);
    expect(await post(one)).toBe(200);
    expect(statSync(at("audit/10.0.0.1:6443.jsonl")).size).toBe(2 * size);
  });
});

describe("the receiver", () => {
  it("when told to end finishes what was begun and takes nothing new", async () => {
    await start();
    const { address } = receiver!;
    let drained = false;
    const ending = async () => {
      void receiver!.drain().then(() => {
        drained = true;
      });
      // The connection under way is still there, and so is the answer.
      await expect(post(listOf(event(now)))).rejects.toThrow(/ECONNREFUSED/);
      expect(drained).toBe(false);
    };
    expect(await post(listOf(event(now)), { before: ending })).toBe(200);
    await expect.poll(() => drained).toBe(true);
    expect(file("10.0.0.1:6443")).toContain(fingerprint);
    expect(address).toMatch(/^127\.0\.0\.1:\d+$/);
    receiver = undefined;
  });

  it("presents its renewed certificate, and keeps the old one while the new one is half there", async () => {
    await start({ clientCa: ca });
    const other = makeAuthority(dir, { name: "other" });
    const renewed = issue(other, { name: "renewed" });
    writeFileSync(server.certificate, readFileSync(renewed.certificate));
    await receiver!.reload();
    expect(problems.join()).toMatch(/no certificate with its private key/);
    expect(await post(listOf(event(now)), { as: client })).toBe(200);
    writeFileSync(server.privateKey, readFileSync(renewed.privateKey));
    await receiver!.reload();
    await expect(post(listOf(event(now)), { as: client })).rejects.toThrow(/certificate/);
    ca = other.certificate;
    expect(await post(listOf(event(now)), { as: client })).toBe(200);
  });

  it("does not begin with files or an address that cannot be used, and says no word of a key", async () => {
    await expect(start({ privateKey: client.privateKey })).rejects.toMatchObject({
      code: "input",
      where: server.certificate,
    });
    await expect(start({ privateKey: at("nowhere") })).rejects.toMatchObject({ code: "input", where: at("nowhere") });
    writeFileSync(at("file"), "");
    await expect(start({ directory: at("file/x") })).rejects.toMatchObject({ code: "disk" });
    const { address } = await start();
    await expect(
      startAuditReceiver({
        ...{ host: "127.0.0.1", port: Number(address.split(":")[1]) },
        ...{ certificate: server.certificate, privateKey: server.privateKey, directory: at("audit") },
      }),
    ).rejects.toMatchObject({ code: "unreachable" });
  });
});
