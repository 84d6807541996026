import { readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { waitFor } from "../../../lab/estate.ts";
import { buildGoTools } from "../../../lab/go-tools.ts";
import { caBefore } from "../../../lab/gyre.ts";
import { type LabCluster, startCluster } from "../../../lab/peers/kubernetes.ts";
import { runCommand } from "../../../lab/peers/peer.ts";
import { issue, makeAuthority, type Pair } from "../../../lab/pki.ts";
import { useWorkspace } from "../../../lab/testing.ts";
import type { Diagnosis } from "../api.ts";
import { openEstate } from "../estate.ts";

await buildGoTools(["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"]);
const workspace = useWorkspace("doctor-kubernetes");
const name = "kube-root-ca.crt";
let lab: LabCluster;
let localCa: string;
let robot: Pair;

beforeAll(async () => {
  lab = await startCluster(workspace, { name: "prod", apiServers: 2, signingDuration: "24h" });
  for (const one of ["shop", "cert-rotation"]) {
    await lab.kubectl("create", "namespace", one);
    await waitFor(`the service account of ${one}`, () =>
      lab.kubectl("-n", one, "get", "serviceaccount", "default").then(
        () => true,
        () => false,
      ),
    );
  }
  const before = await caBefore(workspace.dir, "CN=Clinic CA");
  localCa = before.manifest;
  const shop = await before.issue({ subject: "CN=shop", names: ["DNS:shop.example"], usages: ["server"] });
  const data = { "tls.crt": shop.certificate, "tls.key": readFileSync(pem(shop), "utf8") };
  await lab.apply({
    ...{
      apiVersion: "v1",
      kind: "Secret",
      metadata: { namespace: "shop", name: "shop-tls" },
      type: "kubernetes.io/tls",
    },
    data: Object.fromEntries(Object.entries(data).map(([key, text]) => [key, Buffer.from(text).toString("base64")])),
  });
  robot = lab.client("robot", "/O=admins/CN=robot");
});
const pem = (pair: { writePem(certificate: string, key: string): void }) => {
  pair.writePem(workspace.path("shop.pem"), workspace.path("shop.key"));
  return workspace.path("shop.key");
};

let homes = 0;
/** What the doctor says of credential `shop` (a Secret) or `admin` (a kubeconfig by CSR), as Gyre gets in by this kubeconfig. */
async function examine(credential: "shop" | "admin", over: Over = {}): Promise<readonly Diagnosis[]> {
  const { kubeconfig = lab.kubeconfig, uid = lab.uid, csr = "approval: gyre", lifetime = "24h", proof = [] } = over;
  const home = workspace.folder(`home-${homes++}`);
  const file = lab.writeKubeconfig(`robot-${homes}`, robot, over.robot ?? {});
  writeFileSync(
    `${home}/gyre.yaml`,
    `apiVersion: gyre.dev/v1alpha1
kind: Cluster
metadata: { name: prod }
spec: { uid: ${uid}, kubeconfig: ${kubeconfig} }
---
apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: csr }
spec: { kubernetesCSR: { cluster: prod, ${csr} } }
---
apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: clinic }
spec: { ${localCa.replace("directory: ", `directory: ${workspace.dir}/`)} }
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: admin }
spec:
  issue: { issuer: csr, subject: "CN=robot,O=admins", usages: [client], lifetime: ${lifetime} }
  deliver: [{ kubeconfig: { cluster: prod, file: ${file}${over.server === undefined ? "" : `, server: "${over.server}"`} }, reload: { watch: true } }]
  prove:
${["kubernetesApi: { cluster: prod }", ...proof].map((one) => `    - ${one}`).join("\n")}
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: shop }
spec:
  issue: { issuer: clinic, dnsNames: [shop.example], usages: [server], lifetime: 24h }
  deliver: [{ secret: { cluster: prod, namespace: shop, name: shop-tls, takeOver: true }${over.reload ?? ""} }]
  prove: [{ tls: { serverName: shop.example, addresses: ["127.0.0.1:1"] } }]
`,
  );
  const estate = await openEstate({ manifests: [`${home}/gyre.yaml`], stateDirectory: `${home}/.gyre`, env: {} });
  return estate.doctor(credential);
}
interface Over {
  readonly kubeconfig?: string;
  readonly uid?: string;
  readonly csr?: string;
  readonly lifetime?: string;
  readonly proof?: readonly string[];
  readonly robot?: { readonly ca?: string };
  readonly server?: string;
  readonly reload?: string;
}
const of = (found: readonly Diagnosis[], about: string) => found.filter((one) => one.about.startsWith(about));
const bad = (found: readonly Diagnosis[]) => found.filter(({ level }) => level === "problem" || level === "warning");
const says = (level: Diagnosis["level"], what: RegExp, next?: RegExp) =>
  expect.objectContaining({
    ...{ level, what: expect.stringMatching(what) },
    ...(next === undefined ? {} : { next: expect.stringMatching(next) }),
  });

test("a cluster as it should be: nothing stands in the way", async () => {
  const proof = lab.apiServers.map(
    ({ address, auditLog }) => `auditLog: { cluster: prod, path: ${auditLog}, member: "${address}" }`,
  );
  const found = await examine("admin", { proof });
  expect(bad(found)).toEqual([]);
  expect(of(found, "cluster prod").map(({ what }) => what)).toEqual([
    expect.stringMatching(
      /^Gyre's own access: its certificate "CN=lab-admin,O=system:masters|^Gyre's own access: its certificate/,
    ),
    `is the one that is meant (${lab.uid})`,
    expect.stringMatching(/^Gyre has the \d+ rights it needs/),
    "2 API servers, counted twice, each presents a certificate of the cluster's CA",
  ]);
  expect(of(found, "sensors")).toEqual([says("ok", /^each of 2 API servers has its audit log/)]);
  for (const { auditLog, address } of lab.apiServers)
    expect(of(found, `sensor ${auditLog}`)).toEqual([says("ok", new RegExp(`^recorded our own probe of ${address}`))]);
  expect(of(found, "grade")).toContainEqual(says("note", /denied when the group's binding goes/, /groupBinding/));
});

test("an API server without its audit log is named", async () => {
  const [first, second] = lab.apiServers;
  const proof = [`auditLog: { cluster: prod, path: ${first!.auditLog}, member: "${first!.address}" }`];
  expect(of(await examine("admin", { proof }), "sensors")).toEqual([
    says("warning", new RegExp(`^no audit log of ${second!.address}: `)),
  ]);
  expect(of(await examine("admin"), "sensors")).toEqual([says("note", /^no audit log is named/)]);
});

describe("who uses the Secret", () => {
  const template = (spec: object, name: string) => ({
    metadata: { labels: { app: name } },
    spec: { ...spec },
  });
  const deployment = (name: string, spec: object, annotations: object = {}) => ({
    ...{ apiVersion: "apps/v1", kind: "Deployment", metadata: { namespace: "shop", name, annotations } },
    spec: { replicas: 1, selector: { matchLabels: { app: name } }, template: template(spec, name) },
  });
  const app = (more: object) => ({ name: "app", image: "none", ...more });
  const volumes = (name = "shop-tls", more: object = {}) => [{ name: "tls", secret: { secretName: name, ...more } }];
  const mount = (more: object = {}) => ({ volumeMounts: [{ name: "tls", mountPath: "/tls", ...more }] });

  beforeAll(async () => {
    await lab.apply(
      deployment("dir", { containers: [app(mount())], volumes: volumes() }),
      deployment("sub", { containers: [app(mount({ subPath: "tls.crt" }))], volumes: volumes() }),
      deployment(
        "env",
        { containers: [app({ envFrom: [{ secretRef: { name: "shop-tls" } }] })] },
        { "reloader.stakater.com/auto": "true" },
      ),
      deployment("jks", {
        initContainers: [
          {
            name: "build",
            image: "none",
            volumeMounts: [
              { name: "tls", mountPath: "/in" },
              { name: "ks", mountPath: "/out" },
            ],
          },
        ],
        containers: [app({ volumeMounts: [{ name: "ks", mountPath: "/ks" }] })],
        volumes: [...volumes(), { name: "ks", emptyDir: {} }],
      }),
      deployment("slip", { containers: [app(mount())], volumes: volumes("shop-tsl") }),
      deployment("perhaps", { containers: [app(mount())], volumes: volumes("shop-tsl", { optional: true }) }),
      deployment("others", { containers: [app(mount())], volumes: volumes("another-thing", { optional: true }) }),
      {
        ...{ apiVersion: "apps/v1", kind: "StatefulSet", metadata: { namespace: "shop", name: "idle" } },
        spec: {
          ...{ replicas: 0, serviceName: "idle", selector: { matchLabels: { app: "idle" } } },
          template: template({ containers: [app(mount({ subPath: "tls.key" }))], volumes: volumes() }, "idle"),
        },
      },
      deployment("mesh", {
        containers: [
          {
            ...{ name: "istio-proxy", image: "none" },
            volumeMounts: [
              { name: "workload-socket", mountPath: "/var/run/secrets/workload-spiffe-uds" },
              { name: "workload-certs", mountPath: "/var/run/secrets/workload-spiffe-credentials" },
            ],
          },
        ],
        volumes: [
          { name: "workload-socket", csi: { driver: "csi.spiffe.io", readOnly: true } },
          { name: "workload-certs", emptyDir: {} },
        ],
      }),
    );
    await waitFor("a pod of each", async () => {
      const pods = await lab.kubectl("-n", "shop", "get", "pods", "-o", "name");
      return ["dir", "sub", "env", "jks", "slip", "perhaps", "others", "mesh"].every((one) =>
        pods.includes(`pod/${one}-`),
      );
    });
  });

  test("one finding for each consumer: how it gets it, whether it learns of a new one, what to do", async () => {
    const found = await examine("shop");
    const told = of(found, "consumers of secret/prod/shop/shop-tls");
    expect(told).toEqual(
      expect.arrayContaining([
        says("ok", /^Deployment shop\/dir \(1 pod\), container app: \/tls: kubelet brings the new files/),
        says(
          "warning",
          /^Deployment shop\/sub \(1 pod\), container app: \/tls: a file mounted by subPath never changes/,
          /restart/,
        ),
        says("note", /^Deployment shop\/env .*envFrom: its environment .*ask Reloader to restart it/),
        says("warning", /^Deployment shop\/jks \(1 pod\), container build: \/in: an init container reads it once/),
        says("warning", /^Deployment shop\/jks \(1 pod\), container app: \/ks \(from init container build\)/),
        says("warning", /^StatefulSet shop\/idle \(0 pods\), container app: .*subPath/),
        says(
          "problem",
          /^Deployment shop\/slip, container app: \/tls: there is no Secret shop-tsl in shop; did you mean shop-tls\? \(its pods do not start\)/,
        ),
        says("warning", /^Deployment shop\/perhaps, .*shop-tsl.*it starts without it/),
      ]),
    );
    expect(told).toHaveLength(8);
    expect(of(found, "Istio in prod/shop")).toEqual([
      says("note", /^Deployment shop\/mesh, container istio-proxy: .*passed over without a word/),
    ]);
    // The place is not said to be told by nobody where kubelet tells it.
    expect(of(found, "reload of")).toEqual([]);
    expect(of(found, "plan").filter(({ what }) => what.includes("nothing tells"))).toEqual([]);
  });

  test("what the manifest claims of a reload is held against the pods", async () => {
    const watches = of(await examine("shop", { reload: ", reload: { watch: true }" }), "consumers");
    expect(watches).toContainEqual(says("warning", /shop\/sub .*`reload: { watch: true }` is not true of it/));
    const rolls = await examine("shop", {
      reload: ", reload: { command: [/bin/true, rollout, restart, deployment/sub] }",
    });
    expect(of(rolls, "consumers")).toContainEqual(says("ok", /shop\/sub .*reload runs/));
    expect(of(rolls, "consumers")).toContainEqual(says("warning", /shop\/jks/));
  });

  test("who may not list them says so, and the rest is looked at", async () => {
    const kubeconfig = await limited("blind", [
      { rules: [{ apiGroups: [""], resources: ["namespaces"], resourceNames: ["kube-system"], verbs: ["get"] }] },
      {
        namespace: "shop",
        rules: [{ apiGroups: [""], resources: ["secrets"], resourceNames: ["shop-tls"], verbs: ["get", "patch"] }],
      },
      {
        namespace: "kube-system",
        rules: [{ apiGroups: [""], resources: ["configmaps"], resourceNames: [name], verbs: ["get"] }],
      },
    ]);
    const found = await examine("shop", { kubeconfig });
    expect(of(found, "consumers")).toEqual([
      says("note", /not seen in full: Gyre may not .*list pods in shop/, /Role in namespace shop/),
    ]);
    expect(of(found, "cluster prod")).toContainEqual(says("ok", /rights it needs/));
  });
});

interface Grant {
  readonly namespace?: string;
  readonly rules: readonly object[];
}
let users = 0;
/** A kubeconfig of somebody who may do exactly this, once every API server knows. */
async function limited(of: string, grants: readonly Grant[], account?: object): Promise<string> {
  const user = `${of}-${users++}`;
  const subjects = [account ?? { kind: "User", name: user, apiGroup: "rbac.authorization.k8s.io" }];
  for (const { namespace, rules } of grants) {
    const kind = namespace === undefined ? "ClusterRole" : "Role";
    const metadata = { name: user, ...(namespace === undefined ? {} : { namespace }) };
    const apiVersion = "rbac.authorization.k8s.io/v1";
    const roleRef = { kind, name: user, apiGroup: "rbac.authorization.k8s.io" };
    await applyLoosely(
      { apiVersion, kind, metadata, rules },
      { apiVersion, kind: `${kind}Binding`, metadata, subjects, roleRef },
    );
  }
  const kubeconfig = lab.writeKubeconfig(user, lab.client(user, `/CN=${user}`));
  if (grants.length > 0 && account === undefined)
    await waitFor("the bindings to count", async () => {
      const lists = await Promise.all(
        grants.map(({ namespace = "default" }) =>
          lab
            .kubectl("auth", "can-i", "--list", "--as", user, "-n", namespace)
            .then((text) => /secrets|configmaps|namespaces/.test(text)),
        ),
      );
      return lists.every(Boolean);
    });
  return kubeconfig;
}
/** As the API server takes it when nobody validates: unknown fields are dropped. */
async function applyLoosely(...manifests: object[]): Promise<void> {
  const file = workspace.path(`loose-${users++}.json`);
  writeFileSync(file, JSON.stringify({ apiVersion: "v1", kind: "List", items: manifests }));
  await lab.kubectl("apply", "--validate=false", "-f", file);
}

describe("the faults of a rotation that was declared ready", () => {
  const kubeSystem = { apiGroups: [""], resources: ["namespaces"], resourceNames: ["kube-system"], verbs: ["get"] };
  const all = { apiGroups: [""], resources: ["secrets"], resourceNames: ["shop-tls"], verbs: ["get", "patch"] };

  test("a rule with `namespaces:` in it gives nothing where it was meant", async () => {
    const rule = {
      apiGroups: [""],
      resources: ["configmaps"],
      namespaces: ["kube-system"],
      resourceNames: [name],
      verbs: ["get"],
    };
    const account = { kind: "ServiceAccount", name: "default", namespace: "cert-rotation" };
    await limited("namespaces", [{ rules: [kubeSystem] }, { namespace: "cert-rotation", rules: [rule] }], account);
    const token = (await lab.kubectl("create", "token", "-n", "cert-rotation", "default")).trim();
    const kubeconfig = workspace.path("account.json");
    const document = {
      ...{ apiVersion: "v1", kind: "Config", "current-context": "x" },
      contexts: [{ name: "x", context: { cluster: "lab", user: "rotator" } }],
      users: [{ name: "rotator", user: { token } }],
      clusters: [
        {
          name: "lab",
          cluster: { server: `https://${lab.balancer.address}`, "certificate-authority": lab.ca.certificate },
        },
      ],
    };
    writeFileSync(kubeconfig, JSON.stringify(document), { mode: 0o600 });
    const found = await examine("admin", { kubeconfig });
    const [missing] = of(found, "cluster prod").filter(({ level }) => level === "problem");
    expect(missing?.what).toContain(`get configmaps ${name} in kube-system (to know the cluster's CA)`);
    expect(missing?.what).toContain("create certificatesigningrequests.certificates.k8s.io");
    expect(missing?.what).toMatch(
      /it may get configmaps in namespace cert-rotation, and not in kube-system: .*no field `namespaces`/,
    );
    expect(missing?.next).toContain("# Role in namespace kube-system");
    // Written for the whole cluster, the same rule without the field gives it.
    const enough = await limited("cluster", [{ rules: [kubeSystem, rule] }]);
    const [other] = of(await examine("admin", { kubeconfig: enough }), "cluster prod").filter(
      ({ level }) => level === "problem",
    );
    expect(other?.what).toContain("create certificatesigningrequests");
    expect(other?.what).not.toContain(name);
  });

  test("a rule for names that are not there is named with them, and all that is missing is said at once", async () => {
    const rules = [{ ...all, resourceNames: ["kubeconfig-template", "talosconfig-template"] }];
    const kubeconfig = await limited("names", [{ rules: [kubeSystem] }, { namespace: "shop", rules }]);
    const found = await examine("shop", { kubeconfig });
    const [missing, ...more] = found.filter(
      ({ what }) => what.includes("Gyre may not") && !what.startsWith("who uses"),
    );
    expect(more).toEqual([]);
    expect(missing).toEqual(
      says(
        "problem",
        /may not get secrets shop-tls in shop.*patch secrets shop-tls in shop.*names kubeconfig-template, talosconfig-template \(resourceNames\), and not shop-tls/,
        /Role in namespace shop/,
      ),
    );
  });

  test("a CronJob that mounts Secrets nobody made", async () => {
    await lab.apply({
      ...{ apiVersion: "batch/v1", kind: "CronJob", metadata: { namespace: "shop", name: "cert-rotator" } },
      spec: {
        schedule: "0 2 1 * *",
        jobTemplate: {
          spec: {
            template: {
              spec: {
                restartPolicy: "Never",
                containers: [{ name: "rotate", image: "none", volumeMounts: [{ name: "t", mountPath: "/talos" }] }],
                volumes: [{ name: "t", secret: { secretName: "talosconfig" } }],
              },
            },
          },
        },
      },
    });
    expect(of(await examine("shop"), "consumers")).toContainEqual(
      says(
        "warning",
        /^CronJob shop\/cert-rotator, container rotate: \/talos: there is no Secret talosconfig in shop \(its pods do not start\)/,
      ),
    );
  });

  test("a kubeconfig with its client certificate as the CA: the one to be rotated, and Gyre's own", async () => {
    const rotated = await examine("admin", { robot: { ca: robot.certificate } });
    expect(of(rotated, "target ")).toContainEqual(
      says("problem", /certificate-authority of cluster lab holds .*CN=robot.*, which is no CA certificate/),
    );
    const own = await examine("admin", {
      kubeconfig: lab.writeKubeconfig("own", lab.admin, { ca: lab.admin.certificate }),
    });
    const told = of(own, "cluster prod");
    expect(told).toContainEqual(
      says(
        "problem",
        /certificate-authority of cluster lab is the client certificate of user admin itself .*no CA/,
        /kube-root-ca.crt/,
      ),
    );
    // Said once, and not by every driver that cannot get in.
    expect(own.filter(({ what }) => what.includes("does not lead to the cluster's CA")).length).toBeLessThanOrEqual(1);
    expect(of(await examine("admin"), "cluster prod").filter(({ level }) => level === "problem")).toEqual([]);
  });

  test("kubelet-csr-approver approves nothing of this: said, and shown by requests that wait", async () => {
    const csr = "approval: somebody, patience: 1s";
    expect(of(await examine("admin", { csr }), "issuer csr")).toContainEqual(
      says("warning", /nothing shows that anybody approves.*kubelet-csr-approver/, /approval: gyre/),
    );
    const request = await runCommand(["openssl", "req", "-new", "-key", robot.privateKey, "-subj", "/CN=waits"]);
    await lab.apply({
      ...{ apiVersion: "certificates.k8s.io/v1", kind: "CertificateSigningRequest", metadata: { name: "waits" } },
      spec: {
        request: Buffer.from(request).toString("base64"),
        signerName: "kubernetes.io/kube-apiserver-client",
        expirationSeconds: 172_800,
        usages: ["client auth"],
      },
    });
    await waitFor("it to have waited", async () =>
      of(await examine("admin", { csr }), "issuer csr").some(({ what }) =>
        /nobody approves: 1 for .*waits since/.test(what),
      ),
    );
    await lab.kubectl("certificate", "approve", "waits");
    await waitFor(
      "its certificate",
      async () => (await lab.kubectl("get", "csr", "waits", "-o", "jsonpath={.status.certificate}")) !== "",
    );
    const after = of(await examine("admin", { csr, lifetime: "48h" }), "issuer csr");
    expect(after).toContainEqual(says("ok", /^somebody approves for .*KubectlApprove/));
    expect(after).toContainEqual(says("problem", /48 h is wanted, and waits, which asked for 48 h, was given 24 h/));
    expect(bad(of(await examine("admin", { csr, lifetime: "24h" }), "issuer csr"))).toEqual([]);
  });
});

describe("Gyre's own way in", () => {
  test("another cluster, nobody there, no such file: each once", async () => {
    const uid = "00000000-0000-4000-8000-000000000000";
    const twin = await examine("admin", { uid });
    expect(twin.filter(({ what }) => what.includes("is another cluster"))).toEqual([
      expect.objectContaining({ about: "cluster prod", level: "problem" }),
    ]);
    const nobody = await examine("admin", {
      kubeconfig: lab.writeKubeconfig("nobody", lab.admin, { server: "https://127.0.0.1:1" }),
    });
    expect(of(nobody, "cluster prod")).toContainEqual(says("problem", /connection refused/));
    const gone = await examine("admin", { kubeconfig: "/nowhere/config" });
    expect(of(gone, "cluster prod")).toContainEqual(says("problem", /cannot be read \(ENOENT\)/));
  });

  test("a certificate that ends before the rotation does", async () => {
    const { certificate, privateKey } = issue(lab.ca, {
      name: "short",
      subject: "/O=system:masters/CN=short",
      usages: ["client"],
      notAfter: new Date(Date.now() + 120_000),
    });
    const kubeconfig = lab.writeKubeconfig("short", { ...lab.admin, certificate, privateKey });
    expect(of(await examine("admin", { kubeconfig }), "cluster prod")).toContainEqual(
      says("problem", /Gyre's own access: .*CN=short.* expires .*would stop half-way/),
    );
  });
});

test("an address whose certificate is of another CA, and a kubeconfig that would be made for it", async () => {
  const [first, second] = lab.apiServers;
  const names = ["DNS:kubernetes.default.svc", "IP:127.0.0.1", `IP:${first!.host}`];
  const foreign = issue(makeAuthority(workspace.dir, { name: "foreign-ca" }), { name: "serving", names });
  const own = issue(lab.ca, { name: "serving-again", subject: "/CN=kube-apiserver", names });
  first!.present(foreign);
  try {
    const server = `https://${first!.address}`;
    // Gyre itself goes to another one.
    const kubeconfig = lab.writeKubeconfig("beside", lab.admin, { server: `https://${second!.address}` });
    const found = await waitFor("the other certificate", async () => {
      const told = of(await examine("admin", { server, kubeconfig }), "cluster prod");
      return told.some(({ what }) => what.includes("does not cover")) ? told : undefined;
    });
    expect(found).toContainEqual(
      says(
        "problem",
        new RegExp(`^the API server at ${first!.address} presents a certificate of .*foreign-ca.*does not cover`),
      ),
    );
    expect(found).toContainEqual(
      says("problem", new RegExp(`^kubeconfig .* names ${server}, which presents a certificate of .*foreign-ca`)),
    );
    const into = await examine("admin", { kubeconfig: lab.writeKubeconfig("into", lab.admin, { server }) });
    expect(of(into, "cluster prod")).toContainEqual(
      says(
        "problem",
        new RegExp(`^${first!.address} presents a certificate of .*foreign-ca.*the CA in Gyre's own kubeconfig`),
      ),
    );
  } finally {
    first!.present(own);
  }
  await waitFor("its own again", async () =>
    of(await examine("admin"), "cluster prod").some(({ what }) => what.startsWith("2 API servers")),
  );
});
