import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { buildGoTools } from "../../../lab/go-tools.ts";
import { type LabCluster, startCluster } from "../../../lab/peers/kubernetes.ts";
import { useWorkspace } from "../../../lab/testing.ts";
import { parseCertificates } from "../../pki/certificate.ts";
import { codeOf, type TestCa, testCa, testMaterial, testStep } from "../conformance/material.ts";
import { leafOf, targetConformance } from "../conformance/target.ts";
import { trustStoreConformance } from "../conformance/trust-store.ts";
import type { Answer, Call } from "./api.ts";
import { Cluster } from "./cluster.ts";
import { secretSettings } from "./secret-settings.ts";
import { createSecretTarget } from "./secret-target.ts";
import { createCaBundleStore, createConfigMapStore } from "./secret-trust.ts";

await buildGoTools(["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"]);
const workspace = useWorkspace("kubernetes-secret");
let lab: LabCluster;
let twin: LabCluster;
let ca: TestCa;
beforeAll(async () => {
  lab = await startCluster(workspace, { name: "prod", apiServers: 1 });
  // The staging twin: the same names in it, and a pair that it accepts, but another cluster.
  twin = await startCluster(workspace, { name: "twin", apiServers: 1, controllerManager: false });
  ca = await testCa();
  for (const one of [lab, twin]) await one.kubectl("create", "namespace", "shop");
});

/** Runs before the first write that leaves: somebody who is faster. */
class Watched extends Cluster {
  meanwhile: (() => Promise<unknown>) | undefined;
  writes = 0;
  override async send(call: Call): Promise<Answer> {
    const writes = call.method !== "GET" && !call.path.includes("selfsubject");
    if (writes) {
      const { meanwhile } = this;
      this.meanwhile = undefined;
      await meanwhile?.();
      this.writes += 1;
    }
    return super.send(call);
  }
}
const open = (kubeconfig = lab.kubeconfig, uid = lab.uid) =>
  new Watched("prod", { uid, kubeconfig, apiServers: { serverName: "kubernetes.default.svc" } }, workspace.dir);

let count = 0;
const freshName = () => `shop-tls-${count++}`;
function target(name: string, more: object = {}, cluster = open()) {
  const settings = secretSettings.parse({ cluster: "prod", namespace: "shop", name, ...more });
  return createSecretTarget(settings, { baseDir: workspace.dir, cluster: () => cluster });
}
const base64 = (text: string) => Buffer.from(text).toString("base64");
const secret = (name: string, more: object = {}) => ({
  ...{ apiVersion: "v1", kind: "Secret", metadata: { name, namespace: "shop" }, type: "kubernetes.io/tls" },
  ...{ data: { "tls.crt": "", "tls.key": "" }, ...more },
});
const patch = (name: string, change: object, ...more: string[]) =>
  lab.kubectl("patch", "secret", "-n", "shop", name, "--type=merge", "-p", JSON.stringify(change), ...more);
const get = async (kind: string, name: string, of = lab) =>
  JSON.parse(await of.kubectl("get", kind, "-n", "shop", name, "-o", "json"));

targetConformance("kubernetes-secret", async () => {
  const [name, cluster] = [freshName(), open()];
  return {
    open: () => target(name, { create: true }, cluster),
    tamper: async () => void (await patch(name, { data: { "tls.crt": base64("somebody's") } })),
    close: async () => {},
  };
});

trustStoreConformance("configMap", async () => {
  const [name, cluster] = [freshName(), open()];
  const settings = { cluster: "prod", namespace: "shop", name, key: "ca.crt", create: true, takeOver: false };
  const other = (await testCa()).root.pem;
  const change = JSON.stringify({ data: { "ca.crt": other } });
  return {
    open: () => createConfigMapStore(settings, { baseDir: "/", cluster: () => cluster }),
    tamper: async () =>
      void (await lab.kubectl("patch", "configmap", "-n", "shop", name, "--type=merge", "-p", change)),
    close: async () => {},
  };
});

const webhook = (name: string) => ({
  ...{ name, sideEffects: "None", admissionReviewVersions: ["v1"], failurePolicy: "Ignore" },
  clientConfig: { service: { namespace: "shop", name: "hook" } },
  rules: [{ apiGroups: ["none.example"], apiVersions: ["v1"], operations: ["CREATE"], resources: ["none"] }],
});
const registered: ["validatingWebhook" | "mutatingWebhook" | "apiService", object][] = [
  [
    "validatingWebhook",
    {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "ValidatingWebhookConfiguration",
      webhooks: [webhook("a.shop.example"), webhook("b.shop.example")],
    },
  ],
  [
    "mutatingWebhook",
    {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "MutatingWebhookConfiguration",
      webhooks: [webhook("a.shop.example")],
    },
  ],
  [
    "apiService",
    {
      apiVersion: "apiregistration.k8s.io/v1",
      kind: "APIService",
      spec: {
        group: "none.example",
        version: "v1",
        groupPriorityMinimum: 1,
        versionPriority: 1,
        service: { namespace: "shop", name: "api" },
      },
    },
  ],
];
for (const [field, manifest] of registered)
  trustStoreConformance(`caBundle of a ${field}`, async () => {
    const name = field === "apiService" ? "v1.none.example" : freshName();
    const { kind } = manifest as { kind: string };
    await lab.kubectl("delete", kind, name, "--ignore-not-found");
    await lab.apply({ ...manifest, metadata: { name } });
    const cluster = open();
    const settings = { cluster: "prod", [field]: name, takeOver: false };
    const tamper = async () => {
      const bundle = base64((await testCa()).root.pem);
      const object = JSON.parse(await lab.kubectl("get", kind, name, "-o", "json"));
      for (const one of object.webhooks ?? []) one.clientConfig.caBundle = bundle;
      if (field === "apiService") object.spec.caBundle = bundle;
      await lab.apply(object);
    };
    return {
      open: () => createCaBundleStore(settings, { baseDir: "/", cluster: () => cluster }),
      tamper,
      close: async () => {},
    };
  });

it("a bundle that cainjector writes is refused until it is taken over", async () => {
  const [name, other] = [freshName(), base64((await testCa()).root.pem)];
  const manifest = { ...registered[0]![1], metadata: { name } } as unknown as {
    webhooks: { clientConfig: object }[];
  };
  await lab.apply(manifest);
  const settings = { cluster: "prod", validatingWebhook: name, takeOver: false };
  const store = (more: object = {}) =>
    createCaBundleStore({ ...settings, ...more }, { baseDir: "/", cluster: () => open() });
  await store().check!();
  const file = workspace.path(`${name}.json`);
  for (const one of manifest.webhooks) one.clientConfig = { ...one.clientConfig, caBundle: other };
  writeFileSync(file, JSON.stringify(manifest));
  await lab.kubectl("replace", "--field-manager=cert-manager-cainjector", "-f", file);
  await expect(store().check!()).rejects.toThrow("cert-manager-cainjector writes what Gyre would");
  const { version } = await store().read();
  expect(await codeOf(store().put(ca.root.pem, version, testStep()))).toBe("refused");
  await store({ takeOver: true }).put(ca.root.pem, version, testStep());
  await store().check!();
});

describe("a Secret of a real API server", () => {
  it("keeps what is not ours, and what the API server then shows is what was delivered", async () => {
    const name = freshName();
    await lab.apply(
      secret(name, {
        metadata: { name, namespace: "shop", labels: { team: "shop" } },
        data: { "tls.crt": "", "tls.key": "", extra: base64("theirs") },
      }),
    );
    const [material, step] = [await testMaterial(ca), testStep()];
    await target(name).check!();
    await target(name).deliver(material, "absent", step);
    const seen = await get("secret", name);
    expect(Buffer.from(seen.data.extra, "base64").toString()).toBe("theirs");
    expect(seen.metadata.labels).toEqual({ team: "shop" });
    expect(parseCertificates(Buffer.from(seen.data["tls.crt"], "base64").toString())[0]!.fingerprint).toBe(
      material.leaf.fingerprint,
    );
    const shown = await lab.kubectl("get", "secret", "-n", "shop", name, "-o", "json", "--show-managed-fields");
    expect(JSON.parse(shown).metadata.managedFields.map((one: { manager: string }) => one.manager)).toContain("gyre");
  });

  it("a change at the moment of the write: a label goes through, a key does not", async () => {
    const [name, cluster] = [freshName(), open()];
    const before = await target(name, { create: true }, cluster).deliver(await testMaterial(ca), "absent", testStep());
    cluster.meanwhile = () => lab.kubectl("label", "secret", "-n", "shop", name, "faster=yes");
    const material = await testMaterial(ca);
    const after = await target(name, {}, cluster).deliver(material, before.version, testStep());
    expect((await get("secret", name)).metadata.labels).toMatchObject({ faster: "yes" });
    expect(leafOf(after)).toBe(material.leaf.fingerprint);
    cluster.meanwhile = () => patch(name, { data: { "tls.crt": base64("theirs") } });
    expect(await codeOf(target(name, {}, cluster).deliver(await testMaterial(ca), after.version, testStep()))).toBe(
      "conflict",
    );
    expect((await get("secret", name)).data["tls.crt"]).toBe(base64("theirs"));
  });

  it("deleted and made again at the moment of the write: another object", async () => {
    const [name, cluster] = [freshName(), open()];
    const before = await target(name, { create: true }, cluster).deliver(await testMaterial(ca), "absent", testStep());
    const held = await get("secret", name);
    cluster.meanwhile = async () => {
      await lab.kubectl("delete", "secret", "-n", "shop", name);
      await lab.apply(secret(name, { data: held.data }));
    };
    expect(await codeOf(target(name, {}, cluster).deliver(await testMaterial(ca), before.version, testStep()))).toBe(
      "conflict",
    );
    expect((await get("secret", name)).data).toEqual(held.data);
  });

  const managers: [string, string[], string][] = [
    ["a server-side apply", ["apply", "--server-side", "--field-manager=kustomize-controller"], "kustomize-controller"],
    [
      "an update",
      ["replace", "--field-manager=cert-manager-certificates-issuing"],
      "cert-manager-certificates-issuing",
    ],
  ];
  it.each(managers)("another controller's, by %s, is refused until it is taken over", async (_, command, manager) => {
    const name = freshName();
    const file = workspace.path(`${name}.json`);
    const body = secret(name, { data: { "tls.crt": base64("theirs"), "tls.key": base64("theirs") } });
    writeFileSync(file, JSON.stringify(body));
    if (command[0] === "replace") await lab.apply(secret(name));
    await lab.kubectl(...command, "-f", file);
    await expect(target(name).check!()).rejects.toThrow(`${manager} writes what Gyre would`);
    const { version } = await target(name).read();
    expect(await codeOf(target(name).deliver(await testMaterial(ca), version, testStep()))).toBe("refused");
    expect((await get("secret", name)).data["tls.crt"]).toBe(base64("theirs"));
    const taken = target(name, { takeOver: true });
    await taken.check!();
    await taken.deliver(await testMaterial(ca), version, testStep());
    // The keys are Gyre's now, and the other's next apply shows as a change.
    await target(name).check!();
    const ours = await target(name).read();
    await lab.kubectl(...command, ...(command[0] === "apply" ? ["--force-conflicts"] : []), "-f", file);
    expect((await target(name).read()).version).not.toBe(ours.version);
  });

  it("immutable, of another type, and missing are told before anything is written", async () => {
    const [frozen, opaque] = [freshName(), freshName()];
    await lab.apply(secret(frozen, { immutable: true }), secret(opaque, { type: "Opaque", data: { "tls.crt": "" } }));
    await expect(target(frozen).check!()).rejects.toThrow("is immutable");
    await expect(target(opaque).check!()).rejects.toThrow("has type Opaque");
    // The API server agrees that neither can be changed.
    await expect(patch(frozen, { data: { "tls.crt": base64("x") } })).rejects.toThrow("immutable");
    await expect(patch(opaque, { type: "kubernetes.io/tls" })).rejects.toThrow("field is immutable");
    const slip = `${opaque}x`;
    await expect(target(slip).check!()).rejects.toThrow(`has no Secret ${slip}; did you mean ${opaque}?`);
    expect(await codeOf(target(slip).deliver(await testMaterial(ca), "absent", testStep()))).toBe("input");
  });

  it("renamed: the old place is gone for good, and nothing is made in its stead", async () => {
    const name = freshName();
    await lab.apply(secret(name));
    const before = await target(name).deliver(await testMaterial(ca), "absent", testStep());
    await lab.kubectl("delete", "secret", "-n", "shop", name);
    expect((await target(name).read()).version).toBe("absent");
    expect(await codeOf(target(name).deliver(await testMaterial(ca), before.version, testStep()))).not.toBe("none");
    await expect(get("secret", name)).rejects.toThrow("not found");
  });

  it("goes back to the byte, and what Gyre made is taken away again", async () => {
    const [name, made] = [freshName(), freshName()];
    const old = await testMaterial(ca);
    const data = {
      "tls.crt": base64(`# by hand\n${old.certificate}`),
      "tls.key": base64(old.privateKey!.use((bytes) => bytes.toString())),
    };
    await lab.apply(secret(name, { data }));
    const before = await target(name, { caKey: "ca.crt" }).read();
    const after = await target(name, { caKey: "ca.crt" }).deliver(await testMaterial(ca), before.version, testStep());
    expect(Object.keys((await get("secret", name)).data)).toContain("ca.crt");
    await target(name, { caKey: "ca.crt" }).restore(after.version, testStep(), old);
    expect((await get("secret", name)).data).toEqual(data);
    const first = await target(made, { create: true }).deliver(await testMaterial(ca), "absent", testStep());
    expect((await get("secret", made)).metadata.labels).toEqual({ "app.kubernetes.io/managed-by": "gyre" });
    await target(made, { create: true }).restore(first.version, testStep());
    await expect(get("secret", made)).rejects.toThrow("not found");
  });

  it("the staging twin of the same name is left alone, whatever leads to it", async () => {
    const name = freshName();
    for (const one of [lab, twin]) await one.apply(secret(name));
    const astray = open(twin.kubeconfig);
    await expect(target(name, {}, astray).check!()).rejects.toThrow("is another cluster");
    expect(await codeOf(target(name, {}, astray).deliver(await testMaterial(ca), "absent", testStep()))).toBe(
      "conflict",
    );
    expect((await get("secret", name, twin)).data).toEqual({ "tls.crt": "", "tls.key": "" });
    expect(astray.writes).toBe(0);
    // The control: with its own UID it is written.
    await target(name, {}, open(twin.kubeconfig, twin.uid)).deliver(await testMaterial(ca), "absent", testStep());
  });
});

describe("killed", () => {
  it.each(["before", "after"] as const)("%s the write: a later run knows which it was", async (when) => {
    const name = freshName();
    await lab.apply(secret(name));
    const [material, step] = [await testMaterial(ca), testStep()];
    const file = workspace.path(`${name}.json`);
    const given = {
      ...{ kubeconfig: lab.kubeconfig, uid: lab.uid, expected: "absent", op: step.op },
      settings: secretSettings.parse({ cluster: "prod", namespace: "shop", name }),
      material: { ...material, leaf: undefined, privateKey: material.privateKey!.use((bytes) => bytes.toString()) },
    };
    writeFileSync(file, JSON.stringify(given), { mode: 0o600 });
    const script = fileURLToPath(new URL("secret-deliver-child.ts", import.meta.url));
    const [, signal] = await once(spawn(process.execPath, [script, when, file], { stdio: "inherit" }), "exit");
    expect(signal).toBe("SIGKILL");
    const seen = await target(name).read();
    expect(seen.op).toBe(when === "after" ? step.op : undefined);
    const { resourceVersion } = (await get("secret", name)).metadata;
    const again = await target(name).deliver(material, "absent", step);
    expect(leafOf(again)).toBe(material.leaf.fingerprint);
    expect((await get("secret", name)).metadata.resourceVersion === resourceVersion).toBe(when === "after");
  });
});

interface Rule {
  readonly verb: string;
  readonly named: boolean;
}
/** What docs/drivers/kubernetes-secret.md says is needed; `create` cannot be bound to a name. */
const documented: readonly Rule[] = [
  { verb: "get", named: true },
  { verb: "patch", named: true },
  { verb: "create", named: false },
  { verb: "delete", named: true },
];

describe("rights", () => {
  const gyre = async (name: string, rules: readonly Rule[]) => {
    const user = `gyre-${count++}`;
    const subjects = [{ kind: "User", name: user, apiGroup: "rbac.authorization.k8s.io" }];
    const role = (kind: string, name: string) => ({ kind, name, apiGroup: "rbac.authorization.k8s.io" });
    const rbac = "rbac.authorization.k8s.io/v1";
    const entries = rules.map(({ verb, named }) => ({
      apiGroups: [""],
      resources: ["secrets"],
      verbs: [verb],
      ...(named ? { resourceNames: [name] } : {}),
    }));
    await lab.apply(
      {
        apiVersion: rbac,
        kind: "ClusterRole",
        metadata: { name: user },
        rules: [{ apiGroups: [""], resources: ["namespaces"], resourceNames: ["kube-system"], verbs: ["get"] }],
      },
      {
        apiVersion: rbac,
        kind: "ClusterRoleBinding",
        metadata: { name: user },
        subjects,
        roleRef: role("ClusterRole", user),
      },
      { apiVersion: rbac, kind: "Role", metadata: { name: user, namespace: "shop" }, rules: entries },
      {
        apiVersion: rbac,
        kind: "RoleBinding",
        metadata: { name: user, namespace: "shop" },
        subjects,
        roleRef: role("Role", user),
      },
    );
    const pair = lab.client(user, `/CN=${user}`);
    return open(lab.writeKubeconfig(user, pair));
  };
  const whole = async (name: string, cluster: Watched) => {
    const place = target(name, { create: true }, cluster);
    await place.check!();
    const after = await place.deliver(await testMaterial(ca), "absent", testStep());
    const material = await testMaterial(ca);
    const again = await place.deliver(material, after.version, testStep());
    await place.forget(testStep());
    return again;
  };

  it("those documented are enough for all there is to do", async () => {
    const name = freshName();
    const cluster = await gyre(name, documented);
    await whole(name, cluster);
    const made = freshName();
    const other = await gyre(made, documented);
    const first = await target(made, { create: true }, other).deliver(await testMaterial(ca), "absent", testStep());
    expect((await target(made, { create: true }, other).restore(first.version, testStep())).version).toBe("absent");
  });

  it.each(documented)("without $verb nothing is begun, and it is named", async ({ verb }) => {
    const name = freshName();
    const cluster = await gyre(
      name,
      documented.filter((rule) => rule.verb !== verb),
    );
    const error = await target(name, { create: true }, cluster).check!().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "permission", message: expect.stringMatching(new RegExp(`\\b${verb}\\b`)) });
    expect(cluster.writes).toBe(0);
  });

  it("an existing Secret needs neither create nor delete", async () => {
    const name = freshName();
    await lab.apply(secret(name));
    const place = target(name, {}, await gyre(name, documented.slice(0, 2)));
    await place.check!();
    const old = await testMaterial(ca);
    const before = await place.deliver(old, "absent", testStep());
    const after = await place.deliver(await testMaterial(ca), before.version, testStep());
    expect(leafOf(await place.restore(after.version, testStep(), old))).toBe(old.leaf.fingerprint);
  });
});

it("no log of the API server holds a key that was delivered", async () => {
  const name = freshName();
  const material = await testMaterial(ca);
  await target(name, { create: true }).deliver(material, "absent", testStep());
  const key = material.privateKey!.use((bytes) => bytes.toString("base64"));
  expect((await get("secret", name)).data["tls.key"]).toContain(key.slice(40, 80));
  expect(readFileSync(lab.apiServers[0]!.auditLog, "utf8")).not.toContain(key.slice(40, 80));
});
