/** Fields that hold an instant, in every type of the engine and the runtime. */
const instants = new Set([
  "at",
  "since",
  "until",
  "expires",
  "expiresAt",
  "notBefore",
  "notAfter",
  "plannedAt",
  "takenUpAt",
  "toldAt",
  "disturbedAt",
  "doneAt",
  "dueAt",
  "windowStart",
  "windowEnd",
  "overrideAt",
  "start",
  "end",
  "startedAt",
  "endedAt",
  "last",
  "gapUntil",
  "thisUpdate",
  "nextUpdate",
]);

/** Anything before this is a length of time, not an instant (1 November 1973). */
const earliest = 121_000_000_000;

/**
 * Data as `--json` prints it: instants as RFC 3339 text, lengths of time as milliseconds, maps as objects. Keys keep
 * their names, so that the output is the API's types and nothing else.
 */
export function plainData(value: unknown, key = ""): unknown {
  if (typeof value === "number") return instants.has(key) ? instant(value) : Number.isFinite(value) ? value : null;
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Map)
    return Object.fromEntries([...value].map(([name, item]) => [String(name), plainData(item)]));
  if (value instanceof Set) return [...value].map((item) => plainData(item));
  if (Array.isArray(value)) return value.map((item) => plainData(item, key));
  if ("toJSON" in value && typeof value.toJSON === "function") return plainData(value.toJSON());
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, plainData(item, name)]));
}

function instant(value: number): string | number | null {
  if (!Number.isFinite(value) || Math.abs(value) > 8.64e15) return null;
  return Math.abs(value) < earliest ? value : new Date(value).toISOString();
}

export const jsonText = (value: unknown): string => JSON.stringify(plainData(value), null, 2);
