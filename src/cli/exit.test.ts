import { expect, test } from "vitest";
import type { Outcome } from "../runtime/api.ts";
import { exitOfAction, exitOfOutcome, exitOfQuestion, worstOf } from "./exit.ts";

const due = { action: "wait", until: 1, dueAt: 1, urgent: false, because: "" } as const;
const outcomes: readonly (readonly [Outcome, number])[] = [
  [{ result: "closed", rotation: "a/1", grade: "REFUSED", receipt: "" }, 0],
  [{ result: "nothing due", due }, 0],
  [{ result: "held", rotation: "a/1", stage: "adopted", reasons: [] }, 3],
  [{ result: "put back", rotation: "a/1", why: "", failed: true }, 4],
  [{ result: "put back", rotation: "a/1", why: "", failed: false }, 4],
  [{ result: "waiting", rotation: "a/1", stage: "quiet", until: 1, why: "" }, 5],
  [{ result: "stuck", rotation: "a/1", stage: "adopted", reasons: [] }, 6],
];

test.each(outcomes)("rotate: %j ends with %d", (outcome, exit) => expect(exitOfOutcome(outcome)).toBe(exit));

test("going back on request is success for revert, and no closing for rotate", () => {
  expect(exitOfOutcome({ result: "put back", rotation: "a/1", why: "", failed: false }, "back")).toBe(0);
  expect(exitOfOutcome({ result: "put back", rotation: "a/1", why: "", failed: true }, "back")).toBe(4);
});

test.each([
  [[0, 3, 4, 6], 6],
  [[0, 3, 4], 4],
  [[3, 0, 0], 3],
  [[0, 2], 2],
  [[0, 5], 0],
  [[5, 3], 3],
  [[0, 0], 0],
  [[], 0],
] as const)("run: of %j the worst is %d", (codes, worst) => expect(worstOf(codes)).toBe(worst));

test("an error is wrong use, a failure with nothing left of it, or a rotation left half-way", () => {
  expect(exitOfQuestion("manifest")).toBe(2);
  expect(exitOfQuestion("disk")).toBe(1);
  expect(exitOfQuestion("bug")).toBe(1);
  expect(exitOfAction("refused", false)).toBe(2);
  expect(exitOfAction("disk", false)).toBe(4);
  expect(exitOfAction("disk", true)).toBe(6);
  expect(exitOfAction("input", true)).toBe(6);
  expect(exitOfAction("locked", true)).toBe(5);
});
