import type { Instant } from "./model.ts";
import type { Rotation } from "./state.ts";

/** When the quiet window began: with adoption, or with what disturbed it last. */
export function quietSince(rotation: Rotation): Instant {
  const adopted = rotation.passed.find((entry) => entry.stage === "adopted")?.at ?? rotation.plannedAt;
  return Math.max(adopted, rotation.disturbedAt ?? 0);
}

/** When the quiet window will have been undisturbed for its whole length. A look at a sensor counts from then on only. */
export const quietUntil = (rotation: Rotation): Instant => quietSince(rotation) + rotation.plan.quiet.window;
