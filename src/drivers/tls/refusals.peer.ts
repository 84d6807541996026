import { randomBytes } from "node:crypto";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createSecureContext } from "node:tls";
import { describe, expect, it } from "vitest";
import { buildGo, install } from "../../../lab/install.ts";
import { startEnvoy } from "../../../lab/peers/envoy.ts";
import { startHaproxy } from "../../../lab/peers/haproxy.ts";
import { startNginx } from "../../../lab/peers/nginx.ts";
import { startGoTls, startJavaServer, startNodeTls, startOpensslServer } from "../../../lab/peers/tls-server.ts";
import { bundle, issue, makeCrl, makeKeystore, type Pair, revoke } from "../../../lab/pki.ts";
import { liveFiles, makeTestPki, useWorkspace } from "../../../lab/testing.ts";
import { parseCertificate } from "../../pki/certificate.ts";
import { Secret } from "../../pki/secret.ts";
import type { CredentialHandle, ProbeResult } from "../roles.ts";
import { createAsker } from "./asker.ts";
import { look } from "./handshake.ts";
import { refusalOf, type ServerKind } from "./refusals.ts";
import { verifierSettings } from "./settings.ts";
import { memberAt, step } from "./testing.ts";
import { createTlsVerifier } from "./verifier.ts";

await install();
const workspace = useWorkspace("refusals");
const pki = makeTestPki(workspace);
const day = 86_400_000;
const ago = (days: number) => new Date(Date.now() - days * day);
const expiredCrl = makeCrl(pki.root, workspace.path("expired.crl"), { thisUpdate: ago(2), nextUpdate: ago(1) });
const { chain: certificate, privateKey } = pki.server;
const clientCa = pki.root.certificate;
const combined = bundle(workspace.path("combined.pem"), certificate, privateKey);

function handleOf(pair: Pair): CredentialHandle {
  const parsed = parseCertificate(readFileSync(pair.certificate));
  const { fingerprint, serial, issuer, notAfter, pem } = parsed;
  return {
    fingerprint,
    serial,
    issuer,
    notAfter,
    certificate: pem,
    chain: "",
    privateKey: Secret.of(readFileSync(pair.privateKey)),
  };
}

type Tls = "TLSv1.2" | "TLSv1.3";
interface Server {
  readonly address: string;
  stop(): Promise<void>;
}
interface Row {
  readonly server: string;
  readonly kind: ServerKind;
  /** What the server says: to the revoked, the expired and the stranger's certificate, to none, and when its CRL expired. */
  readonly says: Readonly<Record<"revoked" | "expired" | "stranger" | "none" | "expiredCrl", string>>;
  /** Where the two versions differ. */
  readonly none12?: string;
  readonly tls?: readonly Tls[];
  readonly names?: false;
  start(name: string, crl: string, tls: Tls): Promise<Server>;
}
const page = "nginx_certificate_error";
const alerts = { revoked: "certificate_revoked", expired: "certificate_expired", stranger: "unknown_ca" } as const;
const openssl = { ...alerts, none: "certificate_required", expiredCrl: "certificate_expired" };

/** The table of docs/drivers/tls.md. */
const rows: readonly Row[] = [
  {
    ...{
      server: "nginx",
      kind: "nginx",
      says: { revoked: page, expired: page, stranger: page, none: "nginx_no_certificate", expiredCrl: page },
    },
    start: (name, crl, tls) => startNginx(workspace, { name, certificate, privateKey, clientCa, crl, tls: [tls] }),
  },
  {
    ...{ server: "haproxy", kind: "haproxy", says: openssl, none12: "handshake_failure" },
    start: (name, crl, tls) => startHaproxy(workspace, { name, combined, clientCa, crl, tls: { min: tls, max: tls } }),
  },
  {
    ...{ server: "openssl", kind: "tls", says: openssl, none12: "handshake_failure", names: false },
    start: (name, crl) => startOpensslServer(workspace, { name, certificate, privateKey, clientCa, crl }),
  },
  {
    ...{ server: "go", kind: "tls", none12: "handshake_failure" },
    says: { ...openssl, revoked: "bad_certificate", expiredCrl: "bad_certificate" },
    start: (name, crl) => startGoTls(workspace, { name, certificate, privateKey, clientCa, crl }),
  },
  {
    ...{ server: "java", kind: "tls", none12: "bad_certificate" },
    says: {
      ...{ revoked: "certificate_unknown", expired: "certificate_unknown", stranger: "certificate_unknown" },
      none: "bad_certificate",
      expiredCrl: "certificate_unknown",
    },
    start: (name, crl) =>
      startJavaServer(workspace, {
        name,
        keystore: makeKeystore(pki.server, workspace.path(`${name}.p12`), "changeit"),
        password: "changeit",
        clientCa,
        crl,
      }),
  },
  {
    ...{ server: "node", kind: "tls", says: openssl, tls: ["TLSv1.3"] },
    start: (name, crl) => startNodeTls(workspace, { name, certificate, privateKey, clientCa, crl }),
  },
  {
    ...{ server: "envoy", kind: "envoy", says: openssl, none12: "handshake_failure" },
    start: (name, crl) => {
      const dir = workspace.folder(`${name}-live`);
      const put = (from: string, to: string) => {
        copyFileSync(from, join(dir, to));
        return join(dir, to);
      };
      const files = {
        certificate: put(certificate, "c.pem"),
        privateKey: put(privateKey, "k.pem"),
        clientCa: put(clientCa, "ca.pem"),
        crl: put(crl, "crl.pem"),
      };
      return startEnvoy(workspace, { name, ...files });
    },
  },
];

/** The code of the refusal, or what else came. Our probes offer both versions; here one is asked for. */
async function ask(row: Row, address: string, who: Pair | undefined, tls: Tls): Promise<string> {
  const shown = who === undefined ? {} : { cert: readFileSync(who.certificate), key: readFileSync(who.privateKey) };
  const context = createSecureContext({ ca: [], minVersion: tls, maxVersion: tls, ...shown });
  const { look, reply } = await createAsker(settingsFor(row, address), {})(memberAt(address), { context }, step());
  expect(look.protocol ?? tls).toBe(tls);
  const alert = look.trouble?.alert;
  const http = reply === undefined ? {} : { status: reply.status, body: reply.body };
  return (
    refusalOf(row.kind, { ...(alert === undefined ? {} : { alert }), ...http })?.code ??
    `${reply?.status ?? look.trouble?.code}`
  );
}

const settingsFor = ({ kind, names }: Row, address: string) =>
  verifierSettings.parse({
    ...{ addresses: [address], serverName: "localhost", server: kind, roots: clientCa, refuses: "crl" },
    request: names === false ? {} : { identityHeader: "X-Client-Serial" },
  });

describe.each(rows)("$server", (row) => {
  describe.each(row.tls ?? (["TLSv1.2", "TLSv1.3"] as const))("in %s", (tls) => {
    it("refuses as its table says, and accepts its client before and after", async () => {
      const server = await row.start(`${row.server}-${tls}`, pki.crl, tls);
      const { address } = server;
      expect(await ask(row, address, pki.client, tls)).toBe("200");
      for (const who of ["revoked", "expired", "stranger"] as const)
        expect(`${who}: ${await ask(row, address, pki[who], tls)}`).toBe(`${who}: ${row.says[who]}`);
      const none = tls === "TLSv1.2" ? (row.none12 ?? row.says.none) : row.says.none;
      expect(await ask(row, address, undefined, tls)).toBe(none);
      expect(await ask(row, address, pki.client, tls)).toBe("200");
      await server.stop();
    });

    it("refuses everybody once its CRL has expired", async () => {
      const server = await row.start(`${row.server}-${tls}-expired-crl`, expiredCrl, tls);
      expect(await ask(row, server.address, pki.client, tls)).toBe(row.says.expiredCrl);
      await server.stop();
    });
  });

  it("is judged by the verifier: its client accepted, the revoked one refused, by name or by controls", async () => {
    const server = await row.start(`${row.server}-judged`, pki.crl, "TLSv1.3");
    const settings = settingsFor(row, server.address);
    const probe = (pair: Pair, request: object = {}): Promise<ProbeResult> => {
      const verifier = createTlsVerifier(verifierSettings.parse({ ...settings, ...request }));
      return verifier.probe(memberAt(server.address), handleOf(pair), step());
    };
    const basis = row.names === false ? "controls" : "X-Client-Serial";
    expect(await probe(pki.client)).toMatchObject({ saw: "accepted", detail: { basis, serverChecked: true } });
    expect(await probe(pki.client, { request: {} })).toMatchObject({ saw: "accepted", detail: { basis: "controls" } });
    expect(await probe(pki.revoked)).toMatchObject({ saw: "refused", code: row.says.revoked });
    expect(await probe(pki.nextClient)).toMatchObject({ saw: "accepted" });
    await server.stop();
  });
});

describe("a server that does not look", () => {
  it("is unknown: nginx with optional_no_ca answers 200 to everybody", async () => {
    const nginx = await startNginx(workspace, {
      ...{ name: "blind", certificate, privateKey, clientCa, verify: "optional_no_ca", identityHeader: false },
    });
    const verifier = createTlsVerifier(
      verifierSettings.parse({ addresses: [nginx.address], serverName: "localhost", server: "nginx" }),
    );
    expect(await verifier.probe(memberAt(nginx.address), handleOf(pki.client), step())).toMatchObject({
      saw: "unknown",
    });
    await nginx.stop();
  });
});

describe("a session at nginx", () => {
  it.each(["TLSv1.2", "TLSv1.3"] as const)(
    "outlives the CRL over %s where the ticket key does, and not otherwise",
    async (tls) => {
      const live = liveFiles(workspace, `session-${tls}`);
      live.putServer(pki.server);
      live.putClientCa(pki.root.certificate);
      live.putCrl(pki.crl);
      const keyFile = workspace.path(`ticket-${tls}.key`);
      writeFileSync(keyFile, randomBytes(80));
      const nginx = await startNginx(workspace, {
        ...{
          name: `session-${tls}`,
          certificate: live.certificate,
          privateKey: live.privateKey,
          clientCa: live.clientCa,
          crl: live.crl,
        },
        ...{ tls: [tls], tickets: { keyFile } },
      });
      const verifier = createTlsVerifier(
        verifierSettings.parse({
          addresses: [nginx.address],
          serverName: "localhost",
          server: "nginx",
          request: { identityHeader: "X-Client-Serial" },
        }),
      );
      const pair = issue(pki.root, { name: `session-client-${tls}`, usages: ["client"] });
      const credential = handleOf(pair);
      const member = memberAt(nginx.address);
      const session = await verifier.session!(member, credential, step());
      expect(session).toBeDefined();
      revoke(pki.root, pair);
      live.putCrl(makeCrl(pki.root, workspace.path(`revoked-${tls}.crl`)));
      await nginx.reload();
      await expect
        .poll(async () => (await verifier.probe(member, credential, step())).saw, { timeout: 10_000 })
        .toBe("refused");
      // The full handshake is refused, the old session is not: drained is not implied by refused.
      expect(await verifier.resume!(member, session!, credential, step())).toMatchObject({
        saw: "accepted",
        detail: { resumed: true },
      });
      writeFileSync(keyFile, randomBytes(80));
      await nginx.reload();
      await expect
        .poll(() => verifier.resume!(member, session!, credential, step()), { timeout: 10_000 })
        .toMatchObject({ saw: "refused", detail: { resumed: false } });
      await nginx.stop();
    },
  );
});

describe("a server without the key of the certificate it shows", () => {
  it.each(["TLSv1.2", "TLSv1.3"] as const)("fails its handshake over %s", async (tls) => {
    const program = await buildGo(join(import.meta.dirname, "wrong-key-server"));
    const start = (name: string, key: string) =>
      workspace.start({
        ...{ name, command: [program, "-cert", certificate, "-key", key] },
        ready: (one) => /listening on \S+/.test(one.output()),
      });
    const seenOf = async (name: string, key: string) => {
      const server = await start(name, key);
      const address = /listening on (\S+)/.exec(server.output())![1]!;
      const context = createSecureContext({ ca: [], minVersion: tls, maxVersion: tls });
      const seen = await look({ address, serverName: "localhost", context }, AbortSignal.timeout(20_000));
      await server.stop();
      return seen;
    };
    expect((await seenOf(`right-key-${tls}`, privateKey)).trouble).toBeUndefined();
    const seen = await seenOf(`wrong-key-${tls}`, pki.nextServer.privateKey);
    expect(seen).toMatchObject({ chain: [], trouble: { at: "handshake", why: expect.stringMatching(/signature/) } });
  });
});
