import { describe, expect, it } from "vitest";
import { parseCertificates } from "../../pki/certificate.ts";
import { codeOf, testCa, testMaterial, testStep } from "../conformance/material.ts";
import { leafOf, targetConformance } from "../conformance/target.ts";
import { trustStoreConformance } from "../conformance/trust-store.ts";
import { FakeCluster } from "./fake-cluster.ts";
import { type SecretSettings, secretSettings } from "./secret-settings.ts";
import { createSecretTarget } from "./secret-target.ts";
import { createCaBundleStore, createConfigMapStore } from "./secret-trust.ts";

const ca = await testCa();
const path = "/api/v1/namespaces/shop/secrets/shop-tls";
const settings = (more: object = {}): SecretSettings =>
  secretSettings.parse({ cluster: "prod", namespace: "shop", name: "shop-tls", create: true, ...more });

function rig(more: object = {}) {
  const cluster = new FakeCluster(ca.root.pem);
  const open = () => createSecretTarget(settings(more), { baseDir: "/", cluster: () => cluster });
  const secret = () =>
    cluster.objects.get(path) as unknown as
      | {
          data: Record<string, string>;
          metadata: { labels?: object; annotations: Record<string, string>; managedFields?: unknown };
          type: string;
        }
      | undefined;
  return { cluster, open, secret };
}
const b64 = (text: string) => Buffer.from(text).toString("base64");
const empty = { type: "kubernetes.io/tls", data: { "tls.crt": "", "tls.key": "" } };

targetConformance("kubernetes-secret", async () => {
  const { cluster, open } = rig();
  const tamper = async () => {
    const now = cluster.objects.get(path)!;
    cluster.put(path, { ...now, data: { ...(now.data as object), "tls.crt": b64("somebody's") } });
  };
  return { open, tamper, close: async () => {} };
});

trustStoreConformance("configMap", async () => {
  const cluster = new FakeCluster(ca.root.pem);
  const at = "/api/v1/namespaces/shop/configmaps/bundle";
  const store = { cluster: "prod", namespace: "shop", name: "bundle", key: "ca.crt", create: true, takeOver: false };
  const tamper = async () =>
    cluster.put(at, { ...cluster.objects.get(at), data: { "ca.crt": (await testCa()).root.pem } });
  return {
    open: () => createConfigMapStore(store, { baseDir: "/", cluster: () => cluster }),
    tamper,
    close: async () => {},
  };
});

trustStoreConformance("caBundle of an APIService", async () => {
  const cluster = new FakeCluster(ca.root.pem);
  const at = "/apis/apiregistration.k8s.io/v1/apiservices/v1.shop.example";
  cluster.put(at, { spec: { group: "shop.example" } });
  const store = { cluster: "prod", apiService: "v1.shop.example", takeOver: false };
  const tamper = async () =>
    cluster.put(at, { ...cluster.objects.get(at), spec: { caBundle: b64((await testCa()).root.pem) } });
  return {
    open: () => createCaBundleStore(store, { baseDir: "/", cluster: () => cluster }),
    tamper,
    close: async () => {},
  };
});

describe("a Secret", () => {
  it("keeps keys, labels and annotations of others, and its own op is known after a crash", async () => {
    const { cluster, open, secret } = rig({ caKey: "ca.crt" });
    cluster.put(path, {
      ...empty,
      data: { ...empty.data, "extra.txt": b64("theirs") },
      metadata: { labels: { team: "shop" } },
    });
    const [material, step] = [await testMaterial(ca), testStep()];
    await open().deliver(material, "absent", step);
    expect(secret()!.data).toMatchObject({ "extra.txt": b64("theirs"), "ca.crt": b64(ca.root.pem) });
    expect(secret()!.metadata.labels).toEqual({ team: "shop" });
    expect(await open().read()).toMatchObject({ op: step.op });
  });

  it("reads labels of others as no change, and the same keys in another object as one", async () => {
    const { cluster, open } = rig();
    const before = await open().deliver(await testMaterial(ca), "absent", testStep());
    const now = cluster.objects.get(path)!;
    cluster.put(path, { ...now, metadata: { ...now.metadata, labels: { more: "yes" } } });
    expect((await open().read()).version).toBe(before.version);
    cluster.put(path, { ...now, metadata: { ...now.metadata, uid: "11111111-2222-3333-4444-555555555555" } });
    expect((await open().read()).version).not.toBe(before.version);
  });

  it("tries again where something else changed meanwhile, and does not where our keys did", async () => {
    const { cluster, open, secret } = rig();
    const before = await open().deliver(await testMaterial(ca), "absent", testStep());
    cluster.meanwhile = () => {
      const now = cluster.objects.get(path)!;
      cluster.put(path, { ...now, metadata: { ...now.metadata, labels: { faster: "yes" } } });
    };
    const after = await open().deliver(await testMaterial(ca), before.version, testStep());
    expect(secret()!.metadata.labels).toEqual({ faster: "yes" });
    cluster.meanwhile = () => {
      const now = cluster.objects.get(path)!;
      cluster.put(path, { ...now, data: { ...(now.data as object), "tls.crt": b64("theirs") } });
    };
    expect(await codeOf(open().deliver(await testMaterial(ca), after.version, testStep()))).toBe("conflict");
    expect(secret()!.data["tls.crt"]).toBe(b64("theirs"));
  });

  it("is restored to the byte from the generation before and what was public of it, key and all", async () => {
    const { cluster, open, secret } = rig({ caKey: "ca.crt" });
    const old = await testMaterial(ca);
    const data = {
      "tls.crt": b64(`# by hand\n${old.certificate}`),
      "tls.key": b64(old.privateKey!.use((bytes) => bytes.toString())),
    };
    cluster.put(path, { type: "kubernetes.io/tls", data });
    const before = await open().read();
    const after = await open().deliver(await testMaterial(ca), before.version, testStep());
    expect(secret()!.data["ca.crt"]).toBeDefined();
    await open().restore(after.version, testStep(), old);
    expect(secret()!.data).toEqual(data);
    // Nothing secret was written beside it in between, and nothing is kept any more.
    expect(secret()!.metadata.annotations["gyre.dev/replaced"]).toBeUndefined();
  });

  it("keeps no private key in an annotation, whatever the layout", async () => {
    const { open, secret } = rig({ layout: "opaque", keys: { combined: "site.pem" } });
    const old = await testMaterial(ca);
    const before = await open().deliver(old, "absent", testStep());
    await open().deliver(await testMaterial(ca), before.version, testStep());
    const kept = JSON.stringify(secret()!.metadata);
    expect(kept).toContain("site.pem");
    expect(kept).not.toMatch(/PRIVATE|UFJJVkFUR/);
  });

  it("is not taken away where it was there before, or holds something of others", async () => {
    const { cluster, open, secret } = rig();
    cluster.put(path, empty);
    const after = await open().deliver(await testMaterial(ca), "absent", testStep());
    await open().restore(after.version, testStep());
    expect(secret()!.data).toEqual(empty.data);
    cluster.objects.delete(path);
    const made = await open().deliver(await testMaterial(ca), "absent", testStep());
    const now = cluster.objects.get(path)!;
    cluster.put(path, { ...now, data: { ...(now.data as object), other: b64("theirs") } });
    await open().restore(made.version, testStep());
    expect(secret()!.data).toEqual({ other: b64("theirs") });
  });

  it("leaf, chain, key, both together and the roots go where the manifest says", async () => {
    const keys = { certificate: "leaf", privateKey: "key", chain: "chain", combined: "all", ca: "roots" };
    const { open, secret } = rig({ layout: "opaque", keys });
    const material = await testMaterial(ca);
    const stored = await open().deliver(material, "absent", testStep());
    const text = (key: string) => Buffer.from(secret()!.data[key]!, "base64").toString();
    expect(secret()!.type).toBe("Opaque");
    expect(parseCertificates(text("leaf")).map((one) => one.fingerprint)).toEqual([material.leaf.fingerprint]);
    expect(parseCertificates(text("chain"))[0]!.fingerprint).toBe(ca.authority.certificate.fingerprint);
    expect(text("all")).toContain("PRIVATE KEY");
    expect(text("roots")).toBe(ca.root.pem);
    expect(leafOf(stored)).toBe(material.leaf.fingerprint);
  });
});

const manager = (name: string, key = "tls.crt") => [
  { manager: name, operation: "Update", fieldsV1: { "f:data": { ".": {}, [`f:${key}`]: {} } } },
];
const refusals: [string, object, object, RegExp, string][] = [
  ["immutable", {}, { ...empty, immutable: true }, /is immutable: Kubernetes lets nobody change it/, "refused"],
  [
    "another type",
    {},
    { ...empty, type: "Opaque" },
    /has type Opaque, and the layout needs kubernetes\.io\/tls/,
    "refused",
  ],
  [
    "a type with rules",
    { layout: "opaque", keys: { combined: "x" } },
    empty,
    /has type kubernetes\.io\/tls, and the layout needs Opaque/,
    "refused",
  ],
  [
    "cert-manager writes it",
    {},
    { ...empty, metadata: { managedFields: manager("cert-manager-certificates-issuing") } },
    /cert-manager-certificates-issuing writes what Gyre would/,
    "refused",
  ],
  [
    "Flux applies it",
    {},
    { ...empty, metadata: { managedFields: manager("kustomize-controller", "tls.key") } },
    /kustomize-controller writes what Gyre would/,
    "refused",
  ],
  [
    "a controller owns it",
    {},
    { ...empty, metadata: { ownerReferences: [{ kind: "Certificate", name: "shop", controller: true }] } },
    /Certificate shop writes what Gyre would/,
    "refused",
  ],
];
describe("what would stop a delivery is told before it, and at it", () => {
  it.each(refusals)("%s", async (_, more, body, words, code) => {
    const { cluster, open } = rig(more);
    cluster.put(path, body as Record<string, unknown>);
    const error = await open().check!().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code, message: expect.stringMatching(words) });
    const { version } = await open().read();
    expect(await codeOf(open().deliver(await testMaterial(ca), version, testStep()))).toBe(code);
    expect(cluster.writes).toEqual([]);
  });

  const accepted: [string, object, object][] = [
    ["nothing in the way", {}, empty],
    ["a person wrote it", {}, { ...empty, metadata: { managedFields: manager("kubectl-create") } }],
    ["a program wrote other keys", {}, { ...empty, metadata: { managedFields: manager("reloader", "other") } }],
    ["taken over", { takeOver: true }, { ...empty, metadata: { managedFields: manager("helm") } }],
    ["of a type without rules", { layout: "opaque", keys: { combined: "x" } }, { type: "shop.example/pem", data: {} }],
  ];
  it.each(accepted)("and not: %s", async (_, more, body) => {
    const { cluster, open } = rig(more);
    cluster.put(path, body as Record<string, unknown>);
    await open().check!();
    await open().deliver(await testMaterial(ca), "absent", testStep());
    expect(cluster.writes).toEqual([`PATCH ${path}`]);
  });

  it("a missing one is a slip in the name, unless it is to be made", async () => {
    const { cluster, open } = rig({ create: false });
    cluster.put("/api/v1/namespaces/shop/secrets/shop-tsl", empty);
    const error = await open().check!().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: "input",
      message:
        "secret/prod/shop/shop-tls: namespace shop has no Secret shop-tls; did you mean shop-tsl? Nothing was written",
    });
    expect(await codeOf(open().deliver(await testMaterial(ca), "absent", testStep()))).toBe("input");
    expect(cluster.writes).toEqual([]);
  });

  it("more than a Secret may hold", async () => {
    const { cluster, open } = rig();
    const large = (bytes: number) => ({
      ...empty,
      data: { ...empty.data, big: Buffer.alloc(bytes).toString("base64") },
    });
    cluster.put(path, large(1024 * 1024 - 100));
    expect(await codeOf(open().deliver(await testMaterial(ca), "absent", testStep()))).toBe("input");
    cluster.put(path, large(1024 * 1024 - 10_000));
    await open().deliver(await testMaterial(ca), "absent", testStep());
  });

  it("another cluster of the same name: nothing is written there", async () => {
    const { cluster, open } = rig();
    const before = await open().deliver(await testMaterial(ca), "absent", testStep());
    const kubeSystem = "/api/v1/namespaces/kube-system";
    cluster.put(kubeSystem, { metadata: { uid: "11111111-2222-3333-4444-555555555555" } });
    expect(await codeOf(open().check!())).toBe("conflict");
    for (const work of [
      open().deliver(await testMaterial(ca), before.version, testStep()),
      open().restore(before.version, testStep()),
      open().forget(testStep()),
    ])
      expect(await codeOf(work)).toBe("conflict");
    expect(cluster.writes).toEqual(["POST /api/v1/namespaces/shop/secrets"]);
  });
});

describe("a webhook's caBundle", () => {
  it("webhooks that trust different CAs are not made one by accident", async () => {
    const cluster = new FakeCluster(ca.root.pem);
    const at = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/shop";
    const other = (await testCa()).root.pem;
    cluster.put(at, {
      webhooks: [
        { name: "a.shop.example", clientConfig: { caBundle: b64(ca.root.pem) } },
        { name: "b.shop.example", clientConfig: { caBundle: b64(other) } },
      ],
    });
    const open = (more: object = {}) =>
      createCaBundleStore(
        { cluster: "prod", validatingWebhook: "shop", takeOver: false, ...more },
        { baseDir: "/", cluster: () => cluster },
      );
    await expect(open().read()).rejects.toThrow("a.shop.example and b.shop.example");
    expect((await open({ webhook: "b.shop.example" }).read()).pem).toBe(other);
    await expect(open({ webhook: "c.shop.example" }).check!()).rejects.toThrow(
      "there are: a.shop.example, b.shop.example",
    );
  });
});
