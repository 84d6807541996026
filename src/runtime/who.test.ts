import { expect, it } from "vitest";
import type { Sensor, Usage } from "../drivers/roles.ts";
import type { Lineage } from "../engine/state.ts";
import type { Parties } from "./parties.ts";
import { type History, whereabouts } from "./who.ts";

const now = Date.UTC(2026, 10, 26, 18);
const known = "ab".repeat(32);
const stranger = "cd".repeat(32);
const none: Usage = { count: 0, from: [] };
const history = {
  entries: [],
  lineage: {
    current: 3,
    generations: new Map([
      [3, { number: 3, fingerprint: known, subject: "CN=admin", names: [], serial: "1", notBefore: 0, notAfter: now }],
    ]),
  } as unknown as Lineage,
} satisfies History;

/** What each sensor was asked, by place. */
function estate(answer: Usage, byFingerprint = true) {
  const asked: string[] = [];
  const sensor = (place: string, byFingerprint: boolean): Sensor => ({
    can: { byFingerprint },
    ...{ place, member: "10.0.0.1:6443", alive: async () => true },
    async usage(of) {
      asked.push(`${place} ${of.fingerprint.slice(0, 2)}`);
      return answer;
    },
  });
  const bound = (...places: string[]) =>
    ({
      ...{ targets: [], trustStores: [], presenters: [], verifiers: [] },
      sensors: places.map((place) => ({ id: place, driver: "x", instance: sensor(place, byFingerprint) })),
    }) as unknown as Parties;
  const parties = new Map([
    ["admin", bound("audit-1", "audit-2")],
    ["other", bound("audit-1")],
  ]);
  const who = (wanted: string) => whereabouts(wanted, new Map([["admin", history]]), parties, now);
  return { asked, who };
}
const from = ["10.0.0.5 kubectl/v1.35.4 as mallory"];

it("a certificate of a journal is asked of its own credential's sensors, and told with its generation", async () => {
  const { asked, who } = estate({ count: 2, ours: 1, from, last: now - 1 });
  const used = (await who(known.slice(0, 8))).filter(({ how }) => how === "used");
  expect(asked).toEqual(["audit-1 ab", "audit-2 ab"]);
  expect(used.map(({ where, credential, generation }) => [where, credential, generation])).toEqual([
    ["audit-1", "admin", 3],
    ["audit-2", "admin", 3],
  ]);
  expect(used[0]!.detail).toBe(`used 2 times by ${from[0]}; 1 more by our own probes`);
});

it("one that no journal knows is asked of each sensor that goes by the fingerprint, once", async () => {
  const { asked, who } = estate({ count: 1, ours: 0, from, last: now - 1 });
  const detail = `used once by ${from[0]}`;
  expect(await who(stranger)).toEqual(
    ["audit-1", "audit-2"].map((where) => ({ fingerprint: stranger, where, how: "used", at: now - 1, detail })),
  );
  expect(asked).toEqual(["audit-1 cd", "audit-2 cd"]);
  // Half a fingerprint is none, and others need the serial number and the issuer.
  expect(await who(stranger.slice(0, 16))).toEqual([]);
  expect(await estate({ count: 1, from }, false).who(stranger)).toEqual([]);
});

it("a sensor that cannot be read is told as not asked; one that saw nothing is silent", async () => {
  const blind = await estate({ ...none, gap: "the log cannot be read (ENOENT)", gapUntil: now }).who(stranger);
  expect(blind.map(({ where, detail }) => `${where}: ${detail}`)).toEqual([
    "audit-1: could not be asked: the log cannot be read (ENOENT)",
    "audit-2: could not be asked: the log cannot be read (ENOENT)",
  ]);
  expect(await estate(none).who(stranger)).toEqual([]);
  expect(await estate({ ...none, gap: "does not reach back", gapUntil: now - 60_000 }).who(stranger)).toEqual([]);
});
