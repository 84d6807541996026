import { createHash } from "node:crypto";
import type { Digest } from "./model.ts";

/**
 * JSON with sorted keys and no spaces, so that equal values have equal bytes. Undefined fields are left out, as
 * JSON.stringify does; numbers are finite integers in all we digest, so RFC 8785's number rules do not matter here.
 */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((item) => canonical(item === undefined ? null : item)).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const fields = Object.entries(value)
      .filter(([, field]) => field !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, field]) => `${JSON.stringify(key)}:${canonical(field)}`);
    return `{${fields.join(",")}}`;
  }
  return JSON.stringify(value);
}

/** SHA-256 over the canonical JSON of a value. */
export function digestOf(value: unknown): Digest {
  return `sha256:${createHash("sha256").update(canonical(value)).digest("hex")}`;
}
