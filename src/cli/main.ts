import { type Command, CommanderError } from "commander";
import { GyreError } from "../errors.ts";
import { ActionFailed } from "./action-failed.ts";
import { Console, type Output } from "./console.ts";
import { type ExitCode, exitOfAction, exitOfQuestion, exits } from "./exit.ts";
import { wantsColour } from "./paint.ts";
import { program } from "./program.ts";
import { tellError } from "./report-error.ts";
import { type GlobalOptions, Session } from "./session.ts";

/** Everything the command line needs from the process, so that tests can be one. */
export interface Host {
  readonly out: Output;
  readonly err: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly now: () => number;
  /** From the first call on, Ctrl-C and SIGTERM abort the signal. */
  readonly interrupt: () => AbortSignal;
}

/** Runs one command and gives its exit code; throws nothing. */
export async function main(args: readonly string[], host: Host): Promise<ExitCode> {
  let exit: ExitCode = exits.ok;
  // Asked before the arguments are parsed, since an error of the arguments is told in this way too.
  const json = args.includes("--json");
  const root: Command = program(async (work) => {
    const global = root.opts<GlobalOptions>();
    exit = await work(sessionOf(global, host));
  });
  prepare(root, host);
  try {
    if (args.length === 0) {
      root.outputHelp({ error: true });
      return exits.usage;
    }
    await root.parseAsync(args, { from: "user" });
    return exit;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return exits.ok;
    const flags = root.opts<GlobalOptions>();
    return failed(error, consoleOf({ ...flags, json: json || flags.json === true }, host), host);
  }
}

function consoleOf(global: GlobalOptions, host: Host): Console {
  return new Console({
    out: host.out,
    err: host.err,
    env: host.env,
    json: global.json === true,
    colour: global.color,
    quiet: global.quiet === true,
    now: host.now,
  });
}

function sessionOf(global: GlobalOptions, host: Host): Session {
  return new Session({
    console: consoleOf(global, host),
    cwd: host.cwd,
    env: host.env,
    global,
    interrupt: host.interrupt,
  });
}

/** Help goes through us too; errors of the arguments are told by `failed`, not by commander. */
function prepare(root: Command, host: Host): void {
  const coloured = (output: Output) => wantsColour(true, host.env, output.isTTY === true);
  for (const command of [root, ...root.commands]) {
    command.exitOverride();
    command.configureOutput({
      writeOut: (text) => void host.out.write(text),
      writeErr: (text) => void host.err.write(text),
      outputError: () => {},
      getOutHelpWidth: () => helpWidth(host.out),
      getErrHelpWidth: () => helpWidth(host.err),
      getOutHasColors: () => coloured(host.out),
      getErrHasColors: () => coloured(host.err),
    });
  }
}

/** Longer lines are hard to read, whatever the terminal's width. */
const helpWidth = (output: Output): number => Math.min(100, output.isTTY === true ? (output.columns ?? 80) : 80);

function failed(error: unknown, console: Console, host: Host): ExitCode {
  const { cause, begun, acting } = unwrap(error);
  const told = tellError(cause instanceof CommanderError ? usage(cause) : cause, {
    debug: host.env.GYRE_DEBUG === "1",
  });
  const exit = acting ? exitOfAction(told.code, begun) : exitOfQuestion(told.code);
  if (console.json) console.data({ error: told.json, exit });
  else console.complain(told.lines);
  return exit;
}

/** A command that acts wraps its errors; what did not get that far acted on nothing. */
function unwrap(error: unknown): { cause: unknown; begun: boolean; acting: boolean } {
  if (error instanceof ActionFailed) return { cause: error.cause, begun: error.begun, acting: true };
  return { cause: error, begun: false, acting: false };
}

/** Commander's own words, in our form. */
function usage(error: CommanderError): GyreError {
  const [first = "", ...more] = error.message.replace(/^error: /, "").split("\n");
  const meant = /^\(Did you mean (?:one of )?(.*)\?\)$/.exec(more.join(" "))?.[1];
  return new GyreError({
    code: "input",
    message: `${first}; nothing was done`,
    next: meant === undefined ? "gyre --help, or gyre COMMAND --help" : `did you mean ${meant}?`,
  });
}

/** Ctrl-C twice within this time is one press seen twice (by the launcher and by us). */
const onePress = 500;

/** The real process. Never returns before everything is written, even into a slow pipe. */
export async function start(args: readonly string[]): Promise<void> {
  // Whoever read our output has gone (`gyre status | head`): a rotation goes on all the same.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
    });
  }
  const exit = await main(args, {
    out: process.stdout,
    err: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    now: () => Date.now(),
    interrupt: interruptible(),
  });
  process.exitCode = exit;
  for (const stream of [process.stdout, process.stderr]) {
    if (stream.writable) await new Promise<void>((done) => void stream.write("", () => done()));
  }
  process.exit();
}

/** The first signal lets the step in hand finish; a second one ends the process, from which the journal recovers too. */
function interruptible(): () => AbortSignal {
  let controller: AbortController | undefined;
  return () => {
    if (controller !== undefined) return controller.signal;
    const own = new AbortController();
    controller = own;
    let first = 0;
    const stop = (signal: NodeJS.Signals): void => {
      if (!own.signal.aborted) {
        first = Date.now();
        own.abort();
        process.stderr.write(
          `${process.stderr.isTTY ? "\r\u001b[K" : ""}gyre: ${signal}: finishing the step in hand; once more ends it at once\n`,
        );
      } else if (Date.now() - first > onePress) process.exit(130);
    };
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop);
    return own.signal;
  };
}
