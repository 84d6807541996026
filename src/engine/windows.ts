import { Temporal } from "temporal-polyfill";
import type { Instant, Millis } from "./model.ts";
import {
  DAY,
  type Freeze,
  HOUR,
  type MaintenanceWindow,
  MINUTE,
  type PolicyProblem,
  type Span,
  weekdays,
} from "./renew-policy.ts";

/** Windows and freezes, read once. Without windows every time that is not frozen is open. */
export interface Rules {
  readonly windows: readonly ReadWindow[];
  /** Sorted, apart from each other. */
  readonly freezes: readonly Span[];
}

interface ReadWindow {
  /** Weekdays on which it starts, 0 is Monday. */
  readonly days: ReadonlySet<number>;
  /** From local midnight; `to` is after `from`, up to 48 h. */
  readonly from: Millis;
  readonly to: Millis;
  readonly zone: string;
  readonly words: string;
}

/** A stretch in which the zone's distance from UTC does not change. */
interface OffsetSpan extends Span {
  readonly offset: Millis;
}

/** The farthest we look for a window: a little over ten years, the longest life. */
export const HORIZON = 4000 * DAY;

/**
 * Reads windows and freezes. What cannot be read is left out and named in `problems`. The caller must not act on
 * rules with problems: without its only window everything would be open.
 */
export function readRules(policy: {
  readonly windows?: readonly MaintenanceWindow[];
  readonly freezes?: readonly Freeze[];
}): { readonly rules: Rules; readonly problems: readonly PolicyProblem[] } {
  const problems: PolicyProblem[] = [];
  const windows = (policy.windows ?? []).flatMap((window, index) => {
    const read = readWindow(window, `windows[${index}]`, problems);
    return read === undefined ? [] : [read];
  });
  const freezes = (policy.freezes ?? []).flatMap((freeze, index) => {
    const read = readFreeze(freeze, `freezes[${index}]`, problems);
    return read === undefined ? [] : [read];
  });
  return { rules: { windows, freezes: merge(freezes) }, problems };
}

function readWindow(window: MaintenanceWindow, field: string, problems: PolicyProblem[]): ReadWindow | undefined {
  const before = problems.length;
  const from = readClock(window.from, false);
  const to = readClock(window.to, true);
  const clockNext = 'write a time of day as "02:00"; an end may be "24:00"';
  const wrong = (name: string, message: string, next: string) =>
    problems.push({ level: "error", field: `${field}.${name}`, message, next });
  if (from === undefined) wrong("from", `"${window.from}" is no time of day`, clockNext);
  if (to === undefined) wrong("to", `"${window.to}" is no time of day`, clockNext);
  if (from !== undefined && from === to)
    wrong("to", `the window starts and ends at ${window.from}`, 'for a whole day write from "00:00" to "24:00"');
  if (!zoneExists(window.zone)) wrong("zone", `"${window.zone}" is no time zone`, 'use an IANA name, "Europe/Berlin"');
  const names: readonly string[] = weekdays;
  for (const day of window.days ?? [])
    if (!names.includes(day)) wrong("days", `"${day}" is no weekday`, `use ${weekdays.join(", ")}`);
  if (window.days?.length === 0) wrong("days", "the window has no days", "name its days, or leave `days` out");
  if (problems.length > before || from === undefined || to === undefined) return undefined;
  return {
    days: new Set((window.days ?? weekdays).map((day) => weekdays.indexOf(day))),
    from,
    to: to < from ? to + DAY : to,
    zone: window.zone,
    words: sayWindow(window),
  };
}

/** `sun 02:00-04:00 Europe/Berlin`. */
export function sayWindow(window: MaintenanceWindow): string {
  return `${window.days === undefined ? "daily" : window.days.join(",")} ${window.from}-${window.to} ${window.zone}`;
}

function readClock(text: string, end: boolean): Millis | undefined {
  const match = /^(\d\d):(\d\d)$/.exec(text);
  if (match === null) return undefined;
  const hours = Number(match[1]);
  const minutes = Number(match[2]);
  if (minutes > 59 || hours > 24 || (hours === 24 && !(end && minutes === 0))) return undefined;
  return hours * HOUR + minutes * MINUTE;
}

function readFreeze(freeze: Freeze, field: string, problems: PolicyProblem[]): Span | undefined {
  const before = problems.length;
  const wrong = (name: string, message: string, next: string) =>
    problems.push({ level: "error", field: `${field}.${name}`, message, next });
  if (!zoneExists(freeze.zone)) {
    wrong("zone", `"${freeze.zone}" is no time zone`, 'use an IANA name, "Europe/Berlin"');
    return undefined;
  }
  const start = readEdge(freeze.from, freeze.zone, "from");
  const end = freeze.to === undefined ? Number.POSITIVE_INFINITY : readEdge(freeze.to, freeze.zone, "to");
  const next = "write a date (2026-12-20) or a date-time (2026-12-20T18:00)";
  if (start === undefined) wrong("from", `"${freeze.from}" is no date`, next);
  if (end === undefined) wrong("to", `"${freeze.to}" is no date`, next);
  // A day that the zone skipped (Pacific/Apia, 2011-12-30) is no mistake, and has nothing to freeze.
  const skipped = start === end && freeze.from === freeze.to && !freeze.from.includes("T");
  if (start !== undefined && end !== undefined && end <= start && !skipped)
    wrong("to", `the freeze ends (${freeze.to}) before it starts (${freeze.from})`, "swap the two");
  if (problems.length > before || start === undefined || end === undefined || skipped) return undefined;
  return { start, end };
}

/** An edge that local clocks show twice, or skip, is put where the freeze is longer. */
function readEdge(text: string, zone: string, edge: "from" | "to"): Instant | undefined {
  try {
    if (/^\d{4}-\d\d-\d\d$/.test(text)) {
      const day = Temporal.PlainDate.from(text);
      return (edge === "from" ? day : day.add({ days: 1 })).toZonedDateTime(zone).epochMilliseconds;
    }
    if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(text)) return undefined;
    if (/(Z|[+-]\d\d:?\d\d)$/.test(text)) return Temporal.Instant.from(text).epochMilliseconds;
    const disambiguation = edge === "from" ? "earlier" : "later";
    return Temporal.PlainDateTime.from(text).toZonedDateTime(zone, { disambiguation }).epochMilliseconds;
  } catch {
    return undefined;
  }
}

function zoneExists(zone: string): boolean {
  try {
    Temporal.Instant.fromEpochMilliseconds(0).toZonedDateTimeISO(zone);
    return true;
  } catch {
    return false;
  }
}

/** The open stretches within [from, until), sorted, apart from each other, clipped to it. */
export function openSpans(rules: Rules, from: Instant, until: Instant): readonly Span[] {
  if (from >= until) return [];
  const open =
    rules.windows.length === 0
      ? [{ start: from, end: until }]
      : merge(rules.windows.flatMap((window) => windowSpans(window, from, until)));
  return subtract(open, rules.freezes).flatMap(({ start, end }) => {
    const clipped = { start: Math.max(start, from), end: Math.min(end, until) };
    return clipped.start < clipped.end ? [clipped] : [];
  });
}

/**
 * The first open stretch that reaches into [from, until); `start` is not before `from`, `end` not after `until`.
 * The stretch looked at doubles, so a window next Sunday costs a week's days and one in ten years ten years'.
 */
export function nextOpen(rules: Rules, from: Instant, until: Instant): Span | undefined {
  for (let at = from, step = 8 * DAY; at < until; at += step, step *= 2) {
    const found = openSpans(rules, at, Math.min(at + step, until))[0];
    if (found !== undefined) return { start: found.start, end: endOf(rules, found, until) };
  }
  return undefined;
}

/** The last open stretch that reaches into [from, until), clipped to it. */
export function lastOpen(rules: Rules, from: Instant, until: Instant): Span | undefined {
  return openSpans(rules, from, until).at(-1);
}

/** A stretch found at the edge of where we looked may go on behind it (windows that touch, or none at all). */
function endOf(rules: Rules, span: Span, until: Instant): Instant {
  for (let reach = 16 * DAY; ; reach *= 2) {
    const limit = Math.min(span.start + reach, until);
    const end = openSpans(rules, span.start, limit)[0]?.end ?? span.end;
    if (end < limit || limit === until) return end;
  }
}

/** When the open stretch around `at` began; looks back over eight days, longer ones are cut there. */
export function openSince(rules: Rules, at: Instant): Instant {
  const before = openSpans(rules, at - 8 * DAY, at).at(-1);
  return before !== undefined && before.end === at ? before.start : at;
}

/**
 * The longest time between two openings that a week can bring, freezes aside. Measured over three weeks at a
 * fixed date, so a night when clocks change may add its hour.
 */
export function longestClosed(rules: Rules): Millis {
  const from = Date.UTC(2026, 0, 5);
  const spans = openSpans({ windows: rules.windows, freezes: [] }, from, from + 21 * DAY);
  let longest = 0;
  for (const [index, span] of spans.entries()) {
    const next = spans[index + 1];
    if (next !== undefined) longest = Math.max(longest, next.start - span.end);
  }
  return longest;
}

/** The words of the rules' windows, for messages. */
export function sayWindows(rules: Rules): string {
  return rules.windows.map((window) => window.words).join("; ");
}

/** Every occurrence of one window that touches [from, until), unclipped. */
function windowSpans(window: ReadWindow, from: Instant, until: Instant): Span[] {
  const spans: Span[] = [];
  // Two days more on either side: a window may have started yesterday, and zones lie up to 15 h from UTC.
  const stretches = offsetSpans(window.zone, from - 2 * DAY, until + 2 * DAY);
  const lastDay = Math.ceil(until / DAY) + 1;
  for (let day = Math.floor(from / DAY) - 3; day <= lastDay; day++) {
    // Day 0 of the epoch was a Thursday.
    if (!window.days.has((((day + 3) % 7) + 7) % 7)) continue;
    const localStart = day * DAY + window.from;
    const localEnd = day * DAY + window.to;
    for (let index = stretchAt(stretches, localStart - DAY); index < stretches.length; index++) {
      const stretch = stretches[index]!;
      if (stretch.start > localEnd + DAY) break;
      const start = Math.max(stretch.start, localStart - stretch.offset);
      const end = Math.min(stretch.end, localEnd - stretch.offset);
      if (start < end) spans.push({ start, end });
    }
  }
  return spans;
}

/** Index of the stretch that holds `at`, by bisection; 0 when it lies before all. */
function stretchAt(stretches: readonly OffsetSpan[], at: Instant): number {
  let low = 0;
  let high = stretches.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (stretches[middle]!.start <= at) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** [from, until) cut where the zone's distance from UTC changes (daylight saving, law, the date line). */
function offsetSpans(zone: string, from: Instant, until: Instant): OffsetSpan[] {
  const spans: OffsetSpan[] = [];
  let here: Temporal.ZonedDateTime | null = Temporal.Instant.fromEpochMilliseconds(from).toZonedDateTimeISO(zone);
  while (here !== null && here.epochMilliseconds < until) {
    const next: Temporal.ZonedDateTime | null = here.getTimeZoneTransition("next");
    spans.push({
      start: here.epochMilliseconds,
      end: Math.min(next?.epochMilliseconds ?? until, until),
      offset: here.offsetNanoseconds / 1e6,
    });
    here = next;
  }
  return spans;
}

function merge(spans: readonly Span[]): Span[] {
  const merged: Span[] = [];
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    const last = merged.at(-1);
    if (last !== undefined && span.start <= last.end)
      merged[merged.length - 1] = { start: last.start, end: Math.max(last.end, span.end) };
    else merged.push(span);
  }
  return merged;
}

/** `spans` without `holes`; both sorted and apart. */
function subtract(spans: readonly Span[], holes: readonly Span[]): Span[] {
  let left = [...spans];
  for (const hole of holes)
    left = left.flatMap(({ start, end }) =>
      [
        { start, end: Math.min(end, hole.start) },
        { start: Math.max(start, hole.end), end },
      ].filter((part) => part.start < part.end),
    );
  return left;
}
