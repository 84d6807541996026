import { hash } from "node:crypto";
import type {
  CredentialHandle,
  Issued,
  IssueOrder,
  Issuer,
  Material,
  Member,
  Named,
  ProbeResult,
  Sensor,
  Step,
  Stored,
  Target,
  TrustStore,
  Usage,
  Verifier,
} from "../../src/drivers/roles.ts";
import { digestOf } from "../../src/engine/digest.ts";
import type { Event } from "../../src/engine/events.ts";
import type { Plan, Timing } from "../../src/engine/model.ts";
import { makePlan, type PlanInput } from "../../src/engine/plan.ts";
import { GyreError } from "../../src/errors.ts";
import type { Entry, EvidenceStore, Journal } from "../../src/journal/journal.ts";
import type { SecretStore } from "../../src/journal/secret-store.ts";
import { parseCertificate, parseCertificates } from "../../src/pki/certificate.ts";
import { parseCrl, signCrl } from "../../src/pki/crl.ts";
import { parseCsr } from "../../src/pki/csr.ts";
import { type CertificateAuthority, prepareAuthority, signCertificate, signSelfSigned } from "../../src/pki/issue.ts";
import { generateKey } from "../../src/pki/keys.ts";
import type { Secret } from "../../src/pki/secret.ts";
import type { Outcome, Progress } from "../../src/runtime/api.ts";
import { adoptFound, versionsOf } from "../../src/runtime/found.ts";
import { type Bound, type Parties, partiesOf, partyOf } from "../../src/runtime/parties.ts";
import type { Ports } from "../../src/runtime/ports.ts";
import { Runner, readLineage } from "../../src/runtime/runner.ts";

/**
 * A whole estate in memory with a clock of its own, so that thousands of interleavings run in seconds. It stands in
 * for nothing that a real peer proves (that is test/peers); it is the ground truth the core is held against: what each
 * server really loaded is known here, and the runtime sees it through the driver roles only.
 */

const start = Date.UTC(2026, 0, 5, 12);
const hour = 3600_000;

/** What can go wrong, decided before the run. Times are milliseconds after the start. */
export interface Faults {
  /** Replicas (0..2) that ignore reloads until that time. */
  readonly ignoresReload?: Readonly<Record<number, number>>;
  /** Verifiers that do not answer in [from, to). */
  readonly down?: Readonly<Record<number, readonly [number, number]>>;
  /** A consumer that goes on using the old credential until that time. */
  readonly oldUserUntil?: number;
  /** The sensor records nothing in [from, to). */
  readonly sensorGap?: readonly [number, number];
  /** A replica that joins at that time, with whatever the target holds then. */
  readonly joinsAt?: number;
  /** Stop (throw Crash) just before or after the n-th boundary, an append or an effect. */
  readonly crashAt?: { readonly boundary: number; readonly when: "before" | "after" };
  /** The n-th effect takes place and then answers with a time-out. */
  readonly timesOutAt?: number;
  /** The issuer gives half the lifetime asked for. */
  readonly shortLife?: boolean;
  /** Somebody else writes the target right before its delivery. */
  readonly foreignWrite?: boolean;
}

export class Crash extends Error {}

interface Replica {
  readonly id: string;
  /** The credential it presents. */
  certificate: string;
  key: string;
  /** Serials (replace) or fingerprints that it refuses or lists. */
  revoked: ReadonlySet<string>;
  pins: ReadonlySet<string>;
}

export class World {
  now = start;
  readonly faults: Faults;
  readonly strategy: "replace" | "overlap";
  readonly ca: CertificateAuthority;
  readonly journalEntries: Entry<Event>[] = [];
  readonly blobs = new Map<string, Buffer>();
  readonly secrets = new Map<string, Secret>();
  readonly issued: { op: string; pem: string; revoked: boolean }[] = [];
  stored: { certificate: string; chain: string; key: Secret } | undefined;
  previous: World["stored"];
  storeOp: string | undefined;
  trust = "";
  replicas: Replica[] = [];
  uses: { at: number; serial: string; tag?: string; verifier: string }[] = [];
  boundary = 0;
  effects = 0;
  crashed = false;
  readonly violations: string[] = [];
  /** Every operation on the outside, in order: what I7 and I11 are judged by. */
  readonly acts: string[] = [];

  constructor(strategy: "replace" | "overlap", ca: CertificateAuthority, faults: Faults) {
    this.strategy = strategy;
    this.ca = ca;
    this.faults = faults;
  }

  since(): number {
    return this.now - start;
  }

  /** Before and after every append and every effect: here the process may die. */
  async bounded<T>(name: string, work: () => Promise<T>): Promise<T> {
    const at = this.faults.crashAt;
    const here = this.boundary++;
    if (!this.crashed && at?.boundary === here && at.when === "before") this.die();
    const result = await work();
    if (!this.crashed && at?.boundary === here && at.when === "after") this.die();
    if (name !== "append" && this.effects++ === this.faults.timesOutAt) {
      throw new GyreError({ code: "unreachable", message: `${name}: no answer within its time`, retry: "read back" });
    }
    return result;
  }

  private die(): never {
    this.crashed = true;
    throw new Crash("killed");
  }

  /** What a verifier really does with a certificate now, whoever asks. */
  judge(
    replica: Replica,
    certificate: { fingerprint: string; serial: string; notAfter: number },
  ): "accepted" | "revoked" | "expired" {
    if (certificate.notAfter <= this.now) return "expired";
    if (this.strategy === "overlap") return replica.pins.has(certificate.fingerprint) ? "accepted" : "revoked";
    return replica.revoked.has(certificate.serial) ? "revoked" : "accepted";
  }

  isDown(index: number): boolean {
    const span = this.faults.down?.[index];
    return span !== undefined && this.since() >= span[0] && this.since() < span[1];
  }

  reloadAll(): void {
    this.replicas.forEach((replica, index) => {
      if (this.since() < (this.faults.ignoresReload?.[index] ?? 0)) return;
      this.load(replica);
    });
  }

  load(replica: Replica): void {
    if (this.stored !== undefined) {
      replica.certificate = this.stored.certificate;
      replica.key = "loaded";
    }
    if (this.strategy === "overlap")
      replica.pins = new Set(this.trust === "" ? [] : parseCertificates(this.trust).map((one) => one.fingerprint));
    else replica.revoked = new Set(this.trust === "" ? [] : [...parseCrl(this.trust).entries.keys()]);
  }

  /** Time passes: late replicas come to their senses, consumers use what they hold. */
  advance(ms: number): void {
    const until = this.now + ms;
    for (const [index, at] of Object.entries(this.faults.ignoresReload ?? {})) {
      const replica = this.replicas[Number(index)];
      if (replica !== undefined && start + at > this.now && start + at <= until) this.load(replica);
    }
    if (this.faults.joinsAt !== undefined && this.replicas.length === 3 && start + this.faults.joinsAt <= until)
      this.join("replica-3");
    if (this.faults.oldUserUntil !== undefined) {
      const [first] = this.blobs.size > 0 ? [this.firstSerial] : [];
      for (let at = this.now; at < Math.min(until, start + this.faults.oldUserUntil); at += 1000) {
        if (first !== undefined) this.record(at, first, undefined, "replica-0");
      }
    }
    this.now = until;
  }
  firstSerial: string | undefined;

  record(at: number, serial: string, tag: string | undefined, verifier: string): void {
    const gap = this.faults.sensorGap;
    if (gap !== undefined && at - start >= gap[0] && at - start < gap[1]) return;
    this.uses.push({ at, serial, verifier, ...(tag === undefined ? {} : { tag }) });
  }

  join(id: string): void {
    const replica: Replica = { id, certificate: "", key: "", revoked: new Set(), pins: new Set() };
    this.replicas.push(replica);
    this.load(replica);
  }

  // ---- the world as drivers ------------------------------------------------------------------------------------------

  issuer(): Issuer {
    const sign = (order: IssueOrder): string => {
      const csr = parseCsr(order.csr);
      const life = this.faults.shortLife === true && this.issued.length > 0 ? order.lifetime / 2 : order.lifetime;
      return signCertificate(this.ca, {
        spkiDer: csr.spkiDer,
        subject: order.subject,
        names: order.names,
        usages: order.usages,
        notBefore: this.now - hour,
        notAfter: this.now + life,
      }).pem;
    };
    const asIssued = (pem: string): Issued => ({ certificate: pem, chain: "", roots: this.ca.certificate.pem });
    return {
      can: { findAfterCrash: true, revoke: true },
      issue: (order, step) =>
        this.bounded("issue", async () => {
          const pem = sign(order);
          this.issued.push({ op: step.op, pem, revoked: false });
          this.acts.push("issue");
          return asIssued(pem);
        }),
      find: async (op) => {
        const found = this.issued.find((one) => one.op === op);
        return found === undefined ? undefined : asIssued(found.pem);
      },
      retire: (generation) =>
        this.bounded("retire", async () => {
          for (const one of this.issued)
            if (parseCertificate(one.pem).fingerprint === generation.fingerprint) one.revoked = true;
          this.acts.push("retire");
        }),
      publishCrl: async () => this.crl(),
    };
  }

  crl(): string {
    const entries = this.issued
      .filter((one) => one.revoked)
      .map((one) => ({ serial: parseCertificate(one.pem).serial, revocationDate: this.now }));
    return signCrl(this.ca, {
      number: this.acts.length + 1,
      thisUpdate: this.now - hour,
      nextUpdate: this.now + 24 * hour,
      entries,
    }).pem;
  }

  target(): Target {
    const read = async (): Promise<Stored> => {
      if (this.stored === undefined) return { version: "absent", certificate: "" };
      const { certificate, key } = this.stored;
      return {
        version: hash("sha256", certificate),
        certificate,
        privateKey: key,
        ...(this.storeOp === undefined ? {} : { op: this.storeOp }),
      };
    };
    return {
      can: { reload: "command", restore: true, findAfterCrash: true, conditionalWrite: true },
      place: "/etc/shop.pem",
      read,
      deliver: (material: Material, expected, step: Step) =>
        this.bounded("deliver", async () => {
          if (this.faults.foreignWrite === true && this.stored !== undefined)
            this.stored = { ...this.stored, certificate: this.ca.certificate.pem };
          if ((await read()).version !== expected)
            throw new GyreError({ code: "conflict", message: "changed under us; nothing written" });
          this.previous = this.stored;
          this.stored = { certificate: material.certificate, chain: material.chain, key: material.privateKey! };
          this.storeOp = step.op;
          this.acts.push("deliver");
          return read();
        }),
      restore: () =>
        this.bounded("restore", async () => {
          this.stored = this.previous;
          this.acts.push("restore");
          return read();
        }),
      reload: () =>
        this.bounded("reload", async () => {
          this.reloadAll();
          this.check("reload");
          return "reloaded";
        }),
      forget: () =>
        this.bounded("forget", async () => {
          this.previous = undefined;
        }),
    };
  }

  trustStore(): TrustStore {
    return {
      can: { reload: "command", conditionalWrite: true },
      place: "/etc/trust.pem",
      holds: this.strategy === "overlap" ? "certificates" : "crls",
      read: async () => ({ version: hash("sha256", this.trust), pem: this.trust }),
      put: (pem, expected) =>
        this.bounded("put", async () => {
          if (hash("sha256", this.trust) !== expected)
            throw new GyreError({ code: "conflict", message: "changed under us" });
          this.trust = pem;
          this.acts.push("put");
          return { version: hash("sha256", pem) };
        }),
      reload: () =>
        this.bounded("reload", async () => {
          this.reloadAll();
          this.check("reload of trust");
          return "reloaded";
        }),
    };
  }

  members(): Member[] {
    return this.replicas.map(({ id }) => ({ id, address: id }));
  }
  find(member: Member): { replica: Replica; index: number } {
    const index = this.replicas.findIndex((replica) => replica.id === member.id);
    return { replica: this.replicas[index]!, index };
  }

  presenter() {
    return {
      can: { reload: "command" as const },
      members: async () => this.members(),
      probe: async (member: Member): Promise<ProbeResult> => {
        const { replica, index } = this.find(member);
        if (this.isDown(index)) return { saw: "unknown", why: "connection refused" };
        return { saw: "presented", chain: [parseCertificate(replica.certificate).fingerprint] };
      },
    };
  }

  verifier(): Verifier {
    return {
      can: { canRefuse: true },
      members: async () => this.members(),
      probe: async (member: Member, credential: CredentialHandle, step: Step): Promise<ProbeResult> => {
        const { replica, index } = this.find(member);
        if (this.isDown(index)) return { saw: "unknown", why: "connection refused" };
        const verdict = this.judge(replica, credential);
        if (verdict !== "accepted") return { saw: "refused", code: verdict };
        this.record(this.now, credential.serial, step.tag, replica.id);
        return { saw: "accepted", as: credential.serial };
      },
    };
  }

  sensor(): Sensor {
    return {
      can: { seesUse: true },
      place: "access.log",
      member: "replica-0",
      alive: async (tag) => this.uses.some((use) => use.tag === tag),
      usage: async (of: Named, since, ours): Promise<Usage> => {
        const gap = this.faults.sensorGap;
        const uses = this.uses.filter(
          (use) => use.serial === of.serial && use.at >= since && !(use.tag?.startsWith(`${ours}.`) ?? false),
        );
        const last = uses.at(-1)?.at;
        const touched = gap !== undefined && this.since() >= gap[0] && start + gap[1] > since;
        return {
          count: uses.length,
          from: ["10.9.9.9"],
          ...(last === undefined ? {} : { last }),
          ...(touched ? { gap: "log was not written", gapUntil: Math.min(this.now, start + gap[1]) } : {}),
        };
      },
    };
  }

  parties(): Parties {
    const bound = <T>(id: string, instance: T): Bound<T> => ({ id, driver: "world", instance });
    return {
      issuer: bound("ca", this.issuer()),
      targets: [bound("/etc/shop.pem", this.target())],
      trustStores: [bound("/etc/trust.pem", this.trustStore())],
      presenters: [bound("servers", this.presenter())],
      verifiers: [bound("verifiers", this.verifier())],
      sensors: [bound("access.log", this.sensor())],
    };
  }

  // ---- ground truth --------------------------------------------------------------------------------------------------

  /** I1: every verifier accepts the credential that is stored for consumers, or the one that is in place everywhere. */
  check(when: string): void {
    if (this.stored === undefined) return;
    const leaf = parseCertificate(this.stored.certificate);
    const held = [leaf, ...(this.previous === undefined ? [] : [parseCertificate(this.previous.certificate)])];
    for (const replica of this.replicas) {
      if (!held.some((one) => this.judge(replica, one) === "accepted"))
        this.violations.push(`I1 after ${when}: ${replica.id} accepts nothing that is in use`);
    }
  }

  /** Which replicas really present the certificate, and which verifiers really accept it. */
  truth(certificate: { fingerprint: string; serial: string; notAfter: number }): {
    presents: string[];
    accepts: string[];
  } {
    return {
      presents: this.replicas
        .filter((one) => parseCertificate(one.certificate).fingerprint === certificate.fingerprint)
        .map(({ id }) => id),
      accepts: this.replicas.filter((one) => this.judge(one, certificate) === "accepted").map(({ id }) => id),
    };
  }

  ports(): Ports {
    const journal: Journal<Event> = {
      read: async () => [...this.journalEntries],
      head: async () => ({ seq: this.journalEntries.length, hash: "" }),
      append: (expected, at, events) =>
        this.bounded("append", async () => {
          if (expected !== this.journalEntries.length)
            throw new GyreError({ code: "conflict", message: `sequence ${expected} is stale` });
          const entries = events.map((event, index) => ({
            seq: expected + index + 1,
            at,
            event: JSON.parse(JSON.stringify(event)) as Event,
          }));
          this.journalEntries.push(...entries);
          return entries;
        }),
    };
    const evidence: EvidenceStore = {
      put: async (content) => {
        const digest = `sha256:${hash("sha256", content)}` as const;
        this.blobs.set(digest, Buffer.from(content));
        return digest;
      },
      get: async (digest) => this.blobs.get(digest)!,
    };
    const secrets: SecretStore = {
      put: async (name, secret) => {
        this.secrets.set(name, secret);
        return "sha256:";
      },
      get: async (name) => this.secrets.get(name),
      delete: async (name) => void this.secrets.delete(name),
      list: async () => [...this.secrets.keys()],
    };
    const clock = { now: () => this.now, sleep: async (ms: number) => this.advance(ms) };
    return { journal, evidence, secrets, clock, parties: this.parties(), stillOurs: async () => undefined };
  }
}

export const timing: Timing = { patience: 5_000, poll: 1_000, freshness: 600_000, skew: 600_000, attempts: 3 };

let sharedCa: Promise<CertificateAuthority> | undefined;
async function makeCa(): Promise<CertificateAuthority> {
  const key = await generateKey("P-256");
  return prepareAuthority(
    signSelfSigned(key, {
      subject: "CN=world",
      isCa: true,
      notBefore: start - 1000 * hour,
      notAfter: start + 100_000 * hour,
    }),
    key,
  );
}

/** A world with g1 in place everywhere, by a first rotation of the runtime's own. Faults begin after it. */
export async function worldWithFirst(strategy: "replace" | "overlap", faults: Faults): Promise<World> {
  sharedCa ??= makeCa();
  const calm = new World(strategy, await sharedCa, {});
  for (const id of ["replica-0", "replica-1", "replica-2"])
    calm.replicas.push({ id, certificate: "", key: "", revoked: new Set(), pins: new Set() });
  const first = await rotate(calm, {});
  if (first.result !== "closed") throw new Error(`the world did not start: ${JSON.stringify(first)}`);
  const world = new World(strategy, await sharedCa, faults);
  Object.assign(world, { replicas: calm.replicas, stored: calm.stored, trust: calm.trust, uses: [], now: start });
  world.journalEntries.push(...calm.journalEntries);
  for (const [name, blob] of calm.blobs) world.blobs.set(name, blob);
  for (const [name, secret] of calm.secrets) world.secrets.set(name, secret);
  world.issued.push(...calm.issued);
  world.firstSerial = parseCertificate(world.stored!.certificate).serial;
  return world;
}

export interface Run {
  readonly waitUpTo?: number;
  readonly onProgress?: (progress: Progress) => void;
  readonly wrap?: (ports: Ports) => Ports;
  readonly change?: (input: PlanInput) => PlanInput;
}

export type WorldOutcome =
  | Exclude<Outcome, { result: "closed" | "nothing due" }>
  | { readonly result: "closed"; readonly grade: string };

/** What `gyre rotate` does, on the world. */
export async function rotate(world: World, run: Run): Promise<WorldOutcome> {
  const ports = run.wrap?.(world.ports()) ?? world.ports();
  const lineage = await readLineage(ports);
  const runner = new Runner(ports, lineage, {
    runner: "test",
    waitUpTo: run.waitUpTo ?? 3600_000,
    signal: new AbortController().signal,
    onProgress: run.onProgress ?? (() => undefined),
  });
  if (lineage.active === undefined) {
    await adoptFound(runner, ports, { name: "shop", kind: "certificate" });
    const plan = await planOf(
      world,
      ports.parties,
      lineage.current === undefined ? undefined : lineage.generations.get(lineage.current),
      Math.max(0, ...lineage.generations.keys()) + 1,
      run.change,
    );
    await runner.append({
      type: "RotationPlanned",
      rotation: `shop/${lineage.rotations.length + 1}`,
      plan,
      digest: digestOf(plan),
    });
  }
  const ended = await runner.run();
  if (ended.result !== "closing") return ended;
  if (ended.rotation.end?.how !== "closed") throw new Error("closing without an end");
  return { result: "closed", grade: ended.rotation.end.grade };
}

async function planOf(
  world: World,
  parties: Parties,
  from: Plan["from"],
  to: number,
  change: Run["change"],
): Promise<Plan> {
  const input: PlanInput = {
    credential: "shop",
    kind: "certificate",
    reason: "test",
    request: {
      kind: "certificate",
      subject: "CN=shop",
      names: ["DNS:shop.example"],
      usages: ["server", "client"],
      algorithm: "P-256",
      lifetime: 240 * hour,
    },
    issuer: partyOf(parties.issuer),
    targets: await versionsOf(parties),
    trustStores: partiesOf(parties.trustStores),
    pinned: world.strategy === "overlap",
    presenters: partiesOf(parties.presenters),
    verifiers: partiesOf(parties.verifiers),
    sensors: partiesOf(parties.sensors),
    ...(from === undefined ? {} : { from }),
    to,
    quiet: { window: 10_000 },
    timing,
  };
  return makePlan(change?.(input) ?? input, world.now);
}
