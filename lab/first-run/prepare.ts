import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openLocalCa } from "../../src/drivers/local-ca/local-ca.ts";
import { localCaSettings } from "../../src/drivers/local-ca/settings.ts";
import { createCsr } from "../../src/pki/csr.ts";
import { exportPrivateKey, generateKey } from "../../src/pki/keys.ts";

export interface Replica {
  readonly name: string;
  readonly port: number;
  readonly dir: string;
  readonly address: string;
}

const passphrase = "first run, nothing secret";
const hour = 3600_000;

/** The state before Gyre's first rotation: a CA, and one certificate that all three servers use, 20 hours old. */
export async function prepare(home: string, replicas: readonly Replica[]): Promise<void> {
  const settings = localCaSettings.parse({ directory: "ca", subject: "CN=First run CA", passphrase });
  const ca = await openLocalCa(settings, { baseDir: home, now: () => Date.now() });
  const key = await generateKey("P-256");
  const step = { op: "before-gyre", tag: "before.gyre", signal: new AbortController().signal };
  const order = {
    subject: "CN=mesh",
    names: ["DNS:mesh.example"],
    usages: ["server", "client"] as const,
    lifetime: 24 * hour,
  };
  const issued = await ca.issue({ ...order, csr: createCsr(key, order) }, step);
  const crl = await ca.publishCrl!(step);
  for (const { dir } of replicas) {
    writeFileSync(join(dir, "tls.pem"), issued.certificate + issued.chain);
    exportPrivateKey(key).use((pem) => writeFileSync(join(dir, "tls.key"), pem, { mode: 0o600 }));
    copyFileSync(join(home, "ca", "ca.crt"), join(dir, "ca.pem"));
    writeFileSync(join(dir, "ca.crl"), crl);
  }
}

/** What an operator writes. Two documents: who issues, and what is rotated. */
export function manifestOf(replicas: readonly Replica[]): string {
  const addresses = replicas.map((replica) => replica.address).join(", ");
  const reload = ({ name }: Replica): string => `reload: { signal: SIGHUP, pidFile: ${name}/server.pid }`;
  return `# Three TLS servers with mutual TLS. Relative paths start at this file.
apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: first-run-ca }
spec:
  localCA: { directory: ca, subject: "CN=First run CA", passphrase: "${passphrase}" }
  crl:
    lifetime: 24h
    deliver:
${replicas.map((replica) => `      - files: { crl: ${replica.name}/ca.crl, mode: "0644" }\n        ${reload(replica)}`).join("\n")}
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: mesh-tls }
spec:
  issue: { issuer: first-run-ca, subject: CN=mesh, dnsNames: [mesh.example], usages: [server, client], lifetime: 24h }
  renew: { after: 66% }
  deliver:
${replicas.map((replica) => `    - files: { certificate: ${replica.name}/tls.pem, privateKey: ${replica.name}/tls.key }\n      ${reload(replica)}`).join("\n")}
  prove:
    # each server presents it …
    - tls: { serverName: mesh.example, addresses: [${addresses}] }
    # … and checks it when another one calls
    - mutualTls: { serverName: mesh.example, addresses: [${addresses}], refuses: crl, request: { identityHeader: x-client-serial } }
  quiet: { window: 2s }
  timing: { patience: 3s, poll: 500ms }
`;
}
