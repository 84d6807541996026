import { describe, expect, test } from "vitest";
import { istioTrapOf, missingFrom, type ReloadClass, usesOf, type Wanted, type Workload } from "./consumers.ts";
import type { Container, PodSpec, Volume } from "./pod-references.ts";

const secret: Wanted = { kind: "Secret", name: "shop-tls", keys: ["tls.crt", "tls.key"] };
const bundle: Wanted = { kind: "ConfigMap", name: "shop-ca", keys: ["ca.crt"] };
const workload = (spec: PodSpec, more: Partial<Workload> = {}): Workload => ({
  ...{ kind: "Deployment", namespace: "shop", name: "web", spec },
  ...more,
});
const app = (more: Partial<Container> = {}): Container => ({ name: "app", ...more });
const mounted = (name: string, mountPath: string, more: object = {}) => ({
  volumeMounts: [{ name, mountPath, ...more }],
});
const tls: Volume = { name: "tls", secret: { secretName: "shop-tls" } };
const keystore: Volume = { name: "keystore", emptyDir: {} };
const fromSecret = (key: string) => ({ name: "TLS", valueFrom: { secretKeyRef: { name: "shop-tls", key } } });

/** Pod specs as they are met, whose container learns of a new content how. */
const corpus: readonly [string, PodSpec, Wanted, readonly (readonly [container: string, ReloadClass, RegExp])[]][] = [
  [
    "mounted as a directory",
    { containers: [app(mounted("tls", "/tls"))], volumes: [tls] },
    secret,
    [["app", "itself", /^\/tls: kubelet brings the new files within one to two minutes/]],
  ],
  [
    "in a projected volume with others",
    {
      containers: [app(mounted("all", "/all"))],
      volumes: [
        { name: "all", projected: { sources: [{ configMap: { name: "x" } }, { secret: { name: "shop-tls" } }] } },
      ],
    },
    secret,
    [["app", "itself", /^\/all: kubelet/]],
  ],
  [
    "a file by subPath",
    { containers: [app(mounted("tls", "/etc/tls.crt", { subPath: "tls.crt" }))], volumes: [tls] },
    secret,
    [["app", "restart", /^\/etc\/tls.crt: a file mounted by subPath never changes/]],
  ],
  [
    "a file by subPathExpr",
    { containers: [app(mounted("tls", "/etc/tls", { subPathExpr: "$(NAME)" }))], volumes: [tls] },
    secret,
    [["app", "restart", /subPath/]],
  ],
  [
    "another key by subPath is no consumer",
    { containers: [app(mounted("tls", "/etc/pw", { subPath: "password" }))], volumes: [tls] },
    secret,
    [],
  ],
  [
    "a key under another path, by subPath",
    {
      containers: [app(mounted("tls", "/etc/c", { subPath: "certs/c.pem" }))],
      volumes: [{ name: "tls", secret: { secretName: "shop-tls", items: [{ key: "tls.crt", path: "certs/c.pem" }] } }],
    },
    secret,
    [["app", "restart", /subPath/]],
  ],
  [
    "other keys only are none of the rotation's",
    {
      containers: [app(mounted("tls", "/tls"))],
      volumes: [{ name: "tls", secret: { secretName: "shop-tls", items: [{ key: "password", path: "p" }] } }],
    },
    secret,
    [],
  ],
  [
    "a variable",
    { containers: [app({ env: [fromSecret("tls.key")] })] },
    secret,
    [["app", "restart", /^variable TLS: its environment is read once/]],
  ],
  ["a variable of another key", { containers: [app({ env: [fromSecret("password")] })] }, secret, []],
  [
    "all as variables",
    { containers: [app({ envFrom: [{ secretRef: { name: "shop-tls" } }] })] },
    secret,
    [["app", "restart", /^envFrom: its environment/]],
  ],
  [
    "a keystore that an init container builds",
    {
      initContainers: [
        {
          name: "build",
          volumeMounts: [
            { name: "tls", mountPath: "/in" },
            { name: "keystore", mountPath: "/out" },
          ],
        },
      ],
      containers: [app(mounted("keystore", "/keystore")), { name: "other" }],
      volumes: [tls, keystore],
    },
    secret,
    [
      ["build", "restart", /^\/in: an init container reads it once/],
      ["app", "restart", /^\/keystore \(from init container build\): an init container copies it at the pod's start/],
    ],
  ],
  [
    "an init container that builds it from variables",
    {
      initContainers: [{ name: "build", env: [fromSecret("tls.key")], ...mounted("keystore", "/out") }],
      containers: [app(mounted("keystore", "/keystore"))],
      volumes: [keystore],
    },
    secret,
    [
      ["build", "restart", /init container reads it once/],
      ["app", "restart", /copies it/],
    ],
  ],
  [
    "an init container that only reads the shared directory copies nothing into it",
    {
      initContainers: [
        {
          name: "check",
          volumeMounts: [
            { name: "tls", mountPath: "/in" },
            { name: "keystore", mountPath: "/k", readOnly: true },
          ],
        },
      ],
      containers: [app(mounted("keystore", "/keystore"))],
      volumes: [tls, keystore],
    },
    secret,
    [["check", "restart", /init container/]],
  ],
  [
    "a sidecar among the init containers runs on",
    {
      initContainers: [{ name: "proxy", restartPolicy: "Always", ...mounted("tls", "/tls") }],
      containers: [app()],
      volumes: [tls],
    },
    secret,
    [["proxy", "itself", /kubelet/]],
  ],
  [
    "optional",
    {
      containers: [app(mounted("tls", "/tls"))],
      volumes: [{ name: "tls", secret: { secretName: "shop-tls", optional: true } }],
    },
    secret,
    [["app", "itself", /^\/tls, optional: without it the pod starts all the same: kubelet/]],
  ],
  [
    "by a storage driver",
    {
      containers: [app()],
      volumes: [{ name: "share", csi: { driver: "x", nodePublishSecretRef: { name: "shop-tls" } } }],
    },
    secret,
    [["", "restart", /^volume share: it is read when the volume is mounted/]],
  ],
  [
    "Istio's workload certificate as files",
    {
      containers: [{ name: "istio-proxy", ...mounted("c", "/var/run/secrets/workload-spiffe-credentials") }],
      volumes: [{ ...tls, name: "c" }],
    },
    secret,
    [["istio-proxy", "restart", /istio-agent takes its workload certificate from these files/]],
  ],
  [
    "immutable: whatever way",
    { containers: [app(mounted("tls", "/tls"))], volumes: [tls] },
    { ...secret, immutable: true },
    [["app", "never", /immutable/]],
  ],
  ["a volume that no container mounts", { containers: [app()], volumes: [tls] }, secret, []],
  [
    "another Secret",
    { containers: [app(mounted("tls", "/tls"))], volumes: [{ name: "tls", secret: { secretName: "other" } }] },
    secret,
    [],
  ],
  [
    "a ConfigMap of the Secret's name",
    { containers: [app(mounted("c", "/c"))], volumes: [{ name: "c", configMap: { name: "shop-tls" } }] },
    secret,
    [],
  ],
  [
    "a bundle in a ConfigMap, mounted and as a variable",
    {
      containers: [
        app({
          ...mounted("ca", "/ca"),
          env: [{ name: "CA", valueFrom: { configMapKeyRef: { name: "shop-ca", key: "ca.crt" } } }],
        }),
      ],
      volumes: [{ name: "ca", configMap: { name: "shop-ca" } }],
    },
    bundle,
    [
      ["app", "itself", /^\/ca: kubelet/],
      ["app", "restart", /^variable CA/],
    ],
  ],
  [
    "the ServiceAccount's CA",
    {
      containers: [app(mounted("kube-api-access-x2", "/var/run/secrets/kubernetes.io/serviceaccount"))],
      volumes: [{ name: "kube-api-access-x2", projected: { sources: [{ configMap: { name: "kube-root-ca.crt" } }] } }],
    },
    { kind: "ConfigMap", name: "kube-root-ca.crt", keys: ["ca.crt"] },
    [["app", "itself", /most clients read it once/]],
  ],
];

test.each(corpus)("%s", (_, spec, wanted, expected) => {
  const found = usesOf(workload(spec), wanted);
  expect(found.map(({ container, reload, what }) => [container, reload, what])).toEqual(
    expected.map(([container, reload, what]) => [container, reload, expect.stringMatching(what)]),
  );
  expect(found.every(({ next }) => next !== "")).toBe(true);
});

test("a CronJob's next run has the new one, whatever way it gets it", () => {
  const spec = { containers: [app({ env: [fromSecret("tls.key")] })] };
  expect(usesOf(workload(spec, { kind: "CronJob" }), secret)).toMatchObject([
    { reload: "itself", what: expect.stringContaining("each run begins with a new pod") },
  ]);
  expect(usesOf(workload(spec, { kind: "Job" }), secret)).toMatchObject([{ reload: "restart" }]);
});

test("Reloader restarts whom its annotations name", () => {
  const spec = { containers: [app({ env: [fromSecret("tls.key")] })] };
  const by = (annotations: Record<string, string>) => usesOf(workload(spec, { annotations }), secret)[0]!.restartedBy;
  expect(by({ "reloader.stakater.com/auto": "true" })).toBe("Reloader");
  expect(by({ "secret.reloader.stakater.com/reload": "other, shop-tls" })).toBe("Reloader");
  expect(by({ "secret.reloader.stakater.com/reload": "other" })).toBeUndefined();
  expect(by({ "configmap.reloader.stakater.com/reload": "shop-tls" })).toBeUndefined();
  expect(by({})).toBeUndefined();
});

describe("names that are not there", () => {
  const job = (name: string, optional = false) =>
    workload(
      { containers: [app(mounted("t", "/talos"))], volumes: [{ name: "t", secret: { secretName: name, optional } }] },
      { kind: "CronJob", name: "cert-rotator" },
    );

  test("the nearest one is said; the one to be made counts as there", () => {
    expect(missingFrom(job("talosconfig"), "Secret", ["talos-config", "x"], "shop-tls")).toMatchObject([
      { name: "talosconfig", container: "app", at: "/talos", optional: false, meant: "talos-config" },
    ]);
    expect(missingFrom(job("shop-tsl"), "Secret", [], "shop-tls")).toMatchObject([{ meant: "shop-tls" }]);
    expect(missingFrom(job("shop-tls"), "Secret", [], "shop-tls")).toEqual([]);
  });

  test("one that is far from all has no suggestion; an optional one is marked", () => {
    const [one] = missingFrom(job("dashboards", true), "Secret", ["shop-tls"], "shop-tls");
    expect(one).toMatchObject({ optional: true });
    expect(one).not.toHaveProperty("meant");
  });

  test("a volume in no container keeps the pod from starting just the same", () => {
    const spec = { containers: [app()], volumes: [{ name: "t", secret: { secretName: "gone" } }] };
    expect(missingFrom(workload(spec), "Secret", [], "shop-tls")).toMatchObject([{ name: "gone", at: "volume t" }]);
  });
});

describe("Istio: a SPIFFE socket beside files", () => {
  const csi: Volume = { name: "workload-socket", csi: { driver: "csi.spiffe.io" } };
  const empty: Volume = { name: "workload-certs", emptyDir: {} };
  const proxy = (more: Partial<Container> = {}): Container => ({
    name: "istio-proxy",
    volumeMounts: [
      { name: "workload-socket", mountPath: "/var/run/secrets/workload-spiffe-uds" },
      { name: "workload-certs", mountPath: "/var/run/secrets/workload-spiffe-credentials" },
    ],
    ...more,
  });
  const trap = (volumes: Volume[], containers = [app(), proxy()]) => istioTrapOf(workload({ containers, volumes }));

  test("as merged templates inject it: it may happen, when the socket is late", () => {
    expect(trap([csi, empty])).toMatchObject({
      container: "istio-proxy",
      sure: false,
      what: expect.stringContaining("passed over without a word"),
    });
  });

  test.each([
    [
      "the directory is a Secret",
      [csi, { name: "workload-certs", secret: { secretName: "x" } }],
      [proxy()],
      /no empty directory/,
    ],
    [
      "somebody else writes there",
      [csi, empty],
      [proxy(), app(mounted("workload-certs", "/certs"))],
      /container app can write there/,
    ],
    [
      "Istio itself writes there",
      [csi, empty],
      [proxy({ env: [{ name: "OUTPUT_CERTS", value: "/var/run/secrets/workload-spiffe-credentials" }] })],
      /OUTPUT_CERTS writes there/,
    ],
  ] as [string, Volume[], Container[], RegExp][])(
    "%s: files are used until they expire",
    (_, volumes, containers, why) => {
      const found = trap(volumes, containers);
      expect(found?.sure).toBe(true);
      expect(found?.what).toMatch(why);
    },
  );

  test("no trap: no socket but an empty directory, no directory, or a socket it insists on", () => {
    expect(trap([{ name: "workload-socket", emptyDir: {} }, empty])).toBeUndefined();
    expect(trap([csi])).toBeUndefined();
    const insists = proxy({ env: [{ name: "WORKLOAD_IDENTITY_SOCKET_FILE", value: "spire-agent.sock" }] });
    expect(trap([csi, empty], [insists])).toBeUndefined();
    expect(trap([csi, empty], [app()])).toBeUndefined();
  });
});
