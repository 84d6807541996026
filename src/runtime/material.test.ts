import { expect, it } from "vitest";
import { testCa, testMaterial } from "../drivers/conformance/material.ts";
import type { Stored } from "../drivers/roles.ts";
import type { Generation } from "../engine/model.ts";
import { describeIssued, sameMaterial } from "./material.ts";

const ca = await testCa();
const material = await testMaterial(ca);
const generation = { ...describeIssued(material, "certificate"), number: 4, material: "sha256:x" } as Generation;
const stored: Stored = {
  version: "sha256:1",
  certificate: material.certificate + material.chain,
  privateKey: material.privateKey!,
};

it("a generation is stored only where everything that belongs to it is right", () => {
  expect(sameMaterial(stored, generation, material)).toBeUndefined();
  const wrong: [Partial<Stored>, string][] = [
    [{ flaw: "its CA is another's" }, "holds g4, but its CA is another's"],
    [{ malformed: "a file holds no certificate" }, "holds g4, but a file holds no certificate"],
    [{ certificate: material.certificate }, "holds g4 with another chain (0 certificates instead of 1)"],
    [{ torn: true }, "holds half of one and half of another: a delivery was cut off"],
  ];
  for (const [change, what] of wrong)
    expect(sameMaterial({ ...stored, ...change }, generation, material)?.what).toBe(what);
});
