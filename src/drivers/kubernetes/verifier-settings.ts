import { z } from "zod";
import { clusterName } from "./cluster-settings.ts";

/** Something the holder of the credential may do, in the words of RBAC. */
const ability = z
  .strictObject({
    verb: z.string().min(1).meta({ description: "Verb such as get, list, create, or * for all" }),
    group: z.string().default("").meta({ description: "API group; default the core group" }),
    resource: z.string().min(1).meta({ description: "Resource such as pods or deployments/scale, or * for all" }),
    namespace: z.string().min(1).optional().meta({ description: "In this namespace; without it in the whole cluster" }),
    name: z.string().min(1).optional().meta({ description: "One object only" }),
  })
  .meta({ description: "One thing the credential is good for" });

export const apiVerifierSettings = z
  .strictObject({
    cluster: clusterName,
    may: z.array(ability).default([]).meta({
      description:
        "What the new one must be allowed, and the old one must no longer be, asked by SelfSubjectAccessReview at every API server",
    }),
    refuses: z.enum(["group", "nothing"]).default("nothing").meta({
      description:
        "group: the old one is denied by taking its group's binding away (spec.trust groupBinding); nothing: it is good until it expires, since Kubernetes revokes no certificate. Default nothing",
    }),
  })
  .refine((s) => s.refuses !== "group" || s.may.length > 0, {
    message: "refuses: group needs `may`: what the old one must be seen denied",
    path: ["may"],
  })
  .meta({ description: "Every API server of a cluster, each dialled itself" });
export type ApiVerifierSettings = z.output<typeof apiVerifierSettings>;
