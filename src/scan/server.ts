import { isIP } from "node:net";
import { splitAddress } from "../drivers/tls/address.ts";
import { anonymousContext } from "../drivers/tls/client-context.ts";
import { look } from "../drivers/tls/handshake.ts";
import { type Certificate, readCertificateLazily } from "../pki/certificate.ts";
import { placesOf } from "./chains.ts";
import { type Found, problem, wordsOf } from "./found.ts";
import { judgeCertificate } from "./judge.ts";
import type { ScanOptions } from "./scan.ts";

/** The chain a server presents, as it sends it. `where` is `host:port#1` for the leaf. */
export async function scanServer(address: string, options: Required<ScanOptions>): Promise<Found[]> {
  const host = hostOf(address);
  if (host === undefined) return [problem(address, "no port from 1 to 65535")];
  const serverName = options.serverName === "" ? host : options.serverName;
  const { chain, trouble } = await look(
    { address, serverName, context: anonymousContext(), early: true },
    options.signal,
  );
  const found: Found[] = [];
  const certificates: { where: string; certificate: Certificate }[] = [];
  for (const [i, der] of chain.entries()) {
    const where = `${address}#${i + 1}`;
    try {
      certificates.push({ where, certificate: readCertificateLazily(der, where) });
    } catch (error) {
      found.push(problem(where, wordsOf(error)));
    }
  }
  const places = placesOf(certificates.map((c) => c.certificate));
  for (const [i, { where, certificate }] of certificates.entries()) {
    const place = places[i];
    found.push(
      judgeCertificate(where, certificate, {
        now: options.now,
        lint: options.lint,
        ...(place?.issuer ? { issuer: place.issuer } : {}),
        ...(place ? { chain: { position: place.position, of: place.of } } : {}),
        ...(i === 0 ? { wanted: isIP(serverName) === 0 ? `DNS:${serverName}` : `IP:${serverName}` } : {}),
      }),
    );
  }
  if (chain.length === 0)
    found.push(problem(address, trouble ? `${trouble.why}; no certificate was seen` : "no certificate was sent"));
  return found;
}

function hostOf(address: string): string | undefined {
  try {
    return splitAddress(address).host;
  } catch {
    return undefined;
  }
}
