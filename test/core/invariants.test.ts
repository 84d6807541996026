import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ClaimName, Role } from "../../src/engine/model.ts";
import { parseCertificates } from "../../src/pki/certificate.ts";
import { parseCrl } from "../../src/pki/crl.ts";
import { passingFaults, times } from "./fault-schedules.ts";
import { hour, leafOf, start, type World, type WorldStrategy } from "./world.ts";
import {
  lineageOf,
  type portsOf,
  quietWindow,
  request,
  rotate,
  rotateToEnd,
  rotationOf,
  timing,
  worldWithFirst,
} from "./world-run.ts";

/** One property per invariant of docs/ARCHITECTURE.md; I6 and I12 have files of their own. */

const strategies = ["replace", "overlap"] as const;

/** The replicas that are there and in the inventory as the runner knows it. */
function counted(world: World) {
  const known = new Set(
    world
      .entries("InventoryResolved")
      .at(-1)
      ?.event.inventory.members.verifier.map(({ id }) => id),
  );
  return world.replicas.filter((replica) => !replica.gone && known.has(replica.id));
}

/** The trust of the estate no longer carries the old one, whatever anybody loaded. */
const isTakenAway = (world: World): boolean =>
  world.strategy === "overlap"
    ? !parseCertificates(world.trust).some((one) => one.fingerprint === world.old!.fingerprint)
    : world.trust !== "" && parseCrl(world.trust).entries.has(world.old!.serial);

/** Removal: the two ways it begins and goes on. */
const removing = /\/revoked\/(retire|publish)\/|\/deleted\/withdraw\//;

describe.each(strategies)("%s", (strategy: WorldStrategy) => {
  it("I1: every server always accepts something that consumers hold, on the way there and back", async () => {
    await fc.assert(
      fc.asyncProperty(passingFaults(), fc.nat({ max: 80 }), async (faults, turn) => {
        const world = await worldWithFirst(strategy, faults);
        world.beforeBoundary = (here) => {
          const { active } = lineageOf(world);
          if (here === turn && active !== undefined && active.reverting === undefined)
            request(world, { type: "RevertRequested", by: "ops", reason: "a test" });
        };
        const { last, passes } = await rotateToEnd(world);
        expect(["closed", "put back"], JSON.stringify(passes.at(-1))).toContain(last.result);
        expect(world.violations).toEqual([]);
        if (last.result === "put back") {
          expect(world.stored).toBe(world.oldUnit);
          const there = counted(world).map(({ id }) => id);
          expect(world.truth(world.old!).presents).toEqual(expect.arrayContaining(there));
          expect(world.truth(world.old!).accepts).toEqual(expect.arrayContaining(there));
        }
      }),
      times(80),
    );
  });

  it("I2: nothing is presented before every verifier accepts it", async () => {
    await fc.assert(
      fc.asyncProperty(passingFaults("joinsAt", "away"), async (faults) => {
        const world = await worldWithFirst(strategy, faults);
        const early: string[] = [];
        world.beforeBoundary = () => {
          for (const { certificate } of world.replicas)
            for (const verifier of world.replicas)
              if (
                world.judge(verifier, leafOf(certificate)) !== "accepted" &&
                certificate !== world.oldUnit?.certificate
              )
                early.push(`${verifier.id} at ${world.since()}`);
        };
        await rotateToEnd(world);
        expect(early).toEqual([]);
      }),
      times(60),
    );
  });

  it("I3: nothing is taken away while anybody presents or needs it", async () => {
    await fc.assert(
      fc.asyncProperty(passingFaults(), async (faults) => {
        const world = await worldWithFirst(strategy, faults);
        const needed: string[] = [];
        let removals = 0;
        world.onAct = (what) => {
          const removes = what === `retire ${world.old!.serial}` || (what === "put" && isTakenAway(world));
          if (!removes) return;
          removals += 1;
          const next = leafOf(world.stored!.certificate);
          for (const replica of counted(world)) {
            if (leafOf(replica.certificate).fingerprint === world.old!.fingerprint)
              needed.push(`${replica.id} presents`);
            if (world.judge(replica, next) !== "accepted") needed.push(`${replica.id} does not take the new one`);
          }
        };
        await rotateToEnd(world);
        expect(needed).toEqual([]);
        if (rotationOf(world).end?.how === "closed") expect(removals).toBeGreaterThan(0);
      }),
      times(80),
    );
  });

  it("I4: each removal rests on looks at everybody, in the present inventory, none stale", async () => {
    await fc.assert(
      fc.asyncProperty(passingFaults(), fc.constantFrom(5_000, 20 * 60_000), async (faults, pause) => {
        const world = await worldWithFirst(strategy, faults);
        await rotateToEnd(world, {
          pause,
          between: (w) => (rotationOf(w).end === undefined ? w.advance(pause) : undefined),
        });
        expect(unfounded(world)).toEqual([]);
      }),
      times(80),
    );
  });

  it("I5: what cannot be seen is neither accepted nor refused, and is named", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: 2 }), fc.nat({ max: 20_000 }), async (replica, from) => {
        const world = await worldWithFirst(strategy, { down: { [replica]: [from, 10_000 * hour] } });
        const { last } = await rotateToEnd(world, { atMost: 3 });
        if (last.result === "closed") {
          // Over before it went down.
          expect(world.since()).toBeLessThanOrEqual(from);
          return;
        }
        expect(last.result).toBe("held");
        const reasons = last.result === "held" ? last.reasons : [];
        expect(reasons.length).toBeGreaterThan(0);
        for (const { about, verdict, claim } of reasons) {
          expect(verdict).toBe("unknown");
          expect(claim === "silent" ? `replica-${about.match(/\d/)?.[0]}` : about).toBe(`replica-${replica}`);
        }
      }),
      times(40),
    );
  });

  it("I7: one generation is issued once, or the journal has the other as an orphan with its expiry", async () => {
    await fc.assert(
      fc.asyncProperty(passingFaults("issuerAwayUntil"), fc.boolean(), async (faults, forgetfulIssuer) => {
        const world = await worldWithFirst(strategy, { ...faults, forgetfulIssuer });
        await rotateToEnd(world);
        const { orphans, generations } = lineageOf(world);
        expect(world.issued.length).toBeLessThanOrEqual(generations.size + orphans.length);
        if (!forgetfulIssuer) expect(world.issued.length).toBe(2);
        for (const { expires } of orphans) expect(expires).toBeGreaterThan(start);
      }),
      times(60),
    );
  });

  it("I8: what is not proven closes only under a waiver by name, while it lasts, and for the others it is proven", async () => {
    const lasting = fc.integer({ min: 1, max: 60_000 });
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: 2 }), fc.option(lasting), fc.nat({ max: 5 }), async (deaf, lasts, pass) => {
        const world = await worldWithFirst(strategy, { ignoresReload: { [deaf]: 10_000 * hour } });
        const member = `replica-${deaf}`;
        let expires: number | undefined;
        const between = (_: World, passes: number): void => {
          if (passes !== pass + 1 || lasts === null) return;
          expires = world.now + lasts;
          request(world, { type: "Waived", member, by: "anna", reason: "it is replaced tomorrow", expires });
        };
        const { last } = await rotateToEnd(world, { atMost: 12, between });
        if (last.result !== "closed") {
          expect(last).toMatchObject({ result: "held" });
          // By itself, or as the server that the sensor's heartbeat goes to.
          expect(JSON.stringify(last)).toContain(member);
          return;
        }
        const graded = rotationOf(world).passed.find(({ stage }) => stage === "refused")!;
        expect(expires).toBeGreaterThan(graded.at);
        expect(world.entries("Waived")[0]!.event).toMatchObject({
          by: "anna",
          reason: "it is replaced tomorrow",
          expires,
        });
        expect(world.truth(world.old!).accepts.filter((id) => id !== member)).toEqual([]);
        expect(world.truth(world.old!).presents.filter((id) => id !== member)).toEqual([]);
      }),
      {
        ...times(60),
        examples: [
          [1, 50_000, 0],
          [1, null, 0],
        ],
      },
    );
  });

  it("I9: no step without a way back before somebody approved this very plan", async () => {
    await fc.assert(
      fc.asyncProperty(passingFaults("issuerAwayUntil"), fc.nat({ max: 6 }), async (faults, pass) => {
        const world = await worldWithFirst(strategy, faults);
        const between = (_: World, passes: number): void => {
          const { active } = lineageOf(world);
          if (active === undefined) return;
          if (passes === pass) request(world, { type: "Approved", by: "mallory", plan: "sha256:another" });
          if (passes === pass + 3) request(world, { type: "Approved", by: "anna", plan: active.digest });
        };
        const change: Parameters<typeof rotate>[1]["change"] = (input) => ({ ...input, approval: "required" });
        const { last } = await rotateToEnd(world, { between, change });
        const approvedAt = world.entries("Approved").find(({ event }) => event.by === "anna")?.seq ?? Infinity;
        const final = world
          .entries("StepIntended")
          .filter(({ event }) => /^shop\/2\/(revoked|deleted|closed)\//.test(event.op));
        for (const { seq, event } of final) expect(approvedAt, event.op).toBeLessThan(seq);
        expect(final.some(({ event }) => removing.test(event.op))).toBe(true);
        expect(last).toEqual({ result: "closed", grade: "REFUSED" });
        expect(final.length).toBeGreaterThan(1);
      }),
      times(60),
    );
  });

  it("I10: success is told only of what the journal has as closed", async () => {
    await fc.assert(
      fc.asyncProperty(passingFaults(), async (faults) => {
        const world = await worldWithFirst(strategy, faults);
        const { passes } = await rotateToEnd(world);
        for (const pass of passes.slice(0, -1)) expect(pass.result).not.toBe("closed");
        const { end } = rotationOf(world);
        if (passes.at(-1)?.result === "closed") expect(end?.how).toBe("closed");
        if (passes.at(-1)?.result === "put back") expect(end?.how).toBe("reverted");
      }),
      times(40),
    );
  });

  it("I11: however often it is killed, it ends like one that was not", async () => {
    const boundary = fc.nat({ max: 120 });
    const crash = fc.record({ boundary, when: fc.constantFrom("before" as const, "after" as const) });
    await fc.assert(
      fc.asyncProperty(fc.array(crash, { maxLength: 8 }), async (points) => {
        const crashes = points.sort((a, b) => a.boundary - b.boundary);
        const world = await worldWithFirst(strategy, { crashes });
        expect((await rotateToEnd(world)).last).toEqual({ result: "closed", grade: "REFUSED" });
        expect(world.truth(world.old!)).toEqual({ presents: [], accepts: [] });
        expect(world.issued.map((one) => one.revoked)).toEqual([strategy === "replace", false]);
        expect(world.acts.filter(({ what }) => what === "deliver")).toHaveLength(1);
        expect([...world.secrets.keys()]).toEqual(["shop/g2.key"]);
      }),
      times(60),
    );
  });

  it("I13: 'for all' over an inventory that could not be had is unknown", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: 15_000 }), async (from) => {
        const world = await worldWithFirst(strategy, { uncounted: [from, 10_000 * hour] });
        const { last } = await rotateToEnd(world, { atMost: 3 });
        if (last.result === "closed") expect(world.since()).toBeLessThanOrEqual(from);
        else expect(JSON.stringify(last)).toContain("could not be counted");
      }),
      times(30),
    );
  });

  it("I13: 'for all' over nobody is unknown", async () => {
    for (const role of ["presenters", "verifiers"] as const) {
      const world = await worldWithFirst(strategy, {});
      const nobody = (ports: ReturnType<typeof portsOf>) => {
        const parties = ports.parties[role].map((bound) => ({
          ...bound,
          instance: { ...bound.instance, members: async () => [] },
        }));
        return { ...ports, parties: { ...ports.parties, [role]: parties } };
      };
      const { last } = await rotateToEnd(world, { atMost: 2, wrap: nobody });
      expect(last).toMatchObject({ result: "held" });
      expect(JSON.stringify(last)).toContain("over nothing proves nothing");
    }
  });
});

/** What each removal step needed and did not have, by a reading of the journal of its own. */
function unfounded(world: World): string[] {
  const needs: readonly (readonly [ClaimName, Role])[] = [
    ["stored", "target"],
    ["presented", "presenter"],
    ["accepted", "verifier"],
    ["acceptedOld", "verifier"],
    ["silent", "sensor"],
  ];
  const looks = new Map<string, { saw: string; at: number; seq: number }>();
  let inventory: Readonly<Record<Role, readonly { readonly id: string }[]>> | undefined;
  let takenUp = 0;
  let begun = false;
  let goneOn = 0;
  const found: string[] = [];
  for (const { event, at, seq } of world.journalEntries) {
    if (event.type === "RunnerStarted") takenUp = seq;
    if (event.type === "InventoryResolved") inventory = event.inventory.members;
    if (event.type === "Observed") {
      const role = needs.find(([claim]) => claim === event.claim)?.[1];
      if (role === undefined || inventory === undefined) continue;
      for (const id of event.covers ?? inventory[role].map((member) => member.id)) {
        const saw = event.exceptions.find((one) => one.member === id)?.saw ?? "yes";
        looks.set(`${event.claim} ${id}`, { saw, at, seq });
      }
    }
    if (event.type === "StepDone" && removing.test(event.op)) {
      begun = true;
      goneOn = seq;
    }
    // Cut off, it may have been done.
    if (event.type === "StepFailed" && removing.test(event.op) && event.error.retry === "read back") begun = true;
    if (event.type !== "StepIntended" || !removing.test(event.op)) continue;
    // Once begun, only who comes later asks again, and not for what is no longer so.
    if (begun && takenUp < goneOn) continue;
    for (const [claim, role] of needs) {
      if (begun && claim === "acceptedOld") continue;
      for (const { id } of inventory?.[role] ?? []) {
        const look = looks.get(`${claim} ${id}`);
        const fresh = look !== undefined && at - look.at < (claim === "silent" ? timing.poll + 1 : timing.freshness);
        if (look?.saw !== "yes" || !fresh)
          found.push(`${event.op}: ${claim} of ${id} ${JSON.stringify(look)} at ${at}`);
      }
    }
  }
  return found;
}

describe("control: the same without the fault", () => {
  it.each(strategies)("%s closes REFUSED in one pass, in the time of its quiet window", async (strategy) => {
    const world = await worldWithFirst(strategy, {});
    expect(await rotate(world, {})).toEqual({ result: "closed", grade: "REFUSED" });
    expect(world.truth(world.old!)).toEqual({ presents: [], accepts: [] });
    expect(world.since()).toBe(quietWindow);
    expect(unfounded(world)).toEqual([]);
    expect(world.entries("StepIntended").some(({ event }) => removing.test(event.op))).toBe(true);
  });
});
