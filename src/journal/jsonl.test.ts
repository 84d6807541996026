import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { GyreError } from "../errors.ts";
import { chainLine, entryBody, headerLine } from "./chain.ts";
import { journalCases, type Sample } from "./conformance.ts";
import { openJournal } from "./jsonl.ts";

let home: string;
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "gyre-journal-"));
});
afterAll(() => rmSync(home, { recursive: true }));

const fresh = () => join(home, `${randomBytes(6).toString("hex")}.jsonl`);
const sample = (n: number): Sample => ({ by: "a", n });

async function refusal(work: Promise<unknown>): Promise<GyreError> {
  const error = await work.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (error instanceof GyreError) return error;
  throw new Error(`no GyreError: ${String(error)}`);
}

/** Appends of 1, 2, 1 and 3 entries, and the file that holds them. */
const batches = [[sample(1)], [{ ...sample(2), text: 'a "line"\n' }, sample(3)], [sample(4)], [5, 6, 7].map(sample)];
async function recorded(): Promise<{ file: string; bytes: Buffer; ends: number[] }> {
  const file = fresh();
  const journal = await openJournal<Sample>(file);
  const ends: number[] = [];
  let seq = 0;
  for (const batch of batches) {
    await journal.append(seq, 1_764_000_000_000 + seq, batch);
    seq += batch.length;
    ends.push(readFileSync(file).length);
  }
  return { file, bytes: readFileSync(file), ends };
}

describe("a journal in a file", () => {
  for (const one of journalCases) {
    it(one.name, async () => {
      const file = fresh();
      await one.run({ open: () => openJournal<Sample>(file) });
    });
  }

  it("does not exist before the first append", async () => {
    const file = join(home, "deep", "er", "j.jsonl");
    const journal = await openJournal<Sample>(file);
    expect(() => readFileSync(file)).toThrow("ENOENT");
    await journal.append(0, 1, [sample(1)]);
    expect(readFileSync(file, "utf8").split("\n")).toHaveLength(3);
  });

  it("cut off at any byte holds the appends that were whole, and goes on", async () => {
    const { bytes, ends } = await recorded();
    const whole = (length: number) => ends.filter((end) => end <= length).length;
    const header = bytes.indexOf(10) + 1;
    for (let length = 0; length <= bytes.length; length++) {
      const file = fresh();
      writeFileSync(file, bytes.subarray(0, length));
      if (length < header) {
        expect((await refusal(openJournal(file))).code, `length ${length}`).toBe("damaged");
        expect(readFileSync(file)).toHaveLength(length);
        continue;
      }
      const journal = await openJournal<Sample>(file);
      const expected = batches.slice(0, whole(length)).flat();
      expect((await journal.read()).map((entry) => entry.event)).toEqual(expected);
      const at = Math.max(header, ...ends.filter((end) => end <= length));
      const torn = length === at ? [] : [{ bytes: length - at, removed: false }];
      expect(journal.repairs.map(({ bytes, removed }) => ({ bytes, removed }))).toEqual(torn);
      // Reading writes nothing; the next append does away with the tail, under the lock.
      expect(readFileSync(file)).toEqual(bytes.subarray(0, length));
      if (length % 7 > 0) continue;
      await journal.append(expected.length, 1, [sample(99)]);
      expect(readFileSync(file).subarray(0, at)).toEqual(bytes.subarray(0, at));
      expect((await (await openJournal<Sample>(file)).read()).at(-1)?.event).toEqual(sample(99));
    }
  });

  it("with any one byte changed is refused, the line named and the file left alone", async () => {
    const { file, bytes } = await recorded();
    const other = fresh();
    for (let at = 0; at < bytes.length; at++) {
      const line = bytes.subarray(0, at).filter((byte) => byte === 10).length + 1;
      for (const mask of [1, 0x20, 0x80, bytes[at]! ^ 10, bytes[at]!, 1 + ((at * 131) % 255)]) {
        if (mask === 0) continue;
        const changed = Buffer.from(bytes);
        changed[at] = bytes[at]! ^ mask;
        writeFileSync(other, changed);
        const error = await refusal(openJournal(other));
        const version = /"version":\d/.test(changed.toString("latin1")) && !changed.includes('"version":1');
        expect(error.code, `byte ${at} ^ ${mask}`).toBe(version && error.code === "newer" ? "newer" : "damaged");
        expect(error.where, `byte ${at} ^ ${mask}`).toBe(`${other}:${line}`);
        expect(readFileSync(other).equals(changed)).toBe(true);
      }
    }
    expect(await (await openJournal(file)).read()).toHaveLength(7);
  });

  it("with lines dropped, doubled or exchanged is refused", async () => {
    const { bytes } = await recorded();
    const lines = bytes.toString("utf8").trimEnd().split("\n");
    const file = fresh();
    const reads = async (changed: readonly string[]) => {
      writeFileSync(file, `${changed.join("\n")}\n`);
      return openJournal<Sample>(file);
    };
    await reads(lines);
    for (let at = 0; at < lines.length - 1; at++) {
      expect((await refusal(reads(lines.toSpliced(at, 1)))).code).toBe("damaged");
      expect((await refusal(reads(lines.toSpliced(at, 0, lines[at]!)))).code).toBe("damaged");
      expect((await refusal(reads(lines.toSpliced(at, 2, lines[at + 1]!, lines[at]!)))).code).toBe("damaged");
    }
  });

  it("takes no line of another journal with the same events", async () => {
    const [one, two] = [(await recorded()).bytes, (await recorded()).bytes];
    const [a, b] = [one, two].map((bytes) => bytes.toString("utf8").split("\n"));
    const file = fresh();
    writeFileSync(file, [...a!.slice(0, 3), ...b!.slice(3)].join("\n"));
    expect((await refusal(openJournal(file))).where).toBe(`${file}:4`);
  });

  it("from a newer Gyre is left alone, whatever follows its header", async () => {
    const file = fresh();
    const text = `{"format":"gyre-journal","version":2,"shape":"unknown"}\nbinary \u0000\n{"torn`;
    writeFileSync(file, text);
    const error = await refusal(openJournal(file));
    expect(error.code).toBe("newer");
    expect(error.message).toContain("version 2");
    expect(readFileSync(file, "utf8")).toBe(text);
  });

  it("refuses a rightly chained line that is no entry of this version", async () => {
    const header = headerLine("00");
    for (const body of [
      entryBody(2, 1, "1", 0),
      '{"seq":1,"at":1.5,"event":1',
      '{"seq":1,"at":1',
      entryBody(1, 1, "1", 0).concat(',"left":0'),
    ]) {
      const file = fresh();
      writeFileSync(file, `${header.line}\n${chainLine(header.hash, body).line}\n`);
      expect((await refusal(openJournal(file))).where).toBe(`${file}:2`);
    }
  });

  it("drops a tail of zeros, as a power cut can leave", async () => {
    const { file, bytes } = await recorded();
    writeFileSync(file, Buffer.concat([bytes, Buffer.alloc(4096)]));
    const journal = await openJournal<Sample>(file);
    expect(await journal.read()).toHaveLength(7);
    expect(journal.repairs).toEqual([{ line: 9, bytes: 4096, removed: false }]);
    expect(readFileSync(file)).toHaveLength(bytes.length + 4096);
    await journal.append(7, 1, [sample(8)]);
    expect(journal.repairs.at(-1)).toEqual({ line: 9, bytes: 4096, removed: true });
    expect(readFileSync(file).subarray(0, bytes.length)).toEqual(bytes);
  });

  it("with a tail that no write of ours begins is refused, not cut", async () => {
    const { file, bytes } = await recorded();
    for (const tail of ["rubbish", '{"seq":9,"at":1', '{"seq":7,"at":1', "\0\0x"]) {
      writeFileSync(file, Buffer.concat([bytes, Buffer.from(tail)]));
      const error = await refusal(openJournal(file));
      expect([error.code, error.where], tail).toEqual(["damaged", `${file}:9`]);
      expect(readFileSync(file)).toHaveLength(bytes.length + tail.length);
    }
    // The control: these a cut-off write leaves.
    for (const tail of ["{", '{"seq":8,', '{"seq":8,"at":17,"event":{"x', "\0\0"]) {
      writeFileSync(file, Buffer.concat([bytes, Buffer.from(tail)]));
      expect(await (await openJournal<Sample>(file)).read(), tail).toHaveLength(7);
    }
  });

  it("replaced under an open handle is a conflict, not a silent other history", async () => {
    const { file } = await recorded();
    const journal = await openJournal<Sample>(file);
    const { file: other } = await recorded();
    renameSync(other, file);
    expect((await refusal(journal.append(7, 1, [sample(8)]))).code).toBe("conflict");
    expect((await refusal(journal.read())).code).toBe("conflict");
    expect(await (await openJournal<Sample>(file)).read()).toHaveLength(7);
  });

  it("removed or cut back under an open handle is a conflict", async () => {
    const { file, bytes, ends } = await recorded();
    const journal = await openJournal<Sample>(file);
    writeFileSync(file, bytes.subarray(0, ends[1]));
    expect((await refusal(journal.append(3, 1, [sample(8)]))).code).toBe("conflict");
    rmSync(file);
    expect((await refusal(journal.read())).code).toBe("conflict");
    expect((await refusal(journal.append(7, 1, [sample(8)]))).code).toBe("conflict");
    expect(() => readFileSync(file)).toThrow("ENOENT");
  });

  it("notices a copy of itself put in its place while it writes on", async () => {
    const { file, bytes } = await recorded();
    const journal = await openJournal<Sample>(file);
    rmSync(file);
    writeFileSync(file, bytes);
    // Same history, another inode: it is read again and goes on from there.
    await journal.append(7, 1, [sample(8)]);
    expect(await (await openJournal<Sample>(file)).read()).toHaveLength(8);
  });

  it("is read whole within a handle's memory of it, and again after others wrote", async () => {
    const { file } = await recorded();
    const [one, two] = [await openJournal<Sample>(file), await openJournal<Sample>(file)];
    await two.append(7, 1, [sample(8)]);
    expect(await one.read()).toHaveLength(8);
    await one.append(8, 1, [sample(9)]);
    expect((await two.read()).map((entry) => entry.seq)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it("of 100,000 entries opens and goes on", async () => {
    const file = fresh();
    const journal = await openJournal<Sample>(file);
    await journal.append(
      0,
      1,
      Array.from({ length: 100_000 }, (_, n) => sample(n)),
    );
    const again = await openJournal<Sample>(file);
    expect(await again.read()).toHaveLength(100_000);
    await again.append(100_000, 2, [sample(1)]);
    expect((await journal.head()).seq).toBe(100_001);
  });

  it("says so when the path is a directory", async () => {
    expect((await refusal(openJournal(home))).code).toBe("disk");
  });
});
