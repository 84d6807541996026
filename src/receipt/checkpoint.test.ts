import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { GyreError } from "../errors.ts";
import { parseCheckpoint, signCheckpoint, signedBy, verifierKey } from "./checkpoint.ts";
import { makeSigningKey, publicKeyOf, signingKey } from "./envelope.ts";
import { leafHash } from "./merkle.ts";

let home: string;
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "gyre-checkpoint-"));
});
afterAll(() => rmSync(home, { recursive: true }));

const key = signingKey(makeSigningKey());
const other = signingKey(makeSigningKey());
const root = leafHash(Buffer.from("root"));
const origin = "example.com/gyre/receipts";
const note = signCheckpoint(origin, 42, root, [key]);
const parse = (text: string) => parseCheckpoint(Buffer.from(text));

function codeOf(work: () => unknown): string {
  try {
    work();
    return "none";
  } catch (error) {
    if (error instanceof GyreError) return error.code;
    throw error;
  }
}

describe("a checkpoint", () => {
  it("is the text that signed-note and tlog-checkpoint describe", () => {
    const [first, size, hash, empty, signature, end] = note.split("\n");
    expect([first, size, hash, empty, end]).toEqual([origin, "42", root.toString("base64"), "", ""]);
    const [dash, name, blob] = signature!.split(" ");
    expect([dash, name]).toEqual(["\u2014", origin]);
    const raw = Buffer.from(key.publicKey, "base64").subarray(12);
    const id = createHash("sha256")
      .update(`${origin}\n`)
      .update(Buffer.from([1]))
      .update(raw)
      .digest()
      .subarray(0, 4);
    expect(Buffer.from(blob!, "base64").subarray(0, 4)).toEqual(id);
    expect(verifierKey(origin, key.publicKey)).toBe(
      `${origin}+${id.toString("hex")}+${Buffer.concat([Buffer.from([1]), raw]).toString("base64")}`,
    );
  });

  it("is signed over its text with the last newline, as openssl judges it", () => {
    const [message, signature, publicKey] = ["m", "s", "k"].map((name) => join(home, name)) as [string, string, string];
    writeFileSync(signature, Buffer.from(note.trimEnd().split(" ").at(-1)!, "base64").subarray(4));
    writeFileSync(publicKey, Buffer.from(key.publicKey, "base64"));
    const judge = (text: string) => {
      writeFileSync(message, text);
      const args = [
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        publicKey,
        "-keyform",
        "DER",
        "-rawin",
        "-in",
        message,
        "-sigfile",
        signature,
      ];
      return execFileSync("openssl", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
    };
    expect(judge(`${origin}\n42\n${root.toString("base64")}\n`)).toContain("Verified Successfully");
    expect(() => judge(`${origin}\n41\n${root.toString("base64")}\n`)).toThrow();
  });

  it("reads back, and knows whose it is", () => {
    const both = parse(signCheckpoint(origin, 42, root, [other, key]));
    expect([both.origin, both.size, both.root.equals(root), both.signatures.length]).toEqual([origin, 42, true, 2]);
    expect([key, other].map((one) => signedBy(both, publicKeyOf(one)))).toEqual([true, true]);
    expect([key, other].map((one) => signedBy(parse(note), publicKeyOf(one)))).toEqual([true, false]);
  });

  it("changed in any byte is unreadable or not signed", () => {
    const bytes = Buffer.from(note);
    for (let at = 0; at < bytes.length; at++) {
      for (const mask of [1, 2, 0x10, 0x20, 0x80, bytes[at]! ^ 10]) {
        if (mask === 0) continue;
        const changed = Buffer.from(bytes);
        changed[at]! ^= mask;
        let accepted = false;
        try {
          accepted = signedBy(parseCheckpoint(changed), publicKeyOf(key));
        } catch (error) {
          expect(error).toBeInstanceOf(GyreError);
        }
        expect(accepted, `byte ${at} ^ ${mask}`).toBe(false);
      }
    }
    expect(signedBy(parse(note), publicKeyOf(key))).toBe(true);
  });

  it("takes signatures of witnesses and further text lines, but no lies about its form", () => {
    const line = note.trimEnd().split("\n").at(-1)!;
    const witnessed = `${note}${line.replace(origin, "witness.example")}\n`;
    expect(signedBy(parse(witnessed), publicKeyOf(key))).toBe(true);
    const extended = note.replace("\n\n", "\nextension\n\n");
    expect(signedBy(parse(extended), publicKeyOf(key))).toBe(false);
    for (const bad of [
      "",
      note.trimEnd(),
      note.replace("\n42\n", "\n042\n"),
      note.replace("\n42\n", "\n-1\n"),
      note.replace("\n42\n", "\n9007199254740993\n"),
      note.replace(root.toString("base64"), root.subarray(1).toString("base64")),
      note.replace("=\n", "\n"),
      note.replace("\u2014", "-"),
      note.replace(line, ""),
      note.replace(line, `${line} `),
      note.replace(origin, ""),
      `${note}\n`,
      note.replace("\n", "\r\n"),
    ]) {
      expect(
        codeOf(() => parse(bad)),
        JSON.stringify(bad),
      ).toBe("damaged");
    }
    for (const name of ["", "a b", "a+b", "a\nb"])
      expect(codeOf(() => signCheckpoint(name, 1, root, [key]))).toBe("input");
  });

  it("meets 100,000 mangled notes with an error of ours or without a signature", () => {
    const bytes = Buffer.from(note);
    const publicKey = publicKeyOf(key);
    const put = fc.oneof(
      fc.uint8Array({ maxLength: 6 }),
      fc.tuple(fc.nat(bytes.length), fc.nat(60)).map(([from, length]) => bytes.subarray(from, from + length)),
    );
    const edits = fc.array(fc.record({ at: fc.nat(bytes.length), cut: fc.nat(20), put }), {
      minLength: 1,
      maxLength: 3,
    });
    let read = 0;
    fc.assert(
      fc.property(edits, (changes) => {
        let now = bytes;
        for (const one of changes)
          now = Buffer.concat([now.subarray(0, one.at), one.put, now.subarray(one.at + one.cut)]);
        try {
          const checkpoint = parseCheckpoint(now);
          read++;
          // What is still signed says still the same.
          if (signedBy(checkpoint, publicKey)) expect([checkpoint.origin, checkpoint.size]).toEqual([origin, 42]);
        } catch (error) {
          if (!(error instanceof GyreError) || error.code !== "damaged") throw error;
        }
      }),
      { numRuns: 100_000 },
    );
    expect(read).toBeGreaterThan(100);
  });
});
