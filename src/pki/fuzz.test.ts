import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { beforeAll, describe, it } from "vitest";
import { buffers, fuzz, INPUTS } from "../../test/fuzz/fuzz.ts";
import { type Estate, makeEstate, NOW } from "../../test/judges/pki/estate.ts";
import { openssl, withFiles } from "../../test/judges/pki/judge.ts";
import { berToDer } from "./ber.ts";
import { parseCertificates } from "./certificate.ts";
import { checkChain } from "./chain.ts";
import { parseCrls, signCrl } from "./crl.ts";
import { createCsr, parseCsr } from "./csr.ts";
import { DerReader } from "./der.ts";
import { readName, writeName } from "./distinguished-name.ts";
import { readJks, writeJks } from "./jks.ts";
import type { KeyStore } from "./key-store.ts";
import { exportPrivateKey, readPrivateKey } from "./keys.ts";
import { lint } from "./lint.ts";
import { parseGeneralName, readGeneralNames } from "./names.ts";
import { parsePem, toPem } from "./pem.ts";
import { readPkcs12, writePkcs12 } from "./pkcs12.ts";

/** Every parser over 100,000 mutations of valid inputs: nothing but GyreError `input` may come out of it. */
const both = (
  seed: number,
  inputs: readonly Buffer[],
  parse: (input: Buffer) => unknown,
  /** Fewer where a digest turns nearly all of them away. */
  count = INPUTS,
) =>
  fuzz({
    seed,
    inputs,
    ends: count === INPUTS ? ["read", "input"] : ["input"],
    rare: ["read"],
    count,
    read(input) {
      parse(input);
      return "read";
    },
  });

let estate: Estate;
beforeAll(async () => {
  estate = await makeEstate();
});

/** A PKCS#12 store with neither encryption nor MAC, made by openssl. */
function bareStore(): Buffer {
  const key = exportPrivateKey(estate.leafKey).use((bytes) => bytes.toString());
  const files = { in: key + estate.leaf.pem + estate.root.certificate.pem };
  return withFiles(files, (path) => {
    const args = ["-certpbe", "NONE", "-keypbe", "NONE", "-nomac", "-name", "shop", "-passout", "pass:"];
    openssl(["pkcs12", "-export", "-in", path("in"), ...args, "-out", path("out")]);
    return readFileSync(path("out"));
  });
}

const store = (): KeyStore => ({
  keys: [{ alias: "a", key: estate.leafKey, chain: [estate.leaf] }],
  trusted: [{ alias: "b", certificate: estate.root.certificate }],
});

/** A JKS body with the digest that fits it, so that what is inside gets read. */
const withDigest = (body: Buffer): Buffer => {
  const password = Buffer.from("secret", "utf16le").swap16();
  return Buffer.concat([body, createHash("sha1").update(password).update("Mighty Aphrodite").update(body).digest()]);
};

const certificates = (): Buffer[] =>
  [estate.leaf, estate.middle.certificate, estate.root.certificate].map((one) => one.der);

describe("nothing but an input error comes out of", () => {
  it("DER, walked to its ends, and BER", () => {
    const walk = (reader: DerReader): void => {
      while (!reader.done)
        if ((reader.peek() & 0x20) !== 0) walk(reader.enter(reader.peek()));
        else if (reader.peek() === 6) reader.oid();
        else if (reader.peek() === 2) reader.integerBytes();
        else if (reader.peek() === 0x17 || reader.peek() === 0x18) reader.time();
        else if (reader.peek() === 3) reader.namedBits();
        else reader.read();
    };
    both(1, certificates(), (input) => walk(new DerReader(input, "fuzz")));
    both(2, [...certificates(), Buffer.from("308024800402aabb0401cc00000000", "hex")], (input) =>
      berToDer(input, "fuzz"),
    );
  });

  it("PEM", () => {
    const files = [
      toPem("CERTIFICATE", Buffer.alloc(100, 7)),
      `text\r\n${toPem("EC PARAMETERS", Buffer.alloc(10))}${toPem("EC PRIVATE KEY", Buffer.alloc(50, 9))}`,
      toPem("RSA PRIVATE KEY", Buffer.alloc(64)).replace(
        "\n",
        "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n",
      ),
    ];
    both(3, buffers(files), (input) => parsePem(input));
  });

  it("certificates, and from lint and chain checks over those that still parse", () => {
    const inputs = certificates();
    const roots = [estate.root.certificate];
    const pems = buffers([estate.leaf.pem, estate.leaf.pem + estate.middle.certificate.pem]);
    let linted = 0;
    both(4, inputs, (input) => {
      const [leaf] = parseCertificates(input[0] === 0x30 ? input : Buffer.concat([Buffer.from([0x30]), input]));
      void lint(leaf!, { issuer: estate.middle.certificate, now: NOW });
      if (linted++ % 20 === 0)
        checkChain({ leaf: leaf!, intermediates: [estate.middle.certificate], roots, at: [NOW], purpose: "server" });
    });
    both(5, pems, (input) => parseCertificates(input), 20_000);
  });

  it("requests", () => {
    const fields = {
      subject: "CN=shop,O=Lab",
      names: ["DNS:a.example", "IP:::1", "URI:spiffe://a/b", "email:a@b.example"],
      usages: ["server"] as const,
    };
    const inputs = [
      createCsr(estate.leafKey, fields),
      createCsr(estate.middleKey, { subject: "", names: ["DNS:b.example"] }),
    ];
    // Nearly every change breaks the signature, so acceptance is rare by design; what cannot change is in the TLV walk.
    both(6, inputs, (input) => parseCsr(input[0] === 0x30 ? input : Buffer.concat([Buffer.from([0x30]), input])));
  });

  it("CRLs", () => {
    const entries = Array.from({ length: 4 }, (_, i) => ({
      serial: (i + 100).toString(16),
      revocationDate: NOW,
      reason: "superseded" as const,
    }));
    const crl = signCrl(estate.middle, { number: 5, thisUpdate: NOW, nextUpdate: NOW + 1e9, entries });
    const empty = signCrl(estate.root, { number: 6, thisUpdate: NOW, nextUpdate: NOW + 1e9, entries: [] });
    both(7, [crl.der, empty.der], (input) =>
      parseCrls(input[0] === 0x30 ? input : Buffer.concat([Buffer.from([0x30]), input])),
    );
  });

  it("private keys", () => {
    const plain = exportPrivateKey(estate.leafKey).use((bytes) => Buffer.from(bytes));
    const encrypted = exportPrivateKey(estate.leafKey, "secret", 2).use((bytes) => Buffer.from(bytes));
    const der = estate.leafKey.keyObject.export({ type: "pkcs8", format: "der" });
    const sec1 = estate.leafKey.keyObject.export({ type: "sec1", format: "der" });
    both(8, [der, sec1, plain, encrypted], (input) => readPrivateKey(input, "secret"));
  });

  it("PKCS#12: past the MAC too", () => {
    // Rounds of key derivation cost the time, so most inputs have neither MAC nor encryption: their bags are read.
    both(9, [bareStore()], (input) => readPkcs12(input, "secret"));
    both(10, [writePkcs12(store(), "secret")], (input) => readPkcs12(input, "secret"), 300);
  });

  it("JKS: past the digest too", () => {
    const bytes = writeJks(store(), "secret", NOW);
    const body = bytes.subarray(0, -20);
    both(11, [body], (input) => readJks(withDigest(input), "secret"));
    both(12, [bytes], (input) => readJks(input, "secret"), 20_000);
  });

  it("names: text and DER, distinguished and general", () => {
    const dns = ["CN=shop,O=Lab", 'CN="a, b"+OU=\\c3\\a9,C=CH', "2.5.4.97=#0c0141,CN=\\ x\\ "];
    both(13, buffers(dns), (input) => readName(writeName(input.toString("utf8"))));
    both(14, dns.map(writeName), (input) => readName(input));
    const general = [
      "DNS:*.shop.example",
      "IP:2001:db8::1",
      "IP:10.0.0.1",
      "URI:spiffe://td/x?y#z",
      "email:a.b@c.example",
    ];
    both(15, buffers(general), (input) => parseGeneralName(input.toString("utf8")));
    const san = estate.leaf.extension("2.5.29.17")!.value;
    both(16, [san], (input) => readGeneralNames(new DerReader(input, "fuzz").enter(0x30)));
  });
});
