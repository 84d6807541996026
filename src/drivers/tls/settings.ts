import { z } from "zod";
import { address } from "../shared-settings.ts";

/** Which program answers: decides the table of refusals (refusals.ts). `tls` is any server that refuses by TLS alert. */
export const serverKind = z.enum(["nginx", "haproxy", "envoy", "tls"]);

const where = {
  /** Every replica's own address: each is dialled itself, never through a load balancer. */
  addresses: z.array(address).min(1).optional(),
  /** Resolved anew at every round: each A and AAAA record is a member. */
  resolve: address.optional(),
  /** The number of replicas by a second source; another number leaves "for all" unknown. */
  replicas: z.int().positive().optional(),
  /** SNI and the name the certificate must carry. */
  serverName: z.string().min(1),
};
const oneSource = (s: { addresses?: unknown; resolve?: unknown }) =>
  (s.addresses === undefined) !== (s.resolve === undefined);
const oneSourceMessage = { message: "give exactly one of addresses or resolve" };

/** Servers that present the credential. */
export const presenterSettings = z
  .strictObject({
    ...where,
    /** A CA bundle (path) the chain must lead to; default: the issuer's roots. */ roots: z.string().optional(),
  })
  .refine(oneSource, oneSourceMessage);

/** Servers that check the credential as a client certificate (mutual TLS). */
export const verifierSettings = z
  .strictObject({
    ...where,
    roots: z.string().optional(),
    server: serverKind.default("tls"),
    /** The request sent after the handshake; its complete reply is judged. `none`: the first bytes or a clean close. */
    request: z
      .union([
        z.literal("none"),
        z.strictObject({
          method: z.enum(["GET", "HEAD"]).default("GET"),
          path: z.string().startsWith("/").default("/"),
          host: z.string().optional(),
          expect: z.int().min(100).max(599).default(200),
          /** A response header in which the server names the client certificate (serial, fingerprint or subject). */
          identityHeader: z.string().optional(),
        }),
      ])
      .prefault({}),
    /** The server refuses revoked client certificates: by a CRL, or by pins. */
    refuses: z.enum(["crl", "pins", "nothing"]).default("nothing"),
  })
  .refine(oneSource, oneSourceMessage);
export type PresenterSettings = z.infer<typeof presenterSettings>;
export type VerifierSettings = z.infer<typeof verifierSettings>;
