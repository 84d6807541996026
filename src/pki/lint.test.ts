import { beforeAll, describe, expect, it } from "vitest";
import {
  DAY,
  type Estate,
  type Forgery,
  forged,
  leafOf,
  makeEstate,
  middleOf,
  NOW,
  rootOf,
} from "../../test/judges/pki/estate.ts";
import { openssl } from "../../test/judges/pki/judge.ts";
import type { Certificate } from "./certificate.ts";
import { integer, octetString, tlv } from "./der.ts";
import {
  EXTENSION,
  type KeyUsage,
  writeAuthorityKeyIdentifier,
  writeBasicConstraints,
  writeExtendedKeyUsage,
  writeExtension,
  writeKeyUsage,
  writeNameConstraints,
  writeSubjectAltName,
} from "./extensions.ts";
import { keyIdentifier } from "./issue.ts";
import { generateKey, readPrivateKey } from "./keys.ts";
import { type LintContext, lint } from "./lint.ts";

let estate: Estate;
beforeAll(async () => {
  estate = await makeEstate();
});

interface Parts {
  readonly ca?: { readonly isCa: boolean; readonly critical?: boolean; readonly pathLength?: number };
  readonly usage?: readonly KeyUsage[] | null;
  readonly purposes?: readonly string[] | null;
  readonly names?: { readonly list: readonly string[]; readonly critical?: boolean } | null;
  readonly ski?: boolean;
  readonly aki?: Buffer | null;
  readonly more?: readonly Buffer[];
}

/** A certificate that is right in all but what is given. */
function odd(parts: Parts, fields: Partial<Forgery> = {}): Certificate {
  const {
    ca = { isCa: false },
    usage = ["digitalSignature"],
    purposes = ["serverAuth"],
    names = { list: ["DNS:shop.lab.example"] },
  } = parts;
  const spkiDer = fields.spkiDer ?? estate.leafKey.spkiDer;
  const basic = tlv(
    0x30,
    ...(ca.isCa ? [Buffer.from("0101ff", "hex")] : []),
    ...(ca.pathLength === undefined ? [] : [integer(ca.pathLength)]),
  );
  const aki = parts.aki === undefined ? Buffer.from(estate.middle.certificate.ski!, "hex") : parts.aki;
  return forged({
    key: estate.middleKey,
    spkiDer,
    issuer: estate.middle.certificate.subject,
    subject: "CN=shop.lab.example",
    extensions: [
      writeExtension(
        EXTENSION.basicConstraints,
        ca.critical ?? true,
        ca.isCa || ca.pathLength !== undefined ? basic : writeBasicConstraints(false),
      ),
      ...(usage === null ? [] : [writeExtension(EXTENSION.keyUsage, true, writeKeyUsage(usage))]),
      ...(purposes === null
        ? []
        : [writeExtension(EXTENSION.extendedKeyUsage, false, writeExtendedKeyUsage(purposes))]),
      ...(names === null
        ? []
        : [writeExtension(EXTENSION.subjectAltName, names.critical ?? false, writeSubjectAltName(names.list))]),
      ...(parts.ski === false
        ? []
        : [writeExtension(EXTENSION.subjectKeyIdentifier, false, octetString(keyIdentifier(spkiDer)))]),
      ...(aki === null
        ? []
        : [writeExtension(EXTENSION.authorityKeyIdentifier, false, writeAuthorityKeyIdentifier(aki))]),
      ...(parts.more ?? []),
    ],
    ...fields,
  });
}

const codes = (
  certificate: Certificate,
  context: LintContext = { issuer: estate.middle.certificate, now: NOW },
): string[] => lint(certificate, context).map((one) => `${one.severity} ${one.code}`);

describe("what is right has no findings", () => {
  it("issued leaf, CA, root, and the unchanged forgery", () => {
    expect(codes(estate.leaf)).toEqual([]);
    expect(codes(estate.middle.certificate, { issuer: estate.root.certificate, now: NOW })).toEqual([]);
    expect(codes(estate.root.certificate, { now: NOW })).toEqual([]);
    expect(codes(odd({}))).toEqual([]);
    expect(codes(leafOf(estate.middle, estate.leafKey, { subject: "" }))).toEqual([]);
  });
});

const SERIAL = (hex: string) => ({ serial: tlv(2, Buffer.from(hex, "hex")) });

describe("what is wrong is found, and nothing else", () => {
  const table: readonly (readonly [string, () => Certificate, readonly string[]])[] = [
    ["empty subject, subjectAltName not critical", () => odd({}, { subject: "" }), ["error san-critical"]],
    [
      "empty subject, subjectAltName critical",
      () => odd({ names: { list: ["DNS:a.example"], critical: true } }, { subject: "" }),
      [],
    ],
    [
      "neither subject nor names",
      () => odd({ names: null, purposes: ["clientAuth"] }, { subject: "" }),
      ["error no-name"],
    ],
    ["a server without subjectAltName", () => odd({ names: null }), ["error no-san"]],
    ["a client without subjectAltName", () => odd({ names: null, purposes: ["clientAuth"] }), []],
    ["a CN that no name covers", () => odd({}, { subject: "CN=other.example" }), ["warning cn-not-in-san"]],
    ["a CN that a wildcard covers", () => odd({ names: { list: ["DNS:*.lab.example"] } }), []],
    ["serial 0", () => odd({}, SERIAL("00")), ["error serial-positive"]],
    ["a negative serial", () => odd({}, SERIAL("80aabbccddeeff001122")), ["error serial-positive"]],
    ["a serial of 21 octets", () => odd({}, SERIAL(`01${"ab".repeat(20)}`)), ["error serial-length"]],
    ["a serial of 20 octets", () => odd({}, SERIAL(`01${"ab".repeat(19)}`)), []],
    ["a counted serial", () => odd({}, SERIAL("1000")), ["warning serial-entropy"]],
    ["a serial of 8 octets", () => odd({}, SERIAL("5faabbccddeeff01")), []],
    [
      "an end before its beginning",
      () => odd({}, { notBefore: NOW, notAfter: NOW - DAY }),
      ["error validity", "error expired"],
    ],
    ["expired", () => odd({}, { notAfter: NOW - 1000 }), ["error expired"]],
    ["not yet valid", () => odd({}, { notBefore: NOW + 1000 }), ["error not-yet-valid"]],
    ["SHA-1", () => odd({}, { hash: "sha1" }), ["error weak-hash"]],
    ["version 1", () => odd({}, { version: 1, extensions: [] }), ["error version"]],
    [
      "a CA whose basicConstraints is not critical",
      () => odd({ ca: { isCa: true, critical: false }, usage: ["keyCertSign"], purposes: null, names: null }),
      ["error basic-constraints-critical"],
    ],
    [
      "a CA without keyCertSign",
      () => odd({ ca: { isCa: true }, usage: ["cRLSign"], purposes: null, names: null }),
      ["error ca-key-usage"],
    ],
    [
      "a CA without key usage",
      () => odd({ ca: { isCa: true }, usage: null, purposes: null, names: null }),
      ["warning ca-no-key-usage"],
    ],
    [
      "a CA with an empty subject",
      () =>
        odd(
          {
            ca: { isCa: true },
            usage: ["keyCertSign"],
            purposes: null,
            names: { list: ["DNS:a.example"], critical: true },
          },
          { subject: "" },
        ),
      ["error ca-subject"],
    ],
    [
      "a CA without subjectKeyIdentifier",
      () => odd({ ca: { isCa: true }, usage: ["keyCertSign"], purposes: null, names: null, ski: false }),
      ["warning no-ski"],
    ],
    ["keyCertSign in a leaf", () => odd({ usage: ["digitalSignature", "keyCertSign"] }), ["error key-cert-sign"]],
    ["a path length in a leaf", () => odd({ ca: { isCa: false, pathLength: 1 } }), ["error path-length"]],
    [
      "name constraints in a leaf",
      () =>
        odd({
          more: [
            writeExtension(
              EXTENSION.nameConstraints,
              true,
              writeNameConstraints({ permitted: ["DNS:a"], excluded: [] }),
            ),
          ],
        }),
      ["error name-constraints"],
    ],
    ["a key usage of nothing", () => odd({ usage: [] }), ["error key-usage-empty"]],
    [
      "keyEncipherment with an EC key",
      () => odd({ usage: ["digitalSignature", "keyEncipherment"] }),
      ["warning key-usage-algorithm"],
    ],
    ["no digitalSignature for TLS", () => odd({ usage: ["keyAgreement"] }), ["error key-usage-tls"]],
    ["no extended key usage", () => odd({ purposes: null }), ["note no-extended-key-usage"]],
    ["no authorityKeyIdentifier", () => odd({ aki: null }), ["warning no-aki"]],
    ["another issuer's key identifier", () => odd({ aki: Buffer.alloc(20, 7) }), ["error aki-mismatch"]],
    ["another issuer's name", () => odd({}, { issuer: "CN=other" }), ["error issuer-name"]],
    [
      "a life beyond the issuer's",
      () => odd({ names: { list: ["DNS:shop.lab.example"] } }, { notAfter: NOW + 1001 * DAY }),
      ["error outlives-issuer"],
    ],
    ["a life before the issuer's", () => odd({}, { notBefore: NOW - 21 * DAY }), ["warning predates-issuer"]],
    [
      "399 days for a public name",
      () => odd({ names: { list: ["DNS:shop.lab.example", "DNS:www.gyre.dev"] } }, { notAfter: NOW + 398 * DAY }),
      ["note long-life"],
    ],
    [
      "398 days for a public name",
      () => odd({ names: { list: ["DNS:shop.lab.example", "DNS:www.gyre.dev"] } }, { notAfter: NOW + 397 * DAY }),
      [],
    ],
    ["399 days for a private name", () => odd({}, { notAfter: NOW + 398 * DAY }), []],
    [
      "a critical extension nobody knows",
      () => odd({ more: [writeExtension("1.2.3", true, integer(1))] }),
      ["error critical-extension"],
    ],
    ["the same, not critical", () => odd({ more: [writeExtension("1.2.3", false, integer(1))] }), []],
  ];
  it.each(table)("%s", (_, make, expected) => {
    expect(codes(make())).toEqual(expected);
    for (const one of lint(make(), { now: NOW })) expect(one.reference).toMatch(/^(RFC \d+|CA\/B BR) /);
  });

  it("an RSA key of 1024 bits; of 2048 it is fine", async () => {
    const weak = readPrivateKey(openssl(["genrsa", "1024"]).text);
    expect(codes(odd({}, { spkiDer: weak.spkiDer }))).toEqual(["error weak-key"]);
    expect(codes(odd({}, { spkiDer: (await generateKey("RSA-2048")).spkiDer }))).toEqual([]);
  });

  it("a name no verifier would match", () => {
    const bad = writeExtension(
      EXTENSION.subjectAltName,
      false,
      tlv(0x30, tlv(0x82, Buffer.from("shop.lab.example")), tlv(0x82, Buffer.from("a b"))),
    );
    expect(codes(odd({ names: null, more: [bad] }))).toEqual(["warning name-syntax"]);
  });

  it("a self-issued certificate with another key's identifier", () => {
    const root = rootOf(estate.rootKey).certificate;
    const other = middleOf(estate.root, estate.middleKey, { subject: root.subject, pathLength: 1 }).certificate;
    expect(codes(other, { now: NOW })).toEqual(["warning aki-self"]);
  });
});
