import { appendFileSync, readdirSync, readFileSync, truncateSync } from "node:fs";
import { dirname } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { freePort, waitFor } from "../../../lab/estate.ts";
import { buildGoTools, goTool } from "../../../lab/go-tools.ts";
import { ownAddresses } from "../../../lab/own-addresses.ts";
import { type ApiServer, type LabCluster, startCluster } from "../../../lab/peers/kubernetes.ts";
import { runCommand } from "../../../lab/peers/peer.ts";
import { startNodeTls } from "../../../lab/peers/tls-server.ts";
import { issue, makeAuthority, type Pair } from "../../../lab/pki.ts";
import { useWorkspace } from "../../../lab/testing.ts";
import { parseCertificate } from "../../pki/certificate.ts";
import { Secret } from "../../pki/secret.ts";
import type { Named } from "../roles.ts";
import { createTlsPresenter } from "../tls/presenter.ts";
import { presenterSettings } from "../tls/settings.ts";
import type { ApiCredential } from "./access.ts";
import { send } from "./api.ts";
import { startAuditReceiver } from "./audit-receiver.ts";
import { createKubernetesAuditSensor } from "./audit-sensor.ts";
import { auditLogSettings } from "./audit-settings.ts";
import { Cluster } from "./cluster.ts";

await buildGoTools(["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"]);
const workspace = useWorkspace("kubernetes-audit");
let lab: LabCluster;
let cluster: Cluster;
let one: ApiServer;
let two: ApiServer;
let received: string;

beforeAll(async () => {
  const authority = makeAuthority(workspace.folder("webhook"), { name: "ca" });
  const { certificate, privateKey } = issue(authority, { name: "receiver" });
  const at = { host: "127.0.0.1", port: 0, directory: workspace.path("received") };
  const receiver = await startAuditReceiver({ ...at, certificate, privateKey });
  workspace.atEnd(() => receiver.drain());
  received = workspace.path("received", "all.jsonl");
  lab = await startCluster(workspace, {
    ...{ name: "prod", apiServers: 2, apiServerFlags: ["--audit-log-maxsize", "1", "--audit-log-maxbackup", "0"] },
    auditWebhook: { url: `https://${receiver.address}/audit/all`, roots: authority.certificate },
  });
  [one, two] = lab.apiServers as [ApiServer, ApiServer];
  cluster = new Cluster(
    "prod",
    { uid: lab.uid, kubeconfig: lab.kubeconfig, apiServers: { serverName: "kubernetes.default.svc" } },
    workspace.dir,
  );
});

function named(pair: Pair): Named {
  const { fingerprint, serial, issuer, notAfter } = parseCertificate(readFileSync(pair.certificate));
  return { fingerprint, serial, issuer, notAfter };
}
const credential = (pair: Pair): ApiCredential => ({
  certificate: readFileSync(pair.certificate, "utf8"),
  privateKey: Secret.of(readFileSync(pair.privateKey)),
});
const sensorOf = (server: ApiServer, path = server.auditLog) =>
  createKubernetesAuditSensor(auditLogSettings.parse({ cluster: "prod", path, member: server.address }), {
    cluster: () => cluster,
  });
const probe = async (server: ApiServer, pair: Pair, tag: string) =>
  send(await cluster.dialMember(server.address, credential(pair)), {
    ...{ method: "GET", path: "/api/v1/namespaces/kube-system", userAgent: `gyre-probe/${tag}` },
  });
/** kubectl with a kubeconfig that nobody told Gyre of, at this very API server. */
const kubectl = (server: ApiServer, pair: Pair, ...args: string[]) => {
  const kubeconfig = lab.writeKubeconfig(pair.name, pair, { server: `https://${server.address}` });
  return runCommand([goTool("kubectl"), "--kubeconfig", kubeconfig, ...args]);
};
/** kubectl says the name of its own file. */
const seenAs = (name: string) => expect.stringMatching(new RegExp(`^${one.host} kubectl\\S*/v1\\.35\\.4 as ${name}$`));
const master = (name: string) => lab.client(name, `/O=system:masters/CN=${name}`);

describe("the audit log of a real API server", () => {
  test("shows the heartbeat at the API server that was asked, and at no other", async () => {
    const pair = master("heart");
    const since = Date.now();
    expect((await probe(one, pair, "rot.7.a")).status).toBe(200);
    await expect.poll(() => sensorOf(one).alive("rot.7.a")).toBe(true);
    // The control first: the other one writes its own, at once.
    await probe(two, pair, "rot.7.b");
    await expect.poll(() => sensorOf(two).alive("rot.7.b")).toBe(true);
    expect(await sensorOf(two).alive("rot.7.a")).toBe(false);
    expect(await sensorOf(one).usage(named(pair), since, "rot.7")).toEqual({ count: 0, succeeded: 0, from: [] });
    expect(await sensorOf(one).usage(named(pair), since, "rot.70")).toMatchObject({ count: 1, succeeded: 1 });
  });

  test("is no heartbeat of a certificate that the API server does not know, and that is no gap", async () => {
    const stranger = issue(makeAuthority(workspace.folder("strange"), { name: "other" }), {
      ...{ name: "stranger", subject: "/O=system:masters/CN=heart", usages: ["client"] },
    });
    const since = Date.now();
    expect((await probe(one, stranger, "rot.8.a")).status).toBe(401);
    await expect.poll(() => readFileSync(one.auditLog, "utf8")).toContain("gyre-probe/rot.8.a");
    expect(await sensorOf(one).alive("rot.8.a")).toBe(false);
    expect(await sensorOf(one).usage(named(stranger), since, "x")).toEqual({ count: 0, succeeded: 0, from: [] });
  });

  test("shows an undeclared kubeconfig, whose and from where, also when it is denied or impersonates", async () => {
    const [alice, bob] = [lab.client("alice", "/CN=alice"), master("bob")];
    const since = Date.now();
    const sensor = sensorOf(one);
    const usage = () => sensor.usage(named(alice), since, "rot.7");
    expect(await usage()).toEqual({ count: 0, succeeded: 0, from: [] });
    await expect(kubectl(one, alice, "get", "--raw", "/api/v1/secrets")).rejects.toThrow(/Forbidden|forbidden/);
    await expect.poll(usage).toMatchObject({ count: 1, succeeded: 0 });
    expect((await usage()).from).toEqual([seenAs("alice")]);
    expect(Math.abs((await usage()).last! - Date.now())).toBeLessThan(60_000);
    await kubectl(one, bob, "get", "--raw", "/version", "--as", "alice");
    const used = () => sensorOf(one).usage(named(bob), since, "rot.7");
    await expect
      .poll(used)
      .toMatchObject({ count: 1, from: [expect.stringMatching(/as bob \(impersonating alice\)$/)] });
    expect(await usage()).toMatchObject({ count: 1 });
    // The other API server was not asked, and its log knows it.
    expect(await sensorOf(two).usage(named(alice), since, "rot.7")).toEqual({ count: 0, succeeded: 0, from: [] });
  });

  test("is followed through the API server's own rotation, and each file of it counts", async () => {
    const pair = master("busy");
    const since = Date.now();
    const sensor = sensorOf(one);
    const usage = () => sensor.usage(named(pair), since, "rot.9");
    await kubectl(one, pair, "get", "--raw", "/version");
    await expect.poll(usage).toMatchObject({ count: 1 });
    const rotated = () =>
      readdirSync(dirname(one.auditLog)).filter((name) => /^audit-\d{4}-.*\.log$/.test(name)).length;
    const before = rotated();
    let sent = 1;
    for (; rotated() < before + 2; sent += 8)
      await Promise.all(Array.from({ length: 8 }, () => probe(one, pair, "other.1.x")));
    await expect.poll(usage).toMatchObject({ count: sent });
    expect(await usage()).not.toHaveProperty("gap");
    expect(await sensorOf(one).usage(named(pair), since, "rot.9")).toEqual(await usage());
    expect(await sensorOf(one).usage(named(pair), since, "other.1")).toMatchObject({ count: 1 });
    await probe(one, pair, "rot.9.z");
    await expect.poll(() => sensor.alive("rot.9.z")).toBe(true);
  });

  test("counts a watch that is open as a use that goes on, until it ends", async () => {
    const pair = master("watcher");
    const begun = Date.now();
    const sensor = sensorOf(one);
    const kubeconfig = lab.writeKubeconfig("watcher", pair, { server: `https://${one.address}` });
    const watch = await workspace.start({
      ...{ name: "watch", ready: async () => true },
      command: [goTool("kubectl"), "--kubeconfig", kubeconfig, "get", "--raw", "/api/v1/namespaces?watch=true"],
    });
    const usage = (since: number) => sensor.usage(named(pair), since, "rot.7");
    await expect
      .poll(() => usage(begun))
      .toMatchObject({ from: [expect.stringMatching(/ as watcher \(still open\)$/)] });
    // Nothing of it is written in this window, and yet it is used.
    const later = Date.now();
    const open = await usage(later);
    expect(open).toMatchObject({ count: 1, succeeded: 1 });
    expect(open.last).toBeGreaterThanOrEqual(later);
    await watch.stop();
    await expect.poll(async () => (await usage(later)).from).toEqual([seenAs("watcher")]);
    expect(await usage(Date.now())).toEqual({ count: 0, succeeded: 0, from: [] });
  });

  test("knows that a watch ended with an API server that was killed, which wrote no end", async () => {
    const pair = master("survivor");
    const kubeconfig = lab.writeKubeconfig("survivor", pair, { server: `https://${two.address}` });
    const begun = Date.now();
    await workspace.start({
      ...{ name: "watch-two", ready: async () => true },
      command: [goTool("kubectl"), "--kubeconfig", kubeconfig, "get", "--raw", "/api/v1/namespaces?watch=true"],
    });
    const usage = (since: number) => sensorOf(two).usage(named(pair), since, "rot.7");
    await expect.poll(() => usage(begun)).toMatchObject({ from: [expect.stringMatching(/\(still open\)$/)] });
    await two.process.kill();
    // Down, it cannot be asked: it stays open.
    expect(await usage(Date.now())).toMatchObject({ count: 1 });
    await two.start();
    expect(await usage(Date.now())).toEqual({ count: 0, succeeded: 0, from: [] });
    expect(await usage(begun)).toMatchObject({ count: 1 });
    const ends = (await readFileSync(two.auditLog, "utf8"))
      .split("\n")
      .filter((line) => line.includes(pair.fingerprint));
    expect(ends.filter((line) => line.includes('"ResponseComplete"'))).toEqual([]);
  });

  test("with a gap at one API server says so there alone", async () => {
    const pair = master("gap");
    const since = Date.now();
    const sensors = [sensorOf(one), sensorOf(two)];
    const usages = () => Promise.all(sensors.map((sensor) => sensor.usage(named(pair), since, "rot.7")));
    for (const usage of await usages()) expect(usage).not.toHaveProperty("gap");
    truncateSync(two.auditLog);
    const [whole, cut] = await usages();
    expect(whole).not.toHaveProperty("gap");
    expect(cut).toMatchObject({ gap: expect.stringMatching(/truncated/) });
    appendFileSync(one.auditLog, '{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","audi\n');
    expect((await usages())[0]).toMatchObject({ gap: expect.stringMatching(/hidden/) });
  });
});

test("the webhook of the API servers brings the same into a file of ours", async () => {
  const pair = master("hooked");
  const since = Date.now();
  await kubectl(one, pair, "get", "--raw", "/version");
  await probe(two, pair, "rot.11.a");
  const sensor = sensorOf(one, received);
  const usage = () => sensor.usage(named(pair), since, "rot.11");
  await expect.poll(usage, { timeout: 60_000 }).toMatchObject({ count: 1 });
  await expect.poll(() => sensor.alive("rot.11.a"), { timeout: 60_000 }).toBe(true);
  expect(await usage()).toMatchObject({ from: [seenAs("hooked")] });
  expect(await usage()).not.toHaveProperty("gap");
});

describe("the endpoints of a real Service", () => {
  const settings = { cluster: "prod", namespace: "default", service: "shop", port: "https" };
  const presenter = (more: object = {}) =>
    createTlsPresenter(presenterSettings.parse({ serverName: "localhost", endpoints: { ...settings, ...more } }), {
      cluster: () => cluster,
    });
  const pod = async (name: string, ip: string, ready: boolean) => {
    const containers = [{ name: "web", image: "shop", ports: [{ name: "tls", containerPort: port }] }];
    // Bound to a node by hand: there is neither scheduler nor kubelet, and the controller leaves pods of no node out.
    const spec = { containers, nodeName: "node-1" };
    await lab.apply({ apiVersion: "v1", kind: "Pod", metadata: { name, labels: { app: "shop" } }, spec });
    const conditions = [{ type: "Ready", status: ready ? "True" : "False" }];
    const status = JSON.stringify({ status: { phase: "Running", podIP: ip, podIPs: [{ ip }], conditions } });
    await lab.kubectl("patch", "pod", name, "--subresource", "status", "--type", "merge", "-p", status);
    return lab.kubectl("get", "pod", name, "-o", "jsonpath={.metadata.uid}");
  };
  let port: number;

  test("are dialled each, ready or not, by the pods' uids, and counted against the running pods", async () => {
    const hosts = await ownAddresses(workspace, 2);
    port = await freePort(hosts[0]);
    const authority = makeAuthority(workspace.folder("shop"), { name: "shop-ca" });
    const pairs = hosts.map((_, n) => issue(authority, { name: `shop-${n}` }));
    for (const [n, host] of hosts.entries()) {
      const { chain: certificate, privateKey } = pairs[n]!;
      await startNodeTls(workspace, { name: `shop-${n}`, certificate, privateKey, host, port });
    }
    await lab.apply({ apiVersion: "v1", kind: "Node", metadata: { name: "node-1" } });
    await lab.apply({
      ...{ apiVersion: "v1", kind: "Service", metadata: { name: "shop" } },
      spec: { selector: { app: "shop" }, ports: [{ name: "https", port: 443, targetPort: "tls" }] },
    });
    const uids = [await pod("shop-a", hosts[0]!, true), await pod("shop-b", hosts[1]!, false)];
    const members = await waitFor("the endpoint slices", () =>
      presenter()
        .members()
        .catch(() => undefined),
    );
    const wanted = hosts.map((host, n) => ({
      ...{ id: `${host}:${port}`, address: `${host}:${port}` },
      ...{ instance: uids[n], known: ["pod shop-a", "pod shop-b"][n] },
    }));
    expect(members).toEqual(wanted.sort((a, b) => (a.id < b.id ? -1 : 1)));
    expect(await presenter({ port: 443 }).members()).toEqual(members);
    const roots = readFileSync(authority.certificate, "utf8");
    const step = { op: "look", tag: "rot.7.x", signal: AbortSignal.timeout(60_000) };
    for (const member of members) {
      const pair = pairs[hosts.indexOf(member.address.split(":")[0]!)]!;
      const seen = await presenter().probe(member, roots, step);
      expect(seen).toMatchObject({ saw: "presented", chain: [pair.fingerprint] });
      expect(seen).not.toHaveProperty("problem");
    }
    // On its way out it still answers: no kubelet confirms its end.
    await lab.kubectl("delete", "pod", "shop-b", "--wait=false");
    await waitFor("an endpoint that terminates", async () =>
      (await lab.kubectl("get", "endpointslices", "-o", "json")).includes('"terminating": true'),
    );
    expect(await presenter().members()).toEqual(members);
  });

  test("that are not all known leave the question open: a pod that runs elsewhere, too few, no such port", async () => {
    await expect(presenter({ port: 8443 }).members()).rejects.toMatchObject({ code: "unreachable", retry: "later" });
    const three = presenterSettings.parse({ serverName: "localhost", endpoints: settings, replicas: 3 });
    await expect(createTlsPresenter(three, { cluster: () => cluster }).members()).rejects.toThrow(
      /3 replicas expected, 2/,
    );
    expect(await presenter().members()).toHaveLength(2);
    // The slices are no longer written, and a third pod comes up.
    await lab.stopControllerManager();
    await pod("shop-c", "198.18.255.254", true);
    await expect(presenter().members()).rejects.toThrow(/the pods shop-c run and are no endpoints/);
    await lab.restartControllerManager();
    expect(
      await waitFor("three endpoints", () =>
        presenter()
          .members()
          .catch(() => undefined),
      ),
    ).toHaveLength(3);
  });
});
