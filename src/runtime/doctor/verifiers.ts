import type { CredentialHandle, Member, ProbeResult, Verifier } from "../../drivers/roles.ts";
import { sayMillis } from "../../engine/time-words.ts";
import { parseCertificates } from "../../pki/certificate.ts";
import { signSelfSigned } from "../../pki/issue.ts";
import { exportPrivateKey, generateKey } from "../../pki/keys.ts";
import type { Diagnosis } from "../api.ts";
import { allLimited } from "../limited.ts";
import { clockTrouble } from "./clocks.ts";
import { type Check, failed, handleInPlace, nameOfFound, note, ok, type Patient, problem, warning } from "./patient.ts";

const atOnce = 16;
const hour = 3600_000;

/** Every verifier tells our credential from a stranger's: without that nothing it says later proves anything. */
export const verifiers: Check = async (patient) => {
  const { resolved, manifest } = patient;
  if (resolved.verifiers.size === 0) return [];
  const ours = await handleInPlace(patient);
  const stranger = await makeStranger(patient);
  const found = await allLimited([...resolved.verifiers], atOnce, async ([id, { bound, member }]) => {
    const at = `verifier ${id}`;
    try {
      const seen = await (ours === undefined
        ? strangerOnly(at, bound.instance, member, stranger, patient)
        : both(at, bound.instance, member, ours, stranger, patient));
      return seen;
    } catch (error) {
      return [failed(at, error)];
    }
  });
  stranger.privateKey.wipe();
  const keyless = patient.found !== undefined && ours === undefined && manifest.kind === "certificate";
  const blind = keyless
    ? [
        problem(
          "verifiers",
          `${nameOfFound(patient)} lies in place without its key, so that no verifier can be shown it`,
          "see the target above",
        ),
      ]
    : [];
  return [...blind, ...found.flat()];
};

async function both(
  at: string,
  verifier: Verifier,
  member: Member,
  ours: CredentialHandle,
  stranger: CredentialHandle,
  patient: Patient,
): Promise<Diagnosis[]> {
  const result = await verifier.probe(member, ours, patient.step);
  const clock = clockTrouble(at, clockOf(result), patient);
  if (result.saw !== "accepted") return [...notAccepted(at, result, patient), ...clock];
  const foreign = await verifier.probe(member, stranger, patient.step);
  if (foreign.saw !== "refused") return [strangerStays(at, foreign), ...clock];
  return [
    ok(at, `accepts ${nameOfFound(patient)} as ${result.as}, and refuses a stranger (${foreign.code})`),
    ...weakness(at, result),
    ...(verifier.can.canRefuse === true
      ? await sessions(at, verifier, member, ours, patient)
      : [cannotRefuse(at, patient)]),
    ...clock,
  ];
}

/** Before the first issue, and for a CRL: that it refuses whom nobody knows can be seen already. */
async function strangerOnly(
  at: string,
  verifier: Verifier,
  member: Member,
  stranger: CredentialHandle,
  patient: Patient,
): Promise<Diagnosis[]> {
  const foreign = await verifier.probe(member, stranger, patient.step);
  const clock = clockTrouble(at, clockOf(foreign), patient);
  if (foreign.saw !== "refused") return [strangerStays(at, foreign), ...clock];
  return [ok(at, `refuses a stranger (${foreign.code})`), ...clock];
}

function notAccepted(at: string, result: Exclude<ProbeResult, { saw: "accepted" }>, patient: Patient): Diagnosis[] {
  const g = nameOfFound(patient);
  if (result.saw === "refused") {
    const what = `refuses ${g}, which is in use (${result.code}${saying(result)})`;
    return [problem(at, what, "read its log: a CA that it does not trust, a CRL that expired, or a revoked one")];
  }
  if (result.saw === "denied")
    return [
      problem(at, `knows ${g} as ${result.as} and denies it`, "give it the rights it needs, or probe another path"),
    ];
  const why = result.saw === "unknown" ? result.why : result.saw;
  if (/is not refused/.test(why)) {
    const next =
      "let the server verify client certificates, or name the header in which it tells whom it saw (request.identityHeader)";
    return [problem(at, `its answer does not depend on the credential: ${why}`, next)];
  }
  return [
    problem(
      at,
      `whether it accepts ${g} cannot be told: ${why}`,
      "correct the address or the request; a rotation would hold here",
    ),
  ];
}

function strangerStays(at: string, result: ProbeResult): Diagnosis {
  if (result.saw === "accepted")
    return problem(
      at,
      "accepts a certificate that nobody issued",
      "let the server verify client certificates against the CA",
    );
  const why = result.saw === "unknown" ? result.why : result.saw;
  if (/is not refused/.test(why) || result.saw === "denied")
    return problem(
      at,
      `does not refuse a stranger's certificate: ${why}`,
      "let the server verify client certificates against the CA",
    );
  return problem(
    at,
    `whether it refuses a stranger cannot be told: ${why}`,
    "correct the address, `server` or the request; a rotation would hold here",
  );
}

/** Good enough to go on, and said, since it ends up on the receipt. */
function weakness(at: string, { detail }: ProbeResult): Diagnosis[] {
  const found: Diagnosis[] = [];
  if (detail?.serverChecked === false)
    found.push(note(at, "its own certificate is not checked", "name its CA bundle under roots"));
  if (detail?.basis === "controls")
    found.push(
      note(
        at,
        "does not name whom it saw; told from two controls at every look",
        "name a header under request.identityHeader",
      ),
    );
  return found;
}

const cannotRefuse = (at: string, patient: Patient): Diagnosis =>
  note(
    at,
    `cannot refuse ${nameOfFound(patient)} before it expires`,
    "say refuses: crl or pins where the server has either",
  );

/** A session outlives a reload where its ticket key does; the rotation tries ours again after the removal. */
async function sessions(
  at: string,
  verifier: Verifier,
  member: Member,
  ours: CredentialHandle,
  { step, manifest }: Patient,
): Promise<Diagnosis[]> {
  // A member that would not open one was seen accepting a moment ago: nothing to tell.
  const session = await verifier.session?.(member, ours, step).catch(() => undefined);
  if (session === undefined) return [];
  const resumed = await verifier.resume?.(member, session, ours, step);
  session.wipe();
  if (resumed?.saw !== "accepted") return [];
  const { ticketLifetime, window } = manifest.quiet;
  const declared =
    ticketLifetime === undefined
      ? window === undefined
        ? ""
        : `; quiet waits ${sayMillis(window)}`
      : `; declared as ${sayMillis(ticketLifetime)}`;
  const what = `lets sessions be resumed without looking at the certificate again${declared}`;
  if (declared === "")
    return [
      warning(
        at,
        what,
        "say quiet.ticketLifetime; if its ticket keys outlive a reload, the old one stays accepted that long",
      ),
    ];
  return [note(at, what)];
}

const clockOf = ({ detail }: ProbeResult): number | undefined =>
  typeof detail?.clockDifference === "number" ? detail.clockDifference : undefined;

const saying = ({ detail }: ProbeResult): string => (typeof detail?.means === "string" ? `: ${detail.means}` : "");

/** Self-signed, with the subject of the one in use: what anybody could make who knows the name. */
async function makeStranger({ found, clock, manifest }: Patient): Promise<CredentialHandle> {
  const key = await generateKey("P-256");
  const known =
    found === undefined || manifest.kind === "crl" ? undefined : parseCertificates(found.open.certificate)[0];
  const subject = known?.subject ?? "CN=gyre doctor";
  const now = clock.now();
  const validity = { notBefore: now - hour, notAfter: now + hour };
  const certificate = signSelfSigned(key, {
    subject,
    names: subject === "" ? ["DNS:stranger.invalid"] : [],
    usages: ["client"],
    ...validity,
  });
  const { fingerprint, serial, issuer, notAfter, pem } = certificate;
  return { fingerprint, serial, issuer, notAfter, certificate: pem, chain: "", privateKey: exportPrivateKey(key) };
}
