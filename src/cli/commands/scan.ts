import { resolve } from "node:path";
import type { Found } from "../../scan/found.ts";
import { type ExitCode, exits } from "../exit.ts";
import { plainData } from "../json.ts";
import { foundLines, type ScanSum, scanHead, sumLines } from "../render/scan.ts";
import type { Session } from "../session.ts";
import { type ClusterFlags, clusterOf } from "./scan-cluster.ts";

export interface ScanFlags extends ClusterFlags {
  readonly days?: number;
  readonly serverName?: string;
}

/**
 * Finds are told as they are made, with `--json` as one object a line and the sum last, so that neither a disk of
 * certificates nor its output must fit into memory.
 */
export async function scan(session: Session, targets: readonly string[], flags: ScanFlags): Promise<ExitCode> {
  const { console } = session;
  const cluster = clusterOf(session, targets, flags);
  if (flags.printRbac === true) {
    const { scanRbac, scanRights } = await import("../../scan/kubernetes/rights.ts");
    const namespaces = [...new Set(flags.namespace ?? [])];
    if (console.json) console.data({ rights: scanRights(namespaces) });
    else console.raw(scanRbac(namespaces));
    return exits.ok;
  }
  const { scan: look } = await import("../../scan/scan.ts");
  const sum: ScanSum = { certificates: 0, others: 0, errors: 0, warnings: 0, problems: 0, expired: 0, within: 0 };
  const options = { now: console.now(), ...(flags.serverName === undefined ? {} : { serverName: flags.serverName }) };
  const places = targets.map((target) =>
    session.cwd === process.cwd() || /:\d+$/.test(target) ? target : resolve(session.cwd, target),
  );
  let headed = console.quiet;
  const tell = async (finds: AsyncIterable<Found>): Promise<void> => {
    for await (const found of finds) {
      add(sum, found, flags.days);
      if (!isShown(found, flags.days, console.quiet)) continue;
      if (console.json) console.raw(`${JSON.stringify(plainData(found))}\n`);
      else {
        if (!headed) console.say([scanHead()]);
        headed = true;
        console.say(foundLines(found, console.width, false));
      }
    }
  };
  await tell(look(places, options));
  if (cluster !== undefined) {
    const { openClusterScan } = await import("../../scan/kubernetes/scan.ts");
    const { server, cost, finds } = await openClusterScan(cluster, options);
    await tell(finds);
    sum.cluster = { server, ...cost };
  }
  const exit = exitOf(sum);
  if (console.json) console.raw(`${JSON.stringify({ sum, exit })}\n`);
  else if (!console.quiet) console.say(sumLines(sum, flags.days, console.width));
  return exit;
}

const isWithin = (found: Found, days: number | undefined): boolean =>
  days !== undefined && "daysLeft" in found && found.daysLeft < days;

function isShown(found: Found, days: number | undefined, quiet: boolean): boolean {
  if (found.what === "problem") return true;
  if (found.what === "skipped") return !quiet;
  if (days !== undefined) return isWithin(found, days);
  return (
    !quiet || found.findings.some(({ severity }) => severity !== "note") || ("daysLeft" in found && found.daysLeft < 0)
  );
}

function add(sum: ScanSum, found: Found, days: number | undefined): void {
  if (found.what === "skipped") return;
  if (found.what === "problem") sum.problems += 1;
  else if (found.what === "certificate" || found.what === "CA") sum.certificates += 1;
  else sum.others += 1;
  if ("daysLeft" in found && found.daysLeft < 0) sum.expired += 1;
  if (isWithin(found, days)) sum.within += 1;
  // With --days the rest is not shown, so it must not decide the exit code either.
  if (days !== undefined && !isWithin(found, days)) return;
  for (const { severity } of found.findings) {
    if (severity === "error") sum.errors += 1;
    if (severity === "warning") sum.warnings += 1;
  }
}

/** Something found is 3; something that could not be read leaves the question open, which is 1. */
function exitOf(sum: ScanSum): ExitCode {
  if (sum.within > 0 || sum.errors > 0) return exits.held;
  return sum.problems > 0 ? exits.unanswered : exits.ok;
}
