import { describe, expect, it } from "vitest";
import { rotate, worldWithFirst } from "./world-run.ts";

describe.each(["replace", "overlap"] as const)("%s", (strategy) => {
  it("closes REFUSED when nothing goes wrong", async () => {
    const world = await worldWithFirst(strategy, {});
    const outcome = await rotate(world, {});
    expect(outcome).toEqual({ result: "closed", grade: "REFUSED" });
    expect(world.truth(world.old!)).toEqual({ presents: [], accepts: [] });
    expect(world.violations).toEqual([]);
    console.log(world.boundary, world.effects, world.now, world.journalEntries.length);
  });
});
