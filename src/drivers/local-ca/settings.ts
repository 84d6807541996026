import { z } from "zod";
import { duration, secretOrFile } from "../shared-settings.ts";

/** A CA whose key lies encrypted in a directory. Created on first use with these values; later they are checked. */
export const localCaSettings = z
  .strictObject({
    directory: z
      .string()
      .meta({ description: "Directory of the CA: its encrypted key, its certificate, what it issued" }),
    subject: z
      .string()
      .default("CN=Gyre local CA")
      .meta({ description: "Distinguished name of the CA; default CN=Gyre local CA" }),
    algorithm: z
      .enum(["P-256", "P-384", "Ed25519", "RSA-2048", "RSA-3072", "RSA-4096"])
      .default("P-256")
      .meta({ description: "Algorithm of the CA key; default P-256" }),
    lifetime: duration
      .default(10 * 365 * 86400_000)
      .meta({ description: "Lifetime of the CA certificate; default 3650d" }),
    /** Issue leaves from an intermediate under a root that stays unused. */
    intermediate: z
      .boolean()
      .default(false)
      .meta({ description: "Issue from an intermediate under a root that stays unused" }),
    /** Name constraints: permitted DNS suffixes, IP ranges (CIDR), URI hosts, e-mail domains. */
    permitted: z
      .strictObject({
        dns: z.array(z.string()).optional().meta({ description: "Permitted DNS suffixes" }),
        ip: z.array(z.string()).optional().meta({ description: "Permitted IP ranges (CIDR)" }),
        uri: z.array(z.string()).optional().meta({ description: "Permitted hosts of URIs" }),
        email: z.array(z.string()).optional().meta({ description: "Permitted e-mail domains" }),
      })
      .optional()
      .meta({ description: "Name constraints: the CA can issue for nothing else" }),
    /** Longest leaf this CA signs. */
    maxLifetime: duration
      .default(398 * 86400_000)
      .meta({ description: "Longest lifetime this CA signs; default 398d" }),
    /** How far notBefore and thisUpdate lie in the past, so that a verifier with a slow clock agrees. */
    backdate: duration
      .default(15 * 60_000)
      .meta({ description: "How far notBefore lies in the past, for verifiers with a slow clock; default 15m" }),
    /** Encrypts the CA key: a value, `${ENV}` or `{ file: … }`. */
    passphrase: secretOrFile("passphrase", z.string().min(1)).meta({
      description: "Encrypts the CA key: a value, ${ENV}, or { file: … }",
    }),
    crlLifetime: duration
      .default(7 * 86400_000)
      .meta({ description: "Lifetime of a CRL published outside a manifest's crl section; default 7d" }),
  })
  .meta({ description: "A CA whose key lies encrypted in a directory" });
export type LocalCaSettings = z.infer<typeof localCaSettings>;

/** Each generation signs itself; verifiers pin it. For the `overlap` strategy. */
export const selfSignedSettings = z
  .strictObject({
    backdate: duration.default(15 * 60_000).meta({ description: "How far notBefore lies in the past; default 15m" }),
    /** Without it nobody can tell after a crash whether something was issued. */
    directory: z
      .string()
      .optional()
      .meta({ description: "Directory that records what was issued, so that nothing is issued twice after a crash" }),
  })
  .meta({ description: "Each generation signs itself; verifiers pin it" });
export type SelfSignedSettings = z.infer<typeof selfSignedSettings>;
