import { describe, expect, it } from "vitest";
import { readAuditLine, wordsOfUser } from "./audit-line.ts";
import { auditEvent, type EventFields } from "./audit-testing.ts";

const at = Date.UTC(2026, 10, 26, 21, 5, 1, 123);
const fingerprint = "ab".repeat(32);
const read = (fields: Partial<EventFields>) => {
  const line = readAuditLine(auditEvent({ at, fingerprint, ...fields }));
  if (line.is !== "event") throw new Error(JSON.stringify(line));
  return line.event;
};
const withField = (name: string, value: unknown) =>
  readAuditLine(JSON.stringify({ ...JSON.parse(auditEvent({ at, fingerprint })), [name]: value }));

describe("an event", () => {
  it("says who, by which certificate, from where, when, and what came of it", () => {
    expect(read({ id: "a", received: at - 5, user: "alice", status: 403 })).toEqual({
      ...{ id: "a", stage: "ResponseComplete", verb: "get", received: at - 5, time: at, fingerprint, user: "alice" },
      ...{ impersonated: "", from: ["10.0.0.5"], userAgent: "kubectl/v1.35.4 (linux/amd64) kubernetes/abc" },
      ...{ status: 403, timeout: undefined },
    });
  });

  it("is the real user's where somebody else is impersonated, whatever that one's extra says", () => {
    expect(read({ user: "alice", fingerprint: "", impersonated: "mallory" })).toMatchObject({
      ...{ user: "alice", impersonated: "mallory", fingerprint: "" },
    });
  });

  it("has no fingerprint when something else than a certificate was shown", () => {
    for (const id of ["JTI=4711", "X509SHA256=", "X509SHA256=abc", `x509sha256=${fingerprint}`, 7])
      expect(
        withField("user", { username: "x", extra: { "authentication.kubernetes.io/credential-id": [id] } }),
      ).toMatchObject({ is: "event", event: { fingerprint: "" } });
    // The control: among others, and in capitals.
    const ids = ["JTI=4711", `X509SHA256=${fingerprint.toUpperCase()}`];
    expect(
      withField("user", { username: "x", extra: { "authentication.kubernetes.io/credential-id": ids } }),
    ).toMatchObject({ event: { fingerprint } });
  });

  it("of a watch says how long the client wants it", () => {
    const uri = "/api/v1/pods?watch=true&timeoutSeconds=431&resourceVersion=7";
    expect(read({ verb: "watch", uri }).timeout).toBe(431_000);
    expect(read({ verb: "get", uri }).timeout).toBeUndefined();
    expect(read({ verb: "watch", uri: "/api/v1/pods?watch=true&timeoutSeconds=0" }).timeout).toBeUndefined();
  });

  it("in a person's words is short and without control characters", () => {
    const one = { user: "alice", from: ["10.0.0.5", "10.0.0.9"] };
    expect(wordsOfUser(read(one))).toBe("10.0.0.5 via 10.0.0.9 kubectl/v1.35.4 as alice");
    expect(wordsOfUser(read({ ...one, impersonated: "root" }))).toMatch(/ as alice \(impersonating root\)$/);
    expect(wordsOfUser(read({ user: "a\u001b[2J\u202eb", agent: "", from: [] }))).toBe("somebody as a?[2J?b");
    expect(wordsOfUser(read({ agent: "x".repeat(5_000) })).length).toBe(200);
  });
});

describe("no event", () => {
  it.each([
    ["cut off", auditEvent({ at }).slice(0, 100)],
    ["of the legacy format", '2026-11-26T21:05:01Z AUDIT: id="x" stage="ResponseComplete" ip="::1"'],
    ["of an old version", auditEvent({ at }).replace("audit.k8s.io/v1", "audit.k8s.io/v1beta1")],
    ["a list", auditEvent({ at }).replace('"Event"', '"EventList"')],
    ["without a stage", auditEvent({ at, stage: "Done" })],
    ["without an id", auditEvent({ at, id: "" })],
    ["without a time", auditEvent({ at }).replace(/"stageTimestamp":"[^"]*"/, '"stageTimestamp":null')],
    ["with a time of nowhere", auditEvent({ at }).replace(/(\d)Z","stage/, '$1","stage')],
    ["an array", "[]"],
    ["null", "null"],
  ])("is a line %s: unreadable", (_, line) => expect(readAuditLine(line)).toMatchObject({ is: "unreadable" }));
  it("is an empty line", () => expect(readAuditLine(" \n")).toEqual({ is: "blank" }));
});
