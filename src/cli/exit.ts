import type { ErrorCode } from "../errors.ts";
import type { Outcome } from "../runtime/api.ts";

/**
 * Exit codes, the whole list:
 *   0  closed with proof; nothing due; (run) waiting until a time it prints; a question answered without a finding
 *   1  a question could not be answered (disk, network, damage), or `verify` found a receipt unpinned or broken
 *   2  wrong use: arguments, manifest, unknown name, not allowed
 *   3  held; `doctor` found a problem; `scan` found something that expires or has an error
 *   4  failed, and nothing of it is left (put back, or never begun)
 *   5  waiting, interrupted, or another runner is at it (rotate, revert)
 *   6  failed and not put back
 */
export const exits = { ok: 0, unanswered: 1, usage: 2, held: 3, failed: 4, waiting: 5, stuck: 6 } as const;
export type ExitCode = (typeof exits)[keyof typeof exits];

/** `asked`: going back was what the person wanted, so arriving there is success. */
export function exitOfOutcome(outcome: Outcome, asked: "forward" | "back" = "forward"): ExitCode {
  switch (outcome.result) {
    case "closed":
    case "nothing due":
      return exits.ok;
    case "held":
      return exits.held;
    case "waiting":
      return exits.waiting;
    case "put back":
      return outcome.failed || asked === "forward" ? exits.failed : exits.ok;
    case "stuck":
      return exits.stuck;
    default:
      return outcome satisfies never;
  }
}

/** What an error means for a command that only asks. */
export function exitOfQuestion(code: ErrorCode | undefined): ExitCode {
  return code === "manifest" || code === "input" || code === "refused" ? exits.usage : exits.unanswered;
}

/**
 * What an error means for a command that acts. `begun`: this rotation had changed something when it came, so that
 * nobody may read the exit code as "all is as it was".
 */
export function exitOfAction(code: ErrorCode | undefined, begun: boolean): ExitCode {
  if (code === "locked") return exits.waiting;
  if (begun) return exits.stuck;
  return code === "manifest" || code === "input" || code === "refused" ? exits.usage : exits.failed;
}

/** Of many rotations the worst counts. One that waits, or that another runner is at, is what `run` comes back for. */
export function worstOf(codes: readonly ExitCode[]): ExitCode {
  const order: readonly ExitCode[] = [exits.stuck, exits.failed, exits.held, exits.usage, exits.unanswered];
  return order.find((code) => codes.includes(code)) ?? exits.ok;
}
