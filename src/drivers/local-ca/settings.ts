import { z } from "zod";
import { duration } from "../shared-settings.ts";

/** A CA whose key lies encrypted in a directory. Created on first use with these values; later they are checked. */
export const localCaSettings = z.strictObject({
  directory: z.string(),
  subject: z.string().default("CN=Gyre local CA"),
  algorithm: z.enum(["P-256", "P-384", "Ed25519", "RSA-2048", "RSA-3072", "RSA-4096"]).default("P-256"),
  lifetime: duration.default(10 * 365 * 86400_000),
  /** Issue leaves from an intermediate under a root that stays unused. */
  intermediate: z.boolean().default(false),
  /** Name constraints: permitted DNS suffixes, IP ranges (CIDR), URI hosts, e-mail domains. */
  permitted: z
    .strictObject({
      dns: z.array(z.string()).optional(),
      ip: z.array(z.string()).optional(),
      uri: z.array(z.string()).optional(),
      email: z.array(z.string()).optional(),
    })
    .optional(),
  /** Longest leaf this CA signs. */
  maxLifetime: duration.default(398 * 86400_000),
  /** How far notBefore and thisUpdate lie in the past, so that a verifier with a slow clock agrees. */
  backdate: duration.default(15 * 60_000),
  /** Encrypts the CA key: a value, `${ENV}` or `{ file: … }`. */
  passphrase: z.union([z.string().min(1), z.strictObject({ file: z.string() })]),
  crlLifetime: duration.default(7 * 86400_000),
});
export type LocalCaSettings = z.infer<typeof localCaSettings>;

/** Each generation signs itself; verifiers pin it. For the `overlap` strategy. */
export const selfSignedSettings = z.strictObject({ backdate: duration.default(15 * 60_000) });
export type SelfSignedSettings = z.infer<typeof selfSignedSettings>;
