import { z } from "zod";
import { reload } from "../shared-settings.ts";
import { clusterName, namespace, objectName } from "./cluster-settings.ts";

const takeOver = z.boolean().default(false).meta({
  description:
    "Write even where the object's managedFields show that another program wrote the same keys; default false",
});
const create = z.boolean().default(false).meta({
  description: "Make it where it is missing; default false, so that a slip in the name is told and not created",
});

/** Keys of a Secret or ConfigMap (apimachinery validation.IsConfigMapKey). */
export const dataKey = z
  .string()
  .max(253)
  .regex(/^(?!\.\.)(?!\.$)[-._a-zA-Z0-9]+$/, "a key such as tls.crt");

/** One Secret, which a driver writes into. */
export const secretRef = {
  cluster: clusterName,
  namespace,
  name: objectName.meta({ description: "Name of the Secret" }),
  create,
  takeOver,
};

/** Key, certificate and chain in one Secret. */
export const secretSettings = z
  .strictObject({
    ...secretRef,
    layout: z.enum(["tls", "opaque"]).default("tls").meta({
      description:
        "tls: type kubernetes.io/tls, leaf and chain in tls.crt, the key in tls.key; opaque: the keys named by `keys`. Default tls",
    }),
    keys: z
      .strictObject({
        certificate: dataKey.optional().meta({
          description: "Key that holds leaf and chain (PEM), or the leaf alone where chain is given",
        }),
        privateKey: dataKey.optional().meta({ description: "Key that holds the private key (PEM, PKCS#8)" }),
        chain: dataKey.optional().meta({ description: "Key that holds the intermediates (PEM)" }),
        combined: dataKey.optional().meta({ description: "Key that holds leaf, chain and key as one PEM" }),
        ca: dataKey.optional().meta({ description: "Key that holds the issuer's roots (PEM)" }),
      })
      .refine((k) => k.combined !== undefined || (k.certificate !== undefined && k.privateKey !== undefined), {
        message: "give certificate and privateKey, or combined",
      })
      .refine((k) => new Set(Object.values(k)).size === Object.values(k).length, { message: "each key another name" })
      .optional()
      .meta({ description: "Which key of the Secret holds what, with layout: opaque" }),
    caKey: dataKey
      .optional()
      .meta({ description: "Key for the issuer's roots with layout: tls, such as ca.crt; default none" }),
    reload: reload.optional(),
  })
  .refine((s) => (s.layout === "opaque") === (s.keys !== undefined), {
    message: "layout: opaque goes with keys, and keys with layout: opaque",
  })
  .refine((s) => s.layout === "tls" || s.caKey === undefined, {
    message: "with layout: opaque the roots go to keys.ca, and caKey goes with layout: tls",
  })
  .refine((s) => s.caKey !== "tls.crt" && s.caKey !== "tls.key", {
    message: "another key than tls.crt and tls.key",
    path: ["caKey"],
  })
  .meta({ description: "Key, certificate and chain in a Kubernetes Secret" });
export type SecretSettings = z.output<typeof secretSettings>;

/** A CA bundle in a ConfigMap. */
export const configMapSettings = z
  .strictObject({
    cluster: clusterName,
    namespace,
    name: objectName.meta({ description: "Name of the ConfigMap" }),
    key: dataKey.default("ca.crt").meta({ description: "Key that holds the bundle (PEM); default ca.crt" }),
    create,
    takeOver,
    reload: reload.optional(),
  })
  .meta({ description: "A CA bundle (PEM) in one key of a ConfigMap" });
export type ConfigMapSettings = z.output<typeof configMapSettings>;

const registered = ["validatingWebhook", "mutatingWebhook", "apiService"] as const;
/** The bundle by which API servers judge a webhook's or an aggregated API's server. */
export const caBundleSettings = z
  .strictObject({
    cluster: clusterName,
    validatingWebhook: objectName.optional().meta({ description: "Name of a ValidatingWebhookConfiguration" }),
    mutatingWebhook: objectName.optional().meta({ description: "Name of a MutatingWebhookConfiguration" }),
    apiService: objectName.optional().meta({ description: "Name of an APIService, such as v1.metrics.k8s.io" }),
    webhook: z
      .string()
      .min(1)
      .optional()
      .meta({ description: "One webhook of the configuration; default all of them, which must then agree" }),
    takeOver,
  })
  .refine((s) => registered.filter((field) => s[field] !== undefined).length === 1, {
    message: `give exactly one of ${registered.join(", ")}`,
  })
  .refine((s) => s.apiService === undefined || s.webhook === undefined, {
    message: "an APIService has no webhooks: take `webhook` out",
  })
  .meta({ description: "The caBundle of a webhook configuration or an APIService" });
export type CaBundleSettings = z.output<typeof caBundleSettings>;
