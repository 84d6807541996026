import { expect, test } from "vitest";
import { buffers, fuzz, random as generator, INPUTS } from "../../test/fuzz/fuzz.ts";
import { GyreError } from "../errors.ts";
import { signCrl } from "../pki/crl.ts";
import { createCsr, csrPem } from "../pki/csr.ts";
import { prepareAuthority, signSelfSigned } from "../pki/issue.ts";
import { exportPrivateKey, generateKey } from "../pki/keys.ts";
import { writePkcs12 } from "../pki/pkcs12.ts";
import { itemsOf } from "./contents.ts";
import { judgeCertificate, judgeOther } from "./judge.ts";
import { looksLikeKubeconfig, readKubeconfig } from "./kubeconfig.ts";

// Files as they lie on disks, damaged at random. Reading and judging them tells something or a problem and never
// throws; kubeconfigs may be refused, with a GyreError.
const SEED = 42;
const now = Date.UTC(2026, 10, 24);

async function seeds(): Promise<Buffer[]> {
  const key = await generateKey("Ed25519");
  const root = signSelfSigned(key, {
    subject: "CN=root",
    isCa: true,
    names: ["DNS:a.example"],
    notBefore: now,
    notAfter: now + 1e9,
  });
  const authority = prepareAuthority(root, key);
  const crl = signCrl(authority, { number: 1, thisUpdate: now, nextUpdate: now + 1e9, entries: [] });
  const request = createCsr(key, { subject: "CN=a", names: ["DNS:a.example"] });
  const secret = exportPrivateKey(key).use((bytes) => bytes.toString("utf8"));
  const store = writePkcs12({ keys: [], trusted: [{ alias: "a", certificate: root }] }, "secret");
  const user = `client-certificate-data: ${Buffer.from(root.pem).toString("base64")}, client-key: a.key, token: x`;
  const config = `kind: Config\nclusters: [ { name: a, cluster: { certificate-authority: b } } ]\nusers: [ { name: &u b, user: { ${user} } } ]\n`;
  const texts = [root.pem, root.pem + root.pem, secret + root.pem, crl.pem, csrPem(request), config, config];
  return [...texts.map((text) => Buffer.from(text)), root.der, crl.der, request, store];
}

function mutate(seed: Buffer, random: (below: number) => number): Buffer {
  const bytes = Buffer.from(seed);
  for (let edits = 1 + random(3); edits > 0; edits--) bytes[random(bytes.length)] = random(256);
  const cut = random(8) === 0 ? random(bytes.length) : bytes.length;
  return random(10) === 0
    ? Buffer.concat([bytes.subarray(random(40)), bytes.subarray(0, cut)])
    : bytes.subarray(0, cut);
}

test(`${INPUTS} damaged files are told or refused, never thrown`, async () => {
  const random = generator(SEED);
  const pool = await seeds();
  const seen = { told: 0, problems: 0, configs: 0, refused: 0 };
  for (let round = 0; round < INPUTS; round++) {
    const bytes = mutate(pool[random(pool.length)]!, random);
    try {
      for (const item of itemsOf(bytes, "fuzz")) {
        const found =
          item.is === "certificate"
            ? judgeCertificate(item.where, item.certificate, { now, lint: true })
            : judgeOther(item, now, 0o600);
        JSON.stringify(found);
        if (found.what === "problem") seen.problems++;
        else seen.told++;
      }
      if (looksLikeKubeconfig(bytes)) config(bytes, seen);
    } catch (error) {
      throw new Error(`seed ${SEED}, round ${round} threw ${String(error)} on ${bytes.toString("base64")}`, {
        cause: error,
      });
    }
  }
  // The control: every way out was taken, many times.
  for (const count of Object.values(seen)) expect(count).toBeGreaterThan(INPUTS / 100);
});

function config(bytes: Buffer, seen: { configs: number; refused: number }): void {
  try {
    for (const { data } of readKubeconfig(bytes, "fuzz").carried) if (data) itemsOf(data, "fuzz");
    seen.configs++;
  } catch (error) {
    if (!(error instanceof GyreError)) throw error;
    seen.refused++;
  }
}

test("a damaged kubeconfig is read or refused, and what it carries stands in it", () => {
  const one = (kind: string, name: string, fields: string) => `- name: ${name}\n  ${kind}:\n    ${fields}\n`;
  const users = one(
    "user",
    "a",
    "client-certificate-data: TUlJQg==\n    client-key-data: TUlJQw==\n    token: hunter2",
  );
  const whole = `apiVersion: v1\nkind: Config\nclusters:\n${one("cluster", "c", "certificate-authority-data: TUlJQQ==")}users:\n${users}`;
  const flow = `{kind: Config, clusters: [{name: c, cluster: &x {certificate-authority: ca.pem, insecure-skip-tls-verify: true}}], users: [{name: a, user: {exec: {}, client-key: ./k}}, {name: *x}]}`;
  fuzz({
    seed: 43,
    inputs: buffers([
      whole,
      flow,
      JSON.stringify({ kind: "Config", clusters: [{ name: "c", cluster: {} }], users: [] }),
    ]),
    pieces: buffers([
      "\n",
      "  ",
      ": ",
      "- ",
      "{",
      "}",
      "[",
      "]",
      "&x ",
      "*x",
      "!t ",
      "|\n",
      "<<: ",
      "__proto__: ",
      "~",
      "==",
    ]),
    ends: ["read", "input"],
    read(input) {
      const { carried, tokens, problems } = readKubeconfig(input, "/a/fuzz");
      expect(JSON.stringify([tokens, problems])).not.toContain("hunter2");
      for (const { data, file, where } of carried) {
        expect(where.startsWith("/a/fuzz#")).toBe(true);
        expect((data === undefined) !== (file === undefined)).toBe(true);
      }
      return "read";
    },
  });
});
