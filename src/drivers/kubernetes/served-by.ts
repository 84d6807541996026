/** What a server of the cluster presents at one address, judged by the CA that the cluster itself publishes. */
import { isIP } from "node:net";
import { parseCertificate } from "../../pki/certificate.ts";
import { anonymousContext } from "../tls/client-context.ts";
import { look } from "../tls/handshake.ts";
import { wordsOf } from "../tls/look-words.ts";
import { problemOf } from "../tls/presented-chain.ts";

export interface Served {
  readonly address: string;
  /** Of the leaf; absent where nothing was presented. */
  readonly issuer?: string;
  readonly fingerprint?: string;
  /** In words, why whoever trusts `roots` alone cannot use it; absent where it is right. */
  readonly trouble?: string;
  /** It presented nothing: it is not there, or no TLS server. */
  readonly silent?: true;
}

/** Dials `host:port` afresh under a server name; `roots`: PEM; `now`: ms. @throws GyreError when it was aborted */
export async function servedBy(
  address: string,
  serverName: string,
  roots: string,
  now: number,
  signal: AbortSignal,
): Promise<Served> {
  const seen = await look({ address, serverName, context: anonymousContext(), early: true }, signal);
  const [der] = seen.chain;
  if (der === undefined) return { address, trouble: wordsOf(seen), silent: true };
  const trouble = problemOf(seen.chain, roots, serverName, now);
  const shown = leafOf(der);
  return { address, ...shown, ...(trouble === undefined ? {} : { trouble }) };
}

function leafOf(der: Buffer): Pick<Served, "issuer" | "fingerprint"> {
  try {
    const { issuer, fingerprint } = parseCertificate(der);
    return { issuer, fingerprint };
  } catch {
    // What is wrong with it is said by the judgement of the chain.
    return {};
  }
}

/** Where a kubeconfig's `server` leads, and the name its certificate must have. */
export function placeOfServer(server: URL, name?: string): { readonly address: string; readonly serverName: string } {
  const host = server.hostname.replace(/^\[|\]$/g, "");
  const port = server.port === "" ? "443" : server.port;
  return { address: `${isIP(host) === 6 ? `[${host}]` : host}:${port}`, serverName: name ?? host };
}
