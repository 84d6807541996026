import type { Issuer } from "../drivers/roles.ts";
import { GyreError } from "../errors.ts";
import { type Certificate, parseCertificates } from "../pki/certificate.ts";
import { type Crl, parseCrls } from "../pki/crl.ts";

/** What one CRL is to another. Pure, but for `patiently`. */

export const crlsIn = (pem: string): Crl[] => (pem.includes("X509 CRL-----") ? parseCrls(pem) : []);

/** A CRL without a number is older than any that has one. */
export const numberOf = ({ number }: Crl): bigint => (number === undefined ? -1n : BigInt(`0x${number}`));

/**
 * The newest CRL of this CA among those in a file. A CA that was made anew under its old name has left the CRL of its old
 * key there: it goes by the key where the issuer tells it.
 */
export function newestOf(pem: string, issuer: Issuer): Crl | undefined {
  const named = crlsIn(pem).filter((crl) => crl.issuer === issuer.certificate?.subject);
  const signer = named.length === 0 ? undefined : signerOf(issuer);
  return named
    .filter((crl) => signer === undefined || crl.isSignedBy(signer))
    .reduce<Crl | undefined>((a, b) => (a === undefined || numberOf(b) > numberOf(a) ? b : a), undefined);
}

/** The certificate that signs: the first of the chain, or the root itself. */
function signerOf(issuer: Issuer): Certificate | undefined {
  const known = `${issuer.chain?.() ?? ""}${issuer.roots?.() ?? ""}`;
  return known === "" ? undefined : parseCertificates(known)[0];
}

/** Serials that `before` lists and `after` does not: with `after` in its place they are accepted again. */
export const unlisted = (before: Crl, after: Crl): string[] =>
  [...before.entries.values()]
    .filter(({ serial, reason }) => reason !== "removeFromCRL" && !after.entries.has(serial))
    .map(({ serial }) => serial);

/**
 * True when nothing is lost by having `one` in the place of `other`: the same, or newer, of the same key, living as long
 * and listing all that `other` lists. `due`: what must be listed now; an entry that is not in it has expired since.
 */
export function standsFor(one: Crl, other: Crl, due?: ReadonlySet<string>): boolean {
  if (one.fingerprint === other.fingerprint) return true;
  const sameKey = one.issuerDer.equals(other.issuerDer) && one.aki !== undefined && one.aki === other.aki;
  return (
    sameKey &&
    numberOf(one) > numberOf(other) &&
    (one.nextUpdate ?? 0) >= (other.nextUpdate ?? 0) &&
    unlisted(other, one).every((serial) => due?.has(serial) === false)
  );
}

/** Several rotations write to one place; each looks again when another was quicker. Nobody is so often in a row. */
const tries = 5;

/** Does `work`, which looks before it writes, again after a conflict. @throws its conflict, when it met one each time */
export async function patiently<T>(work: () => Promise<T>): Promise<T> {
  for (let left = tries; ; ) {
    try {
      return await work();
    } catch (error) {
      left -= 1;
      if (!(error instanceof GyreError) || error.code !== "conflict" || left === 0) throw error;
    }
  }
}
