import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer, type TLSSocket, type TlsOptions } from "node:tls";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { ProbeResult } from "../roles.ts";
import { type VerifierSettings, verifierSettings } from "./settings.ts";
import {
  bundleOf,
  type Leaf,
  listening,
  makeIntermediate,
  makeLeaf,
  makeRoot,
  memberAt,
  step,
  type TestAuthority,
} from "./testing.ts";
import { createTlsVerifier } from "./verifier.ts";

let root: TestAuthority;
let issuing: TestAuthority;
let server: Leaf;
let client: Leaf;
let foreign: Leaf;
const dir = mkdtempSync(join(tmpdir(), "gyre-verifier-"));
const file = (name: string, text: string) => {
  writeFileSync(join(dir, name), text);
  return join(dir, name);
};
beforeAll(async () => {
  root = await makeRoot();
  issuing = await makeIntermediate(root);
  server = await makeLeaf(issuing, "shop.example");
  client = await makeLeaf(issuing, "client", { usage: "client" });
  foreign = await makeLeaf(await makeRoot("CN=other root"), "client", { usage: "client" });
  file("roots.pem", root.certificate.pem);
  file("other.pem", (await makeRoot("CN=nobody")).certificate.pem);
});
const open: Server[] = [];
const children: ChildProcess[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.close();
  for (const one of children.splice(0)) one.kill("SIGKILL");
});
afterAll(() => rmSync(dir, { recursive: true }));

/** Whom a request came from, as the server verified it. */
interface Seen {
  readonly who: "client" | "stranger" | "nobody";
  readonly serial: string;
  readonly request: string;
  readonly resumed: boolean;
  readonly socket: TLSSocket;
}
const page = (title: string, status = "400 Bad Request") => {
  const body = `<html><head><title>${title}</title></head></html>`;
  return `HTTP/1.1 ${status}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
};
const ok = (...headers: string[]) =>
  `HTTP/1.1 200 OK\r\n${headers.map((one) => `${one}\r\n`).join("")}Content-Length: 2\r\n\r\nok`;
const certificateError = page("400 The SSL certificate error");
const noCertificate = page("400 No required SSL certificate was sent");
/** nginx's manners: 200 for its client, its two pages for everybody else. */
const likeNginx = ({ who }: Seen) => (who === "client" ? ok() : who === "nobody" ? noCertificate : certificateError);

/** A TLS server that looks at the client certificate and answers each request by `answer`; undefined: it says nothing. */
async function serve(answer: (seen: Seen) => string | undefined, options: TlsOptions = {}) {
  const requests: Seen[] = [];
  const listener = createServer(
    {
      ...{ cert: bundleOf(server.parsed, issuing.certificate), key: server.key, ca: root.certificate.pem },
      ...{ requestCert: true, rejectUnauthorized: false, ...options },
    },
    (socket) => {
      socket.on("error", () => {});
      socket.on("data", (chunk) => {
        const shown = socket.getPeerCertificate();
        const serial = (shown as { serialNumber?: string }).serialNumber ?? "";
        const who = serial === "" ? "nobody" : socket.authorized ? "client" : "stranger";
        const seen = { who, serial, request: chunk.toString(), resumed: socket.isSessionReused(), socket } as const;
        requests.push(seen);
        const text = answer(seen);
        if (text !== undefined) socket.end(text);
      });
    },
  );
  listener.on("tlsClientError", () => {});
  open.push(listener);
  return { address: await listening(listener), requests };
}

interface More {
  readonly request?: object | "none";
  readonly server?: VerifierSettings["server"];
  readonly roots?: string;
}
function verifierAt(address: string, more: More = {}) {
  const settings = verifierSettings.parse({
    addresses: [address],
    serverName: "shop.example",
    server: "nginx",
    ...more,
  });
  return createTlsVerifier(settings, { baseDir: dir, limits: { reply: 1_000 } });
}
const probe = (address: string, more: More = {}, credential = client, tag?: string): Promise<ProbeResult> =>
  verifierAt(address, more).probe(memberAt(address), credential, step(tag));
const named = { request: { identityHeader: "X-Client-Serial" } };

describe("accepted", () => {
  it("needs the credential to be named by the header", async () => {
    const { address } = await serve(({ serial }) =>
      ok(`X-Client-Serial: ${serial}`, `Date: ${new Date(Date.now() + 600_000).toUTCString()}`),
    );
    const result = await probe(address, named);
    expect(result).toMatchObject({
      saw: "accepted",
      detail: { status: 200, protocol: "TLSv1.3", basis: "X-Client-Serial", resumed: false },
    });
    expect(result.saw === "accepted" && result.as.toLowerCase().replace(/^0+/, "")).toBe(client.serial);
    expect(Math.abs(Number(result.detail?.clockDifference) - 600_000)).toBeLessThan(5_000);
  });

  it("or both controls to be refused", async () => {
    const { address, requests } = await serve(likeNginx);
    expect(await probe(address)).toMatchObject({
      saw: "accepted",
      as: `serial ${client.serial}`,
      detail: { basis: "controls" },
    });
    expect(requests.map((one) => one.who)).toEqual(["client", "nobody", "stranger"]);
  });

  it("asks the controls once in a round, and again in the next", async () => {
    const { address, requests } = await serve(likeNginx);
    const verifier = verifierAt(address);
    const round = (tag: string) => verifier.probe(memberAt(address), client, step(tag));
    for (const tag of ["r.1", "r.1", "r.2"]) expect(await round(tag)).toMatchObject({ saw: "accepted" });
    expect(requests.filter((one) => one.who === "nobody")).toHaveLength(2);
    expect(requests.filter((one) => one.who === "client")).toHaveLength(3);
  });

  it("sends its tag, the Host and the path, and asks to close", async () => {
    const { address, requests } = await serve(likeNginx);
    await probe(address, { request: { path: "/healthz", host: "inner.example", method: "GET" } }, client, "shop.7.abc");
    for (const { request } of requests) {
      expect(request).toMatch(/^GET \/healthz HTTP\/1\.1\r\n/);
      expect(request).toMatch(/\r\nHost: inner\.example\r\n/);
      expect(request).toMatch(/\r\nUser-Agent: gyre-probe\/shop\.7\.abc\r\n/);
      expect(request).toMatch(/\r\nConnection: close\r\n/);
    }
  });
});

describe("unknown", () => {
  it.each([
    ["a 200 for everybody", () => ok(), /without a certificate is not refused \(answered 200\)/],
    [
      "a 200 for every certificate",
      ({ who }: Seen) => (who === "nobody" ? noCertificate : ok()),
      /stranger's certificate.*not refused \(answered 200\)/,
    ],
    [
      "a 403 for those without",
      ({ who }: Seen) => (who === "client" ? ok() : page("x", "403 Forbidden")),
      /not refused \(answered 403\)/,
    ],
    ["a 403", () => page("x", "403 Forbidden"), /answered 403/],
    ["a 502", () => page("x", "502 Bad Gateway"), /answered 502/],
    ["a 400 of another kind", () => page("400 Bad Request"), /answered 400/],
    ["nginx's page under another status", () => page("400 The SSL certificate error", "403 Forbidden"), /answered 403/],
    ["a page that no certificate was sent", () => noCertificate, /though one was sent/],
    ["a cut reply", () => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", /middle of the reply body/],
    ["another protocol", () => "220 mail ready\r\n", /not HTTP/],
    ["silence", () => undefined, /no complete reply within 1000 ms/],
    ["a redirect", () => ok().replace("200 OK", "302 Found"), /answered 302/],
  ])("is %s", async (_, answer, why) => {
    const { address } = await serve(answer);
    expect(await probe(address)).toMatchObject({ saw: "unknown", why: expect.stringMatching(why) });
  });

  it("is a header that names somebody else, or nobody over a 200 for everybody", async () => {
    const other = await serve(() => ok(`X-Client-Serial: ${foreign.serial}`));
    expect(await probe(other.address, named)).toMatchObject({
      saw: "unknown",
      why: expect.stringMatching(/another identity/),
    });
    const nobody = await serve(() => ok("X-Client-Serial: "));
    expect(await probe(nobody.address, named)).toMatchObject({
      saw: "unknown",
      why: expect.stringMatching(/names nobody/),
    });
    const absent = await serve(() => ok());
    expect(await probe(absent.address, named)).toMatchObject({
      saw: "unknown",
      why: expect.stringMatching(/has no X-Client-Serial/),
    });
  });

  it("is a reset, after three tries that listen before they speak", async () => {
    const { address, requests } = await serve(({ socket }) => void socket.destroy());
    expect(await probe(address)).toMatchObject({ saw: "unknown" });
    expect(requests).toHaveLength(3);
  });

  it("is not one reset: the next try counts", async () => {
    let first = true;
    const { address } = await serve((seen) => {
      if (!first) return likeNginx(seen);
      first = false;
      seen.socket.destroy();
      return undefined;
    });
    expect(await probe(address)).toMatchObject({ saw: "accepted" });
  });

  it("is whatever a server says that is not the right one", async () => {
    for (const answer of [likeNginx, () => certificateError]) {
      const { address } = await serve(answer);
      expect(await probe(address, { roots: "other.pem" })).toMatchObject({
        saw: "unknown",
        why: expect.stringMatching(/server itself/),
      });
      expect((await probe(address, { roots: "roots.pem" })).saw).not.toBe("unknown");
    }
  });
});

describe("refused", () => {
  it("is nginx's page, and only where nginx answers", async () => {
    const { address } = await serve(() => certificateError);
    expect(await probe(address)).toMatchObject({
      saw: "refused",
      code: "nginx_certificate_error",
      detail: { status: 400 },
    });
    expect(await probe(address, { server: "haproxy" })).toMatchObject({ saw: "unknown" });
    expect(await probe(address, { server: "tls" })).toMatchObject({ saw: "unknown" });
  });

  it.each(["-tls1_2", "-tls1_3"])("is the alert of an OpenSSL server (%s)", async (version) => {
    const address = await startOpenssl(version);
    expect(await probe(address, { server: "tls" })).toMatchObject({ saw: "accepted", detail: { basis: "controls" } });
    const refused = { saw: "refused", code: "unknown_ca", detail: { alert: "unknown_ca" } };
    expect(await probe(address, { server: "tls", roots: "roots.pem" }, foreign)).toMatchObject(refused);
    // The same alert is nothing nginx is known to send.
    expect(await probe(address, { server: "nginx" }, foreign)).toMatchObject({ saw: "unknown" });
  });
});

async function startOpenssl(version: string): Promise<string> {
  const paths = [
    ...["-cert", file("server.pem", server.certificate), "-cert_chain", file("chain.pem", issuing.certificate.pem)],
    ...["-key", file("server.key", server.key), "-CAfile", file("roots.pem", root.certificate.pem)],
  ];
  const child = spawn("openssl", [
    ...["s_server", "-accept", "127.0.0.1:0", "-www", "-Verify", "4", "-verify_return_error", version, ...paths],
  ]);
  children.push(child);
  return new Promise((resolve, reject) => {
    let out = "";
    child.stdout.on("data", (chunk) => {
      out += chunk;
      const port = /ACCEPT \S+:(\d+)/.exec(out)?.[1];
      if (port !== undefined) resolve(`127.0.0.1:${port}`);
    });
    child.once("exit", () => reject(new Error(`s_server ended: ${out}`)));
  });
}

describe("without a request", () => {
  const silent = { request: "none", server: "tls" } as const;
  /** Speaks (or not) when the handshake is done. */
  async function greet(onSecure: (socket: TLSSocket) => void) {
    const listener = createServer(
      {
        ...{ cert: bundleOf(server.parsed, issuing.certificate), key: server.key, ca: root.certificate.pem },
        ...{ requestCert: true, rejectUnauthorized: false },
      },
      (socket) => {
        socket.on("error", () => {});
        onSecure(socket);
      },
    );
    listener.on("tlsClientError", () => {});
    open.push(listener);
    return listening(listener);
  }

  it("a word from the server is unknown as long as everybody gets it", async () => {
    const address = await greet((socket) => socket.end("220 ready\r\n"));
    expect(await probe(address, silent)).toMatchObject({
      saw: "unknown",
      why: expect.stringMatching(/not refused \(spoke\)/),
    });
  });
  it("a close without a word is unknown, and an unasked one is no acceptance", async () => {
    const address = await greet((socket) => socket.end());
    expect(await probe(address, silent)).toMatchObject({
      saw: "unknown",
      why: expect.stringMatching(/without a word/),
    });
  });
  it("a server that waits for us, and follows when we close, let us in; strangers get its alert", async () => {
    const address = await startOpenssl("-tls1_3");
    expect(await probe(address, silent)).toMatchObject({
      saw: "accepted",
      detail: { word: "closed after us", basis: "controls" },
    });
    expect(await probe(address, silent, foreign)).toMatchObject({ saw: "refused", code: "unknown_ca" });
  });
});

describe.each(["TLSv1.2", "TLSv1.3"] as const)("a session over %s", (version) => {
  const only = { minVersion: version, maxVersion: version };

  it("is honoured as long as the server honours it", async () => {
    let revoked = false;
    const { address, requests } = await serve((seen) => (revoked ? certificateError : likeNginx(seen)), only);
    const verifier = verifierAt(address);
    const session = await verifier.session!(memberAt(address), client, step());
    expect(session?.length).toBeGreaterThan(50);
    const resume = () => verifier.resume!(memberAt(address), session!, client, step("t.2"));
    expect(await resume()).toMatchObject({ saw: "accepted", detail: { resumed: true } });
    expect(requests.filter((one) => one.who === "client").at(-1)?.resumed).toBe(true);
    revoked = true;
    expect(await resume()).toMatchObject({ saw: "refused", detail: { resumed: true } });
  });

  it("that the server forgot is judged by the full handshake that follows", async () => {
    const first = await serve(likeNginx, only);
    const session = await verifierAt(first.address).session!(memberAt(first.address), client, step());
    const after = await serve(() => certificateError, only);
    const gone = verifierAt(after.address).resume!(memberAt(after.address), session!, client, step());
    expect(await gone).toMatchObject({ saw: "refused", detail: { resumed: false } });
  });

  it("is not opened with a refused credential, and fails loudly where nothing answers", async () => {
    const { address } = await serve(() => certificateError, only);
    expect(await verifierAt(address).session!(memberAt(address), client, step())).toBeUndefined();
    const broken = await serve(() => page("x", "503 Service Unavailable"), only);
    const opened = verifierAt(broken.address).session!(memberAt(broken.address), client, step());
    await expect(opened).rejects.toMatchObject({ code: "unreachable", retry: "later" });
  });
});
