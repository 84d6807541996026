import { z } from "zod";
import { command, mode, reload } from "../shared-settings.ts";

const owner = { mode: mode.default("0600"), owner: z.string().optional(), group: z.string().optional() };

/** The program that must agree before the process is told. `{certificate}`, `{privateKey}`, `{chain}` and `{keystore}` in it stand for
 *  the staged files: then it runs before the switch; without them it runs between the switch and the reload. */
const validate = z.strictObject({ command }).optional();

/** Key, certificate and chain as one atomic unit. */
export const targetSettings = z
  .strictObject({
    /** PEM: leaf and chain (or, when `chain` names a file of its own, the leaf alone). */
    certificate: z.string().optional(),
    privateKey: z.string().optional(),
    chain: z.string().optional(),
    /** HAProxy's form: leaf, chain and key in one PEM file. */
    combined: z.string().optional(),
    /** A PKCS#12 key store, as Java and .NET read it; `password` is a value, `${ENV}` or `{ file: … }`. */
    keystore: z
      .strictObject({
        path: z.string(),
        password: z.union([z.string(), z.strictObject({ file: z.string() })]),
        alias: z.string().default("gyre"),
        format: z.enum(["pkcs12", "jks"]).default("pkcs12"),
      })
      .optional(),
    ...owner,
    /** `switch`: all files change in one rename of a directory link. `rename`: plain files, one rename each (not atomic together). */
    layout: z.enum(["switch", "rename"]).optional(),
    validate,
    reload: reload.optional(),
  })
  .refine(
    (t) =>
      t.combined !== undefined ||
      t.keystore !== undefined ||
      (t.certificate !== undefined && t.privateKey !== undefined),
    {
      message: "give certificate and privateKey, or combined, or keystore",
    },
  );
export type TargetSettings = z.infer<typeof targetSettings>;

/** A CA bundle, pins or a CRL kept in one file. */
export const trustStoreSettings = z
  .strictObject({
    /** Path of a PEM bundle of certificates (CAs or pins). */
    bundle: z.string().optional(),
    /** Path of a PEM file of CRLs. Only our issuer's CRL in it is replaced; others stay. */
    crl: z.string().optional(),
    /** A PKCS#12 trust store (certificates only). */
    truststore: z
      .strictObject({ path: z.string(), password: z.union([z.string(), z.strictObject({ file: z.string() })]) })
      .optional(),
    ...owner,
    validate,
    reload: reload.optional(),
  })
  .refine((t) => [t.bundle, t.crl, t.truststore].filter((x) => x !== undefined).length === 1, {
    message: "give exactly one of bundle, crl or truststore",
  });
export type TrustStoreSettings = z.infer<typeof trustStoreSettings>;
