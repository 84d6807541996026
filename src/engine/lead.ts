import type { Millis } from "./model.ts";
import { DAY, MINUTE, type RenewPolicy } from "./renew-policy.ts";
import { sayMillis, sayShare } from "./time-words.ts";

/** How often the scheduler runs when nothing is said: the upper end of the 15-30 minutes schedules are set to. */
export const DEFAULT_PERIOD: Millis = 30 * MINUTE;

/**
 * The lead before the end when the policy names none: a third of the life, as certmagic, cert-manager and ACME
 * clients have it. At least two scheduler periods, so that a failed run can be repeated, but never more than half
 * of the life: what is renewed earlier than that is renewed for nothing.
 */
export function defaultLead(life: Millis, period: Millis = DEFAULT_PERIOD): Millis {
  return Math.max(life / 3, Math.min(2 * period, life / 2));
}

/** The dates of one generation before windows, jitter's draw and ARI have their say. */
export interface Schedule {
  /** Age at which it is due, counted from `start`. */
  readonly dueAge: Millis;
  /** How far jitter may draw that forward. */
  readonly jitter: Millis;
  /** Age beyond which it must not live: the end of its life or maxAge; absent when there is neither. */
  readonly limitAge?: Millis;
  /** The life, or what stands for it: maxAge, or the cadence. Shares are shares of this. */
  readonly base: Millis;
  /** Where dueAge comes from: `66 % of 6 h`. */
  readonly words: string;
}

/** Why a policy has no schedule, as the operator reads it. */
export interface Contradiction {
  readonly field: "after" | "before" | "every" | "maxAge" | "jitter";
  readonly message: string;
  readonly next: string;
}

/**
 * The schedule of a generation with this life (`undefined`: never expires). Where two of after, before and every
 * are given the earliest counts; `checkPolicy` refuses such policies.
 */
export function scheduleOf(
  policy: RenewPolicy,
  life: Millis | undefined,
  period: Millis = DEFAULT_PERIOD,
): Schedule | Contradiction {
  const wrong = wrongNumber(policy);
  if (wrong !== undefined) return wrong;
  const base = life ?? policy.maxAge ?? policy.every;
  if (base === undefined)
    return {
      field: "every",
      message: "it never expires, and the policy names no cadence",
      next: "set renew.every or renew.maxAge",
    };
  const [exactAge, words, field] = dueAgeOf(policy, life, base, period);
  // Instants are whole milliseconds.
  const dueAge = Math.floor(exactAge);
  const limitAge = Math.min(life ?? Number.POSITIVE_INFINITY, policy.maxAge ?? Number.POSITIVE_INFINITY);
  // A cadence spreads over the cadence, not over a life that may be ten times as long.
  const jitter = (policy.jitter ?? 0) * (field === "every" ? dueAge : base);
  const schedule = { dueAge, jitter, base, words, ...(Number.isFinite(limitAge) ? { limitAge } : {}) };
  return contradictionIn(policy, schedule, field, life) ?? schedule;
}

/** Longer than any credential; keeps all instants within what a date can hold. */
const CENTURY: Millis = 36_525 * DAY;

/** A number that is none, or out of all bounds: checked first, so that sums and words are safe behind it. */
function wrongNumber(policy: RenewPolicy): Contradiction | undefined {
  for (const field of ["before", "every", "maxAge"] as const) {
    const length = policy[field];
    if (length !== undefined && !(length > 0 && length <= CENTURY))
      return { field, message: `${field} is no length of time up to 100 years`, next: `set renew.${field}, as in 30d` };
  }
  const { after, jitter } = policy;
  if (after !== undefined && !(after > 0 && after < 1))
    return { field: "after", message: "after is no share between 0 and 100 %", next: "set renew.after, as in 66%" };
  if (jitter !== undefined && !(jitter >= 0 && jitter < 1))
    return { field: "jitter", message: "jitter is no share from 0 to 100 %", next: "set renew.jitter, as in 5%" };
  return undefined;
}

function dueAgeOf(
  policy: RenewPolicy,
  life: Millis | undefined,
  base: Millis,
  period: Millis,
): readonly [Millis, string, Contradiction["field"]] {
  const of = life === undefined ? `the maximum age of ${sayMillis(base)}` : `the life of ${sayMillis(base)}`;
  const candidates: (readonly [Millis, string, Contradiction["field"]])[] = [];
  if (policy.after !== undefined) candidates.push([policy.after * base, `${sayShare(policy.after)} of ${of}`, "after"]);
  if (policy.before !== undefined)
    candidates.push([base - policy.before, `${sayMillis(policy.before)} before the end of ${of}`, "before"]);
  if (policy.every !== undefined) candidates.push([policy.every, `every ${sayMillis(policy.every)}`, "every"]);
  if (candidates.length === 0) {
    // Only maxAge, or nothing, is said: the default lead before whichever end comes first.
    const capped = policy.maxAge !== undefined && policy.maxAge < (life ?? Number.POSITIVE_INFINITY);
    const end = capped ? policy.maxAge : base;
    const lead = defaultLead(end, period);
    const name = capped ? `the maximum age of ${sayMillis(end)}` : of;
    candidates.push([end - lead, `${sayMillis(lead)} before the end of ${name}`, capped ? "maxAge" : "after"]);
  }
  return candidates.reduce((first, next) => (next[0] < first[0] ? next : first));
}

function contradictionIn(
  policy: RenewPolicy,
  schedule: Schedule,
  field: Contradiction["field"],
  life: Millis | undefined,
): Contradiction | undefined {
  const { dueAge, limitAge, jitter, words } = schedule;
  if (dueAge <= 0)
    return {
      field,
      message: `due ${words}, which is no later than the issue: each new one would be due at once`,
      next:
        field === "before"
          ? `set renew.before below ${sayMillis(schedule.base)}, or ask for a longer life`
          : `raise renew.${field}`,
    };
  if (dueAge - jitter <= 0)
    return {
      field: "jitter",
      message: `jitter may draw the date forward by ${sayMillis(jitter)}, past the issue (due ${words})`,
      next: `set renew.jitter below ${Math.floor((dueAge / (jitter / policy.jitter!)) * 500) / 1000}`,
    };
  if (limitAge !== undefined && dueAge >= limitAge) {
    const what = limitAge === life ? "the end of its life" : "maxAge";
    return {
      field,
      message: `due ${words}, which is not before ${what} (${sayMillis(limitAge)} after the issue)`,
      next: `set renew.${field} so that it is due before ${what}`,
    };
  }
  return undefined;
}

/** The earliest age at which a rotation moved forward (no window later) is worth more than it costs: half-way to due. */
export function earliestAge(schedule: Schedule): Millis {
  return Math.floor(schedule.dueAge / 2);
}

export function isContradiction(result: Schedule | Contradiction): result is Contradiction {
  return "field" in result;
}
