import { createServer as createTcpServer, type Server, type Socket } from "node:net";
import { createServer, type TLSSocket, type TlsOptions } from "node:tls";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { anonymousContext, contextFor } from "./client-context.ts";
import { exchange } from "./exchange.ts";
import { type Dial, look } from "./handshake.ts";
import { fingerprintsOf } from "./presented-chain.ts";
import { bundleOf, type Leaf, listening, makeIntermediate, makeLeaf, makeRoot, type TestAuthority } from "./testing.ts";

let root: TestAuthority;
let issuing: TestAuthority;
let other: TestAuthority;
let server: Leaf;
let client: Leaf;
beforeAll(async () => {
  root = await makeRoot();
  other = await makeRoot("CN=other root");
  issuing = await makeIntermediate(root);
  server = await makeLeaf(issuing, "shop.example");
  client = await makeLeaf(other, "client", { usage: "client" });
});

const open: Server[] = [];
const sockets = new Set<Socket>();
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  await Promise.all(open.splice(0).map((one) => new Promise((resolve) => one.close(resolve))));
});
async function serve(listener: Server): Promise<string> {
  listener.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
  });
  open.push(listener);
  return listening(listener);
}
async function serveTls(
  options: TlsOptions,
  onSecure: (socket: TLSSocket) => void = (socket) => socket.resume(),
): Promise<string> {
  const listener = createServer(
    { cert: bundleOf(server.parsed, issuing.certificate), key: server.key, ...options },
    (socket) => {
      socket.on("error", () => {});
      onSecure(socket);
    },
  );
  listener.on("tlsClientError", () => {});
  return serve(listener);
}
const dial = (address: string, more: Partial<Dial> = {}): Dial => ({
  ...{ address, serverName: "shop.example", context: anonymousContext() },
  ...more,
});
const soon = () => AbortSignal.timeout(20_000);
const both = ["TLSv1.2", "TLSv1.3"] as const;

describe.each(both)("look over %s", (version) => {
  const only = { minVersion: version, maxVersion: version };

  it("captures the chain exactly as sent, leaf first, also what does not belong", async () => {
    const sent = [server.parsed, other.certificate, issuing.certificate, root.certificate];
    const seen = await look(dial(await serveTls({ ...only, cert: bundleOf(...sent) })), soon());
    expect(seen.trouble).toBeUndefined();
    expect(fingerprintsOf(seen.chain)).toEqual(sent.map((one) => one.fingerprint));
    expect(seen).toMatchObject({ protocol: version, resumed: false, remote: "127.0.0.1" });
    expect(seen.cipher).toMatch(/AES|CHACHA/);
  });

  it("shakes hands in full every time", async () => {
    const address = await serveTls(only);
    for (let n = 0; n < 3; n++) expect(await look(dial(address), soon())).toMatchObject({ resumed: false });
  });

  it("finishes its handshake: the server sees the client's Finished", async () => {
    let secured = 0;
    const address = await serveTls(only, (socket) => {
      secured++;
      socket.resume();
    });
    await look(dial(address), soon());
    await expect.poll(() => secured).toBe(1);
  });

  it("shows the client certificate although the server hints at other CAs", async () => {
    let shown: string | undefined;
    // `root` is what the server names in its CertificateRequest; the client's issuer is `other`.
    const address = await serveTls(
      { ...only, ca: root.certificate.pem, requestCert: true, rejectUnauthorized: false },
      (socket) => {
        shown = socket.getPeerX509Certificate()?.fingerprint256.replaceAll(":", "").toLowerCase();
        socket.end();
      },
    );
    await look(dial(address, { context: contextFor(client) }), soon());
    await expect.poll(() => shown).toBe(client.fingerprint);
  });

  it("has the chain of a server that demands a client certificate and then refuses us", async () => {
    const address = await serveTls({ ...only, ca: root.certificate.pem, requestCert: true, rejectUnauthorized: true });
    const seen = await look(dial(address, { early: true }), soon());
    expect(fingerprintsOf(seen.chain)).toEqual([server.fingerprint, issuing.certificate.fingerprint]);
    // The control: without taking it early, TLS 1.2 leaves nothing.
    const late = await look(dial(address), soon());
    expect(late.chain.length).toBe(version === "TLSv1.2" ? 0 : 2);
  });
});

describe("look at what is not there", () => {
  it("says refused, at connecting", async () => {
    const address = await serve(createTcpServer());
    await new Promise((resolve) => open.splice(0)[0]!.close(resolve));
    expect((await look(dial(address), soon())).trouble).toMatchObject({
      at: "connect",
      code: "ECONNREFUSED",
      abrupt: false,
    });
  });

  it("says that the name does not resolve", async () => {
    const seen = await look(dial("no-such-host.invalid:443"), soon());
    expect(seen.trouble).toMatchObject({ at: "connect", abrupt: false });
    expect(seen.trouble?.why).toMatch(/name/);
  });

  it("gives up on a server that never answers the handshake, and closes", async () => {
    const address = await serve(createTcpServer((socket) => socket.resume()));
    const seen = await look(dial(address, { limits: { handshake: 150 } }), soon());
    expect(seen.trouble).toMatchObject({
      at: "handshake",
      code: "handshake-timeout",
      why: expect.stringMatching(/within 150 ms/),
    });
    await expect.poll(() => sockets.size).toBe(0);
  });

  it("gives up on a reply that never comes", async () => {
    const address = await serveTls({});
    const asking = {
      request: { method: "GET", path: "/", expect: 200 },
      ...{ serverName: "shop.example", tag: "t.1", now: Date.now, hush: 0 },
    } as const;
    const { look: seen } = await exchange(dial(address, { limits: { reply: 150 } }), asking, soon());
    expect(seen.trouble).toMatchObject({
      at: "reply",
      code: "reply-timeout",
      why: expect.stringMatching(/within 150 ms/),
    });
    expect(seen.chain.length).toBe(2);
    await expect.poll(() => sockets.size).toBe(0);
  });

  it("calls a reset and an end without a word abrupt, and says that TLS was not spoken", async () => {
    const resets = await serve(createTcpServer((socket) => socket.once("data", () => socket.resetAndDestroy())));
    expect((await look(dial(resets), soon())).trouble).toMatchObject({
      at: "handshake",
      code: "ECONNRESET",
      abrupt: true,
    });
    const ends = await serve(createTcpServer((socket) => socket.once("data", () => socket.end())));
    expect((await look(dial(ends), soon())).trouble).toMatchObject({ at: "handshake", abrupt: true });
    const plain = await serve(
      createTcpServer((socket) => socket.once("data", () => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"))),
    );
    expect((await look(dial(plain), soon())).trouble).toMatchObject({ at: "handshake", abrupt: false });
  });

  it("stops when told to, before and during", async () => {
    const address = await serve(createTcpServer((socket) => socket.resume()));
    await expect(look(dial(address), AbortSignal.abort())).rejects.toMatchObject({
      code: "unreachable",
      retry: "later",
    });
    const stop = new AbortController();
    const stopped = look(dial(address), stop.signal);
    await expect.poll(() => sockets.size).toBe(1);
    stop.abort();
    await expect(stopped).rejects.toMatchObject({ code: "unreachable" });
    await expect.poll(() => sockets.size).toBe(0);
  });
});

describe("the client certificate", () => {
  it("is refused as input when the key is not its own, and the error holds no key", async () => {
    const fresh = await makeLeaf(root, "fresh", { usage: "client" });
    let error: unknown;
    try {
      contextFor({ ...fresh, privateKey: client.privateKey });
    } catch (caught) {
      error = caught;
    }
    expect(error).toMatchObject({ code: "input" });
    expect(String((error as Error).stack) + JSON.stringify(error)).not.toContain(client.key.split("\n")[1]);
    // The control: with its own key it is taken.
    expect(contextFor(fresh)).toBeDefined();
  });
});
