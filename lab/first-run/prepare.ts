import { join } from "node:path";
import { caBefore } from "../gyre.ts";

export interface Replica {
  readonly name: string;
  readonly port: number;
  readonly dir: string;
  readonly address: string;
}

/** The state before Gyre's first rotation: a CA, and one certificate that all three servers use. Gives the manifest. */
export async function prepare(home: string, replicas: readonly Replica[]): Promise<string> {
  const before = await caBefore(home, "CN=First run CA");
  const mesh = await before.issue({ subject: "CN=mesh", names: ["DNS:mesh.example"], usages: ["server", "client"] });
  for (const { dir } of replicas) {
    mesh.writePem(join(dir, "tls.pem"), join(dir, "tls.key"));
    before.writeRoots(join(dir, "ca.pem"));
    await before.writeCrl(join(dir, "ca.crl"));
  }
  return manifestOf(before.manifest, replicas);
}

/** What an operator writes. Two documents: who issues, and what is rotated. */
function manifestOf(localCa: string, replicas: readonly Replica[]): string {
  const addresses = replicas.map((replica) => replica.address).join(", ");
  const reload = ({ name }: Replica): string => `reload: { signal: SIGHUP, pidFile: ${name}/server.pid }`;
  const crl = replicas.map((one) => `      - files: { crl: ${one.name}/ca.crl, mode: "0644" }\n        ${reload(one)}`);
  const pairs = replicas.map(
    (one) => `    - files: { certificate: ${one.name}/tls.pem, privateKey: ${one.name}/tls.key }\n      ${reload(one)}`,
  );
  return `# Three TLS servers with mutual TLS. Relative paths start at this file.
apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: first-run-ca }
spec:
  ${localCa}
  crl:
    lifetime: 24h
    deliver:
${crl.join("\n")}
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: mesh-tls }
spec:
  issue: { issuer: first-run-ca, subject: CN=mesh, dnsNames: [mesh.example], usages: [server, client], lifetime: 24h }
  renew: { after: 66% }
  deliver:
${pairs.join("\n")}
  prove:
    # each server presents it …
    - tls: { serverName: mesh.example, addresses: [${addresses}] }
    # … and checks it when another one calls
    - mutualTls: { serverName: mesh.example, addresses: [${addresses}], refuses: crl, request: { identityHeader: x-client-serial } }
  quiet: { window: 2s }
  timing: { patience: 3s, poll: 500ms }
`;
}
