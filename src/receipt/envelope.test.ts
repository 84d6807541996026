import { execFileSync } from "node:child_process";
import { createHash, generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { GyreError } from "../errors.ts";
import { Secret } from "../pki/secret.ts";
import {
  encodeEnvelope,
  type KeyStore,
  makeSigningKey,
  openSigningKey,
  PAYLOAD_TYPE,
  pae,
  parseEnvelope,
  parseStatement,
  signatureProblems,
  signingKey,
  signStatement,
} from "./envelope.ts";
import { sampleReceipt } from "./fixtures/sample-receipt.ts";
import { contradictions, evidenceOf, type Receipt, statementOf } from "./statement.ts";

let home: string;
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "gyre-envelope-"));
});
afterAll(() => rmSync(home, { recursive: true }));

const [one, two] = [signingKey(makeSigningKey()), signingKey(makeSigningKey())];
const signed = (over: Partial<Receipt> = {}) => signStatement(statementOf(sampleReceipt([one], over)), [one]);

function codeOf(work: () => unknown): string {
  try {
    work();
    return "none";
  } catch (error) {
    if (error instanceof GyreError) return error.code;
    throw error;
  }
}

describe("a receipt's envelope", () => {
  it("is signed as openssl judges it: PAE by hand, public key from the statement", () => {
    const envelope = signed();
    const payload = Buffer.from(envelope.payload, "base64");
    const der = Buffer.from(parseStatement(envelope).predicate.signers[0]!.publicKey, "base64");
    const [message, signature, key] = ["message", "signature", "key.der"].map((name) => join(home, name)) as [
      string,
      string,
      string,
    ];
    writeFileSync(
      message,
      `DSSEv1 ${PAYLOAD_TYPE.length} ${PAYLOAD_TYPE} ${payload.length} ${payload.toString("utf8")}`,
    );
    writeFileSync(signature, Buffer.from(envelope.signatures[0]!.sig, "base64"));
    writeFileSync(key, der);
    const judge = () =>
      execFileSync(
        "openssl",
        [
          "pkeyutl",
          "-verify",
          "-pubin",
          "-inkey",
          key,
          "-keyform",
          "DER",
          "-rawin",
          "-in",
          message,
          "-sigfile",
          signature,
        ],
        {
          encoding: "utf8",
          stdio: ["ignore", "pipe", "pipe"],
        },
      );
    expect(judge()).toContain("Signature Verified Successfully");
    expect(envelope.signatures[0]!.keyid).toBe(`sha256:${createHash("sha256").update(der).digest("hex")}`);
    writeFileSync(
      message,
      `DSSEv1 ${PAYLOAD_TYPE.length} ${PAYLOAD_TYPE} ${payload.length} ${payload.toString("utf8")} `,
    );
    expect(judge).toThrow();
  });

  it("encodes the PAE of the DSSE document's own example", () => {
    expect(pae("http://example.com/HelloWorld", Buffer.from("hello world")).toString()).toBe(
      "DSSEv1 29 http://example.com/HelloWorld 11 hello world",
    );
  });

  it("reads back what it wrote, for one and several keys", () => {
    const keys = [one, two];
    const envelope = signStatement(statementOf(sampleReceipt(keys)), keys);
    const back = parseEnvelope(Buffer.from(encodeEnvelope(envelope)));
    expect(back).toEqual(envelope);
    const statement = parseStatement(back);
    expect(statement).toEqual(statementOf(sampleReceipt(keys)));
    expect(signatureProblems(back, statement)).toEqual([]);
  });

  it("needs every signature it names, in place, and no other", () => {
    const keys = [one, two];
    const envelope = signStatement(statementOf(sampleReceipt(keys)), keys);
    const statement = parseStatement(envelope);
    const [a, b] = envelope.signatures as [{ keyid: string; sig: string }, { keyid: string; sig: string }];
    for (const signatures of [
      [],
      [a],
      [b, a],
      [a, a],
      [a, b, a],
      [a, { ...b, keyid: a.keyid }],
      [a, { ...b, sig: a.sig }],
      [a, { ...b, sig: "AAAA" }],
    ]) {
      expect(signatureProblems({ ...envelope, signatures }, statement)).not.toEqual([]);
    }
  });

  it("refuses a key beside a signer's id that is not its own, and keys of other kinds", () => {
    const p256 = generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey.export({ format: "der", type: "spki" });
    for (const publicKey of [two.publicKey, p256.toString("base64"), "", "AAAA", `${one.publicKey}\n`]) {
      const signers = [{ keyId: one.keyId, publicKey }];
      const statement = statementOf({ ...sampleReceipt([one]), signers });
      expect(signatureProblems(signStatement(statement, [one]), statement)).not.toEqual([]);
    }
  });

  it("signs nothing it could not read again, and nothing for other keys than named", () => {
    const receipt = sampleReceipt([one]);
    const statement = (over: object) => statementOf({ ...receipt, ...over } as Receipt);
    expect(codeOf(() => signStatement(statement({}), [two]))).toBe("bug");
    expect(codeOf(() => signStatement(statement({}), []))).toBe("bug");
    for (const over of [
      { grade: "GREAT" },
      { startedAt: "2026-01-01" },
      { secret: 1 },
      { plan: "sha256:1" },
      { scope: {} },
      { verdicts: [1] },
    ]) {
      expect(
        codeOf(() => signStatement(statement(over), [one])),
        JSON.stringify(over),
      ).toBe("damaged");
    }
  });

  it("is read in one spelling only", () => {
    const text = encodeEnvelope(signed());
    const { payload } = JSON.parse(text);
    const reads = (changed: string) => codeOf(() => parseEnvelope(Buffer.from(changed)));
    expect(reads(text)).toBe("none");
    for (const changed of [
      text.trimEnd(),
      `${text}\n`,
      ` ${text}`,
      `\ufeff${text}`,
      text.replace(":", ": "),
      text.replace('"payload"', '"p\\u0061yload"'),
      text.replace('"payloadType"', '"payloadType":"x","payloadType"'),
      text.replace('"payloadType"', '"more":1,"payloadType"'),
      `{"payload":"${payload}",${text.slice(1).replace(`"payload":"${payload}",`, "")}`,
    ]) {
      expect(reads(changed), changed.slice(0, 60)).toBe("damaged");
    }
    const inner = (changed: string) =>
      codeOf(() =>
        parseStatement({ payloadType: PAYLOAD_TYPE, payload: Buffer.from(changed).toString("base64"), signatures: [] }),
      );
    const statement = Buffer.from(payload, "base64").toString("utf8");
    expect(inner(statement)).toBe("none");
    for (const changed of [
      statement.replace('"grade":"REFUSED"', '"grade":"SUPERSEDED","grade":"REFUSED"'),
      statement.replace('"seq":3', '"seq":3.0'),
      statement.replace('"seq":3', '"seq":-0'),
      statement.replace("lab-root", "lab\\u002droot"),
      `${statement} `,
    ]) {
      expect(inner(changed), changed.slice(0, 60)).toBe("damaged");
    }
    expect(codeOf(() => parseStatement({ payloadType: "text/plain", payload, signatures: [] }))).toBe("damaged");
    expect(codeOf(() => parseStatement({ payloadType: PAYLOAD_TYPE, payload: `${payload}=`, signatures: [] }))).toBe(
      "damaged",
    );
  });

  it("made of 100,000 mangled texts is an error of ours or not the same text", () => {
    const bytes = Buffer.from(encodeEnvelope(signed()));
    const inner = Buffer.from(JSON.parse(bytes.toString("utf8")).payload, "base64");
    const edits = (of: Buffer) =>
      fc.array(
        fc.record({
          at: fc.nat(of.length),
          cut: fc.nat(8),
          put: fc.oneof(
            fc.uint8Array({ maxLength: 6 }),
            fc.tuple(fc.nat(of.length), fc.nat(60)).map(([from, length]) => of.subarray(from, from + length)),
          ),
        }),
        { minLength: 1, maxLength: 3 },
      );
    const apply = (of: Buffer, changes: readonly { at: number; cut: number; put: Uint8Array }[]) =>
      changes.reduce((now, { at, cut, put }) => Buffer.concat([now.subarray(0, at), put, now.subarray(at + cut)]), of);
    const accepted = { envelope: 0, statement: 0 };
    const read = (which: "envelope" | "statement", work: () => void) => {
      try {
        work();
        accepted[which]++;
      } catch (error) {
        if (!(error instanceof GyreError) || error.code !== "damaged") throw error;
      }
    };
    fc.assert(
      fc.property(edits(bytes), (changes) => read("envelope", () => parseEnvelope(apply(bytes, changes)))),
      { numRuns: 100_000 },
    );
    fc.assert(
      fc.property(edits(inner), (changes) =>
        read("statement", () => {
          const payload = apply(inner, changes).toString("base64");
          const statement = parseStatement({ payloadType: PAYLOAD_TYPE, payload, signatures: [] });
          contradictions(statement);
          evidenceOf(statement);
        }),
      ),
      { numRuns: 100_000 },
    );
    // Both kinds were met: mangled ones that still are texts of the form, and those that are not.
    expect(accepted.envelope).toBeGreaterThan(100);
    expect(accepted.statement).toBeGreaterThan(100);
  });

  it("survives nesting that exhausts the stack", () => {
    for (const text of ["[".repeat(200_000), `${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}\n`]) {
      expect(codeOf(() => parseEnvelope(Buffer.from(text)))).toBe("damaged");
    }
  });
});

describe("the signing key", () => {
  it("is made once and kept, also when two make it at once", async () => {
    const kept = new Map<string, Secret>();
    const store: KeyStore = {
      get: async (name) => kept.get(name),
      put: async (name, secret) => {
        if (kept.has(name)) throw new GyreError({ code: "conflict", message: "taken" });
        kept.set(name, secret);
      },
    };
    const [a, b] = await Promise.all([openSigningKey(store, "receipt.key"), openSigningKey(store, "receipt.key")]);
    expect(a.keyId).toBe(b.keyId);
    expect((await openSigningKey(store, "receipt.key")).keyId).toBe(a.keyId);
    expect((await openSigningKey(store, "other.key")).keyId).not.toBe(a.keyId);
  });

  it("of another kind is refused without a word about its bytes", () => {
    const p256 = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "der", type: "pkcs8" });
    for (const bytes of [p256, Buffer.from("MARKED")]) {
      expect(codeOf(() => signingKey(Secret.of(bytes)))).toBe("input");
    }
    expect(JSON.stringify(one)).not.toContain(
      makeSigningKey()
        .use((bytes) => bytes.toString("base64"))
        .slice(0, 24),
    );
  });
});

describe("what a receipt may claim", () => {
  const found = (over: Partial<Receipt>) => contradictions(statementOf(sampleReceipt([one], over)));
  const verdict = (word: Receipt["verdicts"][number]["verdict"]) => ({
    member: "m",
    verdict: word,
    at: "2026-01-01T10:00:00.000Z",
    what: "seen",
  });
  const waiver = {
    member: "m",
    by: "ann",
    reason: "old",
    at: "2026-01-01T10:00:00.000Z",
    expires: "2026-02-01T10:00:00.000Z",
  };

  it("is no more than its verdicts", () => {
    expect(found({})).toEqual([]);
    expect(found({ grade: "REFUSED", verdicts: [verdict("refused"), verdict("superseded")] })).toHaveLength(1);
    expect(found({ grade: "SUPERSEDED", verdicts: [verdict("refused"), verdict("superseded")] })).toEqual([]);
    expect(found({ grade: "DENIED", verdicts: [verdict("unknown")] })).toHaveLength(1);
    expect(found({ grade: "REFUSED", verdicts: [] })).toHaveLength(1);
    expect(found({ grade: "SUPERSEDED", verdicts: [] })).toEqual([]);
    expect(
      found({ grade: "REFUSED", verdicts: [verdict("refused"), { ...verdict("waived"), member: "w" }] }),
    ).toHaveLength(1);
    expect(found({ grade: "REFUSED", verdicts: [verdict("refused"), verdict("waived")], waivers: [waiver] })).toEqual(
      [],
    );
    expect(found({ grade: "REFUSED", verdicts: [verdict("waived")], waivers: [waiver] })).toHaveLength(1);
    expect(found({ grade: "FIRST", verdicts: [] })).toHaveLength(1);
    const { before: _, ...first } = sampleReceipt([one]);
    expect(contradictions(statementOf({ ...first, grade: "FIRST", verdicts: [] }))).toEqual([]);
    expect(contradictions(statementOf(first))).toHaveLength(1);
    const statement = statementOf(sampleReceipt([one]));
    expect(contradictions({ ...statement, subject: [] })).toHaveLength(1);
  });
});
