import { it } from "vitest";
import { killAtEveryBoundary } from "./every-boundary.ts";

it("overlap ends the same after a kill at every boundary", () => killAtEveryBoundary("overlap"), 1_800_000);
