import { z } from "zod";

/**
 * A server's access log as a sensor. The line must carry time, client certificate (serial and issuer, or the
 * certificate itself), verdict and User-Agent; docs/drivers/access-log.md has the log_format lines to copy.
 */
export const accessLogSettings = z
  .strictObject({
    path: z.string().meta({ description: "Path of the access log" }),
    /** Which of our documented formats the lines have. */
    server: z.enum(["nginx", "haproxy"]).meta({ description: "Which of the documented line formats it has" }),
    /** The verifier member (host:port) whose log this is: our tagged probe there must show up here. */
    member: z.string().meta({ description: "The address of the server that writes it, as listed under mutualTls" }),
    /** Adoption also needs to have seen somebody other than our probe use the new generation here. */
    mustSeeNewUse: z
      .boolean()
      .default(false)
      .meta({ description: "Also wait until somebody other than Gyre used the new generation" }),
  })
  .meta({ description: "An access log as a record of who used the credential" });
export type AccessLogSettings = z.infer<typeof accessLogSettings>;
