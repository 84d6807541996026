import type { CredentialManifest } from "../manifest/manifest.ts";
import type { Diagnosis, Planned } from "./api.ts";
import type { Clock } from "./clock.ts";
import { resolveInventory } from "./inventory.ts";
import type { Parties } from "./parties.ts";

/** A credential of the manifest against reality, before anything changes. Reads and dials; writes nothing. */
export async function diagnose(
  manifest: CredentialManifest,
  planned: Planned | unknown,
  open: () => Promise<Parties>,
  _stateDirectory: string,
  _clock: Clock,
): Promise<Diagnosis[]> {
  let parties: Parties;
  try {
    parties = await open();
  } catch (error) {
    return [
      {
        level: "problem",
        about: `issuer ${manifest.issuer}`,
        what: error instanceof Error ? error.message : String(error),
      },
    ];
  }
  const { inventory } = await resolveInventory(parties);
  const unresolved = inventory.unresolved.map(({ of, why }): Diagnosis => ({ level: "problem", about: of, what: why }));
  return [...unresolved, ...gradeOf(planned)];
}

function gradeOf(planned: Planned | unknown): Diagnosis[] {
  if (planned instanceof Error) return [{ level: "problem", about: "plan", what: planned.message }];
  const { plan } = planned as Planned;
  if (plan === undefined) return [];
  return [
    { level: "ok", about: "grade", what: `${plan.grade.reachable}: ${plan.grade.why}` },
    ...plan.notices.map((notice): Diagnosis => ({ level: "warning", about: "plan", what: notice })),
  ];
}
