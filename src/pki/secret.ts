import { inspect } from "node:util";

/**
 * Bytes that must not be printed, logged or serialised by accident. Every conversion to text yields `[secret]`;
 * the bytes are reachable only through `use`, so a reader of the code can list all places that touch them (I12).
 */
export class Secret {
  readonly #bytes: Buffer;
  private constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }
  /** Copies, so that the caller may wipe its own buffer. */
  static of(value: Uint8Array | string): Secret {
    return new Secret(typeof value === "string" ? Buffer.from(value, "utf8") : Buffer.from(value));
  }
  /** The one way in. The buffer is the secret itself, not a copy: do not keep it. */
  use<T>(fn: (bytes: Buffer) => T): T {
    return fn(this.#bytes);
  }
  /** Overwrites the bytes; a later `use` sees zeros. */
  wipe(): void {
    this.#bytes.fill(0);
  }
  get length(): number {
    return this.#bytes.length;
  }
  toString(): string {
    return "[secret]";
  }
  toJSON(): string {
    return "[secret]";
  }
  [inspect.custom](): string {
    return "[secret]";
  }
}
