import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Due, type DueInput, due, LATE_SHARE } from "./due.ts";
import { defaultLead } from "./lead.ts";
import type { Instant } from "./model.ts";
import { DAY, type Freeze, HOUR, type MaintenanceWindow, MINUTE, type RenewPolicy, weekdays } from "./renew-policy.ts";

// A Wednesday.
const start = Date.UTC(2026, 2, 25);
const sunday: MaintenanceWindow = { days: ["sun"], from: "02:00", to: "04:00", zone: "UTC" };
const nightly: MaintenanceWindow = { from: "02:00", to: "04:00", zone: "UTC" };
const at = (text: string) => Date.parse(text);

/** A certificate of `life`, asked about at `age`. */
function ask(life: number, policy: RenewPolicy, age: number, more: Partial<DueInput> = {}): Due {
  const generation = { notBefore: start, notAfter: start + life, fingerprint: "f1" };
  return due({ credential: "shop-tls", generation, policy, ...more }, start + age);
}

function waits(answer: Due): Instant {
  if (answer.action !== "wait") throw new Error(`expected wait, got ${answer.action}: ${answer.because}`);
  return answer.until;
}

describe("the date", () => {
  const rows: [string, number, RenewPolicy, number][] = [
    ["66 % of 6 h", 6 * HOUR, { after: 0.66 }, 0.66 * 6 * HOUR],
    ["66 % of 10 years", 3650 * DAY, { after: 0.66 }, 2409 * DAY],
    ["30 d before the end of 90 d", 90 * DAY, { before: 30 * DAY }, 60 * DAY],
    ["every 30 d of a year", 365 * DAY, { every: 30 * DAY }, 30 * DAY],
    ["nothing said: two thirds", 90 * DAY, {}, 60 * DAY],
    ["nothing said, life of two hours: two runs before the end", 2 * HOUR, {}, HOUR],
    ["nothing said, life of an hour: half of it", HOUR, {}, 30 * MINUTE],
    ["only maxAge below the life: a third before maxAge", 365 * DAY, { maxAge: 90 * DAY }, 60 * DAY],
    ["two dates given: the earlier", 90 * DAY, { after: 0.5, before: 10 * DAY }, 45 * DAY],
  ];
  test.each(rows)("%s", (_, life, policy, age) => {
    const answer = ask(life, policy, 0);
    expect(answer.dueAt - start).toBe(age);
    expect(waits(answer) - start).toBe(age);
    expect(ask(life, policy, age - 1).action).toBe("wait");
    expect(ask(life, policy, age)).toMatchObject({ action: "rotate", override: false, urgent: false });
  });

  test("a token that never expires is due by its cadence, counted from its issue", () => {
    const input: DueInput = { credential: "bot", issuedAt: start, policy: { every: 30 * DAY, maxAge: 90 * DAY } };
    expect(waits(due(input, start + DAY))).toBe(start + 30 * DAY);
    expect(due(input, start + 30 * DAY)).toMatchObject({ action: "rotate", urgent: false });
    expect(due(input, start + 91 * DAY)).toMatchObject({ action: "rotate", urgent: true, override: false });
    expect(due(input, start + 91 * DAY)).not.toHaveProperty("expiresAt");
  });

  test("a token without cadence is a contradiction, not a silence", () => {
    const answer = due({ credential: "bot", issuedAt: start, policy: {} }, start + 900 * DAY);
    expect(answer).toMatchObject({ action: "impossible", next: "set renew.every or renew.maxAge" });
  });

  test("never issued: now, whatever the windows; a freeze holds it back", () => {
    const frozen: Freeze = { from: "2026-03-25", to: "2026-03-26", zone: "UTC" };
    expect(due({ credential: "new", policy: { windows: [sunday] } }, start)).toMatchObject({ action: "rotate" });
    const held = due({ credential: "new", policy: { windows: [sunday], freezes: [frozen] } }, start);
    expect(waits(held)).toBe(at("2026-03-27T00:00Z"));
    const endless = { from: "2026-03-25", zone: "UTC" };
    expect(due({ credential: "new", policy: { freezes: [endless] } }, start).action).toBe("impossible");
  });

  test("the default lead is never more than half of the life", () => {
    expect(defaultLead(6 * HOUR)).toBe(2 * HOUR);
    expect(defaultLead(90 * MINUTE)).toBe(45 * MINUTE);
    expect(defaultLead(90 * MINUTE, 5 * MINUTE)).toBe(30 * MINUTE);
  });
});

describe("windows and freezes", () => {
  test("the first window after the due date", () => {
    const answer = ask(90 * DAY, { after: 0.66, windows: [sunday] }, DAY);
    // Due on Saturday 2026-05-23.
    expect(waits(answer)).toBe(at("2026-05-24T02:00Z"));
    expect(answer).toMatchObject({ windowStart: at("2026-05-24T02:00Z"), windowEnd: at("2026-05-24T04:00Z") });
    const inside = due(
      {
        credential: "shop-tls",
        generation: { notBefore: start, notAfter: start + 90 * DAY },
        policy: { after: 0.66, windows: [sunday] },
      },
      at("2026-05-24T03:00Z"),
    );
    expect(inside).toMatchObject({ action: "rotate", override: false, windowStart: at("2026-05-24T02:00Z") });
  });

  test("66 % of 6 h with a weekly window is impossible, with the numbers and what to change", () => {
    const answer = ask(6 * HOUR, { after: 0.66, windows: [sunday] }, HOUR);
    expect(answer).toMatchObject({ action: "impossible", urgent: false, overrideAt: start + 5.4 * HOUR });
    expect(answer.because).toContain("66 % of the life of 6 h");
    expect(answer.because).toContain("the next is at 2026-03-29T02:00Z, 3 d 20 h too late");
    expect(answer).toMatchObject({
      next: "open a window at least every 4 h 1 min (now up to 6 d 22 h apart), or ask for a life of 10 d 8 h instead of 6 h",
    });
    expect(answer).not.toHaveProperty("lastChance");
  });

  test("a window before half-way is no plan, but named as the last chance", () => {
    const answer = ask(12 * HOUR, { after: 0.9, windows: [nightly] }, HOUR);
    expect(answer).toMatchObject({
      action: "impossible",
      lastChance: { start: start + 2 * HOUR, end: start + 4 * HOUR },
    });
  });

  test("no window between due and the end: the last one before it, past half-way", () => {
    // Due at 8.1 d (Thursday), ends after 9 d; the Sunday between is at 4.1 d: just past half-way.
    const answer = ask(9 * DAY, { after: 0.9, windows: [sunday] }, DAY);
    expect(waits(answer)).toBe(at("2026-03-29T02:00Z"));
    expect(answer.because).toContain("moved forward");
  });

  test("a freeze over due date and end moves it forward, with room to repeat it before the freeze", () => {
    const freezes: Freeze[] = [{ from: "2026-05-18", to: "2026-07-31", zone: "UTC" }];
    // Due after 60 d (2026-05-24), frozen from 54 d on, a tenth of 90 d earlier is 45 d.
    expect(waits(ask(90 * DAY, { freezes }, DAY))).toBe(start + 45 * DAY);
  });

  test("a freeze that ends before the life does is waited for", () => {
    const freezes: Freeze[] = [{ from: "2026-05-18", to: "2026-06-01", zone: "Europe/Berlin" }];
    expect(waits(ask(90 * DAY, { freezes }, 58 * DAY))).toBe(at("2026-06-01T22:00Z"));
  });

  test("the only open time left is over before the next run: rotated in the window that is open now", () => {
    // Ends on Sunday 02:20; due Saturday 02:00; windows on Friday night and on Sunday.
    const generation = { notBefore: at("2026-03-25T00:00Z"), notAfter: at("2026-03-29T02:20Z") };
    const windows: MaintenanceWindow[] = [
      { days: ["sat"], from: "22:00", to: "23:00", zone: "UTC" },
      { days: ["sun"], from: "02:00", to: "02:20", zone: "UTC" },
    ];
    const policy: RenewPolicy = { before: 140 * MINUTE, windows };
    const answer = due({ credential: "a", generation, policy, period: 6 * HOUR }, at("2026-03-28T22:30Z"));
    expect(answer).toMatchObject({ action: "rotate", override: false });
  });

  test("a last run before the due date and the end rotates now instead of too late", () => {
    const answer = ask(10 * HOUR, { before: HOUR }, 8.5 * HOUR, { period: 2 * HOUR });
    expect(answer).toMatchObject({ action: "rotate" });
    expect(ask(10 * HOUR, { before: HOUR }, 7 * HOUR, { period: 2 * HOUR }).action).toBe("wait");
  });

  test("a window that opens minutes before the end may be missed: the last run before it does not wait for it", () => {
    // Ends ten minutes into the next night's window; runs come every 30 minutes.
    const generation = { notBefore: start + 130 * MINUTE, notAfter: start + DAY + 130 * MINUTE };
    const policy: RenewPolicy = { after: 0.66, windows: [nightly] };
    const input: DueInput = { credential: "a", generation, policy };
    expect(waits(due(input, start + DAY + 80 * MINUTE))).toBe(start + DAY + 120 * MINUTE);
    expect(due(input, start + DAY + 110 * MINUTE)).toMatchObject({ action: "rotate", override: true });
    expect(due({ ...input, period: 5 * MINUTE }, start + DAY + 110 * MINUTE).action).toBe("wait");
    expect(due({ ...input, policy: { ...policy, whenLate: "hold" } }, start + DAY + 110 * MINUTE).action).toBe("wait");
  });
});

describe("late", () => {
  const policy: RenewPolicy = { after: 0.66, windows: [sunday] };
  test("with a tenth of the life left and no window it rotates outside them, urgently", () => {
    expect(ask(6 * HOUR, policy, 5.39 * HOUR).action).toBe("impossible");
    expect(ask(6 * HOUR, policy, 5.4 * HOUR)).toMatchObject({ action: "rotate", override: true, urgent: true });
  });
  test("hold says impossible and urgent instead", () => {
    const answer = ask(6 * HOUR, { ...policy, whenLate: "hold" }, 5.5 * HOUR);
    expect(answer).toMatchObject({ action: "impossible", urgent: true });
    expect(answer).not.toHaveProperty("overrideAt");
  });
  test("expired outside any window: rotate by default, hold waits for the next window and is urgent", () => {
    expect(ask(6 * HOUR, policy, 7 * HOUR)).toMatchObject({ action: "rotate", override: true, urgent: true });
    const held = ask(6 * HOUR, { ...policy, whenLate: "hold" }, 7 * HOUR);
    expect(waits(held)).toBe(at("2026-03-29T02:00Z"));
    expect(held.urgent).toBe(true);
  });
  test("expired inside a window: rotate, no override needed", () => {
    const late = ask(6 * HOUR, { ...policy, whenLate: "hold" }, 4 * DAY + 3 * HOUR);
    expect(late).toMatchObject({ action: "rotate", override: false, urgent: true });
  });
  test("a window still to come before the end is kept, however late it is", () => {
    // 95 % gone on Saturday night, the window opens on Sunday before the end.
    const generation = { notBefore: at("2026-03-01T00:00Z"), notAfter: at("2026-03-29T12:00Z") };
    const answer = due({ credential: "a", generation, policy }, at("2026-03-28T22:00Z"));
    expect(waits(answer)).toBe(at("2026-03-29T02:00Z"));
  });
  test("a contradiction is told for nine tenths of the life, then the credential is rotated in spite of it", () => {
    const wrong: RenewPolicy = { before: 30 * DAY };
    expect(ask(10 * DAY, wrong, DAY)).toMatchObject({ action: "impossible", overrideAt: start + 9 * DAY });
    expect(ask(10 * DAY, wrong, 9 * DAY)).toMatchObject({ action: "rotate", override: false });
    // Windows that can be read still hold it.
    expect(waits(ask(10 * DAY, { ...wrong, windows: [nightly] }, 9 * DAY))).toBe(start + 9 * DAY + 2 * HOUR);
    const unread: RenewPolicy = { windows: [{ ...nightly, zone: "Mars/Olympus" }] };
    expect(ask(10 * DAY, unread, 8 * DAY)).toMatchObject({ action: "impossible" });
    expect(ask(10 * DAY, unread, 9 * DAY)).toMatchObject({ action: "rotate", override: true });
  });
  test("a failed try is repeated after a tenth of what is left, a minute at least and an hour at most", () => {
    const none: RenewPolicy = { after: 0.5 };
    const tried = (life: number, age: number) =>
      waits(ask(life, none, age, { lastAttempt: start + age })) - start - age;
    expect(tried(90 * DAY, 50 * DAY)).toBe(HOUR);
    expect(tried(6 * HOUR, 5 * HOUR)).toBe(6 * MINUTE);
    expect(tried(6 * HOUR, 6 * HOUR - MINUTE)).toBe(MINUTE);
    expect(ask(90 * DAY, none, 50 * DAY, { lastAttempt: start + 49 * DAY }).action).toBe("rotate");
    // A try before this generation, or after now, says nothing.
    expect(ask(90 * DAY, none, 50 * DAY, { lastAttempt: start - 1 }).action).toBe("rotate");
    expect(ask(90 * DAY, none, 50 * DAY, { lastAttempt: start + 51 * DAY }).action).toBe("rotate");
    // Not at the price of the window's end, when no other comes.
    const last = { after: 0.5, windows: [{ ...sunday, zone: "UTC" }] };
    const age = at("2026-03-29T03:30Z") - start;
    expect(ask(8 * DAY, last, age, { lastAttempt: start + age - MINUTE }).action).toBe("rotate");
    expect(waits(ask(8 * DAY, last, age, { lastAttempt: start + age - 1 }))).toBe(start + age + MINUTE - 1);
    expect(ask(6 * HOUR, last, 7 * HOUR, { lastAttempt: start + 7 * HOUR })).toMatchObject({
      action: "wait",
      urgent: true,
    });
  });
});

describe("the CA's suggestion (RFC 9773)", () => {
  const ari = (from: number, to: number) => ({
    ari: { start: start + from, end: start + to, explanationUrl: "https://ca.example/why" },
  });
  test("earlier than the policy: a stable point inside it, with the explanation", () => {
    const answer = ask(90 * DAY, {}, DAY, ari(10 * DAY, 12 * DAY));
    expect(answer).toMatchObject({ action: "wait", explanationUrl: "https://ca.example/why" });
    expect(answer.dueAt).toBeGreaterThanOrEqual(start + 10 * DAY);
    expect(answer.dueAt).toBeLessThan(start + 12 * DAY);
    expect(ask(90 * DAY, {}, 2 * DAY, ari(10 * DAY, 12 * DAY)).dueAt).toBe(answer.dueAt);
    expect(ask(90 * DAY, {}, DAY, { credential: "other", ...ari(10 * DAY, 12 * DAY) }).dueAt).not.toBe(answer.dueAt);
  });
  test("in the past: now", () => {
    expect(ask(90 * DAY, {}, 20 * DAY, ari(10 * DAY, 12 * DAY))).toMatchObject({ action: "rotate" });
    expect(ask(90 * DAY, {}, 20 * DAY, ari(-12 * DAY, -10 * DAY))).toMatchObject({ action: "rotate", dueAt: start });
  });
  test("later than the policy, or with its end before its start: the policy", () => {
    expect(ask(90 * DAY, {}, DAY, ari(70 * DAY, 72 * DAY)).dueAt).toBe(start + 60 * DAY);
    expect(ask(90 * DAY, {}, DAY, ari(12 * DAY, 12 * DAY)).dueAt).toBe(start + 60 * DAY);
  });
  test("windows hold it too", () => {
    const answer = ask(90 * DAY, { windows: [sunday] }, 0, ari(-2 * DAY, -DAY));
    expect(waits(answer)).toBe(at("2026-03-29T02:00Z"));
  });
});

describe("jitter", () => {
  const jittered = (credential: string, fingerprint = "f1") =>
    due(
      {
        credential,
        generation: { notBefore: start, notAfter: start + 100 * DAY, fingerprint },
        policy: { after: 0.7, jitter: 0.2 },
      },
      start,
    ).dueAt - start;
  test("a thousand credentials of one life spread evenly over the jitter, never later than the policy", () => {
    const ages = Array.from({ length: 1000 }, (_, n) => jittered(`app-${n}`));
    const slots = new Array(10).fill(0);
    for (const age of ages) {
      expect(age).toBeGreaterThan(50 * DAY - 1);
      expect(age).toBeLessThanOrEqual(70 * DAY);
      slots[Math.min(9, Math.floor((age - 50 * DAY) / (2 * DAY)))]++;
    }
    // 100 expected in each; five standard deviations.
    for (const count of slots) expect(Math.abs(count - 100)).toBeLessThan(48);
  });
  test("stable for a generation, drawn anew for the next", () => {
    expect(jittered("app")).toBe(jittered("app"));
    expect(jittered("app", "f2")).not.toBe(jittered("app"));
  });
  test("of a cadence it is a share of the cadence, not of a long life", () => {
    const answer = ask(3650 * DAY, { every: 30 * DAY, jitter: 0.1 }, 0);
    expect(answer.dueAt).toBeGreaterThanOrEqual(start + 27 * DAY);
    expect(answer.dueAt).toBeLessThan(start + 30 * DAY);
  });
});

describe("properties", () => {
  // An independent reading of windows: what the clock on the wall says, minute by minute, by Intl.
  const clocks = new Map<string, Intl.DateTimeFormat>();
  function wall(zone: string, instant: Instant) {
    let clock = clocks.get(zone);
    if (clock === undefined) {
      const options = {
        year: "numeric",
        month: "2-digit",
        day: "2-digit",
        hour: "2-digit",
        minute: "2-digit",
      } as const;
      clock = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hourCycle: "h23", ...options });
      clocks.set(zone, clock);
    }
    const part = Object.fromEntries(clock.formatToParts(instant).map(({ type, value }) => [type, value]));
    return { date: `${part.year}-${part.month}-${part.day}`, time: `${part.hour}:${part.minute}` };
  }
  const dayOf = (date: string, back: number) => weekdays[(new Date(at(date) - back * DAY).getUTCDay() + 6) % 7]!;
  function openByWall(policy: RenewPolicy, instant: Instant): boolean {
    const frozen = (policy.freezes ?? []).some(({ from, to, zone }) => {
      const { date } = wall(zone, instant);
      return date >= from && (to === undefined || date <= to);
    });
    const windows = policy.windows ?? [];
    if (frozen) return false;
    return (
      windows.length === 0 ||
      windows.some(({ days = weekdays, from, to, zone }) => {
        const { date, time } = wall(zone, instant);
        if (from < to) return days.includes(dayOf(date, 0)) && time >= from && time < to;
        return (days.includes(dayOf(date, 0)) && time >= from) || (days.includes(dayOf(date, 1)) && time < to);
      })
    );
  }

  const zones = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"];
  // Around the changes of clocks of 2026 in these zones, and the day Samoa skipped.
  const changes: [string, Instant][] = [
    ...zones.flatMap((zone): [string, Instant][] =>
      ["2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25", "2026-11-01"].map((date) => [
        zone,
        at(date),
      ]),
    ),
    ["Pacific/Apia", at("2011-12-30")],
  ];
  const minute = fc
    .integer({ min: 0, max: 95 })
    .map((n) => `${String(n >> 2).padStart(2, "0")}:${String((n & 3) * 15).padStart(2, "0")}`);
  const dateNear = (base: Instant) =>
    fc.integer({ min: -3, max: 5 }).map((days) => new Date(base + days * DAY).toISOString().slice(0, 10));
  const situation = fc.constantFrom(...changes).chain(([zone, base]) =>
    fc.record({
      zone: fc.constant(zone),
      notBefore: fc.integer({ min: -48 * 4, max: 24 * 4 }).map((n) => base + n * 15 * MINUTE),
      life: fc.integer({ min: 24, max: 4 * 96 }).map((n) => n * 15 * MINUTE),
      // Half of them near the end, where the rules are.
      age: fc.oneof(fc.double({ min: 0, max: 1.2, noNaN: true }), fc.double({ min: 0.85, max: 1, noNaN: true })),
      after: fc.option(fc.double({ min: 0.1, max: 0.95, noNaN: true }), { nil: undefined }),
      jitter: fc.constantFrom(0, 0.05),
      whenLate: fc.constantFrom("rotate" as const, "hold" as const),
      windows: fc.array(
        fc
          .record({
            days: fc.option(fc.uniqueArray(fc.constantFrom(...weekdays), { minLength: 1 }), { nil: undefined }),
            from: minute,
            to: minute,
          })
          .filter(({ from, to }) => from !== to),
        { maxLength: 2 },
      ),
      freezes: fc.array(
        fc.tuple(dateNear(base), dateNear(base)).map((pair) => [...pair].sort()),
        { maxLength: 1 },
      ),
      lastAttempt: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: undefined }),
    }),
  );
  type Situation = typeof situation extends fc.Arbitrary<infer T> ? T : never;
  function build(s: Situation): { input: DueInput; now: Instant; end: Instant } {
    const policy: RenewPolicy = {
      ...(s.after === undefined ? {} : { after: s.after }),
      jitter: s.jitter,
      whenLate: s.whenLate,
      windows: s.windows.map(({ days, from, to }) => ({ from, to, zone: s.zone, ...(days && { days }) })),
      freezes: s.freezes.map(([from, to]) => ({ from: from!, to: to!, zone: s.zone })),
    };
    const end = s.notBefore + s.life;
    const now = s.notBefore + Math.floor((s.life * s.age) / MINUTE) * MINUTE;
    const lastAttempt =
      s.lastAttempt === undefined ? {} : { lastAttempt: s.notBefore + Math.floor((now - s.notBefore) * s.lastAttempt) };
    return {
      input: { credential: "c", generation: { notBefore: s.notBefore, notAfter: end }, policy, ...lastAttempt },
      now,
      end,
    };
  }
  const runs = { numRuns: 400 };

  test("judged against the clock on the wall, minute by minute", () => {
    const seen = { rotate: 0, wait: 0, impossible: 0, override: 0 };
    fc.assert(
      fc.property(situation, (s) => {
        const { input, now, end } = build({ ...s, lastAttempt: undefined });
        const answer = due(input, now);
        seen[answer.action]++;
        const isOpen = (instant: Instant) => openByWall(input.policy, instant);
        if (answer.action === "rotate" && !answer.override) expect(isOpen(now)).toBe(true);
        if (answer.action === "rotate" && answer.override) {
          seen.override++;
          expect(input.policy.whenLate).toBe("rotate");
          expect(now).toBeGreaterThanOrEqual(end - LATE_SHARE * s.life - 1);
          // No run of the scheduler at this rhythm would meet an open minute before the end.
          for (let m = now + 30 * MINUTE; m < end; m += MINUTE) expect(isOpen(m)).toBe(false);
          expect(isOpen(now)).toBe(false);
        }
        if (answer.action === "wait") {
          expect(isOpen(answer.until)).toBe(true);
          // From the due date on nothing open is passed over.
          for (let m = Math.max(now, Math.ceil(answer.dueAt / MINUTE) * MINUTE); m < answer.until; m += MINUTE)
            expect(isOpen(m)).toBe(false);
        }
        if (answer.action === "impossible") {
          for (let m = Math.max(now, Math.ceil(answer.dueAt / MINUTE) * MINUTE); m < end; m += MINUTE)
            expect(isOpen(m)).toBe(false);
        }
      }),
      runs,
    );
    // The generator reaches every kind of answer, or the property says nothing about it.
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(0);
  });

  test("waiting until `until` and asking again rotates", () => {
    fc.assert(
      fc.property(situation, (s) => {
        const { input, now } = build(s);
        const answer = due(input, now);
        if (answer.action !== "wait") return;
        expect(answer.until).toBeGreaterThan(now);
        expect(due(input, answer.until).action).toBe("rotate");
      }),
      runs,
    );
  });

  test("asked every half an hour, it is rotated before the end or held on purpose", () => {
    fc.assert(
      fc.property(situation, (s) => {
        const { input, end } = build({ ...s, lastAttempt: undefined });
        let answer: Due | undefined;
        for (let t = s.notBefore; t < end; t += 30 * MINUTE) {
          answer = due(input, t);
          if (answer.action === "rotate") return;
        }
        expect(input.policy.whenLate).toBe("hold");
      }),
      { numRuns: 200 },
    );
  });

  test("the same question has the same answer, and the input is left alone", () => {
    fc.assert(
      fc.property(situation, (s) => {
        const { input, now } = build(s);
        const before = JSON.stringify(input);
        expect(due(input, now)).toEqual(due(input, now));
        expect(JSON.stringify(input)).toBe(before);
      }),
      { numRuns: 100 },
    );
  });

  test("total over odd numbers: no exception, no answer without an instant", () => {
    const odd = fc.oneof(fc.constantFrom(0, -1, Number.NaN, Number.POSITIVE_INFINITY, 1, 1e15), fc.double());
    const text = fc.constantFrom("02:00", "24:00", "25:00", "", "2026-02-30", "2026-03-01", "2026-03-01T02:30", "x");
    fc.assert(
      fc.property(odd, odd, odd, odd, text, text, (after, before, jitter, maxAge, from, to) => {
        const zone = "Europe/Berlin";
        const policy: RenewPolicy = {
          after,
          before,
          jitter,
          maxAge,
          windows: [{ from, to, zone }],
          freezes: [{ from, to, zone }],
        };
        const answer = ask(30 * DAY, policy, 29 * DAY);
        expect(Number.isFinite(answer.dueAt)).toBe(true);
        expect(answer.because).not.toMatch(/NaN|undefined/);
      }),
      runs,
    );
  });
});
