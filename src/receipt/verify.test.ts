import { createPublicKey, randomBytes } from "node:crypto";
import { cpSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { signCheckpoint } from "./checkpoint.ts";
import { encodeEnvelope, makeSigningKey, signingKey, signStatement } from "./envelope.ts";
import { sampleReceipt } from "./fixtures/sample-receipt.ts";
import { openReceiptLog } from "./log.ts";
import { leafHash, rootOf, verifyInclusion } from "./merkle.ts";
import { type Receipt, statementOf } from "./statement.ts";
import { parsePin, verifyReceipt } from "./verify.ts";

let home: string;
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "gyre-verify-"));
});
afterAll(() => rmSync(home, { recursive: true }));

const key = signingKey(makeSigningKey());
const stranger = signingKey(makeSigningKey());
const origin = "example.com/gyre/receipts";
const fresh = () => join(home, randomBytes(6).toString("hex"));

function receipt(over: Partial<Receipt> = {}, by = key) {
  return signStatement(statementOf(sampleReceipt([by], over)), [by]);
}

/** A log of `size` receipts, each naming the log before it. */
async function written(size: number) {
  const directory = fresh();
  const log = openReceiptLog(directory, origin);
  const envelopes: string[] = [];
  let checkpoint = "";
  for (let n = 0; n < size; n++) {
    const envelope = receipt({ rotation: `shop-client/${n}`, log: await log.head() });
    ({ checkpoint } = await log.append(envelope, [key]));
    envelopes.push(encodeEnvelope(envelope));
  }
  return { directory, log, envelopes, checkpoint };
}

const file = (directory: string, index: number) => join(directory, "receipts", `${index}.json`);

describe("verifyReceipt", () => {
  it("says VERIFIED with the right pin, however it is written", async () => {
    const text = encodeEnvelope(receipt());
    const der = Buffer.from(key.publicKey, "base64");
    const pem = createPublicKey({ key: der, format: "der", type: "spki" }).export({ format: "pem", type: "spki" });
    for (const pin of [
      key.keyId,
      key.keyId.slice(7),
      key.keyId.toUpperCase().replace("SHA256", "sha256"),
      pem.toString(),
    ]) {
      const judged = await verifyReceipt(text, { pin });
      expect([judged.ok, judged.verdict, judged.problems]).toEqual([true, "VERIFIED", []]);
      expect(judged.statement?.predicate.grade).toBe("REFUSED");
    }
    for (const pin of ["", "sha256:12", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]) {
      expect(() => parsePin(pin)).toThrow("pinned key");
    }
  });

  it("says UNPINNED without one, and never ok", async () => {
    const judged = await verifyReceipt(encodeEnvelope(receipt()));
    expect([judged.ok, judged.verdict, judged.problems]).toEqual([false, "UNPINNED", []]);
    expect(judged.notes.join()).toContain("anybody could have signed this");
  });

  it("says BROKEN for another's signature under our pin", async () => {
    const judged = await verifyReceipt(encodeEnvelope(receipt({}, stranger)), { pin: key.keyId });
    expect([judged.ok, judged.verdict]).toEqual([false, "BROKEN"]);
    expect(judged.problems.join()).toContain(`not by ${key.keyId}`);
  });

  it("says BROKEN for a stranger who signs under the name of our key", async () => {
    const posing = { keyId: key.keyId, publicKey: stranger.publicKey, sign: stranger.sign };
    const judged = await verifyReceipt(encodeEnvelope(receipt({}, posing)), { pin: key.keyId });
    expect([judged.verdict, judged.problems.join()]).toEqual(["BROKEN", expect.stringContaining("is another one")]);
  });

  it("says BROKEN when a signed receipt contradicts itself", async () => {
    const verdicts = [{ member: "m", verdict: "superseded", at: "2026-01-01T10:00:00.000Z", what: "seen" }] as const;
    const judged = await verifyReceipt(encodeEnvelope(receipt({ verdicts })), { pin: key.keyId });
    expect(judged.verdict).toBe("BROKEN");
  });

  it("finds a change of any byte, pinned or not", async () => {
    const bytes = Buffer.from(encodeEnvelope(receipt()));
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed[at]! ^= [1, 0x20, 0x80, 2, 0x10][at % 5]!;
      const { verdict } = await verifyReceipt(changed, at % 2 === 0 ? { pin: key.keyId } : {});
      expect(verdict, `byte ${at}`).toBe("BROKEN");
    }
    for (let length = 0; length < bytes.length; length += 13) {
      expect((await verifyReceipt(bytes.subarray(0, length), { pin: key.keyId })).verdict).toBe("BROKEN");
    }
    expect((await verifyReceipt(bytes, { pin: key.keyId })).verdict).toBe("VERIFIED");
  });

  it("says what it did not look at, and nothing when all was given", async () => {
    const { directory, envelopes, checkpoint } = await written(2);
    const bare = await verifyReceipt(envelopes[0]!, { pin: key.keyId });
    for (const word of ["receipt log was not given", "journal was not given", "evidence was not given"]) {
      expect(bare.notes.join("\n")).toContain(word);
    }
    const withLog = await verifyReceipt(envelopes[0]!, { pin: key.keyId, log: directory });
    expect(withLog.notes.join("\n")).toContain("only against a checkpoint kept elsewhere");
    const full = await verifyReceipt(envelopes[0]!, { pin: key.keyId, log: directory, checkpoint });
    expect(full.notes.join("\n")).not.toContain("checkpoint");
    expect(full.verdict).toBe("VERIFIED");
  });
});

describe("a receipt in its log", () => {
  it("has a place that an independent recomputation confirms", async () => {
    const { directory, log, envelopes } = await written(5);
    const leaves = envelopes.map((text) => leafHash(Buffer.from(text)));
    const place = await log.append(
      receipt({ rotation: "shop-client/2", log: { origin, size: 2, root: rootOf(leaves, 0, 2).toString("hex") } }),
      [key],
    );
    expect([place.index, place.size]).toEqual([2, 5]);
    const proof = place.proof.map((one) => Buffer.from(one, "hex"));
    expect(verifyInclusion(leaves[2]!, 2, 5, proof, rootOf(leaves))).toBe(true);
    const judged = await verifyReceipt(envelopes[2]!, { pin: key.keyId, checkpoint: place.checkpoint, proof: place });
    expect(judged.verdict).toBe("VERIFIED");
    const lied = await verifyReceipt(envelopes[3]!, { pin: key.keyId, checkpoint: place.checkpoint, proof: place });
    expect(lied.verdict).toBe("BROKEN");
    expect(readdirSync(join(directory, "receipts"))).toHaveLength(5);
  });

  it("shows every removed, exchanged or changed receipt of the log", async () => {
    const { directory, envelopes, checkpoint } = await written(5);
    const judge = async (spoil: (copy: string) => void, options: { checkpoint?: string } = {}) => {
      const copy = fresh();
      cpSync(directory, copy, { recursive: true });
      spoil(copy);
      return verifyReceipt(envelopes[2]!, { pin: key.keyId, log: copy, ...options });
    };
    expect((await judge(() => {})).verdict).toBe("VERIFIED");
    for (let index = 0; index < 5; index++) {
      expect((await judge((copy) => rmSync(file(copy, index)))).verdict, `removed ${index}`).toBe("BROKEN");
      const changed = await judge((copy) => writeFileSync(file(copy, index), envelopes[index]!.replace("e", "f")));
      expect(changed.verdict, `changed ${index}`).toBe("BROKEN");
    }
    const exchanged = await judge((copy) => {
      renameSync(file(copy, 0), file(copy, 9));
      renameSync(file(copy, 1), file(copy, 0));
      renameSync(file(copy, 9), file(copy, 1));
    });
    expect(exchanged.problems.join()).toContain("receipt 0 of the log was changed");
    for (const name of ["log.jsonl", "checkpoint"]) {
      const bytes = readFileSync(join(directory, name));
      for (let at = 0; at < bytes.length; at += 3) {
        const spoilt = Buffer.from(bytes);
        spoilt[at]! ^= 1;
        const judged = await judge((copy) => writeFileSync(join(copy, name), spoilt));
        expect(judged.verdict, `${name} byte ${at}`).toBe("BROKEN");
      }
    }
    expect((await judge((copy) => rmSync(join(copy, "checkpoint")))).verdict).toBe("BROKEN");
    expect((await judge(() => {}, { checkpoint })).verdict).toBe("VERIFIED");
  });

  it("with its tail cut off by one who holds the key shows only against a kept checkpoint", async () => {
    const { directory, envelopes, checkpoint } = await written(4);
    rmSync(file(directory, 3));
    const leaves = envelopes.slice(0, 3).map((text) => leafHash(Buffer.from(text)));
    writeFileSync(join(directory, "checkpoint"), signCheckpoint(origin, 3, rootOf(leaves), [key]));
    const careless = await verifyReceipt(envelopes[1]!, { pin: key.keyId, log: directory });
    expect(careless.problems).toEqual(["the log recorded 4 receipts, 3 are there"]);
    writeFileSync(
      join(directory, "log.jsonl"),
      readFileSync(join(directory, "log.jsonl"), "utf8").split("\n").slice(0, 3).join("\n").concat("\n"),
    );
    writeFileSync(join(directory, "checkpoint"), signCheckpoint(origin, 3, rootOf(leaves), [key]));
    const unseen = await verifyReceipt(envelopes[1]!, { pin: key.keyId, log: directory });
    expect([unseen.verdict, unseen.notes.join()]).toEqual(["VERIFIED", expect.stringContaining("cut-off tail")]);
    const seen = await verifyReceipt(envelopes[1]!, { pin: key.keyId, log: directory, checkpoint });
    expect([seen.verdict, seen.problems.join()]).toEqual(["BROKEN", expect.stringContaining("its tail was cut off")]);
  });

  it("with its beginning rewritten by one who holds the key shows in every later receipt", async () => {
    const { envelopes } = await written(3);
    const directory = fresh();
    const log = openReceiptLog(directory, origin);
    await log.append(receipt({ why: "another history" }), [key]);
    const parse = (text: string) => JSON.parse(text);
    await log.append(parse(envelopes[1]!), [key]);
    const judged = await verifyReceipt(envelopes[1]!, { pin: key.keyId, log: directory });
    expect([judged.verdict, judged.problems.join()]).toEqual(["BROKEN", expect.stringContaining("before this one")]);
  });

  it("refuses checkpoints by strangers and of other logs", async () => {
    const { directory, envelopes } = await written(2);
    const root = rootOf(envelopes.map((text) => leafHash(Buffer.from(text))));
    for (const checkpoint of [
      signCheckpoint(origin, 2, root, [stranger]),
      signCheckpoint("example.com/other", 2, root, [key]),
      signCheckpoint(origin, 2, leafHash(root), [key]),
      "nonsense",
    ]) {
      expect((await verifyReceipt(envelopes[0]!, { pin: key.keyId, log: directory, checkpoint })).verdict).toBe(
        "BROKEN",
      );
    }
    const alien = await verifyReceipt(encodeEnvelope(receipt({ why: "never logged" })), {
      pin: key.keyId,
      log: directory,
    });
    expect(alien.problems.join()).toContain("does not hold this receipt");
  });
});
