import { X509Certificate } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { waitFor } from "../../../lab/estate.ts";
import { buildGoTools } from "../../../lab/go-tools.ts";
import { type LabCluster, startCluster } from "../../../lab/peers/kubernetes.ts";
import { type Authority, issue, makeAuthority, openssl, type Pair } from "../../../lab/pki.ts";
import { useWorkspace } from "../../../lab/testing.ts";
import { gyreHere } from "../../cli/fixtures/gyre-process.ts";
import { readAccess } from "../../drivers/kubernetes/access.ts";
import { keepingAgent, send } from "../../drivers/kubernetes/api.ts";
import { dialOf } from "../../drivers/kubernetes/cluster.ts";
import type { Found, FoundCertificate } from "../found.ts";
import { Lists } from "./lists.ts";

await buildGoTools(["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"]);
const workspace = useWorkspace("scan-kubernetes");
let lab: LabCluster;
let ca: Authority;
let web: Pair;
let other: Pair;
let client: Pair;

const text = (path: string) => readFileSync(path, "utf8");
const base64 = (value: string | Buffer) => Buffer.from(value).toString("base64");
const secret = (name: string, data: Record<string, string | Buffer>, type = "Opaque", metadata: object = {}) => ({
  ...{ apiVersion: "v1", kind: "Secret", type, metadata: { name, namespace: "shop", ...metadata } },
  data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, base64(value)])),
});
const webhook = (kind: string, name: string, caBundle: string) => ({
  ...{ apiVersion: "admissionregistration.k8s.io/v1", kind, metadata: { name } },
  webhooks: [
    {
      ...{ name: "a.example.com", admissionReviewVersions: ["v1"], sideEffects: "None", failurePolicy: "Ignore" },
      clientConfig: { url: "https://127.0.0.1:1/", caBundle: base64(caBundle) },
    },
  ],
});
const crd = (group: string, kind: string, spec: object = {}) => ({
  ...{ apiVersion: "apiextensions.k8s.io/v1", kind: "CustomResourceDefinition" },
  metadata: {
    name: `${kind.toLowerCase()}s.${group}`,
    annotations: { "api-approved.kubernetes.io": "unapproved, a test" },
  },
  spec: {
    ...{ group, scope: "Namespaced", names: { kind, plural: `${kind.toLowerCase()}s` } },
    versions: [
      {
        ...{ name: "v1", served: true, storage: true },
        schema: { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } },
      },
    ],
    ...spec,
  },
});

beforeAll(async () => {
  lab = await startCluster(workspace, {
    ...{ name: "scan", apiServers: 1 },
    apiServerFlags: [
      "--feature-gates=ClusterTrustBundle=true,ListFromCacheSnapshot=false",
      "--runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true",
      // A list that takes longer than this is told 410 Gone.
      "--etcd-compaction-interval=2s",
    ],
  });
  const dir = workspace.folder("pki");
  ca = makeAuthority(dir, { name: "shop-ca" });
  web = issue(ca, { name: "web", subject: "/CN=web.example", names: ["DNS:web.example"] });
  other = issue(ca, { name: "other", subject: "/CN=localhost" });
  client = issue(ca, { name: "client", usages: ["client"] });
  const store = `${dir}/store.p12`;
  openssl(["pkcs12", "-export", "-in", web.certificate, "-inkey", web.privateKey, "-out", store, "-passout", "pass:x"]);
  const kubeconfig = (authority: string) => `apiVersion: v1
kind: Config
clusters: [{ name: prod, cluster: { server: "https://a", certificate-authority-data: ${base64(text(authority))} } }]
users: [{ name: admin, user: { client-certificate-data: ${base64(text(client.certificate))}, client-key-data: ${base64(text(client.privateKey))} } }]
contexts: []
`;
  const pair = (from: Pair, key: Pair = from) => ({
    ...{ "tls.crt": text(from.chain), "tls.key": text(key.privateKey), "ca.crt": text(ca.certificate) },
  });
  const certManager = { "cert-manager.io/certificate-name": "web", "cert-manager.io/issuer-name": "shop-ca" };
  await lab.kubectl("create", "namespace", "shop");
  await lab.kubectl("create", "namespace", "edge");
  await lab.apply(
    crd("gateway.networking.k8s.io", "Gateway"),
    crd("example.com", "Shop", {
      conversion: {
        strategy: "Webhook",
        webhook: {
          ...{ conversionReviewVersions: ["v1"] },
          clientConfig: { url: "https://127.0.0.1:1/", caBundle: base64(text(ca.certificate)) },
        },
      },
    }),
  );
  await lab.kubectl("wait", "--for=condition=Established", "crd/gateways.gateway.networking.k8s.io");
  await waitFor("the service account of shop", () =>
    lab.kubectl("get", "serviceaccount", "-n", "shop", "default").then(
      () => true,
      () => false,
    ),
  );
  await lab.apply(
    secret("web", pair(web), "kubernetes.io/tls", { annotations: certManager }),
    secret("torn", { "tls.crt": text(web.certificate), key: text(other.privateKey) }),
    secret("bundle", { anything: text(ca.certificate) }),
    secret("store", { "keystore.p12": readFileSync(store), password: "x" }),
    secret("wrong-config", { value: kubeconfig(client.certificate) }),
    secret("right-config", { value: kubeconfig(ca.certificate) }),
    secret("nothing", { password: "0".repeat(32) }),
    secret("sh.helm.release.v1.web.v1", { release: text(other.certificate) }, "helm.sh/release.v1"),
    secret("token", {}, "kubernetes.io/service-account-token", {
      annotations: { "kubernetes.io/service-account.name": "default" },
    }),
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "trust", namespace: "shop" },
      data: { "ca.pem": text(ca.certificate) },
    },
    webhook("ValidatingWebhookConfiguration", "policy", text(ca.certificate)),
    webhook("MutatingWebhookConfiguration", "inject", text(client.certificate)),
    {
      ...{ apiVersion: "apiregistration.k8s.io/v1", kind: "APIService", metadata: { name: "v1.shop.example" } },
      spec: {
        ...{ group: "shop.example", version: "v1", groupPriorityMinimum: 1, versionPriority: 1 },
        ...{ service: { name: "api", namespace: "shop" }, caBundle: base64(text(ca.certificate)) },
      },
    },
    {
      ...{ apiVersion: "certificates.k8s.io/v1beta1", kind: "ClusterTrustBundle", metadata: { name: "shop" } },
      spec: { trustBundle: text(ca.certificate) },
    },
    {
      ...{ apiVersion: "certificates.k8s.io/v1", kind: "CertificateSigningRequest", metadata: { name: "alice" } },
      spec: {
        ...{ signerName: "kubernetes.io/kube-apiserver-client", usages: ["client auth"] },
        request: base64(text(`${ca.dir}/client.csr`)),
      },
    },
    {
      ...{ apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "web", namespace: "shop" } },
      spec: {
        ...{ replicas: 2, selector: { matchLabels: { app: "web" } } },
        template: {
          metadata: { labels: { app: "web" } },
          spec: {
            containers: [{ name: "web", image: "web", envFrom: [{ secretRef: { name: "bundle" } }] }],
            volumes: [{ name: "tls", secret: { secretName: "web" } }],
          },
        },
      },
    },
    {
      ...{ apiVersion: "networking.k8s.io/v1", kind: "Ingress", metadata: { name: "front", namespace: "shop" } },
      spec: {
        tls: [{ hosts: ["web.example"], secretName: "web" }],
        defaultBackend: { service: { name: "web", port: { number: 443 } } },
      },
    },
    {
      ...{ apiVersion: "gateway.networking.k8s.io/v1", kind: "Gateway", metadata: { name: "gw", namespace: "edge" } },
      spec: { listeners: [{ tls: { certificateRefs: [{ name: "web", namespace: "shop" }] } }] },
    },
  );
  await lab.kubectl("certificate", "approve", "alice");
  await waitFor("certificate, token and pods", async () => {
    const issued = await lab.kubectl("get", "csr", "alice", "-o", "jsonpath={.status.certificate}");
    const token = await lab.kubectl("get", "secret", "-n", "shop", "token", "-o", "jsonpath={.data}");
    const pods = await lab.kubectl("get", "pods", "-n", "shop", "-o", "name");
    return issued !== "" && token.includes("ca.crt") && pods.trim().split("\n").length === 2;
  });
});

interface Told {
  readonly code: number;
  readonly finds: readonly Found[];
  readonly sum: { readonly problems: number; readonly cluster: { readonly requests: number; readonly bytes: number } };
}
async function scan(kubeconfig: string, ...more: string[]): Promise<Told> {
  const { code, out, err } = await gyreHere(
    ["scan", "--kubernetes", "--kubeconfig", kubeconfig, "--json", ...more],
    workspace.dir,
  );
  expect(err).toBe("");
  const lines = out.trimEnd().split("\n");
  const rows = lines.map((line) => JSON.parse(line) as unknown);
  return { code, finds: rows.slice(0, -1) as Found[], sum: (rows.at(-1) as { sum: Told["sum"] }).sum };
}
const words = (all: readonly Found[]) =>
  all.map(({ what, where, findings }) =>
    [what, where, ...findings.filter(({ severity }) => severity !== "note").map(({ code }) => code)].join(" "),
  );
const fingerprints = (all: readonly Found[]) =>
  [...new Set(all.flatMap((one) => ("fingerprint" in one ? [one.fingerprint] : [])))].sort();
const about = (told: Told, where: string) => told.finds.filter((one) => one.where.startsWith(where));

/** Every certificate that kubectl shows: PEM anywhere in any string of any object, base64 opened twice. */
async function seenByKubectl(...scope: string[]): Promise<string[]> {
  const kinds =
    "secrets,configmaps,validatingwebhookconfigurations,mutatingwebhookconfigurations,customresourcedefinitions,apiservices,certificatesigningrequests,clustertrustbundles";
  const found = new Set<string>();
  const open = (value: unknown, depth: number): void => {
    if (typeof value === "object" && value !== null) {
      if ((value as { type?: string }).type === "helm.sh/release.v1") return;
      // What kubectl last applied is an annotation: a copy, and none that anybody uses.
      for (const [name, inner] of Object.entries(value)) if (name !== "annotations") open(inner, depth);
    } else if (typeof value === "string") {
      for (const [pem] of value.matchAll(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g))
        found.add(new X509Certificate(pem).fingerprint256.replaceAll(":", "").toLowerCase());
      for (const [piece] of depth < 3 ? value.matchAll(/LS0tLS1[A-Za-z0-9+/=]+|^[A-Za-z0-9+/=\n]{40,}$/g) : [])
        open(Buffer.from(piece, "base64").toString("latin1"), depth + 1);
    }
  };
  open(
    JSON.parse(await lab.kubectl("get", ...scope, scope.length > 1 ? "secrets,configmaps" : kinds, "-o", "json")),
    0,
  );
  return [...found].sort();
}

describe("as the administrator", () => {
  let told: Told;
  beforeAll(async () => {
    told = await scan(lab.kubeconfig);
  });

  test("every certificate that kubectl shows is told, and no other", async () => {
    const seen = await seenByKubectl("-A");
    expect(seen.length).toBeGreaterThanOrEqual(6);
    expect(fingerprints(told.finds)).toEqual(seen);
    expect(told.sum.problems).toBe(0);
    // Of what is wrong there is enough to find.
    expect(told.code).toBe(3);
  });

  test("every kind of place, and what is wrong there", () => {
    expect(words(told.finds.filter(({ where }) => !where.includes("kube-system")))).toEqual([
      "CA Secret shop/bundle/anything:1",
      "CA Secret shop/right-config/value#cluster/prod",
      "certificate Secret shop/right-config/value#user/admin",
      "private key Secret shop/right-config/value#user/admin",
      "PKCS#12 Secret shop/store/keystore.p12",
      "certificate Secret shop/torn/tls.crt:1 key-mismatch",
      "private key Secret shop/torn/key:1",
      "CA Secret shop/web/ca.crt:1",
      "certificate Secret shop/web/tls.crt:1",
      "private key Secret shop/web/tls.key:1",
      "certificate Secret shop/wrong-config/value#cluster/prod not-a-ca",
      "certificate Secret shop/wrong-config/value#user/admin",
      "private key Secret shop/wrong-config/value#user/admin",
      "CA ConfigMap shop/trust/ca.pem:1",
      "CA ValidatingWebhookConfiguration policy/webhooks/a.example.com/caBundle:1",
      "certificate MutatingWebhookConfiguration inject/webhooks/a.example.com/caBundle:1 not-a-ca",
      "CA CustomResourceDefinition shops.example.com/conversion/caBundle:1",
      "CA APIService v1.shop.example/caBundle:1",
      "CSR CertificateSigningRequest alice/request:1",
      "certificate CertificateSigningRequest alice/certificate:1",
      "CA ClusterTrustBundle shop/trustBundle:1",
      "skipped Secret of type helm.sh/release.v1",
      "skipped copies of the cluster's CA",
    ]);
  });

  test("issuer and end as openssl reads them from what kubectl shows", async () => {
    const [found] = about(told, "Secret shop/web/tls.crt") as [FoundCertificate];
    const shown = await lab.kubectl("get", "secret", "-n", "shop", "web", "-o", "jsonpath={.data.tls\\.crt}");
    const pem = Buffer.from(shown, "base64").toString("latin1");
    const said = openssl(["x509", "-noout", "-issuer", "-enddate", "-nameopt", "RFC2253"], pem);
    expect(said).toContain(`issuer=${found.issuer}\n`);
    expect(Date.parse(/notAfter=(.*)/.exec(said)![1]!)).toBe(Date.parse(String(found.notAfter)));
  });

  test("whose it is and who uses it", () => {
    const [found] = about(told, "Secret shop/web/tls.crt");
    expect(found!.object).toMatchObject({
      users: [
        { who: "Deployment shop/web", how: "mount", pods: 2 },
        { who: "Ingress shop/front", how: "tls" },
        { who: "Gateway edge/gw", how: "tls" },
      ],
      owners: [
        { by: "cert-manager", who: "Certificate web, Issuer shop-ca" },
        { by: "field manager", who: "kubectl-client-side-apply" },
      ],
    });
    expect(about(told, "Secret shop/bundle")[0]!.object!.users).toEqual([
      { who: "Deployment shop/web", how: "env", pods: 2 },
    ]);
    expect(about(told, "Secret shop/torn")[0]!.object!.users).toEqual([]);
  });

  test("a pair that does not fit is an error, one that fits is none", async () => {
    await lab.apply(
      secret("misfit", { "tls.crt": text(web.certificate), "tls.key": text(other.privateKey) }, "kubernetes.io/tls"),
    );
    const again = await scan(lab.kubeconfig);
    expect(words(about(again, "Secret shop/misfit/tls.crt"))).toEqual([
      "certificate Secret shop/misfit/tls.crt:1 key-mismatch",
    ]);
    expect(words(about(again, "Secret shop/web/tls.crt"))).toEqual(["certificate Secret shop/web/tls.crt:1"]);
  });

  test("no byte of a key is printed", async () => {
    const { out } = await gyreHere(["scan", "--kubernetes", "--kubeconfig", lab.kubeconfig], workspace.dir);
    expect(out).toContain("private key");
    for (const key of [web, other, client])
      for (const line of text(key.privateKey).split("\n").slice(1, -2))
        expect(`${out}${JSON.stringify(told.finds)}`).not.toContain(line.slice(0, 20));
  });
});

describe("rights", () => {
  const printed = async (...more: string[]) =>
    (await gyreHere(["scan", "--kubernetes", "--print-rbac", ...more], workspace.dir)).out;
  const can = async (user: string, resource: string, ...more: string[]) =>
    (await lab.kubectl("auth", "can-i", "list", resource, "--as", user, ...more).catch(String)).includes("yes");

  test("the printed rights are enough, each of them is needed, and the scan only lists", async () => {
    const rbac = await printed();
    const scanner = lab.writeKubeconfig("scanner", lab.client("scanner", "/CN=scanner"));
    await lab.apply(rbac);
    await lab.kubectl("create", "clusterrolebinding", "gyre-scan", "--clusterrole=gyre-scan", "--user=scanner");
    await waitFor("the rights", () => can("scanner", "gateways.gateway.networking.k8s.io", "-A"));
    const admin = await scan(lab.kubeconfig);
    const enough = await scan(scanner);
    expect(enough.finds).toEqual(admin.finds);
    expect(enough.sum.problems).toBe(0);

    const rules = rbac.split("\n").filter((line) => line.startsWith("  - "));
    expect(rules.length).toBeGreaterThanOrEqual(11);
    for (const rule of rules) {
      const [, group, resource] = /apiGroups: \["(.*)"\], resources: \[(.*?)\]/.exec(rule)!;
      const full = group === "" ? resource! : `${resource}.${group}`;
      await lab.apply(rbac.replace(`${rule}\n`, ""));
      await waitFor(`${full} to be forbidden`, async () => !(await can("scanner", full, "-A")));
      const less = await scan(scanner);
      const problems = less.finds.filter(({ what }) => what === "problem");
      expect(JSON.stringify(problems)).toContain(`cannot list resource \\"${resource}\\"`);
      expect(less.code).not.toBe(0);
    }
    const log = text(lab.apiServers[0]!.auditLog)
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { verb: string; user: { username: string } })
      .filter(({ user }) => user.username === "scanner");
    expect(log.length).toBeGreaterThan(100);
    expect([...new Set(log.map(({ verb }) => verb))]).toEqual(["list"]);
  });

  test("one namespace with rights for that one", async () => {
    const team = lab.writeKubeconfig("team", lab.client("team", "/CN=team"));
    await lab.apply(await printed("--namespace", "shop"));
    for (const namespace of ["shop", "kube-system"])
      await lab.kubectl("create", "rolebinding", "gyre-scan", "-n", namespace, "--role=gyre-scan", "--user=team");
    await waitFor("the rights", () => can("team", "secrets", "-n", "shop"));
    await waitFor("the rights", () => can("team", "configmaps/kube-root-ca.crt", "-n", "kube-system"));
    const told = await scan(team, "--namespace", "shop");
    expect(told.sum.problems).toBe(0);
    const skipped = told.finds.filter(({ what }) => what === "skipped").map(({ where }) => where);
    expect(skipped.at(-1)).toContain("APIService");
    const seen = await seenByKubectl("-n", "shop");
    // The namespace's copies of the cluster's CA are the same, and counted.
    const root = new X509Certificate(text(lab.ca.certificate)).fingerprint256.replaceAll(":", "").toLowerCase();
    expect(fingerprints(told.finds)).toEqual(seen.filter((one) => one !== root));
    // Without --namespace the same person is told that it was not the whole cluster.
    const whole = await scan(team);
    expect(whole.code).toBe(1);
    expect(whole.sum.problems).toBeGreaterThanOrEqual(10);
  });
});

test("410 in mid-list: nothing that was there all the while is missed", async () => {
  const names = Array.from({ length: 150 }, (_, n) => `many-${String(n).padStart(3, "0")}`);
  await lab.kubectl("create", "namespace", "many");
  await lab.apply(
    ...names.map((name) => ({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace: "many" } })),
  );
  const dial = { ...dialOf(await readAccess(lab.kubeconfig, undefined)), agent: keepingAgent() };
  const statuses: number[] = [];
  const lists = new Lists(
    async (call) => {
      const answer = await send(dial, call);
      statuses.push(answer.status);
      return answer;
    },
    { requests: 0, bytes: 0, objects: {} },
    new AbortController().signal,
  );
  const path = "/api/v1/namespaces/many/configmaps";
  const pages = lists.pages<{ metadata: { name: string } }>(path, "ConfigMaps");
  const first = await pages.next();
  const seen = [...(first.value as { metadata: { name: string } }[])];
  const { metadata } = JSON.parse(await lab.kubectl("get", "--raw", `${path}?limit=1`)) as {
    metadata: { continue: string };
  };
  let writes = 0;
  await waitFor("a token younger than ours to be gone", async () => {
    await lab.kubectl("label", "namespace", "many", "--overwrite", `write=${writes++}`);
    const raw = lab.kubectl("get", "--raw", `${path}?limit=1&continue=${metadata.continue}`);
    return raw.then(
      () => false,
      (error: Error) => /too old|expired|Expired/.test(error.message),
    );
  });
  for await (const page of pages) seen.push(...page);
  expect(statuses).toContain(410);
  expect(seen.map((one) => one.metadata.name).filter((name) => name.startsWith("many-"))).toEqual(names);
});

test("a namespace whose copy of the cluster's CA was left behind", async () => {
  await lab.stopControllerManager();
  const patch = JSON.stringify({ data: { "ca.crt": text(ca.certificate) } });
  await lab.kubectl("patch", "configmap", "-n", "edge", "kube-root-ca.crt", "--type=merge", "-p", patch);
  const told = await scan(lab.kubeconfig);
  expect(words(about(told, "ConfigMap edge/kube-root-ca.crt"))).toEqual([
    "CA ConfigMap edge/kube-root-ca.crt/ca.crt:1 root-ca-differs",
  ]);
  // The control: that of another namespace is the cluster's still.
  expect(about(told, "ConfigMap shop/kube-root-ca.crt")).toEqual([]);
});

test("a cluster that is not there ends in an error and no inventory", async () => {
  const gone = workspace.path("gone.kubeconfig");
  writeFileSync(gone, text(lab.kubeconfig).replace(/https:\/\/[^,]+/, "https://127.0.0.1:1"));
  const { code, out, err } = await gyreHere(["scan", "--kubernetes", "--kubeconfig", gone], workspace.dir);
  expect(code).toBe(1);
  expect(out).toBe("");
  expect(err).toContain("connection refused");
});
