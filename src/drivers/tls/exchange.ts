import type { TLSSocket } from "node:tls";
import { type Dial, type Look, look, type Talk } from "./handshake.ts";
import { type Reply, ReplyReader } from "./reply.ts";
import type { VerifierSettings } from "./settings.ts";

export type Request = VerifierSettings["request"];

/** What came back on one connection after the handshake. */
export interface Exchange {
  readonly look: Look;
  /** A complete HTTP reply. */
  readonly reply?: Reply;
  /** For `request: none`: the server spoke, or kept the connection until we closed it and then closed too. */
  readonly word?: "spoke" | "closed after us";
  /** Octets came, but no reply that could be read. */
  readonly broken?: string;
  /** Our clock when it ended, ms. */
  readonly at: number;
}

export interface Asking {
  readonly request: Request;
  readonly serverName: string;
  readonly tag: string;
  readonly now: () => number;
  /** Milliseconds to listen before speaking. */
  readonly hush: number;
}

/**
 * How long silence after the handshake counts as "it let us in", without a request: long enough for the alert of a
 * server that judges the certificate after the handshake, many times the round trip.
 */
const silence = (look: { connectedAfter: number }): number => Math.max(500, 10 * look.connectedAfter);

/** Dials, sends the request, reads the complete reply. Trouble is a value; only an abort throws. */
export async function exchange(dial: Dial, asking: Asking, signal: AbortSignal): Promise<Exchange> {
  const { request, now } = asking;
  if (request === "none") {
    const talk = new SilentTalk();
    const seen = await look(dial, signal, talk);
    return { look: seen, at: now(), ...(talk.word === undefined ? {} : { word: talk.word }) };
  }
  const talk = new HttpTalk(request, asking);
  const seen = await look({ ...dial, alpn: ["http/1.1"] }, signal, talk);
  const { state } = talk.reader;
  return {
    ...{ look: seen, at: now() },
    ...(state.is === "complete" ? { reply: state.reply } : {}),
    ...(state.is === "broken" && seen.trouble === undefined ? { broken: state.why } : {}),
  };
}

class HttpTalk implements Talk {
  readonly reader: ReplyReader;
  readonly #text: string;
  readonly #hush: number;
  constructor(request: Exclude<Request, "none">, { serverName, tag, hush }: Asking) {
    this.reader = new ReplyReader(request.method);
    this.#hush = hush;
    this.#text = [
      `${request.method} ${request.path} HTTP/1.1`,
      `Host: ${request.host ?? serverName}`,
      `User-Agent: gyre-probe/${tag}`,
      "Accept: */*",
      "Connection: close",
      "\r\n",
    ].join("\r\n");
  }
  start(socket: TLSSocket): void {
    if (this.#hush === 0) socket.write(this.#text);
    else setTimeout(() => socket.destroyed || socket.write(this.#text), this.#hush);
  }
  data(chunk: Buffer): boolean {
    return this.reader.push(chunk).is !== "more";
  }
  end(): string | undefined {
    const state = this.reader.end();
    return state.is === "broken" ? state.why : undefined;
  }
}

/** For protocols we do not speak: listen; when nothing comes, close our side and see whether the server follows. */
class SilentTalk implements Talk {
  word: Exchange["word"];
  #closing = false;
  readonly #began = performance.now();
  start(socket: TLSSocket): void {
    const wait = silence({ connectedAfter: performance.now() - this.#began });
    setTimeout(() => {
      if (socket.destroyed) return;
      this.#closing = true;
      socket.end();
    }, wait);
  }
  data(): boolean {
    this.word = "spoke";
    return true;
  }
  end(): string | undefined {
    // A server that refuses without an alert (Node's own does) also closes, but at once and unasked.
    if (!this.#closing) return "the server closed the connection without a word";
    this.word = "closed after us";
    return undefined;
  }
}
