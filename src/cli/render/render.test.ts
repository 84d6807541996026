import { expect, test } from "vitest";
import type { Plan } from "../../engine/model.ts";
import { stagesOf } from "../../engine/plan.ts";
import { sampleReceipt } from "../../receipt/fixtures/sample-receipt.ts";
import { type Receipt, statementOf } from "../../receipt/statement.ts";
import type { Outcome, Progress } from "../../runtime/api.ts";
import type { Found } from "../../scan/found.ts";
import {
  approvalWanted,
  day,
  generation,
  hour,
  minute,
  newsUntilHeld,
  noon,
  reloadFailed,
  sampleLineage,
  samplePlan,
  sampleStatuses,
  stillPresents,
} from "../fixtures/sample.ts";
import { plainText, widthOf } from "../paint.ts";
import { doctorLines } from "./doctor.ts";
import { planLines } from "./plan.ts";
import { receiptLines } from "./receipt.ts";
import { RotationText, runLine } from "./rotation.ts";
import { foundLines, scanHead, sumLines } from "./scan.ts";
import { showLines } from "./show.ts";
import { statusLines } from "./status.ts";
import { whoLines } from "./who.ts";

/** Every rendering at 80 columns, at 60, and in a pipe; one golden file each. */
const widths = [80, 60, Number.POSITIVE_INFINITY];

const golden = (name: string, render: (width: number) => readonly string[]): void => {
  for (const width of widths) {
    const where = width === Number.POSITIVE_INFINITY ? "pipe" : String(width);
    test(`${name}, ${where}`, async () => {
      const lines = render(width);
      // A word longer than the room (a path, a digest) runs over rather than being broken; nothing else may.
      for (const line of lines) expect(widthOf(line) <= width || longestWord(line) + 20 > width, line).toBe(true);
      await expect(`${plainText(lines)}\n`).toMatchFileSnapshot(`golden/${name.replaceAll(" ", "-")}.${where}.txt`);
    });
  }
};

const longestWord = (line: string): number => Math.max(...line.split(/ +/).map((word) => widthOf(word)));

function told(news: readonly Progress[], outcome: Outcome, width: number, quiet = false): string[] {
  const text = new RotationText({ name: "shop-tls", width, quiet, pin });
  return [...news.flatMap((progress) => text.told(progress, noon)), ...text.ended(outcome, noon)];
}

const rotation = "shop-tls/3";
const receipt = "/var/lib/gyre/receipts/17.json";
const pin = "/var/lib/gyre/signing.pub";

golden("rotate held", (width) => {
  const reasons = [stillPresents("10.0.0.3:443")];
  return told(newsUntilHeld(samplePlan(), reasons), { result: "held", rotation, stage: "adopted", reasons }, width);
});

golden("rotate held by many", (width) => {
  const reasons = Array.from({ length: 12 }, (_, index) => stillPresents(`10.0.0.${index + 1}:443`, index * 1000));
  return told(newsUntilHeld(samplePlan(), reasons), { result: "held", rotation, stage: "adopted", reasons }, width);
});

golden("rotate held for approval and by failure", (width) =>
  told([], { result: "held", rotation, stage: "revoked", reasons: [approvalWanted, reloadFailed] }, width),
);

golden("rotate closed", (width) =>
  told(
    [
      { type: "started", rotation, plan: samplePlan({ mutual: true }), resumed: true },
      { type: "passed", stage: "adopted", words: "3/3 replicas present g4, 3/3 verifiers accept g4" },
      {
        type: "waiting",
        stage: "quiet",
        until: noon + 5 * minute,
        why: "quiet window: 1.25 x connectionAge, watched by its sensors",
      },
      { type: "passed", stage: "quiet", words: "the old one was left alone for 300 s" },
      { type: "passed", stage: "refused", words: "3/3 verifiers refuse g3" },
      { type: "passed", stage: "closed", words: "" },
      { type: "closed", grade: "REFUSED", receipt },
    ],
    { result: "closed", rotation, grade: "REFUSED", receipt },
    width,
  ),
);

golden("rotate first issue", (width) =>
  told(
    [
      { type: "started", rotation: "shop-tls/1", plan: samplePlan({ first: true }), resumed: false },
      { type: "passed", stage: "delivered", words: "2/2 targets hold g1" },
      { type: "closed", grade: "FIRST", receipt },
    ],
    { result: "closed", rotation: "shop-tls/1", grade: "FIRST", receipt },
    width,
  ),
);

golden("rotate put back", (width) =>
  told(
    [
      { type: "started", rotation, plan: samplePlan(), resumed: false },
      {
        type: "step",
        stage: "delivered",
        step: { kind: "deliver", on: "/etc/nginx/tls/shop.pem", generation: 4 },
        state: "failed",
        words: "nginx -t ended with 1: no such file; nothing was changed",
      },
      { type: "putting back", why: "nginx -t ended with 1: no such file; nothing was changed" },
      { type: "reverted", why: "nginx -t ended with 1" },
    ],
    { result: "put back", rotation, why: "nginx -t ended with 1", failed: true },
    width,
  ),
);

golden("rotate stuck", (width) =>
  told([], { result: "stuck", rotation, stage: "delivered", reasons: [reloadFailed] }, width),
);

golden("rotate waiting", (width) =>
  told(
    [{ type: "started", rotation, plan: samplePlan({ mutual: true }), resumed: false }],
    {
      result: "waiting",
      rotation,
      stage: "quiet",
      until: noon + 14 * minute,
      why: "quiet window: 1.25 x connectionAge, watched by its sensors",
    },
    width,
  ),
);

golden("rotate nothing due", (width) =>
  told(
    [],
    {
      result: "nothing due",
      due: {
        action: "wait",
        until: noon + 5 * hour,
        dueAt: noon,
        urgent: false,
        because: "due 2026-11-24T17:00Z, 66 % of the life of 1 d",
      },
    },
    width,
  ),
);

test("quiet says what needs somebody, and only that", () => {
  const reasons = [stillPresents("10.0.0.3:443")];
  const held = told(
    newsUntilHeld(samplePlan(), reasons),
    { result: "held", rotation, stage: "adopted", reasons },
    80,
    true,
  );
  expect(plainText(held)).toMatch(/^ {2}HELD {2}adopted/);
  const closed: Progress[] = [
    { type: "started", rotation, plan: samplePlan(), resumed: false },
    { type: "closed", grade: "REFUSED", receipt },
  ];
  expect(told(closed, { result: "closed", rotation, grade: "REFUSED", receipt }, 80, true)).toEqual([]);
});

test("between two looks the line goes on telling what the last one showed", () => {
  const text = new RotationText({ name: "shop-tls", width: 80, quiet: false, pin });
  for (const progress of newsUntilHeld(samplePlan(), []).slice(0, 9)) text.told(progress, noon);
  expect(text.current(noon, "|")).toBe("  |     adopted     2/3 replicas present g4");
});

test("the line that is drawn over tells the stage, the count and the time left", () => {
  const text = new RotationText({ name: "shop-tls", width: 80, quiet: false, pin });
  expect(text.current(noon, "|")).toBeUndefined();
  for (const progress of newsUntilHeld(samplePlan(), []).slice(0, 7)) text.told(progress, noon);
  expect(text.current(noon, "|")).toBe("  |     adopted     2/3 replicas present g4");
  text.told({ type: "waiting", stage: "quiet", until: noon + 5 * minute, why: "quiet window: short" }, noon);
  expect(text.current(noon, "/")?.replaceAll("\u00a0", " ")).toBe(
    "  /     quiet       quiet window: short; 5 min left",
  );
  text.told({ type: "closed", grade: "REFUSED", receipt }, noon);
  expect(text.current(noon, "-")).toBeUndefined();
});

golden("run lines", (width) => {
  const options = { width, pad: 11 };
  const due = { dueAt: noon, urgent: false } as const;
  const outcomes: readonly (readonly [string, Outcome])[] = [
    ["shop-tls", { result: "closed", rotation, grade: "REFUSED", receipt }],
    [
      "shop-client",
      {
        result: "nothing due",
        due: { ...due, action: "wait", until: noon + 5 * hour, because: "due 2026-11-24T17:00Z" },
      },
    ],
    [
      "old-api",
      {
        result: "nothing due",
        due: { ...due, action: "impossible", because: "no window opens before the end", next: "widen renew.window" },
      },
    ],
    ["lab.crl", { result: "waiting", rotation, stage: "quiet", until: noon + 14 * minute, why: "quiet window" }],
    [
      "mtls",
      {
        result: "held",
        rotation,
        stage: "adopted",
        reasons: [stillPresents("10.0.0.3:443"), stillPresents("10.0.0.4:443")],
      },
    ],
    ["a", { result: "put back", rotation, why: "nginx -t ended with 1", failed: true }],
    ["b", { result: "stuck", rotation, stage: "delivered", reasons: [reloadFailed] }],
  ];
  return outcomes.flatMap(([name, outcome]) => runLine(name, outcome, noon, options));
});

golden("plan mutual", (width) => {
  const plan = samplePlan({ mutual: true, approval: "required" });
  const due = {
    action: "rotate",
    override: false,
    dueAt: noon - hour,
    urgent: false,
    because: "due 2026-11-24T11:00Z, 66 % of the life of 1 d",
  } as const;
  return planLines(
    "shop-tls",
    { due, plan, digest: `sha256:${"d1".padEnd(64, "0")}`, stages: stagesOf(plan, noon) },
    noon,
    width,
  );
});

golden("plan server", (width) => {
  const plan = samplePlan();
  const due = {
    action: "wait",
    until: noon + 5 * hour,
    dueAt: noon,
    urgent: false,
    because: "due 2026-11-24T17:00Z",
  } as const;
  return planLines(
    "shop-tls",
    { due, plan, digest: `sha256:${"d1".padEnd(64, "0")}`, underWay: rotation, stages: stagesOf(plan, noon) },
    noon,
    width,
  );
});

golden("plan nothing due", (width) => {
  const due = {
    action: "impossible",
    dueAt: noon,
    urgent: true,
    because: "no window opens before 2026-11-25T08:00Z",
    next: "widen renew.window",
  } as const;
  return planLines("shop-tls", { due, stages: [] }, noon, width);
});

golden("status", (width) => statusLines(sampleStatuses(), noon, width));

golden("show", (width) => {
  const { lineage, entries } = sampleLineage();
  return showLines("shop-tls", { lineage, entries }, noon, width);
});

test("the same look again and again is told once, with the last of them", () => {
  const { lineage, entries } = sampleLineage();
  const again = Array.from({ length: 5 }, (_, index) => ({
    ...entries[1]!,
    at: noon + index * 1000,
    words: "2/3 replicas present g4",
  }));
  const text = plainText(showLines("shop-tls", { lineage, entries: [entries[1]!, ...again, entries[2]!] }, noon, 80));
  expect(text.match(/2\/3 replicas present g4/g)).toHaveLength(1);
  expect(text).toContain("12:00:04  the same 4 times more, last then");
});

golden("who", (width) =>
  whoLines(
    "7f3a91c0",
    [
      {
        fingerprint: generation(4).fingerprint,
        where: "journal shop-tls g4 (current)",
        how: "issued",
        credential: "shop-tls",
        generation: 4,
        at: noon - hour,
        detail: "by lab-root, until 2026-11-25",
      },
      {
        fingerprint: generation(4).fingerprint,
        where: "presenter 10.0.0.1:443",
        how: "presented",
        detail: "fresh full handshake",
      },
      {
        fingerprint: generation(4).fingerprint,
        where: "log /var/log/nginx/access.log",
        how: "used",
        at: noon - 2 * minute,
        detail: "17 times, from 10.1.0.9",
      },
    ],
    noon,
    width,
  ),
);

/** A CRL has no key, and nobody presents it: its rotation is told in words of its own. */
const crlPlan = (): Plan => {
  const plan = samplePlan();
  const from = generation(3, { kind: "crl", subject: "CN=lab-root", algorithm: "ecdsa-with-SHA256", names: [] });
  const why = "a CRL is replaced, never refused; copies of g3 kept elsewhere count until 2026-11-24T20:00:00.000Z";
  const grade = { reachable: "SUPERSEDED" as const, why };
  const request = { ...plan.request, kind: "crl" as const, names: [], subject: "" };
  return { ...plan, credential: "lab-root.crl", kind: "crl", presenters: [], from, request, grade };
};
golden("plan crl", (width) =>
  planLines(
    "lab-root.crl",
    {
      due: {
        action: "rotate",
        override: false,
        dueAt: noon - hour,
        urgent: false,
        because: "due 2026-11-24T11:00Z, 50 % of 24 h",
      },
      plan: crlPlan(),
      digest: `sha256:${"d1".padEnd(64, "0")}`,
      stages: stagesOf(crlPlan(), noon),
      notes: ['the CA "CN=lab-root" will be created in /var/lib/gyre/ca by the first issue'],
    },
    noon,
    width,
  ),
);
golden("rotate closed crl", (width) =>
  told(
    [
      { type: "started", rotation, plan: crlPlan(), resumed: false },
      { type: "closed", grade: "SUPERSEDED", receipt },
    ],
    { result: "closed", rotation, grade: "SUPERSEDED", receipt },
    width,
  ),
);

golden("doctor", (width) =>
  doctorLines(
    "shop-tls",
    [
      { level: "ok", about: "issuer lab-root", what: "answers; its certificate is valid for 3649 d" },
      { level: "note", about: "grade", what: "SUPERSEDED is the best that can be reached" },
      {
        level: "warning",
        about: "target /etc/haproxy/shop.pem",
        what: "nothing tells its process to load new material",
        next: "add reload",
      },
      {
        level: "problem",
        about: "verifier 10.0.0.1:443",
        what: "connection refused",
        next: "start it, then gyre doctor shop-tls",
      },
    ],
    width,
  ),
);

golden("receipt unpinned", (width) => {
  const statement = statementOf(
    sampleReceipt([], { signers: [{ keyId: `sha256:${"9b".padEnd(64, "1")}`, publicKey: "" }] }),
  );
  return receiptLines(
    "17.json",
    {
      ok: false,
      verdict: "UNPINNED",
      problems: [],
      notes: ["no key pinned: anybody could have signed this"],
      statement,
    },
    width,
  );
});

test("a quiet window is told where one was waited for, and only there", () => {
  const quietOf = (timeline: Receipt["timeline"]) => {
    const statement = statementOf(sampleReceipt([], { timeline }));
    const judgement = { ok: true, verdict: "VERIFIED", problems: [], notes: [], statement } as const;
    return plainText(receiptLines("17.json", judgement, 80)).match(/^ {2}quiet .*/m)?.[0];
  };
  const { timeline } = sampleReceipt([]);
  expect(quietOf(timeline)).toMatch(/75 s/);
  expect(quietOf(timeline.filter(({ stage }) => stage !== "quiet"))).toBeUndefined();
});

golden("receipt broken", (width) => {
  const problems = [
    "the signature by sha256:9b11 does not fit the payload",
    "grade REFUSED, but the verdict on 10.0.0.1:443 is unknown",
  ];
  return receiptLines(
    "17.json",
    { ok: false, verdict: "BROKEN", problems, notes: [], statement: statementOf(sampleReceipt([])) },
    width,
  );
});

golden("scan", (width) => {
  const certificate = {
    what: "certificate",
    where: "/etc/nginx/tls/shop.pem:1",
    subject: "CN=shop.example",
    names: ["DNS:shop.example", "IP:10.0.0.1"],
    issuer: "CN=lab-root",
    serial: "7f3a91",
    fingerprint: "7f".repeat(32),
    algorithm: "P-256",
    usages: [],
    notBefore: noon,
    notAfter: noon + 22 * day,
    daysLeft: 22,
    findings: [],
  } as const;
  const finds: readonly Found[] = [
    { ...certificate, key: { where: "/etc/nginx/tls/shop.key", matches: true }, chain: { position: 1, of: 2 } },
    {
      ...certificate,
      where: "10.0.0.3:443#1",
      daysLeft: -3,
      subject: "",
      findings: [
        { severity: "error", code: "expired", message: "expired since 2026-11-21T12:00:00Z" },
        { severity: "note", code: "n", message: "of no consequence" },
      ],
    },
    {
      ...certificate,
      what: "CA",
      where: "ca.pem:1",
      subject: "CN=lab-root",
      names: [],
      key: { where: "ca.key", matches: false },
      findings: [{ severity: "warning", code: "weak-hash", message: "signed with sha1" }],
    },
    {
      what: "CRL",
      where: "ca.crl",
      issuer: "CN=lab-root",
      serial: "0c",
      fingerprint: "00",
      revoked: 1,
      notBefore: noon,
      notAfter: noon + 6 * day,
      daysLeft: 6,
      findings: [],
    },
    {
      what: "private key",
      where: "shop.key:1",
      algorithm: "P-256",
      encrypted: false,
      matches: ["/etc/nginx/tls/shop.pem:1"],
      findings: [],
    },
    { ...certificate, where: "today.pem:1", notAfter: noon + day / 2, daysLeft: 0 },
    { what: "private key", where: "lost.key:1", encrypted: true, matches: [], findings: [] },
    { what: "problem", where: "/root/x", message: "permission denied", findings: [] },
  ];
  const sum = { certificates: 3, others: 3, errors: 1, warnings: 1, problems: 1, expired: 1, within: 2 };
  return [scanHead(), ...finds.flatMap((found) => foundLines(found, width, false)), ...sumLines(sum, 30, width)];
});

test("what a peer said cannot move the cursor", () => {
  const evil = stillPresents("10.0.0.3:443\u001b[2J\u202e");
  const lines = told([], { result: "held", rotation, stage: "adopted", reasons: [evil] }, 80);
  expect(plainText(lines)).toContain("10.0.0.3:443\\u001b[2J\\u202e still presents g3");
  expect(plainText(lines)).not.toContain("\u001b");
});

test("a day is not said where 23 hours are left", () => {
  const [status] = sampleStatuses().filter(({ name }) => name === "shop-client");
  const text = plainText(statusLines([{ ...status!, current: generation(4, { notAfter: noon + day - 1 }) }], noon, 80));
  expect(text).toContain("23 h");
});

test("two claims that are asked in turn are told once each, until something changes", () => {
  const text = new RotationText({ name: "shop-tls", width: 80, quiet: false, pin: "k" });
  const look = (claim: "presented" | "accepted", yes: number) =>
    text.told({ type: "looked", stage: "adopted", claim, yes, total: 3, exceptions: [] }, noon).length;
  expect([look("presented", 1), look("accepted", 1), look("presented", 1), look("accepted", 1)]).toEqual([1, 1, 0, 0]);
  expect([look("accepted", 2), look("presented", 1)]).toEqual([1, 0]);
});

test("what was seen of a member for two claims alike is told once, with both", () => {
  const refused = { ...stillPresents("10.0.0.3:443"), what: "connection refused" };
  const lines = told(
    [],
    { result: "held", rotation, stage: "adopted", reasons: [refused, { ...refused, claim: "accepted" }] },
    80,
  );
  expect(plainText(lines).match(/connection refused/g)).toHaveLength(1);
  expect(plainText(lines)).toContain("10.0.0.3:443 (presented, accepted) connection refused");
  expect(plainText(lines)).toContain("gyre waive shop-tls 10.0.0.3:443 --claim CLAIM --reason ...");
});
