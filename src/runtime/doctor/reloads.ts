import { lookAtReload, programOf } from "../../drivers/files/reload.ts";
import { consumedBy } from "../../drivers/kubernetes/look-at-consumers.ts";
import type { Diagnosis } from "../api.ts";
import { type Check, type Entry, failed, ok, type Patient, warning } from "./patient.ts";

interface Placed {
  readonly place: string;
}

/** How each process learns of what is stored: what would be run or signalled is there, and is the one meant. */
export const reloads: Check = async ({ targets, stores }) => {
  const found = [];
  for (const entry of targets) found.push(...(await one(entry, "target")));
  for (const entry of stores) found.push(...(await one(entry, "trust store")));
  return found;
};

async function one({ bound, settings, baseDir }: Entry<Placed>, role: string): Promise<Diagnosis[]> {
  const at = `reload of ${role} ${bound.instance.place}`;
  const found: Diagnosis[] = [];
  const { reload } = settings;
  const validate = (settings.validate as { command?: readonly string[] } | undefined)?.command?.[0];
  if (validate !== undefined)
    await programOf("validate command", validate, baseDir).catch((error: unknown) => found.push(failed(at, error)));
  // Who uses a Secret or a ConfigMap is looked at itself (consumers.ts).
  if (reload === undefined && consumedBy(bound.driver, settings) !== undefined) return found;
  if (reload === undefined) {
    const what = "nothing tells its process to load new material";
    return [
      ...found,
      warning(at, what, "add reload, or restart it once a rotation delivered; gyre plan says what happens otherwise"),
    ];
  }
  const did = await lookAtReload(reload, baseDir).then(
    (words) => ok(at, words),
    (error: unknown) => failed(at, error),
  );
  return [...found, did];
}

/** Said above for each place, so not again as a notice of the plan. */
export const saidByReloads = (notice: string, { targets }: Patient): boolean =>
  targets.some(({ bound }) =>
    ["nothing tells its process", "kubelet changes"].some((words) => notice.startsWith(`${bound.id}: ${words}`)),
  );
