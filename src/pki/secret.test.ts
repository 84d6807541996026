import { inspect } from "node:util";
import { expect, it } from "vitest";
import { Secret } from "./secret.ts";

const MARK = "marked-7f3a91c0";

it("no ordinary way to text shows the bytes; `use` gives them", () => {
  const secret = Secret.of(MARK);
  const shown = [
    String(secret),
    `${secret}`,
    JSON.stringify({ secret }),
    inspect(secret, { depth: 9, showHidden: true }),
    inspect({ deep: [secret] }, { depth: 9 }),
    JSON.stringify(Object.entries(secret)),
    inspect(structuredClone({ ...secret })),
  ];
  for (const text of shown) {
    expect(text).not.toContain(MARK);
    expect(text).not.toContain(Buffer.from(MARK).toString("hex"));
    expect(text).not.toContain(Buffer.from(MARK).toString("base64"));
  }
  expect(secret.use((bytes) => bytes.toString())).toBe(MARK);
  expect(secret.length).toBe(MARK.length);
});

it("keeps a copy, and wipes it", () => {
  const bytes = Buffer.from(MARK);
  const secret = Secret.of(bytes);
  bytes.fill(0);
  expect(secret.use((kept) => kept.toString())).toBe(MARK);
  secret.wipe();
  expect(secret.use((kept) => kept.every((byte) => byte === 0))).toBe(true);
});
