import { signSelfSigned } from "../../pki/issue.ts";
import { exportPrivateKey, generateKey } from "../../pki/keys.ts";
import type { ClientIdentity } from "./client-context.ts";

const hour = 3_600_000;

/**
 * A throwaway self-signed client certificate with the given subject: what anybody could make who knows the name. A
 * server that answers it like the real one does not look at who signed. `now` in ms; valid an hour either way, so that
 * a clock a few minutes off is not what it is refused for.
 */
export async function makeStranger(subject: string, now: number): Promise<ClientIdentity> {
  const key = await generateKey("P-256");
  const names = subject === "" ? ["DNS:stranger.invalid"] : [];
  const certificate = signSelfSigned(key, {
    ...{ subject, names, usages: ["client"] },
    ...{ notBefore: now - hour, notAfter: now + hour },
  });
  return { certificate: certificate.pem, chain: "", privateKey: exportPrivateKey(key) };
}
