import { GyreError } from "../errors.ts";

/**
 * One text per value. A receipt is judged by its exact bytes, and two readers must not see different things in them:
 * so the text has to be what JSON.stringify makes of what JSON.parse reads. That refuses duplicate keys, spare white
 * space, other spellings of numbers and strings, and bytes that are not UTF-8.
 * @param what names the text in messages
 * @throws GyreError `damaged`
 */
export function parseStrict(bytes: Uint8Array, what: string): unknown {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw broken(`${what}: not UTF-8`, cause);
  }
  let value: unknown;
  let again: string;
  try {
    value = JSON.parse(text);
    again = JSON.stringify(value);
  } catch (cause) {
    // A RangeError for nesting that exhausts the stack ends here too. The parser's own message quotes its input.
    throw broken(`${what}: not JSON`, cause);
  }
  if (again !== text) throw broken(`${what}: ambiguous JSON (duplicate keys, spare characters or another spelling)`);
  return value;
}

/** Standard base64 with padding, and only the one spelling of it. @throws GyreError `damaged` */
export function parseBase64(text: string, what: string): Buffer {
  const bytes = Buffer.from(text, "base64");
  if (bytes.toString("base64") !== text) throw broken(`${what}: not base64 in its one standard spelling`);
  return bytes;
}

export function broken(message: string, cause?: unknown): GyreError {
  return new GyreError({ code: "damaged", message, next: "get this file again from where it was written", cause });
}
