import { hostname } from "node:os";
import type { ProbeResult, Step } from "../drivers/roles.ts";
import { generationOf, membersFor } from "../engine/claims.ts";
import type { Event, Sighting } from "../engine/events.ts";
import type { ClaimName, Digest, Generation, Instant } from "../engine/model.ts";
import { quietSince } from "../engine/quiet.ts";
import { Secret } from "../pki/secret.ts";
import {
  generationAt,
  handleOf,
  isNoSession,
  type LookContext,
  named,
  nameOf,
  noSession,
  publicMaterial,
  rotationTag,
  sessionName,
  stepFor,
} from "./context.ts";
import { allLimited } from "./limited.ts";
import { canaryOf, listsCertificate, listsRevoked, sameMaterial } from "./material.ts";
import { boundTo } from "./parties.ts";

/** One look at one member: what it adds up to, and what was seen, for the evidence file. */
interface Look {
  readonly sighting: Sighting;
  readonly disturbedAt?: Instant;
  readonly seen: Readonly<Record<string, unknown>>;
}
type Looker = (context: LookContext, member: string, step: Step) => Promise<Look>;

/** How many members are looked at at once: enough for 100 replicas in seconds, few enough not to be a burst. */
const lookersAtOnce = 16;
/** How long a sensor may take to write down a probe that was answered already. */
const sensorPatience = 5_000;

/** Looks at the members for one claim and makes the round's event; the raw observations become an evidence file. */
export async function lookAt(
  context: LookContext,
  claim: ClaimName,
  epoch: Digest,
  only: readonly string[] | undefined,
): Promise<Event & { type: "Observed" }> {
  const { rotation, resolved, ports } = context;
  const all = membersFor(claim, rotation.plan, resolved.inventory).map((member) => member.id);
  const members = only === undefined ? all : all.filter((id) => only.includes(id));
  const step = stepFor(context, `${rotation.id}/look/${claim}`);
  const looks = await allLimited(members, lookersAtOnce, async (member) => {
    const startedAt = ports.clock.now();
    const look = await lookers[claim](context, member, step).catch(
      (error: unknown): Look => unknownLook(member, error),
    );
    return { ...withName(context, look), startedAt, endedAt: ports.clock.now() };
  });
  const generation = generationOf(claim, rotation.plan);
  const evidence = await ports.evidence.put(
    JSON.stringify(
      {
        claim,
        generation,
        epoch,
        from: hostname(),
        probeTag: step.tag,
        observations: looks.map(({ sighting, seen, startedAt, endedAt }) => ({
          ...sighting,
          startedAt,
          endedAt,
          seen,
        })),
      },
      null,
      1,
    ),
  );
  const counts = { yes: 0, no: 0, unknown: 0 };
  for (const look of looks) counts[look.sighting.saw] += 1;
  const disturbances = looks.flatMap((look) => (look.disturbedAt === undefined ? [] : [endOfSecond(look.disturbedAt)]));
  return {
    type: "Observed",
    claim,
    generation,
    epoch,
    ...(members.length === all.length ? {} : { covers: members }),
    counts,
    exceptions: looks.map((look) => look.sighting).filter((sighting) => sighting.saw !== "yes"),
    ...(looks.length === 0 ? {} : { startedAt: Math.min(...looks.map(({ startedAt }) => startedAt)) }),
    ...(disturbances.length === 0 ? {} : { disturbedAt: Math.max(...disturbances) }),
    evidence,
  };
}

/** An address says little of a pod that will be another one tomorrow. */
function withName({ resolved }: LookContext, look: Look): Look {
  const { member, what } = look.sighting;
  const known = (resolved.presenters.get(member) ?? resolved.verifiers.get(member))?.member.known;
  return known === undefined || what === ""
    ? look
    : { ...look, sighting: { ...look.sighting, what: `${what} (${known})` } };
}

/** Access logs write whole seconds: a use is somewhere in the second it is written with, and so is what disturbs a window. */
const beginOfSecond = (at: Instant): Instant => Math.floor(at / 1000) * 1000;
const endOfSecond = (at: Instant): Instant => beginOfSecond(at) + 999;

const yes = (member: string, seen: object = {}): Look => ({
  sighting: { member, saw: "yes", what: "" },
  seen: { ...seen },
});
const no = (member: string, what: string, seen: object = {}, code?: string): Look => ({
  sighting: { member, saw: "no", what, ...(code === undefined ? {} : { code }) },
  seen: { ...seen },
});
const unknown = (member: string, what: string, seen: object = {}, code?: string): Look => ({
  sighting: { member, saw: "unknown", what, ...(code === undefined ? {} : { code }) },
  seen: { ...seen },
});
const unknownLook = (member: string, error: unknown): Look =>
  unknown(member, error instanceof Error ? error.message : String(error));

/**
 * One address may answer from two states: old workers after a reload, a second master on the port, a balancer. One look
 * hits one of them, so a yes is a yes only when several fresh connections agree, and after a no when many do: whoever said
 * no may still be there behind the one that now answers.
 */
const agreeing = { usual: 4, afterNo: 16 };

const agreed =
  (claim: ClaimName, looker: Looker): Looker =>
  async (context, member, step) => {
    const first = await looker(context, member, step);
    if (first.sighting.saw !== "yes") return first;
    const before = context.rotation.seen.get(claim)?.get(member);
    const looks = before?.saw === "no" ? agreeing.afterNo : agreeing.usual;
    // At once: connections one after the other may all be taken by the same idle worker.
    const others = await Promise.all(Array.from({ length: looks - 1 }, () => looker(context, member, step)));
    const other =
      others.find(({ sighting }) => sighting.saw === "no") ?? others.find(({ sighting }) => sighting.saw === "unknown");
    const seen = { ...first.seen, agreeing: looks };
    if (other === undefined) return { ...first, seen };
    const { saw, what, code } = other.sighting;
    const yes = others.filter(({ sighting }) => sighting.saw === "yes").length + 1;
    const words = `${what} (in ${looks - yes} of ${looks} looks at once: more than one process answers at this address)`;
    return { sighting: { member, saw, what: words, ...(code === undefined ? {} : { code }) }, seen: other.seen };
  };

const lookers: Readonly<Record<ClaimName, Looker>> = {
  stored: (context, member) => lookStored(context, member, context.rotation.plan.to),
  restored: (context, member) => lookStored(context, member, context.rotation.plan.from?.number),
  presented: agreed("presented", (context, member, step) =>
    lookPresented(context, member, step, context.rotation.plan.to),
  ),
  presentedOld: agreed("presentedOld", (context, member, step) =>
    lookPresented(context, member, step, context.rotation.plan.from!.number),
  ),
  accepted: agreed("accepted", async (context, member, step) =>
    context.rotation.plan.kind === "crl"
      ? lookLoaded(context, member, step)
      : (await probe(context, member, step, context.rotation.plan.to)).look,
  ),
  acceptedOld: lookAcceptedOld,
  refused: agreed("refused", lookRefused),
  drained: agreed("drained", lookDrained),
  used: lookUsed,
  silent: lookSilent,
  admitted: (context, member) => lookListed(context, member, context.rotation.plan.to, true),
  withdrawn: (context, member) => lookListed(context, member, context.rotation.plan.from!.number, false),
  published: lookPublished,
};

async function lookStored(context: LookContext, member: string, number: number | undefined): Promise<Look> {
  const target = boundTo(context.ports.parties, "target", member);
  if (target === undefined) return unknown(member, "the manifest no longer names it");
  const stored = await target.instance.read();
  if (number === undefined) return stored.version === "absent" ? yes(member) : no(member, "still holds something");
  const generation = generationAt(context, number);
  const due = generation.kind === "crl" ? await context.ports.parties.issuer.instance.revoked?.() : undefined;
  const problem = sameMaterial(stored, generation, await publicMaterial(context, generation), due);
  if (problem === undefined) return yes(member, { version: stored.version });
  return no(
    member,
    problem.fingerprint === undefined ? problem.what : `holds ${nameOf(context.lineage, problem.fingerprint)}`,
    { version: stored.version },
  );
}

async function lookPresented(context: LookContext, id: string, step: Step, number: number): Promise<Look> {
  const found = context.resolved.presenters.get(id);
  if (found === undefined) return unknown(id, whyGone(context));
  const generation = generationAt(context, number);
  const { roots } = await publicMaterial(context, generation);
  const result = await found.bound.instance.probe(found.member, roots, step);
  if (result.saw !== "presented") return unknown(id, wordsOf(result), result);
  const leaf = result.chain[0] ?? "";
  if (leaf !== generation.fingerprint) {
    return no(
      id,
      `${number === context.rotation.plan.to ? "still presents" : "presents"} ${nameOf(context.lineage, leaf)}`,
      result,
    );
  }
  if (result.problem !== undefined) return no(id, `presents g${number}, but ${result.problem}`, result);
  return yes(id, result);
}

function whyGone({ resolved }: LookContext): string {
  const [lost] = resolved.inventory.unresolved;
  return lost === undefined ? "it left the inventory" : `the members of ${lost.of} could not be counted: ${lost.why}`;
}

interface Probed {
  readonly result: ProbeResult;
  readonly look: Look;
}

/** Presents one generation to one verifier. yes: accepted by name; no: refused or denied. */
async function probe(context: LookContext, id: string, step: Step, number: number): Promise<Probed> {
  const found = context.resolved.verifiers.get(id);
  const failed = (why: string): Probed => ({ result: { saw: "unknown", why }, look: unknown(id, why) });
  if (found === undefined) return failed(whyGone(context));
  const handle = await handleOf(context, number);
  if (handle === undefined)
    return failed(`the private key of g${number} is not in the secret store, so it cannot be presented`);
  const result = await found.bound.instance.probe(found.member, handle, step);
  if (result.saw === "accepted") return { result, look: yes(id, result) };
  if (result.saw === "refused")
    return { result, look: no(id, `refuses g${number} (${result.code})`, result, result.code) };
  if (result.saw === "denied")
    return { result, look: no(id, `knows g${number} as ${result.as} and denies it`, result) };
  return { result, look: unknown(id, wordsOf(result), result) };
}

/**
 * Whether a verifier loaded this very CRL: it refuses the canary, a certificate made for it that no earlier CRL lists,
 * and accepts the control, made beside it and listed nowhere.
 */
async function lookLoaded(context: LookContext, id: string, step: Step): Promise<Look> {
  const number = context.rotation.plan.to;
  const found = context.resolved.verifiers.get(id);
  const handle = await handleOf(context, number);
  const [canary, control] = handle === undefined ? [] : canaryOf(handle);
  if (found === undefined || canary === undefined || control === undefined)
    return unknown(id, "it left the inventory, or the canary is gone");
  const first = await found.bound.instance.probe(found.member, canary, step);
  const second = await found.bound.instance.probe(found.member, control, step);
  const seen = { canary: first, control: second };
  if (first.saw === "accepted")
    return no(id, `has not loaded CRL g${number}: it accepts a certificate that the CRL lists`, seen);
  if (second.saw === "refused") return no(id, `refuses everybody (${second.code}): its CRL is not usable`, seen);
  if (first.saw === "refused" && second.saw === "accepted") return yes(id, seen);
  return unknown(id, first.saw === "refused" ? wordsOf(second) : wordsOf(first), seen);
}

/** Corner A, and a session to be tried again after the removal. */
async function lookAcceptedOld(context: LookContext, id: string, step: Step): Promise<Look> {
  const number = context.rotation.plan.from!.number;
  const { look } = await probe(context, id, step, number);
  const found = context.resolved.verifiers.get(id);
  if (look.sighting.saw !== "yes" || found?.bound.instance.session === undefined) return look;
  const handle = await handleOf(context, number);
  const session = handle === undefined ? undefined : await found.bound.instance.session(found.member, handle, step);
  const name = sessionName(context.rotation.plan.credential, number, id);
  await context.ports.secrets.delete(name);
  await context.ports.secrets.put(name, session ?? Secret.of(noSession.use((bytes) => Buffer.from(bytes))));
  return look;
}

/** Corner C, and right after it, from the same place, corner D: without D a refusal may be an outage. */
async function lookRefused(context: LookContext, id: string, step: Step): Promise<Look> {
  const { plan } = context.rotation;
  const before = await probe(context, id, step, plan.from!.number);
  if (before.result.saw === "accepted") return no(id, `still accepts g${plan.from!.number}`, { C: before.result });
  const { saw } = before.result;
  const denies = saw === "denied" && deniesOnly(context, id);
  if (saw !== "refused" && !denies) return unknown(id, before.look.sighting.what, { C: before.result });
  const after = await probe(context, id, step, plan.to);
  const seen = { C: before.result, D: after.result };
  if (after.result.saw === "accepted") return yes(id, seen);
  return unknown(
    id,
    `${denies ? "denies" : "refuses"} g${plan.from!.number}, but does not accept g${plan.to} either (${wordsOf(after.result)}): an outage or an expired CRL, no proof`,
    seen,
  );
}

/** A denial is what this verifier was said to be able to; from one that should refuse, it is less than was promised. */
function deniesOnly({ rotation, resolved }: LookContext, id: string): boolean {
  const of = resolved.verifiers.get(id)?.bound.id;
  return rotation.plan.verifiers.find((party) => party.id === of)?.facts.denies === true;
}

async function lookDrained(context: LookContext, id: string, step: Step): Promise<Look> {
  const { plan } = context.rotation;
  const old = plan.from!.number;
  const found = context.resolved.verifiers.get(id);
  const session = await context.ports.secrets.get(sessionName(plan.credential, old, id));
  if (session === undefined) return outlivedDrain(context, id, old);
  if (isNoSession(session)) return yes(id, { offered: false });
  const handle = await handleOf(context, old);
  if (found?.bound.instance.resume === undefined || handle === undefined)
    return unknown(id, "a session cannot be tried here");
  const result = await found.bound.instance.resume(found.member, session, handle, step);
  if (result.saw === "accepted") return no(id, `still resumes a session of g${old}`, result);
  if (result.saw === "refused") return yes(id, result);
  return unknown(id, wordsOf(result), result);
}

/**
 * A member that joined after corner A has no session of ours to try again. Sessions it may have given to others before
 * it refused the old one end with the quiet window, which is at least as long as their lifetime.
 */
function outlivedDrain(context: LookContext, id: string, old: number): Look {
  const { rotation, now } = context;
  const refused = rotation.seen.get("refused")?.get(id);
  const why = `it joined after corner A, so no session of g${old} was kept to try again`;
  if (refused?.saw !== "yes") return unknown(id, why);
  const until = refused.since + rotation.plan.quiet.window;
  if (now >= until) return yes(id, { refusedSince: refused.since, waitedOut: rotation.plan.quiet.window });
  return unknown(id, `${why}; any that it gave to others have ended by ${new Date(until).toISOString()}`);
}

async function lookUsed(context: LookContext, id: string): Promise<Look> {
  const sensor = boundTo(context.ports.parties, "sensor", id);
  if (sensor === undefined) return unknown(id, "the manifest no longer names it");
  const { plan } = context.rotation;
  const usage = await sensor.instance.usage(
    named(generationAt(context, plan.to)),
    beginOfSecond(context.rotation.plannedAt),
    rotationTag(context.rotation),
  );
  if (usage.count > 0) return yes(id, usage);
  return no(id, `${sensor.instance.place} records no use of g${plan.to} but our own`, usage);
}

/** A look at a sensor that could not be shown to be alive; the next one that can starts the window again. */
const noHeartbeat = "no-heartbeat";

/** N1: no use in the window, by a sensor that recorded our own tagged probe just now. A gap starts the window again. */
async function lookSilent(context: LookContext, id: string, step: Step): Promise<Look> {
  const sensor = boundTo(context.ports.parties, "sensor", id);
  if (sensor === undefined) return unknown(id, "the manifest no longer names it");
  const { rotation, ports } = context;
  const { place, member } = sensor.instance;
  // A tag of its own: the log of another member would show the heartbeat of that one.
  const own = stepFor(context, step.op);
  const heartbeat = await probe(context, member, own, rotation.plan.to);
  if (heartbeat.result.saw !== "accepted") {
    const what = `its heartbeat could not be sent: ${member} ${heartbeat.look.sighting.what}`;
    return { ...unknown(id, what, heartbeat.result, noHeartbeat), disturbedAt: ports.clock.now() };
  }
  if (!(await sawTag(context, () => sensor.instance.alive(own.tag)))) {
    const what = `${place} did not record our own probe (gyre-probe/${own.tag}): it has a gap`;
    return { ...unknown(id, what, {}, noHeartbeat), disturbedAt: ports.clock.now() };
  }
  const old = generationAt(context, rotation.plan.from!.number);
  // What restarted the window is not counted again; drivers count from `since` on, that instant included.
  const since = beginOfSecond(Math.max(quietSince(rotation), (rotation.disturbedAt ?? -1) + 1));
  const usage = await sensor.instance.usage(named(old), since, rotationTag(rotation));
  if (usage.count > 0) {
    const what = `${place} saw g${old.number} used ${usage.count} times by ${usage.from.join(", ")}`;
    return { ...no(id, what, usage), disturbedAt: usage.last ?? context.now };
  }
  if (usage.gap !== undefined)
    return { ...unknown(id, `${place}: ${usage.gap}`, usage), disturbedAt: usage.gapUntil ?? context.now };
  // Nobody can say what it missed before it came back, so its silence counts from now.
  const wasLost = rotation.seen.get("silent")?.get(id)?.code === noHeartbeat;
  return wasLost ? { ...yes(id, usage), disturbedAt: ports.clock.now() } : yes(id, usage);
}

async function sawTag(context: LookContext, alive: () => Promise<boolean>): Promise<boolean> {
  const { clock } = context.ports;
  const until = clock.now() + sensorPatience;
  while (!(await alive())) {
    if (clock.now() >= until || context.signal.aborted) return false;
    await clock.sleep(100, context.signal);
  }
  return true;
}

async function lookListed(context: LookContext, id: string, number: number, wanted: boolean): Promise<Look> {
  const store = boundTo(context.ports.parties, "trustStore", id);
  if (store === undefined) return unknown(id, "the manifest no longer names it");
  const listed = listsCertificate((await store.instance.read()).pem, generationAt(context, number));
  if (listed === wanted) return yes(id);
  return no(id, wanted ? `does not list g${number}` : `still lists g${number}`);
}

async function lookPublished(context: LookContext, id: string): Promise<Look> {
  const store = boundTo(context.ports.parties, "trustStore", id);
  if (store === undefined) return unknown(id, "the manifest no longer names it");
  const old: Generation = generationAt(context, context.rotation.plan.from!.number);
  const problem = listsRevoked((await store.instance.read()).pem, old, context.now);
  return problem === undefined ? yes(id) : no(id, problem);
}

function wordsOf(result: ProbeResult): string {
  switch (result.saw) {
    case "unknown":
      return result.why;
    case "refused":
      return `refused: ${result.code}`;
    case "accepted":
      return `accepted as ${result.as}`;
    case "denied":
      return `denied as ${result.as}`;
    case "presented":
      return `presents ${result.chain[0]?.slice(0, 16) ?? "nothing"}`;
    default:
      return result satisfies never;
  }
}
