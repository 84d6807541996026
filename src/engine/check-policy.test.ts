import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkPolicy } from "./check-policy.ts";
import { due } from "./due.ts";
import { DAY, HOUR, type MaintenanceWindow, MINUTE, type RenewPolicy } from "./renew-policy.ts";

const sunday: MaintenanceWindow = { days: ["sun"], from: "02:00", to: "04:00", zone: "UTC" };
const nightly: MaintenanceWindow = { from: "02:00", to: "04:00", zone: "UTC" };
const found = (policy: RenewPolicy, life: number | undefined, quiet = HOUR) =>
  checkPolicy(policy, life, quiet).map((problem) => `${problem.level} ${problem.field}`);

describe("policies with nothing wrong", () => {
  const rows: [string, RenewPolicy, number | undefined][] = [
    ["nothing said, 90 d", {}, 90 * DAY],
    ["66 % of 6 h", { after: 0.66 }, 6 * HOUR],
    ["66 % of 90 d on Sundays", { after: 0.66, windows: [sunday], jitter: 0.05 }, 90 * DAY],
    ["ten years on Sundays", { after: 0.66, windows: [sunday] }, 3650 * DAY],
    ["a token every 30 d", { every: 30 * DAY, maxAge: 90 * DAY, windows: [sunday] }, undefined],
    ["27 h in nightly windows", { windows: [nightly] }, 27 * HOUR],
    ["a freeze over Christmas", { freezes: [{ from: "2026-12-20", to: "2027-01-02", zone: "UTC" }] }, 90 * DAY],
  ];
  test.each(rows)("%s", (_, policy, life) => expect(checkPolicy(policy, life, HOUR)).toEqual([]));
});

describe("what is wrong", () => {
  const rows: [string, RenewPolicy, number | undefined, string[]][] = [
    ["two dates", { after: 0.66, before: 20 * DAY }, 90 * DAY, ["error before"]],
    ["a lead as long as the life", { before: 90 * DAY }, 90 * DAY, ["error before"]],
    ["a cadence longer than the life", { every: 100 * DAY }, 90 * DAY, ["error every"]],
    ["a share of one", { after: 1 }, 90 * DAY, ["error after"]],
    ["a share of nothing", { after: 0 }, 90 * DAY, ["error after"]],
    ["a share that is no number", { after: Number.NaN }, 90 * DAY, ["error after"]],
    ["a cadence longer than maxAge", { every: 90 * DAY, maxAge: 30 * DAY }, undefined, ["error every"]],
    ["no cadence for what never expires", {}, undefined, ["error every"]],
    ["maxAge that is never reached", { maxAge: 400 * DAY }, 90 * DAY, ["warning maxAge"]],
    ["jitter past the issue", { after: 0.5, jitter: 0.5 }, 90 * DAY, ["error jitter"]],
    ["negative jitter", { jitter: -0.1 }, 90 * DAY, ["error jitter"]],
    ["jitter of most of the time to due", { after: 0.6, jitter: 0.4 }, 90 * DAY, ["warning jitter"]],
    ["a freeze without end", { freezes: [{ from: "2026-12-20", zone: "UTC" }] }, 90 * DAY, ["error freezes[0].to"]],
    [
      "a freeze longer than the life",
      { freezes: [{ from: "2026-01-01", to: "2026-04-30", zone: "UTC" }] },
      90 * DAY,
      ["error freezes"],
    ],
    [
      "a freeze longer than what is left at half-way",
      { freezes: [{ from: "2026-01-01", to: "2026-03-10", zone: "UTC" }] },
      90 * DAY,
      ["warning freezes"],
    ],
    ["a weekly window for 6 h", { after: 0.66, windows: [sunday] }, 6 * HOUR, ["error windows"]],
    ["a nightly window for 24 h", { windows: [nightly] }, DAY, ["error windows"]],
    [
      "a window shorter than the scheduler's period",
      { windows: [{ ...nightly, to: "02:20" }] },
      90 * DAY,
      ["warning windows[0]"],
    ],
    ["a window that cannot be read", { windows: [{ ...nightly, from: "2" }] }, 90 * DAY, ["error windows[0].from"]],
    [
      "one of two windows that cannot be read: the other is not judged alone",
      { windows: [nightly, { ...nightly, from: "2" }] },
      DAY,
      ["error windows[1].from"],
    ],
    ["20 minutes between due and the end", { before: 20 * MINUTE }, DAY, ["error after"]],
    ["45 minutes between due and the end", { before: 45 * MINUTE }, DAY, ["warning after"]],
  ];
  test.each(rows)("%s", (_, policy, life, expected) => {
    expect(found(policy, life)).toEqual(expected);
    for (const problem of checkPolicy(policy, life, HOUR)) {
      expect(problem.next).not.toBe("");
      expect(problem.message + problem.next).not.toMatch(/NaN|undefined|Infinity/);
    }
  });

  test("a quiet window as long as the time between two rotations", () => {
    expect(found({ every: 30 * DAY }, undefined, 30 * DAY)).toEqual(["error every"]);
    expect(found({ every: 30 * DAY }, undefined, 30 * DAY - 1)).toEqual([]);
    // Jitter can bring the next one nearer.
    expect(found({ every: 30 * DAY, jitter: 0.1 }, undefined, 27 * DAY)).toEqual(["error every"]);
  });

  test("total over lives of any millisecond", () => {
    const lives = fc.integer({ min: 1, max: 3 * DAY });
    fc.assert(
      fc.property(lives, fc.double({ min: 0.01, max: 0.99, noNaN: true }), (life, after) => {
        for (const problem of checkPolicy({ after, windows: [nightly] }, life, 1)) expect(problem.next).not.toBe("");
      }),
    );
  });

  test("a life that the check passes is rotated in a window at every phase; one it refuses is stuck at some", () => {
    const policy: RenewPolicy = { windows: [nightly], whenLate: "hold" };
    const stuckPhases = (life: number) => {
      let stuck = 0;
      for (let issue = Date.UTC(2026, 0, 7, 2); issue < Date.UTC(2026, 0, 7, 4); issue += MINUTE) {
        const input = { credential: "c", generation: { notBefore: issue, notAfter: issue + life }, policy };
        if (due(input, issue).action === "impossible") stuck++;
      }
      return stuck;
    };
    for (const hours of [20, 22, 23, 24, 24.4, 25, 26, 30, 40]) {
      const passes = found(policy, hours * HOUR).length === 0;
      if (passes) expect(stuckPhases(hours * HOUR)).toBe(0);
    }
    expect(found(policy, 22 * HOUR)).toEqual(["error windows"]);
    expect(stuckPhases(22 * HOUR)).toBeGreaterThan(0);
    expect(found(policy, 25 * HOUR)).toEqual([]);
  });
});
