import { readFileSync as readFile } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { type Estate, leafOf, makeEstate, NOW } from "../../test/judges/pki/estate.ts";
import { keytool, openssl, withFiles } from "../../test/judges/pki/judge.ts";
import { GyreError } from "../errors.ts";
import { readJks, writeJks } from "./jks.ts";
import type { KeyStore } from "./key-store.ts";
import { exportPrivateKey } from "./keys.ts";
import { readPkcs12, writePkcs12 } from "./pkcs12.ts";
import { Secret } from "./secret.ts";

let estate: Estate;
beforeAll(async () => {
  estate = await makeEstate();
});

const PASS = "changeit-ü";
const colons = (hex: string): string => hex.toUpperCase().match(/../g)!.join(":");

function refusal(act: () => unknown): GyreError {
  try {
    act();
  } catch (error) {
    if (error instanceof GyreError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

const keyStore = (mine: Estate = estate): KeyStore => ({
  keys: [{ alias: "shop", key: mine.leafKey, chain: [mine.leaf, mine.middle.certificate, mine.root.certificate] }],
  trusted: [],
});
const trustStore = (): KeyStore => ({
  keys: [],
  trusted: [
    { alias: "old-root", certificate: estate.root.certificate },
    { alias: "new-root", certificate: estate.middle.certificate },
  ],
});

/** What matters of a store, to compare two. */
const summary = (store: KeyStore) => ({
  keys: store.keys.map((one) => [one.alias, one.key.spki, one.chain.map((c) => c.fingerprint)]),
  trusted: store.trusted.map((one) => [one.alias, one.certificate.fingerprint]).sort(),
});

const FORMATS = [
  ["PKCS12", (store: KeyStore, pass: string | Secret) => writePkcs12(store, pass), readPkcs12],
  ["JKS", (store: KeyStore, pass: string | Secret) => writeJks(store, pass, NOW), readJks],
] as const;

describe.each(FORMATS)("%s", (type, write, read) => {
  it.each(["P-256", "P-384", "Ed25519", "RSA-2048"] as const)(
    "a key store with a %s key: Java lists it, opens the key, and we read it back",
    async (algorithm) => {
      const mine = await makeEstate(algorithm);
      const store = keyStore(mine);
      const bytes = write(store, "changeit");
      expect(summary(read(bytes, "changeit"))).toEqual(summary(store));
      withFiles({ s: bytes }, (path) => {
        const listed = keytool(["-list", "-v", "-keystore", path("s"), "-storepass", "changeit"]).text;
        expect(listed).toContain(`Keystore type: ${type}`);
        expect(listed).toContain("Certificate chain length: 3");
        expect(listed).toContain(`SHA256: ${colons(mine.leaf.fingerprint)}`);
        const csr = keytool(["-certreq", "-keystore", path("s"), "-storepass", "changeit", "-alias", "shop"]);
        expect(csr.text).toContain("BEGIN NEW CERTIFICATE REQUEST"); // the private key was opened and used
      });
    },
  );

  it("a trust store: Java trusts what is in it", () => {
    const bytes = write(trustStore(), Secret.of("changeit"));
    expect(summary(read(bytes, "changeit"))).toEqual(summary(trustStore()));
    withFiles({ s: bytes }, (path) => {
      const listed = keytool(["-list", "-keystore", path("s"), "-storepass", "changeit"]).text;
      expect(listed.match(/trustedCertEntry/g)?.length).toBe(2);
      expect(listed).toContain(colons(estate.root.certificate.fingerprint));
    });
  });

  it("both at once, and a passphrase that is not ASCII", () => {
    const store: KeyStore = { keys: keyStore().keys, trusted: trustStore().trusted.slice(1) };
    expect(summary(read(write(store, PASS), PASS))).toEqual(summary(store));
  });

  it("two keys, each with its own certificate", () => {
    const [shop] = keyStore().keys;
    const middle = {
      alias: "middle",
      key: estate.middleKey,
      chain: [estate.middle.certificate, estate.root.certificate],
    };
    for (const keys of [
      [shop!, middle],
      [middle, shop!],
    ]) {
      const store: KeyStore = { keys, trusted: [] };
      const bytes = write(store, "changeit");
      expect(summary(read(bytes, "changeit"))).toEqual(summary(store));
      withFiles({ s: bytes }, (path) => {
        const listed = keytool(["-list", "-keystore", path("s"), "-storepass", "changeit"]).text;
        expect(listed.match(/PrivateKeyEntry/g)?.length).toBe(2);
      });
    }
  });

  it("a wrong passphrase is a wrong passphrase to us and to Java", () => {
    const bytes = write(keyStore(), "changeit");
    expect(refusal(() => read(bytes, "changeme"))).toMatchObject({
      code: "input",
      message: expect.stringMatching(/wrong passphrase/),
    });
    withFiles({ s: bytes }, (path) => {
      expect(keytool(["-list", "-keystore", path("s"), "-storepass", "changeme"]).text).toMatch(
        /password was incorrect/,
      );
    });
  });

  it("every flipped byte is found", () => {
    const bytes = write(trustStore(), "changeit");
    const before = JSON.stringify(summary(trustStore()));
    for (let at = 0; at < bytes.length; at += 7) {
      const bad = Buffer.from(bytes);
      bad[at]! ^= 0x10;
      try {
        expect(JSON.stringify(summary(read(bad, "changeit")))).toBe(before);
      } catch (error) {
        expect(error).toBeInstanceOf(GyreError);
      }
    }
  });

  it.each([
    ["an alias twice, in another case", { keys: [], trusted: ["a", "A"] }, /occurs twice/],
    ["an empty alias", { keys: [], trusted: [""] }, /alias/],
    ["an alias that is not ASCII", { keys: [], trusted: ["ä"] }, /ASCII/],
  ])("refuses %s", (_, { trusted }, message) => {
    const store = { keys: [], trusted: trusted.map((alias) => ({ alias, certificate: estate.root.certificate })) };
    expect(refusal(() => write(store, "changeit")).message).toMatch(message);
  });

  it("refuses a key beside another one's certificate, and a chain that is none", () => {
    const [entry] = keyStore().keys;
    const other = [{ ...entry!, key: estate.middleKey }];
    expect(refusal(() => write({ keys: other, trusted: [] }, "changeit")).message).toMatch(
      /private key is not the one/,
    );
    const gap = [{ ...entry!, chain: [estate.leaf, estate.root.certificate] }];
    expect(refusal(() => write({ keys: gap, trusted: [] }, "changeit")).message).toMatch(/is not the issuer/);
    expect(refusal(() => write({ keys: [{ ...entry!, chain: [] }], trusted: [] }, "changeit")).message).toMatch(
      /no certificate/,
    );
  });

  it("holds no private key in the clear", () => {
    const bytes = write(keyStore(), "changeit");
    const pkcs8 = estate.leafKey.keyObject.export({ type: "pkcs8", format: "der" });
    expect(bytes.includes(pkcs8.subarray(36, 68))).toBe(false);
  });
});

describe("PKCS#12 and openssl", () => {
  it("reads ours, with the key, and verifies the MAC", () => {
    const bytes = writePkcs12(keyStore(), PASS);
    withFiles({ s: bytes }, (path) => {
      const said = openssl(["pkcs12", "-in", path("s"), "-passin", `pass:${PASS}`, "-noenc", "-info"]);
      expect(said.ok).toBe(true);
      expect(said.text).toMatch(/PBES2, PBKDF2, AES-256-CBC/);
      expect(said.text.match(/BEGIN CERTIFICATE/g)?.length).toBe(3);
      expect(said.text).toContain("BEGIN PRIVATE KEY");
      expect(openssl(["pkcs12", "-in", path("s"), "-passin", "pass:x", "-noenc"]).text).toMatch(/invalid password/i);
    });
  });

  const pem = (): string =>
    exportPrivateKey(estate.leafKey).use((bytes) => bytes.toString()) +
    estate.leaf.pem +
    estate.middle.certificate.pem +
    estate.root.certificate.pem;

  it.each([
    ["as it does by default", []],
    ["with 3DES and a SHA-1 MAC", ["-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"]],
    ["with certificates in the clear", ["-certpbe", "NONE"]],
    ["with everything in the clear", ["-certpbe", "NONE", "-keypbe", "NONE"]],
    ["without a MAC", ["-nomac"]],
    ["with a SHA-512 MAC", ["-macalg", "sha512"]],
  ])("writes them %s, and we read them", (_, args) => {
    const made = withFiles({ in: pem() }, (path) => {
      const all = [
        "pkcs12",
        "-export",
        "-in",
        path("in"),
        "-name",
        "shop",
        "-passout",
        "pass:secret",
        ...args,
        "-out",
        path("out"),
      ];
      expect(openssl(all).ok).toBe(true);
      return readFile(path("out"));
    });
    expect(summary(readPkcs12(made, "secret")).keys).toEqual(summary(keyStore()).keys);
    if (args[0] !== "-nomac") expect(refusal(() => readPkcs12(made, "wrong")).message).toMatch(/wrong passphrase/);
  });

  it("a friendly name that is half a character is malformed, not a crash", () => {
    const made = withFiles({ in: pem() }, (path) => {
      const args = ["-certpbe", "NONE", "-keypbe", "NONE", "-nomac", "-name", "shop", "-passout", "pass:"];
      openssl(["pkcs12", "-export", "-in", path("in"), ...args, "-out", path("out")]);
      return readFile(path("out"));
    });
    expect(readPkcs12(made, "").keys[0]?.alias).toBe("shop");
    // The four characters become two and a half, and an element of another type fills the gap.
    const at = made.indexOf(Buffer.from("1e080073", "hex"));
    made[at + 1] = 5;
    made.set([0x04, 0x01], at + 7);
    expect(refusal(() => readPkcs12(made, "")).message).toMatch(/not UTF-16/);
  });

  it("certificates alone are neither keys nor trusted", () => {
    const made = withFiles({ in: estate.root.certificate.pem }, (path) => {
      openssl(["pkcs12", "-export", "-nokeys", "-in", path("in"), "-passout", "pass:", "-out", path("out")]);
      return readFile(path("out"));
    });
    const store = readPkcs12(made, "");
    expect(store).toMatchObject({ keys: [], trusted: [] });
    expect(store.others?.map((one) => one.fingerprint)).toEqual([estate.root.certificate.fingerprint]);
  });
});

describe("what keytool makes, we read", () => {
  it.each(["PKCS12", "JKS"])("%s with a key and a trusted certificate", (type) => {
    withFiles({ "root.pem": estate.root.certificate.pem }, (path) => {
      const store = ["-keystore", path("s"), "-storepass", "changeit", "-storetype", type];
      expect(keytool(["-genkeypair", "-alias", "Mine", "-keyalg", "EC", "-dname", "CN=java", ...store]).ok).toBe(true);
      expect(keytool(["-importcert", "-noprompt", "-alias", "lab-root", "-file", path("root.pem"), ...store]).ok).toBe(
        true,
      );
      const read = type === "JKS" ? readJks : readPkcs12;
      const found = read(readFile(path("s")), "changeit");
      expect(found.keys.map((one) => [one.alias, one.chain[0]?.subject])).toEqual([["mine", "CN=java"]]);
      expect(found.trusted.map((one) => [one.alias, one.certificate.fingerprint])).toEqual([
        ["lab-root", estate.root.certificate.fingerprint],
      ]);
    });
  });

  it("a store of another format is named", () => {
    expect(refusal(() => readJks(writePkcs12(trustStore(), "changeit"), "changeit"))).toMatchObject({
      next: expect.stringContaining("-deststoretype PKCS12"),
    });
    expect(refusal(() => readJks(Buffer.from("cececece".repeat(8), "hex"), "x")).message).toMatch(/JCEKS/);
    expect(refusal(() => readPkcs12(writeJks(trustStore(), "changeit", NOW), "changeit")).code).toBe("input");
  });
});

it("a leaf renewed with the same key replaces the old one in the store", () => {
  const renewed = leafOf(estate.middle, estate.leafKey);
  const [entry] = keyStore().keys;
  const bytes = writePkcs12(
    { keys: [{ ...entry!, chain: [renewed, ...entry!.chain.slice(1)] }], trusted: [] },
    "changeit",
  );
  expect(readPkcs12(bytes, "changeit").keys[0]?.chain[0]?.fingerprint).toBe(renewed.fingerprint);
});
