import { appendFileSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { install } from "../../../lab/install.ts";
import { startHaproxy } from "../../../lab/peers/haproxy.ts";
import { startNginx } from "../../../lab/peers/nginx.ts";
import { bundle, issue, makeAuthority, type Pair } from "../../../lab/pki.ts";
import { makeTestPki, useWorkspace } from "../../../lab/testing.ts";
import { accepts } from "../../../lab/witness.ts";
import { parseCertificate } from "../../pki/certificate.ts";
import { Secret } from "../../pki/secret.ts";
import type { CredentialHandle } from "../roles.ts";
import { verifierSettings } from "../tls/settings.ts";
import { createTlsVerifier } from "../tls/verifier.ts";
import { createAccessLogSensor } from "./sensor.ts";
import { accessLogSettings } from "./settings.ts";

await install();
const workspace = useWorkspace("sensor");
const pki = makeTestPki(workspace);
const { chain: certificate, privateKey } = pki.server;
// A CA whose name needs escaping in every form it is written in, and one below it.
const odd = makeAuthority(workspace.folder("odd"), {
  name: "odd",
  subject: '/O=Lab, Inc./OU=a\\/b/CN=Müller "x" \\+ y',
  parent: pki.root,
});
const clientCa = bundle(workspace.path("client-cas.pem"), pki.root.certificate, odd.certificate);
const oddClient = issue(odd, { name: "odd-client", usages: ["client"] });

function handleOf(pair: Pair): CredentialHandle {
  const { fingerprint, serial, issuer, notAfter, pem } = parseCertificate(readFileSync(pair.certificate));
  const key = Secret.of(readFileSync(pair.privateKey));
  return { fingerprint, serial, issuer, notAfter, certificate: pem, chain: "", privateKey: key };
}
const step = (tag: string) => ({ op: "test", tag, signal: AbortSignal.timeout(50_000) });

const servers = {
  nginx: (name: string) => startNginx(workspace, { name, certificate, privateKey, clientCa }),
  haproxy: (name: string) =>
    startHaproxy(workspace, {
      name,
      combined: bundle(workspace.path(`${name}.pem`), certificate, privateKey),
      clientCa,
    }),
};

describe.each(["nginx", "haproxy"] as const)("the log of a real %s", (server) => {
  it("tells who used which certificate, and that it saw our own probe", async () => {
    const peer = await servers[server](`log-${server}`);
    const sensor = createAccessLogSensor(
      accessLogSettings.parse({ path: peer.accessLog, server, member: peer.address }),
    );
    const settings = {
      addresses: [peer.address],
      serverName: "localhost",
      server,
      request: { identityHeader: "X-Client-Serial" },
    };
    const probe = (pair: Pair, tag: string) =>
      createTlsVerifier(verifierSettings.parse(settings)).probe(
        { id: peer.address, address: peer.address },
        handleOf(pair),
        step(tag),
      );
    const use = (pair: Pair | undefined) => accepts(peer.address, pair?.chain, pair?.privateKey, {});

    // A line from an hour ago in front, so that the log is seen to reach back.
    await use(pki.nextClient);
    await expect.poll(() => readFileSync(peer.accessLog, "utf8")).toMatch(/ssl_client_serial.*\n/);
    const log = readFileSync(peer.accessLog, "utf8");
    const [real = ""] = /.*ssl_client_serial.*\n/.exec(log) ?? [];
    const hourAgo = Math.floor(Date.now() / 1000) - 3600;
    writeFileSync(peer.accessLog, real.replace(/"time":\d+/, `"time":${hourAgo}`) + log);
    const since = Date.now();
    expect(await probe(pki.client, "shop.4.abc")).toMatchObject({ saw: "accepted" });
    await expect.poll(() => sensor.alive("shop.4.abc")).toBe(true);
    expect(await sensor.alive("shop.4.abd")).toBe(false);
    for (const one of [pki.stranger, undefined]) await use(one);

    const usage = (pair: Pair, ours = "shop.4") => sensor.usage(handleOf(pair), since, ours);
    expect(await usage(pki.client)).toEqual({ count: 0, succeeded: 0, from: [] });
    // The control: the same line counts when it is not ours.
    expect(await usage(pki.client, "other.1")).toMatchObject({ count: 1, from: ["127.0.0.1"] });
    expect(await usage(pki.stranger)).toMatchObject({ count: 0 });

    await use(pki.client);
    await use(oddClient);
    await expect.poll(async () => (await usage(pki.client)).count).toBe(1);
    await expect.poll(async () => (await usage(oddClient)).count).toBe(1);
    expect(Math.abs((await usage(oddClient)).last! - Date.now())).toBeLessThan(60_000);

    // Rotated as logrotate does it; the uses before stay known, and are missing without the old file.
    renameSync(peer.accessLog, `${peer.accessLog}.1`);
    appendFileSync(peer.accessLog, "");
    expect(await usage(pki.client)).toMatchObject({ count: 1 });
    renameSync(`${peer.accessLog}.1`, `${peer.accessLog}.gone`);
    expect(await usage(pki.client)).toHaveProperty("gap");
    await peer.stop();
  });
});
