import type { Certificate } from "../pki/certificate.ts";
import type { Finding } from "./found.ts";

export interface Placed {
  readonly position: number;
  readonly of: number;
  /** The next one, when it issued this one by name. */
  readonly issuer?: Certificate;
}

/** For each certificate its place in a chain: neighbours of which the next has the issuer's name. Alone: undefined. */
export function placesOf(certificates: readonly Certificate[]): (Placed | undefined)[] {
  const places: (Placed | undefined)[] = [];
  for (let from = 0; from < certificates.length; ) {
    let to = from + 1;
    while (to < certificates.length && issued(certificates[to]!, certificates[to - 1]!)) to++;
    for (let at = from; at < to; at++) {
      const issuer = at + 1 < to ? certificates[at + 1] : undefined;
      places.push(
        to - from === 1 ? undefined : { position: at - from + 1, of: to - from, ...(issuer ? { issuer } : {}) },
      );
    }
    from = to;
  }
  return places;
}

function issued(issuer: Certificate, subject: Certificate): boolean {
  return issuer.subjectDer.equals(subject.issuerDer) && !subject.isSelfIssued;
}

/** TLS servers send the leaf first, each followed by its issuer (RFC 8446 section 4.4.2). For a file with a key. */
export function orderOf(certificates: readonly Certificate[]): Finding[] {
  const [first, ...rest] = certificates;
  if (!first || rest.length === 0) return [];
  if (first.isCa && rest.some((c) => !c.isCa))
    return [
      {
        severity: "error",
        code: "chain-order",
        message: "the file has a CA before the certificate; servers send it as it stands",
      },
    ];
  const places = placesOf(certificates);
  if (!first.isCa && places[0]?.of !== certificates.length)
    return [
      { severity: "warning", code: "chain-order", message: "what follows it in the file is not its chain in order" },
    ];
  return [];
}
