import { expect, test } from "vitest";
import { editDistance, nearest } from "./nearest.ts";

test.each([
  ["", "abc", 3],
  ["dnsName", "dnsNames", 1],
  ["dnsNmaes", "dnsNames", 1],
  ["DNSNAMES", "dnsNames", 0],
  ["kitten", "sitting", 3],
])("%s to %s takes %i edits", (a, b, edits) => {
  expect(editDistance(a, b)).toBe(edits);
  expect(editDistance(b, a)).toBe(edits);
});

test("the nearest word, and none where nothing is near", () => {
  const known = ["issuer", "issue", "subject", "to", "from"];
  expect(nearest("isuer", known)).toBe("issuer");
  expect(nearest("subjct", known)).toBe("subject");
  expect(nearest("owner", known)).toBeUndefined();
  expect(nearest("x", known)).toBeUndefined();
  expect(nearest("s".repeat(10_000), known)).toBeUndefined();
});
