import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { passingFaults, times } from "./fault-schedules.ts";
import { leafOf, type World } from "./world.ts";
import { lineageOf, quietWindow, rotateToEnd, timing, worldWithFirst } from "./world-run.ts";

/** What must be true of the world whenever a rotation says REFUSED, over the members of its last inventory. */
function lies(world: World): string[] {
  const rotation = lineageOf(world).rotations.at(-1)!;
  const counted = new Set(rotation.inventory?.members.verifier.map(({ id }) => id));
  const there = (ids: string[]): string[] => ids.filter((id) => counted.has(id));
  const found: string[] = [];
  const old = world.truth(world.old!);
  const next = world.truth(leafOf(world.stored!.certificate));
  if (there(old.presents).length > 0) found.push(`still presented by ${there(old.presents)}`);
  if (there(old.accepts).length > 0) found.push(`still accepted by ${there(old.accepts)}`);
  if (there(next.presents).length < counted.size)
    found.push(`the new one is presented by ${next.presents} of ${[...counted]}`);
  if (there(next.accepts).length < counted.size)
    found.push(`the new one is accepted by ${next.accepts} of ${[...counted]}`);
  if (world.since() < (world.faults.resumesUntil ?? 0)) found.push("sessions of the old one are still honoured");
  const removedAt = removal(world);
  // What happens between the last look at a sensor and the removal can be seen by nobody; that time must be short.
  const heardAt = world
    .entries("Observed")
    .findLast(({ at, event }) => event.claim === "silent" && at <= removedAt)!.at;
  if (removedAt - heardAt > timing.poll)
    found.push(`removed ${removedAt - heardAt} ms after the last look at the sensors`);
  const blind = 2 * (world.faults.latency ?? 0);
  const late = world.realUses.filter(({ at }) => at > removedAt - quietWindow && at < heardAt - blind);
  if (late.length > 0) found.push(`the old one was used at ${late.map(({ at }) => at)}, removed at ${removedAt}`);
  return [...found, ...world.violations];
}

/** When the old one began to be taken away. */
function removal(world: World): number {
  const first = world.strategy === "replace" ? "/revoked/retire/" : "/deleted/withdraw/";
  return world.entries("StepIntended").find(({ event }) => event.op.includes(first))!.at;
}

describe.each(["replace", "overlap"] as const)("%s", (strategy) => {
  it("says REFUSED only when it is so, and gets there once all faults have passed", async () => {
    await fc.assert(
      fc.asyncProperty(passingFaults(), async (faults) => {
        const world = await worldWithFirst(strategy, faults);
        let { last, passes } = await rotateToEnd(world, { atMost: 60 });
        // An issuer that stays away for longer than its attempts ends the rotation where nothing was changed yet.
        while (last.result === "put back" && world.since() < (faults.issuerAwayUntil ?? 0)) {
          expect(world.stored).toBe(world.oldUnit);
          world.advance(5_000);
          ({ last, passes } = await rotateToEnd(world, { atMost: 60 }));
        }
        expect(last, JSON.stringify(passes.at(-1))).toEqual({ result: "closed", grade: "REFUSED" });
        expect(lies(world)).toEqual([]);
      }),
      times(250),
    );
  });
});
