import type { Issued, Issuer, Stored, Target, TrustStore } from "../drivers/roles.ts";
import type { OpId } from "../engine/events.ts";
import type { Digest, StepRef } from "../engine/model.ts";
import { GyreError } from "../errors.ts";
import { parseCertificates } from "../pki/certificate.ts";
import { type Crl, parseCrl } from "../pki/crl.ts";
import { type Context, generationAt, keyName, publicMaterial, stepFor } from "./context.ts";
import { newestOf, numberOf, patiently, unlisted } from "./crls.ts";
import type { Effect } from "./effects.ts";
import { describeIssued, keyFor, listsRevoked, newCsr } from "./material.ts";

/**
 * Making CRLs and putting them where verifiers read them. A CRL never takes the place of one that lists more: a revoked
 * certificate would be accepted again, and nobody told.
 */

/** Long enough for a rotation that holds a while; a control that expired only makes its verifier unknown. */
const canaryLifetime = 24 * 3600_000;

/**
 * A CRL and, where verifiers are asked, the two certificates that show whether they loaded it: a canary that it lists and
 * a control that it does not. Cut off half-way it is begun anew: what is left over are two short-lived certificates
 * whose key is in nobody's hands but ours. `takenIn`: serials that only the CRLs in place knew of.
 */
export async function issueCrl(
  context: Context,
  step: StepRef,
  op: OpId,
): Promise<{ readonly issued: Issued; readonly takenIn: readonly string[] }> {
  const { plan } = context.rotation;
  const { instance: issuer } = context.ports.parties.issuer;
  const takenIn: string[] = [];
  for (const { instance } of context.ports.parties.targets)
    takenIn.push(...((await issuer.takeIn?.((await instance.read()).certificate, stepFor(context, op))) ?? []));
  let chain = "";
  if (plan.verifiers.length > 0) {
    const canary = await probeCertificate(context, issuer, step, `${op}/canary`);
    const control = await probeCertificate(context, issuer, step, `${op}/control`);
    await issuer.retire?.(describeIssued(canary, "certificate"), stepFor(context, op));
    chain = canary.certificate + control.certificate + control.chain;
  }
  const certificate = await newCrl(context, op, plan.request.lifetime);
  return { issued: { certificate, chain, roots: "" }, takenIn };
}

async function newCrl(context: Context, op: OpId, lifetime?: number): Promise<string> {
  const { id, instance } = context.ports.parties.issuer;
  if (instance.publishCrl === undefined) throw new GyreError({ code: "issuer", message: `${id} cannot publish CRLs` });
  return instance.publishCrl(stepFor(context, op), lifetime);
}

async function probeCertificate(context: Context, issuer: Issuer, step: StepRef, op: OpId): Promise<Issued> {
  const request = {
    subject: "CN=gyre CRL canary",
    names: [],
    usages: ["client"] as const,
    lifetime: Math.min(canaryLifetime, context.rotation.plan.request.lifetime),
  };
  const key = await keyFor(context.ports.secrets, keyName(context.rotation.plan.credential, step.generation), "P-256");
  return issuer.issue(
    { ...request, csr: newCsr(key, { ...context.rotation.plan.request, ...request }) },
    stepFor(context, op),
  );
}

export async function publish(context: Context, store: TrustStore, step: StepRef, op: OpId): Promise<Effect> {
  const old = generationAt(context, step.generation);
  return patiently(async () => {
    const { pem, version } = await store.read();
    // Another credential's rotation published since. Its CRL lists this one too, and ours would take that one's entry away.
    if (listsRevoked(pem, old, context.now) === undefined)
      return { did: `${store.place} holds a CRL with serial ${old.serial} already` };
    const evidence = await crlOver(context, pem, op);
    await store.put((await context.ports.evidence.get(evidence)).toString("utf8"), version, stepFor(context, op));
    return { did: `${store.place} holds a CRL with serial ${old.serial}`, evidence };
  });
}

/**
 * The CRL that may take the place of what is there. One for all stores of a rotation, since a number that differs from
 * place to place would read as places left behind; a fresh one where that would take entries away.
 */
async function crlOver(context: Context, pem: string, op: OpId): Promise<Digest> {
  const { instance: issuer } = context.ports.parties.issuer;
  const takenIn = (await issuer.takeIn?.(pem, stepFor(context, op))) ?? [];
  const earlier = [...context.rotation.steps.values()].find(
    (done) => done.step.kind === "publish" && done.evidence !== undefined,
  )?.evidence;
  if (earlier !== undefined && takenIn.length === 0) {
    const present = newestOf(pem, issuer);
    const ours = parseCrl((await context.ports.evidence.get(earlier)).toString("utf8"));
    if (present === undefined || numberOf(present) < numberOf(ours)) return earlier;
  }
  return context.ports.evidence.put(await newCrl(context, op));
}

export async function findPublished(
  context: Context,
  store: TrustStore,
  step: StepRef,
): Promise<{ did: string } | "absent"> {
  const problem = listsRevoked((await store.read()).pem, generationAt(context, step.generation), context.now);
  return problem === undefined ? { did: `${store.place} holds a CRL with g${step.generation}` } : "absent";
}

/**
 * Undo of a CRL's delivery: the one from before is put back where verifiers lose nothing by it. Otherwise the one that is
 * there stays, and it is said why: an entry is not taken back, and a place that verifiers read is not left without a CRL.
 */
export async function putBackCrl(context: Context, target: Target, step: StepRef, op: OpId): Promise<Effect> {
  return patiently(async () => {
    const stored = await target.read();
    if (step.generation === 0) return { did: kept(context, target, stored, "there was none before to go back to") };
    const old = parseCrl((await publicMaterial(context, generationAt(context, step.generation))).certificate);
    if (stored.certificate !== "") {
      const present = parseCrl(stored.certificate);
      if (present.fingerprint === old.fingerprint) return { did: `${target.place} holds g${step.generation} again` };
      const why = await mayNotReturn(context, step.generation, old, present);
      if (why !== undefined) return { did: kept(context, target, stored, why) };
    }
    await target.restore(stored.version, stepFor(context, op));
    return { did: `${target.place} holds g${step.generation} again` };
  });
}

function kept({ rotation, lineage }: Context, target: Target, { certificate }: Stored, why: string): string {
  if (certificate === "") return `${target.place} holds no CRL: somebody took it away`;
  const { fingerprint, number } = parseCrl(certificate);
  const ours = lineage.generations.get(rotation.plan.to)?.fingerprint === fingerprint;
  return `${target.place} keeps ${ours ? `g${rotation.plan.to}` : `the CRL with number ${number}`}: ${why}`;
}

/** Why the CRL `old` (generation `number`) must not take the place of `present`. */
async function mayNotReturn(context: Context, number: number, old: Crl, present: Crl): Promise<string | undefined> {
  const { plan } = context.rotation;
  if (old.nextUpdate !== undefined && old.nextUpdate <= context.now + plan.timing.skew)
    return `g${number} ends ${new Date(old.nextUpdate).toISOString()}, and verifiers would refuse everybody by it`;
  const due = await context.ports.parties.issuer.instance.revoked?.();
  const canary = await canarySerial(context);
  const lost = unlisted(present, old).filter((serial) => serial !== canary && due?.has(serial) !== false);
  const [first, ...more] = lost;
  if (first === undefined) return undefined;
  const others = more.length === 0 ? "" : ` and ${more.length} more`;
  return `g${number} does not list serial ${first}${others}, revoked since: by it verifiers would accept that again`;
}

/** Ours, in nobody's hands, and deleted with the rotation: that one may be accepted again. */
async function canarySerial(context: Context): Promise<string | undefined> {
  const { chain } = await publicMaterial(context, generationAt(context, context.rotation.plan.to));
  return chain === "" ? undefined : parseCertificates(chain)[0]?.serial;
}
