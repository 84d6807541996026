import { expect, test } from "vitest";
import { parseLength } from "./lengths.ts";
import { commandWords, dueSentence, instantWords, momentWords, relativeWords, spanWords } from "./words.ts";

const blank = (text: string): string => text.replaceAll("\u00a0", " ");

test.each([
  [0, "0 s"],
  [999, "0 s"],
  [99_999, "99 s"],
  [100_000, "1 min"],
  [7_199_999, "119 min"],
  [7_200_000, "2 h"],
  [172_799_999, "47 h"],
  [172_800_000, "2 d"],
  [-5000, "5 s"],
  [Number.POSITIVE_INFINITY, "for ever"],
])("%d ms is said as %s", (length, words) => expect(blank(spanWords(length))).toBe(words));

test("times are said from now", () => {
  const now = Date.UTC(2026, 10, 24, 12);
  expect(blank(relativeWords(now + 7_200_000, now))).toBe("in 2 h");
  expect(blank(relativeWords(now - 4000, now))).toBe("4 s ago");
  expect(relativeWords(now + 1, now)).toBe("now");
  expect(blank(momentWords(now + 7_200_000, now))).toBe("2026-11-24 14:00 UTC (in 2 h)");
  expect(instantWords(Number.POSITIVE_INFINITY)).toBe("never");
});

test("where no window opens in time, it says from when they are passed over", () => {
  const now = Date.UTC(2026, 10, 24, 12);
  const due = { action: "impossible", dueAt: now, because: "no time is open", next: "", urgent: false } as const;
  expect(dueSentence(due, now)).toBe("cannot be renewed in time: no time is open");
  expect(blank(dueSentence({ ...due, overrideAt: now + 7_200_000 }, now))).toMatch(
    /rotated outside of them from 2026-11-24 14:00 UTC \(in 2 h\) \(whenLate: rotate\)$/,
  );
});

test("a command can be copied into a shell", () => {
  expect(blank(commandWords("verify", "/a b/it's.json", "--key", "PIN"))).toBe(
    "gyre verify '/a b/it'\\''s.json' --key PIN",
  );
  expect(commandWords("waive", "shop-tls", "[::1]:443")).not.toContain(" ");
});

test.each([
  ["30s", 30_000],
  ["1h30m", 5_400_000],
  ["7d", 604_800_000],
  ["500ms", 500],
  ["0", 0],
])("the length %s", (text, length) => expect(parseLength(text)).toBe(length));

test.each(["", "10", "-5m", "5 m", "1y", "m", "1e3s", "99999999999999w"])("no length: %s", (text) =>
  expect(parseLength(text)).toBeUndefined(),
);
