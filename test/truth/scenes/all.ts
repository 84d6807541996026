import { buildEstate } from "../estate.ts";
import { buildClusterEstate } from "../kubernetes/estate.ts";
import { buildSecretEstate } from "../kubernetes/secret-estate.ts";
import { type Play, playedIn } from "../scene.ts";
import * as files from "./files.ts";
import * as issuers from "./issuers.ts";
import * as apiServers from "./kubernetes-api-servers.ts";
import * as requests from "./kubernetes-requests.ts";
import * as secrets from "./kubernetes-secrets.ts";
import * as uses from "./kubernetes-uses.ts";
import * as members from "./members.ts";
import * as runners from "./runners.ts";
import * as sensors from "./sensors.ts";
import * as verifiers from "./verifiers.ts";

const order = ({ line, name }: Play): string => `${String(line).padStart(3, "0")} ${name}`;

const inOrder = (plays: readonly Play[]): Play[] => plays.toSorted((a, b) => order(a).localeCompare(order(b)));

const servers = [
  ...Object.values(files),
  ...Object.values(issuers),
  ...Object.values(members),
  ...Object.values(sensors),
  ...Object.values(runners),
  ...Object.values(verifiers),
].map((scene) => playedIn(buildEstate, scene));

const clusters = [
  ...[apiServers, uses, requests]
    .flatMap((group) => Object.values(group))
    .map((scene) => playedIn(buildClusterEstate, scene)),
  ...Object.values(secrets).map((scene) => playedIn(buildSecretEstate, scene)),
];

/** The table, in the order of its lines; those on a cluster at the end, since they wait for one another. */
export const scenes: readonly Play[] = [...inOrder(servers), ...inOrder(clusters)];
