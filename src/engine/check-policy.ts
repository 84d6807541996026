import { DEFAULT_PERIOD, earliestAge, isContradiction, type Schedule, scheduleOf } from "./lead.ts";
import type { Instant, Millis } from "./model.ts";
import { DAY, type PolicyProblem, type RenewPolicy } from "./renew-policy.ts";
import { sayInstant, sayMillis } from "./time-words.ts";
import { longestClosed, nextOpen, openSpans, type Rules, readRules, sayWindows } from "./windows.ts";

/**
 * What is wrong with a policy for credentials of this life, before anything is planned. Needs no clock: whether a
 * window comes in time is tried out on a few weeks at a fixed date.
 *
 * @param life of the generations, in milliseconds; `undefined` for things that never expire
 * @param quiet the quiet window of the plan: how long the old must stay unused before it is given up
 * @param period between two runs of the scheduler
 */
export function checkPolicy(
  policy: RenewPolicy,
  life: Millis | undefined,
  quiet: Millis,
  period: Millis = DEFAULT_PERIOD,
): readonly PolicyProblem[] {
  const { rules, problems: unread } = readRules(policy);
  const problems = [...unread, ...checkLeads(policy, life)];
  const schedule = scheduleOf(policy, life, period);
  if (isContradiction(schedule))
    return [...problems, { level: "error", field: schedule.field, message: schedule.message, next: schedule.next }];
  problems.push(...checkJitter(policy, schedule), ...checkQuiet(schedule, quiet), ...checkPeriod(schedule, period));
  problems.push(...checkFreezes(policy, rules, schedule));
  // A window that could not be read leaves the others without meaning.
  if (unread.length === 0 && rules.windows.length > 0) problems.push(...checkWindows(rules, schedule, period));
  return problems;
}

function checkLeads(policy: RenewPolicy, life: Millis | undefined): PolicyProblem[] {
  const problems: PolicyProblem[] = [];
  const given = (["after", "before", "every"] as const).filter((name) => policy[name] !== undefined);
  if (given.length > 1)
    problems.push({
      level: "error",
      field: given[1]!,
      message: `${given.join(" and ")} each name a date`,
      next: "keep one of after, before and every",
    });
  if (policy.maxAge !== undefined && life !== undefined && policy.maxAge > life)
    problems.push({
      level: "warning",
      field: "maxAge",
      message: `a maximum age of ${sayMillis(policy.maxAge)} is never reached by a life of ${sayMillis(life)}`,
      next: "leave maxAge out, or lower it",
    });
  return problems;
}

function checkJitter(policy: RenewPolicy, { dueAge, jitter, words }: Schedule): PolicyProblem[] {
  if (policy.jitter === undefined || jitter <= dueAge / 2) return [];
  return [
    {
      level: "warning",
      field: "jitter",
      message: `jitter may draw the date forward by ${sayMillis(jitter)}, more than half of the time to it (${words})`,
      next: `set renew.jitter to ${Math.floor((policy.jitter * dueAge * 500) / jitter) / 1000} or less`,
    },
  ];
}

function checkQuiet({ dueAge, jitter }: Schedule, quiet: Millis): PolicyProblem[] {
  const between = dueAge - jitter;
  if (quiet < between) return [];
  return [
    {
      level: "error",
      field: "every",
      message: `the quiet window of ${sayMillis(quiet)} is no shorter than the ${sayMillis(between)} between two rotations: each would be due before the last is finished`,
      next: "rotate less often, or shorten what the quiet window is made of (consumer period, connection age, ticket lifetime)",
    },
  ];
}

function checkPeriod({ dueAge, limitAge }: Schedule, period: Millis): PolicyProblem[] {
  if (limitAge === undefined) return [];
  const lead = limitAge - dueAge;
  if (lead >= 2 * period) return [];
  return [
    {
      level: lead < period ? "error" : "warning",
      field: "after",
      message: `${sayMillis(lead)} between due and the end, and the scheduler runs every ${sayMillis(period)}: ${lead < period ? "a run may come too late" : "no run is left to repeat a failed one"}`,
      next: "renew earlier, ask for a longer life, or run the scheduler more often",
    },
  ];
}

function checkFreezes(policy: RenewPolicy, rules: Rules, schedule: Schedule): PolicyProblem[] {
  const problems: PolicyProblem[] = [];
  for (const [index, freeze] of (policy.freezes ?? []).entries())
    if (freeze.to === undefined)
      problems.push({
        level: "error",
        field: `freezes[${index}].to`,
        message: `the freeze from ${freeze.from} has no end`,
        next: "give it an end; it can be moved later",
      });
  if (schedule.limitAge === undefined) return problems;
  const life = schedule.limitAge;
  const usable = life - earliestAge(schedule);
  for (const freeze of rules.freezes) {
    const length = freeze.end - freeze.start;
    if (!Number.isFinite(length) || length <= usable) continue;
    const ends = length >= life ? "every credential in use expires in it" : "one issued before it may expire in it";
    problems.push({
      level: length >= life ? "error" : "warning",
      field: "freezes",
      message: `a freeze of ${sayMillis(length)} (from ${sayInstant(freeze.start)}) over a life of ${sayMillis(life)}: ${ends}`,
      next: `shorten it to ${sayMillis(usable)}, or ask for a longer life`,
    });
  }
  return problems;
}

function checkWindows(rules: Rules, schedule: Schedule, period: Millis): PolicyProblem[] {
  const problems: PolicyProblem[] = [];
  for (const [index, window] of rules.windows.entries())
    if (window.to - window.from < period)
      problems.push({
        level: "warning",
        field: `windows[${index}]`,
        message: `${window.words} is open for ${sayMillis(window.to - window.from)}, and the scheduler runs every ${sayMillis(period)}: a run may miss it`,
        next: "make the window longer, or run the scheduler more often",
      });
  const stuck = issueWithoutWindow(rules, schedule, period);
  if (stuck !== undefined) {
    const usable = schedule.limitAge! - earliestAge(schedule);
    problems.push({
      level: "error",
      field: "windows",
      message: `one issued at ${sayInstant(stuck)} finds no window (${sayWindows(rules)}) between half-way to due and its end, ${sayMillis(schedule.limitAge!)} later`,
      next: `open a window at least every ${sayMillis(usable)} (now up to ${sayMillis(longestClosed(rules))} apart), or ask for a longer life`,
    });
  }
  return problems;
}

/**
 * Issues happen in windows. An issue at `x` is stuck when no window reaches into [x + half-way, x + limit); going
 * forward in time that begins either with `x` itself or where a window has just ended at x + half-way, so trying
 * those moments of two weeks tries all.
 */
function issueWithoutWindow(rules: Rules, schedule: Schedule, period: Millis): Instant | undefined {
  if (schedule.limitAge === undefined) return undefined;
  const windowsOnly = { windows: rules.windows, freezes: [] };
  // A window that a run may miss before the end is none.
  const until = schedule.limitAge - Math.min(period, Math.floor((schedule.limitAge - schedule.dueAge) / 2));
  const halfWay = earliestAge(schedule);
  if (until - halfWay > longestClosed(rules)) return undefined;
  const from = Date.UTC(2026, 0, 5);
  const spans = openSpans(windowsOnly, from, from + 14 * DAY + halfWay);
  for (const span of spans.filter((one) => one.start < from + 14 * DAY)) {
    const ends = spans.map((other) => other.end - halfWay).filter((x) => x > span.start && x < span.end);
    for (const issue of [span.start, ...ends])
      if (nextOpen(windowsOnly, issue + halfWay, issue + until) === undefined) return issue;
  }
  return undefined;
}
