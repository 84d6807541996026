import { describe, expect, it } from "vitest";
import type { Target } from "../../src/drivers/roles.ts";
import { GyreError } from "../../src/errors.ts";
import type { Ports } from "../../src/runtime/ports.ts";
import { type Faults, hour, leafOf, type Span, start, type World } from "./world.ts";
import { quietWindow, request, rotate, rotateToEnd, rotationOf, worldWithFirst } from "./world-run.ts";

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

  it("a replica that joined after the removal gave its sessions to nobody we know: waited out", async () => {
    const removed = strategy === "replace" ? "revoked" : "deleted";
    const world = await worldAt({});
    world.beforeBoundary = () => {
      if (!rotationOf(world).passed.some(({ stage }) => stage === removed)) return;
      world.join("replica-3");
      world.beforeBoundary = undefined;
    };
    const { passes, last } = await rotateToEnd(world);
    expect(passes[0]).toMatchObject({ result: "held", stage: "refused" });
    expect(passes[0]).toMatchObject({ reasons: [{ about: "replica-3", claim: "drained", verdict: "unknown" }] });
    expect(last).toEqual({ result: "closed", grade: "REFUSED" });
    const refusedAt = world.entries("Observed").find(({ event }) => event.claim === "refused")!.at;
    expect(rotationOf(world).passed.at(-1)!.at - refusedAt).toBeGreaterThanOrEqual(quietWindow);
  });

  it("sessions of the old one that are still resumed are no end of it", async () => {
    const world = await worldAt({ resumesUntil: 60_000 });
    const outcome = await rotate(world, {});
    expect(outcome).toMatchObject({ result: "held", stage: "refused" });
    expect(outcome).toMatchObject({
      reasons: [0, 1, 2].map((n) => ({ about: `replica-${n}`, claim: "drained", verdict: "no" })),
    });
    expect((await rotateToEnd(world)).last).toEqual({ result: "closed", grade: "REFUSED" });
    expect(world.since()).toBeGreaterThanOrEqual(60_000);
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

  it("a verifier that refuses everybody after the removal has refused nobody (corner D)", async () => {
    const world = await worldAt({ refusesEverybody: { replica: 1, span: [10_001, 40_000] } });
    // From the reload on: everything before it is in order.
    world.onAct = (what) => void (what === "reload" && world.since() >= 10_000 && world.advance(1));
    const outcome = await rotate(world, {});
    expect(outcome).toMatchObject({ result: "held", stage: "refused" });
    const reasons = outcome.result === "held" ? outcome.reasons : [];
    expect(reasons).toContainEqual(
      expect.objectContaining({
        about: "replica-1",
        claim: "refused",
        verdict: "unknown",
        what: expect.stringContaining("an outage or an expired CRL, no proof"),
      }),
    );
    expect(new Set(reasons.map(({ about }) => about))).toEqual(new Set(["replica-1"]));
    expect((await rotateToEnd(world)).last).toEqual({ result: "closed", grade: "REFUSED" });
    expect(world.since()).toBeGreaterThanOrEqual(40_000);
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

describe.each(["replace", "overlap"] as const)(
  "%s: a place that the manifest calls otherwise in mid-rotation",
  (strategy) => {
    const renamed = (ports: Ports): Ports => {
      const [target] = ports.parties.targets;
      return { ...ports, parties: { ...ports.parties, targets: [{ ...target!, id: "/etc/renamed.pem" }] } };
    };
    const underWay = async (): Promise<World> => {
      const reload = strategy === "replace" ? 0 : 1;
      const world = await worldWithFirst(strategy, { diesAtReload: { replica: 1, reload, until: 15_000 } });
      expect(await rotate(world, {})).toMatchObject({ result: "held", stage: "adopted" });
      return world;
    };
    const reason = {
      about: "/etc/shop.pem",
      verdict: "unknown",
      what: expect.stringContaining("no longer in the manifest"),
      release: expect.stringContaining("/etc/shop.pem is named in the manifest again"),
    };

    it("the way back holds, changes nothing, and goes on once it is named again", async () => {
      const world = await underWay();
      request(world, { type: "RevertRequested", by: "ops", reason: "a test" });
      const acts = world.acts.length;
      expect(await rotate(world, { wrap: renamed })).toMatchObject({ result: "held", reasons: [reason] });
      expect(world.acts).toHaveLength(acts);
      expect(world.entries("StepFailed")).toEqual([]);
      expect((await rotateToEnd(world)).last).toMatchObject({ result: "put back" });
    });

    it("cut off in the way back, it is not read back as something else", async () => {
      const world = await underWay();
      request(world, { type: "RevertRequested", by: "ops", reason: "a test" });
      const step = { kind: "restore", on: "/etc/shop.pem", generation: 1 } as const;
      const op = "shop/2/undo-delivered/restore//etc/shop.pem#1";
      request(world, { type: "StepIntended", op, step, attempt: 1 });
      expect(await rotate(world, { wrap: renamed })).toMatchObject({ result: "held", reasons: [reason] });
      expect((await rotateToEnd(world)).last).toMatchObject({ result: "put back" });
    });
  },
);

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

describe.each(["replace", "overlap"] as const)("%s: the clock", (strategy) => {
  it("the old one expires in mid-rotation: it ends by its date, without a hold", async () => {
    const life = 2 * hour;
    for (const before of [3_000, 30_000, 590_000, 610_000]) {
      const world = await worldWithFirst(strategy, {}, life);
      world.advance(life - before);
      const { last, passes } = await rotateToEnd(world, {
        change: (input) => ({ ...input, quiet: { window: 20_000 } }),
      });
      expect(last.result, `${before} ms before`).toBe("closed");
      expect(passes, `${before} ms before`).toHaveLength(1);
      expect(last).toMatchObject({ grade: "EXPIRED" });
      expect(world.judge(world.replicas[0]!, world.old!)).toBe("expired");
    }
    const world = await worldWithFirst(strategy, {}, life);
    world.advance(life - 700_000);
    expect(await rotate(world, {})).toEqual({ result: "closed", grade: "REFUSED" });
  });

  it("a run too short for three looks tells of a hold all the same", async () => {
    const world = await worldWithFirst(strategy, { ignoresReload: { 1: 10 * hour } });
    const { passes } = await rotateToEnd(world, { waitUpTo: 0, pause: 60_000, atMost: 4 });
    expect(passes.map(({ result }) => result)).toContain("held");
    const uncounted = await worldWithFirst(strategy, { uncounted: [0, 10 * hour] });
    const blind = await rotateToEnd(uncounted, { waitUpTo: 0, pause: 60_000, atMost: 4 });
    expect(blind.passes.map(({ result }) => result)).toContain("held");
  });

  it("one bad look in a short run is no hold", async () => {
    const world = await worldWithFirst(strategy, { down: { 1: [0, 100_000] } });
    const { passes } = await rotateToEnd(world, { waitUpTo: 0, pause: 60_000, atMost: 1 });
    expect(passes.map(({ result }) => result)).toEqual(["waiting"]);
  });

  it("put back by hand on the way back, where somebody else had changed the target", async () => {
    // overlap reloads its pins first.
    const reload = strategy === "replace" ? 0 : 1;
    const world = await worldWithFirst(strategy, { diesAtReload: { replica: 1, reload, until: 15_000 } });
    expect(await rotate(world, {})).toMatchObject({ result: "held", stage: "adopted" });
    request(world, { type: "RevertRequested", by: "ops", reason: "a test" });
    const delivered = world.stored!;
    world.stored = { ...delivered, certificate: world.ca.certificate.pem };
    expect(await rotate(world, {})).toMatchObject({ result: "stuck" });
    world.stored = world.oldUnit;
    expect((await rotateToEnd(world)).last).toMatchObject({ result: "put back" });
    expect(world.truth(world.old!).presents).toHaveLength(3);
  });
});

describe("sensors", () => {
  const scene = async (span: Span, oldUser: Span): Promise<World> => {
    const world = await worldWithFirst("replace", {
      blindSensor: { sensor: 0, span },
      oldUser: { at: 0, span: oldUser },
    });
    expect((await rotateToEnd(world)).last).toEqual({ result: "closed", grade: "REFUSED" });
    return world;
  };
  const removedAt = (world: World): number =>
    world.entries("StepIntended").find(({ event }) => event.step.kind === "retire")!.at - start;

  it("a sensor that was blind when the window began, or in between and found so, begins it again when it sees", async () => {
    // Blind at adoption; it sees again in mid-window, with the old one used meanwhile and never recorded.
    const world = await scene([0, 8_000], [0, 8_000]);
    expect(removedAt(world)).toBeGreaterThanOrEqual(8_000 + quietWindow);
  });

  it("without a gap the window is not prolonged", async () => {
    const world = await scene([0, 0], [0, 0]);
    expect(removedAt(world)).toBe(quietWindow);
  });

  it("a use right after adoption, written down with the second in which the window began, begins it again", async () => {
    const world = await worldWithFirst("replace", { latency: 7 });
    let usedAt = 0;
    world.beforeBoundary = () => {
      if (!rotationOf(world).passed.some(({ stage }) => stage === "adopted")) return;
      world.beforeBoundary = undefined;
      usedAt = world.now;
      world.record(usedAt, world.old!.serial, undefined, "replica-0");
    };
    expect((await rotateToEnd(world)).last).toEqual({ result: "closed", grade: "REFUSED" });
    const adopted = rotationOf(world).passed.find(({ stage }) => stage === "adopted")!.at;
    expect(adopted % 1000, "the window began within a second").toBeGreaterThan(0);
    const uses = world.entries("Observed").filter(({ event }) => event.claim === "silent" && event.counts.no > 0);
    expect(uses, "seen, and once").toHaveLength(1);
    expect(removedAt(world) + start).toBeGreaterThanOrEqual(usedAt + quietWindow);
  });

  it("a use seen by one sensor makes the other one speak for the new window too", async () => {
    const world = await worldWithFirst("replace", { oldUser: { at: 1, span: [0, 9_500] } });
    expect((await rotateToEnd(world)).last).toEqual({ result: "closed", grade: "REFUSED" });
    const last = world.entries("Observed").findLast(({ event }) => event.claim === "silent")!;
    expect(last.event.covers, "all of them").toBeUndefined();
    expect(removedAt(world)).toBeGreaterThanOrEqual(9_000 + quietWindow);
  });
});

describe("late effects", () => {
  it("a delivery that lands after it was read back as absent is no conflict", async () => {
    const world = await worldWithFirst("replace", {});
    let late: (() => Promise<unknown>) | undefined;
    const wrap = (ports: Ports): Ports => {
      const [target] = ports.parties.targets;
      const { instance } = target!;
      let tries = 0;
      const deliver: Target["deliver"] = async (...args) => {
        if (++tries > 1) return instance.deliver(...args);
        late = () => instance.deliver(...args);
        throw new GyreError({ code: "unreachable", message: "no answer within its time", retry: "read back" });
      };
      return { ...ports, parties: { ...ports.parties, targets: [{ ...target!, instance: { ...instance, deliver } }] } };
    };
    // It lands once the failure is written down.
    world.beforeBoundary = () => {
      if (late === undefined || world.entries("StepFailed").length === 0) return;
      const landing = late;
      late = undefined;
      void landing();
    };
    expect((await rotateToEnd(world, { wrap })).last).toEqual({ result: "closed", grade: "REFUSED" });
    expect(world.acts.filter(({ what }) => what === "deliver")).toHaveLength(1);
    expect(world.entries("StepFailed")).toHaveLength(1);
  });
});
