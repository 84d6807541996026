/** One line of an API server's audit log: an Event of audit.k8s.io/v1 (k8s.io/apiserver, pkg/apis/audit/v1/types.go). */
export interface AuditEvent {
  /** The same in every stage of one request. */
  readonly id: string;
  readonly stage: Stage;
  readonly verb: string;
  /** When the request came and when this stage was reached, milliseconds since the epoch by the API server's clock. */
  readonly received: number;
  readonly time: number;
  /** SHA-256 of the client certificate it was authenticated by; empty when by something else, or not at all. */
  readonly fingerprint: string;
  /** Who it really was, also where somebody else was impersonated. Empty: nobody was authenticated. */
  readonly user: string;
  readonly impersonated: string;
  readonly from: readonly string[];
  readonly userAgent: string;
  /** HTTP status, where there was one yet. */
  readonly status: number | undefined;
  /** The server itself ends a watch after this time, where the client asked for one. Milliseconds. */
  readonly timeout: number | undefined;
}
const stages = ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"] as const;
export type Stage = (typeof stages)[number];
export type AuditLine =
  | { readonly is: "event"; readonly event: AuditEvent }
  | { readonly is: "blank" }
  | { readonly is: "unreadable"; readonly why: string };

/** kube-apiserver names the certificate so (authentication/request/x509) since Kubernetes 1.32. */
export const credentialId = "authentication.kubernetes.io/credential-id";
const certificateMark = "X509SHA256=";

const unreadable = (why: string): AuditLine => ({ is: "unreadable", why });
type Fields = Readonly<Record<string, unknown>>;
const isRecord = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const text = (value: unknown): string => (typeof value === "string" ? value : "");
const texts = (value: unknown): string[] =>
  Array.isArray(value) ? value.filter((one) => typeof one === "string") : [];

/** Never throws. */
export function readAuditLine(line: string): AuditLine {
  if (line.trim() === "") return { is: "blank" };
  let fields: unknown;
  try {
    fields = JSON.parse(line);
  } catch {
    return unreadable("a line is cut off or not JSON");
  }
  if (!isRecord(fields) || fields.kind !== "Event" || fields.apiVersion !== "audit.k8s.io/v1")
    return unreadable("a line is no Event of audit.k8s.io/v1");
  const stage = stages.find((one) => one === fields.stage);
  const id = text(fields.auditID);
  const received = timeOf(fields.requestReceivedTimestamp);
  const time = timeOf(fields.stageTimestamp);
  if (stage === undefined || id === "") return unreadable("a line has no auditID, or no stage that is known");
  if (received === undefined || time === undefined) return unreadable("a line's times are not RFC 3339 in UTC");
  const user = isRecord(fields.user) ? fields.user : {};
  const { code } = isRecord(fields.responseStatus) ? fields.responseStatus : ({} as Fields);
  return {
    is: "event",
    event: {
      ...{ id, stage, received, time, verb: text(fields.verb), fingerprint: fingerprintOf(user) },
      ...{ user: text(user.username), from: texts(fields.sourceIPs), userAgent: text(fields.userAgent) },
      impersonated: isRecord(fields.impersonatedUser) ? text(fields.impersonatedUser.username) : "",
      status: typeof code === "number" && Number.isInteger(code) ? code : undefined,
      timeout: fields.verb === "watch" ? timeoutOf(text(fields.requestURI)) : undefined,
    },
  };
}

function fingerprintOf(user: Fields): string {
  const { extra } = user;
  const ids = isRecord(extra) && Object.hasOwn(extra, credentialId) ? texts(extra[credentialId]) : [];
  const mark = ids.find((one) => one.startsWith(certificateMark));
  const hex = mark?.slice(certificateMark.length).toLowerCase() ?? "";
  return /^[0-9a-f]{64}$/.test(hex) ? hex : "";
}

/** MicroTime: RFC 3339 with six digits, always in UTC. Milliseconds are enough; the rest is cut off. */
export function timeOf(value: unknown): number | undefined {
  if (typeof value !== "string" || !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$/.test(value)) return undefined;
  const ms = Date.parse(value);
  return Number.isFinite(ms) ? ms : undefined;
}

function timeoutOf(uri: string): number | undefined {
  const seconds = /[?&]timeoutSeconds=(\d{1,9})(?:&|$)/.exec(uri)?.[1];
  return seconds === undefined || Number(seconds) === 0 ? undefined : Number(seconds) * 1000;
}

/** Who it was, for a person: `10.0.0.5 kubectl/v1.35.4 as alice`. Free of control characters, since clients choose the words. */
export function wordsOfUser(event: AuditEvent): string {
  const [agent = ""] = event.userAgent.split(" ");
  const impersonating = event.impersonated === "" ? "" : ` (impersonating ${event.impersonated})`;
  const whence = [event.from.join(" via "), agent].filter((word) => word !== "").join(" ");
  const words = `${whence || "somebody"} as ${event.user}${impersonating}`;
  // Also the characters that turn the direction of text.
  return words.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, "?").slice(0, 200);
}
