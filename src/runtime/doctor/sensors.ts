import { randomBytes } from "node:crypto";
import type { Named, Sensor, Step } from "../../drivers/roles.ts";
import type { Diagnosis } from "../api.ts";
import type { Clock } from "../clock.ts";
import { type Check, failed, handleInPlace, note, ok, type Patient, problem } from "./patient.ts";

/** How long a sensor may take to write down a probe that was answered already. Milliseconds. */
const patience = 5_000;
const nobody: Named = { fingerprint: "", serial: "0", issuer: "", notAfter: 0 };

/** Each record of use can be read and shows our own tagged probe: else "no use" would mean "no record". */
export const sensors: Check = async (patient) => {
  const ours = await handleInPlace(patient);
  const found = [];
  for (const { instance } of patient.parties.sensors) {
    const at = `sensor ${instance.place}`;
    found.push(await one(at, instance, ours, patient).catch((error: unknown) => failed(at, error)));
  }
  return found;
};

async function one(
  at: string,
  sensor: Sensor,
  ours: Awaited<ReturnType<typeof handleInPlace>>,
  patient: Patient,
): Promise<Diagnosis> {
  const { resolved, step, clock } = patient;
  const server = resolved.verifiers.get(sensor.member);
  if (server === undefined)
    return problem(
      at,
      `is the record of ${sensor.member}, which is none of the verifiers`,
      "name a member of mutualTls",
    );
  const unreadable = await gapOf(sensor, patient);
  if (unreadable !== undefined && (ours === undefined || /cannot be read/.test(unreadable)))
    return problem(at, unreadable, "let the server write the documented line there, readable for gyre");
  if (ours === undefined) return note(at, "can be read; whether it records uses shows once something is issued");
  // A tag of its own: a file that another server writes to would show the probe of that one.
  const own: Step = { ...step, tag: `${patient.ours}.${randomBytes(4).toString("hex")}` };
  const answer = await server.bound.instance.probe(server.member, ours, own);
  if (answer.saw !== "accepted")
    return note(at, `could not be tried: ${sensor.member} did not accept our probe, see there`);
  if (await seen(sensor, own.tag, clock)) {
    const trouble = await gapOf(sensor, patient);
    if (trouble === undefined) return ok(at, `recorded our own probe of ${sensor.member}`);
    return problem(at, `recorded our probe, but ${trouble}`, "see what else writes to it");
  }
  const trouble = await gapOf(sensor, patient);
  const why = trouble === undefined ? "" : `: ${trouble}`;
  const next = "see that this server writes to this file, in the documented format, and at once";
  return problem(at, `did not record our own probe of ${sensor.member}${why}`, next);
}

/** Why it cannot vouch for this very moment. What it lacks of the past is no matter before a rotation. */
async function gapOf(sensor: Sensor, { clock, ours }: Patient): Promise<string | undefined> {
  const since = clock.now();
  const { gap } = await sensor.usage(nobody, since, ours);
  // A log whose last line is older than now has no gap; one that is empty or new does not reach back, which is no fault.
  return gap !== undefined && /does not reach back/.test(gap) ? undefined : gap;
}

async function seen(sensor: Sensor, tag: string, clock: Clock): Promise<boolean> {
  const until = clock.now() + patience;
  for (;;) {
    if (await sensor.alive(tag)) return true;
    if (clock.now() >= until) return false;
    await clock.sleep(200);
  }
}
