import { z } from "zod";
import { command, mode, reload, secretOrFile } from "../shared-settings.ts";

const owner = {
  mode: mode.optional().meta({
    description:
      "Octal mode of the files, in quotes; default as it is, and for new files 0600 with a key, 0644 without",
  }),
  owner: z.string().optional().meta({ description: "Owner of the files: name or number; default as it is" }),
  group: z.string().optional().meta({ description: "Group of the files: name or number; default as it is" }),
};

const password = secretOrFile("password").meta({ description: "The password: a value, ${ENV}, or { file: … }" });

/** The program that must agree before the process is told. `{certificate}`, `{privateKey}`, `{chain}`, `{combined}` and `{keystore}` (in a
 *  trust store `{bundle}`, `{crl}` and `{truststore}`) in it stand for the staged files: then it runs before the switch; without them it
 *  runs after the switch, which is undone when it fails. */
const validate = z
  .strictObject({ command })
  .optional()
  .meta({ description: "A program that must agree with what is about to be used" });

/** Key, certificate and chain as one atomic unit. */
export const targetSettings = z
  .strictObject({
    /** PEM: leaf and chain (or, when `chain` names a file of its own, the leaf alone). */
    certificate: z
      .string()
      .optional()
      .meta({ description: "Path of the certificate (PEM): leaf and chain, or the leaf alone when chain is given" }),
    privateKey: z.string().optional().meta({ description: "Path of the private key (PEM, PKCS#8)" }),
    chain: z
      .string()
      .optional()
      .meta({ description: "Path of the intermediates (PEM), where the server wants them apart" }),
    /** HAProxy's form: leaf, chain and key in one PEM file. */
    combined: z
      .string()
      .optional()
      .meta({ description: "Path of one PEM file with leaf, chain and key, as HAProxy reads it" }),
    /** A PKCS#12 key store, as Java and .NET read it; `password` is a value, `${ENV}` or `{ file: … }`. */
    keystore: z
      .strictObject({
        path: z.string().meta({ description: "Path of the key store" }),
        password,
        alias: z.string().default("gyre").meta({ description: "Name of the entry in the store; default gyre" }),
        format: z.enum(["pkcs12", "jks"]).default("pkcs12").meta({ description: "pkcs12 or jks; default pkcs12" }),
      })
      .optional()
      .meta({ description: "A key store as Java and .NET read it" }),
    ...owner,
    /** `switch`: all files change in one rename of a directory link. `rename`: plain files, one rename each (not atomic together). */
    layout: z.enum(["switch", "rename"]).optional().meta({
      description: "switch: all files change in one step, behind a directory link; rename: plain files, one step each",
    }),
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
  )
  .meta({ description: "Key, certificate and chain as files that change together" });
export type TargetSettings = z.infer<typeof targetSettings>;

/** A CA bundle, pins or a CRL kept in one file. */
export const trustStoreSettings = z
  .strictObject({
    /** Path of a PEM bundle of certificates (CAs or pins). */
    bundle: z.string().optional().meta({ description: "Path of a PEM bundle of certificates (CAs or pins)" }),
    /** Path of a PEM file of CRLs. Only our issuer's CRL in it is replaced; others stay. */
    crl: z.string().optional().meta({ description: "Path of a PEM file of CRLs; CRLs of other issuers in it stay" }),
    /** A PKCS#12 trust store (certificates only). */
    truststore: z
      .strictObject({
        path: z.string().meta({ description: "Path of the trust store" }),
        password,
      })
      .optional()
      .meta({ description: "A PKCS#12 trust store: certificates only" }),
    ...owner,
    validate,
    reload: reload.optional(),
  })
  .refine((t) => [t.bundle, t.crl, t.truststore].filter((x) => x !== undefined).length === 1, {
    message: "give exactly one of bundle, crl or truststore",
  })
  .meta({ description: "A CA bundle, pins or a CRL kept in one file" });
export type TrustStoreSettings = z.infer<typeof trustStoreSettings>;
