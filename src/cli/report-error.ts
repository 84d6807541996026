import { createHash } from "node:crypto";
import { type ErrorCode, GyreError } from "../errors.ts";
import { bad } from "./paint.ts";

/** An error as the command line tells it, in text and in JSON. */
export interface Told {
  readonly code: ErrorCode;
  readonly lines: readonly string[];
  readonly json: Readonly<Record<string, unknown>>;
}

export interface TellOptions {
  /** GYRE_DEBUG=1: where in the code it came from. */
  readonly debug: boolean;
}

/**
 * A GyreError was written to be read: it is printed whole. Anything else is a bug of ours, and its message may quote
 * what was being worked on (a JSON parser quotes its input), so only its kind and its place are told.
 */
export function tellError(error: unknown, options: TellOptions): Told {
  if (error instanceof GyreError && error.code !== "bug") return known(error, options);
  const id = bugId(error);
  const what = error instanceof GyreError ? error.message : kindOf(error);
  const next = `please report this with the id ${id}${options.debug ? " and the lines below" : " and what GYRE_DEBUG=1 adds to it"}`;
  return {
    code: "bug",
    lines: [
      `${bad("gyre:")} a bug in gyre (${id}): ${what}`,
      `  next: ${next}`,
      ...(options.debug ? placesOf(error) : []),
    ],
    json: { code: "bug", id, message: what, next, ...(options.debug ? { stack: placesOf(error) } : {}) },
  };
}

function known(error: GyreError, options: TellOptions): Told {
  const [first = "", ...more] = error.message.split("\n");
  const where = error.where === undefined || error.message.includes(error.where) ? [] : [`  where: ${error.where}`];
  const next = (error.next ?? "").split("\n").filter((line) => line !== "");
  return {
    code: error.code,
    lines: [
      `${bad("gyre:")} ${first}`,
      ...more.map(below),
      ...where,
      ...next.map((line, index) => `${index === 0 ? "  next: " : "        "}${line}`),
      ...(options.debug ? placesOf(error) : []),
    ],
    json: { ...error.toJSON(), ...(options.debug ? { stack: placesOf(error) } : {}) },
  };
}

/** Never at the margin, where it could be taken for a line of ours; lines of a manifest keep their columns. */
const below = (line: string): string => (/^( |\d+ +\| )/.test(line) ? line : `  ${line}`);

/** The same bug has the same id on every machine: it is made from the kind and the place, not from chance. */
function bugId(error: unknown): string {
  const places = placesOf(error).map((line) => /([^/\\ (]+:\d+:\d+)\)?$/.exec(line)?.[1]);
  const place = places.find((name) => name !== undefined) ?? "";
  return createHash("sha256")
    .update(`${kindOf(error)}\n${place}`)
    .digest("hex")
    .slice(0, 8);
}

/** The class, the system's own code, and the message only where the language made it and it quotes no value. */
function kindOf(error: unknown): string {
  if (!(error instanceof Error)) return `a thrown ${typeof error}`;
  const code = "code" in error && typeof error.code === "string" ? ` ${error.code}` : "";
  const own =
    error instanceof GyreError || ((error instanceof TypeError || error instanceof ReferenceError) && code === "");
  return `${error.name}${code}${own ? `: ${error.message}` : ""}`;
}

/** Frames of the stack only: its first lines repeat the message. */
function placesOf(error: unknown): string[] {
  if (!(error instanceof Error)) return [];
  const frames = (error.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line));
  const cause = error.cause instanceof Error ? [`  caused by ${kindOf(error.cause)}`, ...placesOf(error.cause)] : [];
  return [...frames, ...cause];
}
