import { writeFileSync } from "node:fs";
import { connect } from "node:tls";
import { freePort, makeWorkspace, waitFor } from "../lab/estate.ts";
import { caBefore, gyre, yamlCommand } from "../lab/gyre.ts";
import { install } from "../lab/install.ts";
import { startNginx } from "../lab/peers/nginx.ts";
import { servedFingerprint } from "../lab/witness.ts";
import { type Figure, figure } from "./figure.ts";

const rounds = 5;

/**
 * From `gyre rotate` to the new certificate on the wire of one nginx, process start included; beside it, by turns, what
 * the machine itself needs at another: new files by hand and `nginx -s reload`. Medians.
 */
export async function renewBench(): Promise<Figure> {
  await install();
  const workspace = makeWorkspace("bench-renew");
  try {
    const { dir, path } = workspace;
    const before = await caBefore(dir, "CN=Bench CA");
    const issue = () => before.issue({ subject: "CN=shop", names: ["DNS:shop.example"], usages: ["server"] });
    const start = async (name: string) => {
      const [certificate, privateKey] = [path(`${name}.pem`), path(`${name}.key`)];
      (await issue()).writePem(certificate, privateKey);
      return startNginx(workspace, { name, certificate, privateKey, serverName: "shop.example" });
    };
    const nginx = await start("tls");
    const other = await start("hand");
    writeFileSync(path("gyre.yaml"), manifestOf(before.manifest, nginx.reloadCommand, [nginx.address]));

    const ours: number[] = [];
    const byHand: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const old = await presentedNow(nginx.address);
      const from = performance.now();
      const running = gyre(dir, "rotate", "shop-tls", "--now");
      ours.push(await untilOther(nginx.address, old, from));
      const ended = await running;
      if (ended.code !== 0) throw new Error(`gyre rotate: ${ended.code}\n${ended.out}${ended.err}`);

      const next = await issue();
      const oldByHand = await presentedNow(other.address);
      const fromByHand = performance.now();
      next.writePem(path("hand.pem"), path("hand.key"));
      const reloading = other.reload();
      byHand.push(await untilOther(other.address, oldByHand, fromByHand));
      await reloading;
    }
    return figure(
      ...(["renew to new on the wire, one nginx", "ms"] as const),
      ...([median(ours), median(byHand), "writing the files and nginx -s reload by hand"] as const),
    );
  } finally {
    await workspace.end();
  }
}

/** The stopwatch of both: a bare handshake, since openssl as a process of its own at each turn took a core away from what it timed. */
function presentedNow(address: string): Promise<string> {
  const [host, port] = address.split(":");
  return new Promise((resolve, reject) => {
    const options = { host, port: Number(port), servername: "shop.example", rejectUnauthorized: false };
    const socket = connect(options, () => {
      const fingerprint = socket.getPeerX509Certificate()?.fingerprint256;
      socket.destroy();
      if (fingerprint === undefined) reject(new Error(`${address} presents nothing`));
      else resolve(fingerprint);
    });
    socket.on("error", reject);
  });
}

/** Milliseconds from `from` until another certificate than `old` is presented. */
async function untilOther(address: string, old: string, from: number): Promise<number> {
  await waitFor("the new certificate on the wire", async () => (await presentedNow(address)) !== old, { poll: 10 });
  return performance.now() - from;
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

/** A whole rotation of a server certificate with 100 replicas, each dialled itself; beside it 100 openssl handshakes. */
export async function hundredReplicasBench(replicas = 100): Promise<Figure> {
  await install();
  const workspace = makeWorkspace("bench-replicas");
  try {
    const { dir, path } = workspace;
    const before = await caBefore(dir, "CN=Bench CA");
    const g1 = await before.issue({ subject: "CN=shop", names: ["DNS:shop.example"], usages: ["server"] });
    g1.writePem(path("tls.pem"), path("tls.key"));
    const port = await freePort();
    // One nginx on a hundred addresses of loopback: a hundred members to be dialled.
    const hosts = Array.from({ length: replicas }, (_, index) => `127.0.1.${index + 1}`);
    const nginx = await startNginx(workspace, {
      name: "nginx",
      certificate: path("tls.pem"),
      privateKey: path("tls.key"),
      serverName: "shop.example",
      host: "0.0.0.0",
      port,
    });
    writeFileSync(
      path("gyre.yaml"),
      manifestOf(
        before.manifest,
        nginx.reloadCommand,
        hosts.map((host) => `${host}:${port}`),
      ),
    );
    const from = performance.now();
    const ended = await gyre(dir, "rotate", "shop-tls", "--now");
    const ours = performance.now() - from;
    if (ended.code !== 0) throw new Error(`gyre rotate: ${ended.code}\n${ended.out}${ended.err}`);
    const openssl = performance.now();
    for (const host of hosts) await servedFingerprint(`${host}:${port}`, "shop.example");
    return figure(
      `${replicas} replicas to the verdict`,
      "ms",
      ours,
      performance.now() - openssl,
      `${replicas} looks with openssl s_client, one after the other`,
    );
  } finally {
    await workspace.end();
  }
}

const manifestOf = (
  ca: string,
  reload: readonly string[],
  addresses: readonly string[],
): string => `apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: ca }
spec:
  ${ca}
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: shop-tls }
spec:
  issue: { issuer: ca, subject: CN=shop, dnsNames: [shop.example], lifetime: 24h }
  deliver: [{ files: { certificate: tls.pem, privateKey: tls.key }, reload: ${yamlCommand(reload)} }]
  prove: [{ tls: { serverName: shop.example, addresses: ${JSON.stringify(addresses)} } }]
  timing: { patience: 10s, poll: 100ms }
`;
