import type { Issuer, Material, Step, Stored, Target, TrustStore, Version } from "../drivers/roles.ts";
import { crlOfIssuer } from "./material.ts";

/**
 * A CRL's place seen as a target, so that a CRL is delivered, restored and proven by the same table as a certificate.
 * `previous` gives the CRL (PEM) that was there before, from the evidence: a CRL is public, so no copy is kept.
 */
export function crlTarget(store: TrustStore, issuer: string, previous: () => Promise<string | undefined>): Target {
  const read = async (): Promise<Stored> => {
    const { pem, version } = await store.read();
    const certificate = crlOfIssuer(pem, issuer);
    return { version: certificate === undefined ? "absent" : version, certificate: certificate ?? "" };
  };
  const put = async (pem: string, expected: Version, step: Step): Promise<Stored> => {
    const now = await store.read();
    await store.put(pem, expected === "absent" ? now.version : expected, step);
    return read();
  };
  const { reload } = store;
  return {
    can: { ...store.can, restore: true },
    place: store.place,
    read,
    deliver: (material: Material, expected: Version, step: Step) => put(material.certificate, expected, step),
    restore: async (expected: Version, step: Step) => {
      const before = await previous();
      // The first CRL ever cannot be taken away again without leaving verifiers without any: it stays.
      return before === undefined ? read() : put(before, expected, step);
    },
    ...(reload === undefined ? {} : { reload: (step: Step) => reload.call(store, step) }),
    forget: async () => undefined,
  };
}

/**
 * A CRL's place that is written whole: nginx wants a CRL of every CA in the chain and refuses everybody without, so the
 * root's goes beside the issuing CA's.
 */
export function withCrlsAbove(store: TrustStore, issuer: Issuer): TrustStore {
  const { reload } = store;
  return {
    can: store.can,
    place: store.place,
    holds: store.holds,
    read: () => store.read(),
    put: async (pem, expected, step) => store.put(`${pem}${(await issuer.rootCrl?.()) ?? ""}`, expected, step),
    ...(store.check === undefined ? {} : { check: store.check.bind(store) }),
    ...(reload === undefined ? {} : { reload: (step: Step) => reload.call(store, step) }),
  };
}
