import { z } from "zod";
import { Secret } from "../pki/secret.ts";

/** Accepts `30s`, `15m`, `24h`, `7d`, `2w`, or a sum such as `1h30m`; gives milliseconds. */
export const duration = z
  .string()
  .regex(/^(\d+(\.\d+)?(ms|s|m|h|d|w))+$/, "a duration such as 30s, 15m, 24h, 7d or 1h30m")
  .transform((text) => {
    const unit: Record<string, number> = { ms: 1, s: 1e3, m: 60e3, h: 3600e3, d: 86400e3, w: 604800e3 };
    let total = 0;
    for (const [, amount, name] of text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhdw])/g))
      total += Number(amount) * unit[name!]!;
    return total;
  })
  .meta({ description: "A duration such as 30s, 15m, 24h, 7d or 1h30m" });

/** Octal as text, since YAML reads 0600 as 384. */
export const mode = z
  .string()
  .regex(/^0?[0-7]{3}$/, 'an octal mode in quotes, such as "0600"')
  .meta({ description: "Octal file mode, in quotes" });

/** A passphrase or password: the value itself (or `${ENV}`), a Secret from here on, or `{ file: … }`, see `readPassword`. */
export const secretOrFile = (what: string, value: z.ZodString = z.string()) =>
  z.union([
    value.transform((text) => Secret.of(text)),
    z.strictObject({ file: z.string().meta({ description: `File that holds the ${what}` }) }),
  ]);

/** A command as a list: no shell in between, so nothing is expanded or split. */
export const command = z.array(z.string().min(1)).min(1).meta({ description: "Program and arguments; no shell" });

/** How the process behind a target or trust store is told to load what is stored. */
export const reload = z
  .strictObject({
    command: command.optional().meta({ description: "Run this to reload" }),
    /** Sends `signal` to the process whose id stands in `pidFile`. */
    signal: z
      .enum(["SIGHUP", "SIGUSR1", "SIGUSR2"])
      .optional()
      .meta({ description: "Send this signal to the process whose id stands in pidFile" }),
    pidFile: z.string().optional().meta({ description: "File that holds the id of the process to signal" }),
    /** The process watches its files itself. */
    watch: z.literal(true).optional().meta({ description: "The process watches its files itself" }),
    /** Kill the reload command after this time. */
    timeout: duration.default(30_000).meta({ description: "Stop the reload command after this time; default 30s" }),
  })
  .refine((r) => [r.command, r.signal, r.watch].filter((x) => x !== undefined).length === 1, {
    message: "give exactly one of command, signal (with pidFile) or watch",
  })
  .refine((r) => r.signal === undefined || r.pidFile !== undefined, { message: "signal needs pidFile" })
  .meta({ description: "How the process is told to load what is stored" });
export type Reload = z.infer<typeof reload>;

/** `host:port`; an IPv6 host in brackets. */
export const address = z
  .string()
  .regex(/^(\[[0-9a-fA-F:]+\]|[^\s:[\]/]+):\d{1,5}$/, "host:port, such as 10.0.0.1:443 or [::1]:8443")
  .meta({ description: "host:port; an IPv6 address in brackets" });
