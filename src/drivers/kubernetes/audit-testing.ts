/** Events as kube-apiserver 1.35 writes them at level Metadata, for tests. */
export interface EventFields {
  /** Milliseconds: when this stage was reached. */
  readonly at: number;
  readonly received?: number;
  readonly id?: string;
  readonly stage?: string;
  readonly verb?: string;
  readonly uri?: string;
  /** Of the client certificate; empty: none. */
  readonly fingerprint?: string;
  readonly user?: string;
  readonly impersonated?: string;
  readonly agent?: string;
  readonly from?: readonly string[];
  readonly status?: number;
}

let made = 0;
const micro = (ms: number): string => new Date(ms).toISOString().replace("Z", "123Z");

/** One line, with its newline. */
export function auditEvent(fields: EventFields): string {
  const { at, received = at, verb = "get", fingerprint = "99".repeat(32), user = "bob", status = 200 } = fields;
  const extra = { "authentication.kubernetes.io/credential-id": [`X509SHA256=${fingerprint}`] };
  const { impersonated } = fields;
  return `${JSON.stringify({
    ...{ kind: "Event", apiVersion: "audit.k8s.io/v1", level: "Metadata" },
    ...{ auditID: fields.id ?? `id-${made++}`, stage: fields.stage ?? "ResponseComplete" },
    ...{ requestURI: fields.uri ?? "/api/v1/namespaces/kube-system", verb },
    user:
      user === "" ? {} : { username: user, groups: ["system:authenticated"], ...(fingerprint === "" ? {} : { extra }) },
    ...(impersonated === undefined ? {} : { impersonatedUser: { username: impersonated, extra } }),
    sourceIPs: fields.from ?? ["10.0.0.5"],
    userAgent: fields.agent ?? "kubectl/v1.35.4 (linux/amd64) kubernetes/abc",
    objectRef: { resource: "namespaces", name: "kube-system", apiVersion: "v1" },
    responseStatus: { metadata: {}, code: status },
    ...{ requestReceivedTimestamp: micro(received), stageTimestamp: micro(at) },
    annotations: { "authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "" },
  })}\n`;
}
