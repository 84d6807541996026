import { expect, test } from "vitest";
import { tooLarge } from "../../drivers/kubernetes/api.ts";
import { FakeApi, type Odd } from "./fake-lists.ts";

const path = "/api/v1/secrets";
function cluster(objects: number, odd?: (path: string, call: number) => Odd | undefined): FakeApi {
  const api = new FakeApi();
  const rows = Array.from({ length: objects }, (_, n) => ({ metadata: { name: `s-${n}` } }));
  api.lists.set(path, rows);
  if (odd !== undefined) api.odd = odd;
  return api;
}
async function names(api: FakeApi): Promise<string[]> {
  const found: string[] = [];
  for await (const page of api.open().pages<{ metadata: { name: string } }>(path, "Secrets"))
    found.push(...page.map(({ metadata }) => metadata.name));
  return found;
}
const failure = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => new Error("it went well"),
    (error: Error) => error,
  );
const all = (number: number) => Array.from({ length: number }, (_, n) => `s-${n}`);

test("every object once, whatever the number of pages; an empty list is one request", async () => {
  const api = cluster(1234);
  expect(await names(api)).toEqual(all(1234));
  expect(api.calls).toHaveLength(4);
  const empty = cluster(0);
  expect(await names(empty)).toEqual([]);
  expect(empty.cost.requests).toBe(1);
});

test("410 in mid-list goes on behind the last object with the token it brings; nothing is missed or told twice", async () => {
  const api = cluster(300, (_, call) =>
    call === 2 ? { status: 410, body: { message: "too old", metadata: { continue: "later-100" } } } : undefined,
  );
  expect(await names(api)).toEqual(all(300));
  expect(api.calls[2]).toContain("continue=later-100");
});

test("410 without a token is half a list, and said", async () => {
  const error = await failure(names(cluster(300, (_, call) => (call === 2 ? { status: 410 } : undefined))));
  expect(error.message).toMatch(/the list of Secrets broke off after 100: .*; those after it were not seen/);
});

const passing: [string, Odd, number[]][] = [
  ["429", { status: 429 }, [1000, 2000]],
  ["429 that says when", { status: 429, body: { details: { retryAfterSeconds: 7 } } }, [7000, 7000]],
  ["503", { status: 503 }, [1000, 2000]],
  ["no answer", "connection reset", [1000, 2000]],
];
test.each(passing)("%s passes by", async (_, odd, waited) => {
  const api = cluster(300, (__, call) => (call === 2 || call === 3 ? odd : undefined));
  expect(await names(api)).toEqual(all(300));
  expect(api.waited).toEqual(waited);
});

test("what does not pass by is said, with how much was seen", async () => {
  const error = await failure(names(cluster(300, (_, call) => (call >= 2 ? { status: 503 } : undefined))));
  expect(error.message).toMatch(/broke off after 100: .*HTTP 503/);
});

const lasting: [string, Odd, RegExp][] = [
  ["403", { status: 403, body: { message: "secrets is forbidden" } }, /secrets is forbidden/],
  ["an object that is no list, with 200", { status: 200, body: { kind: "APIGroup" } }, /the answer is no list/],
  ["a page of HTML with 200", { status: 200, body: "<html>" }, /the answer is no list/],
];
test.each(lasting)("%s is no list, and is not tried again", async (_, odd, said) => {
  const api = cluster(300, () => odd);
  expect((await failure(names(api))).message).toMatch(said);
  expect(api.waited).toEqual([]);
});

test("a page that is too large is asked for in smaller pieces", async () => {
  const size = (of: string) => Number(/limit=(\d+)/.exec(of)?.[1]);
  const api = cluster(300, (of) => (size(of) > 20 ? tooLarge : undefined));
  expect(await names(api)).toEqual(all(300));
  expect(Math.min(...api.calls.map(size))).toBeLessThanOrEqual(20);
  // One object that is too large alone ends it.
  expect((await failure(names(cluster(3, () => tooLarge)))).message).toContain(tooLarge);
});
