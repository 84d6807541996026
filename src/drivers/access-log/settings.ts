import { z } from "zod";

/**
 * A server's access log as a sensor. The line must carry time, client certificate (serial and issuer, or the
 * certificate itself), verdict and User-Agent; docs/drivers/access-log.md has the log_format lines to copy.
 */
export const accessLogSettings = z.strictObject({
  path: z.string(),
  /** Which of our documented formats the lines have. */
  server: z.enum(["nginx", "haproxy"]),
  /** The verifier member (host:port) whose log this is: our tagged probe there must show up here. */
  member: z.string(),
  /** Adoption also needs to have seen somebody other than our probe use the new generation here. */
  mustSeeNewUse: z.boolean().default(false),
});
export type AccessLogSettings = z.infer<typeof accessLogSettings>;
