import { createSecureContext, DEFAULT_CIPHERS, type SecureContext, type SecureContextOptions } from "node:tls";
import { GyreError } from "../../errors.ts";
import type { Secret } from "../../pki/secret.ts";

/** What a probe shows as its client certificate: PEM, leaf first, and the key. */
export interface ClientIdentity {
  readonly certificate: string;
  readonly chain: string;
  readonly privateKey: Secret;
}

/**
 * X25519 first: one key share in the first flight instead of the ML-KEM hybrid's as well, which costs a third of the
 * client's work and protects nothing here (a probe sends no secret). The others follow, so that a server that wants
 * one of them asks for it (HelloRetryRequest).
 */
const groups = "X25519:P-256:P-384:P-521:X25519MLKEM768";
/**
 * AES-128 and its SHA-256 first: measurably less work than SHA-384 where a server follows our order. No RSA key
 * transport: there a server proves its key only with its Finished, which one that refuses us never sends.
 */
const ciphers = [
  "TLS_AES_128_GCM_SHA256",
  "TLS_AES_256_GCM_SHA384",
  "TLS_CHACHA20_POLY1305_SHA256",
  ...DEFAULT_CIPHERS.split(":").filter((name) => !name.startsWith("TLS_")),
  "!kRSA",
].join(":");

/**
 * `ca: []` leaves OpenSSL without roots. Loading the default ones takes tens of milliseconds per context, and with
 * fitting ones OpenSSL would verify the chain and Node build its legacy certificate object at every look.
 */
const common: SecureContextOptions = { ca: [], minVersion: "TLSv1.2", ecdhCurve: groups, ciphers };

let anonymous: SecureContext | undefined;
/** Keyed by the Secret itself, so that OpenSSL's copy of a key is let go with it. */
const byKey = new WeakMap<Secret, { pem: string; context: SecureContext }>();

/** The context of a probe without a client certificate. */
export function anonymousContext(): SecureContext {
  anonymous ??= createSecureContext(common);
  return anonymous;
}

/** The context that presents `identity`, made once per key object. Throws `input` when key and certificate disagree. */
export function contextFor(identity: ClientIdentity): SecureContext {
  const pem = `${identity.certificate.trim()}\n${identity.chain.trim()}\n`;
  const cached = byKey.get(identity.privateKey);
  if (cached?.pem === pem) return cached.context;
  const context = identity.privateKey.use((key) => {
    try {
      return createSecureContext({ ...common, cert: pem, key });
    } catch (error) {
      throw new GyreError({
        code: "input",
        message: `tls: the client certificate cannot be presented (${wordsOf(error)}); nothing was dialled`,
        next: "check that the private key belongs to the certificate and that both are PEM",
      });
    }
  });
  byKey.set(identity.privateKey, { pem, context });
  return context;
}

/** OpenSSL's reason only: its full message may quote input. */
function wordsOf(error: unknown): string {
  const reason = (error as { reason?: unknown }).reason;
  const code = (error as { code?: unknown }).code;
  return typeof reason === "string" ? reason : typeof code === "string" ? code : "not readable";
}
