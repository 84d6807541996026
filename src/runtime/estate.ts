import { randomBytes } from "node:crypto";
import { join, resolve } from "node:path";
import { diskError } from "../disk/disk-error.ts";
import { makeDirectory } from "../disk/durable.ts";
import { canPutBack } from "../engine/decide.ts";
import { digestOf } from "../engine/digest.ts";
import { due as dueNow } from "../engine/due.ts";
import type { Event } from "../engine/events.ts";
import type { ClaimName, Digest, Generation } from "../engine/model.ts";
import { makePlan, stagesOf } from "../engine/plan.ts";
import type { Lineage, Rotation, Waiver } from "../engine/state.ts";
import { GyreError } from "../errors.ts";
import { openEvidence } from "../journal/evidence.ts";
import type { EvidenceStore } from "../journal/journal.ts";
import { openJournal } from "../journal/jsonl.ts";
import { acquireLock } from "../journal/lock.ts";
import type { SecretStore } from "../journal/secret-store.ts";
import { openSecrets } from "../journal/secrets.ts";
import { loadManifests } from "../manifest/load.ts";
import type { CredentialManifest, Manifests } from "../manifest/manifest.ts";
import { nearest } from "../manifest/nearest.ts";
import type { CredentialStatus, Estate, OpenEstate, Outcome, Planned, PlanOptions, RotateOptions } from "./api.ts";
import { bindParties, Issuers, type Purpose } from "./bind.ts";
import { type Clock, systemClock } from "./clock.ts";
import { diagnose } from "./doctor.ts";
import { adoptFound, type Found, findInPlace, storeVersionsOf, versionsOf, withFound } from "./found.ts";
import { type Parties, partiesOf, partyOf } from "./parties.ts";
import type { Ports } from "./ports.ts";
import { mustBePossible } from "./preflight.ts";
import { openReceipts, type Receipts } from "./receipts.ts";
import { Runner, readLineage } from "./runner.ts";
import { outstandingOf, timelineOf } from "./story.ts";
import { unnamedJournals } from "./unnamed.ts";
import { claimsToWaive, waiversToWithdraw } from "./waivers.ts";
import { whereabouts } from "./who.ts";

/** Opens an estate. The state directory is created on the first write, not by reading. */
export const openEstate: OpenEstate = async ({ manifests, stateDirectory, env }) =>
  new FileEstate(await loadManifests([...manifests], env), resolve(stateDirectory), systemClock);

/** A generation from before its trust stores were used may be one that none of them can take out. */
function unlistableBy({ trustStores }: Parties, current: Generation | undefined): { unlistable?: string } {
  const store = trustStores.find(({ instance }) => current && instance.canList?.(current.subject) === false);
  if (current === undefined || store === undefined) return {};
  return {
    unlistable: `g${current.number} (${current.subject}) was made before ${store.id} and cannot be taken out of it`,
  };
}

/** Estate on files: one directory per credential for its journal and lock; evidence, secrets and receipts are shared. */
export class FileEstate implements Estate {
  readonly stateDirectory: string;
  readonly #manifests: Manifests;
  readonly #clock: Clock;
  readonly #evidence: EvidenceStore;
  #secrets: Promise<SecretStore> | undefined;
  readonly #issuers: Issuers;

  constructor(manifests: Manifests, stateDirectory: string, clock: Clock) {
    this.#manifests = manifests;
    this.stateDirectory = stateDirectory;
    this.#clock = clock;
    this.#issuers = new Issuers(manifests, clock);
    this.#evidence = openEvidence(join(stateDirectory, "evidence"));
  }

  get credentials(): readonly string[] {
    return this.#manifests.credentials.map((credential) => credential.name);
  }

  async plan(name: string, options: PlanOptions = {}): Promise<Planned> {
    const manifest = this.#manifest(name);
    const lineage = await readLineage({ journal: await this.#journal(name) });
    const parties = await this.#parties(manifest, "ask");
    const found = lineage.active === undefined ? await findInPlace(parties.targets, manifest, lineage) : undefined;
    return this.#planned(manifest, parties, withFound(lineage, found), options);
  }

  async rotate(name: string, options: RotateOptions): Promise<Outcome> {
    return this.#locked(name, `rotate ${name}`, async (manifest, ports, receipts) => {
      const lineage = await readLineage(ports);
      const runner = this.#runner(ports, lineage, options);
      await receipts.writeMissing(runner, ports);
      if (lineage.active === undefined) {
        await adoptFound(runner, ports, manifest);
        const planned = await this.#planned(manifest, ports.parties, lineage, options);
        if (planned.plan === undefined || planned.digest === undefined)
          return { result: "nothing due", due: planned.due };
        await mustBePossible(name, ports.parties, manifest.timing.skew);
        await receipts.mustGoOn(ports);
        const rotation = `${name}/${lineage.rotations.length + 1}`;
        await runner.append({ type: "RotationPlanned", rotation, plan: planned.plan, digest: planned.digest });
        options.onProgress?.({ type: "started", rotation, plan: planned.plan, resumed: false });
      } else {
        options.onProgress?.({
          type: "started",
          rotation: lineage.active.id,
          plan: lineage.active.plan,
          resumed: true,
        });
      }
      return this.#finish(runner, ports, receipts, options);
    });
  }

  async revert(name: string, options: RotateOptions & { by: string; reason: string }): Promise<Outcome> {
    return this.#locked(name, `revert ${name}`, async (_, ports, receipts) => {
      const lineage = await readLineage(ports);
      const rotation = lineage.active;
      if (rotation === undefined) {
        throw new GyreError({
          code: "refused",
          message: `${name}: no rotation is under way, so there is nothing to put back`,
          next: `gyre rotate ${name} --now makes a new generation`,
        });
      }
      if (!canPutBack(rotation)) {
        throw new GyreError({
          code: "refused",
          message: `${name}: g${rotation.plan.from?.number ?? "?"} was revoked already, which cannot be taken back; nothing was changed`,
          next: `gyre rotate ${name} goes on; or rotate once more after it closed`,
        });
      }
      const runner = this.#runner(ports, lineage, options);
      options.onProgress?.({ type: "started", rotation: rotation.id, plan: rotation.plan, resumed: true });
      if (rotation.reverting === undefined)
        await runner.append({ type: "RevertRequested", by: options.by, reason: options.reason });
      return this.#finish(runner, ports, receipts, options);
    });
  }

  async waive(name: string, member: string, options: Parameters<Estate["waive"]>[2]) {
    const { by, reason, expires } = options;
    let claims: readonly ClaimName[] = [];
    await this.#request(name, (rotation) => {
      claims = claimsToWaive(rotation, member, options.claims ?? [], this.#clock.now());
      return claims.map((claim) => ({ type: "Waived", member, claim, by, reason, expires }));
    });
    return claims;
  }

  async withdrawWaiver(name: string, member: string, options: Parameters<Estate["withdrawWaiver"]>[2]) {
    const { by, reason, claims = [] } = options;
    let taken: readonly Waiver[] = [];
    await this.#request(name, (rotation) => {
      taken = waiversToWithdraw(rotation, member, claims, this.#clock.now());
      const named = claims.length === 0 ? [{}] : claims.map((claim) => ({ claim }));
      return named.map((claim) => ({ type: "WaiverWithdrawn", member, ...claim, by, reason }));
    });
    return taken;
  }

  async approve(name: string, { by }: { by: string }): Promise<Digest> {
    let digest: Digest = "sha256:";
    await this.#request(name, (rotation) => {
      digest = rotation.digest;
      return [{ type: "Approved", by, plan: digest }];
    });
    return digest;
  }

  async status(): Promise<readonly CredentialStatus[]> {
    return Promise.all(this.#manifests.credentials.map((manifest) => this.#statusOf(manifest)));
  }

  async unnamed() {
    return unnamedJournals(this.stateDirectory, this.credentials, this.#clock.now());
  }

  async show(name: string) {
    const unnamed = (await this.unnamed()).some((journal) => journal.name === name);
    const journal = await this.#journal(unnamed ? name : this.#manifest(name).name);
    const lineage = await readLineage({ journal });
    return { lineage, entries: timelineOf(await journal.read()) };
  }

  async who(fingerprint: string) {
    const histories = await Promise.all(
      this.#manifests.credentials.map(async ({ name }) => {
        const journal = await this.#journal(name);
        return [name, { lineage: await readLineage({ journal }), entries: await journal.read() }] as const;
      }),
    );
    const parties = await Promise.all(
      this.#manifests.credentials.map(
        async (manifest) => [manifest.name, await this.#parties(manifest, "ask")] as const,
      ),
    );
    return whereabouts(fingerprint, new Map(histories), new Map(parties), this.#clock.now());
  }

  async doctor(name: string) {
    const manifest = this.#manifest(name);
    const { issuer } = manifest;
    const crl = this.#manifests.credentials.find((other) => other.kind === "crl" && other.issuer === issuer);
    return diagnose({
      ...{ manifest, manifests: this.#manifests, issuerManifest: this.#issuers.manifest(issuer) },
      ...{ stateDirectory: this.stateDirectory, clock: this.#clock },
      issuer: () => this.#issuers.get(issuer, "ask"),
      lineage: async () => readLineage({ journal: await this.#journal(name) }),
      planned: () => this.plan(name, { now: true }),
      crl: async () => (crl === undefined || crl === manifest ? undefined : this.#statusOf(crl)),
    });
  }

  async close(): Promise<void> {}

  #manifest(name: string): CredentialManifest {
    const found = this.#manifests.credentials.find((credential) => credential.name === name);
    if (found !== undefined) return found;
    const near = nearest(name, this.credentials);
    throw new GyreError({
      code: "manifest",
      message: `there is no credential ${name}${near === undefined ? "" : `; did you mean ${near}?`}`,
      next: `one of: ${this.credentials.join(", ")}`,
    });
  }

  #directory(name: string): string {
    return join(this.stateDirectory, "credentials", name);
  }

  async #makeDirectory(name: string): Promise<void> {
    const directory = this.#directory(name);
    try {
      // Node's own recursive mkdir says ENOENT of a read-only file system.
      await makeDirectory(directory, 0o700);
    } catch (error) {
      throw diskError(error, `state directory ${directory}: creating`, directory, "nothing was done");
    }
  }

  #journal(name: string) {
    return openJournal<Event>(join(this.#directory(name), "journal.jsonl"));
  }

  #openSecrets(): Promise<SecretStore> {
    this.#secrets ??= openSecrets(join(this.stateDirectory, "secrets"), {
      file: join(this.stateDirectory, "store.key"),
    });
    return this.#secrets;
  }

  async #parties(manifest: CredentialManifest, purpose: Purpose): Promise<Parties> {
    const issuer = await this.#issuers.get(manifest.issuer, purpose);
    return bindParties(manifest, this.#manifests, issuer, async () => {
      const lineage = await readLineage({ journal: await this.#journal(manifest.name) });
      const before = lineage.active?.plan.from;
      if (before === undefined) return undefined;
      return (JSON.parse((await this.#evidence.get(before.material)).toString("utf8")) as { certificate: string })
        .certificate;
    });
  }

  /** What a rotation works with; everything it reads and writes goes through these. */
  protected async ports(manifest: CredentialManifest, stillOurs: () => Promise<void>): Promise<Ports> {
    return {
      journal: await this.#journal(manifest.name),
      evidence: this.#evidence,
      secrets: await this.#openSecrets(),
      clock: this.#clock,
      parties: await this.#parties(manifest, "issue"),
      stillOurs,
    };
  }

  #runner(ports: Ports, lineage: Lineage, options: RotateOptions): Runner {
    return new Runner(ports, lineage, {
      runner: options.runner,
      waitUpTo: options.waitUpTo,
      signal: options.signal ?? new AbortController().signal,
      onProgress: options.onProgress ?? (() => undefined),
    });
  }

  async #finish(runner: Runner, ports: Ports, receipts: Receipts, options: RotateOptions): Promise<Outcome> {
    const ended = await runner.run();
    if (ended.result !== "closing") return ended;
    const { rotation } = ended;
    const receipt = await receipts.writeMissing(runner, ports).catch((error: unknown) => {
      throw withoutReceipt(error, rotation);
    });
    if (rotation.end?.how !== "closed" || receipt === undefined)
      throw new GyreError({ code: "bug", message: `${rotation.id} closed without a receipt` });
    options.onProgress?.({ type: "closed", grade: rotation.end.grade, receipt });
    return { result: "closed", rotation: rotation.id, grade: rotation.end.grade, receipt };
  }

  async #planned(
    manifest: CredentialManifest,
    parties: Parties,
    lineage: Lineage,
    options: PlanOptions,
  ): Promise<Planned> {
    const now = this.#clock.now();
    const current = lineage.current === undefined ? undefined : lineage.generations.get(lineage.current);
    const due = dueOf(manifest, lineage, current, now);
    const { pending } = parties.issuer;
    const notes = pending === undefined ? {} : { notes: [pending] };
    if (lineage.active !== undefined) {
      const { plan, digest, id } = lineage.active;
      return { due, plan, digest, underWay: id, stages: stagesOf(plan, now) };
    }
    if (due.action !== "rotate" && options.now !== true) return { due, ...notes, stages: [] };
    const plan = makePlan(
      {
        seed: randomBytes(8).toString("hex"),
        credential: manifest.name,
        kind: manifest.kind,
        reason: options.reason ?? (options.now === true ? "asked for by hand" : due.because),
        request: manifest.request,
        issuer: partyOf(parties.issuer),
        targets: await versionsOf(parties),
        trustStores: await storeVersionsOf(parties),
        pinned: manifest.strategy === "overlap",
        ...unlistableBy(parties, current),
        presenters: partiesOf(parties.presenters),
        verifiers: partiesOf(parties.verifiers),
        sensors: partiesOf(parties.sensors),
        ...(current === undefined ? {} : { from: current }),
        to: Math.max(0, ...lineage.generations.keys()) + 1,
        revoke: manifest.revoke,
        quiet: manifest.quiet,
        timing: manifest.timing,
        ...(manifest.approval === undefined ? {} : { approval: manifest.approval }),
      },
      now,
    );
    return { due, plan, digest: digestOf(plan), ...notes, stages: stagesOf(plan, now) };
  }

  async #statusOf(manifest: CredentialManifest): Promise<CredentialStatus> {
    const { name, kind } = manifest;
    try {
      const written = await readLineage({ journal: await this.#journal(name) });
      const { found, ...trouble } = await this.#lookInPlace(manifest, written);
      const lineage = withFound(written, found);
      const now = this.#clock.now();
      const current = lineage.current === undefined ? undefined : lineage.generations.get(lineage.current);
      const closed = lineage.rotations.findLast((rotation) => rotation.end?.how === "closed");
      const receipt = lineage.receipts.findLast((entry) => entry.rotation === closed?.id);
      return {
        name,
        kind,
        // What cannot be read may be anything: it is not called "never issued".
        ...(current === undefined && trouble.unread !== undefined
          ? {}
          : { due: dueOf(manifest, lineage, current, now) }),
        outstanding: outstandingOf(lineage, now),
        orphans: lineage.orphans.filter((orphan) => orphan.expires > now).length,
        ...trouble,
        ...(current === undefined ? {} : { current }),
        ...(lineage.active === undefined ? {} : { active: lineage.active }),
        ...(closed?.end?.how !== "closed"
          ? {}
          : {
              lastClosed: {
                rotation: closed.id,
                grade: closed.end.grade,
                at: closed.end.at,
                ...(receipt === undefined ? {} : { receipt: `${receipt.index}` }),
              },
            }),
      };
    } catch (error) {
      if (!(error instanceof GyreError)) throw error;
      return { name, kind, outstanding: [], orphans: 0, problem: error.message };
    }
  }

  /** For a table of all credentials: what cannot be read is said beside the rest, and ends nothing. */
  async #lookInPlace(
    manifest: CredentialManifest,
    lineage: Lineage,
  ): Promise<{ readonly found?: Found; readonly unread?: string }> {
    if (lineage.active !== undefined) return {};
    try {
      const { targets } = await this.#parties(manifest, "ask");
      const found = await findInPlace(targets, manifest, lineage);
      return found === undefined ? {} : { found };
    } catch (error) {
      if (!(error instanceof GyreError)) throw error;
      return { unread: error.message };
    }
  }

  /** Appends a host's request beside whoever runs; needs no lock, since append is compare-and-swap. */
  async #request(name: string, make: (rotation: Rotation) => readonly Event[]): Promise<void> {
    const { name: known } = this.#manifest(name);
    for (;;) {
      const journal = await this.#journal(known);
      const lineage = await readLineage({ journal });
      if (lineage.active === undefined)
        throw new GyreError({ code: "refused", message: `${known}: no rotation is under way`, next: `gyre status` });
      try {
        await journal.append(lineage.seq, this.#clock.now(), make(lineage.active));
        return;
      } catch (error) {
        if (!(error instanceof GyreError) || error.code !== "conflict") throw error;
      }
    }
  }

  async #locked<T>(
    name: string,
    command: string,
    work: (manifest: CredentialManifest, ports: Ports, receipts: Receipts) => Promise<T>,
  ): Promise<T> {
    const manifest = this.#manifest(name);
    await this.#makeDirectory(name);
    const lock = await acquireLock(join(this.#directory(name), "lock"), {
      command: `gyre ${command}`,
      since: this.#clock.now(),
    });
    try {
      const ports = await this.ports(manifest, () => lock.check());
      return await work(manifest, ports, openReceipts(this.stateDirectory));
    } finally {
      await lock.release();
    }
  }
}

/** The journal says closed, and what was seen stands; only the paper is missing. */
function withoutReceipt(error: unknown, { id, plan }: Rotation): unknown {
  if (!(error instanceof GyreError)) return error;
  return new GyreError({
    ...error.toJSON(),
    message: `${id} closed, but its receipt could not be written: ${error.message}`,
    next: `${error.next ?? "mend it"}; gyre rotate ${plan.credential} writes the receipt`,
    cause: error,
  });
}

/** A rotation that was put back is not tried again at once by a schedule. */
function dueOf(manifest: CredentialManifest, lineage: Lineage, current: Generation | undefined, now: number) {
  const failed = lineage.rotations.findLast((rotation) => rotation.end !== undefined);
  return dueNow(
    {
      credential: manifest.name,
      policy: manifest.renew,
      ...(current === undefined ? {} : { generation: current }),
      ...(failed?.end?.how === "reverted" ? { lastAttempt: failed.end.at } : {}),
    },
    now,
  );
}
