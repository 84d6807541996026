import { beforeAll, describe, expect, it } from "vitest";
import { canPutBack } from "../../src/engine/decide.ts";
import { opKey } from "../../src/engine/state.ts";
import { parseCertificates } from "../../src/pki/certificate.ts";
import { parseCrl } from "../../src/pki/crl.ts";
import { type CrashPoint, hour, leafOf, type World } from "./world.ts";
import { isEnd, lineageOf, type Persistence, request, rotateToEnd, rotationOf, worldWithFirst } from "./world-run.ts";

/** Everything that should not depend on whether somebody pulled the plug on the way. */
function stateOf(world: World) {
  const lineage = lineageOf(world);
  const rotation = rotationOf(world);
  const done = world.entries("StepDone").map(({ event }) => opKey(event.op));
  const count = (what: string): number => world.acts.filter((act) => act.what === what).length;
  return {
    end: rotation.end?.how === "closed" ? rotation.end.grade : rotation.end?.how,
    current: lineage.current,
    holds: rotation.holds.length,
    orphans: lineage.orphans.length,
    issued: world.issued.map((one) => one.revoked),
    stored: [...lineage.generations.values()].find(
      ({ fingerprint }) => fingerprint === leafOf(world.stored!.certificate).fingerprint,
    )?.number,
    copyKept: world.previous !== undefined,
    trust: trusted(world),
    old: world.truth(world.old!),
    next: world.truth(leafOf(world.stored!.certificate)),
    secrets: [...world.secrets.keys()].sort(),
    // Effects that must not happen twice; a reload, a retire and a deletion may.
    once: { issue: count("issue"), deliver: count("deliver"), restore: count("restore"), put: count("put") },
    doneTwice: done.filter((key, index) => done.indexOf(key) !== index),
    violations: world.violations,
  };
}

function trusted(world: World): number {
  if (world.trust === "") return 0;
  return world.strategy === "overlap" ? parseCertificates(world.trust).length : parseCrl(world.trust).entries.size;
}

const strategies = ["replace", "overlap"] as const;
const moments = ["before", "after"] as const;
const upTo = (n: number): number[] => Array.from({ length: n }, (_, index) => index);

/** The second crash while the run recovers from the first: reading back, writing that down, trying again. */
const twoCrashes = (boundaries: number): CrashPoint[][] =>
  upTo(boundaries - 3).flatMap((boundary) =>
    [2, 3].flatMap((later) =>
      moments.map((when): CrashPoint[] => [
        { boundary, when },
        { boundary: boundary + later, when: "before" },
      ]),
    ),
  );

describe.each(strategies)("%s", (strategy) => {
  const run = async (crashes: readonly CrashPoint[], persistence: Persistence = {}): Promise<World> => {
    const world = await worldWithFirst(strategy, { crashes });
    await rotateToEnd(world, persistence);
    // A second one may be planned for after the end.
    if (crashes.length === 1) expect(world.crashes, "the planned crash happened").toBe(1);
    return world;
  };
  let calm: World;
  let calmState: ReturnType<typeof stateOf>;
  let putBack = 0;
  beforeAll(async () => {
    calm = await run([]);
    calmState = stateOf(calm);
  });

  it("the calm run is what the others are measured by", () => {
    expect(calmState).toMatchObject({
      end: "REFUSED",
      current: 2,
      orphans: 0,
      holds: 0,
      stored: 2,
      copyKept: false,
      old: { presents: [], accepts: [] },
      secrets: ["shop/g2.key"],
      once: { issue: 1, deliver: 1, restore: 0, put: strategy === "overlap" ? 2 : 1 },
      doneTwice: [],
      violations: [],
    });
    expect(calm.boundary).toBeGreaterThan(50);
    expect(calm.effects).toBeGreaterThan(6);
  });

  it.each(moments)("killed %s any boundary and taken up again, it ends in the same state (I11)", async (when) => {
    for (const boundary of upTo(calm.boundary))
      expect(stateOf(await run([{ boundary, when }])), `boundary ${boundary}`).toEqual(calmState);
  });

  it.each(moments)("killed %s any boundary and taken up a day later, it ends in the same state", async (when) => {
    for (const boundary of upTo(calm.boundary)) {
      const world = await worldWithFirst(strategy, { crashes: [{ boundary, when }] });
      await rotateToEnd(world, { atMost: 1 });
      world.advance(24 * hour);
      if (lineageOf(world).rotations.length === 1 || rotationOf(world).end === undefined) await rotateToEnd(world);
      expect(stateOf(world), `boundary ${boundary}`).toEqual(calmState);
    }
  });

  it("killed twice, the second time while it recovers from the first, it ends in the same state", async () => {
    for (const crashes of twoCrashes(calm.boundary))
      expect(stateOf(await run(crashes)), JSON.stringify(crashes)).toEqual(calmState);
  });

  it("any effect may take place and answer with a time-out", async () => {
    for (const effect of upTo(calm.effects)) {
      const world = await worldWithFirst(strategy, { timeOuts: [effect] });
      await rotateToEnd(world);
      expect(stateOf(world), `effect ${effect}`).toEqual(calmState);
    }
  });

  it("an issuer that cannot be asked may issue twice, and the journal says so (I7)", async () => {
    let twice = 0;
    for (const crashes of twoCrashes(14)) {
      const world = await worldWithFirst(strategy, { forgetfulIssuer: true, crashes });
      const { last } = await rotateToEnd(world);
      expect(last, JSON.stringify(crashes)).toEqual({ result: "closed", grade: "REFUSED" });
      const { orphans } = lineageOf(world);
      expect(world.issued.length - 2, JSON.stringify(crashes)).toBeLessThanOrEqual(orphans.length);
      for (const orphan of orphans) expect(orphan.expires).toBeGreaterThan(world.now);
      if (world.issued.length > 2) twice += 1;
    }
    expect(twice, "it did issue twice somewhere").toBeGreaterThan(0);
  });

  it("killed once or twice and then asked to go back: the old one is back in place, or the rotation goes on", async () => {
    const schedules = [
      ...moments.flatMap((when) => upTo(calm.boundary).map((boundary) => [{ boundary, when }])),
      ...twoCrashes(calm.boundary),
    ];
    let reverted = 0;
    for (const crashes of schedules) {
      const world = await worldWithFirst(strategy, { crashes });
      await rotateToEnd(world, { atMost: crashes.length });
      const { active } = lineageOf(world);
      if (active === undefined) continue;
      const possible = canPutBack(active);
      if (possible) request(world, { type: "RevertRequested", by: "ops", reason: "a test" });
      const { last } = await rotateToEnd(world);
      if (possible) {
        reverted += 1;
        await expectBack(world, JSON.stringify(crashes));
      } else expect(last, JSON.stringify(crashes)).toEqual({ result: "closed", grade: "REFUSED" });
    }
    expect(reverted).toBeGreaterThan(schedules.length / 4);
  });

  it.each(moments)(
    "killed %s any boundary of the way back, the old one is back in place all the same",
    async (when) => {
      let killed = 0;
      // From one stage after another, up to the last that can be taken back.
      for (const boundary of [5, 7, 10, 14, 20, 28, 36, 44].filter((at) => at < calm.boundary))
        for (const further of upTo(24)) {
          const crashes: CrashPoint[] = [
            { boundary, when: "before" },
            { boundary: boundary + further, when },
          ];
          const world = await worldWithFirst(strategy, { crashes });
          await rotateToEnd(world, { atMost: 1 });
          const { active } = lineageOf(world);
          if (active === undefined || !canPutBack(active)) continue;
          request(world, { type: "RevertRequested", by: "ops", reason: "a test" });
          await rotateToEnd(world);
          await expectBack(world, JSON.stringify(crashes));
          killed += world.crashes - 1;
        }
      expect(killed).toBeGreaterThan(80);
    },
  );

  it("asked to go back beside a running one at any boundary: all the way back or all the way on", async () => {
    let reverted = 0;
    for (const boundary of upTo(calm.boundary)) {
      const world = await worldWithFirst(strategy, {});
      world.beforeBoundary = (here) => {
        if (here === boundary && lineageOf(world).active !== undefined)
          request(world, { type: "RevertRequested", by: "ops", reason: "a test" });
      };
      const { last } = await rotateToEnd(world);
      expect(isEnd(last), `boundary ${boundary}: ${JSON.stringify(last)}`).toBe(true);
      if (last.result === "put back") {
        reverted += 1;
        await expectBack(world, `boundary ${boundary}`);
      } else expect(stateOf(world), `boundary ${boundary}`).toEqual(calmState);
    }
    expect(reverted).toBeGreaterThan(20);
  });

  it("a waiver written beside a running one at any boundary changes nothing else", async () => {
    const later = calm.now + 10 * hour;
    for (const boundary of upTo(calm.boundary)) {
      const world = await worldWithFirst(strategy, {});
      world.beforeBoundary = (here) => {
        if (here === boundary && lineageOf(world).active !== undefined)
          request(world, { type: "Waived", member: "nobody", by: "ops", reason: "a test", expires: later });
      };
      await rotateToEnd(world);
      expect(stateOf(world), `boundary ${boundary}`).toEqual(calmState);
    }
  });

  /** Exactly the old one is in place, as if nothing had been, and the next rotation goes through. */
  async function expectBack(world: World, why: string): Promise<void> {
    const rotation = rotationOf(world);
    expect(rotation.end?.how, why).toBe("reverted");
    const everybody = world.replicas.map(({ id }) => id);
    expect(world.stored, why).toBe(world.oldUnit);
    expect(world.truth(world.old!), why).toEqual({ presents: everybody, accepts: everybody });
    expect(trusted(world), why).toBe(strategy === "overlap" ? 1 : 0);
    const next = world.issued.slice(1);
    expect(
      next.map((one) => one.revoked),
      `${why}: what was issued for nothing is revoked`,
    ).toEqual(next.map(() => true));
    expect(world.issued[0]!.revoked, `${why}: the old one is not`).toBe(false);
    expect(lineageOf(world).orphans.length, why).toBe(next.length);
    expect(world.violations, why).toEqual([]);
    const keys = [...world.secrets.keys()].filter((name) => name.endsWith(".key"));
    expect(keys, why).toEqual(["shop/g1.key"]);
    // Half of the time of these tests, so for some of them only.
    if (++putBack % 6 !== 0) return;
    world.beforeBoundary = undefined;
    const { last } = await rotateToEnd(world);
    expect(last, why).toEqual({ result: "closed", grade: "REFUSED" });
  }
});
