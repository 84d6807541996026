import { describe, expect, it, test } from "vitest";
import { type Change, changed, day, generation, minute, party, second, zero } from "./fixtures/given.ts";
import type { Grade, Plan } from "./model.ts";
import { makePlan, stagesOf } from "./plan.ts";

const plan = (change: Change = {}): Plan => makePlan(changed(change), zero);
const door = party("doors", { canRefuse: true });
const gate = party("gate");
const clerk = party("clerk", { canRefuse: true, denies: true });

describe("the grade that can be reached, and why not better", () => {
  const grades: readonly [string, Change, Grade, RegExp][] = [
    ["every verifier refuses by CRL", {}, "REFUSED", /every verifier can refuse g1 by CRL/],
    ["every verifier refuses by pins", { pinned: true }, "REFUSED", /by pins/],
    [
      "one of two cannot refuse",
      { verifiers: [door, gate] },
      "SUPERSEDED",
      /1 of 2 verifiers cannot refuse it.*2026-01-15/,
    ],
    [
      "one can only deny",
      { pinned: true, verifiers: [door, clerk] },
      "DENIED",
      /g1 loses its group's binding.*2026-01-15/,
    ],
    [
      "the old one is from before there were groups",
      { pinned: true, verifiers: [clerk], unlistable: "g1 has no group of its own" },
      "SUPERSEDED",
      /g1 has no group of its own; g1 stays valid/,
    ],
    ["none can refuse", { verifiers: [gate] }, "SUPERSEDED", /no verifier can refuse it.*Reach REFUSED with/],
    ["no verifier declared", { verifiers: [] }, "SUPERSEDED", /no declared verifier.*shorter lifetime/],
    [
      "nothing can refuse, whatever the manifest's default is called",
      { verifiers: [], revoke: false },
      "SUPERSEDED",
      /no declared verifier.*shorter lifetime/,
    ],
    ["the manifest declines", { revoke: false }, "SUPERSEDED", /revoke: false/],
    ["nothing carries a CRL", { trustStores: [] }, "SUPERSEDED", /Reach REFUSED with a CRL/],
    ["expired already, beyond all clocks", { from: generation(1, -minute * 5) }, "EXPIRED", /expired already/],
    ["expired by our clock only", { from: generation(1, -minute) }, "REFUSED", /by CRL/],
    ["a first issue", { from: undefined }, "FIRST", /no old generation/],
  ];
  it.each(grades)("%s", (_, change, reachable, why) => {
    const { grade } = plan(change);
    expect(grade.reachable).toBe(reachable);
    expect(grade.why).toMatch(why);
  });
});

describe("what is frozen", () => {
  test("pins make it an overlap, anything else a replacement", () => {
    expect(plan().strategy).toBe("replace");
    expect(plan({ pinned: true }).strategy).toBe("overlap");
  });

  test("revoked only where a verifier can refuse, a store can tell it, and there is an old one", () => {
    expect(plan().revoke).toBe(true);
    for (const change of [{ verifiers: [gate] }, { trustStores: [] }, { from: undefined }, { revoke: false }] as const)
      expect(plan(change).revoke, JSON.stringify(change)).toBe(false);
  });

  test("stores that would carry nothing are not touched; pins are, also for a first issue", () => {
    expect(plan({ revoke: false }).trustStores).toEqual([]);
    expect(plan({ revoke: false, pinned: true }).trustStores).toHaveLength(1);
    expect(plan({ from: undefined, pinned: true }).trustStores).toHaveLength(1);
  });

  test("what cannot be taken out of a store is not tried", () => {
    const change = { pinned: true, verifiers: [clerk] };
    expect(plan(change).revoke).toBe(true);
    expect(plan({ ...change, unlistable: "g1 has no group of its own" }).revoke).toBe(false);
  });

  test("a subject that names its generation names the new one", () => {
    const { request } = changed({});
    const subject = "CN=admin,O=gyre:{generation}";
    expect(plan({ request: { ...request, subject } }).request.subject).toBe("CN=admin,O=gyre:g2");
    expect(plan().request.subject).toBe(request.subject);
  });

  test("its stages", () => {
    expect(stagesOf(plan(), zero)).toEqual([
      "planned",
      "issued",
      "delivered",
      "adopted",
      "quiet",
      "revoked",
      "refused",
      "closed",
    ]);
    expect(stagesOf(plan({ pinned: true }), zero)).toEqual([
      "planned",
      "created",
      "verified",
      "delivered",
      "adopted",
      "quiet",
      "deleted",
      "refused",
      "closed",
    ]);
    expect(stagesOf(plan({ revoke: false }), zero)).toEqual([
      "planned",
      "issued",
      "delivered",
      "adopted",
      "superseded",
      "closed",
    ]);
    expect(stagesOf(plan({ from: undefined }), zero)).toEqual(["planned", "issued", "delivered", "adopted", "closed"]);
    const expired = plan({ from: generation(1, -day) });
    expect(stagesOf(expired, zero)).toEqual(["planned", "issued", "delivered", "adopted", "expired", "closed"]);
  });

  test("the same input gives the same plan, and nothing of the input is changed", () => {
    const input = Object.freeze(changed({}));
    expect(makePlan(input, zero)).toEqual(makePlan(input, zero));
  });
});

describe("the quiet window", () => {
  const windows: readonly [string, Plan["quiet"] | object, number, RegExp][] = [
    ["as the manifest says", { window: 7 * second }, 7 * second, /as the manifest says, watched/],
    ["nothing declared", {}, 15 * minute, /the default/],
    [
      "1.25 times the longest period",
      { consumerPeriod: 4 * minute, ticketLifetime: 8 * minute },
      10 * minute,
      /1.25 x ticketLifetime/,
    ],
    ["rounded up to whole milliseconds", { cacheTtl: 1 }, 2, /cacheTtl/],
  ];
  it.each(windows)("%s", (_, quiet, window, why) => {
    expect(plan({ quiet }).quiet.window).toBe(window);
    expect(plan({ quiet }).quiet.why).toMatch(why);
  });

  test("says when it is a time bound only", () => {
    expect(plan({ sensors: [] }).quiet.why).toMatch(/a time bound only/);
  });
});

describe("notices", () => {
  const notices: readonly [string, Change, RegExp][] = [
    [
      "nobody tells the process",
      { targets: [party("file", { reload: "restart" })] },
      /file: nothing tells its process/,
    ],
    [
      "files in pods change, and nothing else in them",
      { targets: [party("secret", { reload: "kubelet" })], presenters: [party("web")] },
      /secret: kubelet changes the files of pods.*subPath.*hold until it is restarted/,
    ],
    ["unknown how it is told", { targets: [party("file")] }, /file: nothing tells its process/],
    [
      "nobody tells it, and a presenter shows it",
      { targets: [party("file")], presenters: [party("web")] },
      /rotation will hold until it is restarted/,
    ],
    [
      "nobody tells it, and only its use would show it",
      { targets: [party("file")], presenters: [] },
      /restart it, or it is shut out when g1 is revoked/,
    ],
    [
      "nobody tells it, and nothing would show it",
      { targets: [party("file")], presenters: [], sensors: [] },
      /not seen: restart it, or it is shut out when g1 is revoked/,
    ],
    [
      "a live credential left over",
      { revoke: false, from: generation(1, 365 * day) },
      /g1 outlives the next generation: 365 days/,
    ],
    ["an issuer that cannot be asked", { issuer: party("acme") }, /acme cannot be asked after a crash.*orphan/],
  ];
  it.each(notices)("%s", (_, change, words) => expect(plan(change).notices.join("\n")).toMatch(words));

  test("nothing to say of an ordinary plan", () => {
    expect(plan().notices).toEqual([]);
    expect(plan({ revoke: false }).notices, "ten days are no surplus").toEqual([]);
    expect(plan({ from: generation(1, 365 * day) }).notices, "it will be revoked").toEqual([]);
  });
});
