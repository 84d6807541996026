import type { Secret } from "../pki/secret.ts";

/** Private keys and sessions, one encrypted blob each, deletable. Names look like `shop-tls/g4.key`. */
export interface SecretStore {
  /** Durable before it resolves; refuses to overwrite different content (code `conflict`). Gives the digest of the *ciphertext*. */
  put(name: string, secret: Secret): Promise<`sha256:${string}`>;
  get(name: string): Promise<Secret | undefined>;
  /** Overwrites, unlinks and syncs the directory. Repeats safely. */
  delete(name: string): Promise<void>;
  list(): Promise<readonly string[]>;
}
