import { copyFileSync, readFileSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { waitFor } from "./estate.ts";
import { install } from "./install.ts";
import { startEnvoy } from "./peers/envoy.ts";
import { issue, makeCrl, normalSerial, type Pair, revoke } from "./pki.ts";
import { expectStops, liveFiles, makeTestPki, untilServed, untilVerdict, useWorkspace, verdict } from "./testing.ts";
import { accepts, servedFingerprint } from "./witness.ts";

await install();
const workspace = useWorkspace("envoy");
const pki = makeTestPki(workspace);

function setUp(name: string) {
  const live = liveFiles(workspace, `live-${name}`);
  live.putServer(pki.server);
  live.putCrl(pki.crl);
  live.putClientCa(pki.root.certificate);
  const { certificate, privateKey, clientCa, crl } = live;
  return { live, options: { name, certificate, privateKey, clientCa, crl } };
}

describe("envoy", () => {
  it("serves, names whom it saw, logs the use, and sends everybody else an alert", async () => {
    const envoy = await startEnvoy(workspace, setUp("plain").options);
    expect(await servedFingerprint(envoy.address)).toBe(pki.server.fingerprint);
    const answer = await accepts(envoy.address, pki.client.chain, pki.client.privateKey, {
      roots: pki.root.certificate,
    });
    expect(answer).toMatchObject({ saw: "reply", status: 200 });
    if (answer.saw === "reply") expect(normalSerial(answer.headers["x-client-serial"]!)).toBe(pki.client.serial);
    for (const tls of ["1.2", "1.3"] as const) {
      expect(await verdict(envoy.address, pki.revoked, tls)).toBe("certificate_revoked");
      expect(await verdict(envoy.address, pki.expired, tls)).toBe("certificate_expired");
      expect(await verdict(envoy.address, pki.stranger, tls)).toBe("unknown_ca");
      const none = tls === "1.2" ? "handshake_failure" : "certificate_required";
      expect(await verdict(envoy.address, undefined, tls)).toBe(none);
      expect(await verdict(envoy.address, pki.client, tls)).toBe("200");
    }
    const line = await waitFor("its log", () => readFileSync(envoy.accessLog, "utf8").split("\n")[0] || undefined);
    expect(JSON.parse(line)).toMatchObject({
      ssl_client_fingerprint: pki.client.fingerprint,
      http_user_agent: "lab-witness",
    });
    const ready = await fetch(`http://${envoy.admin}/certs`);
    expect(normalSerial(JSON.stringify(await ready.json()))).toContain(pki.server.serial);
    await expectStops(envoy);
    await envoy.start();
    expect(await verdict(envoy.address, pki.client)).toBe("200");
    await envoy.stop();
  });

  it("takes up certificate and CRL that are renamed into the directory it watches", async () => {
    const { live, options } = setUp("watch");
    const envoy = await startEnvoy(workspace, options);
    const client = issue(pki.root, { name: "envoy-client", usages: ["client"] });
    expect(await verdict(envoy.address, client)).toBe("200");
    live.putServer(pki.nextServer);
    await untilServed(envoy.address, pki.nextServer);
    revoke(pki.root, client);
    live.putCrl(makeCrl(pki.root, workspace.path("envoy.crl")));
    await untilVerdict(envoy.address, client, "certificate_revoked");
    expect(await verdict(envoy.address, pki.client)).toBe("200");
    await envoy.stop();
  });

  it("takes up a switched directory link only where it watches the directory that holds the link", async () => {
    const home = workspace.folder("switch");
    const generation = (name: string, pair: Pair) => {
      const dir = workspace.folder("switch", name);
      copyFileSync(pair.chain, `${dir}/tls.pem`);
      copyFileSync(pair.privateKey, `${dir}/tls.key`);
      symlinkSync(name, `${home}/next`);
      renameSync(`${home}/next`, `${home}/current`);
    };
    generation("g1", pki.server);
    const pair = { certificate: `${home}/current/tls.pem`, privateKey: `${home}/current/tls.key` };
    const sees = await startEnvoy(workspace, { name: "switch-sees", ...pair, watchDirectory: home });
    const blind = await startEnvoy(workspace, { name: "switch-blind", ...pair });
    generation("g2", pki.nextServer);
    await untilServed(sees.address, pki.nextServer);
    expect(await servedFingerprint(blind.address)).toBe(pki.server.fingerprint);
    await sees.stop();
    await blind.stop();
  });

  it("does not see files that are written in place, and sees them after the next rename", async () => {
    const { live, options } = setUp("in-place");
    const envoy = await startEnvoy(workspace, options);
    writeFileSync(live.privateKey, readFileSync(pki.nextServer.privateKey));
    writeFileSync(live.certificate, readFileSync(pki.nextServer.chain));
    // Another that watches properly, changed later: once it has, this one would have.
    const twin = setUp("in-place-twin");
    const watching = await startEnvoy(workspace, twin.options);
    twin.live.putServer(pki.nextServer);
    await untilServed(watching.address, pki.nextServer);
    expect(await servedFingerprint(envoy.address)).toBe(pki.server.fingerprint);
    live.putCrl(pki.crl);
    await untilServed(envoy.address, pki.nextServer);
    await envoy.stop();
    await watching.stop();
  });

  it("without a watch keeps what it read at start", async () => {
    const { live, options } = setUp("once");
    const envoy = await startEnvoy(workspace, { ...options, watch: false });
    const twin = await startEnvoy(workspace, { ...options, name: "once-twin" });
    live.putServer(pki.nextServer);
    await untilServed(twin.address, pki.nextServer);
    expect(await servedFingerprint(envoy.address)).toBe(pki.server.fingerprint);
    await envoy.stop();
    await twin.stop();
  });

  it("keeps the old pair in force when key and certificate do not fit", async () => {
    const { live, options } = setUp("broken");
    const envoy = await startEnvoy(workspace, options);
    live.putServer({ ...pki.nextServer, privateKey: pki.server.privateKey });
    await waitFor("its word", () => envoy.process.output().includes("KEY_VALUES_MISMATCH"));
    expect(await servedFingerprint(envoy.address)).toBe(pki.server.fingerprint);
    live.putServer(pki.nextServer);
    await untilServed(envoy.address, pki.nextServer);
    await envoy.stop();
  });
});
