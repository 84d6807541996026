import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { waitFor } from "./estate.ts";
import { install } from "./install.ts";
import { startGoTls, startJavaServer, startNodeTls, startOpensslServer } from "./peers/tls-server.ts";
import { issue, makeCrl, makeKeystore, normalSerial, revoke } from "./pki.ts";
import { expectStops, liveFiles, makeTestPki, untilServed, untilVerdict, useWorkspace, verdict } from "./testing.ts";
import { accepts, openSession, resumes, servedFingerprint } from "./witness.ts";

await install();
const workspace = useWorkspace("tls");
const pki = makeTestPki(workspace);
const newClient = (name: string) => issue(pki.root, { name, usages: ["client"] });

function setUp(name: string) {
  const live = liveFiles(workspace, `live-${name}`);
  live.putServer(pki.server);
  live.putCrl(pki.crl);
  live.putClientCa(pki.root.certificate);
  const { certificate, privateKey, clientCa, crl } = live;
  return { live, options: { name, certificate, privateKey, clientCa, crl } };
}
const java = (name: string) => {
  const keystore = makeKeystore(pki.server, workspace.path(`${name}.p12`), "lab");
  const { clientCa, crl } = setUp(name).options;
  return startJavaServer(workspace, { name, keystore, password: "lab", clientCa, crl });
};

const openssl = ["certificate_revoked", "certificate_expired", "unknown_ca", "certificate_required"];
const stacks = [
  { stack: "node", start: () => startNodeTls(workspace, setUp("node").options), says: openssl, names: true },
  {
    stack: "openssl",
    start: () => startOpensslServer(workspace, setUp("openssl").options),
    says: openssl,
    names: false,
  },
  {
    stack: "go",
    start: () => startGoTls(workspace, setUp("go").options),
    says: ["bad_certificate", "certificate_expired", "unknown_ca", "certificate_required"],
    names: true,
  },
  {
    stack: "java",
    start: () => java("java"),
    says: ["certificate_unknown", "certificate_unknown", "certificate_unknown", "bad_certificate"],
    names: true,
  },
];

describe.each(stacks)("$stack", ({ start, says, names }) => {
  it("serves, names whom it saw, and sends everybody else an alert", async () => {
    const server = await start();
    expect(await servedFingerprint(server.address)).toBe(pki.server.fingerprint);
    const answer = await accepts(server.address, pki.client.chain, pki.client.privateKey, {
      roots: pki.root.certificate,
    });
    expect(answer).toMatchObject({ saw: "reply", status: 200 });
    if (answer.saw === "reply" && names)
      expect(normalSerial(answer.headers["x-client-serial"]!)).toBe(pki.client.serial);
    if (answer.saw === "reply" && !names) expect(answer.body).toContain("CN=client");
    const seen: string[] = [];
    for (const pair of [pki.revoked, pki.expired, pki.stranger, undefined])
      seen.push(await verdict(server.address, pair));
    expect(seen).toEqual(says);
    expect(await verdict(server.address, pki.client)).toBe("200");
    await expectStops(server);
    await server.start();
    expect(await verdict(server.address, pki.client)).toBe("200");
    await server.stop();
  });

  it("sends the alert each time, not only when the timing is good", async () => {
    const server = await start();
    const seen = new Set<string>();
    for (let n = 0; n < 20; n++) seen.add(await verdict(server.address, pki.revoked));
    expect(seen).toEqual(new Set([says[0]]));
    await server.stop();
  });
});

describe.each([
  { stack: "node", start: startNodeTls },
  { stack: "go", start: startGoTls },
])("$stack", ({ stack, start }) => {
  it("takes up certificate and CRL on SIGHUP", async () => {
    const { live, options } = setUp(`${stack}-reload`);
    const server = await start(workspace, options);
    const client = newClient(`${stack}-reload-client`);
    live.putServer(pki.nextServer);
    revoke(pki.root, client);
    live.putCrl(makeCrl(pki.root, workspace.path(`${stack}-reload.crl`)));
    expect(await servedFingerprint(server.address)).toBe(pki.server.fingerprint);
    expect(await verdict(server.address, client)).toBe("200");
    await server.reload();
    await untilServed(server.address, pki.nextServer);
    expect(await verdict(server.address, client)).toBe(stack === "go" ? "bad_certificate" : "certificate_revoked");
    expect(await verdict(server.address, pki.client)).toBe("200");
    await server.stop();
  });

  it("keeps the old state when the new files do not fit together", async () => {
    const { live, options } = setUp(`${stack}-broken`);
    const server = await start(workspace, options);
    writeFileSync(live.certificate, readFileSync(pki.nextServer.chain));
    await server.reload();
    await waitFor("its word", () => server.process.output().includes("reload failed"));
    expect(await servedFingerprint(server.address)).toBe(pki.server.fingerprint);
    await server.stop();
  });

  it("logs each use in the documented line", async () => {
    const server = await start(workspace, setUp(`${stack}-log`).options);
    await verdict(server.address, pki.client);
    const line = await waitFor("its line", () => readFileSync(server.accessLog, "utf8").split("\n")[0] || undefined);
    expect(JSON.parse(line)).toMatchObject({
      ssl_client_i_dn: "CN=root,O=Lab",
      ssl_client_verify: "SUCCESS",
      ssl_session_reused: ".",
      remote_addr: "127.0.0.1",
      status: 200,
      http_user_agent: "lab-witness",
    });
    expect(normalSerial(JSON.parse(line).ssl_client_serial)).toBe(pki.client.serial);
    await server.stop();
  });
});

describe("broken ones", () => {
  it("node --ignore-reload goes on with the old certificate, until it is started as it should be", async () => {
    const { live, options } = setUp("ignoring");
    const server = await startNodeTls(workspace, { ...options, ignoreReload: true });
    const twin = await startNodeTls(workspace, { ...options, name: "ignoring-twin" });
    live.putServer(pki.nextServer);
    await server.reload();
    await twin.reload();
    await untilServed(twin.address, pki.nextServer);
    expect(await servedFingerprint(server.address)).toBe(pki.server.fingerprint);
    await server.stop();
    server.ignoreReload(false);
    live.putServer(pki.server);
    await server.start();
    live.putServer(pki.nextServer);
    await server.reload();
    await untilServed(server.address, pki.nextServer);
    await server.stop();
    await twin.stop();
  });

  it("node can refuse over HTTP, or close without a word", async () => {
    const http = await startNodeTls(workspace, { ...setUp("http").options, refuse: "http" });
    const close = await startNodeTls(workspace, { ...setUp("close").options, refuse: "close" });
    expect(await verdict(http.address, pki.revoked)).toBe("400");
    expect(await verdict(close.address, pki.revoked)).toBe("nothing");
    for (const server of [http, close]) expect(await verdict(server.address, pki.client)).toBe("200");
    await http.stop();
    await close.stop();
  });

  it("node with ticket keys in a file resumes the session of a revoked client", async () => {
    const { live, options } = setUp("node-tickets");
    const client = newClient("node-session");
    writeFileSync(workspace.path("node-ticket.key"), randomBytes(48));
    const server = await startNodeTls(workspace, { ...options, ticketKeys: workspace.path("node-ticket.key") });
    const look = { certificate: client.chain, privateKey: client.privateKey };
    const file = workspace.path("node.session");
    expect(await openSession(server.address, file, look)).toBe(true);
    revoke(pki.root, client);
    live.putCrl(makeCrl(pki.root, workspace.path("node-session.crl")));
    await server.reload();
    await untilVerdict(server.address, client, "certificate_revoked");
    expect(await resumes(server.address, file, look)).toMatchObject({ reused: true, status: 200 });
    await server.stop();
  });

  it("go -read-once keeps what it read at start; java and s_server have no reload at all", async () => {
    const { live, options } = setUp("once");
    const server = await startGoTls(workspace, { ...options, readOnce: true });
    live.putServer(pki.nextServer);
    await server.reload();
    await waitFor("its word", () => server.process.output().includes("reload ignored"));
    expect(await servedFingerprint(server.address)).toBe(pki.server.fingerprint);
    await server.stop();
    await server.start();
    expect(await servedFingerprint(server.address)).toBe(pki.nextServer.fingerprint);
    await server.stop();
  });

  it("go -honour-old accepts a revoked client for a while after the reload", async () => {
    const { live, options } = setUp("honour");
    const client = newClient("honoured");
    const server = await startGoTls(workspace, { ...options, honourOld: 2_000 });
    revoke(pki.root, client);
    live.putCrl(makeCrl(pki.root, workspace.path("honour.crl")));
    live.putServer(pki.nextServer);
    await server.reload();
    await untilServed(server.address, pki.nextServer);
    expect(await verdict(server.address, client)).toBe("200");
    await untilVerdict(server.address, client, "bad_certificate");
    expect(await verdict(server.address, pki.client)).toBe("200");
    await server.stop();
  });
});
