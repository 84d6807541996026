import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseCertificate, parseCertificates } from "../../pki/certificate.ts";
import { checkChain } from "../../pki/chain.ts";
import { parseCrl } from "../../pki/crl.ts";
import { describeCertificate } from "../../pki/generation.ts";
import { keyMatches } from "../../pki/keys.ts";
import { lint } from "../../pki/lint.ts";
import type { Issued, Issuer, Named } from "../roles.ts";
import { codeOf, testOrder, testStep } from "./material.ts";

/** One issuer that signs for `shop.example`, and the ways a suite acts on it. */
export interface IssuerRig {
  /** A new instance each time, as after a restart; it keeps what its system keeps. */
  open(): Promise<Issuer>;
  /** The issuer's clock, ms. */
  now(): number;
  close(): Promise<void>;
}

export const namedOf = (issued: Issued): Named => describeCertificate(parseCertificate(issued.certificate));

/** What every Issuer owes its callers. What its facts do not claim is not asked, and said in the test's name. */
export function issuerConformance(name: string, prepare: () => Promise<IssuerRig>): void {
  describe(`${name}: the issuer contract`, () => {
    let rig: IssuerRig;
    beforeEach(async () => {
      rig = await prepare();
    });
    afterEach(() => rig.close());

    it.each(["P-256", "P-384", "Ed25519", "RSA-2048"] as const)(
      "issues for a %s key what was asked for",
      async (algorithm) => {
        const order = await testOrder({
          algorithm,
          usages: ["server", "client"],
          names: ["DNS:shop.example", "DNS:www.shop.example"],
        });
        const issued = await (await rig.open()).issue(order, testStep());
        const leaf = parseCertificate(issued.certificate);
        expect(leaf.names).toEqual(order.names);
        expect(leaf.subject).toBe("CN=shop.example");
        expect(leaf.extendedKeyUsage).toEqual(["serverAuth", "clientAuth"]);
        expect(keyMatches(leaf, order.pair)).toBe(true);
        expect(leaf.notBefore).toBeLessThan(rig.now());
        expect(Math.abs(leaf.notAfter - rig.now() - order.lifetime)).toBeLessThan(60_000);
        expect(lint(leaf, { now: rig.now() }).filter((finding) => finding.severity === "error")).toEqual([]);
        const intermediates = issued.chain === "" ? [] : parseCertificates(issued.chain);
        const roots = parseCertificates(issued.roots);
        const question = { leaf, intermediates, roots, purpose: "client" as const, names: ["DNS:shop.example"] };
        expect(checkChain({ ...question, at: [rig.now(), leaf.notAfter - 1000] }).problems).toEqual([]);
      },
    );

    it("gives each generation a serial and a fingerprint of its own", async () => {
      const issuer = await rig.open();
      const all = await Promise.all([1, 2, 3, 4].map(async () => issuer.issue(await testOrder(), testStep())));
      expect(new Set(all.map((one) => namedOf(one).serial)).size).toBe(4);
      expect(new Set(all.map((one) => namedOf(one).fingerprint)).size).toBe(4);
    });

    it("refuses a request whose signature is not the key's", async () => {
      const order = await testOrder();
      const csr = Buffer.from(order.csr);
      csr[csr.length - 1]! ^= 1;
      expect(await codeOf((await rig.open()).issue({ ...order, csr }, testStep()))).toBe("input");
      expect(await codeOf((await rig.open()).issue(order, testStep()))).toBe("none");
    });

    it("finds what an op issued, and certainly nothing for another op (where its facts say so)", async () => {
      const issuer = await rig.open();
      if (issuer.can.findAfterCrash !== true) return expect(issuer.find).toBeUndefined();
      const step = testStep();
      expect(await issuer.find!(step.op)).toBeUndefined();
      const issued = await issuer.issue(await testOrder(), step);
      await issuer.issue(await testOrder(), testStep());
      expect(await (await rig.open()).find!(step.op)).toEqual(issued);
      expect(await (await rig.open()).find!(testStep().op)).toBeUndefined();
    });

    it("never issues a second time for one op (where its facts say so)", async () => {
      if ((await rig.open()).can.findAfterCrash !== true) return;
      const [step, order] = [testStep(), await testOrder()];
      const all = await Promise.all([1, 2, 3].map(async () => (await rig.open()).issue(order, step)));
      expect(new Set(all.map((one) => one.certificate)).size).toBe(1);
    });

    it("lists a retired serial in every CRL from then on, each with a higher number (where its facts say so)", async () => {
      const issuer = await rig.open();
      if (issuer.can.revoke !== true) return expect(issuer.retire).toBeUndefined();
      const [one, other] = [
        await issuer.issue(await testOrder(), testStep()),
        await issuer.issue(await testOrder(), testStep()),
      ];
      const before = parseCrl(await issuer.publishCrl!(testStep()));
      expect(before.entries.has(namedOf(one).serial)).toBe(false);
      await issuer.retire!(namedOf(one), testStep());
      await (await rig.open()).retire!(namedOf(one), testStep());
      const after = parseCrl(await (await rig.open()).publishCrl!(testStep(), 3_600_000));
      expect([...after.entries.keys()]).toEqual([namedOf(one).serial]);
      expect(after.entries.has(namedOf(other).serial)).toBe(false);
      expect(BigInt(`0x${after.number}`)).toBeGreaterThan(BigInt(`0x${before.number}`));
      expect(after.thisUpdate).toBeLessThan(rig.now());
      expect(Math.abs(after.nextUpdate! - rig.now() - 3_600_000)).toBeLessThan(60_000);
    });

    it("does not retire what another issuer signed (where its facts say so)", async () => {
      const issuer = await rig.open();
      if (issuer.can.revoke !== true) return;
      const issued = namedOf(await issuer.issue(await testOrder(), testStep()));
      const stranger = { ...issued, serial: "1234", issuer: "CN=somebody else" };
      expect(await codeOf(issuer.retire!(stranger, testStep()))).toBe("issuer");
      expect(await codeOf(issuer.retire!({ ...issued, fingerprint: "00" }, testStep()))).toBe("issuer");
      expect(parseCrl(await issuer.publishCrl!(testStep())).entries.size).toBe(0);
    });
  });
}
