import { z } from "zod";
import { endpointsSettings } from "../kubernetes/endpoints-settings.ts";
import { address } from "../shared-settings.ts";

/** Which program answers: decides the table of refusals (refusals.ts). `tls` is any server that refuses by TLS alert. */
export const serverKind = z.enum(["nginx", "haproxy", "envoy", "tls"]);

const where = {
  /** Every replica's own address: each is dialled itself, never through a load balancer. */
  addresses: z
    .array(address)
    .min(1)
    .optional()
    .meta({ description: "Every replica's own address; each is dialled itself" }),
  /** Resolved anew at every round: each A and AAAA record is a member. */
  resolve: address
    .optional()
    .meta({ description: "A name whose every A and AAAA record is a replica, looked up anew each round" }),
  /** Resolved anew at every round, and counted against the Service's pods. */
  endpoints: endpointsSettings.optional(),
  /** The number of replicas by a second source; another number leaves "for all" unknown. */
  replicas: z
    .int()
    .positive()
    .optional()
    .meta({ description: "How many replicas there must be; another number leaves the question open" }),
  /** SNI and the name the certificate must carry. */
  serverName: z.string().min(1).meta({ description: "Name sent as SNI and expected in the server's certificate" }),
};
const oneSource = (s: { addresses?: unknown; resolve?: unknown; endpoints?: unknown }) =>
  [s.addresses, s.resolve, s.endpoints].filter((source) => source !== undefined).length === 1;
const oneSourceMessage = { message: "give exactly one of addresses, resolve or endpoints" };

/** Servers that present the credential. */
export const presenterSettings = z
  .strictObject({
    ...where,
    /** A CA bundle (path) the chain must lead to; default: the issuer's roots. */
    roots: z
      .string()
      .optional()
      .meta({ description: "Path of the CA bundle the chain must lead to; default the issuer's roots" }),
  })
  .refine(oneSource, oneSourceMessage)
  .meta({ description: "Servers that present the credential" });

/** Servers that check the credential as a client certificate (mutual TLS). */
export const verifierSettings = z
  .strictObject({
    ...where,
    roots: z.string().optional().meta({
      description:
        "Path of the CA bundle for the server's own certificate; without it the server itself is not checked",
    }),
    server: serverKind.default("tls").meta({
      description: "Which program answers: nginx, haproxy, envoy, or tls for any that refuses by alert; default tls",
    }),
    /** The request sent after the handshake; its complete reply is judged. `none`: the first bytes or a clean close. */
    request: z
      .union([
        z.literal("none"),
        z.strictObject({
          method: z.enum(["GET", "HEAD"]).default("GET").meta({ description: "GET or HEAD; default GET" }),
          path: z.string().startsWith("/").default("/").meta({ description: "Path of the request; default /" }),
          host: z.string().optional().meta({ description: "Host header; default serverName" }),
          expect: z
            .int()
            .min(100)
            .max(599)
            .default(200)
            .meta({ description: "Status of an accepted request; default 200" }),
          /** A response header in which the server names the client certificate (serial, fingerprint or subject). */
          identityHeader: z
            .string()
            .optional()
            .meta({ description: "Response header that names the client certificate" }),
        }),
      ])
      .prefault({})
      .meta({ description: "The request sent after the handshake, or none where the server speaks no HTTP" }),
    /** The server refuses revoked client certificates: by a CRL, or by pins. */
    refuses: z
      .enum(["crl", "pins", "nothing"])
      .default("nothing")
      .meta({ description: "What lets the server refuse an old certificate: crl, pins or nothing; default nothing" }),
  })
  .refine(oneSource, oneSourceMessage)
  .meta({ description: "Servers that check the credential as a client certificate" });
export type PresenterSettings = z.infer<typeof presenterSettings>;
export type VerifierSettings = z.infer<typeof verifierSettings>;
