import { z } from "zod";
import { clusterName, namespace } from "./cluster-settings.ts";

/** Where a subject or a group names the generation it is for. */
export const generationMark = "{generation}";

/** A group per generation, bound to a role: what Kubernetes cannot revoke can be denied by taking the binding away. */
export const groupBindingSettings = z
  .strictObject({
    cluster: clusterName,
    group: z
      .string()
      .refine(
        (text) => text.includes(generationMark),
        `a group with ${generationMark} in it, such as gyre:admins:${generationMark}`,
      )
      .refine(
        (text) => !text.startsWith("system:"),
        "a group that does not begin with system:, which Kubernetes keeps for itself",
      )
      .meta({
        description: `The group of each generation, such as gyre:admins:${generationMark}; the same stands as O= in spec.issue.subject`,
      }),
    clusterRole: z.string().min(1).optional().meta({ description: "ClusterRole that the group is bound to" }),
    role: z.string().min(1).optional().meta({ description: "Role of `namespace` that the group is bound to" }),
    namespace: namespace
      .optional()
      .meta({ description: "Bind in this namespace only (RoleBinding); without it in the whole cluster" }),
  })
  .refine((s) => (s.clusterRole === undefined) !== (s.role === undefined), "give exactly one of clusterRole and role")
  .refine((s) => s.role === undefined || s.namespace !== undefined, "a role needs its namespace")
  .meta({
    description: "A group for each generation, bound to a role: the old one is denied by taking its binding away",
  });
export type GroupBindingSettings = z.output<typeof groupBindingSettings>;
