/**
 * A small mutual-TLS service as a process of its own: an ordinary node:https server that answers 200 with JSON naming
 * the client certificate it saw, and loads its files again on SIGHUP. `--ignore-reload` makes it one of those that do not.
 *
 *   node node-tls.ts --listen 127.0.0.1:8443 --cert chain.pem --key key.pem [--ca ca.pem [--crl crl.pem]]
 *        [--pid-file F] [--access-log F] [--ticket-keys F] [--refuse alert|http|close] [--ignore-reload]
 */
import { X509Certificate } from "node:crypto";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer as createHttps } from "node:https";
import { createServer as createTcp } from "node:net";
import type { SecureContextOptions, TLSSocket } from "node:tls";
import { parseArgs } from "node:util";
import { type AlertName, Tap } from "./refusing-alert.ts";

const { values: args } = parseArgs({
  options: {
    listen: { type: "string", default: "127.0.0.1:0" },
    cert: { type: "string" },
    key: { type: "string" },
    ca: { type: "string" },
    crl: { type: "string" },
    "pid-file": { type: "string" },
    "access-log": { type: "string" },
    /** 48 bytes: tickets then outlive a reload. Without it each load has keys of its own. */
    "ticket-keys": { type: "string" },
    /** How an unwanted client is turned away: a TLS alert, an HTTP 400 over a good handshake (nginx), or a bare close (node's default). */
    refuse: { type: "string", default: "alert" },
    "ignore-reload": { type: "boolean", default: false },
  },
});

function required(name: "cert" | "key"): string {
  const value = args[name];
  if (value === undefined) throw new Error(`--${name} is missing`);
  return value;
}

function readFiles(): SecureContextOptions {
  return {
    cert: readFileSync(required("cert")),
    key: readFileSync(required("key")),
    minVersion: args.refuse === "alert" && args.ca !== undefined ? "TLSv1.3" : "TLSv1.2",
    ...(args.ca === undefined ? {} : { ca: readFileSync(args.ca) }),
    ...(args.crl === undefined ? {} : { crl: readFileSync(args.crl) }),
    ...(args["ticket-keys"] === undefined ? {} : { ticketKeys: readFileSync(args["ticket-keys"]) }),
  };
}

/** The alert OpenSSL sends for each verification error (its table in ssl/statem/statem_lib.c). */
const alertFor: Record<string, AlertName> = {
  CERT_REVOKED: "certificate_revoked",
  CERT_HAS_EXPIRED: "certificate_expired",
  CRL_HAS_EXPIRED: "certificate_expired",
  CERT_NOT_YET_VALID: "bad_certificate",
  CRL_NOT_YET_VALID: "bad_certificate",
  UNABLE_TO_GET_CRL: "unknown_ca",
  UNABLE_TO_GET_ISSUER_CERT: "unknown_ca",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "unknown_ca",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "unknown_ca",
  DEPTH_ZERO_SELF_SIGNED_CERT: "unknown_ca",
  SELF_SIGNED_CERT_IN_CHAIN: "unknown_ca",
};

/** Connections by their client random, until the TLS socket over them shows itself in the first keylog line. */
const opening = new Map<string, Tap>();
const taps = new WeakMap<TLSSocket, Tap>();

function clientOf(socket: TLSSocket): { serial: string; fingerprint: string; issuer: string } | undefined {
  const peer = socket.getPeerX509Certificate();
  if (peer === undefined) return undefined;
  const { serialNumber: serial, issuer, fingerprint256 } = new X509Certificate(peer.raw);
  // OpenSSL's RFC 2253 form, last first, as nginx writes it.
  const name = issuer.split("\n").reverse().join(",");
  return { serial, issuer: name, fingerprint: fingerprint256.replaceAll(":", "").toLowerCase() };
}

function refusal(socket: TLSSocket): string | undefined {
  if (args.ca === undefined || socket.authorized) return undefined;
  if (socket.getPeerX509Certificate() === undefined) return "NO_CERTIFICATE";
  // The types say Error, but it is the code alone.
  return String(socket.authorizationError);
}

function note(request: IncomingMessage, socket: TLSSocket, status: number, verify: string): void {
  const path = args["access-log"];
  if (path === undefined) return;
  const client = clientOf(socket);
  const line = {
    time: Date.now() / 1000,
    ssl_client_serial: client?.serial ?? "",
    ssl_client_i_dn: client?.issuer ?? "",
    ssl_client_verify: verify,
    ssl_session_reused: socket.isSessionReused() ? "r" : ".",
    remote_addr: taps.get(socket)?.socket.remoteAddress ?? "",
    status,
    http_user_agent: request.headers["user-agent"] ?? "",
  };
  appendFileSync(path, `${JSON.stringify(line)}\n`);
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  const socket = request.socket as TLSSocket;
  const problem = refusal(socket);
  const client = clientOf(socket);
  if (problem !== undefined && args.refuse === "alert") return;
  if (problem !== undefined) {
    note(request, socket, 400, client === undefined ? "NONE" : `FAILED:${problem}`);
    response.writeHead(400, { "content-type": "application/json", connection: "close" });
    response.end(`${JSON.stringify({ refused: problem })}\n`);
    return;
  }
  note(request, socket, 200, client === undefined ? "NONE" : "SUCCESS");
  response.writeHead(200, {
    "content-type": "application/json",
    ...(client === undefined ? {} : { "x-client-serial": client.serial }),
  });
  const seen = client === undefined ? {} : { serial: client.serial, fingerprint: client.fingerprint };
  response.end(`${JSON.stringify({ server: "node-tls", ...seen, reused: socket.isSessionReused() })}\n`);
}

const server = createHttps(
  { ...readFiles(), requestCert: args.ca !== undefined, rejectUnauthorized: args.refuse === "close" },
  answer,
);
server.on("keylog", (line: Buffer, socket: TLSSocket) => {
  const text = line.toString();
  const random = text.split(" ")[1] ?? "";
  const tap = opening.get(random);
  if (tap !== undefined) taps.set(socket, tap);
  opening.delete(random);
  taps.get(socket)?.keylog(text);
});
server.prependListener("secureConnection", (socket: TLSSocket) => {
  const problem = refusal(socket);
  if (problem === undefined || args.refuse !== "alert") return;
  const alert = problem === "NO_CERTIFICATE" ? "certificate_required" : (alertFor[problem] ?? "certificate_unknown");
  process.stdout.write(`refused: ${problem}\n`);
  taps.get(socket)?.refuse(socket.getCipher().name, alert);
  socket.end();
});
// A client that goes away in mid-handshake is no event here.
server.on("tlsClientError", () => {});

const [host, port] = splitAddress(args.listen);
function splitAddress(text: string): [string, number] {
  const colon = text.lastIndexOf(":");
  return [text.slice(0, colon), Number(text.slice(colon + 1))];
}

const tcp = createTcp((raw) => {
  const tap = new Tap(raw, (random) => {
    opening.set(random, tap);
    raw.once("close", () => opening.delete(random));
  });
  server.emit("connection", tap);
});
tcp.listen({ host, port }, () => {
  const bound = tcp.address();
  if (args["pid-file"] !== undefined) writeFileSync(args["pid-file"], `${process.pid}\n`);
  process.stdout.write(`listening on ${host}:${typeof bound === "object" && bound !== null ? bound.port : port}\n`);
});

process.on("SIGHUP", () => {
  if (args["ignore-reload"]) return;
  try {
    server.setSecureContext(readFiles());
    process.stdout.write("reloaded\n");
  } catch (error) {
    process.stdout.write(`reload failed, the old state stays: ${error instanceof Error ? error.message : error}\n`);
  }
});
process.on("SIGTERM", () => process.exit(0));
