import { z } from "zod";
import { mode, reload } from "../shared-settings.ts";
import { clusterName } from "./cluster-settings.ts";
import { dataKey, secretRef } from "./secret-settings.ts";

/** Where the document is. */
const place = {
  file: z.string().min(1).optional().meta({ description: "Path of the kubeconfig" }),
  secret: z
    .strictObject({
      ...secretRef,
      key: dataKey.default("kubeconfig").meta({
        description: "Key of the Secret that holds the kubeconfig, such as value for Cluster API; default kubeconfig",
      }),
    })
    .optional()
    .meta({ description: "A Secret that holds the kubeconfig, instead of a file" }),
  context: z
    .string()
    .min(1)
    .optional()
    .meta({ description: "Context whose user is rotated; default the current one, or a new one named as the cluster" }),
};
const onePlace = (s: { file?: unknown; secret?: unknown }) => (s.file === undefined) !== (s.secret === undefined);
const onePlaceMessage = { message: "give exactly one of file or secret" };
export type KubeconfigPlaceSettings = Pick<KubeconfigPresenterSettings, "file" | "secret">;

/** The user of one context of a kubeconfig, and the CA of its cluster. */
export const kubeconfigSettings = z
  .strictObject({
    ...place,
    mode: mode.optional().meta({
      description: "Octal mode of the file, in quotes; default as it is, and 0600 for a new one",
    }),
    cluster: clusterName.meta({ description: "Name of the Cluster document whose CA the kubeconfig gets" }),
    server: z
      .string()
      .regex(/^https:\/\/[^\s/]+(\/\S*)?$/, "an address such as https://10.0.0.1:6443")
      .optional()
      .meta({ description: "Where its cluster is, such as https://10.0.0.1:6443; needed to make what is missing" }),
    user: z.string().min(1).optional().meta({ description: "Name of the user entry where it is made; default gyre" }),
    material: z
      .union([
        z.literal("embedded"),
        z.strictObject({
          certificate: z.string().min(1).meta({ description: "Path of the certificate (PEM)" }),
          privateKey: z.string().min(1).meta({ description: "Path of the private key (PEM)" }),
          ca: z.string().min(1).meta({ description: "Path of the cluster's CA (PEM)" }),
        }),
      ])
      .default("embedded")
      .meta({ description: "embedded in the kubeconfig, or files beside it that it names; default embedded" }),
    reload: reload.optional(),
  })
  .refine(onePlace, onePlaceMessage)
  .refine((s) => s.material === "embedded" || s.file !== undefined, {
    message: "material in files goes with file: a Secret has none beside it",
  })
  .refine((s) => s.mode === undefined || s.file !== undefined, { message: "mode goes with file: a Secret has none" })
  .meta({ description: "The user of one context of a kubeconfig, with the cluster's CA" });
export type KubeconfigSettings = z.output<typeof kubeconfigSettings>;

/** The kubeconfig as its consumer uses it. */
export const kubeconfigPresenterSettings = z
  .strictObject({
    ...place,
    cluster: clusterName.meta({ description: "Name of the Cluster document it must lead to" }),
  })
  .refine(onePlace, onePlaceMessage)
  .meta({ description: "The kubeconfig used as its consumer would: its own server, its own CA, its own certificate" });
export type KubeconfigPresenterSettings = z.output<typeof kubeconfigPresenterSettings>;
