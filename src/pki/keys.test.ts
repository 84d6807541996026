import { createPrivateKey, randomBytes } from "node:crypto";
import { inspect } from "node:util";
import { beforeAll, describe, expect, it } from "vitest";
import { NOW } from "../../test/judges/pki/estate.ts";
import { go, openssl, withFiles } from "../../test/judges/pki/judge.ts";
import { GyreError } from "../errors.ts";
import { integer, octetString, oid, sequence, tlv } from "./der.ts";
import { signSelfSigned } from "./issue.ts";
import {
  exportPkcs8,
  exportPrivateKey,
  generateKey,
  KEY_ALGORITHMS,
  keyMatches,
  type PrivateKey,
  readPrivateKey,
  requireMatch,
} from "./keys.ts";
import { toPem } from "./pem.ts";
import { Secret } from "./secret.ts";

function refusal(act: () => unknown): GyreError {
  try {
    act();
  } catch (error) {
    if (error instanceof GyreError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

const text = (secret: Secret): string => secret.use((bytes) => bytes.toString("utf8"));

let keys: ReadonlyMap<string, PrivateKey>;
const keyOf = (algorithm: string): PrivateKey => keys.get(algorithm)!;
beforeAll(async () => {
  keys = new Map(await Promise.all(KEY_ALGORITHMS.map(async (one) => [one, await generateKey(one)] as const)));
});

describe.each(KEY_ALGORITHMS)("%s", (algorithm) => {
  it("is what was asked for, and openssl and Go read it", () => {
    const key = keyOf(algorithm);
    expect(key.algorithm).toBe(algorithm);
    const pem = text(exportPrivateKey(key));
    expect(openssl(["pkey", "-noout", "-check"], pem).ok).toBe(true);
    expect(go([{ op: "key", pem }])).toEqual([{ spki: key.spki }]);
    expect(readPrivateKey(pem).spki).toBe(key.spki);
  });

  it("survives encryption, which openssl undoes", () => {
    const key = keyOf(algorithm);
    const pem = text(exportPrivateKey(key, Secret.of("correct horse é"), 1000));
    expect(pem).toContain("BEGIN ENCRYPTED PRIVATE KEY");
    expect(readPrivateKey(Secret.of(pem), Secret.of("correct horse é")).spki).toBe(key.spki);
    const public_ = openssl(["pkey", "-passin", "pass:correct horse é", "-pubout", "-outform", "DER"], pem);
    expect(public_.ok).toBe(true);
  });
});

describe("what other tools write", () => {
  const formats: readonly (readonly [string, string, readonly string[], string | undefined])[] = [
    ["SEC1 with EC PARAMETERS", "P-256", ["ecparam", "-name", "prime256v1", "-genkey"], undefined],
    ["SEC1 encrypted the legacy way", "P-256", ["ec", "-aes256", "-passout", "pass:secret"], "secret"],
    ["PKCS#1", "RSA-2048", ["rsa", "-traditional"], undefined],
    [
      "PKCS#1 encrypted the legacy way",
      "RSA-2048",
      ["rsa", "-traditional", "-aes128", "-passout", "pass:secret"],
      "secret",
    ],
    ["PKCS#1 encrypted with 3DES", "RSA-2048", ["rsa", "-traditional", "-des3", "-passout", "pass:secret"], "secret"],
    [
      "PBES2 with AES-128 and HMAC-SHA512",
      "P-384",
      ["pkcs8", "-topk8", "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512", "-passout", "pass:secret"],
      "secret",
    ],
    [
      "PBES2 with 3DES and HMAC-SHA1",
      "P-384",
      ["pkcs8", "-topk8", "-v2", "des3", "-v2prf", "hmacWithSHA1", "-passout", "pass:secret"],
      "secret",
    ],
    ["PKCS#12 3DES", "Ed25519", ["pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES", "-passout", "pass:secret"], "secret"],
  ];
  it.each(formats)("%s", (_, algorithm, args, passphrase) => {
    const made = openssl(args, text(exportPrivateKey(keyOf(algorithm))));
    expect(made.ok).toBe(true);
    expect(made.text).toContain("PRIVATE KEY-----");
    const key = readPrivateKey(made.text.replace(/^(read|writ).*\n/gm, ""), passphrase);
    expect(key.algorithm).toBe(algorithm);
    if (args[0] !== "ecparam") expect(key.spki).toBe(keyOf(algorithm).spki);
    if (passphrase !== undefined) {
      expect(refusal(() => readPrivateKey(made.text, "wrong")).message).toMatch(/wrong passphrase/);
      expect(refusal(() => readPrivateKey(made.text)).message).toMatch(/no passphrase was given/);
    }
  });

  it("Talos: PKCS#8 under the label ED25519 PRIVATE KEY; and the bare seed of others", () => {
    const key = keyOf("Ed25519");
    const der = exportPkcs8(key.keyObject);
    expect(readPrivateKey(toPem("ED25519 PRIVATE KEY", der)).spki).toBe(key.spki);
    expect(readPrivateKey(toPem("ED25519 PRIVATE KEY", der.subarray(-32))).spki).toBe(key.spki);
  });

  it("RFC 5958 version 2 with its public key", () => {
    const key = keyOf("Ed25519");
    const seed = exportPkcs8(key.keyObject).subarray(-32);
    const der = sequence(
      integer(1),
      sequence(oid("1.3.101.112")),
      octetString(octetString(seed)),
      tlv(0x81, Buffer.from([0]), key.spkiDer.subarray(-32)),
    );
    expect(readPrivateKey(toPem("PRIVATE KEY", der)).spki).toBe(key.spki);
  });

  it("a label that lies, and DER", () => {
    const key = keyOf("RSA-2048");
    const pkcs1 = key.keyObject.export({ type: "pkcs1", format: "der" });
    expect(readPrivateKey(toPem("PRIVATE KEY", pkcs1)).spki).toBe(key.spki);
    expect(readPrivateKey(pkcs1).spki).toBe(key.spki);
    expect(readPrivateKey(Secret.of(exportPkcs8(key.keyObject))).spki).toBe(key.spki);
  });

  it("P-521 and other sizes are read under their own names", () => {
    const pem = openssl(["ecparam", "-name", "secp521r1", "-genkey", "-noout"]).text;
    expect(readPrivateKey(pem).algorithm).toBe("P-521");
  });
});

describe("what is refused", () => {
  it("several keys, no key, keys of no use", () => {
    const pem = text(exportPrivateKey(keyOf("P-256")));
    expect(refusal(() => readPrivateKey(pem + pem, undefined, "tls.key")).message).toMatch(
      /2 private keys \(lines 1, 6\)/,
    );
    expect(refusal(() => readPrivateKey("nothing", undefined, "tls.key"))).toMatchObject({
      code: "input",
      where: "tls.key",
    });
    expect(refusal(() => readPrivateKey(toPem("OPENSSH PRIVATE KEY", Buffer.from("x")))).message).toContain(
      "ssh-keygen -p -m PKCS8",
    );
    for (const args of [
      ["genpkey", "-algorithm", "X25519"],
      ["ecparam", "-name", "secp256k1", "-genkey", "-noout"],
      ["genpkey", "-algorithm", "ed448"],
    ])
      expect(refusal(() => readPrivateKey(openssl(args).text)).message).toMatch(/cannot be used/);
  });

  it("rounds meant to hang the reader", () => {
    const kdf = sequence(oid("1.2.840.113549.1.5.12"), sequence(octetString(Buffer.alloc(8)), integer(2 ** 31)));
    const cipher = sequence(oid("2.16.840.1.101.3.4.1.42"), octetString(Buffer.alloc(16)));
    const der = sequence(sequence(oid("1.2.840.113549.1.5.13"), sequence(kdf, cipher)), octetString(Buffer.alloc(32)));
    expect(refusal(() => readPrivateKey(toPem("ENCRYPTED PRIVATE KEY", der), "x")).message).toMatch(
      /rounds of key derivation/,
    );
  });

  it("an encryption this room does not have, with the way out", () => {
    const scrypt = openssl(
      ["pkcs8", "-topk8", "-scrypt", "-passout", "pass:x"],
      text(exportPrivateKey(keyOf("P-256"))),
    ).text;
    expect(refusal(() => readPrivateKey(scrypt, "x"))).toMatchObject({
      code: "input",
      next: expect.stringContaining("openssl pkcs8 -topk8"),
    });
  });

  it("no passphrase to encrypt with", () => {
    expect(refusal(() => exportPrivateKey(keyOf("P-256"), "")).message).toMatch(/empty passphrase/);
  });

  it("says nothing of the key, whatever is wrong with it", () => {
    const pkcs8 = exportPkcs8(keyOf("RSA-2048").keyObject);
    for (const cut of [40, 400, pkcs8.length - 1]) {
      const error = refusal(() => readPrivateKey(toPem("PRIVATE KEY", pkcs8.subarray(0, cut))));
      const shown = inspect(error, { depth: 9 });
      for (let at = 0; at + 6 <= cut; at += 3) expect(shown).not.toContain(pkcs8.toString("base64", at, at + 6));
    }
  });
});

describe("does this key belong to this certificate?", () => {
  const fields = { subject: "CN=x", notBefore: NOW, notAfter: NOW + 1e9 };
  it.each(KEY_ALGORITHMS)("%s: its own yes, another no", async (algorithm) => {
    const key = keyOf(algorithm);
    const certificate = signSelfSigned(key, fields);
    expect(keyMatches(certificate, key)).toBe(true);
    for (const other of keys.values()) if (other !== key) expect(keyMatches(certificate, other)).toBe(false);
    const stranger = await generateKey("P-256");
    expect(refusal(() => requireMatch(certificate, stranger)).message).toContain(
      `the private key's is sha256:${stranger.spki}`,
    );
  });

  it("is not fooled by the right public half beside another private one", async () => {
    const right = keyOf("RSA-2048");
    const { n, e } = right.keyObject.export({ format: "jwk" });
    const other = (await generateKey("RSA-2048")).keyObject.export({ format: "jwk" });
    const keyObject = createPrivateKey({ key: { ...other, n: n!, e: e! }, format: "jwk" });
    const mixed: PrivateKey = { ...right, keyObject };
    expect(keyMatches(signSelfSigned(right, fields), mixed)).toBe(false);
  });
});

it("a passphrase of any bytes works both ways", () => {
  for (let i = 0; i < 8; i++) {
    const passphrase = Secret.of(randomBytes(12).toString("base64"));
    const pem = exportPrivateKey(keyOf("P-256"), passphrase, 1000);
    expect(readPrivateKey(pem, passphrase).spki).toBe(keyOf("P-256").spki);
    withFiles({ k: text(pem) }, (path) => {
      const args = ["pkey", "-in", path("k"), "-noout", "-passin", `pass:${passphrase.use((b) => b.toString())}`];
      expect(openssl(args).ok).toBe(true);
    });
  }
});

it("a key of another type is no match, and leaves nothing behind for the next key that is read", async () => {
  const [rsa, ec] = await Promise.all([generateKey("RSA-2048"), generateKey("P-256")]);
  const certificate = signSelfSigned(ec, { subject: "CN=ec", notBefore: 0, notAfter: 1e12 });
  const pem = exportPrivateKey(ec);
  expect(keyMatches(certificate, rsa)).toBe(false);
  expect(readPrivateKey(pem).spki).toBe(ec.spki);
  expect(keyMatches(certificate, ec)).toBe(true);
});
