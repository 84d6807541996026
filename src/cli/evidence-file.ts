import { join } from "node:path";
import type { Digest } from "../engine/model.ts";
import type { Lineage } from "../engine/state.ts";
import { GyreError } from "../errors.ts";
import { openEvidence } from "../journal/evidence.ts";
import type { TimelineEntry } from "../runtime/api.ts";

/**
 * The public evidence file a person named by its digest, or by a beginning of 8 or more hex digits that only one of
 * this credential's digests has.
 * @throws GyreError `input` when none or several are meant; `damaged`, `disk` from the store
 */
export async function readEvidence(
  stateDirectory: string,
  shown: { readonly lineage: Lineage; readonly entries: readonly TimelineEntry[] },
  asked: string,
): Promise<string> {
  const hex = asked.replace(/^sha256:/, "").toLowerCase();
  if (!/^[0-9a-f]{8,64}$/.test(hex)) {
    throw new GyreError({
      code: "input",
      message: `${JSON.stringify(asked)} is no evidence digest: 8 to 64 hex digits, with or without sha256: before them`,
      next: "gyre show NAME prints them in brackets behind each entry",
    });
  }
  const matching = [...known(shown)].filter((digest) => digest.startsWith(`sha256:${hex}`));
  const [digest, ...more] = matching;
  if (digest === undefined || more.length > 0) {
    throw new GyreError({
      code: "input",
      message:
        digest === undefined
          ? `no evidence of this credential begins with ${hex}`
          : `${matching.length} digests begin with ${hex}`,
      next:
        digest === undefined
          ? "gyre show NAME prints them in brackets behind each entry"
          : `one of: ${matching.join(", ")}`,
    });
  }
  const bytes = await openEvidence(join(stateDirectory, "evidence")).get(digest);
  const text = bytes.toString("utf8");
  return text.endsWith("\n") ? text : `${text}\n`;
}

function known({
  lineage,
  entries,
}: {
  readonly lineage: Lineage;
  readonly entries: readonly TimelineEntry[];
}): ReadonlySet<Digest> {
  const found = new Set<Digest>();
  for (const entry of entries) if (entry.evidence !== undefined) found.add(entry.evidence);
  for (const generation of lineage.generations.values()) found.add(generation.material);
  return found;
}
