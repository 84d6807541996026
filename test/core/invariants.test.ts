import { describe, expect, it } from "vitest";
import { parseCertificate } from "../../src/pki/certificate.ts";
import { rotate, worldWithFirst } from "./world.ts";

describe.each(["replace", "overlap"] as const)("%s", (strategy) => {
  it("closes REFUSED when nothing goes wrong", async () => {
    const world = await worldWithFirst(strategy, {});
    const old = parseCertificate(world.stored!.certificate);
    const outcome = await rotate(world, {});
    expect(outcome).toEqual({ result: "closed", grade: "REFUSED" });
    expect(world.truth(old)).toEqual({ presents: [], accepts: [] });
    expect(world.violations).toEqual([]);
  });
});
