import { z } from "zod";
import { address } from "../shared-settings.ts";
import { clusterName } from "./cluster-settings.ts";

/** One API server's audit log as a sensor; docs/drivers/kubernetes-audit.md has the policy it needs. */
export const auditLogSettings = z
  .strictObject({
    cluster: clusterName,
    path: z.string().min(1).meta({
      description: "Path of the API server's audit log: JSON lines; rotated files beside it are read too",
    }),
    /** The verifier member whose log this is: our tagged probe there must show up here. */
    member: address.meta({ description: "The API server's own address: each API server writes a log of its own" }),
    /** Adoption also needs to have seen somebody other than our probe use the new generation here. */
    mustSeeNewUse: z
      .boolean()
      .default(false)
      .meta({ description: "Also wait until somebody other than Gyre used the new generation" }),
  })
  .meta({ description: "An API server's audit log as a record of who used the credential" });
export type AuditLogSettings = z.output<typeof auditLogSettings>;
