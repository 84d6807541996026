/**
 * TLS alerts by number and by the code Node gives the error that carries one. Names are those of RFC 8446 §6, with
 * the older ones of RFC 5246 §7.2 and RFC 6066 §9 that servers still send.
 */
export const alertNames = {
  10: "unexpected_message",
  20: "bad_record_mac",
  21: "decryption_failed",
  22: "record_overflow",
  30: "decompression_failure",
  40: "handshake_failure",
  41: "no_certificate",
  42: "bad_certificate",
  43: "unsupported_certificate",
  44: "certificate_revoked",
  45: "certificate_expired",
  46: "certificate_unknown",
  47: "illegal_parameter",
  48: "unknown_ca",
  49: "access_denied",
  50: "decode_error",
  51: "decrypt_error",
  60: "export_restriction",
  70: "protocol_version",
  71: "insufficient_security",
  80: "internal_error",
  86: "inappropriate_fallback",
  90: "user_canceled",
  100: "no_renegotiation",
  109: "missing_extension",
  110: "unsupported_extension",
  111: "certificate_unobtainable",
  112: "unrecognized_name",
  113: "bad_certificate_status_response",
  114: "bad_certificate_hash_value",
  115: "unknown_psk_identity",
  116: "certificate_required",
  120: "no_application_protocol",
} as const;

export type Alert = (typeof alertNames)[keyof typeof alertNames];

/**
 * Node builds `err.code` from OpenSSL's reason text, so the prefix depends on the OpenSSL it carries: `SSL/TLS_ALERT_X`
 * since 3.2, `SSLV3_ALERT_X` before, `TLSV1_ALERT_X`, `TLSV13_ALERT_X`, and `TLSV1_X` for the extension alerts. Only
 * what follows the prefix is stable; a few of those words differ from the RFC's.
 */
const prefix = /^ERR_SSL_(?:SSL\/TLS_ALERT|SSLV3_ALERT|TLSV1_ALERT|TLSV13_ALERT|TLSV1)_(.+)$/;
const spelledDifferently: Readonly<Record<string, Alert>> = { user_cancelled: "user_canceled" };
const known = new Set<string>(Object.values(alertNames));
const isAlert = (name: string): name is Alert => known.has(name);

/**
 * The alert behind an error of a TLSSocket; undefined when the error is not about a received alert. An alert OpenSSL
 * has no words for (a number outside the table) arrives as a plain reset and is not seen here.
 */
export function alertOf(error: { readonly code?: unknown; readonly message?: string }): Alert | undefined {
  const word = typeof error.code === "string" ? prefix.exec(error.code)?.[1]?.toLowerCase() : undefined;
  if (word !== undefined) {
    const name = spelledDifferently[word] ?? word;
    if (isAlert(name)) return name;
  }
  const number = /SSL alert number (\d+)/.exec(error.message ?? "")?.[1];
  return number === undefined ? undefined : (alertNames as Readonly<Record<string, Alert>>)[number];
}
