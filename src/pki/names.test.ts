import { describe, expect, it } from "vitest";
import { NOW } from "../../test/judges/pki/estate.ts";
import { openssl, withFiles } from "../../test/judges/pki/judge.ts";
import { GyreError } from "../errors.ts";
import { DerReader, sequence } from "./der.ts";
import { normaliseDistinguishedName, readName, writeName } from "./distinguished-name.ts";
import { covers } from "./hostnames.ts";
import { signSelfSigned } from "./issue.ts";
import { generateKey } from "./keys.ts";
import {
  formatGeneralName,
  ipBytes,
  ipText,
  normaliseNames,
  parseGeneralName,
  readGeneralNames,
  writeGeneralName,
} from "./names.ts";

function refusal(act: () => unknown): GyreError {
  try {
    act();
  } catch (error) {
    if (error instanceof GyreError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("general names", () => {
  it.each([
    ["DNS:Shop.Example", "DNS:shop.example"],
    ["DNS:*.shop.example", "DNS:*.shop.example"],
    ["DNS:_acme.a-b.example", "DNS:_acme.a-b.example"],
    ["DNS:localhost", "DNS:localhost"],
    ["DNS:xn--bcher-kva.example", "DNS:xn--bcher-kva.example"],
    ["IP:10.0.0.1", "IP:10.0.0.1"],
    ["IP:2001:DB8:0:0:0:0:0:1", "IP:2001:db8::1"],
    ["IP:::ffff:1.2.3.4", "IP:::ffff:102:304"],
    ["IP:::", "IP:::"],
    ["IP:1:0:0:2:0:0:0:3", "IP:1:0:0:2::3"],
    ["IP:1:0:0:2:3:0:0:4", "IP:1::2:3:0:0:4"],
    ["URI:SPIFFE://td.example/ns/a", "URI:spiffe://td.example/ns/a"],
    ["URI:https://[2001:db8::1]/x?y#z", "URI:https://[2001:db8::1]/x?y#z"],
    ["URI:urn:uuid:1", "URI:urn:uuid:1"],
    ["email:Ann.Lee@Mail.Example", "email:Ann.Lee@mail.example"],
  ])("%s is %s and survives DER", (text, expected) => {
    const name = parseGeneralName(text);
    expect(formatGeneralName(name)).toBe(expected);
    const der = sequence(writeGeneralName(name));
    expect(readGeneralNames(new DerReader(der, "test").enter(0x30))).toEqual([expected]);
  });

  it.each([
    ["shop.example", "write DNS:shop.example"],
    ["10.0.0.1", "write IP:10.0.0.1"],
    ["a@b.example", "write email:a@b.example"],
    ["spiffe://td/x", "write URI:spiffe://td/x"],
    ["DNS:10.0.0.1", "write IP:10.0.0.1"],
    ["DNS:bücher.example", "write its A-label form: DNS:xn--bcher-kva.example"],
    ["DNS:shop.example.", "write DNS:shop.example"],
  ])("refuses %s and says what to do: %s", (text, next) => {
    const error = refusal(() => parseGeneralName(text));
    expect(error.code).toBe("input");
    expect(error.next).toBe(next);
  });

  it.each([
    "DNS:",
    "DNS:*",
    "DNS:a.*.example",
    "DNS:a*.example",
    "DNS:-a.example",
    "DNS:a..example",
    "DNS:a b.example",
    `DNS:${"a".repeat(64)}.example`,
    `DNS:${"a.".repeat(130)}example`,
    "IP:10.0.0",
    "IP:10.0.0.256",
    "IP:fe80::1%eth0",
    "IP:10.0.0.0/8",
    "URI:",
    "URI:/relative",
    "URI:http://a b",
    "URI:http://a/%zz",
    "URI:http://ü.example/",
    "email:a",
    "email:@b.example",
    "email:a@*.b.example",
    "email:a b@c.example",
    "DNS:a\nb",
    "DNS:a\0.example",
  ])("refuses %j", (text) => {
    expect(refusal(() => parseGeneralName(text)).code).toBe("input");
  });

  it("counts a name given twice once", () => {
    expect(normaliseNames(["DNS:A.example", "DNS:a.example", "IP:::1", "IP:0:0:0:0:0:0:0:1"])).toEqual([
      "DNS:a.example",
      "IP:::1",
    ]);
  });

  it("shows a foreign name so that it cannot pass for two", () => {
    const der = sequence(Buffer.from([0x82, 7, ...Buffer.from("a,DNS:b")]));
    expect(readGeneralNames(new DerReader(der, "test").enter(0x30))).toEqual(["DNS:a\\2cdns:b"]);
  });

  it("round-trips addresses", () => {
    for (const text of [
      "0.0.0.0",
      "255.255.255.255",
      "::",
      "::1",
      "1::",
      "2001:db8::ff",
      "1:2:3:4:5:6:7:8",
      "1:0:3::6:7:8",
    ])
      expect(ipText(ipBytes(text)!)).toBe(text);
  });
});

describe("names that cover names", () => {
  const names = ["DNS:*.shop.example", "DNS:shop.example", "IP:10.0.0.1"];
  it.each([
    ["DNS:shop.example", true],
    ["DNS:SHOP.example.", true],
    ["DNS:a.shop.example", true],
    ["DNS:a.b.shop.example", false],
    ["DNS:*.shop.example", true],
    ["DNS:.shop.example", false],
    ["DNS:other.example", false],
    ["IP:10.0.0.1", true],
    ["IP:10.0.0.2", false],
    ["DNS:10.0.0.1", false],
  ])("%s: %s", (wanted, expected) => {
    expect(covers(names, wanted)).toBe(expected);
  });
});

describe("distinguished names", () => {
  it.each([
    ["", ""],
    ["CN=shop,O=Lab", "CN=shop,O=Lab"],
    ["cn = shop , o=Lab", "CN=shop,O=Lab"],
    ["CN=a\\,b,O=c\\+d", "CN=a\\,b,O=c\\+d"],
    ['CN="a, b",O=x', "CN=a\\, b,O=x"],
    ["CN=caf\\c3\\a9", "CN=café"],
    ["CN=\\ lead and trail\\ ", "CN=\\ lead and trail\\ "],
    ["CN=\\#x", "CN=\\#x"],
    ["OU=b+CN=a", "CN=a+OU=b"],
    ["C=CH,DC=lab,DC=example", "C=CH,DC=lab,DC=example"],
    ["2.5.4.97=#0c0141", "2.5.4.97=#0c0141"],
    ["OID.2.5.4.3=x", "CN=x"],
    ["CN=tab\\09end", "CN=tab\\09end"],
    ["emailAddress=a@b.example,UID=7", "emailAddress=a@b.example,UID=7"],
    ["CN=system:node:a,O=system:nodes", "CN=system:node:a,O=system:nodes"],
  ])("%j is %j", (text, expected) => {
    expect(normaliseDistinguishedName(text)).toBe(expected);
    expect(readName(writeName(expected))).toBe(expected);
  });

  it.each([
    "CN",
    "=x",
    "CN=",
    "XX=1",
    "CN=a,,O=b",
    "C=CHE",
    "C=ü",
    "CN=a\\",
    'CN="a',
    "CN=#0c",
    "CN=#0c02aa",
    "CN=\\ff",
    "1.99=a",
    `CN=${"a".repeat(20_000)}`,
  ])("refuses %j", (text) => {
    expect(refusal(() => writeName(text)).code).toBe("input");
  });

  it("shows control characters and reversed text escaped", () => {
    expect(normaliseDistinguishedName("CN=a\u001b[2Jb")).toBe("CN=a\\1b[2Jb");
    expect(normaliseDistinguishedName("CN=a\u202eb")).toBe("CN=a\\e2\\80\\aeb");
  });

  it("agrees with openssl", async () => {
    const subject = 'CN=a\\,b \\"q\\" é,OU=x\\+y,O=Lab,DC=lab,C=CH';
    const key = await generateKey("P-256");
    const certificate = signSelfSigned(key, { subject, notBefore: NOW, notAfter: NOW + 1e9 });
    const said = withFiles({ "a.pem": certificate.pem }, (path) =>
      openssl(["x509", "-in", path("a.pem"), "-noout", "-subject", "-nameopt", "RFC2253,-esc_msb,utf8"]),
    );
    expect(said.text.trim()).toBe(`subject=${subject}`);
    expect(certificate.subject).toBe(subject);
  });
});
