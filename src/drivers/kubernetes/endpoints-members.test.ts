import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { presenterSettings } from "../tls/settings.ts";
import type { Answer, Call } from "./api.ts";
import { Cluster } from "./cluster.ts";
import { endpointMembers } from "./endpoints-members.ts";

const uid = randomUUID();
const pod = (name: string, phase = "Running") => ({ metadata: { name, uid: `uid-${name}` }, status: { phase } });
const endpoint = (address: string, name?: string, conditions = { ready: true }) => ({
  addresses: [address, "10.9.9.9"],
  conditions,
  ...(name === undefined ? {} : { targetRef: { kind: "Pod", name, uid: `uid-${name}` } }),
});
type Slice = { readonly ports?: unknown; readonly endpoints: unknown };
const slice = (...endpoints: unknown[]): Slice => ({ ports: [{ name: "", port: 8443 }], endpoints });
interface Shown {
  readonly selector?: Record<string, string> | undefined;
  readonly ports?: unknown;
  readonly slices: readonly Slice[];
  readonly pods?: readonly unknown[];
  readonly kubeSystem?: string;
}

/** A cluster whose API shows this; what was asked for is kept. */
class Showing extends Cluster {
  readonly asked: string[] = [];
  readonly #shown: Shown;
  constructor(shown: Shown) {
    super("prod", { uid, apiServers: { serverName: "kubernetes.default.svc" } }, "/");
    this.#shown = shown;
  }
  override async access() {
    return { server: new URL("https://10.0.0.1:6443"), credential: {} };
  }
  override async send(call: Call): Promise<Answer> {
    this.asked.push(decodeURIComponent(call.path));
    const { selector = { app: "shop" }, ports = [{ port: 443 }], slices, pods = [], kubeSystem = uid } = this.#shown;
    const answers: Record<string, unknown> = {
      "/api/v1/namespaces/kube-system": { metadata: { name: "kube-system", uid: kubeSystem } },
      "/api/v1/namespaces/web/services/shop": { metadata: { name: "shop" }, spec: { selector, ports } },
      "/apis/discovery.k8s.io/v1/namespaces/web/endpointslices": { items: slices },
      "/api/v1/namespaces/web/pods": { items: pods },
    };
    const body = answers[call.path.split("?")[0]!];
    return body === undefined ? { status: 404, body: {}, bytes: 0 } : { status: 200, body, bytes: 0 };
  }
}
const where = { cluster: "prod", namespace: "web", service: "shop" };
const members = (shown: Shown, more: { port?: string | number; replicas?: number; service?: string } = {}) => {
  const { replicas, ...rest } = more;
  return endpointMembers(new Showing(shown), { ...where, ...rest }, replicas);
};

describe("the members of a Service", () => {
  it("are all its endpoints: ready, not ready and on their way out, in every slice, each pod by its uid", async () => {
    const slices = [
      slice(endpoint("10.0.0.2", "b", { ready: false }), endpoint("10.0.0.1", "a")),
      slice(endpoint("10.0.0.3", "c", { ready: false, ...{ terminating: true } })),
    ];
    expect(await members({ slices, pods: [pod("a"), pod("b"), pod("c")] })).toEqual([
      { id: "10.0.0.1:8443", address: "10.0.0.1:8443", instance: "uid-a", known: "pod a" },
      { id: "10.0.0.2:8443", address: "10.0.0.2:8443", instance: "uid-b", known: "pod b" },
      { id: "10.0.0.3:8443", address: "10.0.0.3:8443", instance: "uid-c", known: "pod c" },
    ]);
  });

  it("of both families are dialled both, and a pod counts once", async () => {
    const slices = [slice(endpoint("10.0.0.1", "a")), slice(endpoint("fd00::1", "a"))];
    const found = await members({ slices, pods: [pod("a")] }, { replicas: 1 });
    expect(found.map(({ address }) => address)).toEqual(["10.0.0.1:8443", "[fd00::1]:8443"]);
  });

  it("are those of the port that is meant, by the Service's name or number of it", async () => {
    const ports = [
      { name: "web", port: 443 },
      { name: "admin", port: 9443 },
      { name: "web-quic", port: 443, protocol: "UDP" },
    ];
    const slices = [
      {
        ports: [
          { name: "web", port: 8443 },
          { name: "admin", port: 9000 },
          { name: "web-quic", port: 8443, protocol: "UDP" },
        ],
        endpoints: [endpoint("10.0.0.1", "a")],
      },
    ];
    const shown = { ports, slices, pods: [pod("a")] };
    for (const port of ["admin", 9443, "9443"]) expect((await members(shown, { port }))[0]?.address).toMatch(/:9000$/);
    expect((await members(shown, { port: 443 }))[0]?.address).toMatch(/:8443$/);
    await expect(members(shown)).rejects.toThrow(/several ports, or none: web \(443\), admin \(9443\)/);
    await expect(members(shown, { port: 8443 })).rejects.toThrow(/no port 8443/);
  });

  it("are counted against the running pods that it selects: another list is no answer", async () => {
    const slices = [slice(endpoint("10.0.0.1", "a"))];
    const shown = (...pods: unknown[]) => members({ slices, pods });
    expect(await shown(pod("a"))).toHaveLength(1);
    await expect(shown(pod("a"), pod("late"))).rejects.toMatchObject({
      ...{
        code: "unreachable",
        retry: "later",
        message: expect.stringMatching(/the pods late run and are no endpoints/),
      },
    });
    await expect(shown(pod("other"))).rejects.toThrow(/pods other run .*; the endpoints a are no running pods/);
    const two = { slices: [slice(endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", "gone"))], pods: [pod("a")] };
    await expect(members(two)).rejects.toThrow(/: the endpoints gone are no running pods that it selects/);
    // A pod that replaced another of the same name is another one.
    await expect(shown({ metadata: { name: "a", uid: "new" } })).rejects.toThrow(/no endpoints/);
    const cluster = new Showing({ slices, pods: [pod("a")], selector: { app: "shop", tier: "web" } });
    await endpointMembers(cluster, where, undefined);
    expect(cluster.asked.find((path) => path.includes("/pods?"))).toContain(
      "labelSelector=app=shop,tier=web&fieldSelector=status.phase=Running",
    );
    expect(cluster.asked.find((path) => path.includes("/endpointslices?"))).toContain(
      "kubernetes.io/service-name=shop",
    );
  });

  it("that selects nothing are counted against `replicas`, and without it not at all", async () => {
    const slices = [slice(endpoint("10.0.0.1"), endpoint("10.0.0.2"))];
    // Pods of the namespace that are none of it.
    const none = { slices, selector: {}, pods: [pod("elsewhere")] };
    expect(await members(none, { replicas: 2 })).toHaveLength(2);
    await expect(members(none, { replicas: 3 })).rejects.toThrow(/3 replicas expected, 2 endpoints found/);
    await expect(members(none)).rejects.toThrow(/cannot be counted/);
    const selecting = { slices: [slice(endpoint("10.0.0.1", "a"))], pods: [pod("a")] };
    await expect(members(selecting, { replicas: 2 })).rejects.toThrow(/2 replicas expected, 1 endpoints/);
    await expect(members({ slices: [] })).rejects.toThrow(/cannot be counted/);
  });

  it("are not those of a Service that is not there, or of another cluster", async () => {
    const shown = { slices: [slice(endpoint("10.0.0.1", "a"))], pods: [pod("a")] };
    await expect(members(shown, { service: "other" })).rejects.toThrow(/no such Service/);
    await expect(members({ ...shown, kubeSystem: randomUUID() })).rejects.toMatchObject({ code: "conflict" });
  });
});

it("exactly one source of members is given", () => {
  const parse = (more: object) => presenterSettings.safeParse({ serverName: "shop.example", ...more }).success;
  expect(parse({ endpoints: where })).toBe(true);
  expect(parse({ endpoints: { ...where, port: "https" }, replicas: 3 })).toBe(true);
  expect(parse({ endpoints: where, resolve: "a:1" })).toBe(false);
  expect(parse({})).toBe(false);
});
