import { beforeAll, describe, expect, it } from "vitest";
import { type Estate, forge, forged, makeEstate, NOW } from "../../test/judges/pki/estate.ts";
import { go, openssl } from "../../test/judges/pki/judge.ts";
import { GyreError } from "../errors.ts";
import { checkSignature } from "./algorithms.ts";
import { Certificate, parseCertificate, parseCertificates, readCertificateLazily } from "./certificate.ts";
import { boolean, integer, oid, sequence, tlv } from "./der.ts";
import { EXTENSION, writeExtension, writeKeyUsage } from "./extensions.ts";
import { generateKey } from "./keys.ts";
import { toPem } from "./pem.ts";

let estate: Estate;
beforeAll(async () => {
  estate = await makeEstate();
});

function refusal(act: () => unknown): GyreError {
  try {
    act();
  } catch (error) {
    if (error instanceof GyreError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

const odd = (extensions: readonly Buffer[], more: { version?: 1 | 3; serial?: Buffer } = {}): Buffer =>
  forge({ key: estate.rootKey, spkiDer: estate.leafKey.spkiDer, issuer: "CN=a", subject: "CN=b", extensions, ...more });
const note = (id: string) => writeExtension(id, false, boolean(true));

describe("what no certificate may be, to us and to Go", () => {
  const table: readonly (readonly [string, () => Buffer, RegExp])[] = [
    ["bytes after its end", () => Buffer.concat([estate.leaf.der, Buffer.from([0])]), /bytes too many/],
    ["cut off", () => estate.leaf.der.subarray(0, -1), /longer than what holds it/],
    ["an extension twice", () => odd([note("1.2.3"), note("1.2.3")]), /occurs twice/],
    ["a malformed key usage", () => odd([writeExtension(EXTENSION.keyUsage, true, integer(1))]), /tag 0x3/],
    [
      "a malformed alternative name",
      () => odd([writeExtension(EXTENSION.subjectAltName, false, sequence(tlv(0x87, Buffer.alloc(5))))]),
      /4 or 16 octets/,
    ],
    ["a serial of no octets", () => odd([note("1.2.3")], { serial: Buffer.from([2, 0]) }), /INTEGER is empty/],
    ["two signature algorithms", () => swapOuterAlgorithm(odd([note("1.2.3")])), /two signature algorithms differ/],
  ];
  it.each(table)("%s", (_, make, message) => {
    const der = make();
    expect(refusal(() => parseCertificate(der)).message).toMatch(message);
    expect(go([{ op: "certificate", pem: toPem("CERTIFICATE", der) }])[0]).toHaveProperty("error");
  });

  it("and the same without the fault is one", () => {
    const pem = toPem(
      "CERTIFICATE",
      odd([note("1.2.3"), note("1.2.4"), writeExtension(EXTENSION.keyUsage, true, writeKeyUsage(["cRLSign"]))]),
    );
    expect(parseCertificate(pem).keyUsage).toEqual(["cRLSign"]);
    expect(go([{ op: "certificate", pem }])[0]).not.toHaveProperty("error");
  });

  it("extensions in version 1 are refused by us and by openssl", () => {
    const der = odd([note("1.2.3")], { version: 1 });
    expect(refusal(() => parseCertificate(der)).message).toMatch(/version 1 certificate has extensions/);
    expect(parseCertificate(odd([], { version: 1 })).version).toBe(1);
  });

  function swapOuterAlgorithm(der: Buffer): Buffer {
    const copy = Buffer.from(der);
    const id = oid("1.2.840.10045.4.3.2");
    copy[copy.lastIndexOf(id) + id.length - 1] = 3;
    return copy;
  }
});

describe("serial numbers as text", () => {
  it.each([
    ["0201 01", "1"],
    ["0201 00", "0"],
    ["0202 0080", "80"],
    ["0201 80", "-80"],
    ["0201 ff", "-1"],
    ["0203 00ff0a", "ff0a"],
    ["0203 0fff0a", "fff0a"],
  ])("%s is %s", (hex, expected) => {
    const serial = Buffer.from(hex.replaceAll(" ", ""), "hex");
    const certificate = new Certificate(odd([], { serial }));
    expect(certificate.serial).toBe(expected);
    const said = openssl(["x509", "-noout", "-serial"], certificate.pem).text.trim().toLowerCase();
    expect(said.replace(/^serial=(-?)0*(?=.)/, "$1")).toBe(expected);
  });
});

describe("reading lazily", () => {
  it("says the same, and throws only where the malformed field is asked for", () => {
    const { der } = estate.leaf;
    expect(JSON.stringify(readCertificateLazily(der))).toBe(JSON.stringify(parseCertificate(der)));
    const bad = readCertificateLazily(odd([writeExtension(EXTENSION.keyUsage, true, integer(1))]));
    expect(bad.subject).toBe("CN=b");
    expect(refusal(() => bad.keyUsage).code).toBe("input");
    expect(refusal(() => bad.decodeAll()).code).toBe("input");
  });
});

describe("signatures", () => {
  it("of one kind are not taken for another's key", async () => {
    const rsa = await generateKey("RSA-2048");
    const { leaf } = estate;
    expect(leaf.isSignedBy(estate.middle.certificate)).toBe(true);
    expect(leaf.isSignedBy({ publicKey: rsa.keyObject })).toBe(false);
    const certificate = forged({ key: rsa, spkiDer: rsa.spkiDer, issuer: "CN=a", subject: "CN=a", extensions: [] });
    expect(certificate.isSignedBy(certificate)).toBe(true);
    // An RSA signature under the name of an ECDSA algorithm is a lie, even if the bytes fit.
    const named = { name: "ecdsa-with-SHA256", keyType: "ec", hash: "sha256" } as const;
    expect(checkSignature(named, certificate.tbs, certificate.signature, certificate.publicKey)).toBe(false);
  });

  it("a key off the curve is an input error", () => {
    const spkiDer = Buffer.from(estate.leafKey.spkiDer);
    spkiDer[spkiDer.length - 1]! ^= 1;
    const certificate = forged({ key: estate.rootKey, spkiDer, issuer: "CN=a", subject: "CN=b", extensions: [] });
    expect(refusal(() => certificate.publicKey)).toMatchObject({ code: "input" });
  });
});

it("names the file and line of the block that is wrong", () => {
  const bundle = estate.leaf.pem + toPem("CERTIFICATE", Buffer.from("3003020101", "hex"));
  const line = estate.leaf.pem.split("\n").length;
  expect(refusal(() => parseCertificates(bundle, "bundle.pem")).message).toContain(`bundle.pem:${line} is malformed`);
  expect(parseCertificates(bundle.slice(0, estate.leaf.pem.length), "bundle.pem")[0]?.notBefore).toBe(NOW - 86_400_000);
});
