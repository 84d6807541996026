import "reflect-metadata";
import { hash } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { beforeAll, describe, expect, it } from "vitest";
import { DAY, type Estate, leafOf, makeEstate, middleOf, NOW, rootOf } from "../../test/judges/pki/estate.ts";
import { go, keytool, openssl, withFiles } from "../../test/judges/pki/judge.ts";
import { GyreError } from "../errors.ts";
import { Certificate, parseCertificate, parseCertificates } from "./certificate.ts";
import { createCsr, csrPem, parseCsr } from "./csr.ts";
import { describeCertificate } from "./generation.ts";
import { prepareAuthority, randomSerial, signCertificate, signSelfSigned } from "./issue.ts";
import { exportPrivateKey, generateKey, KEY_ALGORITHMS } from "./keys.ts";
import { lint } from "./lint.ts";
import { toPem } from "./pem.ts";

function refusal(act: () => unknown): GyreError {
  try {
    act();
  } catch (error) {
    if (error instanceof GyreError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

let estate: Estate;
beforeAll(async () => {
  estate = await makeEstate();
});

const NAMES = [
  "DNS:shop.lab.example",
  "DNS:*.shop.lab.example",
  "IP:10.0.0.1",
  "IP:2001:db8::1",
  "URI:spiffe://lab/shop",
  "email:ops@lab.example",
];
const seconds = (ms: number): string => String(Math.floor(ms / 1000));

describe.each(KEY_ALGORITHMS)("a chain of %s keys", (algorithm) => {
  let mine: Estate;
  beforeAll(async () => {
    mine = await makeEstate(algorithm);
  });

  it("is accepted by openssl (strict), Go, Java and a second library", () => {
    const leaf = leafOf(mine.middle, mine.leafKey, {
      names: NAMES,
      crlDistributionPoints: ["http://crl.lab.example/1.crl"],
    });
    const middle = mine.middle.certificate;
    const root = mine.root.certificate;
    withFiles({ "root.pem": root.pem, "middle.pem": middle.pem, "leaf.pem": leaf.pem }, (path) => {
      for (const purpose of ["sslserver", "sslclient"]) {
        const args = [
          "verify",
          "-x509_strict",
          "-purpose",
          purpose,
          "-attime",
          seconds(NOW),
          "-CAfile",
          path("root.pem"),
        ];
        const said = openssl([
          ...args,
          "-untrusted",
          path("middle.pem"),
          "-verify_hostname",
          "a.shop.lab.example",
          path("leaf.pem"),
        ]);
        expect(said.text).toContain("leaf.pem: OK");
      }
      expect(keytool(["-printcert", "-file", path("leaf.pem")]).text).toContain("shop.lab.example");
    });
    const question = { op: "verify", pem: leaf.pem, intermediates: [middle.pem], roots: [root.pem], at: NOW };
    expect(
      go([
        { ...question, purpose: "server", name: "shop.lab.example" },
        { ...question, purpose: "client" },
      ]),
    ).toEqual([{ length: 3 }, { length: 3 }]);
    const second = new x509.X509Certificate(leaf.pem);
    expect(second.subject).toBe("CN=shop.lab.example");
    expect(second.getExtension(x509.SubjectAlternativeNameExtension)?.names.items.length).toBe(NAMES.length);
    expect(lint(leaf, { issuer: middle, now: NOW })).toEqual([]);
    expect(lint(middle, { issuer: root, now: NOW })).toEqual([]);
    expect(lint(root, { now: NOW })).toEqual([]);
  });

  it("says the same of itself as Go says of it", () => {
    const leaf = leafOf(mine.middle, mine.leafKey, { names: NAMES });
    for (const ours of [leaf, mine.middle.certificate, mine.root.certificate]) {
      const [theirs] = go([{ op: "certificate", pem: ours.pem }]);
      const { fingerprint, spki, serial, notBefore, notAfter, names, isCa, subject, issuer } = ours;
      expect(theirs).toMatchObject({ fingerprint, spki, serial, notBefore, notAfter, names, isCa, subject, issuer });
      expect(theirs).toMatchObject({ ski: ours.ski, aki: ours.aki, unhandled: 0 });
    }
    expect(describeCertificate(leaf)).toMatchObject({
      kind: "certificate",
      algorithm,
      names: NAMES,
      notAfter: NOW + 30 * DAY,
    });
  });

  it("a request proves possession to openssl, Go and us, and theirs to us", () => {
    const csr = createCsr(mine.leafKey, { subject: "CN=shop,O=Lab", names: NAMES, usages: ["server"] });
    expect(openssl(["req", "-verify", "-noout"], csrPem(csr)).text).toMatch(/verify OK/);
    const [theirs] = go([{ op: "request", pem: csrPem(csr) }]);
    expect(theirs).toEqual({ subject: "CN=shop,O=Lab", spki: mine.leafKey.spki, names: NAMES });
    const back = parseCsr(csr);
    expect(back).toMatchObject({
      subject: "CN=shop,O=Lab",
      names: NAMES,
      spki: mine.leafKey.spki,
      algorithm,
      extendedKeyUsage: ["serverAuth"],
      isCa: false,
    });
    expect(new x509.Pkcs10CertificateRequest(csrPem(csr)).subject).toBe("O=Lab, CN=shop");
    withFiles({ k: exportPrivateKey(mine.leafKey).use((bytes) => bytes.toString()) }, (path) => {
      const made = openssl([
        "req",
        "-new",
        "-key",
        path("k"),
        "-subj",
        "/O=Lab/CN=theirs",
        "-addext",
        "subjectAltName=DNS:a.example",
      ]);
      expect(parseCsr(made.text)).toMatchObject({ subject: "CN=theirs,O=Lab", names: ["DNS:a.example"] });
    });
  });
});

describe("what Go makes, we read", () => {
  it.each(["P-256", "P-384", "RSA-2048", "Ed25519"])("%s", (algorithm) => {
    const [made] = go([{ op: "make", algorithm }]) as Record<string, string>[];
    const [told] = go([{ op: "certificate", pem: made!.leaf }]);
    const leaf = parseCertificate(made!.leaf!);
    const ca = parseCertificate(made!.ca!);
    const { fingerprint, spki, serial, notBefore, notAfter, names, issuer } = leaf;
    // Go writes its kinds of names in an order of its own.
    expect({ fingerprint, spki, serial, notBefore, notAfter, names: [...names].sort(), issuer }).toEqual({
      fingerprint: told!.fingerprint,
      spki: told!.spki,
      serial: told!.serial,
      notBefore: told!.notBefore,
      notAfter: told!.notAfter,
      names: [...(told!.names as string[])].sort(),
      issuer: told!.issuer,
    });
    expect(leaf.subject).toBe('CN=a\\,b\\+c \\"q\\" é');
    expect(leaf.algorithm).toBe(algorithm);
    expect(leaf.isSignedBy(ca)).toBe(true);
    expect(ca.isSignedBy(leaf)).toBe(false);
    expect(ca.nameConstraints).toEqual({ permitted: ["DNS:go.example"], excluded: [] });
    expect(leaf.crlDistributionPoints).toEqual(["http://crl.go.example/1.crl"]);
    expect(leaf.extendedKeyUsage).toEqual(["serverAuth", "clientAuth"]);
    expect(parseCsr(made!.request!).names.length).toBe(4);
  });
});

describe("what openssl and keytool make, we read", () => {
  it("all labels of a certificate, DER, bundles and trust settings", () => {
    const { leaf, middle } = estate;
    withFiles({ "leaf.pem": leaf.pem, "leaf.der": leaf.der }, (path) => {
      const trusted = openssl(["x509", "-in", path("leaf.pem"), "-trustout", "-addtrust", "serverAuth"]).text;
      expect(trusted).toContain("BEGIN TRUSTED CERTIFICATE");
      expect(parseCertificate(trusted).fingerprint).toBe(leaf.fingerprint);
      const verbose = openssl(["x509", "-in", path("leaf.pem"), "-text"]).text;
      expect(parseCertificate(verbose).fingerprint).toBe(leaf.fingerprint);
    });
    expect(parseCertificate(leaf.der).fingerprint).toBe(leaf.fingerprint);
    expect(parseCertificate(toPem("X509 CERTIFICATE", leaf.der)).fingerprint).toBe(leaf.fingerprint);
    expect(parseCertificates(leaf.pem + middle.certificate.pem).length).toBe(2);
    expect(refusal(() => parseCertificate(leaf.pem + middle.certificate.pem)).message).toMatch(/2 certificates/);
    const pkcs7 = withFiles({ a: leaf.pem }, (path) => openssl(["crl2pkcs7", "-nocrl", "-certfile", path("a")]).text);
    expect(refusal(() => parseCertificates(pkcs7, "a.p7b")).message).toContain("openssl pkcs7 -print_certs");
  });

  it("a certificate with RSASSA-PSS, checked with its own parameters", () => {
    const made = withFiles({}, (path) =>
      openssl([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        path("k"),
        "-subj",
        "/CN=pss",
        "-sha384",
        "-sigopt",
        "rsa_padding_mode:pss",
        "-sigopt",
        "rsa_pss_saltlen:40",
      ]),
    ).text;
    const certificate = parseCertificate(made);
    expect(certificate.signatureDetails).toEqual({ name: "rsassaPss", keyType: "rsa", hash: "sha384", saltLength: 40 });
    expect(certificate.isSignedBy(certificate)).toBe(true);
    const broken = Buffer.from(certificate.der);
    broken[broken.length - 1]! ^= 1;
    const other = new Certificate(broken);
    expect(other.isSignedBy(certificate)).toBe(false);
  });

  it("keytool's certificate", () => {
    withFiles({}, (path) => {
      const store = ["-keystore", path("s"), "-storepass", "changeit", "-alias", "a"];
      expect(
        keytool(["-genkeypair", ...store, "-keyalg", "EC", "-dname", "CN=java, O=Lab", "-ext", "SAN=DNS:java.example"])
          .ok,
      ).toBe(true);
      const certificate = parseCertificate(keytool(["-exportcert", "-rfc", ...store]).text);
      expect(certificate).toMatchObject({ subject: "CN=java,O=Lab", names: ["DNS:java.example"] });
    });
  });
});

describe("validity", () => {
  const fields = { subject: "CN=x" };
  it("crosses 2050 in both forms of time, and openssl and Go agree", () => {
    const certificate = signSelfSigned(estate.leafKey, {
      ...fields,
      notBefore: Date.UTC(2049, 11, 31),
      notAfter: Date.UTC(2050, 0, 1),
    });
    expect(certificate.notAfter).toBe(Date.UTC(2050, 0, 1));
    expect(openssl(["x509", "-noout", "-dates"], certificate.pem).text).toContain("notAfter=Jan  1 00:00:00 2050 GMT");
    expect(openssl(["asn1parse"], certificate.pem).text).toMatch(
      /UTCTIME\s+:491231000000Z[\s\S]*GENERALIZEDTIME\s+:20500101000000Z/,
    );
    expect(go([{ op: "certificate", pem: certificate.pem }])[0]).toMatchObject({ notAfter: Date.UTC(2050, 0, 1) });
  });

  it("without end is 99991231235959Z (RFC 5280 4.1.2.5)", () => {
    const last = Date.UTC(9999, 11, 31, 23, 59, 59);
    const certificate = signSelfSigned(estate.leafKey, { ...fields, notBefore: NOW, notAfter: last });
    expect(openssl(["asn1parse"], certificate.pem).text).toContain("99991231235959Z");
  });

  it.each([
    ["ends before it begins", NOW, NOW - 1000],
    ["ends in the second in which it begins", NOW, NOW + 999],
    ["is not a number", NOW, Number.NaN],
    ["begins before 1950", Date.UTC(1949, 0, 1), NOW],
    ["ends after 9999", NOW, Date.UTC(10_000, 0, 1)],
  ])("refuses one that %s", (_, notBefore, notAfter) => {
    expect(refusal(() => signSelfSigned(estate.leafKey, { ...fields, notBefore, notAfter })).code).toBe("input");
  });
});

describe("names", () => {
  it("an empty subject makes subjectAltName critical (RFC 5280 4.2.1.6); with one it is not", () => {
    const empty = leafOf(estate.middle, estate.leafKey, { subject: "" });
    expect(empty.extension("2.5.29.17")?.critical).toBe(true);
    expect(openssl(["x509", "-noout", "-ext", "subjectAltName"], empty.pem).text).toContain("critical");
    expect(estate.leaf.extension("2.5.29.17")?.critical).toBe(false);
    expect(go([{ op: "certificate", pem: empty.pem }])[0]).toMatchObject({ unhandled: 0 });
  });

  it("neither subject nor names, or a CA without subject, is refused", () => {
    expect(refusal(() => leafOf(estate.middle, estate.leafKey, { subject: "", names: [] })).code).toBe("input");
    expect(refusal(() => rootOf(estate.rootKey, { subject: "" })).code).toBe("input");
  });

  it("the issuer's bytes are copied, whatever string types they have", () => {
    expect(estate.leaf.issuerDer.equals(estate.middle.certificate.subjectDer)).toBe(true);
  });
});

describe("serial numbers", () => {
  it("are 128 random bits, positive, at most 20 octets, never twice", () => {
    const serials = Array.from({ length: 200 }, () => leafOf(estate.middle, estate.leafKey));
    expect(new Set(serials.map((one) => one.serial)).size).toBe(200);
    for (const { serialBytes } of serials) {
      expect(serialBytes.length).toBeLessThanOrEqual(17);
      expect(serialBytes[0]! < 0x80).toBe(true);
    }
    expect(randomSerial().length).toBe(16);
    const firstBits = new Set(serials.map((one) => one.serialBytes.length === 17));
    expect(firstBits.size).toBe(2); // the top bit is random too
  });

  it.each([
    ["zero", "00"],
    ["21 octets", "01".repeat(21)],
    ["20 octets with the top bit", `80${"00".repeat(19)}`],
    ["none", ""],
  ])("refuses %s", (_, hex) => {
    expect(refusal(() => leafOf(estate.middle, estate.leafKey, { serial: Buffer.from(hex, "hex") })).code).toBe(
      "input",
    );
  });
  it("takes 20 octets", () => {
    const serial = Buffer.from(`7f${"ff".repeat(19)}`, "hex");
    expect(leafOf(estate.middle, estate.leafKey, { serial }).serial).toBe(serial.toString("hex"));
  });
});

describe("what a CA does not sign", () => {
  it.each([
    ["beyond its own end", { notAfter: NOW + 1001 * DAY }, /outlive/],
    ["a CA below path length 0", { isCa: true }, /path length 0/],
    ["path length on a leaf", { pathLength: 1 }, /belongs to a CA/],
    ["name constraints on a leaf", { nameConstraints: { permitted: ["DNS:a"], excluded: [] } }, /belong to a CA/],
  ])("%s", (_, fields, message) => {
    const error = refusal(() => leafOf(estate.middle, estate.leafKey, fields));
    expect(error.message).toMatch(message);
    expect(error.message).toContain("nothing was signed");
  });

  it("names outside its constraints; those inside it does", async () => {
    const key = await generateKey("P-256");
    const permitted = ["DNS:lab.example", "IP:10.0.0.0/8"];
    const bound = middleOf(estate.root, key, { nameConstraints: { permitted, excluded: ["DNS:secret.lab.example"] } });
    const names = (list: string[]) => leafOf(bound, estate.leafKey, { subject: "", names: list });
    expect(names(["DNS:shop.lab.example", "IP:10.9.9.9"]).names.length).toBe(2);
    for (const list of [
      ["DNS:shop.other.example"],
      ["IP:11.0.0.1"],
      ["DNS:a.secret.lab.example"],
      ["DNS:*.lab.example"],
      ["DNS:evillab.example"],
    ])
      expect(refusal(() => names(list)).code).toBe("refused");
    const said = go([{ op: "certificate", pem: bound.certificate.pem }])[0];
    expect(said).toMatchObject({ permitted: ["lab.example"], excluded: ["secret.lab.example"], unhandled: 0 });
  });

  it("anything, with a key that is not its own or a certificate that is no CA", () => {
    expect(refusal(() => prepareAuthority(estate.root.certificate, estate.leafKey)).message).toMatch(
      /private key is not the one/,
    );
    expect(refusal(() => prepareAuthority(estate.leaf, estate.leafKey)).message).toMatch(/not a CA/);
  });
});

describe("possession", () => {
  it.each([
    ["another key in the request", (csr: Buffer) => swapKey(csr)],
    ["a flipped bit in the subject", (csr: Buffer) => flip(csr, csr.indexOf("shop"))],
    ["a flipped bit in the signature", (csr: Buffer) => flip(csr, csr.length - 1)],
  ])("is not proven by %s, and openssl agrees", (_, damage) => {
    const csr = createCsr(estate.leafKey, { subject: "CN=shop", names: ["DNS:shop.example"] });
    expect(parseCsr(csr).subject).toBe("CN=shop");
    const bad = damage(csr);
    expect(refusal(() => parseCsr(bad)).message).toMatch(/does not prove possession/);
    expect(openssl(["req", "-verify", "-noout"], csrPem(bad)).text).toMatch(/verify failure|error/i);
  });

  const flip = (der: Buffer, at: number): Buffer => {
    const copy = Buffer.from(der);
    copy[at]! ^= 1;
    return copy;
  };
  const swapKey = (der: Buffer): Buffer => {
    const at = der.indexOf(estate.leafKey.spkiDer);
    return Buffer.concat([
      der.subarray(0, at),
      estate.middleKey.spkiDer,
      der.subarray(at + estate.middleKey.spkiDer.length),
    ]);
  };
});

it("the key identifier is the left of the key's SHA-256 (RFC 7093 method 1)", () => {
  const point = estate.leafKey.spkiDer.subarray(-65);
  expect(estate.leaf.ski).toBe(hash("sha256", point, "hex").slice(0, 40));
  expect(estate.leaf.aki).toBe(estate.middle.certificate.ski);
});

it("signs for a public key that has no request", () => {
  const certificate = signCertificate(estate.root, {
    spkiDer: estate.leafKey.spkiDer,
    subject: "CN=a",
    notBefore: NOW,
    notAfter: NOW + DAY,
  });
  expect(certificate.spki).toBe(estate.leafKey.spki);
  expect(certificate.isSignedBy(estate.root.certificate)).toBe(true);
});
