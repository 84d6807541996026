import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { caBefore } from "../../lab/gyre.ts";
import { createFilesTrustStore } from "../drivers/files/trust-store.ts";
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
