/**
 * One request to one API server. A thin client of our own on node:https: every proof needs a fresh handshake with a
 * server's own address under a name of our choice, and lists need the metadata-only form; nothing here watches or caches.
 */
import { Agent, request as httpsRequest, type RequestOptions } from "node:https";
import { isIP } from "node:net";
import { checkServerIdentity } from "node:tls";
import { GyreError } from "../../errors.ts";
import type { ApiCredential } from "./access.ts";

/** Where, under which name, judged by which roots, and as whom. */
export interface Dial {
  readonly host: string;
  readonly port: number;
  /** Sent as SNI (RFC 6066 §3: unless it is an IP address) and expected in the server's certificate. */
  readonly serverName: string;
  /** PEM; absent: the system's. */
  readonly roots?: string;
  readonly credential: ApiCredential;
  /** In front of every path, where a proxy adds one. */
  readonly prefix?: string;
  /** Connections to keep; absent: each request has a fresh one with a full handshake. */
  readonly agent?: Agent;
}

export interface Call {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** With query: `/api/v1/namespaces?limit=500`. */
  readonly path: string;
  readonly body?: unknown;
  /** Content type of the body; default JSON. */
  readonly type?: string;
  readonly accept?: string;
  readonly userAgent?: string;
  /** Bytes of the reply that are read at most; more is `NoAnswer` with the reason `tooLarge`. */
  readonly most?: number;
  readonly signal?: AbortSignal;
}

export interface Answer {
  readonly status: number;
  /** Parsed where it is JSON; otherwise the text. */
  readonly body: unknown;
  /** Bytes of the reply's body. */
  readonly bytes: number;
}

/** Milliseconds until a connection stands, and until a reply is complete: bounds, no expectation. */
const limits = { connect: 10_000, reply: 60_000 };
/** A list page of 500 objects is a few megabytes; more than this is no API server's answer. */
const largest = 256 * 1024 * 1024;
export const tooLarge = "the answer is larger than what is read of one";

export const keepingAgent = (): Agent => new Agent({ keepAlive: true, maxSockets: 8, maxCachedSessions: 0 });

/** Trouble on the way: no answer came. `sent`: the request may have been carried out. */
export class NoAnswer extends GyreError {
  readonly reason: string;
  constructor(dial: Dial, call: Call, reason: string, sent: boolean, cause?: unknown) {
    const changes = call.method !== "GET" && sent;
    super({
      code: "unreachable",
      message: `kubernetes: ${call.method} ${pathOf(call)} at ${dial.host}:${dial.port}: ${reason}`,
      where: `${dial.host}:${dial.port}`,
      retry: changes ? "read back" : "later",
      cause,
    });
    this.reason = reason;
  }
}
const pathOf = (call: Call) => call.path.split("?")[0]!;

/** Sends it and waits for the complete answer, whatever its status. @throws NoAnswer */
export function send(dial: Dial, call: Call): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { certificate, privateKey, token } = dial.credential;
    const body = call.body === undefined ? undefined : JSON.stringify(call.body);
    const options: RequestOptions = {
      host: dial.host,
      port: dial.port,
      method: call.method,
      path: `${dial.prefix ?? ""}${call.path}`,
      // An empty name sends none; the certificate is judged by `serverName` all the same.
      servername: isIP(dial.serverName) === 0 ? dial.serverName : "",
      checkServerIdentity: (_, certificate) => checkServerIdentity(dial.serverName, certificate),
      agent: dial.agent ?? false,
      headers: {
        accept: call.accept ?? "application/json",
        "user-agent": call.userAgent ?? "gyre",
        ...(body === undefined
          ? {}
          : { "content-type": call.type ?? "application/json", "content-length": Buffer.byteLength(body) }),
        ...(token === undefined ? {} : { authorization: token.use((bytes) => `Bearer ${bytes.toString("utf8")}`) }),
      },
      ...(dial.roots === undefined ? {} : { ca: dial.roots }),
      ...(certificate === undefined ? {} : { cert: certificate }),
      ...(privateKey === undefined ? {} : { key: privateKey.use((bytes) => bytes.toString("utf8")) }),
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    };
    let sent = false;
    let timer: NodeJS.Timeout | undefined;
    const fail = (reason: string, cause?: unknown) => {
      clearTimeout(timer);
      request.destroy();
      reject(new NoAnswer(dial, call, reason, sent, cause));
    };
    const wait = (limit: number, what: string) => {
      clearTimeout(timer);
      timer = setTimeout(() => fail(`${what} within ${limit / 1000} s`), limit);
    };
    const request = httpsRequest(options, (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > (call.most ?? largest)) fail(tooLarge);
        else chunks.push(chunk);
      });
      response.once("end", () => {
        clearTimeout(timer);
        if (!response.complete) return fail("the connection ended in the middle of the answer");
        resolve({ status: response.statusCode ?? 0, body: parse(Buffer.concat(chunks)), bytes });
      });
      response.once("error", (error) => fail(wordsOf(error), error));
    });
    request.once("socket", (socket) => {
      const under = () => {
        sent = true;
        wait(limits.reply, "no complete answer");
      };
      if (socket.connecting) {
        wait(limits.connect, "no connection");
        socket.once("secureConnect", under);
      } else under();
    });
    request.once("error", (error) => fail(wordsOf(error), error));
    request.end(body);
  });
}

function parse(body: Buffer): unknown {
  const text = body.toString("utf8");
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

const systemWords: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  ENOTFOUND: "the name does not resolve",
  EHOSTUNREACH: "host unreachable",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "its certificate does not lead to the cluster's CA",
  SELF_SIGNED_CERT_IN_CHAIN: "its certificate leads to another CA than the cluster's",
  DEPTH_ZERO_SELF_SIGNED_CERT: "its certificate is self-signed and not the cluster's",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "its certificate does not lead to the cluster's CA",
  CERT_SIGNATURE_FAILURE: "its certificate names the cluster's CA as issuer, but was signed by another key",
  CERT_HAS_EXPIRED: "its certificate has expired",
  ABORT_ERR: "the look was stopped",
};
/** Problems of the server's certificate, apart from those of the network. */
export const untrusted: ReadonlySet<string> = new Set(
  Object.keys(systemWords).filter((code) => code.includes("CERT") || code.includes("VERIFY")),
);

function wordsOf(error: Error & { code?: string; reason?: string }): string {
  const known = error.code === undefined ? undefined : systemWords[error.code];
  return known ?? error.reason ?? error.message.split("\n")[0]!.slice(0, 200);
}

interface Status {
  readonly message?: string;
  readonly reason?: string;
  readonly details?: { readonly causes?: readonly { readonly message?: string; readonly field?: string }[] };
}
export const statusOf = (answer: Answer): Status =>
  typeof answer.body === "object" && answer.body !== null ? (answer.body as Status) : {};

/**
 * The answer's object, or what went wrong as an error. What an API server says of itself holds no secret.
 * @throws GyreError `permission` (401, 403), `conflict` (409), `unreachable` to be tried later (429, 5xx), `input` for the rest
 */
export function objectOf<T>(answer: Answer, doing: string, where?: string): T {
  if (answer.status >= 200 && answer.status < 300) return answer.body as T;
  const said = statusOf(answer).message ?? `HTTP ${answer.status}`;
  const at = where === undefined ? {} : { where };
  const fail = (fields: ConstructorParameters<typeof GyreError>[0]) => new GyreError({ ...at, ...fields });
  const message = `kubernetes: ${doing}: ${said}`;
  if (answer.status === 401)
    throw fail({ code: "permission", message, next: "the API server does not know Gyre's own credential: renew it" });
  if (answer.status === 403)
    throw fail({ code: "permission", message, next: "give Gyre this right; gyre doctor prints all it needs" });
  if (answer.status === 409) throw fail({ code: "conflict", message });
  if (answer.status === 429 || answer.status >= 500) throw fail({ code: "unreachable", message, retry: "later" });
  throw fail({ code: "input", message });
}
