import { expect } from "vitest";
import { GyreError } from "../../src/errors.ts";

/** What every parser is put through in `npm test`. */
export const INPUTS = 100_000;

// A hundred thousand stack traces are most of the time. Only what is unexpected is worth one.
Error.stackTraceLimit = 0;

/** mulberry32: small, good enough to choose bytes, and the same every time, so that a failure repeats. */
export function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** Pieces that mean something in DER. */
export const DER = [
  0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0c, 0x30, 0x31, 0x7f, 0x80, 0x81, 0x82, 0x84, 0xa0, 0xa3, 0xff,
].map((byte) => Buffer.from([byte]));

export const buffers = (list: readonly string[]): Buffer[] => list.map((one) => Buffer.from(one, "utf8"));

/** Pieces that mean something in JSON, in our logs and in headers. */
export const TEXT = [
  ...buffers(["{", "}", "[", "]", '"', ":", ",", "\\", "\n", "\r\n", " ", "\0", "-", "0", "1", "9", "1e999", "null"]),
  ...buffers(["true", '"__proto__":1,', '"constructor":', "99999999999999999999", "\\u0000", "\\ud800", "é", "\u2028"]),
  Buffer.from([0xff]),
  Buffer.from([0xc3]),
];

/** One to four changes: flip, replace, insert, remove, cut off, repeat a piece, copy a piece of another input. */
export function mutate(
  input: Buffer,
  pool: readonly Buffer[],
  pick: (below: number) => number,
  pieces: readonly Buffer[] = DER,
): Buffer {
  let out = Buffer.from(input);
  for (let changes = 1 + pick(4); changes > 0; changes--) {
    const at = pick(out.length + 1);
    // Now and then a piece as long as a line, so that lines move and double.
    const length = 1 + pick(pick(8) === 0 ? 400 : 16);
    switch (pick(8)) {
      case 0:
        if (at < out.length) out[at]! ^= 1 << pick(8);
        break;
      case 1:
        if (at < out.length) out[at] = pick(256);
        break;
      case 2: {
        const piece = pieces[pick(pieces.length)]!;
        if (at < out.length) out = Buffer.concat([out.subarray(0, at), piece, out.subarray(at + piece.length)]);
        break;
      }
      case 3:
        out = Buffer.concat([out.subarray(0, at), Buffer.from([pick(256)]), out.subarray(at)]);
        break;
      case 4:
        out = Buffer.concat([out.subarray(0, at), out.subarray(at + length)]);
        break;
      case 5:
        out = out.subarray(0, at);
        break;
      case 6:
        out = Buffer.concat([out.subarray(0, at), out.subarray(at, at + length), out.subarray(at)]);
        break;
      default: {
        const other = pool[pick(pool.length)]!;
        const from = pick(other.length + 1);
        out = Buffer.concat([out.subarray(0, at), other.subarray(from, from + length), out.subarray(at + length)]);
      }
    }
  }
  return out;
}

export interface Fuzz {
  readonly seed: number;
  /** Valid inputs; the mutations are of these. */
  readonly inputs: readonly Buffer[];
  readonly pieces?: readonly Buffer[];
  /** Reads one mutation and says what became of it; nothing said is "read". A GyreError counts as its code. */
  readonly read: (input: Buffer, pick: (below: number) => number) => string | undefined;
  /**
   * Every way out, and each must be taken: a parser that refuses, or accepts, all of them was not fuzzed. Any other
   * end of `read` fails with the seed and the input.
   */
  readonly ends: readonly string[];
  /** Ways out that are right too, but that need not be met. */
  readonly rare?: readonly string[];
  /** `INPUTS` unless said otherwise. */
  readonly count?: number;
}

/** Runs a reader over mutations; gives how often it ended in which way. */
export function fuzz(options: Fuzz): Record<string, number> {
  const { seed, inputs, pieces = DER, read, ends, rare = [], count = INPUTS } = options;
  const right = new Set([...ends, ...rare]);
  const pick = random(seed);
  const seen: Record<string, number> = Object.fromEntries([...right].map((end) => [end, 0]));
  for (let round = 0; round < count; round++) {
    const input = mutate(inputs[round % inputs.length]!, inputs, pick, pieces);
    let end: string;
    try {
      end = read(input, pick) ?? "read";
      if (!right.has(end)) throw new Error(`it ended in ${JSON.stringify(end)}`);
    } catch (error) {
      if (!(error instanceof GyreError && right.has(error.code)))
        throw new Error(`seed ${seed}, input ${round}: ${String(error)}: base64 ${input.toString("base64")}`, {
          cause: error,
        });
      end = error.code;
    }
    seen[end]! += 1;
  }
  for (const end of ends) expect(seen[end], `seed ${seed}: how many of ${count} ended in ${end}`).toBeGreaterThan(0);
  return seen;
}
