import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { waitFor } from "./estate.ts";
import { startBalancer, startHaproxy } from "./peers/haproxy.ts";
import { startNginx } from "./peers/nginx.ts";
import { runCommand } from "./peers/peer.ts";
import { issue, makeCrl, normalSerial, revoke } from "./pki.ts";
import { expectStops, liveFiles, makeTestPki, untilServed, untilVerdict, useWorkspace, verdict } from "./testing.ts";
import { accepts, servedFingerprint } from "./witness.ts";

const workspace = useWorkspace("haproxy");
const pki = makeTestPki(workspace);

function setUp(name: string) {
  const live = liveFiles(workspace, `live-${name}`);
  live.putServer(pki.server);
  live.putCrl(pki.crl);
  live.putClientCa(pki.root.certificate);
  const { combined, clientCa, crl } = live;
  return { live, options: { name, combined, clientCa, crl } };
}

describe("haproxy terminating TLS", () => {
  it("serves, names whom it saw, logs the use, and sends everybody else an alert", async () => {
    const haproxy = await startHaproxy(workspace, setUp("plain").options);
    expect(await servedFingerprint(haproxy.address)).toBe(pki.server.fingerprint);
    const answer = await accepts(haproxy.address, pki.client.chain, pki.client.privateKey, {
      roots: pki.root.certificate,
    });
    expect(answer).toMatchObject({ saw: "reply", status: 200 });
    if (answer.saw === "reply") expect(normalSerial(answer.headers["x-client-serial"]!)).toBe(pki.client.serial);
    for (const tls of ["1.2", "1.3"] as const) {
      expect(await verdict(haproxy.address, pki.revoked, tls)).toBe("certificate_revoked");
      expect(await verdict(haproxy.address, pki.expired, tls)).toBe("certificate_expired");
      expect(await verdict(haproxy.address, pki.stranger, tls)).toBe("unknown_ca");
      const none = tls === "1.2" ? "handshake_failure" : "certificate_required";
      expect(await verdict(haproxy.address, undefined, tls)).toBe(none);
      expect(await verdict(haproxy.address, pki.client, tls)).toBe("200");
    }
    const uses = await waitFor("three lines", () => {
      const lines = readFileSync(haproxy.accessLog, "utf8").split("\n");
      const uses = lines.filter((line) => line.startsWith("{"));
      return uses.length === 3 ? uses.map((line) => JSON.parse(line)) : undefined;
    });
    for (const use of uses) {
      expect(normalSerial(use.ssl_client_serial)).toBe(pki.client.serial);
      expect(use).toMatchObject({
        ...{ ssl_client_i_dn: "CN=root,O=Lab", ssl_client_verify: "0", ssl_session_reused: "0" },
        ...{ remote_addr: "127.0.0.1", status: 200, http_user_agent: "lab-witness" },
      });
      expect(use.duration_ms).toMatch(/^\d+$/);
      expect(Math.abs(use.time - Date.now() / 1000)).toBeLessThan(60);
    }
    await expectStops(haproxy);
    await haproxy.start();
    expect(await verdict(haproxy.address, pki.client)).toBe("200");
    await haproxy.stop();
  });

  it("takes up certificate and CRL with a reload, and stays as it was when its reload goes astray", async () => {
    const { live, options } = setUp("reload");
    const haproxy = await startHaproxy(workspace, options);
    const deaf = await startHaproxy(workspace, { ...options, name: "deaf" });
    const client = issue(pki.root, { name: "haproxy-client", usages: ["client"] });
    await deaf.ignoreReload(true);
    revoke(pki.root, client);
    live.putCrl(makeCrl(pki.root, workspace.path("haproxy.crl")));
    live.putServer(pki.nextServer);
    expect(await runCommand(haproxy.validateCommand)).toContain("valid");
    for (const one of [deaf, haproxy]) await one.reload();
    await untilServed(haproxy.address, pki.nextServer);
    await untilVerdict(haproxy.address, client, "certificate_revoked");
    expect(await verdict(haproxy.address, pki.client)).toBe("200");
    expect(await servedFingerprint(deaf.address)).toBe(pki.server.fingerprint);
    expect(await verdict(deaf.address, client)).toBe("200");
    await deaf.ignoreReload(false);
    await deaf.reload();
    await untilServed(deaf.address, pki.nextServer);
    await haproxy.stop();
    await deaf.stop();
  });

  it("keeps the old worker when the new files do not fit together", async () => {
    const { live, options } = setUp("broken");
    const haproxy = await startHaproxy(workspace, options);
    live.putServer({ ...pki.nextServer, privateKey: pki.server.privateKey });
    await expect(runCommand(haproxy.validateCommand)).rejects.toThrow("private key");
    await haproxy.reload();
    await waitFor("its word", () => /private key/.test(haproxy.process.output()));
    expect(await servedFingerprint(haproxy.address)).toBe(pki.server.fingerprint);
    await haproxy.stop();
  });
});

describe("haproxy as a load balancer", () => {
  it("spreads connections, and can send them all to one server", async () => {
    const { certificate, privateKey } = pki.server;
    const one = await startNginx(workspace, { name: "one", certificate, privateKey });
    const two = await startNginx(workspace, {
      ...{ name: "two", certificate: pki.nextServer.certificate, privateKey: pki.nextServer.privateKey },
    });
    const balancer = await startBalancer(workspace, { name: "lb", backends: [one.address, two.address] });
    const looks = async () => {
      const seen = new Set<string | undefined>();
      for (let n = 0; n < 8; n++) seen.add(await servedFingerprint(balancer.address));
      return [...seen].sort();
    };
    const both = [pki.server.fingerprint, pki.nextServer.fingerprint].sort();
    expect(await looks()).toEqual(both);
    await balancer.pinTo(two.address);
    expect(await looks()).toEqual([pki.nextServer.fingerprint]);
    await balancer.pinTo(undefined);
    expect(await looks()).toEqual(both);
    await expectStops(balancer);
    await one.stop();
    await two.stop();
  });
});
