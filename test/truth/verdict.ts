/** Gyre's word, read only after the witness has looked, and held against what really is. */
import type { Reality } from "./reality.ts";
import type { Ended } from "./rotate.ts";
import type { Expected, World } from "./scene.ts";

/**
 * `false-done`: it said more than was true. `false-alarm`: it stopped where nothing was left to stop it. `wrong-name`: it
 * stopped rightly and accused somebody else, or did not name the culprit. `wrong-end`: it stopped rightly in another way
 * than was stated beforehand.
 */
export type Verdict = "true" | "false-done" | "false-alarm" | "wrong-name" | "wrong-end";

export interface Said {
  readonly exit: number | null;
  readonly result: string;
  readonly grade: string | undefined;
  /** Whom it holds responsible, and its words on each. */
  readonly reasons: readonly { readonly about: string; readonly what: string }[];
  readonly words: string;
}

interface Output {
  readonly result?: string;
  readonly grade?: string;
  readonly stage?: string;
  readonly why?: string;
  readonly until?: string;
  readonly reasons?: readonly { readonly about: string; readonly what: string; readonly release?: string }[];
  readonly error?: { readonly code: string; readonly message: string; readonly where?: string };
}

export function read(ended: Ended): Said {
  const output = parse(ended.out);
  const nothing = { exit: ended.code, grade: undefined, reasons: [] };
  if (output === undefined) {
    const how = ended.signal === null ? `exit code ${ended.code}` : `killed by ${ended.signal}`;
    return { ...nothing, result: "no word", words: `${how}: ${(ended.err || ended.out).trim().slice(0, 400)}` };
  }
  if (output.error !== undefined) {
    const { code, message, where } = output.error;
    return { ...nothing, result: "error", words: `${code}: ${message}${where === undefined ? "" : ` (${where})`}` };
  }
  const { result = "no word", grade, stage, why = "", reasons = [] } = output;
  return {
    ...{ exit: ended.code, result, grade, reasons },
    words:
      result === "closed"
        ? `closed ${grade}`
        : reasons.length > 0
          ? `${result} at ${stage}: ${reasons.map(told).join("; ")}`
          : `${result}${stage === undefined ? "" : ` at ${stage}`}: ${why}`,
  };
}

/** Some words begin with the place they are about. */
const told = ({ about, what }: { about: string; what: string }): string =>
  what.startsWith(about) ? what : `${about} ${what}`;

function parse(text: string): Output | undefined {
  try {
    return JSON.parse(text) as Output;
  } catch {
    return undefined;
  }
}

const exits: Readonly<Record<Expected["result"], readonly number[]>> = {
  ...{ closed: [0], held: [3], "put back": [4], error: [1, 2, 4, 5, 6], "no word": [] },
};
const worth = ["FIRST", "SUPERSEDED", "DENIED", "EXPIRED", "REFUSED"];

export function judge(
  world: World,
  expected: Expected,
  really: Reality,
  said: Said,
): { verdict: Verdict; why: string } {
  const give = (verdict: Verdict, why = "") => ({ verdict, why });
  if (said.result === "closed" && !really.done) return give("false-done", really.words);
  if (said.result === "put back" && !really.asBefore)
    return give("false-done", `not all is as before: ${really.words}`);
  if (said.result === "closed" && said.grade !== expected.grade && expected.result === "closed") {
    const more = worth.indexOf(said.grade ?? "") > worth.indexOf(expected.grade ?? "");
    return give(more ? "false-done" : "false-alarm", `grade ${said.grade}, expected ${expected.grade}`);
  }
  if (expected.result === "closed" && said.result !== "closed") return give("false-alarm", said.words);
  if (expected.result !== "closed" && really.done && expected.evenDone !== true)
    throw new Error(`the fault did not show: ${really.words}`);
  if (said.result !== expected.result) return give("wrong-end", `${said.result}, expected ${expected.result}`);
  if (said.exit !== null && !exits[expected.result].includes(said.exit))
    return give("wrong-end", `exit code ${said.exit}`);
  const missing = (expected.names ?? []).filter((name) => !said.words.includes(name));
  if (missing.length > 0) return give("wrong-name", `does not name ${missing.join(", ")}`);
  if (expected.code !== undefined && !said.words.startsWith(`${expected.code}:`)) return give("wrong-end", said.words);
  if (expected.words !== undefined && !expected.words.test(said.words))
    return give("wrong-name", `its words lack ${expected.words}`);
  const innocent = said.reasons.filter(({ about, what }) => {
    const accused = world.members.find((one) => about.includes(one.address) || about.startsWith(`${one.dir}/`));
    return accused !== undefined && !(expected.names ?? []).some((name) => about.includes(name) || what.includes(name));
  });
  if (innocent.length > 0) return give("wrong-name", `accuses ${innocent.map(({ about }) => about).join(", ")}`);
  return give("true");
}
