import { writeFileSync } from "node:fs";
import { freePort, makeWorkspace, waitFor } from "../lab/estate.ts";
import { caBefore, gyre, yamlCommand } from "../lab/gyre.ts";
import { install } from "../lab/install.ts";
import { startNginx } from "../lab/peers/nginx.ts";
import { servedFingerprint } from "../lab/witness.ts";
import { type Figure, figure } from "./figure.ts";

/**
 * From `gyre rotate` to the new certificate on the wire of one nginx, process start included; beside it what the machine
 * itself needs: new files by hand, `nginx -s reload`, and openssl until it sees them.
 */
export async function renewBench(): Promise<Figure> {
  await install();
  const workspace = makeWorkspace("bench-renew");
  try {
    const { dir, path } = workspace;
    const before = await caBefore(dir, "CN=Bench CA");
    const g1 = await before.issue({ subject: "CN=shop", names: ["DNS:shop.example"], usages: ["server"] });
    g1.writePem(path("tls.pem"), path("tls.key"));
    const nginx = await startNginx(workspace, {
      name: "nginx",
      certificate: path("tls.pem"),
      privateKey: path("tls.key"),
      serverName: "shop.example",
    });
    writeFileSync(path("gyre.yaml"), manifestOf(before.manifest, nginx.reloadCommand, [nginx.address]));

    const g1seen = await servedFingerprint(nginx.address, "shop.example");
    const from = performance.now();
    const running = gyre(dir, "rotate", "shop-tls", "--now");
    await waitFor(
      "the new certificate on the wire",
      async () => (await servedFingerprint(nginx.address, "shop.example")) !== g1seen,
      { poll: 10 },
    );
    const onWire = performance.now() - from;
    const ended = await running;
    if (ended.code !== 0) throw new Error(`gyre rotate: ${ended.code}\n${ended.out}${ended.err}`);

    const g3 = await before.issue({ subject: "CN=shop", names: ["DNS:shop.example"], usages: ["server"] });
    const g2seen = await servedFingerprint(nginx.address, "shop.example");
    const byHand = performance.now();
    g3.writePem(path("tls.pem"), path("tls.key"));
    await nginx.reload();
    await waitFor("the next one", async () => (await servedFingerprint(nginx.address, "shop.example")) !== g2seen, {
      poll: 10,
    });
    return figure(
      "renew to new on the wire, one nginx",
      "ms",
      onWire,
      performance.now() - byHand,
      "writing the files, nginx -s reload and openssl by hand",
    );
  } finally {
    await workspace.end();
  }
}

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
