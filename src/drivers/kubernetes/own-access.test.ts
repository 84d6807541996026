import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { signSelfSigned } from "../../pki/issue.ts";
import { exportPrivateKey, generateKey } from "../../pki/keys.ts";
import { testCa } from "../conformance/material.ts";
import { lookAtOwnAccess } from "./own-access.ts";

const dir = mkdtempSync(join(tmpdir(), "own-access-"));
afterAll(() => rmSync(dir, { recursive: true }));
const key = await generateKey("P-256");
const ends = Date.UTC(2027, 0, 1);
const leaf = signSelfSigned(key, { subject: "CN=gyre", names: [], usages: ["client"], notBefore: 0, notAfter: ends });
const ca = (await testCa()).root.pem;
const base64 = (text: string) => Buffer.from(text).toString("base64");

function kubeconfig(cluster: object, user: object): string {
  const path = join(dir, "config");
  const document = {
    ...{ apiVersion: "v1", kind: "Config", "current-context": "x" },
    clusters: [{ name: "c", cluster: { server: "https://10.0.0.1:6443", ...cluster } }],
    users: [{ name: "u", user }],
    contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
  };
  writeFileSync(path, JSON.stringify(document));
  return path;
}
const pair = {
  "client-certificate-data": base64(leaf.pem),
  "client-key-data": exportPrivateKey(key).use((bytes) => bytes.toString("base64")),
};
const look = (cluster: object, user: object = pair) =>
  lookAtOwnAccess({ uid: "u", kubeconfig: kubeconfig(cluster, user), apiServers: { serverName: "k" } }, "/");
const withCa = (pem: string) => ({ "certificate-authority-data": base64(pem) });

test("one that is right: who it is, where it leads, how long it lasts", async () => {
  expect(await look(withCa(ca))).toEqual({
    ...{ server: "10.0.0.1:6443", subject: "CN=gyre", ends, flaws: [], kubeconfig: join(dir, "config") },
  });
});

test("its client certificate as the CA is named as that; another leaf as what it is; no CA is the system's", async () => {
  expect((await look(withCa(leaf.pem))).flaws).toMatchObject([
    {
      what: expect.stringContaining(
        "certificate-authority of cluster c is the client certificate of user u itself (CN=gyre)",
      ),
    },
  ]);
  const other = signSelfSigned(key, {
    subject: "CN=other",
    names: [],
    usages: ["client"],
    notBefore: 0,
    notAfter: ends,
  });
  expect((await look(withCa(ca + other.pem))).flaws).toMatchObject([
    { what: expect.stringContaining("holds CN=other, which is no CA") },
  ]);
  expect((await look(withCa("nothing"))).flaws).toMatchObject([
    { what: expect.stringContaining("no certificate that can be read") },
  ]);
  expect((await look({})).flaws).toEqual([]);
  expect((await look({ "insecure-skip-tls-verify": true })).flaws).toHaveLength(1);
});

test("a token says when it ends, and is shown to nobody", async () => {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const token = `${part({ alg: "RS256" })}.${part({ exp: ends / 1000 })}.signature`;
  const seen = await look(withCa(ca), { token });
  expect(seen.ends).toBe(ends);
  expect(JSON.stringify(seen)).not.toContain(token.slice(0, 20));
  expect(await look(withCa(ca), { token: "opaque" })).not.toHaveProperty("ends");
});

test("a file that cannot be read is named", async () => {
  const settings = { uid: "u", kubeconfig: "gone", apiServers: { serverName: "k" } };
  await expect(lookAtOwnAccess(settings, dir)).rejects.toMatchObject({ where: join(dir, "gone") });
});
