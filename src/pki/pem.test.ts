import { describe, expect, it } from "vitest";
import { GyreError } from "../errors.ts";
import { nothingFound, parsePem, toPem } from "./pem.ts";

const body = Buffer.from(
  "300302010530030201053003020105300302010530030201053003020105300302010530030201053003020105",
  "hex",
);
const pem = toPem("CERTIFICATE", body);

function refusal(text: string | Uint8Array): GyreError {
  try {
    parsePem(text, "a.pem");
  } catch (error) {
    if (error instanceof GyreError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("what is read", () => {
  it.each([
    ["CERTIFICATE", "certificate"],
    ["X509 CERTIFICATE", "certificate"],
    ["X.509 CERTIFICATE", "certificate"],
    ["TRUSTED CERTIFICATE", "trusted-certificate"],
    ["CERTIFICATE REQUEST", "request"],
    ["NEW CERTIFICATE REQUEST", "request"],
    ["X509 CRL", "crl"],
    ["PRIVATE KEY", "pkcs8"],
    ["RSA PRIVATE KEY", "pkcs1"],
    ["EC PRIVATE KEY", "sec1"],
    ["ED25519 PRIVATE KEY", "ed25519"],
    ["ENCRYPTED PRIVATE KEY", "encrypted-pkcs8"],
  ])("%s", (label, kind) => {
    const { blocks, ignored } = parsePem(toPem(label, body));
    expect(blocks.map((block) => [block.kind, block.label, block.line])).toEqual([[kind, label, 1]]);
    expect(blocks[0]?.der.equals(body)).toBe(true);
    expect(ignored).toEqual([]);
  });

  it.each([
    ["CRLF", pem.replaceAll("\n", "\r\n")],
    ["CR alone", pem.replaceAll("\n", "\r")],
    ["a byte order mark", `\ufeff${pem}`],
    ["no final newline", pem.trimEnd()],
    ["text around", `subject=CN = a\n  issuer=x\n\n${pem}\nmore text\n`],
    ["indented, as in YAML", pem.replace(/^/gm, "    ")],
    ["trailing spaces and blank lines", pem.replaceAll("\n", " \t\n\n")],
    ["one long line", `-----BEGIN CERTIFICATE-----\n${body.toString("base64")}\n-----END CERTIFICATE-----`],
    ["a commented-out copy before it", `${pem.trimEnd().replace(/^/gm, "# ")}\n${pem}`],
  ])("%s", (_, text) => {
    for (const input of [text, Buffer.from(text, "utf8")]) {
      const { blocks } = parsePem(input);
      expect(blocks.length).toBe(1);
      expect(blocks[0]?.der.equals(body)).toBe(true);
    }
  });

  it("strict and lax reading agree on lines, whatever the length", () => {
    for (const length of [1, 2, 3, 47, 48, 49, 95, 96, 97, 500]) {
      const text = toPem("CERTIFICATE", Buffer.alloc(length, length)).repeat(3);
      const strict = parsePem(text);
      const lax = parsePem(`\n${text}`);
      expect(strict.blocks.map((block) => block.line + 1)).toEqual(lax.blocks.map((block) => block.line));
      expect(strict.blocks.map((block) => block.der)).toEqual(lax.blocks.map((block) => block.der));
      expect(strict.blocks.length).toBe(3);
    }
  });

  it("UTF-16 of a Windows editor", () => {
    expect(parsePem(Buffer.from(`\ufeff${pem}`, "utf16le")).blocks[0]?.der.equals(body)).toBe(true);
  });

  it("several blocks, each with its line; what is of no use is named with the reason", () => {
    const text = `${toPem("EC PARAMETERS", body)}${toPem("EC PRIVATE KEY", body)}${toPem("PKCS7", body)}${toPem("SOMETHING ELSE", body)}`;
    const { blocks, ignored } = parsePem(text);
    expect(blocks.map((block) => [block.kind, block.line])).toEqual([["sec1", 4]]);
    expect(ignored.map((block) => [block.label, block.line])).toEqual([
      ["EC PARAMETERS", 1],
      ["PKCS7", 7],
      ["SOMETHING ELSE", 10],
    ]);
    expect(ignored[1]?.why).toContain("openssl pkcs7 -print_certs");
  });

  it("headers of a legacy encrypted key", () => {
    const text = pem.replace("\n", "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n");
    expect(parsePem(text).blocks[0]?.headers).toEqual({ "Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00" });
  });

  it("an empty text holds nothing", () => {
    expect(parsePem("")).toEqual({ blocks: [], ignored: [] });
  });
});

describe("what is refused, with its line", () => {
  const lines = pem.trimEnd().split("\n");
  it.each([
    ["a character that is not base64", pem.replace("MAMC", "MA*C"), "a.pem:2", /not base64/],
    ["URL-safe base64", pem.replace("MAMC", "MA-C"), "a.pem:2", /not base64/],
    ["no END", `\n\n${lines.slice(0, -1).join("\n")}`, "a.pem:3", /cut off/],
    [
      "another END",
      pem.replace("END CERTIFICATE", "END X509 CRL"),
      `a.pem:${lines.length}`,
      /expected `-----END CERTIFICATE/,
    ],
    ["an END alone", `\n${lines.at(-1)}`, "a.pem:2", /without its BEGIN/],
    ["a block inside a block", `${lines.slice(0, 2).join("\n")}\n${pem}`, "a.pem:3", /expected `-----END/],
    ["missing characters", pem.replace("MAMC", "MAM"), "a.pem:1", /cut off/],
    ["padding inside", pem.replace("MAMC", "M==C"), "a.pem:1", /= inside/],
    ["nothing inside", `${lines[0]}\n${lines.at(-1)}`, "a.pem:1", /empty/],
    ["a broken BEGIN", pem.replace("CERTIFICATE-----\n", "CERTIFICATE---\n"), "a.pem:1", /BEGIN line/],
  ])("%s", (_, text, where, message) => {
    const error = refusal(text);
    expect(error.code).toBe("input");
    expect(error.message).toMatch(message);
    expect(error.where).toBe(where);
  });

  it("no secret: the damaged line is not repeated", () => {
    expect(refusal(pem.replace("MAMC", "MA*C")).message).not.toContain("MA*C");
  });

  it("says what was there instead of what was wanted", () => {
    const file = parsePem(`${toPem("PKCS7", body)}${toPem("PRIVATE KEY", body)}`);
    const error = nothingFound("certificate", file, "a.pem");
    expect(error.message).toContain("line 4: PRIVATE KEY");
    expect(error.message).toContain("line 1: PKCS7 (a PKCS#7 bundle");
    expect(nothingFound("certificate", parsePem("x"), "a.pem").message).toContain("no PEM block at all");
  });
});
