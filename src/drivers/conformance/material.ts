import { randomUUID } from "node:crypto";
import { GyreError } from "../../errors.ts";
import type { Certificate } from "../../pki/certificate.ts";
import { createCsr } from "../../pki/csr.ts";
import { type CertificateAuthority, prepareAuthority, signCertificate, signSelfSigned } from "../../pki/issue.ts";
import { exportPrivateKey, generateKey, type KeyAlgorithm, type PrivateKey } from "../../pki/keys.ts";
import type { IssueOrder, Material, Step } from "../roles.ts";

const DAY = 86_400_000;
const now = Date.now();

/** A root and an intermediate under it, for the suites of all drivers. */
export interface TestCa {
  readonly root: Certificate;
  readonly authority: CertificateAuthority;
  readonly rootAuthority: CertificateAuthority;
}

export async function testCa(name = "test"): Promise<TestCa> {
  const rootKey = await generateKey("P-256");
  const validity = { notBefore: now - DAY, notAfter: now + 300 * DAY };
  const root = signSelfSigned(rootKey, { subject: `CN=${name} root`, isCa: true, ...validity });
  const rootAuthority = prepareAuthority(root, rootKey);
  const key = await generateKey("P-256");
  const fields = { subject: `CN=${name} issuing`, isCa: true, pathLength: 0, ...validity };
  const intermediate = signCertificate(rootAuthority, { ...fields, spkiDer: key.spkiDer });
  return { root, rootAuthority, authority: prepareAuthority(intermediate, key) };
}

/** A leaf with its key; each call makes another generation. */
export async function testMaterial(
  ca: TestCa,
  name = "shop.example",
): Promise<Material & { readonly leaf: Certificate }> {
  const key = await generateKey("P-256");
  const leaf = signCertificate(ca.authority, {
    spkiDer: key.spkiDer,
    subject: `CN=${name}`,
    names: [`DNS:${name}`],
    usages: ["server"],
    notBefore: now - DAY / 2,
    notAfter: now + 30 * DAY,
  });
  return {
    leaf,
    certificate: leaf.pem,
    chain: ca.authority.certificate.pem,
    roots: ca.root.pem,
    privateKey: exportPrivateKey(key),
  };
}

/** A step with a name of its own. */
export function testStep(op = `shop/1/delivered/deliver/here#${randomUUID()}`): Step {
  return { op, signal: new AbortController().signal, tag: "test.1" };
}

export interface TestOrder extends IssueOrder {
  readonly pair: PrivateKey;
}

/** An order for a fresh key, and for the key itself where the issuer needs it. */
export async function testOrder(
  change: Partial<Omit<IssueOrder, "csr" | "key">> & { readonly algorithm?: KeyAlgorithm } = {},
): Promise<TestOrder> {
  const pair = await generateKey(change.algorithm ?? "P-256");
  const fields = {
    subject: change.subject ?? "CN=shop.example",
    names: change.names ?? ["DNS:shop.example"],
    usages: change.usages ?? (["server"] as const),
  };
  const lifetime = change.lifetime ?? 86_400_000;
  return { ...fields, lifetime, csr: createCsr(pair, fields), key: exportPrivateKey(pair), pair };
}

/** The code of the GyreError that `work` ends with; `none` when it succeeds. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "none",
    (error: unknown) => (error instanceof GyreError ? error.code : `not a GyreError: ${String(error)}`),
  );
}
