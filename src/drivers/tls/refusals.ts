/**
 * How each kind of server refuses a client certificate: data, measured against the real servers by refusals.peer.ts
 * (nginx 1.22, HAProxy 2.6, Envoy 1.40, and servers on OpenSSL, Go and Java TLS), in TLS 1.2 and 1.3. What is not in
 * a server's table is no refusal: 403, 5xx, a reset, a time-out stay unknown.
 */
import type { Alert } from "./alerts.ts";
import type { VerifierSettings } from "./settings.ts";

export type ServerKind = VerifierSettings["server"];

export interface Refusal {
  /** Journaled and shown; an alert's own name where there is one. */
  readonly code: string;
  readonly sign: { readonly alert: Alert } | { readonly status: number; readonly body: RegExp };
  /**
   * `credential`: the one shown was rejected. `absence`: the server missed one, which says nothing about a credential
   * that was shown; it counts only for the control that shows none.
   */
  readonly of: "credential" | "absence";
  /** For the person on call. */
  readonly means: string;
}

const byAlert = (of: Refusal["of"], meanings: Partial<Record<Alert, string>>): Refusal[] =>
  Object.entries(meanings).map(([alert, means]) => ({ code: alert, sign: { alert: alert as Alert }, of, means }));

/** RFC 8446 §6.2. handshake_failure is what TLS 1.2 servers say when no certificate came, and when much else is wrong. */
const alertRefusals: readonly Refusal[] = [
  ...byAlert("credential", {
    certificate_revoked: "revoked (it is on the CRL the server loaded)",
    unknown_ca: "the server trusts no CA that signed it",
    bad_certificate: "rejected by the server's verification",
    certificate_unknown: "rejected by the server's verification, reason not given",
    certificate_expired: "expired by the server's clock, or the server's CRL is out of date (OpenSSL says the same)",
  }),
  ...byAlert("absence", {
    certificate_required: "the server saw no client certificate",
    handshake_failure: "the server saw no client certificate (TLS 1.2)",
  }),
];

/**
 * nginx finishes the handshake and answers 400 in both TLS versions. One page stands for revoked, unknown CA, expired
 * and expired CRL alike; which it was stands in its error log. `error_page 495/496` replaces the page: then unknown.
 */
const nginxRefusals: readonly Refusal[] = [
  {
    code: "nginx_certificate_error",
    sign: { status: 400, body: /<title>400 The SSL certificate error<\/title>/ },
    of: "credential",
    means:
      "nginx's verification failed: revoked, unknown CA, expired, or its CRL is out of date (its error log says which)",
  },
  {
    code: "nginx_no_certificate",
    sign: { status: 400, body: /<title>400 No required SSL certificate was sent<\/title>/ },
    of: "absence",
    means: "nginx saw no client certificate",
  },
];

export const refusalTables: Readonly<Record<ServerKind, readonly Refusal[]>> = {
  nginx: nginxRefusals,
  haproxy: alertRefusals,
  envoy: alertRefusals,
  tls: alertRefusals,
};

/** What of a look a table can match. */
export interface Answer {
  readonly alert?: Alert;
  readonly status?: number;
  readonly body?: string;
}

/** The row of the server's table that the answer matches. */
export function refusalOf(server: ServerKind, answer: Answer): Refusal | undefined {
  return refusalTables[server].find(({ sign }) =>
    "alert" in sign ? sign.alert === answer.alert : sign.status === answer.status && sign.body.test(answer.body ?? ""),
  );
}
