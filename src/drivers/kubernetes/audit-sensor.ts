import { type FileHandle, open } from "node:fs/promises";
import { resolve } from "node:path";
import type { Named, Sensor, Usage } from "../roles.ts";
import { send } from "./api.ts";
import {
  ifThere,
  type LogFile,
  type Mark,
  markAt,
  readForward,
  readGzip,
  rotatedLogs,
  stillHolds,
  withFile,
} from "./audit-files.ts";
import { AuditFold } from "./audit-fold.ts";
import { type AuditEvent, readAuditLine } from "./audit-line.ts";
import type { AuditLogSettings } from "./audit-settings.ts";
import type { ClusterByName } from "./cluster.ts";

export interface AuditLogOptions {
  /** A relative path in the settings is taken from here. */
  readonly baseDir?: string;
  /** Asked when the API server was started, once a request of the certificate is found open; without it such a one stays open. */
  readonly cluster?: ClusterByName;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
}

/** Lines this far before the time asked for are read in full, so that a clock set back by less is seen. Milliseconds. */
const lookBehind = 15 * 60_000;
/** Our probe was sent moments ago: it is not searched for further back. Octets. */
const aliveWithin = 64 * 1024 * 1024;
/** Two looks at a clock that differ by less differ by the lag of the log; by more, the clock was set. Milliseconds. */
const lagAtMost = 1000;
/** Questions whose state is kept: a rotation asks two. */
const mostFolds = 16;

/**
 * An API server's audit log as a sensor of who used which client certificate (N1). Never throws: what it cannot vouch for
 * is a gap. A later look goes on where the last one ended.
 */
export function createKubernetesAuditSensor(settings: AuditLogSettings, options: AuditLogOptions = {}): Sensor {
  const path = resolve(options.baseDir ?? ".", settings.path);
  const now = options.now ?? Date.now;
  /** Server clock minus ours, learned from our own probe's line; undefined until one was seen. */
  let clock: number | undefined;
  const log = new AuditLog(path, () => processStart(settings, options.cluster));
  // One reader at a time: the next one goes on where it ended.
  let turn: Promise<unknown> = Promise.resolve();
  return {
    can: { seesUse: true, byFingerprint: true, mustSeeNewUse: settings.mustSeeNewUse },
    place: path,
    member: settings.member,
    async alive(tag) {
      const event = await findProbe(path, tag);
      if (event === undefined) return false;
      // The probe was sent just before we are asked. When the log lags, the difference comes out too small, which makes
      // lines look later than they are: a use is counted rather than missed. Of several looks the one that lagged least
      // is kept, or the beginning of a log would seem to move, a gap that never ends.
      const seen = event.time - now();
      clock = clock !== undefined && Math.abs(seen - clock) < lagAtMost ? Math.max(clock, seen) : seen;
      return true;
    },
    usage(of: Named, since: number, ours?: string) {
      const answer = turn.then(() => log.usage(of, since, ours, { clock: clock ?? 0, now: now() }));
      turn = answer.catch(() => undefined);
      return answer;
    },
  };
}

interface Times {
  readonly clock: number;
  readonly now: number;
}
interface Followed {
  readonly fold: AuditFold;
  /** Up to where it was read. */
  readonly mark: Mark | undefined;
}
type Loss = { readonly until: number; readonly why: string };
const isNotThere = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === "ENOENT";

class AuditLog {
  readonly #path: string;
  readonly #processStart: () => Promise<number | undefined>;
  readonly #followed = new Map<string, Followed>();
  /** Up to where it was last read, for whichever question. */
  #mark: Mark | undefined;
  /** Lines were lost, whoever asks; until then, by the server's clock. */
  #lost: Loss | undefined;

  constructor(path: string, processStart: () => Promise<number | undefined>) {
    this.#path = path;
    this.#processStart = processStart;
  }

  async usage(of: Named, since: number, ours: string | undefined, { clock, now }: Times): Promise<Usage> {
    const [from, until] = [since + clock, now + clock];
    const key = JSON.stringify([of.fingerprint, ours]);
    const before = this.#followed.get(key);
    this.#followed.delete(key);
    const anew = (): Followed => ({ fold: new AuditFold(of.fingerprint, ours, from, lookBehind), mark: undefined });
    const start = before?.fold.canAnswer(from) === true ? before : anew();
    try {
      // A file may be renamed or compressed between being listed and being opened: then all is looked at again.
      const read = await this.#read(start, until, anew).catch((error: unknown) => {
        if (isNotThere(error)) return this.#read(anew(), until, anew);
        throw error;
      });
      if (this.#followed.size >= mostFolds) this.#followed.delete(this.#followed.keys().next().value ?? "");
      this.#followed.set(key, read);
      const { fold } = read;
      const started = fold.hasOpen ? await this.#processStart() : undefined;
      if (started !== undefined) fold.startedAt(started);
      if (this.#lost !== undefined) fold.gap(this.#lost.until, this.#lost.why);
      return fold.usage(until, clock);
    } catch (error) {
      const why = `the log cannot be read (${(error as NodeJS.ErrnoException).code ?? "I/O error"})`;
      return { count: 0, succeeded: 0, from: [], gap: why, gapUntil: now };
    }
  }

  /** Reads what is new since the mark, or all there is: rotated files from the oldest on, then the current one. */
  async #read(followed: Followed, now: number, anew: () => Followed): Promise<Followed> {
    const current = await ifThere(open(this.#path, "r"));
    try {
      const ino = current === undefined ? undefined : (await current.stat()).ino;
      const files: Files = { rotated: await rotatedLogs(this.#path, ino), current, ino };
      if (current === undefined && files.rotated.length === 0)
        throw Object.assign(new Error("no log"), { code: "ENOENT" });
      const last = this.#mark;
      if (last !== undefined && (await placeOf(last, files)) === undefined)
        this.#lost = lossOf(last, files, now) ?? this.#lost;
      const place = followed.mark === undefined ? undefined : await placeOf(followed.mark, files);
      const read =
        place === undefined
          ? await readAll(followed.mark === undefined ? followed : anew(), files)
          : await readAll(followed, { ...files, rotated: files.rotated.slice(place) });
      this.#mark = read.mark;
      return read;
    } finally {
      await current?.close();
    }
  }
}

interface Files {
  readonly rotated: readonly LogFile[];
  readonly current: FileHandle | undefined;
  readonly ino: number | undefined;
}

/** What was read up to the mark is not there any more. That is no loss where the file was compressed meanwhile. */
function lossOf(mark: Mark, { rotated, ino }: Files, now: number): Loss | undefined {
  if (mark.ino === ino || rotated.some((one) => one.ino === mark.ino))
    return { until: now, why: "the log was truncated or overwritten since it was last read: lines may be lost" };
  if (rotated.some((one) => one.gzip)) return undefined;
  return { until: now, why: "the file that was read last is gone: lines at its end may be lost" };
}

/** How many rotated files lie before the one with the mark; undefined where it is not there as it was. */
async function placeOf(mark: Mark, { rotated, current }: Files): Promise<number | undefined> {
  const index = rotated.findIndex((one) => one.ino === mark.ino && !one.gzip);
  const holds =
    index < 0
      ? current !== undefined && (await stillHolds(current, mark))
      : await withFile(rotated[index]!.path, (file) => stillHolds(file, mark));
  return holds ? (index < 0 ? rotated.length : index) : undefined;
}

/** The first of the files may have been read up to the mark already. */
async function readAll({ fold, mark: from }: Followed, { rotated, current, ino }: Files): Promise<Followed> {
  let mark = from;
  const onLine = (line: Buffer | undefined) => fold.line(line);
  const read = async (file: FileHandle, inode: number) => {
    const offset = await readForward(file, from?.ino === inode ? from.offset : 0, onLine);
    mark = await markAt(file, inode, offset);
  };
  for (const { path, gzip, ino: inode } of rotated)
    if (gzip) await readGzip(path, onLine);
    else await withFile(path, (file) => read(file, inode));
  if (current !== undefined && ino !== undefined) await read(current, ino);
  return { fold, mark };
}

/** Our own probe's event. One that was accepted, by a certificate that is named: else nothing shows that uses are recorded. */
async function findProbe(path: string, tag: string): Promise<AuditEvent | undefined> {
  let found: AuditEvent | undefined;
  const onLine = (bytes: Buffer | undefined) => {
    if (bytes?.includes(tag) !== true) return;
    const line = readAuditLine(bytes.toString("utf8"));
    if (line.is !== "event" || line.event.userAgent !== `gyre-probe/${tag}`) return;
    const { stage, fingerprint, status } = line.event;
    if (stage === "ResponseComplete" && fingerprint !== "" && status !== undefined && status < 400) found = line.event;
  };
  const readEnd = async (file: FileHandle) => {
    const { size, ino } = await file.stat();
    await readForward(file, Math.max(0, size - aliveWithin), onLine);
    return { size, ino };
  };
  try {
    const current = await ifThere(withFile(path, readEnd));
    if (found !== undefined || (current?.size ?? 0) >= aliveWithin) return found;
    // It may have been rotated right behind our probe.
    const last = (await rotatedLogs(path, current?.ino)).findLast((one) => !one.gzip);
    if (last !== undefined) await withFile(last.path, readEnd);
  } catch {
    return undefined; // replaced while being read: not seen, yet
  }
  return found;
}

/**
 * The kernel gives its own start in whole seconds, and a process's start is counted from there. No API server answers
 * within its first second, so what began by then is of the one before.
 */
const startSlack = 1000;

/** When the API server was started, by its clock; undefined where it cannot be asked, which leaves what is open open. */
async function processStart(
  settings: AuditLogSettings,
  cluster: ClusterByName | undefined,
): Promise<number | undefined> {
  try {
    const dial = await cluster?.(settings.cluster).dialMember(settings.member);
    if (dial === undefined) return undefined;
    const { status, body } = await send(dial, { method: "GET", path: "/metrics", accept: "text/plain" });
    const seconds = /^process_start_time_seconds ([\d.e+]+)$/m.exec(status === 200 ? String(body) : "")?.[1];
    return seconds === undefined ? undefined : Math.floor(Number(seconds) * 1000) + startSlack;
  } catch {
    return undefined;
  }
}
