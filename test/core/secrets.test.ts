import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { GyreError } from "../../src/errors.ts";
import { Secret } from "../../src/pki/secret.ts";
import type { Progress } from "../../src/runtime/api.ts";
import { passingFaults, times } from "./fault-schedules.ts";
import type { World } from "./world.ts";
import { request, rotateToEnd, worldWithFirst } from "./world-run.ts";

/** The bytes of a secret as they might leak: as they are, the PEM body with and without its lines, DER in hex and base64. */
function marksOf(secret: Secret): string[] {
  return secret.use((bytes) => {
    const text = bytes.toString("latin1");
    if (!text.includes("-----BEGIN")) return [text];
    const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("-----"));
    const der = Buffer.from(lines.join(""), "base64");
    // Of a P-256 key in PKCS#8 the first 36 bytes are the same for all; what follows is the secret number.
    const tail = der.subarray(36, 68);
    return [
      lines.join(""),
      ...lines,
      tail.toString("hex"),
      tail.toString("base64").slice(0, 40),
      tail.toString("latin1"),
    ];
  });
}

function leaks(world: World, outputs: readonly string[]): string[] {
  const places: [string, string][] = [
    ["journal", world.journalEntries.map((entry) => JSON.stringify(entry)).join("\n")],
    ...[...world.blobs].map(([digest, blob]): [string, string] => [`evidence ${digest}`, blob.toString("latin1")]),
    ...outputs.map((output, index): [string, string] => [`output ${index}`, output]),
  ];
  const marks = [...world.everSecret].flatMap(marksOf);
  return places.flatMap(([name, text]) => marks.filter((mark) => text.includes(mark)).map(() => name));
}

describe.each(["replace", "overlap"] as const)("%s", (strategy) => {
  it("I12: no byte of a key or session in journal, evidence, progress or outcome, whatever goes wrong", async () => {
    await fc.assert(
      fc.asyncProperty(passingFaults(), fc.nat({ max: 90 }), async (faults, turn) => {
        const world = await worldWithFirst(strategy, faults);
        const outputs: string[] = [];
        const onProgress = (progress: Progress): void => void outputs.push(JSON.stringify(progress));
        world.beforeBoundary = (here) => {
          const open = world.entries("RotationPlanned").length > world.entries("RotationClosed").length;
          if (here === turn && open && world.entries("RevertRequested").length === 0)
            request(world, { type: "RevertRequested", by: "ops", reason: "a test" });
        };
        const { passes } = await rotateToEnd(world, { onProgress });
        outputs.push(JSON.stringify(passes));
        expect(world.everSecret.size).toBeGreaterThan(0);
        expect(leaks(world, outputs)).toEqual([]);
      }),
      times(60),
    );
  });

  it("I12: the search finds a secret that was let out on purpose", async () => {
    const world = await worldWithFirst(strategy, {});
    await rotateToEnd(world);
    const [key] = [...world.everSecret];
    const body = key!.use((bytes) => bytes.toString("latin1"));
    expect(leaks(world, [body]).length).toBeGreaterThan(0);
    expect(leaks(world, [JSON.stringify({ message: body.split("\n")[1] })]).length).toBeGreaterThan(0);
    world.blobs.set("sha256:x", Buffer.from(body));
    expect(leaks(world, [])).toContain("evidence sha256:x");
    // And a secret does not get out by the ways a program usually prints things.
    const error = new GyreError({ code: "bug", message: `with ${key}`, cause: key });
    expect(
      leaks(world, [String(error), JSON.stringify(error), JSON.stringify({ key })]).filter(
        (name) => name !== "evidence sha256:x",
      ),
    ).toEqual([]);
    expect(Secret.of("x").toString()).toBe("[secret]");
  });
});
