/**
 * When a credential is renewed. Pure: the clock is an argument, chance is a hash of names.
 *
 * The date is drawn from the policy (share of the life, fixed lead, or cadence), brought forward by jitter, and
 * brought forward by the CA's own suggestion (RFC 9773). Then it has to meet the maintenance windows:
 *
 *   issue ......... half-way ......... due ......... limit (notAfter or maxAge)
 *                   |  3. the last open |  1. the first open time
 *                   |     time in here  |     in here
 *
 *   1. The first open time from the due date on, if it comes a scheduler's period before the limit.
 *   2. Where the scheduler's next run would come too late for every one of those: now, if now is open.
 *   3. Where there is none (a freeze, a rare window): the last open time between half-way and due. Earlier than
 *      half-way is no use: the next generation would meet the same windows in the same way, and each window would
 *      rotate again and again without ever getting ahead.
 *   4. Otherwise an open time in the last minutes before the limit, which a run may miss.
 *   5. Otherwise it is impossible, and said so from the first day, with the numbers and what to change.
 *
 * Nobody reads messages for ever, so the end decides (`whenLate`): once less than a tenth of the life is left and
 * no open time comes before the end (or the next run would miss it), `rotate` (the default) rotates outside the
 * windows and freezes. A window exists to keep disturbance away from users; an expired credential refuses every
 * one of them, which is the larger disturbance. Until then a person had nine tenths of a life to choose otherwise.
 * `hold` waits for the next open time, past the end if need be, and reports `urgent`.
 *
 * A first issue replaces nothing, so windows do not hold it back; a freeze ("nothing changes") does.
 */
import { createHash } from "node:crypto";
import { type Contradiction, DEFAULT_PERIOD, earliestAge, isContradiction, type Schedule, scheduleOf } from "./lead.ts";
import type { Instant, Millis } from "./model.ts";
import { HOUR, MINUTE, type RenewPolicy, type Span } from "./renew-policy.ts";
import { sayInstant, sayMillis } from "./time-words.ts";
import { HORIZON, lastOpen, longestClosed, nextOpen, openSince, type Rules, readRules, sayWindows } from "./windows.ts";

/** The share of a life that, once only this much is left, lets `whenLate: rotate` pass over windows. */
export const LATE_SHARE = 0.1;

/** Instants are whole milliseconds. */
export interface DueInput {
  /** Key of the jitter: credentials with the same dates spread by their names. */
  readonly credential: string;
  /** The generation in use; absent (with `issuedAt` absent too): never issued. */
  readonly generation?: { readonly notBefore: Instant; readonly notAfter?: Instant; readonly fingerprint?: string };
  /** Start of the cadence for things that never expire. */
  readonly issuedAt?: Instant;
  readonly policy: RenewPolicy;
  /** The window the CA suggests: RFC 9773 section 4.2. */
  readonly ari?: { readonly start: Instant; readonly end: Instant; readonly explanationUrl?: string };
  /** When the last try for this generation ended without a new one. It is not repeated at once. */
  readonly lastAttempt?: Instant;
  /** How often the scheduler runs. Default 30 minutes. */
  readonly period?: Millis;
}

interface DueFacts {
  /** After jitter and ARI, before windows. */
  readonly dueAt: Instant;
  /** The open time it is or will be done in; absent where there are no windows, or none that fits. */
  readonly windowStart?: Instant;
  readonly windowEnd?: Instant;
  readonly expiresAt?: Instant;
  /** Past the limit, or so close to it that windows no longer count. */
  readonly urgent: boolean;
  /** Where the CA explains its suggestion. */
  readonly explanationUrl?: string;
  /** In words, with the numbers. */
  readonly because: string;
}

/** `override` is set where windows and freezes are passed over, see `whenLate`. */
type DueRotate = DueFacts & { readonly action: "rotate"; readonly override: boolean };
/** `until` is later than now; asking again then gives rotate, unless the input changed. */
type DueWait = DueFacts & { readonly action: "wait"; readonly until: Instant };
type DueImpossible = DueFacts & {
  readonly action: "impossible";
  /** The last open time before the limit: too early to be planned for, good for a rotation by hand. */
  readonly lastChance?: Span;
  /** When `whenLate: rotate` acts in spite of it; absent with `hold`, and where nothing ends. */
  readonly overrideAt?: Instant;
  /** What to change. */
  readonly next: string;
};
export type Due = DueRotate | DueWait | DueImpossible;

type Conflict = Pick<Contradiction, "message" | "next">;

/** Everything `due` works on, computed once. */
interface Case {
  readonly now: Instant;
  readonly period: Millis;
  readonly rules: Rules;
  readonly holds: boolean;
  readonly dueAt: Instant;
  /** The earliest time that rule 3 may move it to. */
  readonly earliest: Instant;
  /** notAfter or start + maxAge; far away when there is neither. */
  readonly limit: Instant;
  /** When little life is left; absent without a limit. */
  readonly lateAt?: Instant;
  readonly late: boolean;
  /** The age at the limit, or the cadence: what shares are shares of. */
  readonly span: Millis;
  /** A failed try is not repeated before this, or, where that would miss the last open time, before `soonest`. */
  readonly retryAt: Instant;
  readonly soonest: Instant;
  /** Why there is no schedule, or no rules. */
  readonly conflict?: Conflict;
  /** When it is due and where that comes from. */
  readonly words: string;
  readonly facts: Pick<DueFacts, "dueAt" | "expiresAt" | "explanationUrl">;
}

/**
 * Says whether the credential is to be rotated now, until when to wait, or why it cannot be done. Total: a policy
 * that contradicts itself is `impossible`, never an exception, and an expiring credential is still rotated.
 */
export function due(input: DueInput, now: Instant): Due {
  const { rules, problems } = readRules(input.policy);
  const problem = problems[0];
  const unreadable = problem && { message: `${problem.field}: ${problem.message}`, next: problem.next };
  const start = startOf(input);
  if (start === undefined) return firstIssue(input, rules, unreadable, now);
  const it = caseOf(input, start, rules, unreadable, now);
  const planned = unreadable === undefined ? plannedTime(it) : undefined;
  if (!it.holds && it.late && (planned === undefined || runMisses(it, planned))) return override(it);
  return planned ?? impossible(it);
}

/** A life counts from notBefore; a cadence without a life from the issue. */
function startOf({ generation, issuedAt }: DueInput): Instant | undefined {
  return generation?.notAfter === undefined ? (issuedAt ?? generation?.notBefore) : generation.notBefore;
}

/** Rules 1 to 4. A policy without a schedule counts as due when little life is left, so that windows still hold. */
function plannedTime(it: Case): Due | undefined {
  if (it.conflict !== undefined && !it.late) return undefined;
  if (it.now >= it.limit) return pastLimit(it);
  const margin = Math.min(it.period, Math.floor((it.limit - it.dueAt) / 2));
  return fromDueOn(it, it.limit - margin) ?? beforeDue(it) ?? fromDueOn(it, it.limit);
}

/** The open time that is waited for is over, with the life, before the scheduler's next run. */
function runMisses(it: Case, planned: Due): boolean {
  if (planned.action !== "wait" || it.now >= it.limit) return false;
  return nextOpen(it.rules, Math.max(it.now + it.period, it.dueAt), it.limit) === undefined;
}

function caseOf(input: DueInput, start: Instant, rules: Rules, unreadable: Conflict | undefined, now: Instant): Case {
  const { policy, generation } = input;
  const period = input.period ?? DEFAULT_PERIOD;
  const expiresAt = generation?.notAfter;
  const schedule = scheduleOf(policy, expiresAt === undefined ? undefined : expiresAt - start, period);
  const clash = isContradiction(schedule);
  // A contradictory policy has no maximum age that one could hold it to.
  const maximum = start + (clash ? Number.POSITIVE_INFINITY : (policy.maxAge ?? Number.POSITIVE_INFINITY));
  const end = Math.min(expiresAt ?? maximum, maximum);
  const known = Number.isFinite(end);
  const span = Math.max(known ? end - start : clash ? 0 : schedule.base, 0);
  const lateAt = known ? end - Math.floor(LATE_SHARE * span) : undefined;
  const drawn = drawDate(input, start, clash ? { dueAge: (lateAt ?? now) - start, jitter: 0 } : schedule);
  const dueAt = Math.max(start, drawn.dueAt);
  const conflict = clash ? schedule : unreadable;
  const { ari } = input;
  return {
    now,
    period,
    rules,
    holds: policy.whenLate === "hold",
    dueAt,
    earliest: clash ? dueAt : Math.min(dueAt, start + earliestAge(schedule)),
    limit: known ? end : Math.max(now, dueAt) + HORIZON,
    ...(lateAt === undefined ? {} : { lateAt }),
    late: lateAt !== undefined && now >= lateAt,
    span,
    ...retryAfter(input.lastAttempt, start, end, now),
    ...(conflict === undefined ? {} : { conflict }),
    words:
      drawn.suggested && ari !== undefined
        ? `the CA suggests ${saySpan(ari)}, drawn ${sayInstant(dueAt)}`
        : `due ${sayInstant(dueAt)}, ${scheduleWords(schedule)}`,
    facts: {
      dueAt,
      ...(expiresAt === undefined ? {} : { expiresAt }),
      ...(ari?.explanationUrl === undefined ? {} : { explanationUrl: ari.explanationUrl }),
    },
  };
}

/** The policy's date drawn forward by jitter, or a point of the CA's suggestion where that is earlier. */
function drawDate(
  { credential, generation, ari }: DueInput,
  start: Instant,
  { dueAge, jitter }: Pick<Schedule, "dueAge" | "jitter">,
): { readonly dueAt: Instant; readonly suggested: boolean } {
  const key = `${credential}\n${generation?.fingerprint ?? start}`;
  const byPolicy = Math.floor(start + dueAge - jitter * chance(`jitter\n${key}`));
  // RFC 9773, 4.2: an end that is not after the start is as if there were no answer.
  if (ari === undefined || ari.end <= ari.start) return { dueAt: byPolicy, suggested: false };
  const byCa = ari.start + Math.floor((ari.end - ari.start) * chance(`ari\n${key}`));
  return byCa < byPolicy ? { dueAt: byCa, suggested: true } : { dueAt: byPolicy, suggested: false };
}

/** A number in [0, 1), uniform over keys and always the same for one key. */
function chance(key: string): number {
  return createHash("sha256").update(key).digest().readUIntBE(0, 6) / 2 ** 48;
}

/**
 * A failed try is repeated after a tenth of the time that is left, at least a minute and at most an hour later:
 * often enough for a life of hours, seldom enough for a CA that is down for a day.
 */
function retryAfter(
  lastAttempt: Instant | undefined,
  start: Instant,
  limit: Instant,
  now: Instant,
): Pick<Case, "retryAt" | "soonest"> {
  // A try in the future is a clock put right since; one before the start was about another generation.
  if (lastAttempt === undefined || lastAttempt > now || lastAttempt < start)
    return { retryAt: Number.NEGATIVE_INFINITY, soonest: Number.NEGATIVE_INFINITY };
  const pause = Math.min(HOUR, Math.max(MINUTE, Math.floor((limit - lastAttempt) / 10)));
  return { retryAt: lastAttempt + pause, soonest: lastAttempt + MINUTE };
}

/** Rules 1 and 2, and 4 with the whole time until the limit. */
function fromDueOn(it: Case, until: Instant): Due | undefined {
  const ready = Math.max(it.dueAt, it.now);
  const farthest = Math.min(until, ready + HORIZON);
  const found =
    nextOpen(it.rules, Math.max(ready, it.retryAt), farthest) ??
    nextOpen(it.rules, Math.max(ready, it.soonest), farthest);
  if (found === undefined) return undefined;
  if (found.start <= it.now) return rotate(it, found, `${it.words}; ${inWindow(it, found)}`);
  if (lastRunNow(it, found)) {
    const why = `now, since the next run in ${sayMillis(it.period)} would be too late for the last open time`;
    return rotate(it, { start: it.now, end: found.end }, `${it.words}; ${why}, ${saySpan(found)}`);
  }
  return wait(it, found.start, found, waitWords(it, found));
}

/** Rule 2: now is open, and is the last run that can use what is found. */
function lastRunNow(it: Case, found: Span): boolean {
  if (it.now < Math.max(it.earliest, it.retryAt)) return false;
  const nextRun = Math.max(found.start, it.now + it.period);
  if (nextOpen(it.rules, nextRun, Math.min(it.limit, nextRun + HORIZON)) !== undefined) return false;
  return nextOpen(it.rules, it.now, it.now + 1) !== undefined;
}

/**
 * Rule 3. Kept away from the end of the open time by two runs and a tenth of the life, so that a failed try can be
 * repeated.
 */
function beforeDue(it: Case): Due | undefined {
  const from = Math.max(it.now, it.earliest, it.dueAt - HORIZON);
  const found = lastOpen(it.rules, from, it.dueAt);
  if (found === undefined) return undefined;
  const room = Math.max(2 * it.period, Math.floor(LATE_SHARE * it.span));
  const planned = Math.max(found.start, found.end - room);
  const at = it.retryAt > planned && it.retryAt < found.end ? it.retryAt : planned;
  const because = `${it.words}; moved forward, since no time is open from then to the end, ${sayInstant(it.limit)}: the last before it is ${saySpan(found)}`;
  return at <= it.now ? rotate(it, found, because) : wait(it, at, found, because);
}

/** Expired, or older than maxAge: an open time now is taken, a later one is waited for only with `hold`. */
function pastLimit(it: Case): Due | undefined {
  const found = nextOpen(it.rules, Math.max(it.now, it.retryAt), it.now + HORIZON);
  if (found === undefined) return undefined;
  if (found.start <= it.now) return rotate(it, found, `${endWords(it)}; ${inWindow(it, found)}`);
  if (!it.holds) return undefined;
  const because = `${endWords(it)}, and whenLate: hold waits for the next open time, ${sayInstant(found.start)}`;
  return wait(it, found.start, found, because);
}

/** `whenLate: rotate`. */
function override(it: Case): Due {
  const closed = it.conflict?.message ?? `no run before the end meets an open time${rulesWords(it)}`;
  const because = `${endWords(it)}, and ${closed}: outside windows and freezes, since at its end it refuses everybody (whenLate: rotate)`;
  if (it.retryAt <= it.now) return { action: "rotate", override: true, ...it.facts, urgent: true, because };
  const again = `the last try failed, the next is at ${sayInstant(it.retryAt)}`;
  return { action: "wait", until: it.retryAt, ...it.facts, urgent: true, because: `${because}; ${again}` };
}

function impossible(it: Case): Due {
  const lastChance =
    it.conflict === undefined && it.now < it.limit
      ? lastOpen(it.rules, Math.max(it.now, it.limit - HORIZON), it.limit)
      : undefined;
  return {
    action: "impossible",
    ...it.facts,
    urgent: it.late,
    because: it.conflict === undefined ? noWindowWords(it) : `the policy contradicts itself: ${it.conflict.message}`,
    next: it.conflict?.next ?? whatToChange(it),
    ...(lastChance === undefined ? {} : { lastChance }),
    ...(it.holds || it.lateAt === undefined ? {} : { overrideAt: it.lateAt }),
  };
}

function rotate(it: Case, found: Span, because: string): Due {
  const urgent = it.now >= it.limit;
  return { action: "rotate", override: false, ...it.facts, ...windowFacts(it, found), urgent, because };
}

function wait(it: Case, until: Instant, found: Span, because: string): Due {
  return { action: "wait", until, ...it.facts, ...windowFacts(it, found), urgent: it.now >= it.limit, because };
}

function windowFacts(it: Case, found: Span): { windowStart?: Instant; windowEnd?: Instant } {
  if (it.rules.windows.length === 0) return {};
  return { windowStart: openSince(it.rules, found.start), windowEnd: found.end };
}

/** Nothing is in use yet: only a freeze, or a failed try a short time ago, holds it back. */
function firstIssue(input: DueInput, rules: Rules, unreadable: Conflict | undefined, now: Instant): Due {
  const facts = { dueAt: now, urgent: false };
  if (unreadable !== undefined)
    return {
      action: "impossible",
      ...facts,
      because: `the policy contradicts itself: ${unreadable.message}`,
      next: unreadable.next,
    };
  const { retryAt } = retryAfter(input.lastAttempt, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, now);
  const free = nextOpen({ windows: [], freezes: rules.freezes }, Math.max(now, retryAt), now + HORIZON);
  if (free === undefined)
    return {
      action: "impossible",
      ...facts,
      because: "never issued, and a freeze without end forbids it",
      next: "give the freeze an end",
    };
  const because = "never issued: nothing in use is replaced, so windows do not hold it back";
  if (free.start <= now) return { action: "rotate", override: false, ...facts, because };
  const why = free.start === retryAt ? "the last try failed" : "frozen until then";
  return {
    action: "wait",
    until: free.start,
    ...facts,
    because: `never issued; at ${sayInstant(free.start)}, ${why}`,
  };
}

function scheduleWords(schedule: Schedule | Contradiction): string {
  if (isContradiction(schedule)) return "when little life is left";
  return `${schedule.words}${schedule.jitter > 0 ? " less jitter" : ""}`;
}

function waitWords(it: Case, found: Span): string {
  if (found.start === it.dueAt) return `${it.words}; ${inWindow(it, found)}`;
  if (found.start === it.retryAt || found.start === it.soonest)
    return `${it.words}; the last try failed, the next is at ${sayInstant(found.start)}`;
  const windows = sayWindows(it.rules);
  const closed = windows === "" ? "frozen until then" : `the next window (${windows}) opens then`;
  const length = found.end - found.start;
  const short = `, for ${sayMillis(length)}: less than the ${sayMillis(it.period)} between runs, which may miss it`;
  return `${it.words}; at ${sayInstant(found.start)}, ${closed}${length < it.period ? short : ""}`;
}

function noWindowWords(it: Case): string {
  if (it.now >= it.limit) return `${endWords(it)}, and no time is open in the next ten years`;
  if (it.lateAt === undefined) return `${it.words}, but no time is open in the ten years after it${rulesWords(it)}`;
  const next = nextOpen(it.rules, it.limit, it.limit + HORIZON);
  const opens =
    next === undefined
      ? "none comes in the ten years after it"
      : `the next is at ${sayInstant(next.start)}, ${sayMillis(next.start - it.limit)} too late`;
  return `${it.words}, but no time is open from half-way (${sayInstant(it.earliest)}) to the end (${sayInstant(it.limit)})${rulesWords(it)}; ${opens}`;
}

function whatToChange(it: Case): string {
  if (it.lateAt === undefined) return "give the freeze an end";
  const usable = it.limit - it.earliest;
  const closed = longestClosed(it.rules);
  if (closed <= usable) return `end the freeze before ${sayInstant(it.limit)}, or rotate once by hand`;
  // The usable part stays the same share of a longer life.
  const needed = Math.ceil((closed * it.span) / usable / HOUR) * HOUR;
  return `open a window at least every ${sayMillis(usable)} (now up to ${sayMillis(closed)} apart), or ask for a life of ${sayMillis(needed)} instead of ${sayMillis(it.span)}`;
}

function rulesWords(it: Case): string {
  const windows = sayWindows(it.rules);
  const freezes = it.rules.freezes.map(saySpan).join("; ");
  const parts = [windows === "" ? "" : `windows: ${windows}`, freezes === "" ? "" : `frozen: ${freezes}`];
  const said = parts.filter((part) => part !== "").join("; ");
  return said === "" ? "" : ` (${said})`;
}

function endWords(it: Case): string {
  const expiry = it.limit === it.facts.expiresAt;
  const distance = sayMillis(it.now - it.limit);
  const at = sayInstant(it.limit);
  if (it.now >= it.limit) return `it ${expiry ? "expired" : "passed its maximum age"} ${at}, ${distance} ago`;
  return `it ${expiry ? "expires" : "passes its maximum age"} ${at}, in ${distance}`;
}

function inWindow(it: Case, found: Span): string {
  if (it.rules.windows.length > 0) return `inside the window that closes ${sayInstant(found.end)}`;
  return it.rules.freezes.length === 0 ? "no windows" : "no freeze then";
}

function saySpan(span: Span): string {
  return `${sayInstant(span.start)} to ${sayInstant(span.end)}`;
}
