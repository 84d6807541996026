import fc from "fast-check";
import type { Faults, Span } from "./world.ts";

/** By this time, ms after the start, every fault that passes has passed. */
export const faultsPass = 60_000;

const instant = fc.integer({ min: 0, max: faultsPass });
const span: fc.Arbitrary<Span> = fc.tuple(instant, instant).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);
const replica = fc.integer({ min: 0, max: 2 });
const sensor = fc.integer({ min: 0, max: 1 });

/** A few boundaries or effects are more telling than many: a run has about sixty boundaries and a dozen effects. */
const crash = fc.record({ boundary: fc.integer({ min: 0, max: 80 }), when: fc.constantFrom("before", "after") });

/** Present or not: most schedules have a few faults at once, so that each is seen in the company of others. */
const sometimes = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(arbitrary, { nil: undefined, freq: 2 });

const shapes = {
  ignoresReload: fc.dictionary(replica.map(String), instant, { maxKeys: 2 }),
  down: fc.dictionary(replica.map(String), span, { maxKeys: 2 }),
  diesAtReload: fc.record({ replica, reload: fc.integer({ min: 0, max: 4 }), until: instant }),
  away: fc
    .record({ replica, span, late: fc.integer({ min: 0, max: 20_000 }) })
    .map(({ late, ...rest }) => ({ ...rest, loadsAt: rest.span[1] + late })),
  oldUser: fc.record({ at: sensor, span }),
  resumesUntil: instant,
  sensorGap: fc.record({ sensor, span }),
  joinsAt: instant,
  uncounted: span,
  crashes: fc.array(crash, { maxLength: 3 }),
  timeOuts: fc.uniqueArray(fc.integer({ min: 0, max: 15 }), { maxLength: 2 }),
  issuerAwayUntil: instant,
  latency: fc.constantFrom(1, 7, 40, 300),
} satisfies { [K in keyof Faults]?: fc.Arbitrary<unknown> };

/** Schedules of faults that all pass, so that the rotation must close in the end. */
export const passingFaults = (...without: (keyof typeof shapes)[]): fc.Arbitrary<Faults> =>
  fc
    .record(
      Object.fromEntries(
        Object.entries(shapes)
          .filter(([name]) => !without.includes(name as keyof typeof shapes))
          .map(([name, shape]) => [name, sometimes<unknown>(shape)]),
      ),
    )
    .map((faults) => Object.fromEntries(Object.entries(faults).filter(([, fault]) => fault !== undefined)) as Faults);

/** How often a property is tried; TIMES=20 for a long look. */
export const times = (runs: number): { readonly numRuns: number } => ({
  numRuns: runs * Number(process.env.TIMES ?? 1),
});
