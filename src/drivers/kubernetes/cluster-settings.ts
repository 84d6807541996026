import { z } from "zod";
import { address } from "../shared-settings.ts";

/** `spec` of a Cluster document: which cluster, how Gyre gets in, and where its API servers are. */
export const clusterSettings = z
  .strictObject({
    /** Two clusters may share a name, a certificate authority and an address; this they cannot. */
    uid: z
      .string()
      .regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, "a UID such as 3f1c9e0a-5d5e-4a53-8f0e-0d4ea1f3c2b7")
      .meta({
        description:
          "UID of the cluster's kube-system namespace: another cluster of the same name is never written to. `kubectl get namespace kube-system -o jsonpath={.metadata.uid}`",
      }),
    kubeconfig: z
      .string()
      .min(1)
      .optional()
      .meta({ description: "How Gyre gets in; without it as the service account of the pod it runs in" }),
    context: z.string().min(1).optional().meta({ description: "Context of the kubeconfig; default the current one" }),
    apiServers: z
      .strictObject({
        addresses: z.array(address).min(1).optional().meta({
          description:
            "Every API server's own address; without it they are taken from the EndpointSlices of default/kubernetes",
        }),
        serverName: z
          .string()
          .min(1)
          .default("kubernetes.default.svc")
          .meta({ description: "Name in the API servers' own certificates; default kubernetes.default.svc" }),
        count: z.int().positive().optional().meta({
          description:
            "How many API servers there must be. Without it they are counted by the leases they hold in kube-system",
        }),
      })
      .prefault({})
      .meta({ description: "The API servers, each of which is dialled itself" }),
  })
  .meta({ description: "Which cluster, how Gyre gets in, and where its API servers are" });
export type ClusterSettings = z.output<typeof clusterSettings>;

/** A field of a driver's settings: the Cluster document it works in. */
export const clusterName = z.string().min(1).meta({ description: "Name of the Cluster document" });

/** RFC 1123 label: a namespace's name. */
export const namespace = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "a namespace such as shop")
  .meta({ description: "Namespace" });

/** RFC 1123 subdomain: names of Secrets, ConfigMaps and most other objects. */
export const objectName = z
  .string()
  .max(253)
  .regex(/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/, "an object's name such as shop-tls");
