import type { Event } from "../../src/engine/events.ts";
import { GyreError } from "../../src/errors.ts";
import type { Entry } from "../../src/journal/journal.ts";
import { parseCertificate, parseCertificates } from "../../src/pki/certificate.ts";
import { parseCrl, signCrl } from "../../src/pki/crl.ts";
import type { CertificateAuthority } from "../../src/pki/issue.ts";
import type { Secret } from "../../src/pki/secret.ts";

/**
 * A whole estate in memory with a clock of its own, so that thousands of interleavings run in seconds. It stands in
 * for nothing that a real peer proves (that is test/peers); it is the ground truth the core is held against: what each
 * server really loaded is known here, and the runtime sees it through the driver roles only (world-drivers.ts).
 */

/** When every world begins. */
export const start = Date.UTC(2026, 0, 5, 12);
export const hour = 3600_000;

export type WorldStrategy = "replace" | "overlap";

/** From (included) and to (excluded), milliseconds after the start. */
export type Span = readonly [number, number];

/** What can go wrong, decided before the run. Times are milliseconds after the start. */
export interface Faults {
  /** Replicas (0..2) that ignore reloads until that time. */
  readonly ignoresReload?: Readonly<Record<number, number>>;
  /** Replicas that do not answer in that span. */
  readonly down?: Readonly<Record<number, Span>>;
  /** A verifier that refuses everybody in that span, as one whose CRL has expired. */
  readonly refusesEverybody?: { readonly replica: number; readonly span: Span };
  /** A replica that the n-th reload (counted from 0) kills until that time. */
  readonly diesAtReload?: { readonly replica: number; readonly reload: number; readonly until: number };
  /** A replica that is gone in `span`, misses what happens meanwhile, and loads what is stored only at `loadsAt`. */
  readonly away?: { readonly replica: number; readonly span: Span; readonly loadsAt: number };
  /** A consumer that goes on using the old credential, every second, in that span. */
  readonly oldUser?: { readonly at: number; readonly span: Span };
  /** Servers that go on honouring sessions of the old generation until that time. */
  readonly resumesUntil?: number;
  /** A sensor (0 or 1) that records nothing in that span, and says so when asked. */
  readonly sensorGap?: { readonly sensor: number; readonly span: Span };
  /** A sensor (0 or 1) that records nothing in that span, and does not know. */
  readonly blindSensor?: { readonly sensor: number; readonly span: Span };
  /** A replica that joins at that time, with whatever the target holds then. */
  readonly joinsAt?: number;
  /** The list of replicas cannot be had in that span. */
  readonly uncounted?: Span;
  /** Stop (throw Crash) just before or after the n-th boundary, an append or an effect; one after the other. */
  readonly crashes?: readonly CrashPoint[];
  /** These effects (counted from 0) take place and then answer with a time-out. */
  readonly timeOuts?: readonly number[];
  /** The issuer cannot be reached until that time. */
  readonly issuerAwayUntil?: number;
  /** The issuer gives half the lifetime asked for. */
  readonly shortLife?: boolean;
  /** The issuer cannot be asked after a crash. */
  readonly forgetfulIssuer?: boolean;
  /** Somebody else writes the target right before its delivery. */
  readonly foreignWrite?: boolean;
  /** Somebody puts the old material back at the target in that span, and undoes it at its end. */
  readonly overwritten?: Span;
  /** What each effect and each look takes, ms. */
  readonly latency?: number;
}

export interface CrashPoint {
  readonly boundary: number;
  readonly when: "before" | "after";
}

export class Crash extends Error {}

export interface Replica {
  readonly id: string;
  /** The credential it presents, PEM. */
  certificate: string;
  /** Serials that it refuses (replace). */
  revoked: ReadonlySet<string>;
  /** Fingerprints that it accepts (overlap). */
  pins: ReadonlySet<string>;
  /** Not in the inventory for the time being. */
  gone: boolean;
  /** Killed by a reload until then. */
  deadUntil: number;
}

export interface StoredUnit {
  readonly certificate: string;
  readonly chain: string;
  readonly key: Secret;
}

export interface Judged {
  readonly fingerprint: string;
  readonly serial: string;
  readonly notAfter: number;
}

/** An operation on the outside, in order: what I3, I7 and I11 are judged by. */
export interface Act {
  readonly what: string;
  readonly at: number;
  /** How many entries the journal had then. */
  readonly seq: number;
}

const parsed = new Map<string, ReturnType<typeof parseCertificate>>();
/** Each world reads the same few certificates thousands of times. */
export function leafOf(pem: string): ReturnType<typeof parseCertificate> {
  const known = parsed.get(pem) ?? parseCertificate(pem);
  if (parsed.size > 2000) parsed.clear();
  parsed.set(pem, known);
  return known;
}

export class World {
  now = start;
  readonly faults: Faults;
  readonly strategy: WorldStrategy;
  readonly ca: CertificateAuthority;
  readonly journalEntries: Entry<Event>[] = [];
  readonly blobs = new Map<string, Buffer>();
  readonly secrets = new Map<string, Secret>();
  issued: { op: string; pem: string; revoked: boolean }[] = [];
  stored: StoredUnit | undefined;
  previous: StoredUnit | undefined;
  storeOp: string | undefined;
  trust = "";
  replicas: Replica[] = [];
  /** What the sensors wrote down. */
  uses: { at: number; serial: string; tag?: string; member: string }[] = [];
  /** Every use of the old one by its consumer that succeeded, whether a sensor saw it or not. */
  readonly realUses: { at: number; member: string }[] = [];
  old: Judged | undefined;
  oldUnit: StoredUnit | undefined;
  /** Set while somebody's overwriting lasts: what was there before. */
  #overwritten: StoredUnit | undefined;
  boundary = 0;
  effects = 0;
  reloads = 0;
  crashes = 0;
  /** Called before each boundary: what other people do at that moment. */
  beforeBoundary: ((boundary: number) => void) | undefined;
  /** Called when something was done to the outside. */
  onAct: ((what: string) => void) | undefined;
  readonly violations: string[] = [];
  readonly acts: Act[] = [];
  /** Every key that was ever kept: what I12 searches for. */
  readonly everSecret = new Set<Secret>();

  constructor(strategy: WorldStrategy, ca: CertificateAuthority, faults: Faults) {
    this.strategy = strategy;
    this.ca = ca;
    this.faults = faults;
  }

  since(): number {
    return this.now - start;
  }
  within(span: Span | undefined): boolean {
    return span !== undefined && this.since() >= span[0] && this.since() < span[1];
  }

  act(what: string): void {
    this.onAct?.(what);
    this.acts.push({ what, at: this.now, seq: this.journalEntries.length });
  }

  /** Before and after every append, every key stored and every effect: here the process may die. */
  async bounded<T>(kind: "append" | "store" | "effect", work: () => Promise<T>): Promise<T> {
    const point = this.faults.crashes?.[this.crashes];
    const here = this.boundary++;
    this.beforeBoundary?.(here);
    if (point?.boundary === here && point.when === "before") this.#die();
    if (kind === "effect") this.advance(this.faults.latency ?? 0);
    const result = await work();
    if (point?.boundary === here && point.when === "after") this.#die();
    const nth = kind === "effect" ? this.effects++ : -1;
    if (this.faults.timeOuts?.includes(nth) === true)
      throw new GyreError({ code: "unreachable", message: "no answer within its time", retry: "read back" });
    return result;
  }

  #die(): never {
    this.crashes += 1;
    throw new Crash("killed");
  }

  /** What a verifier really does with a certificate now, whoever asks. */
  judge(replica: Replica, certificate: Judged): "accepted" | "revoked" | "expired" {
    if (certificate.notAfter <= this.now) return "expired";
    const deaf = this.faults.refusesEverybody;
    if (this.replicas[deaf?.replica ?? -1] === replica && this.within(deaf?.span)) return "revoked";
    if (this.strategy === "overlap") return replica.pins.has(certificate.fingerprint) ? "accepted" : "revoked";
    return replica.revoked.has(certificate.serial) ? "revoked" : "accepted";
  }

  isDown(replica: Replica): boolean {
    return this.within(this.faults.down?.[this.replicas.indexOf(replica)]) || this.now < replica.deadUntil;
  }

  reloadAll(): void {
    const killing = this.faults.diesAtReload;
    this.replicas.forEach((replica, index) => {
      if (killing?.replica === index && killing.reload === this.reloads) replica.deadUntil = start + killing.until;
      const deaf = this.since() < (this.faults.ignoresReload?.[index] ?? 0);
      if (!deaf && !replica.gone && !this.isDown(replica)) this.load(replica);
    });
    this.reloads += 1;
    this.#everybodyIsServed();
  }

  load(replica: Replica): void {
    if (this.stored !== undefined) replica.certificate = this.stored.certificate;
    if (this.strategy === "overlap")
      replica.pins = new Set(this.trust === "" ? [] : parseCertificates(this.trust).map((one) => one.fingerprint));
    else replica.revoked = new Set(this.trust === "" ? [] : [...parseCrl(this.trust).entries.keys()]);
  }

  /** Time passes: late replicas come to their senses, others join, leave and return, consumers use what they hold. */
  advance(ms: number): void {
    const from = this.now;
    const until = from + ms;
    const falls = (at: number | undefined): boolean => at !== undefined && start + at > from && start + at <= until;
    this.#useOld(from, until);
    this.now = until;
    const { ignoresReload, away, joinsAt, down, diesAtReload, overwritten } = this.faults;
    for (const [index, at] of Object.entries(ignoresReload ?? {}))
      if (falls(at)) this.load(this.replicas[Number(index)]!);
    // A server that was down or dead starts with what is stored.
    for (const [index, span] of Object.entries(down ?? {}))
      if (falls(span[1])) this.load(this.replicas[Number(index)]!);
    if (diesAtReload !== undefined && falls(diesAtReload.until)) this.load(this.replicas[diesAtReload.replica]!);
    if (away !== undefined) {
      const replica = this.replicas[away.replica]!;
      if (falls(away.span[0])) replica.gone = true;
      if (falls(away.span[1])) replica.gone = false;
      if (falls(away.loadsAt)) this.load(replica);
    }
    if (falls(joinsAt)) this.join("replica-3");
    if (overwritten !== undefined && falls(overwritten[0])) {
      this.#overwritten = this.stored;
      this.stored = this.oldUnit;
    }
    if (overwritten !== undefined && falls(overwritten[1])) {
      this.stored = this.#overwritten;
      for (const replica of this.replicas) this.load(replica);
    }
  }

  #useOld(from: number, until: number): void {
    const user = this.faults.oldUser;
    const server = this.replicas[user?.at ?? 0];
    if (user === undefined || server === undefined || this.old === undefined) return;
    // On whole seconds, so that it does not depend on how time is cut.
    for (let at = Math.ceil(from / 1000) * 1000; at < until; at += 1000) {
      if (at - start < user.span[0] || at - start >= user.span[1] || this.isDown(server)) continue;
      if (this.judge(server, this.old) !== "accepted") continue;
      this.realUses.push({ at, member: server.id });
      this.record(at, this.old.serial, undefined, server.id);
    }
  }

  record(at: number, serial: string, tag: string | undefined, member: string): void {
    for (const gap of [this.faults.sensorGap, this.faults.blindSensor]) {
      if (
        gap !== undefined &&
        member === `replica-${gap.sensor}` &&
        at - start >= gap.span[0] &&
        at - start < gap.span[1]
      )
        return;
    }
    // As access logs write it: in whole seconds.
    this.uses.push({ at: Math.floor(at / 1000) * 1000, serial, member, ...(tag === undefined ? {} : { tag }) });
  }

  join(id: string): void {
    const replica: Replica = { id, certificate: "", revoked: new Set(), pins: new Set(), gone: false, deadUntil: 0 };
    this.replicas.push(replica);
    this.load(replica);
  }

  /** A CRL of everything revoked so far; each call has a higher number. */
  crl(): string {
    const entries = this.issued
      .filter((one) => one.revoked)
      .map((one) => ({ serial: leafOf(one.pem).serial, revocationDate: this.now }));
    return signCrl(this.ca, {
      number: this.acts.length + 1,
      thisUpdate: this.now - hour,
      nextUpdate: this.now + 10_000 * hour,
      entries,
    }).pem;
  }

  // ---- ground truth --------------------------------------------------------------------------------------------------

  /** I1: every server that is there and answers accepts something consumers hold: what is stored, or what was stored before it. */
  #everybodyIsServed(): void {
    if (this.stored === undefined) return;
    const held = [this.stored, ...(this.previous === undefined ? [] : [this.previous])].map((unit) =>
      leafOf(unit.certificate),
    );
    for (const replica of this.replicas.filter((one) => !one.gone && !this.isDown(one)))
      if (!held.some((one) => this.judge(replica, one) === "accepted"))
        this.violations.push(`I1: ${replica.id} accepts nothing that is in use, ${this.since()} ms after the start`);
  }

  /** Which replicas really present the certificate, and which verifiers really accept it. */
  truth(certificate: Judged): { presents: string[]; accepts: string[] } {
    const there = this.replicas.filter((one) => !one.gone);
    return {
      presents: there
        .filter((one) => leafOf(one.certificate).fingerprint === certificate.fingerprint)
        .map(({ id }) => id),
      accepts: there.filter((one) => this.judge(one, certificate) === "accepted").map(({ id }) => id),
    };
  }

  /** The instant of the n-th entry of that type in the rotation under way or ended last. */
  entries<T extends Event["type"]>(type: T): (Entry<Event> & { event: Event & { type: T } })[] {
    return this.journalEntries.filter(
      (entry): entry is Entry<Event> & { event: Event & { type: T } } => entry.event.type === type,
    );
  }
}
