import { expect, test } from "vitest";
import { inventoryOf, party, Story } from "../engine/fixtures/given.ts";
import { receiptOf } from "./receipts.ts";

const receipt = (story: Story) =>
  receiptOf(story.lineage, story.rotation, { seq: story.lineage.seq, hash: "0".repeat(64) }, "0.1.0");
const closed = (story: Story) => {
  story.upTo("closed");
  for (let move = story.decides(); move.move !== "close"; move = story.decides())
    if (move.move === "perform") story.does();
    else story.passed("closed");
  return receipt(story.event({ type: "RotationClosed", grade: "REFUSED" }));
};

test("who left the inventory during the rotation is named as unproven; who came back is not", () => {
  const story = new Story().upTo("adopted").resolved();
  const { members } = inventoryOf(story.plan);
  const without = (id: string) => ({
    members: { ...members, verifier: members.verifier.filter((member) => member.id !== id) },
  });
  story.resolved(without("doors-1")).resolved().resolved(without("doors-2"));
  const { notProvable } = closed(story);
  expect(notProvable.filter((gap) => gap.includes("no longer when it ended"))).toEqual([
    "anything of doors-2 (verifier): in the inventory during the rotation, and no longer when it ended",
  ]);
  expect(closed(new Story()).notProvable.join()).not.toContain("no longer when it ended");
});

test("verifiers that no sensor watches are said to be unwatched", () => {
  const watched = { sensors: [party("log-1"), party("log-2")] };
  expect(closed(new Story()).notProvable.join()).toContain("1 sensors watch, and there are 2 verifiers");
  expect(closed(new Story(watched)).notProvable.join()).not.toContain("without a sensor");
});

test("silence is claimed only where every sensor said so", () => {
  expect(closed(new Story()).quiet.silentSince).toBeDefined();
  const waived = new Story({ sensors: [party("log-1"), party("log-2")] });
  waived.upTo("closed").waived("log-2", 9999).sees("silent", { "log-2": "no" });
  expect(closed(waived).quiet.silentSince).toBeUndefined();
});

test("a waiver that had run out counts for nothing on the receipt either", () => {
  const until = (seconds: number) => new Story().waived("doors-1", seconds, "refused");
  const verdicts = (story: Story) => closed(story).verdicts.map(({ member, verdict }) => [member, verdict]);
  expect(verdicts(until(1))).toEqual([
    ["doors-1", "refused"],
    ["doors-2", "refused"],
  ]);
  expect(verdicts(until(9999))[0]).toEqual(["doors-1", "waived"]);
});
