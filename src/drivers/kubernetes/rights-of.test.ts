import { expect, test } from "vitest";
import type { Cluster } from "./cluster.ts";
import { sayRight } from "./rights.ts";
import { nearMiss, rightsOf } from "./rights-of.ts";

const open = () => ({ listed: undefined, count: undefined }) as unknown as Cluster;
const right = { verb: "get", resource: "configmaps", namespace: "kube-system", name: "kube-root-ca.crt", why: "" };
const rule = (more: object = {}) => ({ verbs: ["get"], apiGroups: [""], resources: ["configmaps"], ...more });
const near = (rules: Readonly<Record<string, readonly ReturnType<typeof rule>[]>>, of: typeof right = right) =>
  nearMiss(of, new Map(Object.entries(rules)));

test("a rule for other names is named with them", () => {
  const wrong = rule({ resourceNames: ["kubeconfig-template"] });
  expect(near({ "kube-system": [wrong] })).toMatch(
    /names kubeconfig-template \(resourceNames\), and not kube-root-ca.crt/,
  );
});

test("a rule for another name that is wanted as well is no slip", () => {
  const rules = new Map([["kube-system", [rule({ resourceNames: ["extension-apiserver-authentication"] })]]]);
  expect(nearMiss(right, rules, ["extension-apiserver-authentication"])).toBeUndefined();
  expect(nearMiss(right, rules, ["kube-root-ca.crt"])).toMatch(/names extension/);
});

test("a rule in another namespace is named as that", () => {
  expect(near({ "kube-system": [], "cert-rotation": [rule({ resourceNames: ["kube-root-ca.crt"] })] })).toMatch(
    /may get configmaps in namespace cert-rotation, and not in kube-system: .*no field `namespaces`/,
  );
  const cluster = { verb: "get", resource: "namespaces", name: "kube-system", why: "" };
  expect(near({ shop: [rule({ resources: ["namespaces"] })] }, cluster as never)).toMatch(/not in the whole cluster/);
});

test("what has nothing to do with it explains nothing", () => {
  expect(
    near({ "kube-system": [rule({ verbs: ["list"] })], shop: [rule({ resources: ["secrets"] })] }),
  ).toBeUndefined();
  expect(near({ shop: [rule({ resourceNames: ["other"] })] })).toBeUndefined();
});

test("one list for a manifest: each right once, by cluster, the cluster's identity always", () => {
  const secret = { cluster: "prod", namespace: "shop", name: "shop-tls", create: false };
  const entry = (role: string, driver: string, settings: object) => ({ role, driver, settings });
  const rights = rightsOf(
    [
      entry("target", "kubernetes-secret", secret),
      entry("target", "kubernetes-secret", { ...secret, create: true }),
      entry("target", "kubeconfig", { cluster: "prod", file: "x" }),
      entry("trustStore", "kubernetes-ca-bundle", { cluster: "twin", apiService: "v1.x" }),
      entry("target", "files", {}),
    ],
    open,
  );
  expect(rights.get("prod")!.map(sayRight)).toEqual([
    "get namespaces kube-system",
    "get secrets shop-tls in shop",
    "patch secrets shop-tls in shop",
    "create secrets in shop",
    "delete secrets shop-tls in shop",
    "get configmaps kube-root-ca.crt in kube-system",
  ]);
  expect(rights.get("twin")!.map(sayRight)).toEqual([
    "get namespaces kube-system",
    "get apiservices.apiregistration.k8s.io v1.x",
    "patch apiservices.apiregistration.k8s.io v1.x",
  ]);
});
