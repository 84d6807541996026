import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeEnvelope, makeSigningKey, signingKey, signStatement } from "./envelope.ts";
import { digestOf, sampleReceipt } from "./fixtures/sample-receipt.ts";
import { evidenceOf, statementOf } from "./statement.ts";
import { verifyReceipt } from "./verify.ts";
import { judgeJournal, verifyEvidence, verifyJournal } from "./verify-journal.ts";

let home: string;
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "gyre-judge-"));
});
afterAll(() => rmSync(home, { recursive: true }));

/** A journal made by hand from its description: this room does not import the one that writes them. */
function journal(events: readonly unknown[], left: readonly number[] = []) {
  const lines: string[] = [];
  const hashes: string[] = [];
  const add = (body: string) => {
    const before = hashes.length === 0 ? "" : `${hashes.at(-1)}"}\n`;
    hashes.push(
      createHash("sha256")
        .update(before + body)
        .digest("hex"),
    );
    lines.push(`${body},"hash":"${hashes.at(-1)}"}\n`);
  };
  add('{"format":"gyre-journal","version":1,"id":"00112233445566778899aabbccddeeff"');
  for (const [index, event] of events.entries()) {
    const more = left[index] === undefined || left[index] === 0 ? "" : `,"left":${left[index]}`;
    add(`{"seq":${index + 1},"at":${1000 + index},"event":${JSON.stringify(event)}${more}`);
  }
  return { lines, hashes, bytes: Buffer.from(lines.join("")) };
}

const good = journal([{ type: "a" }, { type: "b", text: 'ü "hash":"\n' }, 3, { 2: 1, b: -0.5 }], [0, 1, 0, 0]);
const head = (seq: number) => ({ seq, hash: good.hashes[seq]! });
const judge = (bytes: Buffer, named = head(4)) => judgeJournal(bytes, "j", named);

describe("verifyJournal", () => {
  it("accepts what the journal room writes, its head included", async () => {
    const file = join(home, "real.jsonl");
    const room = join(import.meta.dirname, "..", "journal", "jsonl.ts");
    const script = `
      import { openJournal } from ${JSON.stringify(room)};
      const journal = await openJournal(${JSON.stringify(file)});
      await journal.append(0, 5, [{ a: "é\\ud800", "2": 1, b: [null, 1e21, -0] }, 2]);
      const head = await journal.head();
      await journal.append(2, 6, ["after"]);
      console.log(JSON.stringify(head));`;
    const named = JSON.parse(
      execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" }),
    );
    const judged = await verifyJournal(file, named);
    expect(judged).toMatchObject({ ok: true, problems: [], notes: [], entries: 3 });
    expect((await verifyJournal(file, { ...named, seq: 1 })).ok).toBe(false);
    expect((await verifyJournal(join(home, "none"))).problems.join()).toContain("no such file");
  });

  it("accepts each head the journal ever had, and no other", () => {
    for (let seq = 0; seq <= 4; seq++) {
      expect(judge(good.bytes, head(seq)).ok).toBe(true);
      expect(judge(good.bytes, { seq, hash: head((seq + 1) % 5).hash }).ok).toBe(false);
    }
    expect(judge(good.bytes, { seq: 5, hash: head(4).hash }).problems.join()).toContain("cut off");
  });

  it("finds a change of any byte", () => {
    for (let at = 0; at < good.bytes.length; at++) {
      for (const mask of [1, 0x20, 0x80, good.bytes[at]! ^ 10, good.bytes[at]!]) {
        if (mask === 0) continue;
        const changed = Buffer.from(good.bytes);
        changed[at]! ^= mask;
        expect(judge(changed).ok, `byte ${at} ^ ${mask}`).toBe(false);
        expect(judgeJournal(changed, "j").ok, `byte ${at} ^ ${mask} without a head`).toBe(false);
      }
    }
    expect(judge(good.bytes).ok).toBe(true);
  });

  it("finds dropped, doubled and exchanged lines, and names the first", () => {
    for (let at = 0; at < good.lines.length; at++) {
      const dropped = judge(Buffer.from(good.lines.toSpliced(at, 1).join("")));
      expect(dropped.ok, `dropped ${at}`).toBe(false);
      expect(judge(Buffer.from(good.lines.toSpliced(at, 0, good.lines[at]!).join(""))).ok).toBe(false);
      if (at + 1 === good.lines.length) continue;
      expect(dropped.problems.join()).toContain(`j:${at + 1}:`);
      const exchanged = good.lines.toSpliced(at, 2, good.lines[at + 1]!, good.lines[at]!);
      expect(judge(Buffer.from(exchanged.join(""))).ok).toBe(false);
    }
  });

  it("takes a cut-off last line for what it is: a note, unless the receipt counts on it", () => {
    const ends = good.lines.map((_, index) => Buffer.from(good.lines.slice(0, index + 1).join("")).length);
    for (let length = ends[0]!; length <= good.bytes.length; length++) {
      const whole = ends.filter((end) => end <= length).length - 1;
      const judged = judgeJournal(good.bytes.subarray(0, length), "j", head(whole));
      expect([judged.ok, judged.entries], `length ${length}`).toEqual([true, whole]);
      if (whole < 4) expect(judgeJournal(good.bytes.subarray(0, length), "j", head(whole + 1)).ok).toBe(false);
    }
    for (const length of [0, 10, ends[0]! - 1])
      expect(judgeJournal(good.bytes.subarray(0, length), "j").ok).toBe(false);
  });

  it("refuses two readings of one line even when the chain fits", () => {
    for (const body of [
      '{"seq":1,"at":1,"event":1,"event":2',
      '{"seq":1, "at":1,"event":1',
      '{"seq":1,"at":1.0,"event":1',
    ]) {
      const { lines, hashes } = journal([]);
      const digest = createHash("sha256").update(`${hashes[0]}"}\n${body}`).digest("hex");
      const judged = judgeJournal(Buffer.from(`${lines[0]}${body},"hash":"${digest}"}\n`), "j");
      expect(judged.problems.join()).toContain("j:2: not one JSON value");
    }
    const { lines, hashes } = journal([]);
    const second = '{"seq":2,"at":1,"event":1';
    const chained = createHash("sha256").update(`${hashes[0]}"}\n${second}`).digest("hex");
    const skipped = judgeJournal(Buffer.from(`${lines[0]}${second},"hash":"${chained}"}\n`), "j");
    expect(skipped.problems).toEqual(["j:2: it is not entry 1"]);
    const wrong = journal([1, 2, 3], [2, 0, 0]);
    expect(judgeJournal(wrong.bytes, "j").problems.join()).toContain("j:3:");
  });

  it("meets 100,000 mangled journals with a verdict", () => {
    const put = fc.oneof(
      fc.uint8Array({ maxLength: 8 }),
      fc
        .tuple(fc.nat(good.bytes.length), fc.nat(200))
        .map(([from, length]) => good.bytes.subarray(from, from + length)),
    );
    const edit = fc.record({ at: fc.nat(good.bytes.length), cut: fc.nat(30), put });
    let fine = 0;
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 3 }), (edits) => {
        let now = good.bytes;
        for (const one of edits)
          now = Buffer.concat([now.subarray(0, one.at), one.put, now.subarray(one.at + one.cut)]);
        if (!judge(now).ok) return;
        // Fine under a head that names the last entry: then all of it is there, unchanged.
        fine++;
        expect(now.subarray(0, good.bytes.length).equals(good.bytes)).toBe(true);
      }),
      { numRuns: 100_000 },
    );
    expect(fine).toBeGreaterThan(10);
  });
});

describe("a receipt against journal and evidence", () => {
  const key = signingKey(makeSigningKey());
  const texts = ["pem 3", "pem 4", "looks at targets", "corner C 1", "corner C 2"];
  const path = (digest: string) => join(home, "evidence", "sha256", digest.slice(7, 9), digest.slice(9));

  it("is broken by a journal that is not the one, and by any missing or changed evidence", async () => {
    const file = join(home, "named.jsonl");
    writeFileSync(file, good.bytes);
    for (const text of texts) {
      mkdirSync(dirname(path(digestOf(text))), { recursive: true });
      writeFileSync(path(digestOf(text)), text);
    }
    const statement = statementOf(sampleReceipt([key], { journal: head(3) }));
    const envelope = encodeEnvelope(signStatement(statement, [key]));
    const options = { pin: key.keyId, journal: file, evidence: join(home, "evidence") };
    expect([...evidenceOf(statement)].sort()).toEqual(texts.map(digestOf).sort());
    const fine = await verifyReceipt(envelope, options);
    expect([fine.verdict, fine.problems]).toEqual(["VERIFIED", []]);
    for (const text of texts) {
      writeFileSync(path(digestOf(text)), `${text}.`);
      const changed = await verifyReceipt(envelope, options);
      expect([changed.verdict, changed.problems]).toEqual([
        "BROKEN",
        [`${path(digestOf(text))}: changed since it was recorded`],
      ]);
      rmSync(path(digestOf(text)));
      expect((await verifyReceipt(envelope, options)).problems).toEqual([`${path(digestOf(text))}: missing`]);
      writeFileSync(path(digestOf(text)), text);
    }
    writeFileSync(file, readFileSync(file).subarray(0, good.lines.slice(0, 3).join("").length));
    expect((await verifyReceipt(envelope, options)).problems.join()).toContain("the end was cut off");
    expect(await verifyEvidence(["sha256:../../x"], home)).toHaveLength(1);
  });
});
