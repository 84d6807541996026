import { join } from "node:path";
import { GyreError } from "../../errors.ts";
import type { Estate, Outcome, Progress, RotateOptions } from "../../runtime/api.ts";
import { ActionFailed } from "../action-failed.ts";
import { type ExitCode, exitOfAction, exitOfOutcome, exits, worstOf } from "../exit.ts";
import { wrap } from "../layout.ts";
import { knownName } from "../names.ts";
import { bad, bold } from "../paint.ts";
import { RotationText, runLine } from "../render/rotation.ts";
import { tellError } from "../report-error.ts";
import type { Session } from "../session.ts";
import { commandWords } from "../words.ts";

/** Commands that change something: rotate, run, revert. */

export interface RotateFlags {
  readonly now?: boolean;
  /** Milliseconds. */
  readonly wait: number;
  readonly reason?: string;
}

export interface RevertFlags {
  readonly wait: number;
  readonly reason: string;
  readonly by?: string;
}

export async function rotate(session: Session, name: string, flags: RotateFlags): Promise<ExitCode> {
  return session.withEstate((estate) => {
    knownName(name, estate.credentials);
    return shown(session, estate, name, "forward", (options) =>
      estate.rotate(name, {
        ...options,
        waitUpTo: flags.wait,
        ...(flags.now === undefined ? {} : { now: flags.now }),
        ...(flags.reason === undefined ? {} : { reason: flags.reason }),
      }),
    );
  });
}

export async function revert(session: Session, name: string, flags: RevertFlags): Promise<ExitCode> {
  return session.withEstate((estate) => {
    knownName(name, estate.credentials);
    return shown(session, estate, name, "back", (options) =>
      estate.revert(name, { ...options, waitUpTo: flags.wait, by: flags.by ?? session.person, reason: flags.reason }),
    );
  });
}

/** Where the runtime keeps the public half of the key that signs receipts. */
const pinOf = (estate: Estate): string => join(estate.stateDirectory, "signing.pub");

type Work = (options: Pick<RotateOptions, "runner" | "onProgress" | "signal">) => Promise<Outcome>;

/** Runs one rotation with its progress on the terminal or in the pipe, and says how it ended. */
async function shown(
  session: Session,
  estate: Estate,
  name: string,
  asked: "forward" | "back",
  work: Work,
): Promise<ExitCode> {
  const { console } = session;
  const text = new RotationText({ name, width: console.width, quiet: console.quiet, pin: pinOf(estate) });
  const signal = session.interrupted();
  const news: Progress[] = [];
  const live = console.live((mark) => text.current(console.now(), mark));
  try {
    const outcome = await work({
      runner: session.runner,
      signal,
      onProgress: (progress) => {
        if (worthKeeping(progress)) news.push(progress);
        console.say(text.told(progress, console.now()));
      },
    });
    live.stop();
    const stopped = signal.aborted && outcome.result === "waiting";
    console.say(stopped ? interruptedLines(name, console.width) : text.ended(outcome, console.now()));
    const exit = exitOfOutcome(outcome, asked);
    console.data({ credential: name, ...outcome, ...(stopped ? { interrupted: true } : {}), news, exit });
    return exit;
  } catch (error) {
    live.stop();
    if (signal.aborted && !(error instanceof GyreError)) {
      console.say(interruptedLines(name, console.width));
      console.data({ credential: name, result: "waiting", interrupted: true, news, exit: exits.waiting });
      return exits.waiting;
    }
    throw new ActionFailed(error, text.begun);
  }
}

/** Looks that changed nothing and waits are for the eye only. */
const worthKeeping = (progress: Progress): boolean =>
  progress.type !== "looked" &&
  progress.type !== "waiting" &&
  !(progress.type === "step" && progress.state === "doing");

const interruptedLines = (name: string, width: number): string[] => [
  ...wrap(`  ${bold("stopped")} on request, at a point from which it can be taken up again`, width, 10),
  ...wrap(
    `        to go on: ${commandWords("rotate", name)}; to go back: ${commandWords("revert", name, "--reason", "...")}`,
    width,
    10,
  ),
];

/** One credential of `run`. */
interface Ran {
  readonly name: string;
  readonly exit: ExitCode;
  readonly outcome?: Outcome;
  readonly error?: Readonly<Record<string, unknown>>;
}

/** All that is due, one after the other; one that fails does not stop the others. */
export async function run(session: Session, flags: { wait: number; reason?: string }): Promise<ExitCode> {
  return session.withEstate(async (estate) => {
    const { console } = session;
    const signal = session.interrupted();
    const pad = Math.min(40, Math.max(0, ...estate.credentials.map((name) => name.length)));
    const results: Ran[] = [];
    for (const name of estate.credentials) {
      if (signal.aborted) break;
      results.push(await runOne(session, estate, name, { ...flags, signal, pad }));
    }
    const left = estate.credentials.length - results.length;
    const worst = worstOf(results.map((result) => result.exit));
    const exit = worst === exits.ok && signal.aborted ? exits.waiting : worst;
    console.data({ results, ...(left > 0 ? { notReached: estate.credentials.slice(-left) } : {}), exit });
    if (signal.aborted)
      console.say([`stopped on request; ${left} of ${estate.credentials.length} not looked at; to go on: gyre run`]);
    return exit;
  });
}

interface RunOneOptions {
  readonly wait: number;
  readonly reason?: string;
  readonly signal: AbortSignal;
  readonly pad: number;
}

async function runOne(session: Session, estate: Estate, name: string, options: RunOneOptions): Promise<Ran> {
  const { console } = session;
  const text = new RotationText({ name, width: console.width, quiet: true, pin: pinOf(estate) });
  const live = console.live((mark) => {
    const line = text.current(console.now(), mark);
    return line === undefined
      ? `  ${mark.padEnd(4)}${name}`
      : `  ${mark.padEnd(4)}${name}  ${line.slice(8).replace(/ +/g, " ")}`;
  });
  try {
    const outcome = await estate.rotate(name, {
      runner: session.runner,
      waitUpTo: options.wait,
      signal: options.signal,
      onProgress: (progress) => void text.told(progress, console.now()),
      ...(options.reason === undefined ? {} : { reason: options.reason }),
    });
    live.stop();
    const dull = outcome.result === "nothing due" || outcome.result === "waiting" || outcome.result === "closed";
    if (!console.quiet || !dull)
      console.say(runLine(name, outcome, console.now(), { width: console.width, pad: options.pad }));
    return { name, outcome, exit: exitOfOutcome(outcome) };
  } catch (error) {
    live.stop();
    const told = tellError(error, { debug: false });
    const locked = told.code === "locked";
    if (locked) console.say(wrap(`wait  ${bold(name)}  another runner is at it`, console.width, 8));
    else console.say([`${bad("FAIL")}  ${bold(name)}`, ...told.lines.map((line) => `      ${line}`)]);
    return { name, error: told.json, exit: exitOfAction(told.code, text.begun) };
  }
}
