import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseCertificates } from "../../pki/certificate.ts";
import { parseCrls, signCrl } from "../../pki/crl.ts";
import type { TrustStore } from "../roles.ts";
import { codeOf, type TestCa, testCa, testStep } from "./material.ts";

/** One place, empty at first, and the ways a suite acts on it from outside. */
export interface TrustStoreRig {
  /** A new instance each time, as after a restart. */
  open(): TrustStore;
  /** Changes what is stored, as somebody else would, to something still readable. */
  tamper(): Promise<void>;
  close(): Promise<void>;
}

const DAY = 86_400_000;

/** A CRL of a test CA, for suites of stores that hold them. */
export function testCrl(ca: TestCa, number: number, serials: readonly string[] = []): string {
  const now = Date.now();
  const entries = serials.map((serial) => ({ serial, revocationDate: now - 1000 }));
  return signCrl(ca.authority, { number, thisUpdate: now - DAY, nextUpdate: now + DAY, entries }).pem;
}

/** What every TrustStore owes its callers, whatever it writes to. */
export function trustStoreConformance(name: string, prepare: () => Promise<TrustStoreRig>): void {
  describe(`${name}: the trust store contract`, () => {
    let rig: TrustStoreRig;
    beforeEach(async () => {
      rig = await prepare();
      const cas = [await testCa("one"), await testCa("two")] as const;
      const bundles = [cas[0].root.pem, cas[0].root.pem + cas[1].root.pem];
      contents = rig.open().holds === "crls" ? [testCrl(cas[0], 1), testCrl(cas[0], 2, ["1f"])] : bundles;
    });
    afterEach(() => rig.close());

    /** Two contents of the kind this store holds. */
    let contents: string[];
    const content = (n: 0 | 1): string => contents[n]!;
    const fingerprints = (pem: string): string[] =>
      (pem === "" ? [] : pem.includes("X509 CRL") ? parseCrls(pem) : parseCertificates(pem)).map(
        (one) => one.fingerprint,
      );

    it("reads absent where nothing is", async () => {
      expect(await rig.open().read()).toEqual({ version: "absent", pem: "" });
    });

    it("reads back what was put, and changes it", async () => {
      const one = await rig.open().put(content(0), "absent", testStep());
      expect(await rig.open().read()).toMatchObject({ version: one.version });
      expect(fingerprints((await rig.open().read()).pem)).toEqual(fingerprints(content(0)));
      const two = await rig.open().put(content(1), one.version, testStep());
      expect(two.version).not.toBe(one.version);
      expect(fingerprints((await rig.open().read()).pem)).toEqual(fingerprints(content(1)));
    });

    it("refuses a put planned on another version and writes nothing", async () => {
      const one = await rig.open().put(content(0), "absent", testStep());
      expect(await codeOf(rig.open().put(content(1), "absent", testStep()))).toBe("conflict");
      expect((await rig.open().read()).version).toBe(one.version);
      await rig.tamper();
      const seen = await rig.open().read();
      expect(seen.version).not.toBe(one.version);
      expect(await codeOf(rig.open().put(content(1), one.version, testStep()))).toBe("conflict");
      expect((await rig.open().read()).version).toBe(seen.version);
    });

    it("writes nothing when it is there already, whatever was expected", async () => {
      const one = await rig.open().put(content(0), "absent", testStep());
      expect(await rig.open().put(content(0), "absent", testStep())).toEqual(one);
      expect((await rig.open().read()).version).toBe(one.version);
    });

    it("refuses what is no content of its kind", async () => {
      expect(
        await codeOf(
          rig.open().put("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "absent", testStep()),
        ),
      ).toBe("input");
      expect((await rig.open().read()).version).toBe("absent");
    });

    it("removes what it first put, unless it changed since; a second time, nothing", async () => {
      const one = await rig.open().put(content(0), "absent", testStep());
      const two = await rig.open().put(content(1), one.version, testStep());
      expect(await codeOf(rig.open().remove!(one.version, testStep()))).toBe("conflict");
      expect((await rig.open().read()).version).toBe(two.version);
      await rig.open().remove!(two.version, testStep());
      expect(await rig.open().read()).toEqual({ version: "absent", pem: "" });
      await rig.open().remove!(two.version, testStep());
    });

    it("lets one of two concurrent puts win", async () => {
      const codes = await Promise.all(contents.map((pem) => codeOf(rig.open().put(pem, "absent", testStep()))));
      expect(codes.sort()).toEqual(["conflict", "none"]);
    });
  });
}
