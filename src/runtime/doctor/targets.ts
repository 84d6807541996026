import { lookAtTarget } from "../../drivers/files/look-at-place.ts";
import type { TargetSettings } from "../../drivers/files/settings.ts";
import type { Stored } from "../../drivers/roles.ts";
import { sayInstant, sayMillis } from "../../engine/time-words.ts";
import { type Certificate, parseCertificates } from "../../pki/certificate.ts";
import { checkChain } from "../../pki/chain.ts";
import { keyMatches, readPrivateKey } from "../../pki/keys.ts";
import { lint } from "../../pki/lint.ts";
import { normaliseNames } from "../../pki/names.ts";
import type { Diagnosis } from "../api.ts";
import { authoritiesOf, type Check, failed, isForeign, note, ok, type Patient, problem, warning } from "./patient.ts";

const about = (place: string): string => `target ${place}`;

/** Each place can be written and read, and holds a pair that works. */
export const targets: Check = async (patient) => {
  const found: Diagnosis[] = [];
  for (const { bound, settings, baseDir } of patient.targets) {
    const at = about(bound.instance.place);
    await bound.instance.check?.().catch((error: unknown) => found.push(failed(at, error)));
    if (bound.driver === "files") {
      const troubles = await lookAtTarget(settings as TargetSettings, baseDir);
      found.push(...troubles.map((trouble) => failed(at, trouble)));
    }
    const seen = await bound.instance.read().then(
      (stored) => judgeStored(at, stored, patient),
      (error: unknown) => [failed(at, error)],
    );
    found.push(...seen);
  }
  // The same fault is found by a check and by a read.
  return [...new Map(found.map((one) => [`${one.about} ${one.what}`, one])).values()];
};

function judgeStored(at: string, stored: Stored, patient: Patient): Diagnosis[] {
  const { name } = patient.manifest;
  if (stored.torn === true)
    return [
      problem(at, "holds half of one and half of another: a delivery was cut off", `gyre rotate ${name} ends it`),
    ];
  if (stored.version === "absent") return [note(at, "holds nothing yet: a first issue")];
  const [leaf, ...chain] = stored.certificate.trim() === "" ? [] : parseCertificates(stored.certificate);
  if (leaf === undefined)
    return [problem(at, "holds no certificate that can be read", "put the right one there, or delete the file")];
  const { flaw } = stored;
  const flaws = flaw === undefined ? [] : [problem(at, flaw, `gyre rotate ${name} delivers it as it must be`)];
  const trouble = [...flaws, ...keyTrouble(at, stored, leaf), ...chainTrouble(at, leaf, chain, patient)];
  const marks = [...lintOf(at, leaf), ...namesNote(at, leaf, patient)];
  if (trouble.length > 0) return [...trouble, ...marks];
  const left = sayMillis(leaf.notAfter - patient.clock.now());
  return [ok(at, `holds ${leaf.fingerprint.slice(0, 8)} with its key, ${left} left`), ...marks];
}

function keyTrouble(at: string, stored: Stored, leaf: Certificate): Diagnosis[] {
  const next = "put the key that belongs to it there; the next rotation replaces both";
  if (stored.privateKey === undefined) return [problem(at, "holds a certificate without a private key", next)];
  try {
    if (keyMatches(leaf, readPrivateKey(stored.privateKey))) return [];
  } catch (error) {
    return [failed(at, error, next)];
  }
  return [problem(at, "holds a private key that is not the certificate's own", next)];
}

/** Complete to the issuer's roots now, when clocks differ, and at its end. */
function chainTrouble(at: string, leaf: Certificate, chain: readonly Certificate[], patient: Patient): Diagnosis[] {
  const { parties, manifest, clock, issuer } = patient;
  const now = clock.now();
  if (leaf.notAfter <= now) {
    const what = `holds one that expired ${sayInstant(leaf.notAfter)}`;
    return [problem(at, what, `gyre rotate ${manifest.name}`)];
  }
  const { roots } = authoritiesOf(parties.issuer.instance);
  if (roots.length === 0) return [];
  if (isForeign(patient)) {
    const what = `holds one of ${JSON.stringify(leaf.issuer)}; the next will be of ${JSON.stringify(roots[0]!.subject)}`;
    return [warning(at, what, `see that everybody who checks it trusts ${issuer.name} before it is rotated`)];
  }
  const holds = (instant: number) =>
    manifest.request.usages.flatMap(
      (purpose) => checkChain({ leaf, intermediates: chain, roots, at: [instant], purpose }).problems,
    )[0];
  const today = holds(now);
  if (today !== undefined)
    return [
      problem(
        at,
        `its chain does not hold: ${today.about}: ${today.message}`,
        "the next rotation delivers a whole chain",
      ),
    ];
  const later = [now + manifest.timing.skew, leaf.notAfter - 60_000].filter((instant) => instant < leaf.notAfter);
  for (const instant of later) {
    const then = holds(instant);
    if (then !== undefined)
      return [warning(at, `its chain ends before it does: ${then.about}: ${then.message}`, "rotate before then")];
  }
  return [];
}

/** Of the one in place: the next one is judged before it is delivered, so none of it stands in the way. */
function lintOf(at: string, leaf: Certificate): Diagnosis[] {
  return lint(leaf).flatMap(({ severity, message, reference }) => {
    const what = `what it holds: ${message} (${reference})`;
    if (severity === "note") return [];
    if (severity === "warning") return [note(at, what)];
    return [warning(at, what, "verifiers may refuse it; rotate it soon")];
  });
}

function namesNote(at: string, leaf: Certificate, { manifest }: Patient): Diagnosis[] {
  const wanted = normaliseNames(manifest.request.names);
  const lost = leaf.names.filter((name) => !wanted.includes(name));
  if (lost.length === 0) return [];
  return [
    warning(at, `the next one will no longer be for ${lost.join(", ")}`, "add them to the manifest if they are needed"),
  ];
}
