import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { parseCertificates } from "../../pki/certificate.ts";
import { keyMatches, readPrivateKey } from "../../pki/keys.ts";
import type { Stored, Target } from "../roles.ts";
import { codeOf, type TestCa, testCa, testMaterial, testStep } from "./material.ts";

/** One place, empty at first, and the ways a suite acts on it from outside. */
export interface TargetRig {
  /** A new instance each time, as after a restart. */
  open(): Target;
  /** Changes what is stored, as somebody else would. */
  tamper(): Promise<void>;
  close(): Promise<void>;
}

export const leafOf = (stored: Stored): string | undefined =>
  stored.certificate === "" ? undefined : parseCertificates(stored.certificate)[0]!.fingerprint;

/** What every Target owes its callers, whatever it writes to. */
export function targetConformance(name: string, prepare: () => Promise<TargetRig>): void {
  describe(`${name}: the target contract`, () => {
    let ca: TestCa;
    let rig: TargetRig;
    beforeAll(async () => {
      ca = await testCa();
    });
    beforeEach(async () => {
      rig = await prepare();
    });
    afterEach(() => rig.close());

    it("reads absent where nothing is", async () => {
      const stored = await rig.open().read();
      expect(stored).toMatchObject({ version: "absent", certificate: "" });
      expect(stored.op).toBeUndefined();
    });

    it("reads back leaf, chain, key and op of what it delivered", async () => {
      const material = await testMaterial(ca);
      const step = testStep();
      const delivered = await rig.open().deliver(material, "absent", step);
      const stored = await rig.open().read();
      expect(stored.version).toBe(delivered.version);
      expect(stored.op).toBe(step.op);
      expect(stored.torn).toBeUndefined();
      const [leaf, issuer] = parseCertificates(stored.certificate);
      expect(leaf!.fingerprint).toBe(material.leaf.fingerprint);
      expect(issuer!.fingerprint).toBe(ca.authority.certificate.fingerprint);
      expect(keyMatches(leaf!, readPrivateKey(stored.privateKey!))).toBe(true);
    });

    it("refuses a delivery planned on another version and writes nothing", async () => {
      const first = await rig.open().deliver(await testMaterial(ca), "absent", testStep());
      expect(await codeOf(rig.open().deliver(await testMaterial(ca), "absent", testStep()))).toBe("conflict");
      expect(await rig.open().read()).toMatchObject({ version: first.version });
    });

    it("sees a change by somebody else in version and op", async () => {
      const first = await rig.open().deliver(await testMaterial(ca), "absent", testStep());
      await rig.tamper();
      const seen = await rig.open().read();
      expect(seen.version).not.toBe(first.version);
      expect(seen.op).toBeUndefined();
      expect(await codeOf(rig.open().deliver(await testMaterial(ca), first.version, testStep()))).toBe("conflict");
      expect(await rig.open().read()).toMatchObject({ version: seen.version });
    });

    it("delivers once for one op, whatever version the repetition expects", async () => {
      const [old, material, step] = [await testMaterial(ca), await testMaterial(ca), testStep()];
      const before = await rig.open().deliver(old, "absent", testStep());
      const first = await rig.open().deliver(material, before.version, step);
      const again = await rig.open().deliver(material, before.version, step);
      expect(again.version).toBe(first.version);
      const back = await rig.open().restore(first.version, testStep(), old);
      expect(leafOf(back)).toBe(old.leaf.fingerprint);
    });

    it("refuses another generation under an op that was used", async () => {
      const step = testStep();
      const first = await rig.open().deliver(await testMaterial(ca), "absent", step);
      expect(await codeOf(rig.open().deliver(await testMaterial(ca), first.version, step))).toBe("conflict");
      expect(await rig.open().read()).toMatchObject({ version: first.version });
    });

    it("refuses a key that is not the certificate's and writes nothing", async () => {
      const [one, other] = [await testMaterial(ca), await testMaterial(ca)];
      const mixed = { ...one, privateKey: other.privateKey! };
      expect(await codeOf(rig.open().deliver(mixed, "absent", testStep()))).toBe("input");
      expect((await rig.open().read()).version).toBe("absent");
    });

    it("restores what a delivery replaced, and repeats that safely", async () => {
      const old = await testMaterial(ca);
      const before = await rig.open().deliver(old, "absent", testStep());
      const after = await rig.open().deliver(await testMaterial(ca), before.version, testStep());
      const step = testStep();
      const back = await rig.open().restore(after.version, step, old);
      expect(leafOf(back)).toBe(old.leaf.fingerprint);
      expect(back.op).toBe(step.op);
      expect(await rig.open().restore(after.version, step, old)).toMatchObject({ version: back.version });
      expect(leafOf(await rig.open().read())).toBe(old.leaf.fingerprint);
    });

    it("restores to absent where nothing was before", async () => {
      const after = await rig.open().deliver(await testMaterial(ca), "absent", testStep());
      const step = testStep();
      expect((await rig.open().restore(after.version, step)).version).toBe("absent");
      expect((await rig.open().restore(after.version, step)).version).toBe("absent");
    });

    it("goes back past a second delivery of the same generation", async () => {
      const [old, material] = [await testMaterial(ca), await testMaterial(ca)];
      const before = await rig.open().deliver(old, "absent", testStep());
      const first = await rig.open().deliver(material, before.version, testStep());
      const second = await rig.open().deliver(material, first.version, testStep());
      expect(leafOf(await rig.open().restore(second.version, testStep(), old))).toBe(old.leaf.fingerprint);
    });

    it("does not restore over a change by somebody else", async () => {
      const old = await testMaterial(ca);
      const before = await rig.open().deliver(old, "absent", testStep());
      const after = await rig.open().deliver(await testMaterial(ca), before.version, testStep());
      await rig.tamper();
      const seen = await rig.open().read();
      expect(await codeOf(rig.open().restore(after.version, testStep(), old))).toBe("conflict");
      expect((await rig.open().read()).version).toBe(seen.version);
    });

    it("forgets what it kept, keeps what is in place, and repeats that safely", async () => {
      const before = await rig.open().deliver(await testMaterial(ca), "absent", testStep());
      const after = await rig.open().deliver(await testMaterial(ca), before.version, testStep());
      await rig.open().forget(testStep());
      await rig.open().forget(testStep());
      expect(await rig.open().read()).toMatchObject({ version: after.version, op: after.op });
      expect(await codeOf(rig.open().restore(after.version, testStep()))).toBe("refused");
    });

    it("lets one of two concurrent deliveries win", async () => {
      const works = [await testMaterial(ca), await testMaterial(ca)].map((material) =>
        rig.open().deliver(material, "absent", testStep()),
      );
      const codes = await Promise.all(works.map(codeOf));
      expect(codes.sort()).toEqual(["conflict", "none"]);
    });
  });
}
