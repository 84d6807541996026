import { buildEstate } from "../estate.ts";
import { type Play, playedIn } from "../scene.ts";
import * as files from "./files.ts";
import * as issuers from "./issuers.ts";
import * as members from "./members.ts";
import * as runners from "./runners.ts";
import * as sensors from "./sensors.ts";
import * as verifiers from "./verifiers.ts";

const order = ({ line, name }: Play): string => `${String(line).padStart(3, "0")} ${name}`;

/** The table, in the order of its lines. */
export const scenes: readonly Play[] = [
  ...Object.values(files),
  ...Object.values(issuers),
  ...Object.values(members),
  ...Object.values(sensors),
  ...Object.values(runners),
  ...Object.values(verifiers),
]
  .map((scene) => playedIn(buildEstate, scene))
  .sort((a, b) => order(a).localeCompare(order(b)));
