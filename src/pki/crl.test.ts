import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import { beforeAll, describe, expect, it } from "vitest";
import { DAY, type Estate, leafOf, makeEstate, NOW } from "../../test/judges/pki/estate.ts";
import { go, openssl, withFiles } from "../../test/judges/pki/judge.ts";
import { GyreError } from "../errors.ts";
import { signBytes } from "./algorithms.ts";
import { checkChain } from "./chain.ts";
import { type Crl, type CrlFields, isRevoked, parseCrl, parseCrls, signCrl } from "./crl.ts";
import { bitString, explicit, integer, sequence, time } from "./der.ts";
import { writeExtension } from "./extensions.ts";
import { describeCrl } from "./generation.ts";
import { KEY_ALGORITHMS } from "./keys.ts";
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

const fields = (more: Partial<CrlFields> = {}): CrlFields => ({
  number: 300,
  thisUpdate: NOW,
  nextUpdate: NOW + 7 * DAY,
  entries: [],
  ...more,
});

describe.each(KEY_ALGORITHMS)("a CRL of a %s CA", (algorithm) => {
  it("says to openssl, Go and a second library what we wrote", async () => {
    const { middle, leaf } = await makeEstate(algorithm);
    const entries = [
      { serial: leaf.serial, revocationDate: NOW - DAY, reason: "keyCompromise" as const },
      { serial: "80", revocationDate: Date.UTC(2051, 0, 1), reason: "superseded" as const },
      { serial: "1", revocationDate: NOW },
    ];
    const crl = signCrl(middle, fields({ entries }));
    const [theirs] = go([{ op: "crl", pem: crl.pem, issuer: middle.certificate.pem }]);
    expect(theirs).toEqual({
      number: "12c",
      thisUpdate: NOW,
      nextUpdate: NOW + 7 * DAY,
      aki: middle.certificate.ski,
      entries: [
        { serial: leaf.serial, revocationDate: NOW - DAY, reason: 1 },
        { serial: "80", revocationDate: Date.UTC(2051, 0, 1), reason: 4 },
        { serial: "1", revocationDate: NOW, reason: 0 },
      ],
    });
    withFiles({ ca: middle.certificate.pem }, (path) => {
      expect(openssl(["crl", "-noout", "-CAfile", path("ca")], crl.pem).text).toContain("verify OK");
    });
    expect(new x509.X509Crl(crl.pem).entries.length).toBe(3);
    expect([...crl.entries.values()]).toEqual(entries);
    expect(crl.isSignedBy(middle.certificate)).toBe(true);
    expect(crl.isSignedBy(leaf)).toBe(false);
    expect(isRevoked(crl, leaf)?.reason).toBe("keyCompromise");
    expect(describeCrl(crl)).toMatchObject({ kind: "crl", serial: "12c", notBefore: NOW, notAfter: NOW + 7 * DAY });
  });
});

it("an empty list is a list", () => {
  const crl = signCrl(estate.middle, fields());
  expect(go([{ op: "crl", pem: crl.pem, issuer: estate.middle.certificate.pem }])[0]).toMatchObject({ entries: [] });
  expect(crl.entries.size).toBe(0);
  // RFC 5280 5.1.2.6: revokedCertificates is absent then, not empty.
  expect(openssl(["asn1parse"], crl.pem).text).not.toMatch(/l= *0 cons: SEQUENCE/);
  expect(isRevoked(crl, estate.leaf)).toBeUndefined();
});

it("what Go and openssl make, we read", () => {
  const [made] = go([{ op: "make", algorithm: "P-256" }]) as Record<string, string>[];
  const crl = parseCrl(made!.crl!);
  expect(crl).toMatchObject({
    number: "12c",
    issuer: "CN=go root,O=Judges",
    unsupported: [],
    signatureAlgorithm: "ecdsa-with-SHA256",
  });
  expect([...crl.entries.values()]).toMatchObject([{ serial: "9f0000000000000000000000000", reason: "keyCompromise" }]);
  const der = withFiles({ crl: made!.crl! }, (path) => {
    openssl(["crl", "-in", path("crl"), "-outform", "DER", "-out", path("der")]);
    return openssl(["crl", "-in", path("der"), "-inform", "DER"]).text;
  });
  expect(parseCrls(der + made!.crl!).length).toBe(2);
  expect(parseCrl(crl.der).fingerprint).toBe(crl.fingerprint);
});

it("a serial of another issuer is not revoked by this one", () => {
  const crl = signCrl(estate.root, fields({ entries: [{ serial: estate.leaf.serial, revocationDate: NOW }] }));
  expect(isRevoked(crl, estate.leaf)).toBeUndefined();
  expect(isRevoked(crl, { serial: estate.leaf.serial, issuerDer: crl.issuerDer })).toBeDefined();
});

/** A CRL with these extensions, and one entry with those. */
function odd(extensions: readonly Buffer[], entryExtensions: readonly Buffer[]): Buffer {
  const { certificate, key, signatureAlgorithm } = estate.middle;
  const entry = sequence(
    integer(0xaa),
    time(NOW),
    ...(entryExtensions.length === 0 ? [] : [sequence(...entryExtensions)]),
  );
  const dates = [time(NOW), time(NOW + DAY)];
  const list = explicit(0, sequence(...extensions));
  const tbs = sequence(integer(1), signatureAlgorithm, certificate.subjectDer, ...dates, sequence(entry), list);
  return sequence(tbs, signatureAlgorithm, bitString(signBytes(key, tbs)));
}

it.each([
  ["a delta", "2.5.29.27", "list"],
  ["a partition", "2.5.29.28", "list"],
  ["entries of another issuer", "2.5.29.29", "entry"],
])("names what it cannot process: %s", (_, id, place) => {
  const number = writeExtension("2.5.29.20", false, integer(1));
  const critical = writeExtension(id, true, integer(1));
  const der = place === "list" ? odd([number, critical], []) : odd([number], [critical]);
  const crl = parseCrl(der);
  expect(crl.unsupported).toEqual([id]);
  expect(crl.isSignedBy(estate.middle.certificate)).toBe(true);
  expect(parseCrl(odd([number, writeExtension(id, false, integer(1))], [])).unsupported).toEqual([]);
  const question = { leaf: estate.leaf, intermediates: [estate.middle.certificate], roots: [estate.root.certificate] };
  const asked = (crls: Crl[]) =>
    checkChain({ ...question, at: [NOW], purpose: "server", crls }).problems.map((one) => one.code);
  const root = signCrl(estate.root, fields());
  expect(asked([root, crl])).toEqual(["crl"]);
  expect(asked([root, parseCrl(odd([number], []))])).toEqual([]);
});

it("takes an entry that a later CRL removed for not revoked", () => {
  const crl = signCrl(
    estate.middle,
    fields({ entries: [{ serial: estate.leaf.serial, revocationDate: NOW, reason: "removeFromCRL" }] }),
  );
  expect(isRevoked(crl, estate.leaf)).toBeUndefined();
});

it.each([
  ["an end before its beginning", { nextUpdate: NOW }, /nextUpdate/],
  [
    "a serial twice",
    {
      entries: [
        { serial: "1", revocationDate: NOW },
        { serial: "1", revocationDate: NOW },
      ],
    },
    /twice/,
  ],
  ["a serial with leading zeros", { entries: [{ serial: "01", revocationDate: NOW }] }, /not lower-case hex/],
  ["a revocation at no time", { entries: [{ serial: "1", revocationDate: Number.NaN }] }, /years 1950 to 9999/],
  ["an end after 9999", { nextUpdate: Date.UTC(10_000, 0, 1) }, /years 1950 to 9999/],
  ["a number that is not whole", { number: 1.5 }, /whole number/],
  ["a negative number", { number: -1 }, /number/],
  ["a number of 21 octets", { number: 1n << 160n }, /number/],
])("refuses %s", (_, more, message) => {
  const error = refusal(() => signCrl(estate.middle, fields(more)));
  expect(error).toMatchObject({ code: "input" });
  expect(error.message).toMatch(message);
});

it("refuses what is no CRL", () => {
  expect(refusal(() => parseCrl(estate.leaf.pem)).message).toMatch(/no CRL: line 1: CERTIFICATE/);
  expect(refusal(() => parseCrl(toPem("X509 CRL", estate.leaf.der))).code).toBe("input");
  const crl = signCrl(estate.middle, fields());
  expect(refusal(() => parseCrl(crl.pem + crl.pem)).message).toMatch(/2 CRLs/);
});

it("flipping any byte is seen: in the structure, or by the signature", () => {
  const entries = [
    { serial: leafOf(estate.middle, estate.leafKey).serial, revocationDate: NOW, reason: "superseded" as const },
  ];
  const crl = signCrl(estate.middle, fields({ entries }));
  const accepted: number[] = [];
  for (let at = 0; at < crl.der.length; at++) {
    const bad = Buffer.from(crl.der);
    bad[at]! ^= 0x01;
    try {
      if (parseCrl(bad).isSignedBy(estate.middle.certificate)) accepted.push(at);
    } catch (error) {
      expect(error).toBeInstanceOf(GyreError);
    }
  }
  expect(accepted).toEqual([]);
});
