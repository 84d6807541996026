import type { Usage } from "../roles.ts";
import { type AuditEvent, readAuditLine, timeOf, wordsOfUser } from "./audit-line.ts";

/** Requests that end at once are written a little out of order; more than this means that the clock was set back. Milliseconds. */
const disorder = 60_000;
/** Users named in a usage. */
const mostFrom = 20;
/** A webhook's batch that was answered but not heard comes twice; so many requests are remembered for it. */
const remembered = 10_000;
/** Watches of everybody that are open at once: more than any API server has. */
const mostWatches = 500_000;
/** What the server needs to end a watch whose time is over. Milliseconds. */
const slack = 60_000;

interface Open {
  /** When it was seen to begin, server's clock. */
  readonly began: number;
  /** When the server will have ended it, where it is known to. */
  readonly until: number | undefined;
  readonly words: string;
}

/**
 * Adds up the uses of one certificate in an API server's audit log, read from its oldest line on and then further at
 * each look. All times are the server's.
 *
 * A request is used twice over: when it began and until it ended. One that has not ended (a watch, an exec) is a use
 * that goes on, whenever it began; it is over when its end is written, when the time that the client asked for is over,
 * or when the API server was started after it began.
 */
export class AuditFold {
  readonly #fingerprint: string;
  /** The tag our own probes begin with; undefined: whatever Gyre sent them. */
  readonly #ours: string | undefined;
  /** Probes left out. */
  readonly #probes = new Set<string>();
  /** Counts from here on; the lines before are searched for what is still open. */
  #since: number;
  #floor: number;
  #first = Number.POSITIVE_INFINITY;
  #last = Number.NEGATIVE_INFINITY;
  #count = 0;
  #succeeded = 0;
  readonly #from = new Set<string>();
  readonly #open = new Map<string, Open>();
  readonly #ended = new Set<string>();
  readonly #watches = new Set<string>();
  /** Watches that ended and were not seen to begin, and when they ended. */
  readonly #unbegun = new Map<string, number>();
  /** Time of the first line of all, and of the one before. */
  #begins: number | undefined;
  #previous: number | undefined;
  #gap: { readonly until: number; readonly why: string } | undefined;
  /** A line that could not be read: it was written before the next one that can. */
  #unreadable: string | undefined;

  constructor(fingerprint: string, ours: string | undefined, since: number, lookBehind: number) {
    // Asked of nobody (by doctor, for the gap alone): requests without a certificate have no fingerprint either.
    this.#fingerprint = fingerprint.toLowerCase() || "nobody";
    this.#ours = ours;
    this.#since = since;
    this.#floor = since - lookBehind;
  }

  /** Whether a later question can be answered from what was read; what came before it is forgotten then. */
  canAnswer(since: number): boolean {
    if (since < this.#since || (this.#ours === undefined && since !== this.#since)) return false;
    const none = this.#count === 0 || since > this.#last;
    if (!none && since > this.#first) return false;
    if (none) {
      this.#count = 0;
      this.#succeeded = 0;
      this.#first = Number.POSITIVE_INFINITY;
      this.#last = Number.NEGATIVE_INFINITY;
      this.#from.clear();
    }
    this.#since = since;
    return true;
  }

  get hasOpen(): boolean {
    return this.#open.size > 0;
  }

  /** The next line; undefined: one that is too long to be an event. */
  line(bytes: Buffer | undefined): void {
    if (bytes === undefined) {
      this.#unreadable = "a line is longer than 32 MiB";
      return;
    }
    // Long before the window only our certificate matters, and reading nothing else there makes it ten times as quick.
    const early = this.#earlyTime(bytes);
    if (early !== undefined) {
      this.#at(early);
      return;
    }
    const line = readAuditLine(bytes.toString("utf8"));
    if (line.is === "blank") return;
    if (line.is === "unreadable") this.#unreadable = line.why;
    else this.#event(line.event);
  }

  #earlyTime(bytes: Buffer): number | undefined {
    const field = '"stageTimestamp":"';
    // The last: objects of users, which come before it, may have a field of this name.
    const at = bytes.lastIndexOf(field);
    if (at < 0) return undefined;
    const from = at + field.length;
    const time = timeOf(bytes.toString("latin1", from, bytes.indexOf(34, from)));
    return time !== undefined && time < this.#floor && !bytes.includes(this.#fingerprint) ? time : undefined;
  }

  #at(time: number): void {
    this.#begins ??= time;
    if (this.#unreadable !== undefined) this.gap(time, `${this.#unreadable}: a use may be hidden in it`);
    this.#unreadable = undefined;
    const back = (this.#previous ?? time) - time;
    if (back > disorder)
      this.gap(
        this.#previous!,
        `the API server's clock was set back by ${Math.round(back / 1000)} s, so that times before are not comparable`,
      );
    this.#previous = time;
  }

  #event(event: AuditEvent): void {
    this.#at(event.time);
    this.#watched(event);
    // A request that nobody was authenticated for carries no user and is answered 401: every other one has one.
    if (event.user === "" && event.status !== 401)
      this.gap(event.time, "an event does not say who it was (the policy or a filter leaves the user out)");
    if (event.fingerprint !== this.#fingerprint) return;
    const { id } = event;
    if (this.#isOurs(event.userAgent)) {
      if (this.#ours === undefined && event.time >= this.#since) this.#probes.add(id);
      return;
    }
    if (event.stage === "ResponseComplete" || event.stage === "Panic") {
      this.#open.delete(id);
      if (this.#ended.has(id)) return;
      if (this.#ended.size >= remembered) this.#ended.clear();
      this.#ended.add(id);
      this.#add(event.time, event.status, wordsOfUser(event));
    } else if (!this.#open.has(id) && !this.#ended.has(id)) {
      const until = event.timeout === undefined ? undefined : event.received + event.timeout + slack;
      this.#open.set(id, { began: event.time, until, words: wordsOfUser(event) });
    }
  }

  /**
   * A policy that leaves ResponseStarted out hides open watches: the end of one whose beginning was not written shows it.
   * A webhook's batches may overtake each other, so the beginning is waited for a little.
   */
  #watched({ id, stage, verb, received, time }: AuditEvent): void {
    if (verb !== "watch" || this.#watches.size >= mostWatches) return;
    if (stage === "ResponseStarted" && !this.#unbegun.delete(id)) this.#watches.add(id);
    if (stage !== "ResponseComplete" || this.#watches.delete(id)) return;
    // Its beginning may lie in the part that was not read, or before the log began.
    if (received <= Math.max(this.#floor, (this.#begins ?? 0) + disorder)) return;
    this.#unbegun.set(id, time);
    if (this.#unbegun.size > remembered) this.#judgeUnbegun();
  }

  #judgeUnbegun(): void {
    for (const [id, ended] of this.#unbegun)
      if (this.#previous! - ended > disorder) {
        this.#unbegun.delete(id);
        this.gap(ended, "the policy leaves the stage ResponseStarted out, so that an open watch does not show");
      }
  }

  #isOurs(userAgent: string): boolean {
    if (this.#ours === undefined) return userAgent.startsWith("gyre-probe/");
    const mark = `gyre-probe/${this.#ours}`;
    return userAgent === mark || userAgent.startsWith(`${mark}.`);
  }

  #add(time: number, status: number | undefined, words: string): void {
    if (time < this.#since) return;
    this.#count++;
    if (status !== undefined && status < 400) this.#succeeded++;
    this.#first = Math.min(this.#first, time);
    this.#last = Math.max(this.#last, time);
    if (this.#from.size < mostFrom) this.#from.add(words);
  }

  /** Nothing is vouched for up to `until`. The latest gap is the one reported. */
  gap(until: number, why: string): void {
    if (this.#gap === undefined || until > this.#gap.until) this.#gap = { until, why };
  }

  /** What was open when the API server was started anew has ended then, although nobody wrote it. */
  startedAt(time: number): void {
    for (const [id, { began, words }] of this.#open)
      if (began < time) {
        this.#open.delete(id);
        this.#add(time, undefined, words);
      }
  }

  /** All of it up to `now`, in times of ours: `clock` is the server's minus ours. */
  usage(now: number, clock: number): Usage {
    for (const [id, { until, words }] of this.#open)
      if (until !== undefined && until < now) {
        this.#open.delete(id);
        this.#add(until, undefined, words);
      }
    const open = [...this.#open.values()];
    const from = new Set([...open.map(({ words }) => `${words} (still open)`), ...this.#from]);
    const last = open.length > 0 ? now : this.#last;
    const gap = this.#gapNow(now);
    return {
      count: this.#count + open.length,
      // It was answered, or it would not be open.
      succeeded: this.#succeeded + open.length,
      from: [...from].slice(0, mostFrom),
      ...(this.#ours === undefined ? { ours: this.#probes.size } : {}),
      ...(Number.isFinite(last) ? { last: last - clock } : {}),
      ...(gap === undefined ? {} : { gap: gap.why, gapUntil: Math.min(gap.until, now) - clock }),
    };
  }

  #gapNow(now: number): { readonly until: number; readonly why: string } | undefined {
    if (this.#unreadable !== undefined) return { until: now, why: `${this.#unreadable}: a use may be hidden in it` };
    this.#judgeUnbegun();
    const gap = this.#gap !== undefined && this.#gap.until >= this.#since ? this.#gap : undefined;
    const begins = this.#begins ?? now;
    if (begins <= this.#since || (gap !== undefined && gap.until >= begins)) return gap;
    return { until: begins, why: "the log does not reach back that far, and no rotated file before it was found" };
  }
}
