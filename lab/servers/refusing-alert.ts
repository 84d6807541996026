/**
 * Lets a node:tls server refuse a client certificate by TLS alert, as OpenSSL, Go and BoringSSL servers do. Node's own
 * way is to finish the handshake and close the connection without a word, which a client cannot tell from an outage.
 *
 * The tap lies between TCP and node:tls. When the server decides to refuse it ends the connection, for which OpenSSL
 * writes an encrypted close_notify; the tap puts an encrypted fatal alert in its place, under the same key and record
 * number (RFC 8446 sections 5.2, 5.3, 7.3). The key comes from node's `keylog` event. TLS 1.3 only.
 *
 *   client                              server
 *   ClientHello  ------------------->
 *                <-------------------   ServerHello .. Finished   (handshake keys, not counted)
 *   Certificate .. Finished --------->                            first encrypted record in: counting starts
 *                <-------------------   NewSessionTicket * n      (application keys, records 0 .. n-1)
 *                <-------------------   close_notify              record n: replaced; anything after it is dropped
 * In Node 24 the refusal comes before the tickets are written, so n is 0; the count does not rely on it.
 */
import { createCipheriv, createHmac } from "node:crypto";
import type { Socket } from "node:net";
import { Duplex } from "node:stream";

const applicationData = 23;
const headerLength = 5;
/** In the first bytes of a connection: record header 5, handshake header 4, version 2, then 32 bytes of random. */
const randomStart = 11;
const randomEnd = 43;

/** RFC 8446 section 6. */
export const alerts = {
  bad_certificate: 42,
  certificate_revoked: 44,
  certificate_expired: 45,
  certificate_unknown: 46,
  unknown_ca: 48,
  certificate_required: 116,
} as const;
export type AlertName = keyof typeof alerts;

const ciphers: Record<
  string,
  { name: "aes-128-gcm" | "aes-256-gcm" | "chacha20-poly1305"; key: number; hash: string }
> = {
  TLS_AES_128_GCM_SHA256: { name: "aes-128-gcm", key: 16, hash: "sha256" },
  TLS_AES_256_GCM_SHA384: { name: "aes-256-gcm", key: 32, hash: "sha384" },
  TLS_CHACHA20_POLY1305_SHA256: { name: "chacha20-poly1305", key: 32, hash: "sha256" },
};

/** HKDF-Expand-Label with an empty context; one HMAC block is enough for keys and IVs. */
function expandLabel(hash: string, secret: Buffer, label: string, length: number): Buffer {
  const name = Buffer.from(`tls13 ${label}`);
  const info = Buffer.concat([Buffer.from([0, length, name.length]), name, Buffer.from([0, 1])]);
  return createHmac(hash, secret).update(info).digest().subarray(0, length);
}

function sealAlert(suite: string, secret: Buffer, record: number, alert: AlertName): Buffer {
  const cipher = ciphers[suite];
  if (cipher === undefined) throw new Error(`no way to write an alert under ${suite}`);
  const key = expandLabel(cipher.hash, secret, "key", cipher.key);
  const nonce = expandLabel(cipher.hash, secret, "iv", 12);
  nonce.writeUInt32BE((nonce.readUInt32BE(8) ^ record) >>> 0, 8);
  const fatal = 2;
  const alertType = 21;
  const inner = Buffer.from([fatal, alerts[alert], alertType]);
  const header = Buffer.from([applicationData, 3, 3, 0, inner.length + 16]);
  // The two families of createCipheriv take the same options; the types know them apart.
  const seal = createCipheriv(cipher.name as "aes-256-gcm", key, nonce, { authTagLength: 16 });
  seal.setAAD(header);
  const body = Buffer.concat([seal.update(inner), seal.final()]);
  return Buffer.concat([header, body, seal.getAuthTag()]);
}

/** The encrypted side of one connection. Hand it to a TLS server as `server.emit("connection", tap)`. */
export class Tap extends Duplex {
  readonly socket: Socket;
  #secret: Buffer | undefined;
  #pending: Buffer = Buffer.alloc(0);
  #hello: Buffer = Buffer.alloc(0);
  #counting = false;
  #record = 0;
  #refused = false;
  #refusal: { suite: string; alert: AlertName } | undefined;

  /** `onHello` hears the client's random value (hex), which names this connection in the server's `keylog` lines. */
  constructor(socket: Socket, onHello: (clientRandom: string, tap: Tap) => void) {
    super();
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      if (this.#hello.length < randomEnd) {
        this.#hello = Buffer.concat([this.#hello, chunk]).subarray(0, randomEnd);
        if (this.#hello.length === randomEnd) onHello(this.#hello.toString("hex", randomStart), this);
      }
      // A client sends its handshake flight under encryption only after it has all of ours.
      this.#counting ||= containsEncrypted(chunk);
      if (!this.push(chunk)) socket.pause();
    });
    socket.once("end", () => this.push(null));
    socket.once("error", (error) => this.destroy(error));
    socket.once("close", () => this.destroy());
  }

  /** A line of the server's `keylog` event that is about this connection. */
  keylog(line: string): void {
    const [label, , secret] = line.trim().split(" ");
    if (label === "SERVER_TRAFFIC_SECRET_0" && secret !== undefined) this.#secret = Buffer.from(secret, "hex");
  }

  /** Call before `end` on the TLS socket: the close_notify it writes becomes this alert. */
  refuse(suite: string, alert: AlertName): void {
    this.#refusal = { suite, alert };
  }

  override _read(): void {
    this.socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#pending = Buffer.concat([this.#pending, chunk]);
    const out: Buffer[] = [];
    for (;;) {
      if (this.#pending.length < headerLength) break;
      const length = headerLength + this.#pending.readUInt16BE(3);
      if (this.#pending.length < length) break;
      out.push(this.#pass(this.#pending.subarray(0, length)));
      this.#pending = this.#pending.subarray(length);
    }
    this.socket.write(Buffer.concat(out), done);
  }

  #pass(record: Buffer): Buffer {
    if (this.#refused) return Buffer.alloc(0);
    if (!this.#counting || record[0] !== applicationData) return record;
    const number = this.#record++;
    // An alert is two bytes, its type one, the tag sixteen; no ticket is that short.
    const isAlert = record.length === headerLength + 19;
    if (this.#refusal === undefined || !isAlert || this.#secret === undefined) return record;
    this.#refused = true;
    return sealAlert(this.#refusal.suite, this.#secret, number, this.#refusal.alert);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.socket.end(() => done());
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (this.#refused) linger(this.socket);
    else this.socket.destroy();
    done(error);
  }
}

/** Closing with unread data makes TCP send a reset, which may overtake the alert: read on until the client closes. */
function linger(socket: Socket): void {
  socket.end();
  socket.removeAllListeners("data");
  socket.on("data", () => {});
  socket.setTimeout(2_000, () => socket.destroy());
  socket.resume();
}

/** Looks past the records before it: a change_cipher_spec comes first in the same segment. */
function containsEncrypted(chunk: Buffer): boolean {
  let at = 0;
  while (at + headerLength <= chunk.length) {
    if (chunk[at] === applicationData) return true;
    at += headerLength + chunk.readUInt16BE(at + 3);
  }
  return false;
}
