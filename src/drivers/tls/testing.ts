/** Material and servers for the tests of this driver: a CA, leaves, and sockets on free ports. */
import type { AddressInfo, Server } from "node:net";
import type { Certificate } from "../../pki/certificate.ts";
import { type CertificateAuthority, prepareAuthority, signCertificate, signSelfSigned } from "../../pki/issue.ts";
import { exportPrivateKey, generateKey } from "../../pki/keys.ts";
import type { CredentialHandle, Member, Step } from "../roles.ts";

const day = 86_400_000;

export interface TestAuthority {
  readonly certificate: Certificate;
  readonly authority: CertificateAuthority;
}

export async function makeRoot(subject = "CN=test root"): Promise<TestAuthority> {
  const key = await generateKey("P-256");
  const certificate = signSelfSigned(key, {
    subject,
    isCa: true,
    notBefore: Date.now() - day,
    notAfter: Date.now() + 90 * day,
  });
  return { certificate, authority: prepareAuthority(certificate, key) };
}

export async function makeIntermediate(root: TestAuthority, subject = "CN=test issuing"): Promise<TestAuthority> {
  const key = await generateKey("P-256");
  const dates = { notBefore: Date.now() - day, notAfter: Date.now() + 60 * day };
  const certificate = signCertificate(root.authority, { subject, isCa: true, spkiDer: key.spkiDer, ...dates });
  return { certificate, authority: prepareAuthority(certificate, key) };
}

export interface Leaf extends CredentialHandle {
  readonly parsed: Certificate;
  /** PEM of the key, for node:tls servers. */
  readonly key: string;
}

/** A server or client certificate; the client's carries only a common name. */
export async function makeLeaf(
  ca: TestAuthority,
  name: string,
  how: { readonly usage?: "server" | "client"; readonly notAfter?: number } = {},
): Promise<Leaf> {
  const key = await generateKey("P-256");
  const usage = how.usage ?? "server";
  const parsed = signCertificate(ca.authority, {
    ...{ spkiDer: key.spkiDer, subject: `CN=${name},O=Shop`, usages: [usage] },
    names: usage === "server" ? [`DNS:${name}`] : [],
    ...{ notBefore: Date.now() - 2 * 3_600_000, notAfter: how.notAfter ?? Date.now() + 30 * day },
  });
  const privateKey = exportPrivateKey(key);
  const { fingerprint, serial, issuer, notAfter, pem } = parsed;
  return {
    ...{ parsed, privateKey, key: privateKey.use((bytes) => bytes.toString()) },
    ...{ fingerprint, serial, issuer, notAfter, certificate: pem },
    chain: ca.certificate.isSelfIssued ? "" : ca.certificate.pem,
  };
}

export const step = (tag = "test.1", signal: AbortSignal = AbortSignal.timeout(50_000)): Step => ({
  op: "test",
  signal,
  tag,
});
export const memberAt = (address: string): Member => ({ id: address, address });

/** Starts listening on a free loopback port; gives host:port. */
export async function listening(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A self-made certificate list as node:tls wants it. */
export const bundleOf = (...certificates: readonly Certificate[]): string =>
  certificates.map((one) => one.pem).join("");
