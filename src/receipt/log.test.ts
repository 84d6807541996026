import { randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseCheckpoint } from "./checkpoint.ts";
import {
  type Envelope,
  encodeEnvelope,
  makeSigningKey,
  type SigningKey,
  signingKey,
  signStatement,
} from "./envelope.ts";
import { sampleReceipt } from "./fixtures/sample-receipt.ts";
import { openReceiptLog, parseLeaves } from "./log.ts";
import { leafHash, rootOf } from "./merkle.ts";
import { statementOf } from "./statement.ts";
import { verifyReceipt } from "./verify.ts";

let home: string;
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "gyre-log-"));
});
afterAll(() => rmSync(home, { recursive: true }));

const key = signingKey(makeSigningKey());
const origin = "example.com/gyre/receipts";
const fresh = () => join(home, randomBytes(6).toString("hex"));
const receipt = (n: number): Envelope =>
  signStatement(statementOf(sampleReceipt([key], { rotation: `shop/${n}` })), [key]);

async function judged(directory: string, envelope: Envelope): Promise<string> {
  const judgement = await verifyReceipt(encodeEnvelope(envelope), { pin: key.keyId, log: directory });
  return `${judgement.verdict} ${judgement.problems.join("; ")}`.trim();
}

describe("the receipt log", () => {
  it("keeps the very bytes, numbers them and signs their root", async () => {
    const directory = fresh();
    const log = openReceiptLog(directory, origin);
    expect(await log.head()).toEqual({ origin, size: 0, root: rootOf([]).toString("hex") });
    for (let n = 0; n < 3; n++) expect((await log.append(receipt(n), [key])).index).toBe(n);
    const leaves = [0, 1, 2].map((n) => leafHash(readFileSync(join(directory, "receipts", `${n}.json`))));
    expect(readFileSync(join(directory, "receipts", "1.json"), "utf8")).toBe(encodeEnvelope(receipt(1)));
    const checkpoint = parseCheckpoint(readFileSync(join(directory, "checkpoint")));
    expect([checkpoint.size, checkpoint.root]).toEqual([3, rootOf(leaves)]);
    expect(parseLeaves(readFileSync(join(directory, "log.jsonl")), directory)).toEqual(leaves);
    expect((await log.find("shop/1"))?.index).toBe(1);
    expect(await log.find("shop/9")).toBeUndefined();
  });

  it("holds a receipt once, however often it is added", async () => {
    const log = openReceiptLog(fresh(), origin);
    await log.append(receipt(0), [key]);
    await log.append(receipt(1), [key]);
    expect((await log.append(receipt(0), [key])).index).toBe(0);
    expect((await log.head()).size).toBe(2);
  });

  it("takes receipts from many writers at once, each with its own place", async () => {
    const numbers = [...Array(12).keys()];
    for (let round = 0; round < 12; round++) {
      const directory = fresh();
      const add = (n: number) => openReceiptLog(directory, origin).append(receipt(n), [key]);
      const places = await Promise.all(numbers.map(add));
      expect(places.map((place) => place.index).sort((a, b) => a - b)).toEqual(numbers);
      expect(parseCheckpoint(readFileSync(join(directory, "checkpoint"))).size).toBe(12);
      expect(readFileSync(join(directory, "log.jsonl"), "utf8").split("\n")).toHaveLength(13);
      expect(await judged(directory, receipt(round))).toBe("VERIFIED");
      expect(readdirSync(directory).sort()).toEqual(["checkpoint", "log.jsonl", "receipts"]);
      expect(readdirSync(join(directory, "receipts"))).toHaveLength(12);
    }
  });

  it("signs again when another writer's receipt came in while it signed", async () => {
    const directory = fresh();
    let other = true;
    const key2: SigningKey = {
      ...key,
      sign(message) {
        // What another process does between our reading of the receipts and our writing of the checkpoint.
        if (other) writeFileSync(join(directory, "receipts", "1.json"), encodeEnvelope(receipt(1)));
        other = false;
        return key.sign(message);
      },
    };
    expect(await openReceiptLog(directory, origin).append(receipt(0), [key2])).toMatchObject({ index: 0, size: 2 });
    expect(parseCheckpoint(readFileSync(join(directory, "checkpoint"))).size).toBe(2);
    expect(await judged(directory, receipt(1))).toBe("VERIFIED");
  });

  it("catches up after a crash at any point of an append", async () => {
    const directory = fresh();
    const log = openReceiptLog(directory, origin);
    await log.append(receipt(0), [key]);
    const [lines, checkpoint] = ["log.jsonl", "checkpoint"].map((name) => readFileSync(join(directory, name)));
    await log.append(receipt(1), [key]);
    const after = ["log.jsonl", "checkpoint"].map((name) => readFileSync(join(directory, name)));
    // Killed after the receipt, and after the leaf hashes.
    for (const state of [
      [lines!, checkpoint!],
      [after[0]!, checkpoint!],
    ]) {
      writeFileSync(join(directory, "log.jsonl"), state[0]!);
      writeFileSync(join(directory, "checkpoint"), state[1]!);
      expect(await judged(directory, receipt(1))).toBe("VERIFIED");
      expect((await log.append(receipt(1), [key])).index).toBe(1);
      expect(["log.jsonl", "checkpoint"].map((name) => readFileSync(join(directory, name)))).toEqual(after);
    }
  });

  it("is rebuilt from its receipts, but never against its checkpoint", async () => {
    const directory = fresh();
    const log = openReceiptLog(directory, origin);
    for (let n = 0; n < 3; n++) await log.append(receipt(n), [key]);
    const head = await log.head();
    unlinkSync(join(directory, "log.jsonl"));
    expect(await log.rebuild([key])).toEqual(head);
    expect(await judged(directory, receipt(2))).toBe("VERIFIED");
    const path = join(directory, "receipts", "1.json");
    const kept = readFileSync(path);
    writeFileSync(path, encodeEnvelope(receipt(7)));
    await expect(log.rebuild([key])).rejects.toMatchObject({ code: "damaged" });
    writeFileSync(path, kept);
    await log.rebuild([key]);
    unlinkSync(path);
    await expect(log.rebuild([key])).rejects.toMatchObject({
      code: "damaged",
      message: expect.stringContaining("receipt 1 is missing"),
    });
  });

  it("signs nothing that does not continue what was signed, and nothing for another name or key", async () => {
    const directory = fresh();
    const log = openReceiptLog(directory, origin);
    await log.append(receipt(0), [key]);
    await log.append(receipt(1), [key]);
    const before = readFileSync(join(directory, "checkpoint"));
    const stranger = signingKey(makeSigningKey());
    const alien = signStatement(statementOf(sampleReceipt([stranger])), [stranger]);
    await expect(log.append(alien, [stranger])).rejects.toMatchObject({ code: "damaged" });
    await expect(openReceiptLog(directory, "example.com/other").append(receipt(5), [key])).rejects.toMatchObject({
      code: "input",
    });
    unlinkSync(join(directory, "log.jsonl"));
    writeFileSync(join(directory, "receipts", "0.json"), encodeEnvelope(receipt(8)));
    await expect(log.append(receipt(6), [key])).rejects.toMatchObject({ code: "damaged" });
    expect(readFileSync(join(directory, "checkpoint"))).toEqual(before);
    expect(() => openReceiptLog(directory, "two words")).toThrow("cannot be its name");
  });
});
