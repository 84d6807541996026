import type { StrategyName } from "../model.ts";
import { overlap } from "./overlap.ts";
import { replace } from "./replace.ts";
import type { Strategy } from "./strategy.ts";

/** Every strategy is a table that the one loop in decide.ts runs. A new kind of rotation is a new row here. */
export const strategies: Readonly<Record<StrategyName, Strategy>> = { replace, overlap };
