import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { GyreError } from "../errors.ts";
import { checkSources, manifestError } from "./load.ts";
import { sourceOf } from "./source.ts";

// One manifest per situation (*.in) and, word for word, what the person who wrote it reads (*.out). After a change of
// wording: GYRE_GOLDEN=write npx vitest run --project core src/manifest/golden.test.ts, and read the difference.
// They are not called *.yaml, since half of them are no YAML and formatters stop at them.
const folder = join(import.meta.dirname, "golden");
const environment = { ISSUER: "Lab Root!", PASSPHRASE: "swordfish-1", PW: "swordfish-2" };
const names = readdirSync(folder).flatMap((file) => (file.endsWith(".in") ? [file.slice(0, -3)] : []));
const input = (name: string) => readFileSync(join(folder, `${name}.in`), "utf8");

function reading(name: string): GyreError {
  const checked = checkSources([sourceOf(`${name}.yaml`, input(name))], environment);
  if (checked.ok) throw new Error(`${name} has no problem`);
  return manifestError(checked.problems);
}

test.each(names)("%s reads as expected, word for word", (name) => {
  const error = reading(name);
  expect(error).toBeInstanceOf(GyreError);
  const expected = join(folder, `${name}.out`);
  if (process.env.GYRE_GOLDEN === "write") writeFileSync(expected, `${error.message}\n`);
  expect(`${error.message}\n`).toBe(readFileSync(expected, "utf8"));
});

test("no text repeats a secret of the file or of the environment", () => {
  const texts = names.map((name) => JSON.stringify(reading(name)));
  expect(texts.join("").match(/hunter2|swordfish/g)).toBeNull();
  // The control: the sources are full of them.
  expect(
    names
      .map(input)
      .join("")
      .match(/hunter2-hunter\d/g)?.length,
  ).toBeGreaterThan(8);
});

test("no text carries a control or direction character to the terminal", () => {
  const { message } = reading("hostile");
  expect(message).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/);
  expect(message).toContain("\\u001b");
});
