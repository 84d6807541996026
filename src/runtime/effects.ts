import type { Issued, Stored, Target, TrustStore } from "../drivers/roles.ts";
import type { Event, OpId } from "../engine/events.ts";
import type { Digest, Generation, Instant, StepKind, StepRef } from "../engine/model.ts";
import { opKey } from "../engine/state.ts";
import { GyreError } from "../errors.ts";
import {
  type Context,
  driverOp,
  generationAt,
  keyName,
  materialOf,
  named,
  publicMaterial,
  sessionName,
  stepFor,
} from "./context.ts";
import { patiently } from "./crls.ts";
import {
  addCertificate,
  checkIssued,
  describeIssued,
  keyFor,
  listsCertificate,
  newCsr,
  removeCertificate,
  sameMaterial,
} from "./material.ts";
import { boundTo } from "./parties.ts";
import { findPublished, issueCrl, publish, putBackCrl } from "./publish.ts";

/** What an effect left behind, for its StepDone. */
export interface Effect {
  readonly did: string;
  readonly generation?: Generation;
  readonly evidence?: Digest;
}

/**
 * `absent`: it certainly did not happen. `repeatable`: it may have, and doing it again is harmless. `unknowable`: it may
 * have, the system cannot be asked, and a second time makes a second one.
 */
export type ReadBack = Effect | "absent" | "repeatable" | "unknowable";

interface Row {
  /** Does it. Throws GyreError; `retry: "read back"` when it may have happened all the same. */
  readonly perform: (context: Context, step: StepRef, op: OpId) => Promise<Effect>;
  /** Looks whether it happened, and changes nothing (but finishes a delivery that was cut off half-way). */
  readonly readBack: (context: Context, step: StepRef, op: OpId) => Promise<ReadBack>;
}

/** After a crash it is simply done again. */
const repeatable = async (): Promise<ReadBack> => "repeatable";

/** One row per step kind. */
export const effects: Readonly<Record<StepKind, Row>> = {
  issue: { perform: issue, readBack: findIssued },
  deliver: { perform: deliver, readBack: findDelivered },
  restore: { perform: restore, readBack: findRestored },
  reload: { perform: reload, readBack: repeatable },
  retire: { perform: retire, readBack: repeatable },
  publish: {
    perform: (context, step, op) => publish(context, storeOf(context, step), step, op),
    readBack: (context, step) => findPublished(context, storeOf(context, step), step),
  },
  admit: { perform: admit, readBack: (context, step) => findListed(context, step, true) },
  withdraw: { perform: withdraw, readBack: (context, step) => findListed(context, step, false) },
  forget: { perform: forget, readBack: repeatable },
  destroy: { perform: destroy, readBack: repeatable },
};

async function issue(context: Context, step: StepRef, op: OpId): Promise<Effect> {
  const { plan } = context.rotation;
  const issuer = context.ports.parties.issuer.instance;
  if (plan.kind === "crl") {
    const { issued, takenIn } = await issueCrl(context, step, op);
    const effect = await taken(context, step, issued, context.ports.clock.now());
    if (takenIn.length === 0) return effect;
    return { ...effect, did: `${effect.did}; it goes on listing ${takenIn.length} that only the CRL in place knew of` };
  }
  // Durable before the CSR leaves: a certificate whose key was lost in a crash is of no use to anybody.
  const key = await keyFor(context.ports.secrets, keyName(plan.credential, step.generation), plan.request.algorithm);
  const issued = await issuer.issue(
    {
      subject: plan.request.subject,
      names: plan.request.names,
      usages: plan.request.usages,
      lifetime: plan.request.lifetime,
      csr: newCsr(key, plan.request),
      ...(issuer.can.needsKey === true ? { key } : {}),
    },
    stepFor(context, op),
  );
  return taken(context, step, issued, context.ports.clock.now());
}

/**
 * The gate: what came back is what was asked for, or it is not used. Judged by the time `issuedAt`: an issuer that does
 * not backdate writes a second that began after this pass did, and one read back after a crash is as old as its intent.
 */
async function taken(context: Context, step: StepRef, issued: Issued, issuedAt: Instant): Promise<Effect> {
  const { plan } = context.rotation;
  const key = await context.ports.secrets.get(keyName(plan.credential, step.generation));
  const material = await context.ports.evidence.put(
    JSON.stringify({ certificate: issued.certificate, chain: issued.chain, roots: issued.roots }),
  );
  const generation: Generation = { ...describeIssued(issued, plan.kind), number: step.generation, material };
  const problem = checkIssued(issued, plan, key, issuedAt) ?? outlived(generation, context);
  if (problem !== undefined) throw await notWhatWasAsked(context, generation, problem);
  return {
    did: `${generation.fingerprint.slice(0, 8)} by ${generation.issuer}, until ${new Date(generation.notAfter).toISOString()}`,
    generation,
    evidence: material,
  };
}

/** Found after so long that there is nothing left of it. */
function outlived(generation: Generation, context: Context): string | undefined {
  const { notAfter } = generation;
  if (notAfter > context.now + context.rotation.plan.timing.skew) return undefined;
  return `one that ends ${new Date(notAfter).toISOString()}, found only now`;
}

/** An issue that failed the gate. It exists all the same, so it goes into the journal as an orphan. */
export class NotWhatWasAsked extends GyreError {
  readonly generation: Generation;
  constructor(generation: Generation, message: string, next: string) {
    super({ code: "issuer", message, retry: "never", next });
    this.generation = generation;
  }
}

async function notWhatWasAsked(context: Context, generation: Generation, problem: string): Promise<NotWhatWasAsked> {
  const { issuer } = context.ports.parties;
  const name = context.rotation.plan.credential;
  // A CRL's number is no serial.
  if (generation.kind === "certificate")
    await issuer.instance.retire?.(named(generation), stepFor(context, `${context.rotation.id}/retire-unused`));
  return new NotWhatWasAsked(
    generation,
    `${issuer.id} issued something else than ${name} asks for: ${problem}; it was not delivered anywhere`,
    `ask for what ${issuer.id} gives (spec.issue of ${name}), or change what it allows`,
  );
}

async function findIssued(context: Context, step: StepRef, op: OpId): Promise<ReadBack> {
  const issuer = context.ports.parties.issuer.instance;
  if (context.rotation.plan.kind === "crl") return "absent";
  if (issuer.find === undefined || issuer.can.findAfterCrash !== true) return "unknowable";
  const { intendedAt } = context.rotation.steps.get(opKey(op))!;
  const issued = await issuer.find(driverOp(context, op), intendedAt);
  if (issued === undefined) return "absent";
  if (issued === "forgotten") return "unknowable";
  // It was made after the intent was written, at the latest before whoever wrote it was cut off.
  const { notBefore } = describeIssued(issued, context.rotation.plan.kind);
  return taken(context, step, issued, Math.max(intendedAt, Math.min(context.now, notBefore)));
}

const targetOf = (context: Context, step: StepRef): Target => bound(context, "target", step.on);
const storeOf = (context: Context, step: StepRef): TrustStore => bound(context, "trustStore", step.on);

function bound(context: Context, role: "target", id: string): Target;
function bound(context: Context, role: "trustStore", id: string): TrustStore;
function bound(context: Context, role: "target" | "trustStore", id: string): Target | TrustStore {
  const found = boundTo(context.ports.parties, role, id);
  if (found !== undefined) return found.instance as Target | TrustStore;
  throw new GyreError({
    code: "conflict",
    message: `${context.rotation.plan.credential}: the plan names ${role} ${id}, which is no longer in the manifest; nothing done`,
    next: `put it back into the manifest, or gyre revert ${context.rotation.plan.credential}`,
  });
}

async function deliver(context: Context, step: StepRef, op: OpId): Promise<Effect> {
  const target = targetOf(context, step);
  const stored = await target.read();
  // An earlier try of ours may have landed after it was read back as absent; nobody else has this key.
  if (stored.torn !== true && (await holds(context, stored, step.generation)))
    return { did: `${heldWords(context, target, stored, step.generation)} already` };
  const planned = context.rotation.plan.targets.find((party) => party.id === step.on)?.version;
  const material = await materialOf(context, generationAt(context, step.generation));
  const now = await target.deliver(material, planned ?? stored.version, stepFor(context, op));
  return { did: heldWords(context, target, now, step.generation) };
}

/** True when the place holds exactly this generation: leaf, chain and a key that fits; of a CRL, or a newer one like it. */
async function holds(context: Context, stored: Stored, number: number): Promise<boolean> {
  const generation = generationAt(context, number);
  const due = generation.kind === "crl" ? await context.ports.parties.issuer.instance.revoked?.() : undefined;
  return sameMaterial(stored, generation, await publicMaterial(context, generation), due) === undefined;
}

/** What is there once a generation was delivered: another rotation may have published a newer CRL meanwhile. */
function heldWords(context: Context, { place }: Target, { certificate }: Stored, number: number): string {
  const { kind, fingerprint } = generationAt(context, number);
  const newer = kind === "crl" && describeIssued({ certificate }, "crl").fingerprint !== fingerprint;
  return newer ? `${place} holds a newer CRL than g${number}, with all that it lists` : `${place} holds g${number}`;
}

async function findDelivered(context: Context, step: StepRef, op: OpId): Promise<ReadBack> {
  const target = targetOf(context, step);
  const stored = await target.read();
  if (stored.torn === true) {
    // Half old, half new: the only way out that leaves a whole unit is to finish what the same op began.
    await target.deliver(
      await materialOf(context, generationAt(context, step.generation)),
      stored.version,
      stepFor(context, op),
    );
    return { did: `${target.place} holds g${step.generation} (a delivery cut off half-way was finished)` };
  }
  return (await holds(context, stored, step.generation))
    ? { did: `${target.place} holds g${step.generation}` }
    : "absent";
}

async function restore(context: Context, step: StepRef, op: OpId): Promise<Effect> {
  const target = targetOf(context, step);
  if (context.rotation.plan.kind === "crl") return putBackCrl(context, target, step, op);
  const stored = await target.read();
  // Somebody put it back by hand, as a conflict asks for.
  const back = await isBack(context, step, stored);
  if (back) return { did: `${target.place} was put back already` };
  if (stored.torn !== true && !(await holds(context, stored, context.rotation.plan.to))) {
    throw new GyreError({
      code: "conflict",
      message: `${target.place} no longer holds g${context.rotation.plan.to}: somebody else changed it; it was left as it is`,
      next: `look at ${target.place} and put g${step.generation} back by hand, then gyre revert ${context.rotation.plan.credential}`,
    });
  }
  const previous =
    step.generation === 0 ? undefined : await materialOf(context, generationAt(context, step.generation));
  await target.restore(stored.version, stepFor(context, op), previous);
  return {
    did: step.generation === 0 ? `${target.place} is empty again` : `${target.place} holds g${step.generation} again`,
  };
}

/** What is to be restored is in place: nothing, before a first issue. */
const isBack = async (context: Context, step: StepRef, stored: Stored): Promise<boolean> =>
  step.generation === 0 ? stored.version === "absent" : holds(context, stored, step.generation);

async function findRestored(context: Context, step: StepRef): Promise<ReadBack> {
  // What became of it is said by looking again, and by writing only what is not there.
  if (context.rotation.plan.kind === "crl") return "repeatable";
  const target = targetOf(context, step);
  if (!(await isBack(context, step, await target.read()))) return "absent";
  return {
    did: step.generation === 0 ? `${target.place} is empty again` : `${target.place} holds g${step.generation} again`,
  };
}

async function reload(context: Context, step: StepRef, op: OpId): Promise<Effect> {
  const { parties } = context.ports;
  const found = boundTo(parties, "target", step.on) ?? boundTo(parties, "trustStore", step.on);
  if (found?.instance.reload === undefined)
    throw new GyreError({
      code: "conflict",
      message: `${step.on} can no longer be told to reload: the manifest changed`,
    });
  return { did: await found.instance.reload(stepFor(context, op)) };
}

async function retire(context: Context, step: StepRef, op: OpId): Promise<Effect> {
  const { issuer } = context.ports.parties;
  if (issuer.instance.retire === undefined)
    throw new GyreError({ code: "issuer", message: `${issuer.id} cannot revoke` });
  const generation = generationAt(context, step.generation);
  // Asked for by journals of before: its number is no serial.
  if (generation.kind === "crl") return { did: "nothing to do: a CRL is not revoked" };
  await issuer.instance.retire(named(generation), stepFor(context, op));
  return { did: `${issuer.id} revoked serial ${generation.serial}` };
}

async function admit(context: Context, step: StepRef, op: OpId): Promise<Effect> {
  return rewrite(context, step, op, true);
}
async function withdraw(context: Context, step: StepRef, op: OpId): Promise<Effect> {
  return rewrite(context, step, op, false);
}

async function rewrite(context: Context, step: StepRef, op: OpId, wanted: boolean): Promise<Effect> {
  const store = storeOf(context, step);
  const generation = generationAt(context, step.generation);
  const { certificate } = await publicMaterial(context, generation);
  // Another credential pinned there writes the same place.
  return patiently(async () => {
    const { pem, version } = await store.read();
    const next = wanted ? addCertificate(pem, certificate) : removeCertificate(pem, generation);
    if (next === "" && wasAbsent(context, step) && store.remove !== undefined)
      await store.remove(version, stepFor(context, op));
    else await store.put(next, version, stepFor(context, op));
    return { did: await listedWords(context, store, step, wanted) };
  });
}

/** No server starts with an empty bundle, nor without one: what was not there before the first pin is to be gone again. */
const wasAbsent = (context: Context, step: StepRef): boolean =>
  context.rotation.plan.trustStores.find((party) => party.id === step.on)?.version === "absent";

async function listedWords(context: Context, store: TrustStore, step: StepRef, listed: boolean): Promise<string> {
  const words = `${store.place} ${listed ? "lists" : "no longer lists"} g${step.generation}`;
  const { pem, version } = await store.read();
  if (version === "absent") return `${words}: it is gone again, as before`;
  if (pem !== "") return words;
  return wasAbsent(context, step)
    ? `${words}: it is empty, where nothing was before; delete it`
    : `${words}: it is empty again`;
}

async function findListed(context: Context, step: StepRef, wanted: boolean): Promise<ReadBack> {
  const store = storeOf(context, step);
  const listed = listsCertificate((await store.read()).pem, generationAt(context, step.generation));
  return listed === wanted ? { did: await listedWords(context, store, step, wanted) } : "absent";
}

async function forget(context: Context, step: StepRef, op: OpId): Promise<Effect> {
  const target = targetOf(context, step);
  await target.forget(stepFor(context, op));
  return { did: `${target.place}: the copy kept for going back is deleted` };
}

async function destroy(context: Context, step: StepRef): Promise<Effect> {
  const { credential } = context.rotation.plan;
  const { secrets } = context.ports;
  const prefix = sessionName(credential, step.generation, "");
  for (const name of await secrets.list()) if (name.startsWith(prefix)) await secrets.delete(name);
  await secrets.delete(keyName(credential, step.generation));
  return { did: `the private key of g${step.generation} is deleted from the secret store` };
}

/** An instance was issued and is not used: what the journal says of it. */
export function orphaned(
  generation: Generation | undefined,
  why: string,
  expires: number,
): Event & { type: "Orphaned" } {
  return { type: "Orphaned", ...(generation === undefined ? {} : { generation }), why, expires };
}
