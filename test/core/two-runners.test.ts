import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Event } from "../../src/engine/events.ts";
import { fold } from "../../src/engine/state.ts";
import { GyreError } from "../../src/errors.ts";
import type { Ports } from "../../src/runtime/ports.ts";
import { times } from "./fault-schedules.ts";
import type { World } from "./world.ts";
import { lineageOf, portsOf, rotate, rotateToEnd, rotationOf, type WorldOutcome, worldWithFirst } from "./world-run.ts";

/**
 * I6: one writer per rotation. The lock that the kernel releases is the journal's own affair (src/journal/lock.test.ts);
 * here two runners are let loose on one journal without it, so that compare-and-swap has to keep them apart alone.
 */

type Told = WorldOutcome | { readonly result: "refused"; readonly code: string };

const told = (running: Promise<WorldOutcome>): Promise<Told> =>
  running.catch((error: unknown) => {
    if (error instanceof GyreError) return { result: "refused", code: error.code };
    throw error;
  });

/** Has a rotation under way that nobody has taken up further than its plan. */
async function plannedWorld(strategy: "replace" | "overlap"): Promise<World> {
  const world = await worldWithFirst(strategy, { crashes: [{ boundary: 1, when: "before" }] });
  await rotateToEnd(world, { atMost: 1 });
  expect(lineageOf(world).active?.passed).toEqual([]);
  return world;
}

describe.each(["replace", "overlap"] as const)("%s", (strategy) => {
  it("two at once, in every order of their awaits: one goes on, the other is refused, nothing is written twice", async () => {
    let refused = 0;
    let closed = 0;
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), async (scheduler) => {
        const world = await plannedWorld(strategy);
        const appended: { runner: string; seqs: number[] }[] = [];
        const wrap = (runner: string) => (): Ports =>
          scheduledPorts(world, scheduler, (seqs) => appended.push({ runner, seqs }));
        const both = Promise.all([
          told(rotate(world, { runner: "a", wrap: wrap("a") })),
          told(rotate(world, { runner: "b", wrap: wrap("b") })),
        ]);
        const outcomes = await scheduler.waitFor(both);
        // Every entry was written by one runner, and the whole adds up.
        const seqs = appended.flatMap((one) => one.seqs);
        expect(new Set(seqs).size).toBe(seqs.length);
        expect(() => fold(world.journalEntries)).not.toThrow();
        for (const outcome of outcomes) {
          if (outcome.result === "refused") expect(outcome.code).toBe("conflict");
          refused += outcome.result === "refused" ? 1 : 0;
          closed += outcome.result === "closed" ? 1 : 0;
        }
        expect(outcomes.filter(({ result }) => result === "closed").length).toBeLessThanOrEqual(1);
        // What each intended was its own: an outcome follows only the intent of the same runner, or a reading back.
        expect(strayOutcomes(world, appended)).toEqual([]);
        if (lineageOf(world).active !== undefined)
          expect((await rotateToEnd(world)).last).toEqual({ result: "closed", grade: "REFUSED" });
        expect(world.truth(world.old!)).toEqual({ presents: [], accepts: [] });
      }),
      times(120),
    );
    expect(refused).toBeGreaterThan(0);
    expect(closed).toBeGreaterThan(0);
  });

  it("a runner frozen at any append wakes up after another one finished: it is refused and does nothing", async () => {
    const calm = await worldWithFirst(strategy, {});
    await rotate(calm, {});
    let woken = 0;
    for (let freezeAt = 2; freezeAt < calm.journalEntries.length; freezeAt += 1) {
      const world = await worldWithFirst(strategy, {});
      const wake = Promise.withResolvers<void>();
      const frozen = Promise.withResolvers<void>();
      let appends = 0;
      const wrap = (ports: Ports): Ports => {
        const freeze = async (): Promise<void> => {
          if (++appends !== freezeAt) return;
          frozen.resolve();
          await wake.promise;
        };
        return {
          ...ports,
          journal: {
            ...ports.journal,
            append: async (seq, at, events) => {
              await freeze();
              return ports.journal.append(seq, at, events);
            },
          },
        };
      };
      const stale = told(rotate(world, { wrap }));
      // It may end before its freezing point.
      if ((await Promise.race([frozen.promise.then(() => "frozen"), stale.then(() => "ended")])) === "ended") break;
      const { last } = await rotateToEnd(world);
      expect(last, `frozen at append ${freezeAt}`).toEqual({ result: "closed", grade: "REFUSED" });
      const acts = world.acts.length;
      const entries = world.journalEntries.length;
      wake.resolve();
      expect(await stale, `frozen at append ${freezeAt}`).toEqual({ result: "refused", code: "conflict" });
      expect(world.acts.length, `frozen at append ${freezeAt}`).toBe(acts);
      expect(world.journalEntries.length, `frozen at append ${freezeAt}`).toBe(entries);
      woken += 1;
    }
    expect(woken).toBeGreaterThan(20);
  });

  it("a runner that lost its lock between intent and effect does nothing", async () => {
    const calm = await worldWithFirst(strategy, {});
    await rotate(calm, {});
    const intents = calm.entries("StepIntended").filter(({ event }) => event.op.startsWith("shop/2")).length;
    for (let nth = 1; nth <= intents; nth += 1) {
      const world = await worldWithFirst(strategy, {});
      let seen = 0;
      let lost = false;
      const wrap = (ports: Ports): Ports => ({
        ...ports,
        stillOurs: async () => {
          if (lost) throw new GyreError({ code: "locked", message: "another runner holds the lock" });
        },
        journal: {
          ...ports.journal,
          append: async (seq, at, events) => {
            const entries = await ports.journal.append(seq, at, events);
            if (events.some(({ type }) => type === "StepIntended") && ++seen === nth) lost = true;
            return entries;
          },
        },
      });
      const before = calm.acts.length;
      expect(await told(rotate(world, { wrap }))).toEqual({ result: "refused", code: "locked" });
      expect(lost && before > 0).toBe(true);
      const intended = rotationOf(world).pending!;
      expect(
        world.acts.filter(({ seq }) => seq >= world.journalEntries.length),
        intended,
      ).toEqual([]);
      expect((await rotateToEnd(world)).last, intended).toEqual({ result: "closed", grade: "REFUSED" });
    }
    expect(intents).toBeGreaterThan(6);
  });
});

/** The journal and the clock, with every await in the hands of the scheduler. */
function scheduledPorts(world: World, scheduler: fc.Scheduler, onAppend: (seqs: number[]) => void): Ports {
  const ports = portsOf(world);
  const turn = (label: string): Promise<unknown> => scheduler.schedule(Promise.resolve(), label);
  return {
    ...ports,
    stillOurs: async () => void (await turn("lock")),
    clock: {
      now: ports.clock.now,
      sleep: async (ms) => {
        await turn("sleep");
        await ports.clock.sleep(ms);
      },
    },
    journal: {
      head: ports.journal.head,
      read: async () => {
        await turn("read");
        return ports.journal.read();
      },
      append: async (seq, at, events) => {
        await turn("append");
        const entries = await ports.journal.append(seq, at, events);
        onAppend(entries.map((entry) => entry.seq));
        await turn("appended");
        return entries;
      },
    },
  };
}

/** Outcomes whose intent another runner wrote, without a RunnerStarted of their own in between. */
function strayOutcomes(world: World, appended: readonly { runner: string; seqs: readonly number[] }[]): string[] {
  const writer = new Map(appended.flatMap(({ runner, seqs }) => seqs.map((seq) => [seq, runner] as const)));
  const intents = new Map<string, { runner: string | undefined; seq: number }>();
  const started = new Map<string | undefined, number>();
  const stray: string[] = [];
  for (const { seq, event } of world.journalEntries) {
    const runner = writer.get(seq);
    const outcome = (one: Event): one is Event & { type: "StepDone" | "StepFailed" } =>
      one.type === "StepDone" || one.type === "StepFailed";
    if (event.type === "RunnerStarted") started.set(runner, seq);
    if (event.type === "StepIntended") intents.set(event.op, { runner, seq });
    if (!outcome(event)) continue;
    const intent = intents.get(event.op);
    const tookUp = (started.get(runner) ?? 0) > (intent?.seq ?? 0);
    if (runner !== undefined && intent?.runner !== runner && !tookUp) stray.push(`${seq} ${event.type} ${event.op}`);
  }
  return stray;
}
