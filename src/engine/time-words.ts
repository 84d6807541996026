import type { Instant, Millis } from "./model.ts";
import { DAY, HOUR, MINUTE } from "./renew-policy.ts";

const units: readonly (readonly [Millis, string])[] = [
  [DAY, "d"],
  [HOUR, "h"],
  [MINUTE, "min"],
  [1000, "s"],
];

/** A length of time in its two largest units, cut off rather than rounded: `3 h 57 min`, `10 d 8 h`, `0 s`. */
export function sayMillis(length: Millis): string {
  if (!Number.isFinite(length)) return "for ever";
  const parts: string[] = [];
  let rest = Math.abs(length);
  const first = units.findIndex(([size]) => rest >= size);
  if (first < 0) return "0 s";
  for (const [size, name] of units.slice(first, first + 2)) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count} ${name}`);
  }
  return parts.join(" ");
}

/** An instant in UTC to the second, or to the minute where the seconds are zero: `2026-03-29T01:00Z`. */
export function sayInstant(instant: Instant): string {
  if (!Number.isFinite(instant) || Math.abs(instant) > 8.64e15) return "never";
  return new Date(instant).toISOString().replace(/(:00)?\.\d{3}Z$/, "Z");
}

/** `66 %`, `33.3 %`. */
export function sayShare(share: number): string {
  return `${Math.round(share * 1000) / 10} %`;
}
