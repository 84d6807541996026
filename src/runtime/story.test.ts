import { expect, test } from "vitest";
import type { Event, Recorded } from "../engine/events.ts";
import { timelineOf } from "./story.ts";

const observed = (over: Partial<Event & { type: "Observed" }>): Recorded => ({
  seq: 1,
  at: 0,
  event: {
    type: "Observed",
    claim: "presented",
    generation: 4,
    epoch: "sha256:e",
    counts: { yes: 2, no: 1, unknown: 0 },
    exceptions: [{ member: "10.0.0.3:443", saw: "no", what: "still presents g3" }],
    evidence: "sha256:f",
    ...over,
  },
});
const words = (entry: Recorded) => timelineOf([entry])[0]?.words;

test("a round over all members counts them all", () => {
  expect(words(observed({}))).toBe("2/3 replicas present g4; 10.0.0.3:443 still presents g3");
});

test("a round over nobody says what that means", () => {
  const nobody = { counts: { yes: 0, no: 0, unknown: 0 }, exceptions: [], claim: "accepted" } as const;
  expect(words(observed(nobody))).toBe("no verifiers are known, so nothing was seen of g4");
});

test("a round over those that were missing says that it looked at no more", () => {
  const again = { covers: ["10.0.0.3:443"], counts: { yes: 0, no: 1, unknown: 0 } };
  expect(words(observed(again))).toBe("0 of the 1 replicas looked at present g4; 10.0.0.3:443 still presents g3");
});
