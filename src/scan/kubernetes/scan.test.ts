import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Certificate } from "../../pki/certificate.ts";
import { createCsr, csrPem } from "../../pki/csr.ts";
import { prepareAuthority, signCertificate, signSelfSigned } from "../../pki/issue.ts";
import { writeJks } from "../../pki/jks.ts";
import { exportPrivateKey, generateKey, type PrivateKey } from "../../pki/keys.ts";
import { writePkcs12 } from "../../pki/pkcs12.ts";
import type { Found } from "../found.ts";
import { withDefaults } from "../scan.ts";
import { FakeApi } from "./fake-lists.ts";
import { scanCluster } from "./scan.ts";

const now = Date.UTC(2026, 10, 26, 12);
const day = 86_400_000;
let keys: { ca: PrivateKey; web: PrivateKey; other: PrivateKey };
let ca: Certificate;
let otherCa: Certificate;
let web: Certificate;
let client: Certificate;
beforeAll(async () => {
  const made = await Promise.all(["P-256", "P-256", "P-256"].map(() => generateKey("P-256")));
  keys = { ca: made[0]!, web: made[1]!, other: made[2]! };
  const life = { notBefore: now - day, notAfter: now + 10 * day + 1 };
  ca = signSelfSigned(keys.ca, { subject: "CN=cluster", isCa: true, ...life });
  otherCa = signSelfSigned(keys.other, { subject: "CN=before", isCa: true, ...life });
  const sign = (subject: string, usages: readonly ("server" | "client")[]) =>
    signCertificate(prepareAuthority(ca, keys.ca), {
      ...{ subject, names: ["DNS:web.example"], usages, spkiDer: keys.web.spkiDer, ...life },
    });
  web = sign("CN=web.example", ["server"]);
  client = sign("CN=admin", ["client"]);
});

let api: FakeApi;
const served: Record<string, string> = {
  Secret: "/api/v1/secrets",
  ConfigMap: "/api/v1/configmaps",
  Pod: "/api/v1/pods",
  Ingress: "/apis/networking.k8s.io/v1/ingresses",
  ValidatingWebhookConfiguration: "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
  MutatingWebhookConfiguration: "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
  CustomResourceDefinition: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
  APIService: "/apis/apiregistration.k8s.io/v1/apiservices",
  CertificateSigningRequest: "/apis/certificates.k8s.io/v1/certificatesigningrequests",
};
beforeEach(() => {
  api = new FakeApi();
  for (const path of Object.values(served)) api.lists.set(path, []);
  const root = { metadata: { name: "kube-root-ca.crt", namespace: "kube-system" }, data: { "ca.crt": ca.pem } };
  api.lists.set("/api/v1/namespaces/kube-system/configmaps", [root]);
  put("ConfigMap", root);
});
const put = (kind: string, ...objects: Record<string, unknown>[]) => api.lists.get(served[kind]!)!.push(...objects);
const base64 = (value: string | Buffer) => Buffer.from(value).toString("base64");
const keyPem = (key: PrivateKey) => exportPrivateKey(key).use((bytes) => bytes.toString("utf8"));
const secret = (name: string, data: Record<string, string | Buffer>, type = "Opaque", namespace = "shop") => ({
  metadata: { name, namespace },
  type,
  data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, base64(value)])),
});
async function finds(namespaces: readonly string[] = [], options: object = {}): Promise<Found[]> {
  const all: Found[] = [];
  const cluster = scanCluster(api.open(), namespaces, withDefaults({ now, lint: false, ...options }));
  for await (const found of cluster) all.push(found);
  return all.filter(({ where }) => where !== "ConfigMap kube-system/kube-root-ca.crt/ca.crt:1");
}
const words = (all: readonly Found[]) =>
  all.map(({ what, where, findings }) => [what, where, ...findings.map(({ code }) => code)].join(" "));

describe("a Secret", () => {
  test("certificate, key and CA, judged together; whose it is and who uses it", async () => {
    put("Secret", {
      ...secret("web", { "tls.crt": web.pem, "tls.key": keyPem(keys.web), "ca.crt": ca.pem }, "kubernetes.io/tls"),
      metadata: { name: "web", namespace: "shop", annotations: { "cert-manager.io/certificate-name": "web" } },
    });
    put("Ingress", { metadata: { name: "front", namespace: "shop" }, spec: { tls: [{ secretName: "web" }] } });
    const all = await finds();
    expect(words(all)).toEqual([
      "certificate Secret shop/web/tls.crt:1",
      "CA Secret shop/web/ca.crt:1",
      "private key Secret shop/web/tls.key:1",
    ]);
    expect(all[0]).toMatchObject({
      ...{ issuer: "CN=cluster", daysLeft: 10, key: { where: "Secret shop/web/tls.key:1", matches: true } },
      object: {
        ...{ kind: "Secret", namespace: "shop", name: "web", key: "tls.crt", type: "kubernetes.io/tls" },
        owners: [{ by: "cert-manager", who: "Certificate web" }],
        users: [{ who: "Ingress shop/front", how: "tls" }],
      },
    });
  });

  test("a pair that does not fit, an empty one, damage", async () => {
    put("Secret", secret("torn", { "tls.crt": web.pem, "tls.key": keyPem(keys.other) }, "kubernetes.io/tls"));
    put("Secret", secret("empty", { "tls.crt": "", "tls.key": "" }, "kubernetes.io/tls"));
    put("Secret", secret("cut", { "tls.crt": web.pem.slice(0, 200) }, "kubernetes.io/tls"));
    expect(words(await finds())).toEqual([
      "certificate Secret shop/torn/tls.crt:1 key-mismatch",
      "private key Secret shop/torn/tls.key:1",
      "problem Secret shop/empty/tls.crt",
      expect.stringMatching(/^problem Secret shop\/cut\/tls.crt/),
    ]);
  });

  test("any type and any key; what holds nothing of ours is passed over", async () => {
    put(
      "Secret",
      secret("login", { username: "u", password: "0".repeat(32), caFile: ca.pem }, "kubernetes.io/basic-auth"),
    );
    put("Secret", secret("pull", { ".dockerconfigjson": '{"auths":{}}' }, "kubernetes.io/dockerconfigjson"));
    put("Secret", { metadata: { name: "bare", namespace: "shop" }, type: "Opaque" });
    put("Secret", secret("cloud", { "key.json": JSON.stringify({ private_key: keyPem(keys.web), cert: web.pem }) }));
    put("Secret", secret("again", { "tls.crt": base64(web.pem) }));
    expect(words(await finds())).toEqual([
      "CA Secret shop/login/caFile:1",
      expect.stringMatching(/^certificate Secret shop\/cloud\/key.json:\d+$/),
      expect.stringMatching(/^private key Secret shop\/cloud\/key.json:\d+$/),
      "certificate Secret shop/again/tls.crt:1 base64-twice",
    ]);
  });

  test("stores are told as locked", async () => {
    const store = { keys: [{ alias: "web", key: keys.web, chain: [web] }], trusted: [] };
    const stores = { "keystore.p12": writePkcs12(store, "changeit"), "keystore.jks": writeJks(store, "changeit", now) };
    put("Secret", secret("stores", stores));
    expect(words(await finds())).toEqual([
      "PKCS#12 Secret shop/stores/keystore.p12",
      "JKS Secret shop/stores/keystore.jks",
    ]);
  });

  test("a kubeconfig: a client certificate as its CA is an error, the cluster's own is none", async () => {
    const kubeconfig = (authority: string) =>
      [
        ...["apiVersion: v1", "kind: Config", "clusters:"],
        `- { name: prod, cluster: { server: "https://a", certificate-authority-data: ${base64(authority)} } }`,
        "users:",
        `- { name: admin, user: { client-certificate-data: ${base64(client.pem)}, client-key-data: ${base64(keyPem(keys.web))} } }`,
        "- { name: pod, user: { tokenFile: /var/run/token } }",
      ].join("\n");
    put("Secret", secret("wrong", { value: kubeconfig(client.pem) }), secret("right", { value: kubeconfig(ca.pem) }));
    expect(words(await finds())).toEqual([
      "token Secret shop/wrong/value#user/pod",
      "certificate Secret shop/wrong/value#cluster/prod not-a-ca",
      "certificate Secret shop/wrong/value#user/admin",
      "private key Secret shop/wrong/value#user/admin",
      "token Secret shop/right/value#user/pod",
      "CA Secret shop/right/value#cluster/prod",
      "certificate Secret shop/right/value#user/admin",
      "private key Secret shop/right/value#user/admin",
    ]);
  });

  test("no byte of a key is in what is told", async () => {
    put("Secret", secret("web", { "tls.crt": web.pem, "tls.key": keyPem(keys.web), lone: keyPem(keys.other) }));
    put("Secret", secret("cut", { "tls.key": keyPem(keys.web).slice(0, 150) }));
    const told = JSON.stringify(await finds());
    expect(told).toContain("private key");
    for (const key of [keys.web, keys.other])
      for (const line of keyPem(key).split("\n").slice(1, -2)) expect(told).not.toContain(line.slice(0, 20));
  });
});

test("CA bundles of webhooks, CRDs and APIServices, requests and what was issued", async () => {
  const caBundle = base64(ca.pem);
  put("ValidatingWebhookConfiguration", {
    metadata: { name: "policy" },
    webhooks: [
      { name: "a.example", clientConfig: { caBundle } },
      { name: "b.example", clientConfig: {} },
    ],
  });
  put("MutatingWebhookConfiguration", {
    metadata: { name: "inject" },
    webhooks: [{ name: "c.example", clientConfig: { caBundle: base64(web.pem) } }],
  });
  put("CustomResourceDefinition", {
    ...{ metadata: { name: "shops.example" } },
    spec: { conversion: { webhook: { clientConfig: { caBundle: base64(client.pem) } } } },
  });
  put("APIService", { metadata: { name: "v1.metrics" }, spec: { caBundle } });
  put("APIService", { metadata: { name: "v1.any" }, spec: { insecureSkipTLSVerify: true } });
  const request = base64(csrPem(createCsr(keys.web, { subject: "CN=node", names: [] })));
  put("CertificateSigningRequest", {
    ...{ metadata: { name: "csr-1" }, status: { certificate: base64(client.pem) } },
    spec: { request, signerName: "kubernetes.io/kube-apiserver-client", username: "alice" },
  });
  const all = await finds();
  expect(words(all)).toEqual([
    "CA ValidatingWebhookConfiguration policy/webhooks/a.example/caBundle:1",
    "certificate MutatingWebhookConfiguration inject/webhooks/c.example/caBundle:1 not-a-ca",
    "certificate CustomResourceDefinition shops.example/conversion/caBundle:1 not-a-ca",
    "CA APIService v1.metrics/caBundle:1",
    "setting APIService v1.any/insecureSkipTLSVerify insecure",
    "CSR CertificateSigningRequest csr-1/request:1",
    "certificate CertificateSigningRequest csr-1/certificate:1",
  ]);
  expect(all.at(-1)!.object!.owners.map(({ who }) => who)).toEqual(["kubernetes.io/kube-apiserver-client", "alice"]);
  // A client certificate can verify no server; a server's own can verify itself.
  expect(all.slice(1, 3).map(({ findings }) => findings[0]!.severity)).toEqual(["warning", "error"]);
});

test("copies of the cluster's CA: the same ones are counted, another one is an error", async () => {
  const copy = (namespace: string, pem: string) => ({
    ...{ metadata: { name: "kube-root-ca.crt", namespace }, data: { "ca.crt": pem } },
  });
  put("ConfigMap", copy("shop", ca.pem), copy("left-behind", otherCa.pem), copy("both", `${ca.pem}${otherCa.pem}`));
  const token = (pem: string) => ({ "ca.crt": pem, token: "t", namespace: "shop" });
  put("Secret", secret("old", token(otherCa.pem), "kubernetes.io/service-account-token"));
  put("Secret", secret("new", token(ca.pem), "kubernetes.io/service-account-token"));
  const all = await finds();
  expect(words(all)).toEqual([
    "CA Secret shop/old/ca.crt:1 root-ca-differs",
    "CA ConfigMap left-behind/kube-root-ca.crt/ca.crt:1 root-ca-differs",
    expect.stringMatching(/^CA ConfigMap both\/kube-root-ca.crt\/ca.crt:1 root-ca-differs/),
    expect.stringMatching(/^CA ConfigMap both\/kube-root-ca.crt\/ca.crt:\d+ root-ca-differs/),
    "skipped copies of the cluster's CA",
  ]);
  expect(all.at(-1)).toMatchObject({ count: 2 });
});

test("Helm's records are counted and not read", async () => {
  put("Secret", secret("sh.helm.release.v1.web.v1", { release: web.pem }, "helm.sh/release.v1"));
  put("Secret", secret("web", { "tls.crt": web.pem }));
  const all = await finds();
  expect(words(all)).toEqual(["certificate Secret shop/web/tls.crt:1", "skipped Secret of type helm.sh/release.v1"]);
  expect(all[1]).toMatchObject({ count: 1 });
});

describe("what was not seen is said", () => {
  test.each(["secrets", "configmaps", "pods", "apiservices", "ingresses"])("no right to list %s", async (resource) => {
    put("Secret", secret("web", { "tls.crt": web.pem }));
    api.odd = (path) =>
      new RegExp(`/v1/${resource}\\?`).test(path)
        ? { status: 403, body: { message: `${resource} is forbidden` } }
        : undefined;
    const problems = (await finds()).filter(({ what }) => what === "problem");
    expect(problems).toMatchObject([{ message: expect.stringContaining(`not seen: listing`) }]);
    expect(JSON.stringify(problems)).toContain(`${resource} is forbidden`);
  });

  test("users are unknown where pods could not be listed, and known to be none where they could", async () => {
    put("Secret", secret("web", { "tls.crt": web.pem }));
    expect((await finds())[0]!.object).not.toHaveProperty("usersUnseen");
    api.odd = (path) => (path.includes("/pods?") ? { status: 403 } : undefined);
    expect((await finds())[1]!.object).toMatchObject({ usersUnseen: ["Pod"] });
  });

  test("an API that is not served is no gap; a namespace that is not there is one", async () => {
    expect(await finds()).toEqual([]);
    for (const resource of ["secrets", "configmaps", "pods"]) api.lists.set(`/api/v1/namespaces/typo/${resource}`, []);
    api.lists.set("/apis/networking.k8s.io/v1/namespaces/typo/ingresses", []);
    expect(words(await finds(["typo"]))).toEqual([
      "problem namespace typo",
      expect.stringMatching(/^skipped ValidatingWebhookConfiguration, .*ClusterTrustBundle$/),
    ]);
  });

  test("a list that breaks off in the middle keeps what was found, and is no whole", async () => {
    put("Secret", ...Array.from({ length: 300 }, (_, n) => secret(`web-${n}`, { "tls.crt": web.pem })));
    api.odd = (path) =>
      path.startsWith("/api/v1/secrets?") && path.includes("continue=") ? { status: 410 } : undefined;
    const all = await finds();
    expect(all.filter(({ what }) => what === "certificate")).toHaveLength(100);
    expect(all.filter(({ what }) => what === "problem")).toMatchObject([
      { message: expect.stringMatching(/broke off after 100.*were not seen/) },
    ]);
  });

  test("nobody answers: that is the end of it", async () => {
    api.odd = () => "connection refused";
    await expect(finds()).rejects.toThrow(/connection refused/);
    api.odd = () => ({ status: 401 });
    await expect(finds()).rejects.toThrow(/401/);
  });
});

test("an abort ends it", async () => {
  const signal = AbortSignal.abort(new Error("enough"));
  const cluster = scanCluster(api.open(signal), [], withDefaults({ signal }));
  await expect(cluster.next()).rejects.toThrow("enough");
});
