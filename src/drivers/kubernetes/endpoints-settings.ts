import { z } from "zod";
import { clusterName, namespace, objectName } from "./cluster-settings.ts";

/** Every endpoint of a Service, each dialled itself; for an Ingress, of the ingress controller's Service. */
export const endpointsSettings = z
  .strictObject({
    cluster: clusterName,
    namespace,
    service: objectName.meta({ description: "Service; for an Ingress the one of its ingress controller" }),
    port: z
      .union([z.int().min(1).max(65_535), z.string().min(1)])
      .optional()
      .meta({ description: "Port of the Service, by number or name; may be left out where it has only one" }),
  })
  .meta({ description: "Every endpoint of a Service: its EndpointSlices, counted against the pods it selects" });
export type EndpointsSettings = z.output<typeof endpointsSettings>;
