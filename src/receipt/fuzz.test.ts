import { expect, it } from "vitest";
import { buffers, fuzz, mutate, TEXT } from "../../test/fuzz/fuzz.ts";
import { parseCheckpoint, signCheckpoint, signedBy } from "./checkpoint.ts";
import {
  encodeEnvelope,
  makeSigningKey,
  PAYLOAD_TYPE,
  parseEnvelope,
  parseStatement,
  publicKeyOf,
  signatureProblems,
  signerOf,
  signingKey,
  signStatement,
} from "./envelope.ts";
import { sampleReceipt } from "./fixtures/sample-receipt.ts";
import { parseLeaves } from "./log.ts";
import { leafHash, rootOf } from "./merkle.ts";
import { contradictions, evidenceOf, statementOf } from "./statement.ts";

const key = signingKey(makeSigningKey());
const statement = statementOf(sampleReceipt([key]));
const envelope = signStatement(statement, [key]);
const receipt = Buffer.from(encodeEnvelope(envelope));
const payload = Buffer.from(envelope.payload, "base64");

it("a damaged receipt is refused, or its signature does not fit: only the bytes that were signed pass", () => {
  fuzz({
    seed: 51,
    inputs: [receipt],
    pieces: TEXT,
    ends: ["damaged", "another's", "as signed"],
    read(input) {
      const read = parseEnvelope(input);
      const problems = signatureProblems(read, parseStatement(read));
      if (problems.length > 0) return "another's";
      expect(input).toEqual(receipt);
      return "as signed";
    },
  });
});

it("a damaged statement in a whole envelope is refused, or judged without a throw", () => {
  fuzz({
    seed: 52,
    inputs: [payload],
    pieces: [...TEXT, ...buffers(['"grade":"REFUSED"', '"unknowns":[],', "2026-01-01T10:00:00.000Z", '"sha256:'])],
    ends: ["damaged", "read"],
    read(input, pick) {
      // A few bytes of a large statement: half of the changes are made where the text is a value and not a name.
      const bytes = pick(2) === 0 ? input : spoilt(pick);
      const read = parseStatement({ payloadType: PAYLOAD_TYPE, payload: bytes.toString("base64"), signatures: [] });
      expect(Array.isArray(contradictions(read))).toBe(true);
      for (const digest of evidenceOf(read)) expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/);
      expect(read.predicate.outcome).toBe("closed");
      return "read";
    },
  });
});

/** The statement with one to four changes inside its strings. */
function spoilt(pick: (below: number) => number): Buffer {
  const text = payload.toString("utf8");
  const strings = [...text.matchAll(/"[^"\\]+"(?!:)/g)];
  const { index, 0: found } = strings[pick(strings.length)]!;
  const inside = mutate(Buffer.from(found.slice(1, -1)), [payload], pick, TEXT).toString("latin1");
  return Buffer.from(`${text.slice(0, index)}${JSON.stringify(inside)}${text.slice(index + found.length)}`);
}

it("a damaged checkpoint is refused, or not signed: only the text that was signed passes", () => {
  const leaves = ["a", "b", "c"].map((one) => leafHash(Buffer.from(one)));
  const signed = signCheckpoint("example.com/receipts", 3, rootOf(leaves), [key]);
  const text = parseCheckpoint(Buffer.from(signed)).text;
  const publicKey = publicKeyOf(signerOf(key));
  fuzz({
    seed: 53,
    inputs: buffers([signed, signCheckpoint("example.com/receipts", 0, rootOf([]), [key])]),
    pieces: TEXT,
    ends: ["damaged", "unsigned", "signed"],
    read(input) {
      const read = parseCheckpoint(input);
      expect(Number.isSafeInteger(read.size) && read.size >= 0).toBe(true);
      if (!signedBy(read, publicKey)) return "unsigned";
      expect([0, 3]).toContain(read.size);
      if (read.size === 3) expect(read.text).toBe(text);
      return "signed";
    },
  });
});

it("damaged leaf hashes are refused with their line, or are a beginning of those written", () => {
  const hashes = Array.from({ length: 5 }, (_, index) => leafHash(Buffer.from([index])).toString("hex"));
  const lines = hashes.map((leaf, index) => `${JSON.stringify({ index, leaf })}\n`).join("");
  fuzz({
    seed: 54,
    inputs: buffers([lines, ""]),
    pieces: [...TEXT, ...buffers(["a", "b"])],
    ends: ["damaged", "read"],
    read(input) {
      const read = parseLeaves(input, "fuzz");
      // One text per list: what is read writes the very bytes again.
      const again = read.map((leaf, index) => `${JSON.stringify({ index, leaf: leaf.toString("hex") })}\n`).join("");
      expect(Buffer.from(again)).toEqual(input);
      return "read";
    },
  });
});
