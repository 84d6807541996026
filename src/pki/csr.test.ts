import { beforeAll, describe, expect, it } from "vitest";
import { go, openssl, withFiles } from "../../test/judges/pki/judge.ts";
import { GyreError } from "../errors.ts";
import { signatureFor, signBytes } from "./algorithms.ts";
import { createCsr, csrPem, parseCsr } from "./csr.ts";
import { bitString, explicit, integer, oid, sequence, setOf } from "./der.ts";
import { writeName } from "./distinguished-name.ts";
import { EXTENSION, writeBasicConstraints, writeExtension, writeSubjectAltName } from "./extensions.ts";
import { exportPrivateKey, generateKey, type PrivateKey } from "./keys.ts";

let key: PrivateKey;
beforeAll(async () => {
  key = await generateKey("P-256");
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

/** A request with whatever in it, rightly signed. */
function request(attributes: readonly Buffer[], version = 0): Buffer {
  const info = sequence(integer(version), writeName("CN=odd"), key.spkiDer, explicit(0, ...attributes));
  return sequence(info, signatureFor(key.algorithm).der, bitString(signBytes(key, info)));
}
const wanted = (...extensions: Buffer[]): Buffer =>
  sequence(oid("1.2.840.113549.1.9.14"), setOf(sequence(...extensions)));
const san = writeExtension(EXTENSION.subjectAltName, false, writeSubjectAltName(["DNS:a.example"]));

it("an empty subject makes the asked-for subjectAltName critical", () => {
  const critical = (subject: string) =>
    parseCsr(createCsr(key, { subject, names: ["DNS:a.example"] })).extensions[0]?.critical;
  expect(critical("")).toBe(true);
  expect(critical("CN=a")).toBe(false);
});

it("a request for nothing but a key, and one for a CA", () => {
  expect(parseCsr(createCsr(key, { subject: "CN=a", names: [] }))).toMatchObject({
    names: [],
    extendedKeyUsage: [],
    isCa: false,
  });
  const ca = writeExtension(EXTENSION.basicConstraints, true, writeBasicConstraints(true));
  expect(parseCsr(request([wanted(ca, san)]))).toMatchObject({ isCa: true, names: ["DNS:a.example"] });
});

it("other attributes, and a request without any, are read", () => {
  const challenge = sequence(oid("1.2.840.113549.1.9.7"), setOf(Buffer.from("0c0178", "hex")));
  expect(parseCsr(request([challenge, wanted(san)])).names).toEqual(["DNS:a.example"]);
  expect(parseCsr(request([])).names).toEqual([]);
});

it("PEM of both labels", () => {
  const der = createCsr(key, { subject: "CN=a", names: [] });
  expect(parseCsr(csrPem(der)).der.equals(der)).toBe(true);
  expect(parseCsr(csrPem(der).replaceAll("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")).der.equals(der)).toBe(true);
});

describe("what is refused, though rightly signed", () => {
  it.each([
    ["another version", () => request([], 1), /version/],
    ["extensions asked for twice", () => request([wanted(san), wanted(san)]), /asks for extensions twice/],
    ["bytes after its end", () => Buffer.concat([request([]), Buffer.from([0])]), /too many/],
  ])("%s", (_, make, message) => {
    expect(refusal(() => parseCsr(make()))).toMatchObject({ code: "input", message: expect.stringMatching(message) });
  });

  it("an algorithm that cannot be checked proves nothing; openssl made it", () => {
    const pem = exportPrivateKey(key).use((bytes) => bytes.toString());
    const made = withFiles(
      { k: pem },
      (path) => openssl(["req", "-new", "-key", path("k"), "-subj", "/CN=a", "-sha3-256"]).text,
    );
    expect(refusal(() => parseCsr(made)).message).toMatch(/does not prove possession/);
    expect(go([{ op: "request", pem: made }])[0]).toHaveProperty("error");
  });

  it("two requests in one file, and a certificate instead of one", () => {
    const pem = csrPem(createCsr(key, { subject: "CN=a", names: [] }));
    expect(refusal(() => parseCsr(pem + pem, "a.csr")).where).toBe("a.csr");
    expect(refusal(() => parseCsr("no", "a.csr")).message).toMatch(/no PEM block/);
  });
});

it("names that are no names are refused before anything is signed", () => {
  expect(refusal(() => createCsr(key, { subject: "CN=a", names: ["a.example"] })).next).toBe("write DNS:a.example");
  expect(refusal(() => createCsr(key, { subject: "a", names: [] })).code).toBe("input");
});
