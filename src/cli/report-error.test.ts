import { expect, test } from "vitest";
import { GyreError } from "../errors.ts";
import { jsonText } from "./json.ts";
import { knownName } from "./names.ts";
import { plainText } from "./paint.ts";
import { tellError } from "./report-error.ts";

const marked = "hunter2-very-secret";

function unexpected(): unknown {
  try {
    return JSON.parse(`{"passphrase": ${marked}`);
  } catch (error) {
    return error;
  }
}

test("an error of ours is told whole", () => {
  const error = new GyreError({
    code: "conflict",
    message: "files: /a changed under us; nothing written",
    where: "/b:3:1",
    next: "gyre plan a",
  });
  expect(plainText(tellError(error, { debug: false }).lines)).toBe(
    "gyre: files: /a changed under us; nothing written\n  where: /b:3:1\n  next: gyre plan a",
  );
});

test("a place that the message names already is not repeated", () => {
  const error = new GyreError({ code: "disk", message: "/b:3:1: full", where: "/b:3:1" });
  expect(plainText(tellError(error, { debug: false }).lines)).toBe("gyre: /b:3:1: full");
});

test.each([false, true])("an unexpected error never repeats what it was about (debug: %s)", (debug) => {
  const told = tellError(unexpected(), { debug });
  const text = `${plainText(told.lines)}${jsonText(told.json)}`;
  expect(text).toMatch(/a bug in gyre \([0-9a-f]{8}\): SyntaxError/);
  expect(text).not.toContain("hunter2");
  expect(text.includes("report-error.test.ts")).toBe(debug);
});

test("the same bug has the same id, another one has another", () => {
  const id = (error: unknown) => tellError(error, { debug: false }).json.id;
  const one = () => new TypeError("a is not a function");
  expect(id(unexpected())).toBe(id(unexpected()));
  expect(id(one())).not.toBe(id(unexpected()));
});

test("a bug that was foreseen says what", () => {
  const told = tellError(new GyreError({ code: "bug", message: "a/1 closed without a receipt" }), { debug: false });
  expect(plainText(told.lines)).toMatch(
    /a bug in gyre \([0-9a-f]{8}\): a\/1 closed without a receipt\n {2}next: please report this/,
  );
  expect(told.code).toBe("bug");
});

test("an unknown name is told with the nearest one, or with those there are", () => {
  const told = (name: string) => {
    try {
      return knownName(name, ["shop-tls", "shop-client"]);
    } catch (error) {
      return plainText(tellError(error, { debug: false }).lines);
    }
  };
  expect(told("shop-tls")).toBe("shop-tls");
  expect(told("shop-tsl")).toContain("did you mean shop-tls?");
  expect(told("zzz")).toContain("there are: shop-tls, shop-client");
});

test("JSON has dates as text, lengths as milliseconds, maps as objects", () => {
  const at = Date.UTC(2026, 0, 1);
  expect(
    JSON.parse(
      jsonText({
        at,
        window: 5000,
        map: new Map([[3, { notAfter: at }]]),
        set: new Set(["a"]),
        until: Number.POSITIVE_INFINITY,
        start: 5,
      }),
    ),
  ).toEqual({
    at: "2026-01-01T00:00:00.000Z",
    window: 5000,
    map: { 3: { notAfter: "2026-01-01T00:00:00.000Z" } },
    set: ["a"],
    until: null,
    start: 5,
  });
});
