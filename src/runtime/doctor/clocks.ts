import { sayMillis } from "../../engine/time-words.ts";
import type { Diagnosis } from "../api.ts";
import { note, type Patient, problem } from "./patient.ts";

/** Differences below this come from the second that Date fields are cut off to, and from the network. Milliseconds. */
const grain = 2_000;

/** A server's clock (theirs minus ours, ms) against what the rotation is planned to bear. */
export function clockTrouble(at: string, difference: number | undefined, { manifest }: Patient): Diagnosis[] {
  if (difference === undefined || Math.abs(difference) <= grain) return [];
  const { skew } = manifest.timing;
  const what = `its clock is ${sayMillis(Math.abs(difference))} ${difference > 0 ? "ahead of" : "behind"} ours`;
  if (Math.abs(difference) <= skew) return [note(at, `${what}, within timing.skew (${sayMillis(skew)})`)];
  const next = "set the clocks; or raise timing.skew when the certificates are backdated as far";
  return [
    problem(
      at,
      `${what}, more than timing.skew (${sayMillis(skew)}): it may take a new certificate for not valid yet, or an old CRL for current`,
      next,
    ),
  ];
}
