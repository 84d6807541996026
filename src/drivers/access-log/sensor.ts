import { type FileHandle, open } from "node:fs/promises";
import { resolve } from "node:path";
import type { Named, Sensor, Usage } from "../roles.ts";
import { linesBackwards, linesOfGzip, rotatedFiles } from "./log-files.ts";
import { readLine, type Use } from "./log-line.ts";
import type { AccessLogSettings } from "./settings.ts";
import { UsageFold } from "./usage-fold.ts";

export interface AccessLogOptions {
  /** A relative path in the settings is taken from here. */
  readonly baseDir?: string;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
}

/**
 * Reading goes this far behind the time asked for, so that lines out of order and a clock set back by less are seen.
 * Milliseconds.
 */
const lookBehind = 15 * 60_000;
/** Our probe was sent moments ago: no need to search the whole log for it. Lines. */
const aliveWithin = 200_000;
/** Two looks at a clock that differ by less differ by the lag of the log; by more, the clock was set. Milliseconds. */
const lagAtMost = 1000;

/** A server's access log as a sensor of who used which client certificate (N1). Never throws: what it cannot vouch for is a gap. */
export function createAccessLogSensor(settings: AccessLogSettings, options: AccessLogOptions = {}): Sensor {
  const path = resolve(options.baseDir ?? ".", settings.path);
  const now = options.now ?? Date.now;
  /** Server clock minus ours, learned from our own probe's line; undefined until one was seen. */
  let clock: number | undefined;
  return {
    can: { seesUse: true, mustSeeNewUse: settings.mustSeeNewUse },
    place: path,
    member: settings.member,
    async alive(tag) {
      const line = await findProbe(path, settings.server, tag);
      if (line === undefined) return false;
      // The probe was sent just before we are asked. When the log lags, the difference comes out too small, which
      // makes lines look later than they are: a use is counted rather than missed. Of several looks the one that
      // lagged least is kept, or the beginning of a log would seem to move, a gap that never ends.
      const seen = line.time - now();
      clock = clock !== undefined && Math.abs(seen - clock) < lagAtMost ? Math.max(clock, seen) : seen;
      return true;
    },
    usage: (of, since, ours) => usageIn(path, settings.server, { of, since, ours, clock: clock ?? 0, now: now() }),
  };
}

/** Our own probe's line. One that was accepted: a log that leaves out successes would record only the controls. */
async function findProbe(path: string, server: AccessLogSettings["server"], tag: string): Promise<Use | undefined> {
  const file = await openOr(path);
  if (!isHandle(file)) return undefined;
  try {
    let left = aliveWithin;
    for await (const text of linesBackwards(file)) {
      if (left-- === 0) return undefined;
      // The tag alone: HAProxy's JSON writes the slash before it as `\/`.
      if (!text.includes(tag)) continue;
      const line = readLine(server, text);
      if (
        line.is === "use" &&
        line.use.userAgent === `gyre-probe/${tag}` &&
        line.use.verified &&
        line.use.serial !== ""
      )
        return line.use;
    }
    return undefined;
  } catch {
    return undefined; // truncated or replaced while being read: not seen, yet
  } finally {
    await file.close();
  }
}

interface Question {
  readonly of: Named;
  readonly since: number;
  readonly ours: string | undefined;
  readonly clock: number;
  readonly now: number;
}

async function usageIn(path: string, server: AccessLogSettings["server"], question: Question): Promise<Usage> {
  const fold = new UsageFold(server, question);
  const file = await openOr(path);
  if (!isHandle(file)) {
    fold.gap(question.now, `the log cannot be read (${file})`);
    return fold.usage();
  }
  try {
    const { ino } = await file.stat();
    if (await readBack(linesBackwards(file), fold, question)) return fold.usage();
    for (const rotated of await rotatedFiles(path, ino)) {
      fold.nextFile();
      if (await readRotated(rotated.path, rotated.gzip, fold, question)) return fold.usage();
    }
    fold.beginning();
  } catch (error) {
    fold.gap(question.now, `the log cannot be read (${(error as NodeJS.ErrnoException).code ?? "I/O error"})`);
  } finally {
    await file.close();
  }
  return fold.usage();
}

/** True when the lines reach back to before the time asked for. */
async function readBack(lines: AsyncIterable<string>, fold: UsageFold, { since }: Question): Promise<boolean> {
  for await (const text of lines) {
    fold.older(text);
    if (fold.oldest < since - lookBehind) return true;
  }
  return fold.oldest < since;
}

async function readRotated(path: string, gzip: boolean, fold: UsageFold, question: Question): Promise<boolean> {
  if (gzip) {
    for await (const text of linesOfGzip(path)) fold.newer(text);
    return fold.oldest < question.since;
  }
  const file = await open(path, "r");
  try {
    return await readBack(linesBackwards(file), fold, question);
  } finally {
    await file.close();
  }
}

async function openOr(path: string): Promise<FileHandle | string> {
  try {
    return await open(path, "r");
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "I/O error";
  }
}
const isHandle = (opened: FileHandle | string): opened is FileHandle => typeof opened !== "string";
