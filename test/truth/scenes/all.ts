import type { Scene } from "../scene.ts";
import {
  balancerHides,
  diesAfterReload,
  envoyReadsOnce,
  haproxyIgnoresReload,
  ignoresReload,
  joinsHalfWay,
  nodeAway,
  readsOnce,
} from "./members.ts";

/** The table, in the order of its lines. */
export const scenes: readonly Scene[] = [
  ignoresReload,
  haproxyIgnoresReload,
  envoyReadsOnce,
  balancerHides,
  readsOnce,
  nodeAway,
  joinsHalfWay,
  diesAfterReload,
];
