import { expect, test } from "vitest";
import { cut, table, wrap } from "./layout.ts";
import { bad, bold, dim, good, held, printed, wantsColour, widthOf } from "./paint.ts";

test("a style becomes an escape sequence only where colours are wanted", () => {
  expect(printed(`a ${held("HELD")} b`, false)).toBe("a HELD b");
  expect(printed(`a ${held("HELD")} b`, true)).toBe("a \u001b[1;35mHELD\u001b[0m b");
  expect(widthOf(`a ${held("HELD")} b`)).toBe(8);
});

test("only colours of the terminal's own theme that read on light and on dark", () => {
  const all = [bold, dim, good, held, bad].map((style) => printed(style("x"), true)).join("");
  const codes = [...all.matchAll(/\[([\d;]+)m/g)].flatMap(([, code]) => (code ?? "").split(";"));
  expect(codes.every((code) => ["0", "1", "2", "31", "32", "35"].includes(code))).toBe(true);
});

test.each(["\u001b[31m", "\r", "\u0007", "\u009b2J", "\u202e", "\u2028", "\u007f"])(
  "%j of a peer is shown, not sent",
  (character) => {
    const shown = printed(`a${character}b`, true);
    expect(shown).toMatch(/^a\\u[0-9a-f]{4}.*b$/);
  },
);

test.each([
  { flag: true, env: {}, terminal: true, wanted: true },
  { flag: true, env: {}, terminal: false, wanted: false },
  { flag: true, env: { TERM: "dumb" }, terminal: true, wanted: false },
  { flag: true, env: { NO_COLOR: "1" }, terminal: true, wanted: false },
  { flag: true, env: { NO_COLOR: "" }, terminal: true, wanted: true },
  { flag: true, env: { FORCE_COLOR: "1" }, terminal: false, wanted: true },
  { flag: true, env: { FORCE_COLOR: "0" }, terminal: true, wanted: false },
  { flag: true, env: { FORCE_COLOR: "1", NO_COLOR: "1" }, terminal: false, wanted: true },
  { flag: false, env: { FORCE_COLOR: "1" }, terminal: true, wanted: false },
])("colours: %j", ({ flag, env, terminal, wanted }) => expect(wantsColour(flag, env, terminal)).toBe(wanted));

test("lines are broken at blanks and hang", () => {
  expect(wrap("  aa bb cc dd", 8, 4)).toEqual(["  aa bb", "    cc", "    dd"]);
  expect(wrap("aa averyverylongword bb", 8, 2)).toEqual(["aa", "  averyverylongword", "  bb"]);
  expect(wrap("short", 8, 2)).toEqual(["short"]);
});

test("lines of what a command printed stand below it on a terminal, and are one line in a pipe", () => {
  const printedByIt = "  fail  reload ended with 1: bad\u001b[2J\r\n\tok  closed";
  const lines = wrap(printedByIt, 80, 10);
  expect(lines.map((line) => printed(line, false))).toEqual([
    "  fail  reload ended with 1: bad\\u001b[2J",
    `${" ".repeat(10)} ok  closed`,
  ]);
  expect(wrap(printedByIt, Number.POSITIVE_INFINITY, 10).map((line) => printed(line, false))).toEqual([
    "  fail  reload ended with 1: bad\\u001b[2J\\u000d\\n ok  closed",
  ]);
});

test("a line that is drawn over never wraps", () => {
  expect(cut("0123456789", 10)).toBe("0123456789");
  expect(cut("0123456789a", 10)).toBe("0123456...");
});

test("a table spares its columns from the right to say", () => {
  const columns = [
    { title: "A", spare: 0 },
    { title: "B", spare: 2 },
    { title: "C", spare: 1, right: true },
    { title: "D", spare: 0, wide: true },
  ];
  const rows = [["name", "bbbbbbbbbb", "1", "a state of some length"]];
  const shown = (width: number) => table(columns, rows, width).map((line) => printed(line, false));
  expect(shown(80)).toEqual(["A     B           C  D", "name  bbbbbbbbbb  1  a state of some length"]);
  expect(shown(34)).toEqual(["A     C  D", "name  1  a state of some length"]);
  expect(shown(26)).toEqual(["A     D", "name  a state of some", "      length"]);
});
