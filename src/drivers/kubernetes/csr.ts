/**
 * Issuer: the CSR API (certificates.k8s.io/v1). The request is an object whose name comes from the op, so that a try after
 * a crash finds what the one before it made; the cleaner deletes it an hour after it was decided
 * (pkg/controller/certificates/cleaner).
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { GyreError } from "../../errors.ts";
import { parseCertificates } from "../../pki/certificate.ts";
import { csrPem, parseCsr } from "../../pki/csr.ts";
import type { Issued, IssueOrder, Issuer, Step } from "../roles.ts";
import { objectOf, statusOf } from "./api.ts";
import { type ApiObject, type Cluster, fieldManager } from "./cluster.ts";
import { type CsrSettings, clientSigner } from "./csr-settings.ts";
import { mustHave, type Right } from "./rights.ts";

interface Csr extends ApiObject {
  readonly spec: { readonly request: string; readonly signerName: string };
  readonly status?: {
    /** Base64 of PEM. */
    readonly certificate?: string;
    readonly conditions?: readonly { readonly type: string; readonly reason?: string; readonly message?: string }[];
  };
}

const api = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
/** Decided requests live an hour (the cleaner runs every ten minutes); whoever comes later cannot tell what became of one. */
const remembered = 55 * 60_000;
const poll = 200;
/** The least that the API takes as expirationSeconds. */
const shortest = 600_000;

/** What the driver must be allowed. */
export function csrRights(settings: CsrSettings): Right[] {
  const group = "certificates.k8s.io";
  const resource = "certificatesigningrequests";
  const ours: Right[] = [
    { verb: "create", group, resource, why: "to ask for certificates" },
    { verb: "get", group, resource, why: "to fetch them" },
  ];
  if (settings.approval === "gyre")
    ours.push(
      { verb: "update", group, resource: `${resource}/approval`, why: "to approve its own requests" },
      { verb: "approve", group, resource: "signers", name: settings.signerName, why: "to approve its own requests" },
    );
  if (settings.roots === undefined && settings.signerName === clientSigner)
    ours.push({
      ...{ verb: "get", resource: "configmaps", namespace: "kube-system", name: authentication },
      why: "to know the client CA",
    });
  return ours;
}
const authentication = "extension-apiserver-authentication";

export function createCsrIssuer(
  settings: CsrSettings,
  around: { readonly baseDir: string; readonly cluster: (name: string) => Cluster; readonly now?: () => number },
): Issuer {
  const cluster = around.cluster(settings.cluster);
  const now = around.now ?? Date.now;
  const driver = new CsrIssuer(settings, cluster, around.baseDir);
  return {
    can: { findAfterCrash: true },
    issue: (order, step) => driver.issue(order, step),
    async find(op, since) {
      const found = await driver.read(op);
      if (found === undefined) return since !== undefined && now() - since > remembered ? "forgotten" : undefined;
      return found.status?.certificate === undefined ? undefined : driver.issuedOf(found);
    },
    async check() {
      await cluster.mustBeOurs();
      await mustHave(cluster, csrRights(settings));
      await driver.roots();
    },
  };
}

class CsrIssuer {
  readonly #settings: CsrSettings;
  readonly #cluster: Cluster;
  readonly #baseDir: string;

  constructor(settings: CsrSettings, cluster: Cluster, baseDir: string) {
    this.#settings = settings;
    this.#cluster = cluster;
    this.#baseDir = baseDir;
  }

  async issue(order: IssueOrder, step: Step): Promise<Issued> {
    await this.#cluster.mustBeOurs();
    const { signerName, patience } = this.#settings;
    if (order.lifetime < shortest)
      throw this.#error("issuer", `a lifetime under 10 minutes is taken by no signer of the CSR API`);
    const name = nameOf(step.op);
    const until = performance.now() + patience;
    let csr = await this.#ask(name, order, step);
    for (;;) {
      const { certificate, conditions = [] } = csr.status ?? {};
      if (certificate !== undefined) return this.issuedOf(csr);
      const no = conditions.find(({ type }) => type === "Denied" || type === "Failed");
      if (no !== undefined)
        throw this.#error(
          "issuer",
          `CertificateSigningRequest ${name} ${no.type === "Denied" ? "was denied" : "failed"}: ${no.reason ?? "no reason given"}${no.message ? `: ${no.message}` : ""}`,
          { next: `look at it within the hour: kubectl describe certificatesigningrequest ${name}` },
        );
      const approved = conditions.some(({ type }) => type === "Approved");
      if (!approved && this.#settings.approval === "gyre") await this.#approve(csr, step);
      if (performance.now() >= until) throw this.#unanswered(name, approved, signerName, patience);
      await sleep(poll, undefined, { signal: step.signal });
      csr = (await this.read(step.op)) ?? gone(name);
    }
  }

  /** Creates the request, or takes the one that an earlier try of the same op made. */
  async #ask(name: string, order: IssueOrder, step: Step): Promise<Csr> {
    const usages = [
      "digital signature",
      // Only RSA keys encipher keys (RFC 5480 §3, RFC 8410 §5).
      ...(parseCsr(order.csr).algorithm.startsWith("RSA") ? ["key encipherment"] : []),
      ...order.usages.map((usage) => `${usage} auth`),
    ];
    const answer = await this.#cluster.send({
      method: "POST",
      path: `${api}?fieldManager=${fieldManager}`,
      body: {
        apiVersion: "certificates.k8s.io/v1",
        kind: "CertificateSigningRequest",
        metadata: { name, labels: { "app.kubernetes.io/managed-by": "gyre" }, annotations: { "gyre.dev/op": step.op } },
        spec: {
          request: Buffer.from(csrPem(order.csr)).toString("base64"),
          signerName: this.#settings.signerName,
          expirationSeconds: Math.round(order.lifetime / 1000),
          usages,
        },
      },
      signal: step.signal,
    });
    if (answer.status === 409) {
      const there = (await this.read(step.op)) ?? gone(name);
      if (keyIn(Buffer.from(there.spec.request, "base64")) === parseCsr(order.csr).spki) return there;
      throw this.#error("conflict", `there is a CertificateSigningRequest ${name} for another key; nothing was issued`);
    }
    if (answer.status === 403 && /system:masters/.test(statusOf(answer).message ?? ""))
      throw this.#error("issuer", `${statusOf(answer).message}`, {
        next: "name a group of your own in spec.issue.subject (O=…) and bind it to a role; see docs/drivers/kubernetes-csr.md",
      });
    return objectOf<Csr>(answer, `creating CertificateSigningRequest ${name}`, this.#cluster.name);
  }

  async #approve(csr: Csr, step: Step): Promise<void> {
    const { name } = csr.metadata;
    const condition = {
      ...{ type: "Approved", status: "True", reason: "GyrePolicy" },
      message: "the manifest says approval: gyre",
    };
    const answer = await this.#cluster.send({
      method: "PUT",
      path: `${api}/${name}/approval?fieldManager=${fieldManager}`,
      body: { ...csr, status: { ...csr.status, conditions: [...(csr.status?.conditions ?? []), condition] } },
      signal: step.signal,
    });
    // Somebody wrote to it meanwhile: it is read again and judged again.
    if (answer.status !== 409) objectOf(answer, `approving CertificateSigningRequest ${name}`, this.#cluster.name);
  }

  read(op: string): Promise<Csr | undefined> {
    return this.#cluster.get<Csr>(`${api}/${nameOf(op)}`);
  }

  async issuedOf(csr: Csr): Promise<Issued> {
    const pem = Buffer.from(csr.status?.certificate ?? "", "base64").toString("utf8");
    const [leaf, ...chain] = parseCertificates(pem);
    if (leaf === undefined) throw this.#error("issuer", `${csr.metadata.name} holds no certificate`);
    return { certificate: leaf.pem, chain: chain.map((one) => one.pem).join(""), roots: await this.roots() };
  }

  /** What its certificates must lead to: for API servers' client certificates what the API servers say they accept. */
  async roots(): Promise<string> {
    const { roots, signerName } = this.#settings;
    if (roots !== undefined) return readFile(resolve(this.#baseDir, roots), "utf8");
    if (signerName === "kubernetes.io/kubelet-serving") return this.#cluster.roots();
    if (!signerName.startsWith(clientSigner))
      throw this.#error("manifest", `which CA the signer ${signerName} has, Kubernetes does not say`, {
        next: "name its CA bundle in the issuer (kubernetesCSR.roots)",
      });
    const path = `/api/v1/namespaces/kube-system/configmaps/${authentication}`;
    const found = await this.#cluster.get<ApiObject & { data?: Record<string, string> }>(path);
    const pem = found?.data?.["client-ca-file"];
    if (pem === undefined) throw this.#error("input", `ConfigMap kube-system/${authentication} names no client CA`);
    return pem;
  }

  #unanswered(name: string, approved: boolean, signerName: string, patience: number): GyreError {
    const waited = `within ${patience / 1000} s`;
    const what = approved
      ? `CertificateSigningRequest ${name} is approved, but ${signerName} issued nothing ${waited}`
      : `nobody approved CertificateSigningRequest ${name} ${waited}`;
    const next = approved
      ? `see whether a controller signs for ${signerName} (kube-controller-manager signs kubernetes.io/… only); the same request is taken up again`
      : `approve it (kubectl certificate approve ${name}), or say approval: gyre; the same request is taken up again`;
    return this.#error("issuer", what, { next, retry: "later" });
  }

  #error(
    code: "issuer" | "conflict" | "input" | "manifest",
    message: string,
    more: { next?: string; retry?: "later" } = {},
  ): GyreError {
    return new GyreError({
      code,
      message: `cluster ${this.#cluster.name}: ${message}`,
      where: this.#cluster.name,
      ...more,
    });
  }
}

/**
 * Names of objects are short and lower-case; ops are neither. Every try of one step has the same key and so the same
 * request (`#` and a number count the tries in an op): whoever approves what an error named must not be ignored.
 */
const nameOf = (op: string): string =>
  `gyre-${createHash("sha256")
    .update(op.replace(/#\d+(?=(~[^~]*)?$)/, ""))
    .digest("hex")
    .slice(0, 40)}`;

const keyIn = (pem: Buffer): string => parseCsr(pem.toString("utf8")).spki;

function gone(name: string): never {
  throw new GyreError({
    code: "issuer",
    message: `CertificateSigningRequest ${name} was deleted while it was waited for; nothing was issued`,
    retry: "later",
  });
}
