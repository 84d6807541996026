import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { connects, waitFor } from "./estate.ts";
import { startNginx } from "./peers/nginx.ts";
import { runCommand } from "./peers/peer.ts";
import { issue, makeCrl, normalSerial, revoke } from "./pki.ts";
import { expectStops, liveFiles, makeTestPki, untilServed, untilVerdict, useWorkspace, verdict } from "./testing.ts";
import { accepts, openSession, resumes, servedFingerprint } from "./witness.ts";

const workspace = useWorkspace("nginx");
const pki = makeTestPki(workspace);

function setUp(name: string) {
  const live = liveFiles(workspace, `live-${name}`);
  live.putServer(pki.server);
  live.putCrl(pki.crl);
  live.putClientCa(pki.root.certificate);
  const { certificate, privateKey, clientCa, crl } = live;
  return { live, options: { name, certificate, privateKey, clientCa, crl } };
}

describe("nginx", () => {
  it("serves, names whom it saw, and answers 400 to everybody else", async () => {
    const nginx = await startNginx(workspace, setUp("plain").options);
    expect(await servedFingerprint(nginx.address)).toBe(pki.server.fingerprint);
    for (const tls of ["1.2", "1.3"] as const) {
      const answer = await accepts(nginx.address, pki.client.chain, pki.client.privateKey, {
        tls,
        roots: pki.root.certificate,
      });
      expect(answer).toMatchObject({ saw: "reply", status: 200 });
      if (answer.saw === "reply") expect(normalSerial(answer.headers["x-client-serial"]!)).toBe(pki.client.serial);
      for (const pair of [pki.revoked, pki.expired, pki.stranger, undefined]) {
        expect(await verdict(nginx.address, pair, tls)).toBe("400");
      }
      expect(await verdict(nginx.address, pki.client, tls)).toBe("200");
    }
    const lines = () => readFileSync(nginx.accessLog, "utf8").split("\n").slice(0, -1);
    await waitFor("a line for each request", () => lines().length === 12);
    expect(new Set(lines().map((line) => JSON.parse(line).ssl_client_verify))).toEqual(
      new Set([
        ...["SUCCESS", "NONE", "FAILED:certificate revoked", "FAILED:certificate has expired"],
        "FAILED:unable to verify the first certificate",
      ]),
    );
    await expectStops(nginx);
    await nginx.start();
    expect(await verdict(nginx.address, pki.client)).toBe("200");
    await nginx.stop();
  });

  it("takes up a new certificate and a new CRL with a reload", async () => {
    const { live, options } = setUp("reload");
    const nginx = await startNginx(workspace, options);
    live.putServer(pki.nextServer);
    expect(await runCommand(nginx.validateCommand)).toContain("syntax is ok");
    await nginx.reload();
    await untilServed(nginx.address, pki.nextServer);
    const client = newClient("reload-client");
    expect(await verdict(nginx.address, client)).toBe("200");
    revoke(pki.root, client);
    live.putCrl(makeCrl(pki.root, workspace.path("reload-crl.pem")));
    expect(await verdict(nginx.address, client)).toBe("200");
    await nginx.reload();
    await untilVerdict(nginx.address, client, "400");
    expect(await verdict(nginx.address, pki.client)).toBe("200");
    await nginx.stop();
  });

  it("refuses everybody once its CRL has expired", async () => {
    const { live, options } = setUp("old-crl");
    const ago = (minutes: number) => new Date(Date.now() - minutes * 60_000);
    live.putCrl(makeCrl(pki.root, workspace.path("old-crl.pem"), { thisUpdate: ago(20), nextUpdate: ago(10) }));
    const nginx = await startNginx(workspace, options);
    expect(await verdict(nginx.address, pki.client)).toBe("400");
    // The line is written after the reply.
    await waitFor("its log line", () => readFileSync(nginx.accessLog, "utf8").includes("FAILED:CRL has expired"));
    live.putCrl(pki.crl);
    await nginx.reload();
    await untilVerdict(nginx.address, pki.client, "200");
    await nginx.stop();
  });

  it.each(["ignoreReload", "freezeMaster"] as const)(
    "break %s: the reload ends with 0 and nothing changes",
    async (how) => {
      const { live, options } = setUp(how);
      const nginx = await startNginx(workspace, options);
      const before = nginx.workers();
      await nginx.break(how);
      live.putServer(pki.nextServer);
      await nginx.reload();
      // The twin without the fault, reloaded after it: once it has changed, this one would have.
      const twin = setUp(`${how}-twin`);
      const well = await startNginx(workspace, twin.options);
      twin.live.putServer(pki.nextServer);
      await well.reload();
      await untilServed(well.address, pki.nextServer);
      expect(await servedFingerprint(nginx.address)).toBe(pki.server.fingerprint);
      expect(nginx.workers()).toEqual(before);
      await nginx.repair();
      if (how === "ignoreReload") await nginx.reload();
      await untilServed(nginx.address, pki.nextServer);
      await nginx.stop();
      await well.stop();
    },
  );

  it("break diesOnReload: it serves the new certificate and is gone", async () => {
    const { live, options } = setUp("dies");
    const nginx = await startNginx(workspace, options);
    await nginx.break("diesOnReload");
    live.putServer(pki.nextServer);
    await nginx.reload();
    await untilServed(nginx.address, pki.nextServer);
    await waitFor("its end", async () => !(await connects(nginx.host, nginx.port)));
    await waitFor("its processes to be gone", () => !nginx.process.running);
    await nginx.repair();
    await nginx.start();
    await untilServed(nginx.address, pki.nextServer);
    await nginx.stop();
  });

  it("splitWorkers: one address presents both", async () => {
    const { live, options } = setUp("split");
    const nginx = await startNginx(workspace, { ...options, splitWorkers: true });
    live.putServer(pki.nextServer);
    await nginx.reload();
    const seen = new Set<string | undefined>();
    await waitFor("both certificates", async () => {
      seen.add(await servedFingerprint(nginx.address));
      return seen.size === 2;
    });
    expect(seen).toEqual(new Set([pki.server.fingerprint, pki.nextServer.fingerprint]));
    await expectStops(nginx);
  });

  it("honours a session after a reload when its ticket keys lie in a file, though the CRL refuses its client", async () => {
    const client = newClient("session-client");
    writeFileSync(workspace.path("ticket.key"), randomBytes(80));
    const { live, options } = setUp("tickets");
    const kept = await startNginx(workspace, { ...options, tickets: { keyFile: workspace.path("ticket.key") } });
    const random = await startNginx(workspace, { ...options, name: "tickets-random" });
    const look = { certificate: client.chain, privateKey: client.privateKey };
    for (const nginx of [kept, random]) {
      const file = workspace.path(`${nginx.name}.session`);
      expect(await openSession(nginx.address, file, look)).toBe(true);
      expect(await resumes(nginx.address, file, look)).toMatchObject({ reused: true, status: 200 });
    }
    revoke(pki.root, client);
    live.putCrl(makeCrl(pki.root, workspace.path("session-crl.pem")));
    for (const nginx of [kept, random]) {
      // A worker of before may still take a connection after a new one has.
      await nginx.reloadFully();
      expect(await verdict(nginx.address, client)).toBe("400");
    }
    const late = (nginx: { name: string; address: string }) =>
      resumes(nginx.address, workspace.path(`${nginx.name}.session`), look);
    expect(await late(kept)).toMatchObject({ reused: true, status: 200 });
    expect(await late(random)).toMatchObject({ reused: false, status: 400 });
    await kept.stop();
    await random.stop();
  });

  it("logs nothing during a gap, and logs again after it", async () => {
    const nginx = await startNginx(workspace, setUp("gap").options);
    const lines = () =>
      existsSync(nginx.accessLog) ? readFileSync(nginx.accessLog, "utf8").split("\n").length - 1 : 0;
    await verdict(nginx.address, pki.client);
    await waitFor("one line", () => lines() === 1);
    await nginx.logGap(true);
    expect(await verdict(nginx.address, pki.client)).toBe("200");
    await nginx.logGap(false);
    await verdict(nginx.address, pki.client);
    await waitFor("the second line", () => lines() > 1);
    expect(lines()).toBe(2);
    await nginx.logGap(true, { remove: true });
    expect(lines()).toBe(0);
    await nginx.stop();
  });

  it("has the clock it is told", async () => {
    const { options } = setUp("clock");
    const nginx = await startNginx(workspace, { ...options, clockOffset: -600 });
    expect(await verdict(nginx.address, pki.client)).toBe("200");
    await waitFor("a line", () => readFileSync(nginx.accessLog, "utf8").endsWith("\n"));
    const { time } = JSON.parse(readFileSync(nginx.accessLog, "utf8"));
    expect(Math.abs(Date.now() / 1000 - 600 - time)).toBeLessThan(60);
    await nginx.stop();
    const late = await startNginx(workspace, { ...options, name: "clock-late", clockOffset: 2 * 86_400 });
    expect(await verdict(late.address, pki.client)).toBe("400");
    await late.stop();
  });

  it("can answer 200 without a word about the client", async () => {
    const { certificate, privateKey } = setUp("blind").options;
    const nginx = await startNginx(workspace, { name: "blind", certificate, privateKey, identityHeader: false });
    const answer = await accepts(nginx.address, pki.stranger.chain, pki.stranger.privateKey);
    expect(answer).toMatchObject({ saw: "reply", status: 200 });
    if (answer.saw === "reply") expect(answer.headers["x-client-serial"]).toBeUndefined();
    await nginx.stop();
  });
});

function newClient(name: string) {
  return issue(pki.root, { name, usages: ["client"] });
}
