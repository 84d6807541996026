import { expect, test } from "vitest";
import { ownersOf } from "./owners.ts";
import { Uses, userKinds } from "./uses.ts";

const fields = ["f:data"];
const meta = (more: object) => ({ name: "web", namespace: "shop", ...more });

test.each<[string, object, string[]]>([
  ["nothing", {}, []],
  [
    "owner references, the controller first",
    {
      ownerReferences: [
        { kind: "A", name: "a" },
        { kind: "Certificate", name: "web", controller: true },
      ],
    },
    ["ownerReference Certificate web", "ownerReference A a"],
  ],
  [
    "cert-manager",
    { annotations: { "cert-manager.io/certificate-name": "web", "cert-manager.io/issuer-name": "ca" } },
    ["cert-manager Certificate web, Issuer ca"],
  ],
  [
    "cainjector",
    { annotations: { "cert-manager.io/inject-ca-from": "cert-manager/webhook" } },
    ["cert-manager cainjector from cert-manager/webhook"],
  ],
  [
    "Helm",
    {
      labels: { "app.kubernetes.io/managed-by": "Helm" },
      annotations: { "meta.helm.sh/release-name": "web", "meta.helm.sh/release-namespace": "shop" },
    },
    ["Helm release shop/web", "managed-by Helm"],
  ],
  [
    "Flux",
    { labels: { "kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system" } },
    ["Flux Kustomization flux-system/apps"],
  ],
  ["Argo CD", { labels: { "argocd.argoproj.io/instance": "apps" } }, ["Argo CD apps"]],
  [
    "who wrote the data, and nobody who wrote a label",
    {
      managedFields: [
        { manager: "kubectl", fieldsV1: { "f:data": {} } },
        { manager: "labeller", fieldsV1: { "f:metadata": {} } },
      ],
    },
    ["field manager kubectl"],
  ],
])("%s", (_, more, expected) => {
  expect(ownersOf(meta(more), fields).map(({ by, who }) => `${by} ${who}`)).toEqual(expected);
});

const [podKind, ingressKind, gatewayKind] = userKinds;
const pod = (spec: object, more: object = {}, status: object = { phase: "Running" }) => ({
  ...{ metadata: { name: "web-1", namespace: "shop", ...more }, spec, status },
});
const used = (uses: Uses, name: string, kind = "Secret") =>
  uses.of(kind, "shop", name).map(({ who, how, pods }) => `${who} ${how} ${pods ?? "-"}`);

test("pods: every way to name a Secret or a ConfigMap", () => {
  const uses = new Uses();
  podKind.note(
    pod({
      volumes: [
        { name: "a", secret: { secretName: "mounted" } },
        { name: "b", projected: { sources: [{ secret: { name: "projected" } }, { configMap: { name: "roots" } }] } },
        { name: "c", secret: { secretName: "once" } },
        { name: "d", csi: { nodePublishSecretRef: { name: "csi" } } },
        { name: "e", emptyDir: {} },
        { name: "f", secret: { secretName: "both" } },
      ],
      containers: [
        { volumeMounts: [{ name: "c", subPath: "tls.crt" }], envFrom: [{ secretRef: { name: "all" } }] },
        { volumeMounts: [{ name: "f", subPath: "tls.crt" }, { name: "f" }] },
        { env: [{ valueFrom: { secretKeyRef: { name: "one" } } }, { value: "x" }] },
      ],
      initContainers: [{ envFrom: [{ configMapRef: { name: "roots" } }] }],
    }),
    uses,
  );
  for (const [name, how] of Object.entries({
    mounted: "mount",
    projected: "mount",
    csi: "mount",
    all: "env",
    one: "env",
  }))
    expect(used(uses, name)).toEqual([`Pod shop/web-1 ${how} 1`]);
  // Whoever reads the whole of it sees it renewed.
  expect(used(uses, "both")).toEqual(["Pod shop/web-1 mount 1"]);
  expect(used(uses, "once")).toEqual(["Pod shop/web-1 subPath 1"]);
  expect(used(uses, "roots", "ConfigMap")).toEqual(["Pod shop/web-1 mount 1", "Pod shop/web-1 env 1"]);
  expect(used(uses, "nobody")).toEqual([]);
});

test("pods of one Deployment are one user; those that have ended are none", () => {
  const uses = new Uses();
  const spec = { volumes: [{ name: "a", secret: { secretName: "web" } }] };
  const owner = { ownerReferences: [{ kind: "ReplicaSet", name: "web-5d9", controller: true }] };
  const labels = { "pod-template-hash": "5d9" };
  for (const name of ["x", "y", "z"]) podKind.note(pod(spec, { name, labels, ...owner }), uses);
  podKind.note(pod(spec, { name: "done" }, { phase: "Succeeded" }), uses);
  podKind.note(pod(spec, { name: "job-1", ownerReferences: [{ kind: "Job", name: "job", controller: true }] }), uses);
  expect(used(uses, "web")).toEqual(["Deployment shop/web mount 3", "Job shop/job mount 1"]);
});

test("Ingresses and Gateways name theirs, Gateways also in another namespace", () => {
  const uses = new Uses();
  const metadata = { name: "front", namespace: "shop" };
  ingressKind.note({ metadata, spec: { tls: [{ secretName: "web" }, {}] } }, uses);
  const elsewhere = { ...metadata, namespace: "edge" };
  const certificateRefs = [{ name: "web", namespace: "shop" }, { name: "own" }];
  gatewayKind.note({ metadata: elsewhere, spec: { listeners: [{ tls: { certificateRefs } }, {}] } }, uses);
  expect(used(uses, "web")).toEqual(["Ingress shop/front tls -", "Gateway edge/front tls -"]);
  expect(uses.of("Secret", "edge", "own")).toHaveLength(1);
});
