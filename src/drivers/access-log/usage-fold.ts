import type { Named, Usage } from "../roles.ts";
import { comparableName } from "../tls/comparable-name.ts";
import { type LogServer, plainSerial, readLine, type Use } from "./log-line.ts";

/** Lines of several workers are a little out of order; more than this means that the clock was set back. Milliseconds. */
const disorder = 60_000;
/** Addresses named in a usage. */
const mostFrom = 20;

export interface FoldQuestion {
  readonly of: Named;
  /** Milliseconds by our clock. */
  readonly since: number;
  /** The tag our own probes begin with; undefined: whatever Gyre sent them. */
  readonly ours: string | undefined;
  /** Server clock minus ours. */
  readonly clock: number;
  readonly now: number;
}

/** Adds up the uses of one certificate, and what cannot be vouched for. Times are ours: the server's minus `clock`. */
export class UsageFold {
  readonly #server: LogServer;
  readonly #question: FoldQuestion;
  readonly #serial: string;
  readonly #issuer: string;
  readonly #names = new Map<string, string>();
  readonly #from = new Set<string>();
  #count = 0;
  #ours = 0;
  #succeeded = 0;
  #last: number | undefined;
  #gap: { until: number; why: string } | undefined;
  /** Time of the line behind the one being read, in the order of writing. */
  #next: number | undefined;
  /** Time of the line before, where a file is read forwards. */
  #previous: number | undefined;
  #oldest = Number.POSITIVE_INFINITY;

  constructor(server: LogServer, question: FoldQuestion) {
    this.#server = server;
    this.#question = question;
    this.#serial = plainSerial(question.of.serial);
    this.#issuer = comparableName(question.of.issuer);
  }

  /** The earliest time seen. */
  get oldest(): number {
    return this.#oldest;
  }

  /** A line written before the ones seen so far. */
  older(text: string): void {
    const line = this.#read(text);
    if (line === "unreadable" || line === undefined) return;
    if (this.#next !== undefined && line.ended && line.time > this.#next + disorder)
      this.#setBack(line.time, this.#next);
    this.#next = line.time;
  }

  /** A line written after the last one given to this method. */
  newer(text: string): void {
    const line = this.#read(text);
    if (line === "unreadable" || line === undefined) return;
    if (this.#previous !== undefined && line.ended && this.#previous > line.time + disorder)
      this.#setBack(this.#previous, line.time);
    this.#previous = line.time;
  }

  /** An older file follows, read in whichever direction. */
  nextFile(): void {
    this.#previous = undefined;
  }

  /** There is nothing older: what was before the first line is not known. */
  beginning(): void {
    const first = Math.min(this.#oldest, this.#question.now);
    this.gap(first, "the log does not reach back that far, and no rotated file before it was found");
  }

  /** Nothing is vouched for up to `until`, our clock. The latest gap is the one reported. */
  gap(until: number, why: string): void {
    const end = Math.min(until, this.#question.now);
    if (end < this.#question.since || (this.#gap !== undefined && this.#gap.until >= end)) return;
    this.#gap = { until: end, why };
  }

  usage(): Usage {
    return {
      ...{ count: this.#count, succeeded: this.#succeeded, from: [...this.#from].slice(0, mostFrom) },
      ...(this.#question.ours === undefined ? { ours: this.#ours } : {}),
      ...(this.#last === undefined ? {} : { last: this.#last }),
      ...(this.#gap === undefined ? {} : { gap: this.#gap.why, gapUntil: this.#gap.until }),
    };
  }

  #read(text: string): { time: number; ended: boolean } | "unreadable" | undefined {
    const line = readLine(this.#server, text);
    if (line.is === "other") return undefined;
    if (line.is === "unreadable") {
      // It was written before the line behind it; where there is none, up to now.
      this.gap(this.#next ?? this.#question.now, `${line.why}: a use may be hidden in it`);
      return "unreadable";
    }
    const time = line.use.time - this.#question.clock;
    this.#oldest = Math.min(this.#oldest, time);
    if (time >= this.#question.since && this.#isUse(line.use)) {
      if (this.#isOurs(line.use)) this.#ours++;
      else this.#add(line.use, time);
    }
    return { time, ended: line.use.ended };
  }

  #setBack(from: number, to: number): void {
    const seconds = Math.round((from - to) / 1000);
    this.gap(from, `the server's clock was set back by ${seconds} s, so that times before are not comparable`);
  }

  /**
   * Every request over a connection that the certificate opened is a use, whatever the application answered: a consumer
   * that gets 404 or 503 has still authenticated with it, and would stand outside without it.
   */
  #isUse(use: Use): boolean {
    if (!use.verified || use.serial === "" || use.serial !== this.#serial) return false;
    return this.#comparable(use.issuer) === this.#issuer;
  }

  #isOurs({ userAgent }: Use): boolean {
    const { ours } = this.#question;
    if (ours === undefined) return userAgent.startsWith("gyre-probe/");
    return userAgent === `gyre-probe/${ours}` || userAgent.startsWith(`gyre-probe/${ours}.`);
  }

  #comparable(issuer: string): string {
    let name = this.#names.get(issuer);
    if (name === undefined) {
      if (this.#names.size > 1000) this.#names.clear();
      name = comparableName(issuer);
      this.#names.set(issuer, name);
    }
    return name;
  }

  #add(use: Use, time: number): void {
    this.#count++;
    if (use.status < 400) this.#succeeded++;
    this.#last = Math.max(this.#last ?? time, time);
    if (this.#from.size < mostFrom && use.from !== "") this.#from.add(use.from);
  }
}
