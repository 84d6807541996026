/**
 * API servers may post audit events to a webhook instead of writing a file (--audit-webhook-config-file). This receives
 * them and appends them to files that look like theirs, so that the sensor reads both alike.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import { GyreError } from "../../errors.ts";
import { joinAddress } from "../tls/address.ts";
import { appendLines } from "./audit-append.ts";

export interface AuditReceiverOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** Paths of the PEM chain and key that it presents, and of the CAs of the client certificates it demands. */
  readonly certificate: string;
  readonly privateKey: string;
  readonly clientCa?: string;
  /** Where `<name>.jsonl` are; made where it is missing. */
  readonly directory: string;
  /** Told what could not be received, once each time. */
  readonly onProblem?: (problem: string) => void;
}

export interface AuditReceiver {
  readonly address: string;
  /** Reads certificate, key and CAs anew, for new connections; it does so by itself every ten seconds. */
  reload(): Promise<void>;
  /** Takes no new connection, finishes what was begun, and ends. */
  drain(): Promise<void>;
}

/** Milliseconds: how often files are read anew, and how long a request may take. */
const reloadEvery = 10_000;
const requestTime = 30_000;
/** --audit-webhook-batch-max-size is 400 events of a kilobyte or two. */
const largest = 64 * 1024 * 1024;

/** @throws GyreError `input` or `permission` for files it cannot use, `disk` for its directory, `unreachable` for its address */
export async function startAuditReceiver(options: AuditReceiverOptions): Promise<AuditReceiver> {
  const { directory, host, port, onProblem = () => {} } = options;
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new GyreError({ code: "disk", message: `audit: ${words(cause)}`, where: directory, cause });
  }
  let material = await readMaterial(options);
  const server = createServer({ ...material, requestCert: options.clientCa !== undefined }, (request, response) => {
    receive(request, directory).then(
      () => reply(response, 200),
      (problem: unknown) => {
        const status = problem instanceof NotTaken ? problem.status : 500;
        onProblem(`${request.socket.remoteAddress ?? "somebody"} ${request.url ?? ""}: ${words(problem)}`);
        reply(response, status);
      },
    );
  });
  server.requestTimeout = requestTime;
  server.on("tlsClientError", (error, socket) => onProblem(`${socket.remoteAddress ?? "somebody"}: ${words(error)}`));
  await new Promise<void>((listening, failed) => {
    server.once("error", (cause) =>
      failed(
        new GyreError({ code: "unreachable", message: `audit: ${words(cause)}`, where: `${host}:${port}`, cause }),
      ),
    );
    server.listen(port, host, listening);
  });
  const reload = async () => {
    try {
      const fresh = await readMaterial(options);
      if (JSON.stringify(fresh) === JSON.stringify(material)) return;
      server.setSecureContext(fresh);
      material = fresh;
    } catch (problem) {
      // Half a rotation: the one before goes on.
      onProblem(words(problem));
    }
  };
  const timer = setInterval(() => void reload(), reloadEvery);
  const bound = server.address() as AddressInfo;
  const reply = (response: ServerResponse, status: number) => {
    // Kept-alive connections would keep a server from ending.
    if (!server.listening) response.setHeader("connection", "close");
    response.writeHead(status, { "content-length": 0 }).end();
  };
  return {
    address: joinAddress(bound.address, bound.port),
    reload,
    drain: () =>
      new Promise((ended) => {
        clearInterval(timer);
        server.close(() => ended());
        server.closeIdleConnections();
      }),
  };
}

interface Material {
  readonly cert: string;
  readonly key: string;
  readonly ca?: string;
}

async function readMaterial({ certificate, privateKey, clientCa }: AuditReceiverOptions): Promise<Material> {
  const read = async (path: string): Promise<string> => {
    try {
      return await readFile(path, "utf8");
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code === "EACCES" ? "permission" : "input";
      throw new GyreError({ code, message: `audit: cannot be read (${words(cause)})`, where: path, cause });
    }
  };
  const [cert, key] = [await read(certificate), await read(privateKey)];
  // Said before anything listens, and without a word of the key.
  if (!matches(cert, key))
    throw new GyreError({
      code: "input",
      message: "audit: this is no certificate with its private key",
      where: certificate,
    });
  return { cert, key, ...(clientCa === undefined ? {} : { ca: await read(clientCa) }) };
}

/** What is not taken, and not to be sent again. */
class NotTaken extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** One batch: on the disk when this returns. @throws NotTaken, or what the file system says */
async function receive(request: IncomingMessage, directory: string): Promise<void> {
  if (request.method !== "POST") throw new NotTaken(405, `${request.method} is not POST`);
  const name = nameOf(request);
  const lines = linesOf(await bodyOf(request));
  if (lines.length > 0) await inTurn(join(directory, `${name}.jsonl`), lines.join(""));
}

/** Batches of one API server come side by side; their lines must not. */
const turns = new Map<string, Promise<void>>();
function inTurn(path: string, text: string): Promise<void> {
  const mine = (turns.get(path) ?? Promise.resolve()).catch(() => undefined).then(() => appendLines(path, text));
  turns.set(path, mine);
  const forget = () => {
    if (turns.get(path) === mine) turns.delete(path);
  };
  mine.then(forget, forget);
  return mine;
}

/** Which API server it is: the last part of the path, else the client certificate's common name, else its address. */
function nameOf(request: IncomingMessage): string {
  const socket = request.socket as TLSSocket;
  const last = (request.url ?? "").split("?")[0]!.split("/").at(-1)!;
  const common = socket.authorized ? socket.getPeerCertificate().subject?.CN : undefined;
  const name = last !== "" ? decoded(last) : (common ?? socket.remoteAddress?.replace(/^::ffff:/, "") ?? "");
  if (!/^[A-Za-z0-9[][A-Za-z0-9.:[\]_-]{0,199}$/.test(String(name)))
    throw new NotTaken(400, "the path does not end in a name of letters, digits and . : _ -");
  return String(name);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > largest) throw new NotTaken(413, "more than 64 MiB at once");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

type Fields = Readonly<Record<string, unknown>>;
const isRecord = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A list leaves kind and version out of its items; in a file each event has them. @throws NotTaken */
export function linesOf(body: string): string[] {
  let list: unknown;
  try {
    list = JSON.parse(body);
  } catch {
    throw new NotTaken(400, "the body is not JSON");
  }
  if (
    !isRecord(list) ||
    list.kind !== "EventList" ||
    list.apiVersion !== "audit.k8s.io/v1" ||
    !Array.isArray(list.items)
  )
    throw new NotTaken(400, "the body is no EventList of audit.k8s.io/v1");
  return list.items.map((item: unknown) => {
    if (!isRecord(item) || typeof item.auditID !== "string" || typeof item.stage !== "string")
      throw new NotTaken(400, "an item of the list is no audit event");
    return `${JSON.stringify({ kind: "Event", apiVersion: "audit.k8s.io/v1", ...item })}\n`;
  });
}

function matches(certificate: string, privateKey: string): boolean {
  try {
    return new X509Certificate(certificate).checkPrivateKey(createPrivateKey(privateKey));
  } catch {
    return false;
  }
}

const words = (problem: unknown): string =>
  problem instanceof GyreError
    ? `${problem.message}${problem.where === undefined ? "" : `: ${problem.where}`}`
    : String((problem as Error).message ?? problem).slice(0, 300);
