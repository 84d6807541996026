import { hash } from "node:crypto";
import { isIP } from "node:net";
import { GyreError } from "../../errors.ts";
import { type Certificate, parseCertificates, readCertificateLazily } from "../../pki/certificate.ts";
import { checkChain } from "../../pki/chain.ts";

/**
 * Judges a chain as sent: does its leaf carry `serverName`, and do the leaf and the certificates sent with it lead to
 * one of `roots` at `now`? Gives the problem in words, or undefined. Only what was sent counts: no intermediate is
 * fetched or remembered, since a client that cannot do so would fail. Throws `input` when `roots` holds none.
 */
export function problemOf(
  chain: readonly Buffer[],
  roots: string,
  serverName: string,
  now: number,
): string | undefined {
  const trusted = rootsOf(roots);
  const [leaf, ...intermediates] = certificatesOf(chain);
  if (leaf === undefined) return "no certificate was sent";
  if (typeof leaf === "string") return leaf;
  const readable = intermediates.filter((one): one is Certificate => typeof one !== "string");
  const { problems } = checkChain({
    ...{ leaf, intermediates: readable, roots: trusted, at: [now], purpose: "server" },
    names: [isIP(serverName) === 0 ? `DNS:${serverName}` : `IP:${serverName}`],
  });
  const unreadable = intermediates.find((one): one is string => typeof one === "string");
  const found = problems.map((one) => `${one.about}: ${one.message}`);
  if (found.length > 0 && unreadable !== undefined) found.push(unreadable);
  return found.length === 0 ? undefined : found.join("; ");
}

/** SHA-256 of each certificate, leaf first, lower-case hex. */
export const fingerprintsOf = (chain: readonly Buffer[]): string[] => chain.map((der) => hash("sha256", der, "hex"));

function certificatesOf(chain: readonly Buffer[]): (Certificate | string)[] {
  return chain.map((der, index) => {
    try {
      return readCertificateLazily(der, "presented certificate").decodeAll();
    } catch (error) {
      return `certificate ${index + 1} of the chain cannot be read (${error instanceof Error ? error.message : "malformed"})`;
    }
  });
}

let parsedRoots: { readonly pem: string; readonly certificates: readonly Certificate[] } | undefined;

/** A round asks with the same roots for every member: the last ones are kept parsed. */
function rootsOf(pem: string): readonly Certificate[] {
  if (parsedRoots?.pem !== pem) parsedRoots = { pem, certificates: parseCertificates(pem, "roots") };
  if (parsedRoots.certificates.length === 0)
    throw new GyreError({ code: "input", message: "tls: the roots hold no certificate; nothing was judged" });
  return parsedRoots.certificates;
}
