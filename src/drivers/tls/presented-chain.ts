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
  const key = [serverName, ...fingerprintsOf(chain)].join(" ");
  const known = trusted.verdicts.get(key);
  if (known !== undefined && known.from <= now && now < known.until) return known.problem;
  const verdict = judge(chain, trusted.certificates, serverName, now);
  if (trusted.verdicts.size >= mostVerdicts) trusted.verdicts.clear();
  trusted.verdicts.set(key, verdict);
  return verdict.problem;
}

/** SHA-256 of each certificate, leaf first, lower-case hex. */
export const fingerprintsOf = (chain: readonly Buffer[]): string[] => chain.map((der) => hash("sha256", der, "hex"));

/** A judgement, and the time in which nothing can change it: the same bytes are right or wrong until a date passes. */
interface Verdict {
  readonly problem: string | undefined;
  readonly from: number;
  readonly until: number;
}
const mostVerdicts = 1_000;

function judge(chain: readonly Buffer[], roots: readonly Certificate[], serverName: string, now: number): Verdict {
  const [leaf, ...rest] = certificatesOf(chain);
  const always = { from: Number.NEGATIVE_INFINITY, until: Number.POSITIVE_INFINITY };
  if (leaf === undefined) return { problem: "no certificate was sent", ...always };
  if (typeof leaf === "string") return { problem: leaf, ...always };
  const intermediates = rest.filter((one): one is Certificate => typeof one !== "string");
  const { problems } = checkChain({
    ...{ leaf, intermediates, roots, at: [now], purpose: "server" },
    names: [isIP(serverName) === 0 ? `DNS:${serverName}` : `IP:${serverName}`],
  });
  const found = problems.map((one) => `${one.about}: ${one.message}`);
  // A certificate beside the path may be anything, as for other clients; it is named when the path failed.
  if (found.length > 0) found.push(...rest.filter((one): one is string => typeof one === "string"));
  const dates = [leaf, ...intermediates, ...roots].flatMap((one) => [one.notBefore, one.notAfter + 1_000]);
  return {
    problem: found.length === 0 ? undefined : found.join("; "),
    from: Math.max(always.from, ...dates.filter((date) => date <= now)),
    until: Math.min(always.until, ...dates.filter((date) => date > now)),
  };
}

function certificatesOf(chain: readonly Buffer[]): (Certificate | string)[] {
  return chain.map((der, index) => {
    try {
      return readCertificateLazily(der, "presented certificate").decodeAll();
    } catch (error) {
      return `certificate ${index + 1} of the chain cannot be read (${error instanceof Error ? error.message : "malformed"})`;
    }
  });
}

/**
 * A CA bundle that can be judged by.
 * @throws GyreError `input` naming the file
 */
export function mustBeRoots(pem: string, file: string): void {
  try {
    rootsOf(pem);
  } catch (error) {
    if (!(error instanceof GyreError)) throw error;
    throw new GyreError({
      code: "input",
      message: `tls: the CA bundle ${file} cannot be used: ${error.message}; nothing was dialled`,
      where: file,
      next: "put the CA certificates (PEM) into it, or correct `roots`",
      cause: error,
    });
  }
}

interface Roots {
  readonly pem: string;
  readonly certificates: readonly Certificate[];
  readonly verdicts: Map<string, Verdict>;
}
let latest: Roots | undefined;

/** A round asks with the same roots for every member: the last ones are kept, with what was judged by them. */
function rootsOf(pem: string): Roots {
  if (latest?.pem !== pem) latest = { pem, certificates: parseCertificates(pem, "roots"), verdicts: new Map() };
  if (latest.certificates.length === 0)
    throw new GyreError({ code: "input", message: "tls: the roots hold no certificate; nothing was judged" });
  return latest;
}
