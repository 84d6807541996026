import assert from "node:assert/strict";
import { GyreError } from "../errors.ts";
import type { Journal } from "./journal.ts";

/** The events of the suite: any JSON. */
export type Sample = { readonly by: string; readonly n: number; readonly text?: string };

/** A place for one fresh journal. Each `open` gives another handle on it, as another runner would have. */
export interface JournalPlace {
  open(): Promise<Journal<Sample>>;
}

export interface JournalCase {
  readonly name: string;
  run(place: JournalPlace): Promise<void>;
}

const sample = (n: number, by = "a"): Sample => ({ by, n });

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    assert.ok(error instanceof GyreError, `not a GyreError: ${String(error)}`);
    return error.code;
  }
  return "none";
}

/**
 * What every Journal must do, whatever keeps it: a file, a git branch, a database. Each case wants a fresh place.
 * Plain assertions, so that any test runner can drive it.
 */
export const journalCases: readonly JournalCase[] = [
  {
    name: "a journal nobody wrote is empty",
    async run(place) {
      const journal = await place.open();
      assert.deepEqual(await journal.read(), []);
      assert.equal((await journal.head()).seq, 0);
    },
  },
  {
    name: "append gives what read gives, to every handle",
    async run(place) {
      const [one, two] = [await place.open(), await place.open()];
      const first = await one.append(0, 1000, [sample(1), sample(2)]);
      assert.deepEqual(first, [
        { seq: 1, at: 1000, event: sample(1) },
        { seq: 2, at: 1000, event: sample(2) },
      ]);
      const second = await two.append(2, 500, [sample(3)]);
      assert.deepEqual(second, [{ seq: 3, at: 500, event: sample(3) }]);
      for (const journal of [one, two, await place.open()])
        assert.deepEqual(await journal.read(), [...first, ...second]);
    },
  },
  {
    name: "a stale or invented sequence is a conflict and writes nothing",
    async run(place) {
      const journal = await place.open();
      assert.equal(await codeOf(journal.append(1, 1, [sample(0)])), "conflict");
      assert.deepEqual(await journal.read(), []);
      await journal.append(0, 1, [sample(1), sample(2)]);
      for (const expected of [0, 1, 3, 99]) {
        assert.equal(await codeOf((await place.open()).append(expected, 1, [sample(9)])), "conflict");
        assert.equal(await codeOf(journal.append(expected, 1, [sample(9)])), "conflict");
      }
      assert.deepEqual(
        (await (await place.open()).read()).map((entry) => entry.event),
        [sample(1), sample(2)],
      );
      await journal.append(2, 1, [sample(3)]);
    },
  },
  {
    name: "an append of nothing only compares",
    async run(place) {
      const journal = await place.open();
      await journal.append(0, 1, [sample(1)]);
      assert.deepEqual(await journal.append(1, 1, []), []);
      assert.equal(await codeOf(journal.append(0, 1, [])), "conflict");
      assert.equal((await journal.read()).length, 1);
    },
  },
  {
    name: "of many appends on one sequence exactly one wins",
    async run(place) {
      const handles = await Promise.all(Array.from({ length: 8 }, () => place.open()));
      const codes = await Promise.all(handles.map((journal, n) => codeOf(journal.append(0, 1, [sample(n)]))));
      assert.equal(codes.filter((code) => code === "none").length, 1, codes.join());
      assert.equal(codes.filter((code) => code === "conflict").length, 7, codes.join());
      const [entry, ...more] = await (await place.open()).read();
      assert.deepEqual(more, []);
      assert.equal(entry?.event.n, codes.indexOf("none"));
    },
  },
  {
    name: "interleaved writers lose nothing and double nothing",
    async run(place) {
      const acknowledged: string[] = [];
      async function write(by: string): Promise<void> {
        const journal = await place.open();
        for (let n = 0; n < 12; ) {
          const seq = (await journal.read()).length;
          const code = await codeOf(journal.append(seq, n, [sample(n, by), sample(n, `${by}'`)]));
          if (code === "none") acknowledged.push(`${by}${n}`, `${by}'${n++}`);
          else assert.equal(code, "conflict");
        }
      }
      await Promise.all(["a", "b", "c"].map(write));
      const entries = await (await place.open()).read();
      assert.deepEqual(
        entries.map((entry) => entry.seq),
        entries.map((_, index) => index + 1),
      );
      const stored = entries.map(({ event }) => `${event.by}${event.n}`);
      assert.deepEqual([...stored].sort(), [...acknowledged].sort());
      for (const by of ["a", "b", "c"]) {
        const order = entries.filter(({ event }) => event.by === by).map(({ event }) => event.n);
        assert.deepEqual(order, [...Array(12).keys()]);
      }
    },
  },
  {
    name: "the head binds every entry and is the same for all",
    async run(place) {
      const [one, two] = [await place.open(), await place.open()];
      const heads: string[] = [];
      for (let n = 0; n < 3; n++) {
        await one.append(n, 7, [sample(1)]);
        const head = await one.head();
        assert.equal(head.seq, n + 1);
        assert.match(head.hash, /^[0-9a-f]{64}$/);
        assert.deepEqual(await two.head(), head);
        heads.push(head.hash);
      }
      assert.equal(new Set(heads).size, 3);
    },
  },
  {
    name: "any text comes back as it went in",
    async run(place) {
      const texts = ["", "\n\r\u2028\u0000", '","hash":"', "\ud800 alone", "naïve 🦊", "x".repeat(300_000), "\\u0041"];
      const events = texts.map((text, n) => ({ ...sample(n), text }));
      await (await place.open()).append(0, 1, events);
      const back = await (await place.open()).read();
      assert.deepEqual(
        back.map((entry) => entry.event),
        events,
      );
    },
  },
  {
    name: "what a caller does to its events later changes nothing",
    async run(place) {
      const journal = await place.open();
      const event = { by: "a", n: 1 };
      await journal.append(0, 1, [event]);
      event.n = 2;
      assert.equal((await journal.read())[0]?.event.n, 1);
    },
  },
  {
    name: "what is no JSON is refused whole",
    async run(place) {
      const journal = await place.open();
      const nothing = undefined as unknown as Sample;
      assert.equal(await codeOf(journal.append(0, 1, [sample(1), nothing])), "bug");
      assert.equal(await codeOf(journal.append(0, Number.NaN, [sample(1)])), "bug");
      assert.deepEqual(await (await place.open()).read(), []);
    },
  },
];
