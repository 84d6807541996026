import { expect, it } from "vitest";
import { buffers, fuzz, mutate, TEXT } from "../../test/fuzz/fuzz.ts";
import { judgeJournal } from "../receipt/verify-journal.ts";
import { chainLine, entryBody, headerLine } from "./chain.ts";
import { parseJournal } from "./parse.ts";

/** Bodies chained to a journal, whatever they are. */
function chained(bodies: readonly string[]): Buffer {
  let { line, hash } = headerLine("5f".repeat(16));
  let text = `${line}\n`;
  for (const body of bodies) {
    ({ line, hash } = chainLine(hash, body));
    text += `${line}\n`;
  }
  return Buffer.from(text);
}
const event = (n: number) => JSON.stringify({ type: "StageEntered", stage: "issued", n, list: [1, null, "é"] });
const bodies = [
  entryBody(1, 1764000000000, event(1), 0),
  entryBody(2, 1764000000001, event(2), 1),
  entryBody(3, 1764000000001, event(3), 0),
];
const journal = chained(bodies);
const ENTRIES = parseJournal(journal, "fuzz").entries;

/** Both readers on the same bytes: the one that runners use, and the one that receipts are judged with. */
function read(input: Buffer) {
  const judged = judgeJournal(input, "fuzz");
  return { judged, parsed: () => parseJournal(input, "fuzz") };
}

it("a damaged journal is refused or gives a beginning of what was written, never another entry", () => {
  fuzz({
    seed: 41,
    inputs: [journal],
    pieces: [...TEXT, ...buffers([`${bodies[0]}\n`])],
    ends: ["whole", "torn", "damaged"],
    rare: ["newer"],
    read(input) {
      const { judged, parsed } = read(input);
      const { entries, torn } = parsed();
      expect(ENTRIES.slice(0, entries.length)).toEqual(entries);
      // What the runner goes on with, the judge of receipts does not call broken; but for a tail that holds a whole line
      // with a wrong hash, which the judge tells apart without knowing the hash.
      const wholeLine = input.subarray(input.lastIndexOf(10)).includes(',"hash":"');
      if (torn === undefined || !wholeLine) expect(judged.problems).toEqual([]);
      return torn === undefined ? "whole" : "torn";
    },
  });
});

it("damage behind a hash that fits is refused or read, and the two readers agree", () => {
  fuzz({
    seed: 42,
    inputs: buffers(bodies),
    pieces: TEXT,
    ends: ["read", "damaged"],
    read(input, pick) {
      const changed = pick(bodies.length);
      // Only what can be written at all: a line holds no newline, and a journal is UTF-8.
      const body = (pick(2) === 0 ? input : mutate(Buffer.from(bodies[changed]!), buffers(bodies), pick, TEXT))
        .toString("utf8")
        .replaceAll("\n", " ");
      const { judged, parsed } = read(chained(bodies.map((one, index) => (index === changed ? body : one))));
      const { entries } = parsed();
      for (const [index, entry] of entries.entries()) {
        expect(entry.seq).toBe(index + 1);
        expect(Number.isSafeInteger(entry.at)).toBe(true);
      }
      // The judge is the stricter one: it wants each value in its one spelling.
      if (judged.ok) expect(judged.entries).toBeGreaterThanOrEqual(entries.length);
      return "read";
    },
  });
});
