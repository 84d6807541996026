import { hash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { signCertificate } from "../../pki/issue.ts";
import { exportPrivateKey, generateKey } from "../../pki/keys.ts";
import { testCa, testMaterial, testStep } from "../conformance/material.ts";
import type { ProbeResult } from "../roles.ts";
import { FakeCluster } from "./fake-cluster.ts";
import { createKubeconfigPresenter } from "./kubeconfig-presenter.ts";

const ca = await testCa();
const stranger = await testCa("stranger");
const mine = await testMaterial(ca, "robot");
const cluster = new FakeCluster(ca.root.pem);
const home = mkdtempSync(join(tmpdir(), "gyre-presenter-"));

/** What the next requests are answered, by path; the fingerprint is that of the certificate that was really shown. */
type Answers = Readonly<Record<"review" | "identity", (fingerprint: string | undefined) => [number, object]>>;
const named = (id: string | undefined, username = "robot"): [number, object] => [
  201,
  {
    status: {
      userInfo: {
        username,
        ...(id === undefined ? {} : { extra: { "authentication.kubernetes.io/credential-id": [id] } }),
      },
    },
  },
];
const usual: Answers = {
  review: (fingerprint) =>
    fingerprint === undefined ? named(undefined, "system:anonymous") : named(`X509SHA256=${fingerprint}`),
  identity: () => [200, { metadata: { name: "kube-system", uid: cluster.uid } }],
};
let answers: Answers = usual;
let agents: string[] = [];
let server: Server;
let port: number;

beforeAll(async () => {
  const key = await generateKey("P-256");
  const validity = { notBefore: Date.now() - 1000, notAfter: Date.now() + 3_600_000 };
  const leaf = signCertificate(ca.authority, {
    spkiDer: key.spkiDer,
    subject: "CN=api",
    names: ["IP:127.0.0.1"],
    usages: ["server"],
    ...validity,
  });
  server = createServer(
    {
      cert: leaf.pem + ca.authority.certificate.pem,
      key: exportPrivateKey(key).use((bytes) => bytes.toString()),
      requestCert: true,
      rejectUnauthorized: false,
    },
    (request, response) => {
      const { raw } = (request.socket as TLSSocket).getPeerCertificate();
      const fingerprint = raw === undefined ? undefined : hash("sha256", raw, "hex");
      agents.push(String(request.headers["user-agent"]));
      const [status, body] = answers[request.method === "POST" ? "review" : "identity"](fingerprint);
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    },
  );
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  port = (server.address() as AddressInfo).port;
});
afterAll(() => {
  server.close();
  rmSync(home, { recursive: true, force: true });
});
afterEach(() => {
  answers = usual;
  agents = [];
});

const b64 = (text: string) => Buffer.from(text).toString("base64");
const keyText = mine.privateKey!.use((bytes) => bytes.toString());
interface Document {
  readonly roots?: string;
  readonly host?: string;
  readonly user?: object;
}
const pair = { "client-certificate-data": b64(mine.certificate + mine.chain), "client-key-data": b64(keyText) };

async function probe({
  roots = ca.root.pem,
  host = `127.0.0.1:${port}`,
  user = pair,
}: Document = {}): Promise<ProbeResult> {
  const file = join(home, "config");
  const document = {
    ...{ apiVersion: "v1", kind: "Config", "current-context": "here" },
    clusters: [{ name: "here", cluster: { server: `https://${host}`, "certificate-authority-data": b64(roots) } }],
    users: [{ name: "robot", user }],
    contexts: [{ name: "here", context: { cluster: "here", user: "robot" } }],
  };
  writeFileSync(file, JSON.stringify(document));
  const presenter = createKubeconfigPresenter({ file, cluster: "prod" }, { baseDir: home, cluster: () => cluster });
  const [member] = await presenter.members();
  return presenter.probe(member!, "", testStep());
}

it("says which certificate the API server saw, and marks its request", async () => {
  expect(await probe()).toMatchObject({ saw: "presented", chain: [mine.leaf.fingerprint], detail: { user: "robot" } });
  expect((await probe()) as { problem?: string }).not.toHaveProperty("problem");
  expect(new Set(agents)).toEqual(new Set(["gyre-probe/test.1"]));
});

it("takes pair and CA from files beside it", async () => {
  writeFileSync(join(home, "robot.crt"), mine.certificate);
  writeFileSync(join(home, "robot.key"), keyText);
  const user = { "client-certificate": "robot.crt", "client-key": "robot.key" };
  expect(await probe({ user })).toMatchObject({ saw: "presented", chain: [mine.leaf.fingerprint] });
});

it("says of another certificate that it is another", async () => {
  answers = { ...usual, review: () => named(`X509SHA256=${"ab".repeat(32)}`) };
  expect(await probe()).toMatchObject({ saw: "presented", chain: ["ab".repeat(32)] });
});

const notYes: [string, Partial<Answers>, object][] = [
  ["401", { review: () => [401, { message: "Unauthorized" }] }, { saw: "refused", code: "401" }],
  [
    "anonymous",
    { review: () => named(undefined, "system:anonymous") },
    { saw: "unknown", why: expect.stringContaining("it saw no certificate") },
  ],
  [
    "a name without a credential",
    { review: () => named(undefined) },
    { saw: "unknown", why: expect.stringContaining("does not say by which certificate") },
  ],
  [
    "a token's id",
    { review: () => named("JTI=7") },
    { saw: "unknown", why: expect.stringContaining("by which certificate") },
  ],
  ["200 without a word", { review: () => [200, {}] }, { saw: "unknown", why: "its answer names no user" }],
  [
    "403",
    { review: () => [403, { message: "no reviews here" }] },
    { saw: "unknown", why: expect.stringContaining("403: no reviews here") },
  ],
  ["503", { review: () => [503, {}] }, { saw: "unknown", why: expect.stringContaining("503") }],
  [
    "another cluster",
    { identity: () => [200, { metadata: { uid: "f".repeat(8) } }] },
    { saw: "unknown", why: expect.stringContaining("is another cluster than prod") },
  ],
  [
    "nobody may ask which cluster",
    { identity: () => [403, { message: "forbidden" }] },
    { saw: "unknown", why: expect.stringContaining("nobody could say which cluster it is") },
  ],
];
it.each(notYes)("is no yes: %s", async (_, change, expected) => {
  answers = { ...usual, ...change };
  expect(await probe()).toMatchObject(expected);
});

it("asks in its user's stead which cluster it is, where the user may not", async () => {
  let asked = 0;
  answers = { ...usual, identity: () => (asked++ === 0 ? [403, {}] : usual.identity(undefined)) };
  expect(await probe()).toMatchObject({ saw: "presented", chain: [mine.leaf.fingerprint] });
  expect(asked).toBe(2);
});

it("a CA that does not fit the server lets nobody in, and is told as that", async () => {
  const seen = await probe({ roots: stranger.root.pem });
  expect(seen).toMatchObject({
    saw: "presented",
    chain: [mine.leaf.fingerprint],
    problem: expect.stringContaining("its CA does not fit the server"),
  });
  expect(await probe({ host: `localhost:${port}` })).toMatchObject({
    problem: expect.stringContaining("does not fit"),
  });
  expect(agents).toEqual([]);
});

const documents: [string, Document, RegExp][] = [
  ["a plugin's user", { user: { exec: { command: "/bin/false" } } }, /authenticates by exec/],
  ["a certificate with a token beside it", { user: { ...pair, token: "hunter2" } }, /authenticates by token/],
  ["a user with nothing", { user: {} }, /has no certificate with its key/],
  [
    "a certificate without its key",
    { user: { "client-certificate-data": pair["client-certificate-data"] } },
    /no certificate with its key/,
  ],
  ["nobody there", { host: "127.0.0.1:1" }, /connection refused/],
];
it.each(documents)("is unknown: %s", async (_, document, why) => {
  expect(await probe(document)).toMatchObject({ saw: "unknown", why: expect.stringMatching(why) });
});

it("is one member before there is a document, and that is unknown", async () => {
  const presenter = createKubeconfigPresenter(
    { file: "none", cluster: "prod" },
    { baseDir: home, cluster: () => cluster },
  );
  const members = await presenter.members();
  expect(members).toEqual([{ id: `kubeconfig ${join(home, "none")}`, address: join(home, "none") }]);
  expect(await presenter.probe(members[0]!, "", testStep())).toMatchObject({ saw: "unknown" });
});
