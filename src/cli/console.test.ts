import { expect, test } from "vitest";
import { Console } from "./console.ts";
import { held } from "./paint.ts";

/** A terminal as a list of what was written to it. */
function terminal(
  over: { columns?: number; tty?: boolean; json?: boolean; quiet?: boolean; env?: Record<string, string> } = {},
) {
  const out: string[] = [];
  const err: string[] = [];
  const stream = (to: string[]) => ({
    write: (text: string) => to.push(text),
    isTTY: over.tty ?? true,
    columns: over.columns ?? 40,
  });
  const console = new Console({
    out: stream(out),
    err: stream(err),
    env: over.env ?? { TERM: "xterm" },
    json: over.json ?? false,
    colour: true,
    quiet: over.quiet ?? false,
    now: () => 0,
  });
  return { console, out, err };
}

const eraseLine = "\r\u001b[K";

test("on a terminal the line that is drawn over is erased before anything else is said", () => {
  const { console, out } = terminal();
  const live = console.live(() => "going on");
  console.say(["first"]);
  expect(out.join("")).toMatch(/^first\n\r.*going on.*\u001b\[K$/);
  console.say(["second"]);
  expect(out.slice(2).join("").startsWith(`${eraseLine}second\n`)).toBe(true);
  live.stop();
  expect(out.at(-1)).toBe(eraseLine);
});

test("the line that is drawn over is cut to the terminal", () => {
  const { console, out } = terminal({ columns: 40 });
  console.live(() => "x".repeat(100)).stop();
  console.live(() => "x".repeat(100));
  console.say(["a"]);
  expect(out.join("")).toContain(`${"x".repeat(36)}...`);
  expect(out.join("")).not.toContain("x".repeat(40));
});

test.each([{ tty: false }, { json: true }, { quiet: true }, { env: { TERM: "dumb" } }])(
  "no line is drawn over: %j",
  (over) => {
    const { console, out } = terminal(over);
    const live = console.live(() => "going on");
    console.say(["first"]);
    live.stop();
    expect(out.join("")).not.toContain("going on");
  },
);

test("a pipe gets unbroken lines without a colour, a terminal both", () => {
  expect(terminal({ tty: false }).console.width).toBe(Number.POSITIVE_INFINITY);
  const piped = terminal({ tty: false });
  piped.console.say([held("HELD")]);
  expect(piped.out.join("")).toBe("HELD\n");
  const shown = terminal();
  shown.console.say([held("HELD")]);
  expect(shown.out.join("")).toBe("\u001b[1;35mHELD\u001b[0m\n");
});

test("--json silences what is said and prints the object", () => {
  const { console, out } = terminal({ json: true });
  console.say(["text"]);
  console.data({ a: 1 });
  expect(JSON.parse(out.join(""))).toEqual({ a: 1 });
});

test("errors are broken at blanks, but a line of a manifest stays with its carets", () => {
  const { console, err } = terminal({ columns: 40 });
  const code = "   11 |   issue: { issuer: lab-root, dnsName: [shop.example] }";
  console.complain(["gyre: a sentence that is longer than forty columns are", code]);
  expect(err.join("")).toBe(`gyre: a sentence that is longer than\n        forty columns are\n${code}\n`);
});
