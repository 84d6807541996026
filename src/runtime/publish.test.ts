import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { caBefore } from "../../lab/gyre.ts";
import { createFilesTrustStore } from "../drivers/files/trust-store.ts";
import type { TrustStore } from "../drivers/roles.ts";
import { parseCrl } from "../pki/crl.ts";
import type { Context } from "./context.ts";
import { effects } from "./effects.ts";
import { describeIssued } from "./material.ts";

let home: string | undefined;
afterEach(() => home !== undefined && rmSync(home, { recursive: true, force: true }));

test("a rotation taken up again does not put an older CRL over a newer one", async () => {
  home = mkdtempSync(join(tmpdir(), "gyre-publish-"));
  const path = join(home, "second.crl");
  const before = await caBefore(home, "CN=Publish CA");
  const step = { op: "test", tag: "test.0", signal: new AbortController().signal };
  const client = async (subject: string) =>
    describeIssued(await before.issue({ subject, names: [], usages: ["client"] }), "certificate");
  const [mine, others] = [await client("CN=mine"), await client("CN=others")];
  // Ours was published at the first place; then the runner was killed, and another credential was rotated to its end.
  await before.ca.retire(mine, step);
  const ours = await before.ca.publishCrl(step);
  await before.ca.retire(others, step);
  const store = createFilesTrustStore({ crl: path }, { baseDir: home });
  const publish = () =>
    effects.publish.perform(
      {
        now: Date.now(),
        signal: step.signal,
        lineage: { generations: new Map([[1, { ...mine, number: 1, material: "sha256:" }]]) },
        rotation: {
          plan: { seed: "" },
          digest: "sha256:0123456789ab",
          steps: new Map([["mine/1/revoked/publish/first", { step: { kind: "publish" }, evidence: "sha256:1" }]]),
        },
        ports: {
          evidence: { get: async () => Buffer.from(ours) },
          parties: { issuer: { instance: before.ca }, trustStores: [{ id: path, instance: store }] },
        },
      } as unknown as Context,
      { kind: "publish", on: path, generation: 1 },
      "mine/1/revoked/publish/second#1",
    );
  const listed = () => parseCrl(readFileSync(path, "utf8")).entries;

  // Without anybody in between it puts the one that the first place has.
  await publish();
  expect([...listed().keys()]).toEqual([mine.serial]);
  await store.put(await before.ca.publishCrl(step), (await store.read()).version, step);
  await publish();
  expect([...listed().keys()].sort()).toEqual([mine.serial, others.serial].sort());
});

describe("another rotation publishes between our look and our write", () => {
  /** Ours is to be published; before each of the first `times` writes, another one is. */
  const racing = async (times: number) => {
    home = mkdtempSync(join(tmpdir(), "gyre-publish-"));
    const path = join(home, "ca.crl");
    const before = await caBefore(home, "CN=Publish CA");
    const step = { op: "test", tag: "test.0", signal: new AbortController().signal };
    const issued = await before.issue({ subject: "CN=mine", names: [], usages: ["client"] });
    const mine = describeIssued(issued, "certificate");
    const real = createFilesTrustStore({ crl: path }, { baseDir: home });
    const listed = () => [...parseCrl(readFileSync(path, "utf8")).entries.keys()];
    let left = times;
    const store: TrustStore = {
      ...{ can: real.can, place: real.place, holds: real.holds, read: () => real.read() },
      put: async (pem, expected, by) => {
        if (left-- > 0) {
          const other = describeIssued(
            await before.issue({ subject: "CN=o", names: [], usages: ["client"] }),
            "certificate",
          );
          await before.ca.retire(other, step);
          await real.put(await before.ca.publishCrl(step), (await real.read()).version, step);
        }
        return real.put(pem, expected, by);
      },
    };
    const kept = new Map<string, string>();
    const context = {
      ...{ now: Date.now(), signal: step.signal, digest: "" },
      lineage: { generations: new Map([[1, { ...mine, number: 1, material: "sha256:" }]]) },
      rotation: { plan: { seed: "" }, digest: "sha256:0123456789ab", steps: new Map() },
      ports: {
        evidence: {
          get: async (digest: string) => Buffer.from(kept.get(digest)!),
          put: async (text: string) => {
            kept.set(`sha256:${kept.size}`, text);
            return `sha256:${kept.size - 1}`;
          },
        },
        parties: { issuer: { instance: before.ca }, trustStores: [{ id: path, instance: store }] },
      },
    } as unknown as Context;
    const publish = () =>
      effects.publish.perform(context, { kind: "publish", on: path, generation: 1 }, "mine/1/revoked/publish/x#1");
    return { before, mine, listed, publish, step };
  };

  test("theirs lists ours too: it is left as it is", async () => {
    const { before, mine, listed, publish, step } = await racing(1);
    await before.ca.retire(mine, step);
    expect((await publish()).did).toMatch(/already$/);
    expect(listed()).toHaveLength(2);
    expect(listed()).toContain(mine.serial);
  });

  test("theirs does not list ours: ours is signed anew, and takes nothing away", async () => {
    const { listed, publish } = await racing(2);
    expect((await publish()).did).toMatch(/holds a CRL with serial/);
    expect(listed()).toHaveLength(2);
  });

  test("at every try: it is told as what it is", async () => {
    const { publish } = await racing(99);
    await expect(publish()).rejects.toMatchObject({ code: "conflict" });
  });
});
