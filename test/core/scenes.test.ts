import { describe, expect, it } from "vitest";
import type { Ports } from "../../src/runtime/ports.ts";
import { type Faults, hour, leafOf, type World } from "./world.ts";
import { rotate, rotateToEnd, rotationOf, worldWithFirst } from "./world-run.ts";

/** Single situations that random schedules meet too seldom. */
describe.each(["replace", "overlap"] as const)("%s", (strategy) => {
  const worldAt = async (faults: Faults, prepare?: (world: World) => void): Promise<World> => {
    const world = await worldWithFirst(strategy, faults);
    prepare?.(world);
    return world;
  };

  it("a replica that returns with the old one after it was taken away is seen and named", async () => {
    const world = await worldAt({ away: { replica: 2, span: [1, 600_000], loadsAt: 600_000 } });
    world.advance(1);
    const removed = strategy === "replace" ? "revoked" : "deleted";
    world.beforeBoundary = () => {
      if (!rotationOf(world).passed.some(({ stage }) => stage === removed)) return;
      // Its trust is the present one; only what it presents is old.
      const { certificate } = world.replicas[2]!;
      world.load(world.replicas[2]!);
      Object.assign(world.replicas[2]!, { certificate, gone: false });
      world.beforeBoundary = undefined;
    };
    const outcome = await rotate(world, {});
    expect(outcome).toMatchObject({ result: "held", stage: "refused" });
    const reasons = outcome.result === "held" ? outcome.reasons : [];
    expect(reasons[0]).toMatchObject({
      about: "replica-2",
      claim: "presented",
      verdict: "no",
      what: "still presents g1",
    });
    expect(new Set(reasons.map(({ about }) => about))).toEqual(new Set(["replica-2"]));
    world.load(world.replicas[2]!);
    expect((await rotateToEnd(world)).last).toEqual({ result: "closed", grade: "REFUSED" });
    expect(world.truth(world.old!).presents).toEqual([]);
  });

  it("a reload that kills a server in the last stage is no success", async () => {
    // replace reloads target and CRL store; overlap pins, target, pins.
    const reload = strategy === "replace" ? 1 : 2;
    const world = await worldAt({ diesAtReload: { replica: 1, reload, until: 60_000 } });
    const outcome = await rotate(world, {});
    expect(outcome).toMatchObject({ result: "held", stage: "refused" });
    const { last } = await rotateToEnd(world);
    expect(last).toEqual({ result: "closed", grade: "REFUSED" });
    expect(world.since()).toBeGreaterThanOrEqual(60_000);
  });

  it("somebody puts the old one back after delivery: held until it is undone", async () => {
    const world = await worldAt({ overwritten: [5_000, 60_000] });
    const outcome = await rotate(world, {});
    expect(outcome).toMatchObject({ result: "held" });
    const { last } = await rotateToEnd(world);
    expect(last).toEqual({ result: "closed", grade: "REFUSED" });
    expect(world.since()).toBeGreaterThanOrEqual(60_000);
    expect(leafOf(world.stored!.certificate).fingerprint).not.toBe(world.old!.fingerprint);
  });
});

describe("inventory", () => {
  it("an entry of the plan that the manifest no longer names is not proven by the others (I13)", async () => {
    const world = await worldWithFirst("replace", {});
    const twoVerifiers = (ports: Ports): Ports => {
      const [verifier] = ports.parties.verifiers;
      return { ...ports, parties: { ...ports.parties, verifiers: [verifier!, { ...verifier!, id: "edge" }] } };
    };
    // Planned with two entries; then one is taken out of the manifest.
    expect(await rotate(world, { wrap: twoVerifiers, waitUpTo: 0 })).toMatchObject({ result: "waiting" });
    const outcome = await rotate(world, {});
    expect(outcome).toMatchObject({ result: "held" });
    expect(JSON.stringify(outcome)).toContain("edge of the plan has no verifiers");
    expect((await rotateToEnd(world, { wrap: twoVerifiers })).last).toEqual({ result: "closed", grade: "REFUSED" });
  });

  it("an entry that lists nobody is not proven by the others (I13)", async () => {
    const world = await worldWithFirst("replace", {});
    const withEmpty = (ports: Ports): Ports => {
      const [presenter] = ports.parties.presenters;
      const empty = { ...presenter!, id: "edge", instance: { ...presenter!.instance, members: async () => [] } };
      return { ...ports, parties: { ...ports.parties, presenters: [presenter!, empty] } };
    };
    const outcome = await rotate(world, { wrap: withEmpty });
    expect(outcome).toMatchObject({ result: "held", stage: "adopted" });
    expect(JSON.stringify(outcome)).toContain("edge of the plan has no replicas");
  });
});

describe.each(["replace", "overlap"] as const)("%s: time runs out", (strategy) => {
  it("the old one expires after it was seen refused and its key destroyed: closed all the same", async () => {
    const calm = await worldWithFirst(strategy, {});
    await rotate(calm, {});
    // Right before the end is written.
    const world = await worldWithFirst(strategy, { crashes: [{ boundary: calm.boundary - 1, when: "before" }] });
    await rotateToEnd(world, { atMost: 1 });
    expect(world.secrets.has("shop/g1.key")).toBe(false);
    world.now = world.old!.notAfter + hour;
    expect(await rotate(world, {})).toEqual({ result: "closed", grade: "REFUSED" });
  });
});
