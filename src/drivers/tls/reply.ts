/**
 * Reads one HTTP/1.x reply (RFC 9112) from chunks, in constant memory: head up to 64 KiB, the first 16 KiB of the body
 * kept, the rest counted. A probe concludes only from a complete reply, so completeness is what this is strict about.
 */
export interface Reply {
  readonly status: number;
  /** Lower-case names; repeated fields joined by ", " (RFC 9110 §5.3). */
  readonly headers: ReadonlyMap<string, string>;
  /** The first 16 KiB, as Latin-1. */
  readonly body: string;
  /** Body octets in all. */
  readonly length: number;
}
export type ReplyState =
  | { readonly is: "more" }
  | { readonly is: "complete"; readonly reply: Reply }
  | { readonly is: "broken"; readonly why: string };

const headLimit = 64 * 1024;
const bodyKept = 16 * 1024;
/** A page to probe is small; a download must not be fetched at every look. */
const bodyLimit = 8 * 1024 * 1024;
const lineLimit = 8 * 1024;

type Framing = { kind: "none" } | { kind: "length"; left: number } | { kind: "chunked" } | { kind: "close" };
type Head = { status: number; headers: Map<string, string> };

export class ReplyReader {
  readonly #method: string;
  #pending: Buffer = Buffer.alloc(0);
  #head: Head | undefined;
  #framing: Framing = { kind: "none" };
  #chunk: "size" | "data" | "data-end" | "trailer" = "size";
  #chunkLeft = 0;
  #kept: Buffer[] = [];
  #keptLength = 0;
  #length = 0;
  #trailerLength = 0;
  #state: ReplyState = { is: "more" };

  constructor(method: "GET" | "HEAD") {
    this.#method = method;
  }

  get state(): ReplyState {
    return this.#state;
  }

  /** Feeds octets; after `complete` or `broken` further ones are ignored. Never throws. */
  push(chunk: Uint8Array): ReplyState {
    if (this.#state.is !== "more") return this.#state;
    this.#pending = this.#pending.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#pending, chunk]);
    while (this.#state.is === "more" && this.#advance());
    return this.#state;
  }

  /** The peer closed: a reply that ends by closing is complete now, any other was cut off. */
  end(): ReplyState {
    if (this.#state.is !== "more") return this.#state;
    if (this.#head !== undefined && this.#framing.kind === "close") this.#complete();
    else
      this.#broken(
        this.#head === undefined
          ? "the connection was closed before a complete reply head"
          : "the connection was closed in the middle of the reply body",
      );
    return this.#state;
  }

  /** One step; false when more octets are needed. */
  #advance(): boolean {
    if (this.#head === undefined) return this.#readHead();
    switch (this.#framing.kind) {
      case "none":
        return this.#complete();
      case "length": {
        this.#framing.left -= this.#takeBody(this.#framing.left);
        if (this.#framing.left === 0) return this.#complete();
        return false;
      }
      case "close":
        this.#takeBody(this.#pending.length);
        return false;
      case "chunked":
        return this.#readChunked();
      default:
        return this.#framing satisfies never;
    }
  }

  #readHead(): boolean {
    const end = this.#pending.indexOf("\r\n\r\n");
    if (end < 0 || end > headLimit) {
      if (this.#pending.length > headLimit) return this.#broken("the reply head is longer than 64 KiB");
      // Anything that does not begin like HTTP is said to be so at once, not after a time-out.
      const start = this.#pending.subarray(0, 5).toString("latin1");
      return "HTTP/".startsWith(start) || start === "HTTP/" ? false : this.#broken("the reply is not HTTP/1.x");
    }
    const head = parseHead(this.#pending.subarray(0, end).toString("latin1"));
    if (typeof head === "string") return this.#broken(head);
    this.#pending = this.#pending.subarray(end + 4);
    // Interim replies (RFC 9110 §15.2) come before the one that is meant; 101 would leave HTTP.
    if (head.status === 101) return this.#broken("the server switched protocols");
    if (head.status < 200) return true;
    const framing = framingOf(this.#method, head);
    if (typeof framing === "string") return this.#broken(framing);
    this.#head = head;
    this.#framing = framing;
    return true;
  }

  #readChunked(): boolean {
    if (this.#chunk === "data") {
      this.#chunkLeft -= this.#takeBody(this.#chunkLeft);
      if (this.#chunkLeft > 0) return false;
      this.#chunk = "data-end";
      return true;
    }
    const end = this.#pending.indexOf("\r\n");
    if (end < 0 || end > lineLimit)
      return this.#pending.length > lineLimit ? this.#broken("a chunk line is longer than 8 KiB") : false;
    const line = this.#pending.subarray(0, end).toString("latin1");
    this.#pending = this.#pending.subarray(end + 2);
    if (this.#chunk === "data-end") {
      if (line !== "") return this.#broken("a chunk is longer than it said");
      this.#chunk = "size";
      return true;
    }
    if (this.#chunk === "trailer") {
      this.#trailerLength += line.length + 2;
      if (this.#trailerLength > headLimit) return this.#broken("the trailer is longer than 64 KiB");
      return line === "" ? this.#complete() : true;
    }
    const size = /^([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?$/.exec(line)?.[1];
    if (size === undefined) return this.#broken("a chunk size is not hexadecimal");
    this.#chunkLeft = Number.parseInt(size, 16);
    this.#chunk = this.#chunkLeft === 0 ? "trailer" : "data";
    return true;
  }

  /** Consumes up to `most` octets of body; gives how many. */
  #takeBody(most: number): number {
    const taken = this.#pending.subarray(0, Math.min(most, this.#pending.length));
    this.#pending = this.#pending.subarray(taken.length);
    this.#length += taken.length;
    if (this.#keptLength < bodyKept && taken.length > 0) {
      const part = Buffer.from(taken.subarray(0, bodyKept - this.#keptLength));
      this.#kept.push(part);
      this.#keptLength += part.length;
    }
    if (this.#length > bodyLimit) this.#broken("the reply body is longer than 8 MiB");
    return taken.length;
  }

  #complete(): false {
    if (this.#state.is === "more" && this.#head !== undefined) {
      const body = Buffer.concat(this.#kept).toString("latin1");
      this.#state = { is: "complete", reply: { ...this.#head, body, length: this.#length } };
    }
    return false;
  }

  #broken(why: string): false {
    this.#state = { is: "broken", why };
    return false;
  }
}

function parseHead(text: string): Head | string {
  const [statusLine = "", ...lines] = text.split("\r\n");
  const status = /^HTTP\/1\.[01] ([1-5]\d\d)(?: .*)?$/.exec(statusLine)?.[1];
  if (status === undefined) return "the reply is not HTTP/1.x";
  const headers = new Map<string, string>();
  for (const line of lines) {
    const field = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*$/s.exec(line);
    if (field === null) return "a header line of the reply is malformed";
    const name = field[1]!.toLowerCase();
    const before = headers.get(name);
    headers.set(name, before === undefined ? field[2]! : `${before}, ${field[2]!}`);
  }
  return { status: Number(status), headers };
}

/** RFC 9112 §6.3; a reply with both lengths, or two different ones, is not trusted. */
function framingOf(method: string, head: Head): Framing | string {
  if (method === "HEAD" || head.status === 204 || head.status === 304) return { kind: "none" };
  const encoding = head.headers.get("transfer-encoding");
  const length = head.headers.get("content-length");
  if (encoding !== undefined) {
    if (length !== undefined) return "the reply has both Transfer-Encoding and Content-Length";
    return encoding.toLowerCase() === "chunked" ? { kind: "chunked" } : { kind: "close" };
  }
  if (length === undefined) return { kind: "close" };
  const lengths = new Set(length.split(",").map((part) => part.trim()));
  const [only = ""] = lengths;
  if (lengths.size !== 1 || !/^\d{1,15}$/.test(only)) return "the reply has a malformed Content-Length";
  return { kind: "length", left: Number(only) };
}
