import { describe, expect, it, test } from "vitest";
import type { Event, Recorded } from "./events.ts";
import { generation, inventoryOf, Story, second, zero } from "./fixtures/given.ts";
import { emptyLineage, evolve, fold, IllegalEvent, opKey } from "./state.ts";

const op = "shop/1/issued/issue/ca#1";
const issue = { kind: "issue", on: "ca", generation: 2 } as const;
const error = { code: "disk", message: "full", retry: "later" } as const;

describe("events that cannot follow what came before are refused", () => {
  const planned = (): Event => {
    const { plan, rotation } = new Story();
    return { type: "RotationPlanned", rotation: "shop/2", plan: { ...plan, to: 9 }, digest: rotation.digest };
  };
  const running = (): Story => new Story().passed("planned");
  const intended = (): Story => running().intends();
  const refused: readonly [string, () => Story, Event, RegExp][] = [
    ["a second plan while one is under way", running, planned(), /planned while shop\/1 is under way/],
    [
      "adopted in mid-rotation",
      running,
      { type: "GenerationAdopted", generation: generation(5), foundAt: "x" },
      /during a rotation/,
    ],
    [
      "an outcome without an intent",
      running,
      { type: "StepDone", op, step: issue, did: "x", readBack: false },
      /without being intended/,
    ],
    ["a failure without an intent", running, { type: "StepFailed", op, step: issue, error }, /without being intended/],
    [
      "the outcome of another intent",
      intended,
      { type: "StepDone", op: "shop/1/issued/issue/ca#2", step: issue, did: "x", readBack: false },
      /without being intended/,
    ],
    [
      "two intents at once",
      intended,
      { type: "StepIntended", op: "shop/1/x/deliver/file#1", step: issue, attempt: 1 },
      /is pending/,
    ],
    [
      "an intent of what is done",
      () => running().does(),
      { type: "StepIntended", op, step: issue, attempt: 2 },
      /was done already/,
    ],
    [
      "another generation than was intended",
      intended,
      { type: "StepDone", op, step: issue, did: "x", readBack: false, generation: generation(7) },
      /made g7 instead of g2/,
    ],
    ["a stage passed twice", running, { type: "StagePassed", stage: "planned" }, /passed twice/],
    ["a stage passed with an effect in the air", intended, { type: "StagePassed", stage: "issued" }, /is pending/],
    ["closed before its last stage", running, { type: "RotationClosed", grade: "REFUSED" }, /without its last stage/],
    [
      "closed with an effect in the air",
      () => running().passed("closed").intends(),
      { type: "RotationClosed", grade: "REFUSED" },
      /is pending/,
    ],
    ["reverted without being asked", running, { type: "RotationReverted", why: "x" }, /without being asked/],
    [
      "reverted with an effect in the air",
      () => intended().event({ type: "RevertRequested", by: "a", reason: "b" }),
      { type: "RotationReverted", why: "x" },
      /is pending/,
    ],
    [
      "asked to go back twice",
      () => running().event({ type: "RevertRequested", by: "a", reason: "b" }),
      { type: "RevertRequested", by: "a", reason: "b" },
      /reverted twice/,
    ],
    [
      "a look in an inventory that is not the present one",
      () => running().resolved(),
      {
        type: "Observed",
        claim: "stored",
        generation: 2,
        epoch: "sha256:other",
        counts: { yes: 1, no: 0, unknown: 0 },
        exceptions: [],
        evidence: "sha256:",
      },
      /not the current one/,
    ],
    [
      "a look before there is an inventory",
      running,
      {
        type: "Observed",
        claim: "stored",
        generation: 2,
        epoch: "sha256:x",
        counts: { yes: 1, no: 0, unknown: 0 },
        exceptions: [],
        evidence: "sha256:",
      },
      /not the current one/,
    ],
  ];
  it.each(refused)("%s", (_, given, event, why) => {
    const story = given();
    expect(() => story.event(event)).toThrow(IllegalEvent);
    expect(() => given().event(event)).toThrow(why);
  });

  it.each<Event>([
    { type: "RunnerStarted", runner: "a" },
    { type: "StagePassed", stage: "planned" },
    { type: "Waived", member: "x", by: "a", reason: "b", expires: 1 },
    { type: "Approved", by: "a", plan: "sha256:" },
    { type: "RotationClosed", grade: "REFUSED" },
  ])("$type without a rotation under way", (event) => {
    expect(() => evolve(emptyLineage(), { seq: 1, at: zero, event })).toThrow(/without a rotation under way/);
  });

  test("a plan for a generation that exists", () => {
    const story = new Story().event({ type: "RevertRequested", by: "a", reason: "b" });
    story.event({ type: "RotationReverted", why: "x" });
    const event: Event = {
      type: "RotationPlanned",
      rotation: "shop/2",
      plan: { ...story.plan, to: 1 },
      digest: "sha256:",
    };
    expect(() => story.event(event)).toThrow(/g1 exists already/);
  });

  test("a gap in the sequence, and an entry told twice", () => {
    const event: Event = { type: "GenerationAdopted", generation: generation(1), foundAt: "x" };
    expect(() => fold([{ seq: 2, at: zero, event }])).toThrow(/entry 2: follows 0/);
    expect(() =>
      fold([
        { seq: 1, at: zero, event },
        { seq: 1, at: zero, event },
      ]),
    ).toThrow(/entry 1: follows 1/);
  });
});

describe("what the journal adds up to", () => {
  test("a closed rotation: its generation is the one in use, nothing is under way", () => {
    const story = new Story().upTo("closed");
    while (story.decides().move === "perform") story.does();
    story.passed("closed").event({ type: "RotationClosed", grade: "REFUSED" });
    expect(story.lineage).toMatchObject({ current: 2, active: undefined });
    expect([...story.lineage.destroyed]).toEqual([1]);
    expect(story.rotation.end).toMatchObject({ how: "closed", grade: "REFUSED" });
  });

  test("a reverted rotation: the old one is still the one in use", () => {
    const story = new Story().event({ type: "RevertRequested", by: "a", reason: "b" });
    story.event({ type: "RotationReverted", why: "b" });
    expect(story.lineage).toMatchObject({ current: 1, active: undefined });
  });

  test("orphans outlive their rotation", () => {
    const story = new Story().event({ type: "Orphaned", why: "cut off", expires: zero + second });
    story.event({ type: "RevertRequested", by: "a", reason: "b" }).event({ type: "RotationReverted", why: "b" });
    story.event({ type: "Orphaned", why: "found later", expires: zero });
    expect(story.lineage.orphans.map(({ why }) => why)).toEqual(["cut off", "found later"]);
  });

  test("a verdict's `since` holds as long as it does not change", () => {
    const story = new Story().upTo("adopted").does().sees("presented", { "servers-1": "no" });
    const since = (): number => story.rotation.seen.get("presented")!.get("servers-1")!.since;
    story.at(5).sees("presented", { "servers-1": "no" });
    expect(since()).toBe(zero);
    story.at(6).sees("presented", { "servers-1": "unknown" });
    expect(since()).toBe(zero + 6 * second);
  });

  test("the latest disturbance counts, whatever order they are told in", () => {
    const story = new Story().upTo("quiet").sees("silent", { log: "no" }, 9).sees("silent", { log: "no" }, 4);
    expect(story.rotation.disturbedAt).toBe(zero + 9 * second);
  });

  test("a look at some leaves the others as they were", () => {
    const story = new Story().upTo("adopted").does().sees("presented", { "servers-1": "no" });
    const { epoch } = story.rotation;
    const counts = { yes: 1, no: 0, unknown: 0 };
    const round = {
      type: "Observed",
      claim: "presented",
      generation: 2,
      counts,
      exceptions: [],
      evidence: "sha256:",
    } as const;
    story.at(3).event({ ...round, epoch: epoch!, covers: ["servers-1"] });
    const seen = story.rotation.seen.get("presented")!;
    expect([seen.get("servers-1")!.saw, seen.get("servers-1")!.at]).toEqual(["yes", zero + 3 * second]);
    expect(seen.get("servers-2")!.at).toBe(zero);
  });

  test("folding again gives the same, and the entries are left alone", () => {
    const { entries } = long(200);
    const before = JSON.stringify(entries);
    const say = (): string => JSON.stringify(fold(entries), (_, value) => (value instanceof Map ? [...value] : value));
    expect(say()).toBe(say());
    expect(JSON.stringify(entries)).toBe(before);
  });

  test("the key of an op is the op without its try", () => {
    expect(opKey("shop/1/delivered/deliver//etc/a#b.pem#12")).toBe("shop/1/delivered/deliver//etc/a#b.pem");
  });

  test("a hundred thousand entries fold: a rotation held for months, looked at every few minutes", () => {
    const { entries, rounds } = long(100_000);
    const lineage = fold(entries);
    expect(lineage.seq).toBe(entries.length);
    expect(lineage.active?.rounds).toHaveLength(rounds);
    expect(lineage.active?.seen.get("presented")?.size).toBe(2);
  });
});

/** A journal of that many entries: taken up, resolved anew now and then, looked at, held. */
function long(length: number): { entries: Recorded[]; rounds: number } {
  const { plan, rotation } = new Story();
  const entries: Recorded[] = [];
  let rounds = 0;
  const add = (event: Event): void =>
    void entries.push({ seq: entries.length + 1, at: zero + entries.length * second, event });
  add({ type: "GenerationAdopted", generation: generation(1), foundAt: "file" });
  add({ type: "RotationPlanned", rotation: "shop/1", plan, digest: rotation.digest });
  while (entries.length < length) {
    const nth = entries.length % 7;
    const epoch = `sha256:${Math.floor(entries.length / 700)}` as const;
    if (nth === 2) add({ type: "RunnerStarted", runner: "cron" });
    else if (nth === 3) add({ type: "InventoryResolved", epoch, inventory: inventoryOf(plan) });
    else if (nth === 1) add({ type: "Held", stage: "adopted", reasons: [] });
    else if (entries.at(-1)?.event.type === "RotationPlanned")
      add({ type: "InventoryResolved", epoch, inventory: inventoryOf(plan) });
    else {
      const last = entries.findLast((entry) => entry.event.type === "InventoryResolved")?.event;
      if (last?.type !== "InventoryResolved") {
        add({ type: "InventoryResolved", epoch, inventory: inventoryOf(plan) });
        continue;
      }
      rounds += 1;
      const counts = { yes: 1, no: 1, unknown: 0 };
      const exceptions = [{ member: "servers-1", saw: "no" as const, what: "still presents g1" }];
      add({
        type: "Observed",
        claim: "presented",
        generation: 2,
        epoch: last.epoch,
        counts,
        exceptions,
        evidence: "sha256:",
      });
    }
  }
  return { entries, rounds };
}
