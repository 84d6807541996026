import { access, constants, readFile, stat } from "node:fs/promises";
import { delimiter, isAbsolute, resolve } from "node:path";
import { GyreError } from "../../errors.ts";
import type { Secret } from "../../pki/secret.ts";
import type { DriverFacts, Step } from "../roles.ts";
import type { Reload } from "../shared-settings.ts";
import { childEnvironment, runCommand, withoutSecrets } from "./command.ts";

/** The reload class, as a fact for the plan. */
export function reloadFact(reload: Reload | undefined): NonNullable<DriverFacts["reload"]> {
  if (reload === undefined) return "none";
  return reload.command !== undefined ? "command" : reload.signal !== undefined ? "signal" : "watch";
}

/**
 * Tells the process behind the files to load them. Repeats safely. Gives what was done, in words.
 * @throws GyreError `command` (failed, timed out; dead or foreign process), `permission`, `input` (pid file)
 */
export async function performReload(
  reload: Reload,
  baseDir: string,
  step: Step,
  secrets: readonly Secret[],
): Promise<string> {
  if (reload.command !== undefined) {
    await runCommand(reload.command, {
      what: "reload command",
      cwd: baseDir,
      timeout: reload.timeout,
      signal: step.signal,
      secrets,
      untouched: "the files are in place; the process may still use what it loaded before",
    });
    return `ran ${withoutSecrets(reload.command.join(" "), secrets)}`;
  }
  if (reload.signal !== undefined) return signalProcess(reload.signal, pathFrom(baseDir, reload.pidFile!));
  return "nothing to do: the process watches its files";
}

/**
 * What a reload would do, in words, found by looking only: nothing is run and nothing is sent.
 * @throws GyreError what would stop it: no such program, a dead or foreign process behind the pid file
 */
export async function lookAtReload(reload: Reload, baseDir: string): Promise<string> {
  if (reload.command !== undefined) {
    return `runs ${await programOf("reload command", reload.command[0]!, baseDir)}`;
  }
  if (reload.signal === undefined) return "its process watches the files itself";
  const pidFile = pathFrom(baseDir, reload.pidFile!);
  const pid = await pidIn(pidFile);
  return `sends ${reload.signal} to pid ${pid} (${await mustBeTheOne(pid, pidFile)})`;
}

/**
 * Where a program is found, as the system finds it when it is started: by PATH, or by its path from `baseDir`.
 * @throws GyreError `command`
 */
export async function programOf(what: string, name: string, baseDir: string): Promise<string> {
  const places = name.includes("/")
    ? [resolve(baseDir, name)]
    : (childEnvironment().PATH ?? "").split(delimiter).map((folder) => resolve(baseDir, folder, name));
  let seen = name.includes("/") ? "there is no such file" : "there is no such program on PATH";
  for (const path of places) {
    const found = await stat(path).catch(() => undefined);
    if (found === undefined || found.isDirectory()) continue;
    if (
      await access(path, constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return path;
    seen = `${path} may not be executed`;
  }
  throw new GyreError({
    code: "command",
    message: `${what} \`${name}\`: ${seen}`,
    where: name,
    next: "correct the command, or install the program",
  });
}

async function signalProcess(signal: NodeJS.Signals, pidFile: string): Promise<string> {
  const pid = await pidIn(pidFile);
  const name = await mustBeTheOne(pid, pidFile);
  try {
    process.kill(pid, signal);
  } catch (error) {
    throw killFailed(error, pid, pidFile, signal);
  }
  return `sent ${signal} to pid ${pid} (${name})`;
}

function fail(code: "command" | "input" | "permission", message: string, pidFile: string, next: string): GyreError {
  return new GyreError({ code, message: `reload by signal: ${message}; nothing was sent`, where: pidFile, next });
}

async function pidIn(pidFile: string): Promise<number> {
  const text = await readFile(pidFile, "utf8").catch((error: NodeJS.ErrnoException) => {
    const seen = error.code === "ENOENT" ? "there is no such file" : `it cannot be read (${error.code})`;
    throw fail("command", `pid file ${pidFile}: ${seen}`, pidFile, "start the process, or correct pidFile");
  });
  // PostgreSQL's postmaster.pid holds more lines; the first is the pid in every pid file we know.
  const first = text.split("\n", 1)[0]!.trim();
  // 0 and negative numbers are process groups, and 1 is never a server that rotates certificates by pid file, except
  // in a container, where it is: only the first two are refused.
  if (!/^[1-9]\d{0,9}$/.test(first)) {
    throw fail("input", `pid file ${pidFile} does not begin with a process id`, pidFile, "correct pidFile");
  }
  return Number(first);
}

/**
 * Refuses a dead process, a zombie, one of another user, and one that got the number after the pid file was written:
 * SIGHUP ends most programs that do not expect it.
 */
async function mustBeTheOne(pid: number, pidFile: string): Promise<string> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    throw killFailed(error, pid, pidFile, "a signal");
  }
  const line = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
  if (line === undefined) return "name unknown"; // no /proc: kill(pid, 0) is all there is
  const name = line.slice(line.indexOf("(") + 1, line.lastIndexOf(")"));
  const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
  if (fields[0] === "Z" || fields[0] === "X") {
    throw fail("command", `pid ${pid} (${name}) of ${pidFile} is dead (a zombie)`, pidFile, "start the process");
  }
  const started = await startedAt(Number(fields[19]));
  const written = (await stat(pidFile)).mtimeMs;
  if (started !== undefined && started > written + RECYCLED_AFTER) {
    throw fail(
      "command",
      `pid ${pid} (${name}) started ${new Date(started).toISOString()}, after ${pidFile} was written (${new Date(written).toISOString()}): the number was given to another process`,
      pidFile,
      "restart the service so that it writes its pid file, or touch the file when it is right",
    );
  }
  return name;
}

// A pid file is written after its process started. A minute covers the grain of both clocks and a supervisor that
// writes the file before exec.
const RECYCLED_AFTER = 60_000;

/** `ticks` after boot (field 22 of /proc/PID/stat, always in hundredths of a second on Linux) as ms since the epoch. */
async function startedAt(ticks: number): Promise<number | undefined> {
  const boot = /^btime (\d+)$/m.exec(await readFile("/proc/stat", "utf8").catch(() => ""))?.[1];
  return boot === undefined || Number.isNaN(ticks) ? undefined : Number(boot) * 1000 + ticks * 10;
}

function killFailed(error: unknown, pid: number, pidFile: string, signal: string): GyreError {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ESRCH") {
    return fail("command", `no process has pid ${pid} of ${pidFile}`, pidFile, "start the process, or remove the file");
  }
  if (code === "EPERM") {
    return fail(
      "permission",
      `pid ${pid} of ${pidFile} belongs to another user, who may not be sent ${signal}`,
      pidFile,
      "run as root or as that user, or reload by command",
    );
  }
  return fail("command", `pid ${pid} of ${pidFile}: ${String(code ?? error)}`, pidFile, "look at the process");
}

/** A path of a manifest: relative ones count from the manifest's directory. */
export const pathFrom = (baseDir: string, path: string): string =>
  isAbsolute(path) ? resolve(path) : resolve(baseDir, path);
