import { it } from "vitest";
import { killAtEveryBoundary } from "./every-boundary.ts";

it("replace ends the same after a kill at every boundary", () => killAtEveryBoundary("replace"), 1_800_000);
