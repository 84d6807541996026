/**
 * Real processes on loopback for tests, journeys and the first run: a workspace, free ports, and a supervisor that
 * leaves nothing behind. Nothing here knows Gyre; the peers are started as an operator would start them.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface ProcessSpec {
  /** Names the log file in the workspace: `<name>.log`. */
  readonly name: string;
  /** Program and arguments; no shell. */
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** The state to wait for: returns true once reached. Asked again and again; the process may not exit meanwhile. */
  readonly ready?: (process: Supervised) => boolean | Promise<boolean>;
  /** Milliseconds to reach it. */
  readonly timeout?: number;
  /** What asks the process to end; SIGKILL follows after 5 s. */
  readonly stopSignal?: NodeJS.Signals;
}

/** One process and everything it started: they share a process group, so none of them can be forgotten. */
export interface Supervised {
  readonly name: string;
  readonly pid: number;
  /** Path of the file that takes its standard output and error. */
  readonly log: string;
  readonly running: boolean;
  readonly exited: Promise<Exit>;
  /** Everything logged so far. */
  output(): string;
  signal(signal: NodeJS.Signals): void;
  /** Stops the process and whatever is left of its group. Repeats safely. */
  stop(): Promise<void>;
  /** SIGKILL to the whole group: a crash. */
  kill(): Promise<void>;
}

export interface Workspace {
  readonly name: string;
  /** Absolute path, mode 0700. */
  readonly dir: string;
  path(...parts: string[]): string;
  /** Makes the directory when missing and returns its path. */
  folder(...parts: string[]): string;
  start(spec: ProcessSpec): Promise<Supervised>;
  /** Processes that still run. */
  readonly processes: readonly Supervised[];
  /** Undone when the workspace ends, after its processes have; last said first. */
  atEnd(undo: () => Promise<void>): void;
  /** Stops all processes, last started first, and removes the directory unless `failed` or GYRE_KEEP=1. */
  end(how?: { failed?: boolean }): Promise<void>;
}

/** A directory of its own under the temporary directory, and the processes that belong to it. */
export function makeWorkspace(name: string): Workspace {
  const dir = mkdtempSync(join(tmpdir(), `gyre-${name}-`));
  const started: Supervised[] = [];
  const undos: (() => Promise<void>)[] = [];
  const path = (...parts: string[]) => join(dir, ...parts);
  let ended = false;
  return {
    name,
    dir,
    path,
    folder(...parts) {
      const folder = path(...parts);
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      return folder;
    },
    async start(spec) {
      const one = await supervise(spec, path(`${spec.name}.log`));
      started.push(one);
      return one;
    },
    get processes() {
      return started.filter((one) => one.running);
    },
    atEnd(undo) {
      undos.push(undo);
    },
    async end(how = {}) {
      if (ended) return;
      ended = true;
      for (const one of started.reverse()) await one.stop();
      for (const undo of undos.reverse()) await undo();
      if (how.failed === true || process.env.GYRE_KEEP === "1") process.stderr.write(`kept: ${dir}\n`);
      else rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}

const groups = new Set<number>();
let guard: ChildProcess | undefined;

/**
 * The guard outlives this process and kills every registered group once our end of the pipe closes, however we died.
 * The kernel's death signal alone is not enough: it reaches the child we started, not the child's own workers.
 */
function guardian(): ChildProcess {
  if (guard !== undefined) return guard;
  const script = [
    `trap "" INT TERM HUP`,
    `groups=" "`,
    "while read -r sign group; do",
    `  case "$sign" in`,
    `    +) groups="$groups$group " ;;`,
    `    -) case "$groups" in *" $group "*) groups="\${groups%% $group *} \${groups#* $group }" ;; esac ;;`,
    "  esac",
    "done",
    `for group in $groups; do kill -KILL "-$group" 2>/dev/null; done`,
  ].join("\n");
  guard = spawn("/bin/sh", ["-c", script], { detached: true, stdio: ["pipe", "ignore", "ignore"], cwd: "/" });
  guard.unref();
  // A pipe keeps the event loop alive unless told otherwise; the guard must never be why a run does not end.
  (guard.stdin as unknown as { unref?: () => void } | null)?.unref?.();
  guard.stdin?.on("error", () => {});
  process.on("exit", () => {
    for (const group of groups) killGroup(group);
  });
  return guard;
}

function killGroup(group: number): void {
  try {
    process.kill(-group, "SIGKILL");
  } catch {
    // Gone already.
  }
}

/** Pids of the living (not merely unreaped) processes of a group. */
function groupMembers(group: number): number[] {
  const members: number[] = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
      // The command name in parentheses may hold anything, so fields are counted from its last parenthesis.
      const [state, , pgrp] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (Number(pgrp) === group && state !== "Z" && state !== "X") members.push(Number(entry));
    } catch {
      // It ended between the listing and the look.
    }
  }
  return members;
}

/** Living processes that were started, directly or not, by `process`: to show that a stop left none behind. */
export function processesOf(one: Supervised): number[] {
  return groupMembers(one.pid);
}

/** The kernel kills the child when we die. Where util-linux is not installed, the guard alone has to do. */
const deathSignal = ["/usr/bin/setpriv", "/bin/setpriv"]
  .filter((path) => existsSync(path))
  .slice(0, 1)
  .flatMap((path) => [path, "--pdeathsig", "KILL", "--"]);

async function supervise(spec: ProcessSpec, log: string): Promise<Supervised> {
  const [program, ...args] = spec.command;
  if (program === undefined) throw new Error(`${spec.name}: an empty command`);
  const keeper = guardian();
  const out = openSync(log, "a", 0o600);
  const [first = program, ...rest] = [...deathSignal, program, ...args];
  const child = spawn(first, rest, {
    detached: true,
    stdio: ["ignore", out, out],
    env: { ...process.env, ...spec.env },
    ...(spec.cwd === undefined ? {} : { cwd: spec.cwd }),
  });
  closeSync(out);
  const exited = new Promise<Exit>((resolve, reject) => {
    child.once("exit", (code, signal) => resolve({ code, signal }));
    child.once("error", reject);
  });
  exited.catch(() => {});
  const pid = child.pid;
  if (pid === undefined) {
    await exited;
    throw new Error(`${spec.name}: could not be started`);
  }
  groups.add(pid);
  keeper.stdin?.write(`+ ${pid}\n`);
  child.unref();
  let running = true;
  exited.then(
    () => {
      running = false;
    },
    () => {},
  );
  const forget = () => {
    groups.delete(pid);
    keeper.stdin?.write(`- ${pid}\n`);
  };
  const endGroup = async () => {
    killGroup(pid);
    await waitFor(`the processes of ${spec.name} to be gone`, () => groupMembers(pid).length === 0);
    forget();
  };
  const one: Supervised = {
    name: spec.name,
    pid,
    log,
    get running() {
      return running;
    },
    exited,
    output: () => (existsSync(log) ? readFileSync(log, "utf8") : ""),
    signal(signal) {
      process.kill(pid, signal);
    },
    async stop() {
      if (running) {
        child.kill(spec.stopSignal ?? "SIGTERM");
        // A stopped (SIGSTOP) process would never see the request.
        child.kill("SIGCONT");
        await endsWithin(exited, 5_000);
      }
      await endGroup();
      await exited;
    },
    async kill() {
      await endGroup();
      await exited;
    },
  };
  try {
    await reach(one, spec);
  } catch (problem) {
    await one.kill();
    throw problem;
  }
  return one;
}

/** Waits for the end, but not longer; the timer is cleared, so that a stop never delays the end of a run. */
async function endsWithin(exited: Promise<Exit>, milliseconds: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, milliseconds);
  });
  await Promise.race([exited, late]);
  clearTimeout(timer);
}

async function reach(one: Supervised, spec: ProcessSpec): Promise<void> {
  const ready = spec.ready;
  if (ready === undefined) return;
  await waitFor(
    `${spec.name} to be ready`,
    async () => {
      if (!one.running) {
        const exit = await one.exited;
        throw new Error(
          `${spec.name} ended (code ${exit.code}, signal ${exit.signal}) before it was ready: ${spec.command.join(" ")}\n${one.output().slice(-2000)}`,
        );
      }
      return ready(one);
    },
    spec.timeout === undefined ? {} : { timeout: spec.timeout },
  );
}

/** Milliseconds. */
export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });
}

/**
 * Waits for a state, never for time: asks until `check` gives something other than false or undefined, and returns it.
 * A check that throws ends the wait. `timeout` (ms, 20 s unless told) only bounds a wait that will not succeed.
 */
export async function waitFor<T>(
  what: string,
  check: () => T | Promise<T>,
  options: { timeout?: number; poll?: number } = {},
): Promise<Exclude<T, false | undefined>> {
  const deadline = performance.now() + (options.timeout ?? 20_000);
  for (;;) {
    const seen = await check();
    if (seen !== false && seen !== undefined) return seen as Exclude<T, false | undefined>;
    if (performance.now() > deadline) throw new Error(`gave up waiting for ${what}`);
    await pause(options.poll ?? 20);
  }
}

const handedOut = new Set<number>();

/**
 * A port nobody listens on. Taken below the range from which the kernel draws source ports: one found by binding
 * port 0 could be given to an outgoing connection of another test before its server binds it.
 */
export async function freePort(host = "127.0.0.1"): Promise<number> {
  const low = 10_000;
  const high = Math.min(32_000, firstEphemeralPort());
  for (let attempt = 0; attempt < 200; attempt++) {
    const wanted = high - low < 1000 ? 0 : randomInt(low, high);
    const port = await bindable(wanted, host);
    if (port === undefined || handedOut.has(port)) continue;
    handedOut.add(port);
    return port;
  }
  throw new Error(`no free port on ${host}`);
}

function firstEphemeralPort(): number {
  try {
    return Number(readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8").split(/\s+/)[0]);
  } catch {
    return 32_768;
  }
}

function bindable(port: number, host: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen({ port, host, exclusive: true }, () => {
      const bound = server.address();
      server.close(() => resolve(bound !== null && typeof bound === "object" ? bound.port : undefined));
    });
  });
}

/** Whether something accepts a TCP connection there now. */
export function connects(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    socket.setTimeout(2_000, () => done(false));
    socket.once("connect", () => done(true));
    socket.once("error", () => done(false));
    function done(yes: boolean) {
      socket.destroy();
      resolve(yes);
    }
  });
}
