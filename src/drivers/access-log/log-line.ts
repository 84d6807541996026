/**
 * One line of an access log in the documented format: a JSON object, perhaps behind a syslog prefix. nginx and HAProxy
 * fill the same fields; what differs is how each says that it verified the client certificate.
 */
export interface Use {
  /** Milliseconds since the epoch by the server's clock. */
  readonly time: number;
  /** `time` is when the request ended; otherwise when it began, and lines are not in the order of their times. */
  readonly ended: boolean;
  /** Lower-case hex without leading zeros; empty when no client certificate was shown. */
  readonly serial: string;
  /** As the server wrote it. */
  readonly issuer: string;
  /** The server verified the client certificate. */
  readonly verified: boolean;
  readonly resumed: boolean;
  readonly from: string;
  readonly status: number;
  readonly userAgent: string;
}
export type Line =
  | { readonly is: "use"; readonly use: Use }
  /** A message that is no access line: HAProxy writes starts, stops and failed handshakes to the same log. */
  | { readonly is: "other" }
  | { readonly is: "unreadable"; readonly why: string };

export type LogServer = "nginx" | "haproxy";

const accepted: Readonly<Record<LogServer, ReadonlySet<string>>> = {
  // $ssl_client_verify: SUCCESS, NONE, FAILED:reason.
  nginx: new Set(["SUCCESS"]),
  // ssl_c_verify: the X509_V_ code of OpenSSL, 0 is OK (also when no certificate came, but then the serial is empty).
  haproxy: new Set(["0"]),
};
/** Longer than any line of the documented format; a longer one is damage. */
const lineLimit = 64 * 1024;
const unreadable = (why: string): Line => ({ is: "unreadable", why });

/** Never throws. */
export function readLine(server: LogServer, line: string): Line {
  if (line.trim() === "") return { is: "other" };
  if (line.length > lineLimit) return unreadable("a line is longer than 64 KiB");
  const start = line.indexOf('{"time":');
  if (start < 0) return server === "haproxy" && !/[{}]/.test(line) ? { is: "other" } : unreadable("a line is not JSON");
  let fields: unknown;
  try {
    fields = JSON.parse(line.slice(start));
  } catch {
    return unreadable("a line is cut off or not JSON");
  }
  if (typeof fields !== "object" || fields === null) return unreadable("a line is not a JSON object");
  return useOf(server, fields as Readonly<Record<string, unknown>>);
}

function useOf(server: LogServer, fields: Readonly<Record<string, unknown>>): Line {
  const text = (name: string): string | undefined => {
    const value = fields[name];
    return typeof value === "string" ? value : typeof value === "number" ? String(value) : undefined;
  };
  const missing = needed.find((name) => text(name) === undefined);
  if (missing !== undefined) return unreadable(`a line has no ${missing}`);
  const began = timeOf(fields.time);
  const status = Number(text("status"));
  if (began === undefined) return unreadable("a line's time is neither seconds nor ISO 8601");
  if (!Number.isInteger(status)) return unreadable("a line's status is not a number");
  const duration = /^\d+$/.exec(text("duration_ms") ?? "")?.[0];
  const reused = text("ssl_session_reused") ?? "";
  return {
    is: "use",
    use: {
      // HAProxy stamps the beginning of a request; its optional duration gives the end, which is the last use.
      time: began + Number(duration ?? 0),
      ended: server === "nginx" || duration !== undefined,
      serial: plainSerial(text("ssl_client_serial")!),
      issuer: text("ssl_client_i_dn")!,
      verified: accepted[server].has(text("ssl_client_verify")!),
      resumed: reused === "r" || reused === "1",
      from: text("remote_addr") ?? "",
      status,
      userAgent: text("http_user_agent")!,
    },
  };
}
const needed = ["ssl_client_serial", "ssl_client_i_dn", "ssl_client_verify", "status", "http_user_agent"];

/** Seconds with a fraction (`$msec`, `%Ts.%ms`), or ISO 8601 with a zone (`$time_iso8601`). */
function timeOf(value: unknown): number | undefined {
  const ms =
    typeof value === "number"
      ? Math.round(value * 1000)
      : typeof value === "string" && /^\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)$/.test(value)
        ? Date.parse(value)
        : Number.NaN;
  return Number.isFinite(ms) ? ms : undefined;
}

/** Serial numbers compare as lower-case hex without colons, 0x and leading zeros. */
export function plainSerial(text: string): string {
  return text
    .toLowerCase()
    .replace(/^0x/, "")
    .replace(/[:\s]/g, "")
    .replace(/^0+(?=.)/, "");
}
