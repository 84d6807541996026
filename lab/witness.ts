/**
 * The outside witness: what really is, told by openssl, curl and sha256sum only and never by the project's own code.
 * It records; it does not judge. `reply` is a complete HTTP answer, `alert` a TLS alert the server sent, `nothing` is
 * everything else (time-out, reset, a bare close) with the tool's own words in `raw`.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";

export type Answer =
  | {
      readonly saw: "reply";
      readonly status: number;
      /** Lower-case names. */
      readonly headers: Readonly<Record<string, string>>;
      readonly body: string;
      readonly raw: string;
    }
  | { readonly saw: "alert"; readonly alert: string; readonly raw: string }
  | { readonly saw: "nothing"; readonly why: string; readonly raw: string };

export interface Look {
  /** SNI and Host; default `localhost`. */
  readonly name?: string;
  /** PEM paths of what is presented; without them no client certificate is sent. */
  readonly certificate?: string;
  readonly privateKey?: string;
  /** CA bundle the server is checked against; without it the server's own chain is not judged. */
  readonly roots?: string;
  readonly path?: string;
  readonly tls?: "1.2" | "1.3";
  readonly userAgent?: string;
  /** Seconds. */
  readonly timeout?: number;
}

interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function run(program: string, args: readonly string[], input = "", timeout = 10): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"], timeout: timeout * 1000 });
    let out = "";
    let err = "";
    child.stdout.setEncoding("utf8").on("data", (chunk) => {
      out += chunk;
    });
    child.stderr.setEncoding("utf8").on("data", (chunk) => {
      err += chunk;
    });
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, out, err }));
    child.stdin.on("error", () => {});
    child.stdin.end(input);
  });
}

/** SHA-256 of the leaf the server at `address` (host:port) presents now, by openssl s_client; undefined when it presents none. */
export async function servedFingerprint(address: string, name = "localhost"): Promise<string | undefined> {
  return (await servedChain(address, name))[0];
}

/** Fingerprints of everything the server sends, leaf first, on a fresh full handshake. */
export async function servedChain(address: string, name = "localhost"): Promise<string[]> {
  const hello = await run("openssl", ["s_client", "-connect", address, "-servername", name, "-showcerts"]);
  const certificates = hello.out.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  const prints: string[] = [];
  for (const pem of certificates) {
    const print = await run("openssl", ["x509", "-noout", "-fingerprint", "-sha256"], `${pem}\n`);
    if (print.code !== 0) throw new Error(`openssl x509: ${print.err}`);
    prints.push(print.out.trim().replace(/^.*=/, "").replaceAll(":", "").toLowerCase());
  }
  return prints;
}

/** One HTTPS request by curl on a new connection, with the client certificate (if any) of `look`. */
export async function request(address: string, look: Look = {}): Promise<Answer> {
  const name = look.name ?? "localhost";
  const split = address.lastIndexOf(":");
  const [host, port] = [address.slice(0, split), address.slice(split + 1)];
  const args = [
    ...["-sS", "-i", "--http1.1", "--no-sessionid", "--max-time", String(look.timeout ?? 10)],
    ...["--noproxy", "*", "--connect-to", `${name}:${port}:${host}:${port}`],
    ...(look.roots === undefined ? ["-k"] : ["--cacert", look.roots]),
    ...(look.certificate === undefined ? [] : ["--cert", look.certificate]),
    ...(look.privateKey === undefined ? [] : ["--key", look.privateKey]),
    ...(look.tls === undefined ? [] : [`--tlsv${look.tls}`, "--tls-max", look.tls]),
    ...["-A", look.userAgent ?? "lab-witness", `https://${name}:${port}${look.path ?? "/"}`],
  ];
  const ran = await run("curl", args, "", (look.timeout ?? 10) + 5);
  const raw = ran.out + ran.err;
  if (ran.code === 0) return reply(ran.out);
  const alert = alertIn(ran.err);
  if (alert !== undefined) return { saw: "alert", alert, raw };
  // curl has words of its own for some alerts (certificate_expired in TLS 1.2): ask s_client what came over the wire.
  const again = await run("openssl", sessionArgs(address, look), closingRequest(look), look.timeout);
  const second = alertIn(again.err);
  if (second !== undefined) return { saw: "alert", alert: second, raw: raw + again.err };
  return { saw: "nothing", why: ran.err.trim().split("\n")[0] || `curl ended with ${ran.code}`, raw: raw + again.err };
}

/** OpenSSL's words for the alert a server sent: `sslv3 alert certificate revoked`. */
function alertIn(text: string): string | undefined {
  const words = /\balert ([a-z][a-z ]+?)(?:, errno|:|\s*$)/m.exec(text)?.[1];
  return words?.trim().replaceAll(" ", "_");
}

function reply(text: string): Answer {
  const end = text.indexOf("\r\n\r\n");
  const [first = "", ...lines] = text.slice(0, end).split("\r\n");
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(":");
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  return { saw: "reply", status: Number(first.split(" ")[1]), headers, body: text.slice(end + 4), raw: text };
}

/** Does the server accept this client certificate? A thin name for `request`, as the truth table asks it. */
export function accepts(
  address: string,
  certificate: string | undefined,
  privateKey: string | undefined,
  look: Omit<Look, "certificate" | "privateKey"> = {},
): Promise<Answer> {
  return request(address, {
    ...look,
    ...(certificate === undefined ? {} : { certificate }),
    ...(privateKey === undefined ? {} : { privateKey }),
  });
}

function sessionArgs(address: string, look: Look): string[] {
  return [
    ...["s_client", "-connect", address, "-servername", look.name ?? "localhost", "-ign_eof"],
    ...(look.certificate === undefined ? [] : ["-cert", look.certificate]),
    ...(look.privateKey === undefined ? [] : ["-key", look.privateKey]),
    ...(look.tls === undefined ? [] : [`-tls${look.tls.replace(".", "_")}`]),
  ];
}
const closingRequest = (look: Look) =>
  `GET ${look.path ?? "/"} HTTP/1.1\r\nHost: ${look.name ?? "localhost"}\r\nUser-Agent: ${look.userAgent ?? "lab-witness"}\r\nConnection: close\r\n\r\n`;

/** Opens a session and keeps it in `file` for later. False when the server gave none. */
export async function openSession(address: string, file: string, look: Look = {}): Promise<boolean> {
  await run("openssl", [...sessionArgs(address, look), "-sess_out", file], closingRequest(look), look.timeout);
  return existsSync(file);
}

/** Tries the session in `file` again: whether the server took it up (`Reused`), and the HTTP status it gave, if any. */
export async function resumes(
  address: string,
  file: string,
  look: Look = {},
): Promise<{ reused: boolean; status: number | undefined; raw: string }> {
  const ran = await run(
    "openssl",
    [...sessionArgs(address, look), "-sess_in", file],
    closingRequest(look),
    look.timeout,
  );
  const raw = ran.out + ran.err;
  // s_client writes ticket and reply through two buffers, so the status line need not begin a line.
  const status = /HTTP\/1\.[01] (\d{3}) /.exec(ran.out)?.[1];
  return { reused: /^Reused, /m.test(ran.out), status: status === undefined ? undefined : Number(status), raw };
}

/** `sha256sum` of a file, lower-case hex; undefined when it is not there. */
export async function fileDigest(path: string): Promise<string | undefined> {
  const ran = await run("sha256sum", ["--", path]);
  return ran.code === 0 ? ran.out.split(" ")[0]?.replace(/^\\/, "") : undefined;
}

export { fingerprintOf, serialOf } from "./pki.ts";
