import { broken } from "./json.ts";

/** Says whether a value has a shape: throws GyreError `damaged` naming the place where it has not. */
export type Shape = (value: unknown, at: string) => void;

function must(fits: boolean, at: string, what: string): void {
  if (!fits) throw broken(`${at}: not ${what}`);
}

export const string: Shape = (value, at) => must(typeof value === "string", at, "a string");
export const boolean: Shape = (value, at) => must(typeof value === "boolean", at, "true or false");
/** A whole number from 0. */
export const count: Shape = (value, at) => must(Number.isSafeInteger(value) && Number(value) >= 0, at, "a count");
export const hex256: Shape = (value, at) =>
  must(typeof value === "string" && /^[0-9a-f]{64}$/.test(value), at, "64 lower-case hex digits");
export const digest: Shape = (value, at) =>
  must(typeof value === "string" && /^sha256:[0-9a-f]{64}$/.test(value), at, "a digest (sha256: and 64 hex digits)");
/** RFC 3339 in UTC with milliseconds, as Date.toISOString writes it. */
export const timestamp: Shape = (value, at) => {
  const time = typeof value === "string" ? Date.parse(value) : Number.NaN;
  must(
    Number.isFinite(time) && new Date(time).toISOString() === value,
    at,
    "a UTC time as in 2026-01-31T12:00:00.000Z",
  );
};

export function oneOf(...words: readonly string[]): Shape {
  return (value, at) => must(typeof value === "string" && words.includes(value), at, `one of ${words.join(", ")}`);
}

export function list(item: Shape): Shape {
  return (value, at) => {
    if (!Array.isArray(value)) throw broken(`${at}: not a list`);
    for (const [index, one] of value.entries()) item(one, `${at}[${index}]`);
  };
}

/** Exactly these fields; a name that ends in `?` may be absent. */
export function object(fields: Readonly<Record<string, Shape>>): Shape {
  const known = new Map(Object.entries(fields).map(([name, shape]) => [name.replace(/\?$/, ""), shape]));
  const needed = Object.keys(fields).filter((name) => !name.endsWith("?"));
  return (value, at) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw broken(`${at}: not an object`);
    for (const [name, one] of Object.entries(value)) {
      const shape = known.get(name);
      if (shape === undefined) throw broken(`${at}: unknown field ${JSON.stringify(name.slice(0, 60))}`);
      shape(one, `${at}.${name}`);
    }
    for (const name of needed) must(Object.hasOwn(value, name), at, `complete: ${name} is missing`);
  };
}
