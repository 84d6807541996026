import type { Issuer, Material, Step, Stored, Target, TrustStore, Version } from "../drivers/roles.ts";
import { GyreError } from "../errors.ts";
import { type Crl, parseCrl } from "../pki/crl.ts";
import { crlsIn, newestOf, patiently, standsFor, unlisted } from "./crls.ts";

/**
 * A CRL's place seen as a target, so that a CRL is delivered, restored and proven by the same table as a certificate.
 * `previous` gives the CRL (PEM) that was there before, from the evidence: a CRL is public, so no copy is kept.
 *
 * Rotations of the issuer's certificates write to the same place, so not its version decides what may be replaced, but
 * what it lists: see `mayReplace`.
 */
export function crlTarget(store: TrustStore, issuer: Issuer, previous: () => Promise<string | undefined>): Target {
  const read = async (): Promise<Stored> => {
    const { pem, version } = await store.read();
    const crl = newestOf(pem, issuer);
    return { version: crl === undefined ? "absent" : version, certificate: crl?.pem ?? "" };
  };
  const deliver = async (material: Material, step: Step): Promise<Stored> => {
    const { pem, version } = await store.read();
    await issuer.takeIn?.(pem, step);
    const due = await issuer.revoked?.();
    const present = newestOf(pem, issuer);
    if (mayReplace(present, parseCrl(material.certificate), due, store.place))
      await store.put(material.certificate, version, step);
    return read();
  };
  const { reload } = store;
  return {
    can: { ...store.can, restore: true },
    place: store.place,
    read,
    deliver: (material: Material, _: Version, step: Step) => patiently(() => deliver(material, step)),
    restore: async (expected: Version, step: Step) => {
      const before = await previous();
      // Absent means that no CRL of this issuer is there; the file may hold those of others.
      const version = expected === "absent" ? (await store.read()).version : expected;
      if (before !== undefined) await store.put(before, version, step);
      return read();
    },
    ...(reload === undefined ? {} : { reload: (step: Step) => reload.call(store, step) }),
    ...(store.check === undefined ? {} : { check: store.check.bind(store) }),
    forget: async () => undefined,
  };
}

/**
 * False where a newer one is there that stands for ours.
 * @throws GyreError `conflict` where the one that is there lists what ours does not and must
 */
function mayReplace(present: Crl | undefined, ours: Crl, due: ReadonlySet<string> | undefined, place: string): boolean {
  if (present === undefined) return true;
  if (standsFor(present, ours, due)) return false;
  const lost = unlisted(present, ours).filter((serial) => due?.has(serial) !== false);
  if (lost.length === 0) return true;
  throw new GyreError({
    code: "conflict",
    message: `${place} holds a CRL (number ${present.number}) that lists serial ${lost[0]}, which ours (number ${ours.number}) does not: with ours that certificate would be accepted again; nothing written`,
    where: place,
    next: "gyre revert this rotation, then rotate once more: the next CRL lists it",
  });
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
    put: async (pem, expected, step) => {
      const above = await issuer.rootCrl?.();
      return store.put(`${pem}${above === undefined ? "" : needed(above, (await store.read()).pem)}`, expected, step);
    },
    ...(store.check === undefined ? {} : { check: store.check.bind(store) }),
    ...(reload === undefined ? {} : { reload: (step: Step) => reload.call(store, step) }),
  };
}

/** The root's CRL, unless the place has one that lists more or lives as long: the root's owner may publish, too. */
function needed(above: string, present: string): string {
  const ours = parseCrl(above);
  const theirs = crlsIn(present).find((crl) => crl.issuerDer.equals(ours.issuerDer) && crl.aki === ours.aki);
  if (theirs === undefined) return above;
  const gained = (ours.nextUpdate ?? 0) > (theirs.nextUpdate ?? Number.POSITIVE_INFINITY);
  return gained && unlisted(theirs, ours).length === 0 ? above : "";
}
