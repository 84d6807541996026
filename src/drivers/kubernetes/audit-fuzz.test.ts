import { expect, it } from "vitest";
import { buffers, fuzz, TEXT } from "../../../test/fuzz/fuzz.ts";
import { readAuditLine, wordsOfUser } from "./audit-line.ts";
import { auditEvent } from "./audit-testing.ts";

const at = Date.UTC(2026, 10, 26, 21, 5, 1, 123);
const fingerprint = "ab".repeat(32);
const lines = [
  auditEvent({ at, fingerprint }),
  auditEvent({ at, fingerprint, impersonated: "root", status: 403 }),
  auditEvent({ at, fingerprint: "", user: "", status: 401, stage: "ResponseStarted" }),
  auditEvent({
    at,
    fingerprint,
    verb: "watch",
    stage: "ResponseStarted",
    uri: "/api/v1/pods?watch=1&timeoutSeconds=9",
  }),
];

it("a damaged line is an event, blank or unreadable, and no certificate comes from nowhere (seed 31)", () => {
  fuzz({
    seed: 31,
    inputs: buffers(lines),
    pieces: TEXT,
    ends: ["event", "unreadable"],
    rare: ["blank"],
    read(input) {
      const text = input.toString("utf8");
      const line = readAuditLine(text);
      if (line.is !== "event") return line.is;
      const { event } = line;
      const { time, received, status, fingerprint: read } = event;
      const wrong = [
        ...(Number.isSafeInteger(time) && Number.isSafeInteger(received) ? [] : ["a time"]),
        ...(status === undefined || Number.isInteger(status) ? [] : ["the status"]),
        ...(/^([0-9a-f]{64})?$/.test(read) ? [] : ["the fingerprint"]),
        ...(text.includes("\\u") || text.toLowerCase().includes(read) ? [] : ["a fingerprint from nowhere"]),
        ...(/[\p{Cc}\p{Cf}]/u.test(wordsOfUser(event)) ? ["the words"] : []),
      ];
      // One comparison: a hundred thousand of five would be most of the time.
      if (wrong.length > 0) expect(wrong).toEqual([]);
      return line.is;
    },
  });
});
