import { hash } from "node:crypto";
import { digestOf } from "../../src/engine/digest.ts";
import type { Event } from "../../src/engine/events.ts";
import type { Plan, Timing } from "../../src/engine/model.ts";
import { makePlan, type PlanInput } from "../../src/engine/plan.ts";
import { fold, type Lineage, type Rotation } from "../../src/engine/state.ts";
import { GyreError } from "../../src/errors.ts";
import type { EvidenceStore, Journal } from "../../src/journal/journal.ts";
import type { SecretStore } from "../../src/journal/secret-store.ts";
import { type CertificateAuthority, prepareAuthority, signSelfSigned } from "../../src/pki/issue.ts";
import { generateKey } from "../../src/pki/keys.ts";
import type { Outcome, Progress } from "../../src/runtime/api.ts";
import { adoptFound, versionsOf } from "../../src/runtime/found.ts";
import { type Parties, partiesOf, partyOf } from "../../src/runtime/parties.ts";
import type { Ports } from "../../src/runtime/ports.ts";
import { Runner, readLineage } from "../../src/runtime/runner.ts";
import { Crash, type Faults, hour, leafOf, start, World, type WorldStrategy } from "./world.ts";
import { partiesOfWorld } from "./world-drivers.ts";

/** What a runner is given: everything of the world that may be a boundary is one. */
export function portsOf(world: World): Ports {
  const journal: Journal<Event> = {
    read: async () => [...world.journalEntries],
    head: async () => ({ seq: world.journalEntries.length, hash: "" }),
    append: (expected, at, events) => world.bounded("append", async () => appendTo(world, expected, at, events)),
  };
  const evidence: EvidenceStore = {
    put: async (content) => {
      const digest = `sha256:${hash("sha256", content)}` as const;
      world.blobs.set(digest, Buffer.from(content));
      return digest;
    },
    get: async (digest) => world.blobs.get(digest)!,
  };
  const secrets: SecretStore = {
    put: (name, secret) =>
      world.bounded("store", async () => {
        world.secrets.set(name, secret);
        world.everSecret.add(secret);
        return "sha256:" as const;
      }),
    get: async (name) => world.secrets.get(name),
    delete: (name) => world.bounded("store", async () => void world.secrets.delete(name)),
    list: async () => [...world.secrets.keys()],
  };
  const clock = { now: () => world.now, sleep: async (ms: number) => world.advance(ms) };
  return { journal, evidence, secrets, clock, parties: partiesOfWorld(world), stillOurs: async () => undefined };
}

function appendTo(world: World, expected: number, at: number, events: readonly Event[]) {
  if (expected !== world.journalEntries.length)
    throw new GyreError({ code: "conflict", message: `sequence ${expected} is stale` });
  const entries = events.map((event, index) => ({
    seq: expected + index + 1,
    at,
    event: JSON.parse(JSON.stringify(event)) as Event,
  }));
  world.journalEntries.push(...entries);
  return entries;
}

/** What `gyre waive`, `approve` and (without its checks) `revert` write beside a runner. */
export const request = (world: World, ...events: Event[]): void =>
  void appendTo(world, world.journalEntries.length, world.now, events);

/** Patience, poll and freshness in ms. */
export const timing: Timing = { patience: 5_000, poll: 1_000, freshness: 600_000, skew: 600_000, attempts: 3 };
export const quietWindow = 10_000;

let sharedCa: Promise<CertificateAuthority> | undefined;
async function makeCa(): Promise<CertificateAuthority> {
  const key = await generateKey("P-256");
  const life = { notBefore: start - 1000 * hour, notAfter: start + 100_000 * hour };
  return prepareAuthority(signSelfSigned(key, { subject: "CN=world", isCa: true, ...life }), key);
}

const calm = new Map<string, Promise<World>>();
async function firstRotation(strategy: WorldStrategy, life: number): Promise<World> {
  sharedCa ??= makeCa();
  const world = new World(strategy, await sharedCa, {});
  for (const id of ["replica-0", "replica-1", "replica-2"])
    world.replicas.push({ id, certificate: "", revoked: new Set(), pins: new Set(), gone: false, deadUntil: 0 });
  const first = await rotate(world, {
    change: (input) => ({ ...input, request: { ...input.request, lifetime: life } }),
  });
  if (first.result !== "closed") throw new Error(`the world did not start: ${JSON.stringify(first)}`);
  if (world.now !== start) throw new Error("the first rotation took time");
  return world;
}

/** A world with g1 in place everywhere, by a first rotation of the runtime's own. Faults begin after it. */
export async function worldWithFirst(strategy: WorldStrategy, faults: Faults, life = 240 * hour): Promise<World> {
  const key = `${strategy} ${life}`;
  if (!calm.has(key)) calm.set(key, firstRotation(strategy, life));
  const before = await calm.get(key)!;
  const world = new World(strategy, before.ca, faults);
  world.replicas = before.replicas.map((replica) => ({ ...replica }));
  world.stored = before.stored;
  world.oldUnit = before.stored;
  world.trust = before.trust;
  world.old = leafOf(before.stored!.certificate);
  world.journalEntries.push(...before.journalEntries);
  for (const [name, blob] of before.blobs) world.blobs.set(name, blob);
  for (const [name, secret] of before.secrets) world.secrets.set(name, secret);
  for (const secret of before.everSecret) world.everSecret.add(secret);
  world.issued = before.issued.map((one) => ({ ...one }));
  return world;
}

export interface Run {
  readonly runner?: string;
  readonly waitUpTo?: number;
  readonly onProgress?: (progress: Progress) => void;
  readonly wrap?: (ports: Ports) => Ports;
  readonly change?: (input: PlanInput) => PlanInput;
}

export type WorldOutcome =
  | Exclude<Outcome, { result: "closed" | "nothing due" }>
  | { readonly result: "closed"; readonly grade: string };

/** What `gyre rotate --now` does, on the world: one run, from taking up to the end, a hold or a long wait. */
export async function rotate(world: World, run: Run): Promise<WorldOutcome> {
  const ports = run.wrap?.(portsOf(world)) ?? portsOf(world);
  const lineage = await readLineage(ports);
  const runner = new Runner(ports, lineage, {
    runner: run.runner ?? "test",
    waitUpTo: run.waitUpTo ?? hour,
    signal: new AbortController().signal,
    onProgress: run.onProgress ?? (() => undefined),
  });
  if (lineage.active === undefined) {
    await adoptFound(runner, ports, { name: "shop", kind: "certificate" });
    const current = lineage.current === undefined ? undefined : lineage.generations.get(lineage.current);
    const plan = await planOf(
      world,
      ports.parties,
      current,
      Math.max(0, ...lineage.generations.keys()) + 1,
      run.change,
    );
    const rotation = `shop/${lineage.rotations.length + 1}`;
    await runner.append({ type: "RotationPlanned", rotation, plan, digest: digestOf(plan) });
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
    seed: "0011223344556677",
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
    quiet: { window: quietWindow },
    timing,
  };
  return makePlan(change?.(input) ?? input, world.now);
}

export interface Ending {
  /** The outcome of every pass; a crash is a pass. */
  readonly passes: readonly (WorldOutcome | { readonly result: "crashed" })[];
  readonly last: WorldOutcome | { readonly result: "crashed" };
}

export interface Persistence extends Run {
  /** Before each further pass, ms. */
  readonly pause?: number;
  readonly atMost?: number;
  /** Between two passes: what people do meanwhile. */
  readonly between?: (world: World, passes: number) => void;
}

export const isEnd = (outcome: { readonly result: string }): boolean =>
  outcome.result === "closed" || outcome.result === "put back";

/** Takes the rotation up again, as a schedule would, until it ends or `atMost` passes are over. */
export async function rotateToEnd(world: World, run: Persistence = {}): Promise<Ending> {
  const passes: (WorldOutcome | { readonly result: "crashed" })[] = [];
  const { active, rotations } = lineageOf(world);
  const nth = active === undefined ? rotations.length : rotations.length - 1;
  for (;;) {
    const outcome = await rotate(world, run).catch((error: unknown) => {
      if (error instanceof Crash) return { result: "crashed" as const };
      throw error;
    });
    passes.push(outcome);
    // Killed after the last append: the journal says how it ended.
    const ended = outcome.result === "crashed" ? (endOf(world, nth) ?? outcome) : outcome;
    if (isEnd(ended) || passes.length >= (run.atMost ?? 60)) return { passes, last: ended };
    if (outcome.result !== "crashed") world.advance(run.pause ?? 5_000);
    run.between?.(world, passes.length);
  }
}

export const lineageOf = (world: World): Lineage => fold(world.journalEntries);
export const rotationOf = (world: World): Rotation => lineageOf(world).rotations.at(-1)!;

/** How the n-th rotation of the journal ended, as its outcome; undefined when it has not. */
function endOf(world: World, nth: number): WorldOutcome | undefined {
  const rotation = lineageOf(world).rotations[nth];
  if (rotation?.end === undefined) return undefined;
  const { end, id, reverting } = rotation;
  return end.how === "closed"
    ? { result: "closed", grade: end.grade }
    : { result: "put back", rotation: id, why: end.why, failed: reverting?.by === "gyre" };
}
