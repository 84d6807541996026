import { readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { buildGoTools, goTool } from "../../../lab/go-tools.ts";
import { gyre } from "../../../lab/gyre.ts";
import { type LabCluster, startCluster } from "../../../lab/peers/kubernetes.ts";
import { runCommand } from "../../../lab/peers/peer.ts";
import type { Pair } from "../../../lab/pki.ts";
import { useWorkspace } from "../../../lab/testing.ts";
import { Secret } from "../../pki/secret.ts";
import { codeOf, testStep } from "../conformance/material.ts";
import { leafOf, targetConformance } from "../conformance/target.ts";
import type { Material, ProbeResult } from "../roles.ts";
import { Cluster } from "./cluster.ts";
import { createKubeconfigPresenter } from "./kubeconfig-presenter.ts";
import { kubeconfigPresenterSettings, kubeconfigSettings } from "./kubeconfig-settings.ts";
import { createKubeconfigTarget } from "./kubeconfig-target.ts";

await buildGoTools(["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"]);
const workspace = useWorkspace("kubeconfig");
let lab: LabCluster;
let twin: LabCluster;
beforeAll(async () => {
  lab = await startCluster(workspace, { name: "prod", apiServers: 1 });
  twin = await startCluster(workspace, { name: "twin", apiServers: 1, controllerManager: false });
  await lab.kubectl("create", "namespace", "shop");
});

const open = (kubeconfig = lab.kubeconfig, uid = lab.uid) =>
  new Cluster("prod", { uid, kubeconfig, apiServers: { serverName: "kubernetes.default.svc" } }, workspace.dir);
const around = (cluster = open()) => ({ baseDir: workspace.dir, cluster: () => cluster });
const target = (settings: object, cluster?: Cluster) =>
  createKubeconfigTarget(kubeconfigSettings.parse({ cluster: "prod", ...settings }), around(cluster));

async function probe(settings: object, cluster?: Cluster): Promise<ProbeResult> {
  const presenter = createKubeconfigPresenter(
    kubeconfigPresenterSettings.parse({ cluster: "prod", ...settings }),
    around(cluster),
  );
  const [member] = await presenter.members();
  return presenter.probe(member!, "", testStep());
}

let count = 0;
const server = () => `https://${lab.apiServers[0]!.address}`;
/** A client certificate of the cluster's CA, by openssl. */
function robot(subject = `/O=shop/CN=robot-${count}`): { readonly pair: Pair; readonly material: Material } {
  const pair = lab.client(`robot-${count++}`, subject);
  const [certificate, privateKey] = [readFileSync(pair.certificate, "utf8"), Secret.of(readFileSync(pair.privateKey))];
  return { pair, material: { certificate, chain: "", roots: readFileSync(lab.ca.certificate, "utf8"), privateKey } };
}
const whoami = (file: string) => runCommand([goTool("kubectl"), "--kubeconfig", file, "auth", "whoami", "-o", "json"]);

targetConformance("kubeconfig in a Secret", async () => {
  const name = `conf-${count++}`;
  const secret = { cluster: "prod", namespace: "shop", name, key: "value", create: true };
  const cluster = open();
  const tamper = async () => {
    const text = Buffer.from(
      await lab.kubectl("get", "secret", "-n", "shop", name, "-o", "jsonpath={.data.value}"),
      "base64",
    );
    const value = Buffer.from(text.toString().replace(/client-key-data: \S+/, "client-key-data: aGk=")).toString(
      "base64",
    );
    await lab.kubectl("patch", "secret", "-n", "shop", name, "--type=merge", "-p", JSON.stringify({ data: { value } }));
  };
  return { open: () => target({ secret, server: server() }, cluster), tamper, close: async () => {} };
});

describe("a kubeconfig that kubectl made", () => {
  it("is used by kubectl and by the presenter alike, before and after, and edited by kubectl in between", async () => {
    const [one, two] = [robot(), robot()];
    const file = lab.writeKubeconfig("theirs", one.pair);
    await runCommand([
      goTool("kubectl"),
      "--kubeconfig",
      file,
      "config",
      "set-context",
      "other",
      "--cluster=lab",
      "--user=nobody",
    ]);
    const before = await target({ file }).read();
    expect(before.flaw).toBeUndefined();
    expect(await probe({ file })).toMatchObject({ saw: "presented", chain: [one.pair.fingerprint] });
    await target({ file }).check!();
    const after = await target({ file }).deliver(two.material, before.version, testStep());
    expect(await probe({ file })).toMatchObject({ saw: "presented", chain: [two.pair.fingerprint] });
    expect(JSON.parse(await whoami(file)).status.userInfo.extra["authentication.kubernetes.io/credential-id"]).toEqual([
      `X509SHA256=${two.pair.fingerprint}`,
    ]);
    // kubectl rewrites the whole document; what is ours in it, the mark too, comes through.
    await runCommand([
      goTool("kubectl"),
      "--kubeconfig",
      file,
      "config",
      "set-context",
      "third",
      "--cluster=lab",
      "--user=nobody",
    ]);
    expect(await target({ file }).read()).toMatchObject({ version: after.version, op: after.op });
    await target({ file }).restore(after.version, testStep(), one.material);
    expect(await probe({ file })).toMatchObject({ saw: "presented", chain: [one.pair.fingerprint] });
    const contexts = await runCommand([
      goTool("kubectl"),
      "--kubeconfig",
      file,
      "config",
      "get-contexts",
      "-o",
      "name",
    ]);
    expect(contexts.trim().split("\n").sort()).toEqual(["lab", "other", "third"]);
  });

  it("made anew, in a file and with files beside it, lets its user in", async () => {
    for (const more of [{}, { material: { certificate: "r.pem", privateKey: "r.key", ca: "r-ca.pem" } }]) {
      const file = workspace.path(`new-${count}`);
      const { pair, material } = robot();
      const settings = { file, server: server(), context: "nightly", user: "robot", ...more };
      await target(settings).check!();
      const stored = await target(settings).deliver(material, "absent", testStep());
      expect(leafOf(stored)).toBe(pair.fingerprint);
      expect(await probe({ file })).toMatchObject({ saw: "presented", chain: [pair.fingerprint] });
      expect(JSON.parse(await whoami(file)).status.userInfo.username).toContain("robot");
    }
  });

  it("in a Secret, it is the same to its consumer", async () => {
    const { pair, material } = robot();
    const secret = { cluster: "prod", namespace: "shop", name: "robot", create: true };
    await target({ secret, server: server() }).deliver(material, "absent", testStep());
    expect(await probe({ secret })).toMatchObject({ saw: "presented", chain: [pair.fingerprint] });
    const text = await lab.kubectl("get", "secret", "-n", "shop", "robot", "-o", "jsonpath={.data.kubeconfig}");
    const file = workspace.path("from-secret");
    writeFileSync(file, Buffer.from(text, "base64"), { mode: 0o600 });
    expect(JSON.parse(await whoami(file)).status.userInfo.username).toContain("robot");
  });
});

describe("what was wrong with it", () => {
  it("a client certificate as its CA lets nobody in; the next delivery does", async () => {
    const [one, two] = [robot(), robot()];
    const file = lab.writeKubeconfig("spoilt", one.pair, { ca: one.pair.certificate });
    await expect(whoami(file)).rejects.toThrow();
    const before = await target({ file }).read();
    expect(before.flaw).toMatch(/which is no CA certificate/);
    expect(await probe({ file })).toMatchObject({
      saw: "presented",
      problem: expect.stringContaining("its CA does not fit"),
    });
    await target({ file }).deliver(two.material, before.version, testStep());
    expect(await probe({ file })).toMatchObject({ saw: "presented", chain: [two.pair.fingerprint] });
    await whoami(file);
  });

  it("a certificate the API server does not take is refused, and none is anonymous", async () => {
    const stranger = twin.client("stranger", "/CN=stranger");
    const file = lab.writeKubeconfig("stranger", stranger);
    expect(await probe({ file })).toMatchObject({ saw: "refused", code: "401" });
    // The control: the twin takes it. That is another cluster, and no yes.
    const astray = twin.writeKubeconfig("astray", stranger);
    const why = (words: string) => ({ saw: "unknown", why: expect.stringContaining(words) });
    expect(await probe({ file: astray })).toMatchObject(why("it is not shown to be of prod"));
    const { kubeconfig, uid, admin } = twin;
    expect(await probe({ file: kubeconfig })).toMatchObject(why("is another cluster than prod"));
    expect(await probe({ file: kubeconfig }, open(kubeconfig, uid))).toMatchObject({
      ...{ saw: "presented", chain: [admin.fingerprint] },
    });
  });

  it("the staging twin's CA is not taken for the cluster's", async () => {
    const { pair, material } = robot();
    const file = lab.writeKubeconfig("kept", pair);
    const content = readFileSync(file, "utf8");
    const astray = open(twin.kubeconfig);
    expect(await codeOf(target({ file }, astray).check!())).toBe("conflict");
    expect(await codeOf(target({ file }, astray).deliver(material, "absent", testStep()))).toBe("conflict");
    expect(readFileSync(file, "utf8")).toBe(content);
  });
});

describe("rights", () => {
  const rbac = "rbac.authorization.k8s.io/v1";
  const gyre = async (rules: Readonly<Record<string, object>>) => {
    const user = `gyre-${count++}`;
    const subjects = [{ kind: "User", name: user, apiGroup: "rbac.authorization.k8s.io" }];
    for (const [namespace, rule] of Object.entries(rules)) {
      const kind = namespace === "" ? "ClusterRole" : "Role";
      const metadata = { name: user, ...(namespace === "" ? {} : { namespace }) };
      await lab.apply(
        { apiVersion: rbac, kind, metadata, rules: [rule] },
        {
          apiVersion: rbac,
          kind: `${kind}Binding`,
          metadata,
          subjects,
          roleRef: { kind, name: user, apiGroup: "rbac.authorization.k8s.io" },
        },
      );
    }
    return open(lab.writeKubeconfig(user, lab.client(user, `/CN=${user}`)));
  };
  /** What docs/drivers/kubeconfig.md says is needed for one in a file. */
  const documented = {
    "": { apiGroups: [""], resources: ["namespaces"], resourceNames: ["kube-system"], verbs: ["get"] },
    "kube-system": { apiGroups: [""], resources: ["configmaps"], resourceNames: ["kube-root-ca.crt"], verbs: ["get"] },
  };

  it("those documented are enough, and each is needed", async () => {
    const { pair, material } = robot();
    const file = lab.writeKubeconfig("rights", pair);
    for (const without of Object.keys(documented)) {
      const rest = Object.fromEntries(Object.entries(documented).filter(([namespace]) => namespace !== without));
      expect(await codeOf(target({ file }, await gyre(rest)).check!())).toBe("permission");
    }
    const cluster = await gyre(documented);
    await target({ file }, cluster).check!();
    const { version } = await target({ file }, cluster).read();
    await target({ file }, cluster).deliver(material, version, testStep());
    expect(await probe({ file }, cluster)).toMatchObject({ saw: "presented" });
  });
});

it("a whole rotation: the cluster's own CSRs, two kubeconfigs of which one has a wrong CA, twice, and one put back", async () => {
  const { pair } = robot("/O=shop/CN=night-shift");
  const home = workspace.folder("estate");
  const file = lab.writeKubeconfig("night", pair, { ca: pair.certificate });
  writeFileSync(
    `${home}/gyre.yaml`,
    `apiVersion: gyre.dev/v1alpha1
kind: Cluster
metadata: { name: prod }
spec: { uid: ${lab.uid}, kubeconfig: ${lab.kubeconfig} }
---
apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: csr }
spec: { kubernetesCSR: { cluster: prod, approval: gyre } }
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: night }
spec:
  issue: { issuer: csr, subject: "O=shop,CN=night-shift", usages: [client], lifetime: 2h }
  deliver:
    - kubeconfig: { cluster: prod, file: ${file} }
    - kubeconfig: { cluster: prod, server: "${server()}", secret: { cluster: prod, namespace: shop, name: night, create: true } }
    - secret: { cluster: prod, namespace: shop, name: night-pair, create: true }
  prove:
    - kubeconfig: { cluster: prod, file: ${file} }
    - kubeconfig: { cluster: prod, secret: { cluster: prod, namespace: shop, name: night } }
    - kubernetesApi: { cluster: prod }
  timing: { patience: 20s, poll: 500ms }
`,
  );
  const seen = async () =>
    String(JSON.parse(await whoami(file)).status.userInfo.extra["authentication.kubernetes.io/credential-id"]);
  const doctor = await gyre(home, "doctor");
  expect(doctor.out).toContain("which is no CA certificate");
  const shown: string[] = [];
  for (const _ of [1, 2]) {
    const ran = await gyre(home, "rotate", "night", "--now");
    expect(`${ran.code} ${ran.out} ${ran.err}`).toMatch(/^0 /);
    shown.push(await seen());
  }
  expect(new Set([...shown, `X509SHA256=${pair.fingerprint}`]).size).toBe(3);
  const crt = await lab.kubectl("get", "secret", "-n", "shop", "night-pair", "-o", "jsonpath={.data.tls\\.crt}");
  writeFileSync(`${home}/crt.pem`, Buffer.from(crt, "base64"));
  const { stdout } = {
    stdout: await runCommand(["openssl", "x509", "-in", `${home}/crt.pem`, "-noout", "-fingerprint", "-sha256"]),
  };
  expect(shown[1]).toBe(`X509SHA256=${stdout.split("=")[1]!.trim().replaceAll(":", "").toLowerCase()}`);

  // A consumer that nothing is delivered to: held, and put back everywhere, from Gyre's own store.
  const left = workspace.path("left-behind");
  writeFileSync(left, readFileSync(file), { mode: 0o600 });
  const manifest = readFileSync(`${home}/gyre.yaml`, "utf8");
  const more = `- kubernetesApi: { cluster: prod }\n    - kubeconfig: { cluster: prod, file: ${left} }`;
  writeFileSync(`${home}/gyre.yaml`, manifest.replace("- kubernetesApi: { cluster: prod }", more).replace("20s", "2s"));
  const held = await gyre(home, "rotate", "night", "--now");
  expect(`${held.code} ${held.out}`).toMatch(/^3 [\s\S]*left-behind/);
  expect(await seen()).not.toBe(shown[1]);
  const back = await gyre(home, "revert", "night", "--reason", "a consumer was left behind");
  expect(`${back.code} ${back.out} ${back.err}`).toMatch(/^[04] /);
  expect(await seen()).toBe(shown[1]);
  const again = await lab.kubectl("get", "secret", "-n", "shop", "night-pair", "-o", "jsonpath={.data.tls\\.crt}");
  expect(again).toBe(crt);
});
