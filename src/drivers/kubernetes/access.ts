/**
 * How Gyre itself gets into a cluster: a kubeconfig, or the service account of the pod it runs in. Read anew whenever it
 * is asked for: files may have been rotated since, by ourselves too.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { GyreError } from "../../errors.ts";
import { Secret } from "../../pki/secret.ts";
import { type KubeconfigFile, readKubeconfigFile } from "./kubeconfig-file.ts";

export interface Access {
  /** `https://host:port`, with a path where something in front adds one. */
  readonly server: URL;
  /** Expected in the server's certificate and sent as SNI; the host of `server` where absent. */
  readonly serverName?: string;
  /** PEM. Absent: the system's roots. */
  readonly roots?: string;
  readonly credential: ApiCredential;
}
/** What a request is authenticated by; none: anonymous. */
export interface ApiCredential {
  /** PEM, leaf first. */
  readonly certificate?: string;
  readonly privateKey?: Secret;
  readonly token?: Secret;
}

const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount";

/**
 * The access of a pod, or of `context` (default: the current one) in a kubeconfig.
 * @throws GyreError `input` naming file and field, `permission` or `unreachable` where a plugin gives nothing
 */
export async function readAccess(kubeconfig: string | undefined, context: string | undefined): Promise<Access> {
  if (kubeconfig === undefined) return inCluster();
  const file = readKubeconfigFile(await readText(kubeconfig), kubeconfig);
  return accessOf(file, kubeconfig, context);
}

async function inCluster(): Promise<Access> {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = process.env;
  if (host === undefined || port === undefined || !existsSync(`${serviceAccount}/token`))
    throw new GyreError({
      code: "input",
      message: "kubernetes: no kubeconfig was given, and this is no pod with a service account",
      next: "name a kubeconfig in the Cluster document (spec.kubeconfig)",
    });
  return {
    server: new URL(`https://${host.includes(":") ? `[${host}]` : host}:${port}`),
    serverName: "kubernetes.default.svc",
    roots: await readText(`${serviceAccount}/ca.crt`),
    credential: { token: Secret.of((await readText(`${serviceAccount}/token`)).trim()) },
  };
}

/** Resolves what a kubeconfig says about one context: files it names are read, its plugin is run. */
export async function accessOf(file: KubeconfigFile, path: string, context?: string): Promise<Access> {
  const { cluster, user, userName } = file.context(context);
  const near = (name: string) => resolve(dirname(path), name);
  const roots = await material(cluster, "certificate-authority", near);
  const server = text(cluster, "server");
  if (server === undefined || !URL.canParse(server))
    throw new GyreError({ code: "input", message: "kubernetes: the cluster entry has no usable server", where: path });
  const serverName = text(cluster, "tls-server-name");
  return {
    server: new URL(server),
    ...(serverName === undefined ? {} : { serverName }),
    ...(roots === undefined ? {} : { roots: roots.toString("utf8") }),
    credential: await credentialOf(user, `${path}#user/${userName}`, near),
  };
}

type Fields = Readonly<Record<string, unknown>>;
const text = (of: Fields, field: string): string | undefined => {
  const value = of[field];
  return typeof value === "string" && value !== "" ? value : undefined;
};

/** `field-data` in base64, else the file `field` names: the embedded one counts where both are there, as for kubectl. */
async function material(of: Fields, field: string, near: (name: string) => string): Promise<Buffer | undefined> {
  const data = text(of, `${field}-data`);
  if (data !== undefined) return Buffer.from(data, "base64");
  const name = text(of, field);
  return name === undefined ? undefined : Buffer.from(await readText(near(name)));
}

async function credentialOf(user: Fields, where: string, near: (name: string) => string): Promise<ApiCredential> {
  const certificate = await material(user, "client-certificate", near);
  const key = await material(user, "client-key", near);
  const tokenFile = text(user, "tokenFile");
  const token = text(user, "token") ?? (tokenFile === undefined ? undefined : (await readText(near(tokenFile))).trim());
  if (certificate !== undefined && key !== undefined)
    return { certificate: certificate.toString("utf8"), privateKey: Secret.of(key) };
  if (token !== undefined) return { token: Secret.of(token) };
  if (typeof user.exec === "object" && user.exec !== null) return runPlugin(user.exec as Fields, where);
  const unknown = ["auth-provider", "username"].find((field) => field in user);
  if (unknown !== undefined)
    throw new GyreError({
      code: "input",
      message: `kubernetes: ${unknown} is no way to authenticate that a current API server knows`,
      where,
      next: "use a client certificate, a token or an exec plugin",
    });
  return {};
}

/** client.authentication.k8s.io ExecCredential: the plugin prints a token or a certificate with its key. */
async function runPlugin(exec: Fields, where: string): Promise<ApiCredential> {
  const command = text(exec, "command");
  const apiVersion = text(exec, "apiVersion") ?? "client.authentication.k8s.io/v1";
  if (command === undefined) throw new GyreError({ code: "input", message: "kubernetes: exec without command", where });
  const args = Array.isArray(exec.args) ? exec.args.map(String) : [];
  const named = Array.isArray(exec.env) ? (exec.env as { name?: unknown; value?: unknown }[]) : [];
  const info = { apiVersion, kind: "ExecCredential", spec: { interactive: false } };
  const env = {
    ...process.env,
    ...Object.fromEntries(named.map(({ name, value }) => [String(name), String(value)])),
    KUBERNETES_EXEC_INFO: JSON.stringify(info),
  };
  const printed = await runToEnd(command, args, env, where);
  const status = parseStatus(printed);
  const token = status?.token;
  const { clientCertificateData, clientKeyData } = status ?? {};
  if (typeof clientCertificateData === "string" && typeof clientKeyData === "string")
    return { certificate: clientCertificateData, privateKey: Secret.of(clientKeyData) };
  if (typeof token === "string") return { token: Secret.of(token) };
  throw new GyreError({ code: "permission", message: `kubernetes: ${command} printed no credential`, where });
}

function parseStatus(printed: string): Record<string, unknown> | undefined {
  try {
    return (JSON.parse(printed) as { status?: Record<string, unknown> }).status;
  } catch {
    // What it printed may be a secret: it is quoted nowhere.
    return undefined;
  }
}

const pluginTime = 30_000;

function runToEnd(command: string, args: readonly string[], env: NodeJS.ProcessEnv, where: string): Promise<string> {
  return new Promise((resolveOutput, reject) => {
    const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "ignore"], timeout: pluginTime });
    let out = "";
    child.stdout.setEncoding("utf8").on("data", (chunk) => {
      out += chunk;
    });
    const fail = (what: string, cause?: unknown) =>
      reject(new GyreError({ code: "permission", message: `kubernetes: the plugin ${command} ${what}`, where, cause }));
    child.once("error", (error) => fail("could not be started", error));
    child.once("close", (code, signal) => (code === 0 ? resolveOutput(out) : fail(`ended with ${code ?? signal}`)));
  });
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const { code } = cause as { code?: string };
    throw new GyreError({
      code: code === "EACCES" ? "permission" : "input",
      message: `kubernetes: cannot be read (${code ?? String(cause)})`,
      where: path,
      cause,
    });
  }
}
