import { spawn } from "node:child_process";
import { GyreError } from "../../errors.ts";
import type { Secret } from "../../pki/secret.ts";

/** Enough for the reason a program gives at its end; nginx and HAProxy need a few lines. */
const TAIL_BYTES = 2048;

// A child sees these and nothing else: our environment may hold passphrases, and a child's can be read in /proc.
// More is given by name: [env, DOCKER_HOST=…, docker, kill, …].
const INHERITED = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR"];

export function childEnvironment(): NodeJS.ProcessEnv {
  const seen = Object.entries(process.env).filter(([name]) => INHERITED.includes(name) || name.startsWith("LC_"));
  return { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", ...Object.fromEntries(seen) };
}

/** Takes private keys, and every form of the secrets in hand, out of what a program said. */
export function withoutSecrets(text: string, secrets: readonly Secret[]): string {
  let clean = text.replace(
    /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|$)/g,
    "[key]",
  );
  for (const secret of secrets) {
    for (const form of formsOf(secret)) clean = clean.replaceAll(form, "[secret]");
  }
  return clean;
}

/** A PEM body line by line, since a program may quote one line; short values whole, and as hex and base64. */
function formsOf(secret: Secret): readonly string[] {
  return secret.use((bytes) => {
    const text = bytes.toString("utf8");
    const lines = text.split(/\r?\n/).filter((line) => line.length >= 16 && !line.startsWith("-----"));
    const whole = bytes.length === 0 ? [] : [text.trim(), bytes.toString("hex"), bytes.toString("base64")];
    // Replacing a value of one or two characters would garble the message and hide nothing.
    return [...whole, ...lines].filter((form) => form.length > 3);
  });
}

/** What a program wrote may be no text at all: each run of bytes that no message can show becomes one mark. */
const readable = (text: string): string =>
  text.replace(/[\u0000-\u0008\u000e-\u001a\u001c-\u001f\u007f\ufffd]+/g, "[…]").trim();

export interface CommandOptions {
  /** In words, for errors: "validate command". */
  readonly what: string;
  readonly cwd: string;
  /** Milliseconds; the command and its children are killed after this. */
  readonly timeout: number;
  readonly signal: AbortSignal;
  /** Must not appear in an error. */
  readonly secrets: readonly Secret[];
  /** What is as it was when the command failed. */
  readonly untouched: string;
}

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly cut?: "time" | "abort";
  readonly said: string;
}

/**
 * Runs a program without a shell, in a process group of its own, and waits for it.
 * @throws GyreError `command` with the tail of what it said on stderr (stdout when stderr is empty)
 */
export async function runCommand(command: readonly string[], options: CommandOptions): Promise<void> {
  const ended = await run(command, options);
  if (ended.code === 0 && ended.cut === undefined) return;
  const how =
    ended.cut === "time"
      ? `took longer than ${options.timeout / 1000} s and was killed`
      : ended.cut === "abort"
        ? "was killed because the run was stopped"
        : ended.signal !== null
          ? `was killed by ${ended.signal}`
          : `ended with exit code ${ended.code}`;
  const said = ended.said === "" ? "it said nothing" : `it said: ${ended.said}`;
  throw new GyreError({
    code: "command",
    message: `${options.what} \`${withoutSecrets(command.join(" "), options.secrets)}\` ${how}; ${said}; ${options.untouched}`,
    where: command[0]!,
    retry: ended.cut === undefined ? "never" : "later",
    next: "run it by hand, put right what it names, then go on",
  });
}

function run(command: readonly string[], options: CommandOptions): Promise<Ended> {
  const { promise, resolve, reject } = Promise.withResolvers<Ended>();
  if (options.signal.aborted) {
    resolve({ code: null, signal: null, cut: "abort", said: "" });
    return promise;
  }
  const [program, ...args] = command;
  const child = spawn(program!, args, {
    cwd: options.cwd,
    env: childEnvironment(),
    stdio: ["ignore", "pipe", "pipe"],
    detached: true, // a group of its own, so that a time-out reaches its children too
  });
  let cut: "time" | "abort" | undefined;
  const kill = (why: "time" | "abort") => {
    cut ??= why;
    try {
      process.kill(-child.pid!, "SIGKILL");
    } catch {
      child.kill("SIGKILL");
    }
  };
  const timer = setTimeout(() => kill("time"), options.timeout);
  const onAbort = () => kill("abort");
  options.signal.addEventListener("abort", onAbort, { once: true });
  const heard = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].on("data", (chunk: Buffer) => {
      // More than the tail, so that a secret cut at the tail's edge is still recognised and taken out whole.
      heard[name] = Buffer.concat([heard[name], chunk]).subarray(-8 * TAIL_BYTES);
    });
  }
  const stop = () => {
    clearTimeout(timer);
    options.signal.removeEventListener("abort", onAbort);
  };
  child.once("error", (error) => {
    stop();
    reject(notStarted(program!, options, error));
  });
  // `exit`, then a moment for the pipes: a reload command may leave a daemon behind that keeps them open for ever.
  child.once("exit", (code, signal) => {
    stop();
    const finish = () => {
      child.stdout.destroy();
      child.stderr.destroy();
      const heardBytes = heard.stderr.length > 0 ? heard.stderr : heard.stdout;
      const clean = readable(withoutSecrets(heardBytes.toString("utf8"), options.secrets));
      resolve({ code, signal, said: clean.slice(-TAIL_BYTES), ...(cut === undefined ? {} : { cut }) });
    };
    const patience = setTimeout(finish, 250);
    child.once("close", () => {
      clearTimeout(patience);
      finish();
    });
  });
  return promise;
}

function notStarted(program: string, options: CommandOptions, error: Error): GyreError {
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  const seen = code === "ENOENT" ? "no such program on PATH" : code === "EACCES" ? "it may not be executed" : code;
  return new GyreError({
    code: "command",
    message: `${options.what}: ${program} could not be started (${seen}); ${options.untouched}`,
    where: program,
    next: "correct the command, or install the program",
    cause: error,
  });
}
