import type { Named, Sensor, Step } from "../drivers/roles.ts";
import type { Recorded } from "../engine/events.ts";
import type { Instant } from "../engine/model.ts";
import type { Lineage } from "../engine/state.ts";
import { GyreError } from "../errors.ts";
import { parseCertificates } from "../pki/certificate.ts";
import type { Whereabouts } from "./api.ts";
import type { Parties } from "./parties.ts";

/** One credential's journal, and what it adds up to. */
export interface History {
  readonly lineage: Lineage;
  readonly entries: readonly Recorded[];
}

/** How far back sensors are asked. */
const sensorReach = 30 * 86400_000;

/** Everything that holds, presents or uses a certificate. A place that could not be asked is told as such, never left out. */
export async function whereabouts(
  prefix: string,
  histories: ReadonlyMap<string, History>,
  parties: ReadonlyMap<string, Parties>,
  now: Instant,
): Promise<Whereabouts[]> {
  const wanted = prefix
    .toLowerCase()
    .replaceAll(":", "")
    .replace(/^sha256/, "");
  if (!/^[0-9a-f]{8,64}$/.test(wanted)) {
    throw new GyreError({
      code: "input",
      message: `${prefix} is not a SHA-256 fingerprint: 8 to 64 hex digits are needed`,
      next: "openssl x509 -noout -fingerprint -sha256 -in FILE",
    });
  }
  const lineages = new Map([...histories].map(([name, { lineage }]) => [name, lineage]));
  const found: Whereabouts[] = [...histories].flatMap(([credential, history]) => issued(wanted, credential, history));
  for (const [credential, these] of parties) {
    const parts = await Promise.all([
      stored(wanted, credential, these),
      presented(wanted, credential, these),
      used(wanted, credential, these, lineages.get(credential), now),
    ]);
    found.push(...parts.flat());
  }
  if (wanted.length === 64 && ![...lineages.values()].some((lineage) => matching(lineage, wanted).length > 0))
    found.push(...(await usedThough(wanted, parties, now)));
  return found.map((one) => ({ ...number(one, lineages), ...one }));
}

function issued(wanted: string, credential: string, { lineage, entries }: History): Whereabouts[] {
  const known = journaled(entries);
  return [...lineage.generations.values()]
    .filter((generation) => generation.fingerprint.startsWith(wanted))
    .map((generation) => {
      const { at, foundAt } = known.get(generation.number) ?? {};
      const { fingerprint, subject, names, serial, notAfter, number } = generation;
      const words = [
        subject || names.join(", "),
        `serial ${serial}`,
        `until ${new Date(notAfter).toISOString()}`,
        ...(foundAt === undefined ? [] : [`found at ${foundAt}`]),
        ...(number === lineage.current ? ["in use"] : []),
      ];
      return {
        ...{ fingerprint, where: `journal of ${credential}`, how: "issued" as const, credential, generation: number },
        ...(at === undefined ? {} : { at }),
        detail: words.join(", "),
      };
    });
}

interface Known {
  readonly at?: Instant;
  /** Where it lay, when it was taken in and not issued for a rotation. */
  readonly foundAt?: string;
}

/** When the journal first knew each generation: its notBefore lies in the past, for verifiers with slow clocks. */
function journaled(entries: readonly Recorded[]): ReadonlyMap<number, Known> {
  const known = new Map<number, Known>();
  for (const { at, event } of entries) {
    if (event.type === "GenerationAdopted" && !known.has(event.generation.number))
      known.set(event.generation.number, { at, foundAt: event.foundAt });
    if (event.type === "StepDone" && event.generation !== undefined) known.set(event.generation.number, { at });
  }
  return known;
}

async function stored(wanted: string, credential: string, parties: Parties): Promise<Whereabouts[]> {
  const places = [
    ...parties.targets.map(({ instance }) => ({
      place: instance.place,
      read: async () => (await instance.read()).certificate,
    })),
    ...parties.trustStores.map(({ instance }) => ({
      place: instance.place,
      read: async () => (await instance.read()).pem,
    })),
  ];
  const answers = await Promise.all(
    places.map(async ({ place, read }) => {
      try {
        const pem = await read();
        const certificates = pem.includes("CERTIFICATE-----") ? parseCertificates(pem) : [];
        return certificates
          .filter((one) => one.fingerprint.startsWith(wanted))
          .map(
            (one): Whereabouts => ({
              fingerprint: one.fingerprint,
              where: place,
              how: "stored",
              credential,
              detail: `stored for ${credential}`,
            }),
          );
      } catch (error) {
        return [unasked(wanted, place, "stored", credential, error)];
      }
    }),
  );
  return answers.flat();
}

async function presented(wanted: string, credential: string, parties: Parties): Promise<Whereabouts[]> {
  const step: Step = { op: "who", signal: new AbortController().signal, tag: "who.0" };
  const answers = await Promise.all(
    parties.presenters.map(async ({ id, instance }) => {
      try {
        const members = await instance.members();
        const looks = await Promise.all(
          members.map(async (member) => ({ member, result: await instance.probe(member, "", step) })),
        );
        return looks.flatMap(({ member, result }): Whereabouts[] => {
          if (result.saw === "unknown")
            return [unasked(wanted, member.id, "presented", credential, new Error(result.why))];
          if (result.saw !== "presented" || result.chain[0]?.startsWith(wanted) !== true) return [];
          return [
            {
              fingerprint: result.chain[0],
              where: member.id,
              how: "presented",
              credential,
              detail: "presented on a full handshake just now",
            },
          ];
        });
      } catch (error) {
        return [unasked(wanted, id, "presented", credential, error)];
      }
    }),
  );
  return answers.flat();
}

async function used(
  wanted: string,
  credential: string,
  parties: Parties,
  lineage: Lineage | undefined,
  now: Instant,
): Promise<Whereabouts[]> {
  const asked = matching(lineage, wanted).flatMap((generation) => {
    const since = Math.max(generation.notBefore, now - sensorReach);
    return parties.sensors.map(({ instance }) => usedAt(instance, generation, since, now, credential));
  });
  return (await Promise.all(asked)).flat();
}

const matching = (lineage: Lineage | undefined, wanted: string) =>
  [...(lineage?.generations.values() ?? [])].filter(({ fingerprint }) => fingerprint.startsWith(wanted));

/** A certificate that no journal knows: asked of the sensors that need no more than its fingerprint, each once. */
async function usedThough(
  fingerprint: string,
  parties: ReadonlyMap<string, Parties>,
  now: Instant,
): Promise<Whereabouts[]> {
  const sensors = new Map(
    [...parties.values()]
      .flatMap((these) => these.sensors.map(({ instance }) => instance))
      .filter(({ can }) => can.byFingerprint === true)
      .map((sensor) => [sensor.place, sensor]),
  );
  const stranger: Named = { fingerprint, serial: "", issuer: "", notAfter: 0 };
  const asked = [...sensors.values()].map((sensor) => usedAt(sensor, stranger, now - sensorReach, now));
  return (await Promise.all(asked)).flat();
}

async function usedAt(
  sensor: Sensor,
  of: Named,
  since: Instant,
  now: Instant,
  credential?: string,
): Promise<Whereabouts[]> {
  const { fingerprint } = of;
  const at = { fingerprint, where: sensor.place, ...(credential === undefined ? {} : { credential }) };
  try {
    const { count, ours = 0, last, from, gap, gapUntil = 0 } = await sensor.usage(of, since);
    // It knows nothing of any time at all: its silence is no answer.
    if (count + ours === 0 && gap !== undefined && gapUntil >= now) throw new Error(gap);
    if (count + ours === 0) return [];
    const probes = ours > 0 ? `; ${ours} more by our own probes` : "";
    return [
      {
        ...{ ...at, how: count > 0 ? "used" : "probed" },
        ...(last === undefined ? {} : { at: last }),
        detail:
          count > 0
            ? `used ${times(count)} by ${from.join(", ")}${probes}`
            : `by nobody but our own probes, ${times(ours)}`,
      },
    ];
  } catch (error) {
    return [unasked(fingerprint, sensor.place, "used", credential, error)];
  }
}

const times = (count: number): string => (count === 1 ? "once" : `${count} times`);

const unasked = (
  fingerprint: string,
  where: string,
  how: Whereabouts["how"],
  credential: string | undefined,
  error: unknown,
): Whereabouts => ({
  ...{ fingerprint, where, how },
  ...(credential === undefined ? {} : { credential }),
  unasked: true,
  detail: `could not be asked: ${error instanceof Error ? error.message : String(error)}`,
});

function number(one: Whereabouts, lineages: ReadonlyMap<string, Lineage>): { generation?: number } {
  const lineage = one.credential === undefined ? undefined : lineages.get(one.credential);
  const generation = [...(lineage?.generations.values() ?? [])].find((known) => known.fingerprint === one.fingerprint);
  return generation === undefined ? {} : { generation: generation.number };
}
