import { isIP } from "node:net";
import type { Member, ProbeResult } from "../../drivers/roles.ts";
import { sayMillis } from "../../engine/time-words.ts";
import { parseCertificates } from "../../pki/certificate.ts";
import { covers } from "../../pki/hostnames.ts";
import type { Diagnosis } from "../api.ts";
import { nameOf } from "../context.ts";
import { allLimited } from "../limited.ts";
import { clockTrouble } from "./clocks.ts";
import { type Check, failed, isForeign, ok, type Patient, problem, warning } from "./patient.ts";

const atOnce = 16;

/** Every replica is dialled itself and presents what is stored. */
export const presenters: Check = async (patient) => {
  const foreign = isForeign(patient);
  const found = await allLimited([...patient.resolved.presenters], atOnce, async ([id, { bound, member }]) => {
    const at = `presenter ${id}`;
    try {
      // Of another CA: what is there, not whether it leads to ours. Roots of the manifest count all the same.
      const roots = foreign ? "" : (patient.parties.issuer.instance.roots?.() ?? "");
      const result = await bound.instance.probe(member, roots, patient.step);
      const index = patient.parties.presenters.indexOf(bound);
      const { settings } = patient.manifest.presenters[index]!;
      const serverName = "serverName" in settings ? settings.serverName : undefined;
      const clock = await clockOf(patient, member, bound.instance.clock);
      return [...judge(at, id, result, serverName, patient), ...clockTrouble(at, clock, patient)];
    } catch (error) {
      return [failed(at, error)];
    }
  });
  return found.flat();
};

/** A server that does not tell the time says nothing about its clock. */
async function clockOf(
  { step }: Patient,
  member: Member,
  clock: ((member: Member, step: Patient["step"]) => Promise<number | undefined>) | undefined,
): Promise<number | undefined> {
  return clock?.(member, step).catch(() => undefined);
}

function judge(
  at: string,
  id: string,
  result: ProbeResult,
  serverName: string | undefined,
  patient: Patient,
): Diagnosis[] {
  const { found, lineage, manifest, clock } = patient;
  if (result.saw !== "presented") {
    const why = result.saw === "unknown" ? result.why : result.saw;
    const next = `start it or correct the address; until it answers, a rotation holds at ${id}`;
    return [found === undefined ? warning(at, why, next) : problem(at, why, next)];
  }
  const leaf = result.chain[0] ?? "";
  if (found === undefined) {
    const what = "presents a certificate, and no target of the manifest holds any: it reads another file";
    return [problem(at, what, "name the files that it reads under deliver")];
  }
  if (leaf !== found.generation.fingerprint) {
    const what = `presents something else than ${found.place} holds: ${nameOf(lineage, leaf)}; it reads another file, or was not told to reload`;
    return [problem(at, what, "reload or restart it; if it stays so, name the files that it reads under deliver")];
  }
  if (result.problem !== undefined)
    return [
      problem(
        at,
        `presents g${found.generation.number}, but ${result.problem}`,
        `gyre rotate ${manifest.name} delivers a whole chain`,
      ),
    ];
  const good = ok(
    at,
    `presents g${found.generation.number}, ${sayMillis(found.generation.notAfter - clock.now())} left`,
  );
  // A client is not checked by a host name.
  if (serverName === undefined) return [good];
  const wanted = isIP(serverName) === 0 ? `DNS:${serverName}` : `IP:${serverName}`;
  const names = parseCertificates(found.open.certificate)[0]?.names ?? [];
  if (!covers(names, wanted)) {
    const what = `presents g${found.generation.number}, which is not for ${serverName} but for ${names.join(", ") || "nobody"}`;
    return [problem(at, what, "correct serverName, or the names of the credential")];
  }
  return [good];
}
