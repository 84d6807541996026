/**
 * One fresh TLS connection with one member, and what it showed. Full handshake unless a session is given on purpose:
 * no agent, no pool, no session cache. OpenSSL checks the server's CertificateVerify (TLS 1.3) or the signature on
 * its key exchange (TLS 1.2) and aborts when it is wrong, so whoever completes the handshake holds the leaf's key.
 * OpenSSL is given no roots: it must never hide a chain from us by judging it. presented-chain.ts judges it instead.
 */
import { isIP } from "node:net";
import { type ConnectionOptions, connect, type SecureContext, type TLSSocket } from "node:tls";
import { GyreError } from "../../errors.ts";
import { splitAddress } from "./address.ts";
import { type Alert, alertOf } from "./alerts.ts";

/** Milliseconds each part may take. */
export interface Limits {
  readonly connect: number;
  readonly handshake: number;
  readonly reply: number;
}
/** A replica on the same network answers in milliseconds; these bound a round, they are no expectation. */
export const defaultLimits: Limits = { connect: 5_000, handshake: 5_000, reply: 10_000 };

export interface Dial {
  /** The member's own address, `host:port`. */
  readonly address: string;
  /** Sent as SNI unless it is an IP address (RFC 6066 §3). */
  readonly serverName: string;
  readonly context: SecureContext;
  readonly alpn?: readonly string[];
  /** Tried for resumption. */
  readonly session?: Buffer;
  /**
   * Capture the chain before the handshake ends. A TLS 1.2 server that demands a client certificate refuses us
   * after it has shown its own; by the time the error is reported OpenSSL has let the chain go.
   */
  readonly early?: boolean;
  readonly limits?: Partial<Limits>;
}

/** Where the look stopped, and on what. `code` is an alert name, a system error code, or one of ours in lower case. */
export interface Trouble {
  readonly at: "connect" | "handshake" | "reply";
  readonly code: string;
  readonly why: string;
  readonly alert?: Alert;
  /** The connection broke without an alert: one may have been lost on the way, so look again before concluding. */
  readonly abrupt: boolean;
}

export interface Look {
  /** DER, leaf first, exactly as sent; empty when nothing was received (also when a session was resumed). */
  readonly chain: readonly Buffer[];
  readonly protocol?: string;
  readonly cipher?: string;
  readonly remote?: string;
  readonly resumed: boolean;
  /** Milliseconds from the first packet to each point reached. */
  readonly connectedAfter?: number;
  readonly securedAfter?: number;
  readonly took: number;
  /** Tickets or session ids received. They are secrets. */
  readonly sessions: readonly Buffer[];
  readonly trouble?: Trouble;
}

/** What to do on the connection after the handshake. `finish` ends the look. All are called in order, never after it. */
export interface Talk {
  start(socket: TLSSocket, finish: () => void): void;
  /** True: the talk is over. */
  data(chunk: Buffer): boolean;
  /** The peer closed its side. Give a reason when that was too early. */
  end(): string | undefined;
}

/**
 * Dials, shakes hands, talks if asked to, closes. Everything the network may do is a value in `trouble`; only an
 * abort throws (`unreachable`, retry later). The socket is destroyed when the promise settles.
 */
export function look(dial: Dial, signal: AbortSignal, talk?: Talk): Promise<Look> {
  const { host, port } = splitAddress(dial.address);
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(stopped(dial.address, signal));
    new Looking(dial, signal, talk, resolve, reject).begin(host, port);
  });
}

const stopped = (address: string, signal: AbortSignal): GyreError =>
  new GyreError({
    code: "unreachable",
    message: `tls: the look at ${address} was stopped before an answer came; nothing was concluded`,
    where: address,
    retry: "later",
    cause: signal.reason,
  });

/** One listener for each signal and a set of looks: a listener for each look costs a tenth of a handshake. */
const looking = new WeakMap<AbortSignal, Set<Looking>>();
function lookingUnder(signal: AbortSignal): Set<Looking> {
  let looks = looking.get(signal);
  if (looks === undefined) {
    const these = new Set<Looking>();
    looks = these;
    looking.set(signal, these);
    signal.addEventListener(
      "abort",
      () => {
        for (const one of these) one.abort();
      },
      { once: true },
    );
  }
  return looks;
}

type Stage = "connect" | "handshake" | "reply";
const waitingFor: Readonly<Record<Stage, string>> = {
  connect: "no connection",
  handshake: "no end of the handshake",
  reply: "no complete reply",
};

class Looking {
  readonly #dial: Dial;
  readonly #signal: AbortSignal;
  readonly #talk: Talk | undefined;
  readonly #resolve: (look: Look) => void;
  readonly #reject: (error: GyreError) => void;
  readonly #began = performance.now();
  /** The address dialled, where it is no name: then the socket need not be asked. */
  #ip: string | undefined;
  #socket!: TLSSocket;
  #stage: Stage = "connect";
  #timer: NodeJS.Timeout | undefined;
  #settled = false;
  #chain: Buffer[] = [];
  #sessions: Buffer[] = [];
  #connectedAfter: number | undefined;
  #securedAfter: number | undefined;
  #established: { protocol: string; cipher: string; remote: string; resumed: boolean } | undefined;

  constructor(
    dial: Dial,
    signal: AbortSignal,
    talk: Talk | undefined,
    resolve: (look: Look) => void,
    reject: (error: GyreError) => void,
  ) {
    this.#dial = dial;
    this.#signal = signal;
    this.#talk = talk;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  begin(host: string, port: number): void {
    if (isIP(host) !== 0) this.#ip = host;
    const { serverName, context, alpn, session } = this.#dial;
    const options: ConnectionOptions = {
      host,
      port,
      secureContext: context,
      rejectUnauthorized: false,
      ...(isIP(serverName) === 0 ? { servername: serverName } : {}),
      ...(alpn === undefined ? {} : { ALPNProtocols: [...alpn] }),
      ...(session === undefined ? {} : { session }),
    };
    lookingUnder(this.#signal).add(this);
    this.#wait("connect");
    const socket = connect(options);
    this.#socket = socket;
    socket.once("connect", () => {
      this.#connectedAfter = performance.now() - this.#began;
      this.#wait("handshake");
    });
    if (this.#dial.early === true) socket.on("keylog", () => this.#capture());
    if (this.#talk !== undefined) socket.on("session", (ticket) => this.#sessions.push(ticket));
    socket.once("secureConnect", () => this.#onSecure());
    socket.on("error", (error) => this.#onError(error));
    socket.once("close", () => this.#onClose());
  }

  abort(): void {
    if (this.#settled) return;
    this.#release();
    this.#reject(stopped(this.#dial.address, this.#signal));
  }

  #wait(stage: Stage): void {
    this.#stage = stage;
    clearTimeout(this.#timer);
    const limit = this.#dial.limits?.[stage] ?? defaultLimits[stage];
    this.#timer = setTimeout(() => {
      this.#fail(`${stage}-timeout`, `${waitingFor[stage]} within ${limit} ms`, false);
    }, limit);
  }

  /** Node hands the received chain out once and takes it off the session, so the first successful call keeps it. */
  #capture(): void {
    if (this.#chain.length > 0) return;
    let next = this.#socket.getPeerX509Certificate();
    while (next !== undefined) {
      this.#chain.push(next.raw);
      next = next.issuerCertificate;
    }
  }

  #onSecure(): void {
    const socket = this.#socket;
    this.#securedAfter = performance.now() - this.#began;
    const resumed = socket.isSessionReused();
    // A resumed session still carries the old certificate: what it says was not sent in this handshake.
    if (!resumed) this.#capture();
    this.#established = {
      protocol: socket.getProtocol() ?? "unknown",
      cipher: socket.getCipher().name,
      remote: this.#ip ?? socket.remoteAddress ?? "unknown",
      resumed,
    };
    const talk = this.#talk;
    // Our Finished is written after this event returns; destroying at once would leave the server without it.
    if (talk === undefined) return void setImmediate(() => this.#settle());
    this.#wait("reply");
    socket.on("data", (chunk: Buffer) => {
      if (!this.#settled && talk.data(chunk)) this.#settle();
    });
    socket.once("end", () => this.#onEnd(talk));
    talk.start(socket, () => this.#settle());
  }

  #onEnd(talk: Talk): void {
    if (this.#settled) return;
    const early = talk.end();
    // TLS 1.3 alerts about a client certificate come after the handshake. Node reports `end` before `error` when both
    // arrive in one read, so the error gets its turn first.
    if (early === undefined) this.#settle();
    else setImmediate(() => this.#fail("closed", early, true));
  }

  #onError(error: Error & { code?: string }): void {
    const alert = alertOf(error);
    const code = alert ?? error.code ?? "unknown";
    const why = alert === undefined ? (systemWords[code] ?? reasonOf(error)) : `the server sent the TLS alert ${alert}`;
    this.#fail(code, why, broken.has(code) && this.#stage !== "connect", alert);
  }

  #onClose(): void {
    if (this.#settled) return;
    this.#fail("closed", "the server closed the connection without an answer", this.#stage !== "connect");
  }

  #fail(code: string, why: string, abrupt: boolean, alert?: Alert): void {
    this.#settle({ at: this.#stage, code, why, abrupt, ...(alert === undefined ? {} : { alert }) });
  }

  #settle(trouble?: Trouble): void {
    if (this.#settled) return;
    this.#release();
    this.#resolve({
      chain: this.#chain,
      resumed: false,
      ...this.#established,
      ...(this.#connectedAfter === undefined ? {} : { connectedAfter: this.#connectedAfter }),
      ...(this.#securedAfter === undefined ? {} : { securedAfter: this.#securedAfter }),
      took: performance.now() - this.#began,
      sessions: this.#sessions,
      ...(trouble === undefined ? {} : { trouble }),
    });
  }

  #release(): void {
    this.#settled = true;
    clearTimeout(this.#timer);
    lookingUnder(this.#signal).delete(this);
    this.#socket.destroy();
  }
}

/** The connection broke: an alert may have been on its way. */
const broken: ReadonlySet<string> = new Set([
  "ECONNRESET",
  "EPIPE",
  "ECONNABORTED",
  "ERR_SSL_UNEXPECTED_EOF_WHILE_READING",
]);
const systemWords: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  EPIPE: "connection reset",
  ENOTFOUND: "the name does not resolve",
  EAI_AGAIN: "the name could not be resolved now",
  ETIMEDOUT: "connection timed out",
  EHOSTUNREACH: "host unreachable",
  ENETUNREACH: "network unreachable",
};

/** OpenSSL's message is `…:error:0A00010B:SSL routines:f:wrong version number:file:line:`; the reason alone is readable. */
function reasonOf(error: Error & { reason?: unknown; code?: string }): string {
  return typeof error.reason === "string" ? `TLS: ${error.reason}` : error.message.split("\n")[0]!.slice(0, 200);
}
