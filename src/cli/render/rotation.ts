import { countedWords, generationOf } from "../../engine/claims.ts";
import type { Instant, Plan, Reason, StageName } from "../../engine/model.ts";
import type { Outcome, Progress } from "../../runtime/api.ts";
import { wrap } from "../layout.ts";
import { bad, bold, dim, good, held } from "../paint.ts";
import { commandWords, dueSentence, gradeWords, momentWords, spanWords, stepWords } from "../words.ts";
import { reasonLines } from "./reasons.ts";

/** Columns of a stage line: two blanks, the mark, the stage, the words. */
const indents = { mark: 2, stage: 8, words: 20, reason: 10 } as const;

/** Where a wait is too short to be worth a line in a log; a terminal shows it all the same. */
const shortWait = 5_000;

export interface RotationTextOptions {
  readonly name: string;
  /** Columns; Infinity where lines are not broken. */
  readonly width: number;
  /** Path of the public key that signs receipts: what somebody needs to check one. */
  readonly pin: string;
  /** Only what needs somebody's attention. */
  readonly quiet: boolean;
}

/**
 * Turns what the runtime tells, as it tells it, into lines that stay, and into one line that is drawn over. Pure but
 * for what it remembers of one rotation; the time is an argument.
 */
export class RotationText {
  readonly #options: RotationTextOptions;
  #plan: Plan | undefined;
  #stage: StageName | undefined;
  #doing = "";
  #waitingUntil: Instant | undefined;
  #lastSaid = "";
  /** By claim: a stage that asks several asks them in turn. */
  readonly #lastLooks = new Map<string, string>();
  #ended = false;
  /** An effect has been reported: an error from here on is not "nothing happened". */
  begun = false;

  constructor(options: RotationTextOptions) {
    this.#options = options;
  }

  /** The lines to print for one piece of news; often none. */
  told(progress: Progress, now: Instant): string[] {
    const lines = this.#lines(progress, now);
    if (!this.#options.quiet) return lines;
    return ["held", "putting back", "reverted"].includes(progress.type) ? lines : [];
  }

  /** What is going on, for the line that is drawn over; `mark` turns. Undefined when nothing is. */
  current(now: Instant, mark: string): string | undefined {
    if (this.#ended || this.#stage === undefined) return undefined;
    const left = this.#waitingUntil === undefined ? 0 : this.#waitingUntil - now;
    const wait = left >= 1000 ? `${this.#doing === "" ? "" : "; "}${spanWords(left)} left` : "";
    return `  ${mark.padEnd(6)}${this.#stage.padEnd(12)}${this.#doing}${wait}`;
  }

  /** How it ended, as far as the news did not say so already. */
  ended(outcome: Outcome, now: Instant): string[] {
    const said = this.#ended;
    this.#ended = true;
    switch (outcome.result) {
      case "nothing due":
        return this.#options.quiet
          ? []
          : this.#wrap(`${bold(this.#options.name)}  ${dueSentence(outcome.due, now)}`, 2);
      case "closed":
        return said || this.#options.quiet ? [] : this.#closed(outcome.grade, outcome.receipt);
      case "held":
        return said ? [] : this.#held(outcome.stage, "", outcome.reasons, now);
      case "stuck":
        return this.#stuck(outcome.stage, outcome.reasons, now);
      case "waiting":
        return this.#options.quiet ? [] : this.#waits(outcome.stage, outcome.until, outcome.why, now);
      case "put back":
        return said ? [] : this.#line(outcome.failed ? bad("FAIL") : good("ok"), "put back", outcome.why);
      default:
        return outcome satisfies never;
    }
  }

  #lines(progress: Progress, now: Instant): string[] {
    switch (progress.type) {
      case "started":
        this.#plan = progress.plan;
        this.begun = progress.resumed;
        return [headline(progress.plan, progress.resumed)];
      case "step":
        return this.#step(progress);
      case "looked":
        return this.#looked(progress);
      case "passed":
        this.#enter(undefined, "");
        this.#lastSaid = "";
        this.#lastLooks.clear();
        // The plan is the headline, and the last stage is told with its grade.
        if (progress.stage === "planned" || progress.stage === "closed") return [];
        return this.#line(good("ok"), progress.stage, progress.words);
      case "waiting":
        return this.#waiting(progress, now);
      case "held":
        this.#ended = true;
        return this.#held(progress.stage, progress.words, progress.reasons, now);
      case "putting back":
        this.begun = true;
        this.#enter(undefined, "");
        return this.#line(bad("BACK"), "", `putting everything back: ${progress.why}`);
      case "reverted":
        this.#ended = true;
        return [
          ...this.#line(good("ok"), "put back", progress.left ?? backWords(this.#plan, progress.unseen ?? [])),
          ...(progress.next === undefined
            ? []
            : this.#wrap(`${" ".repeat(indents.stage)}next: ${progress.next}`, indents.reason)),
        ];
      case "closed":
        this.#ended = true;
        return this.#closed(progress.grade, progress.receipt);
      default:
        return progress satisfies never;
    }
  }

  #enter(stage: StageName | undefined, doing: string): void {
    this.#stage = stage;
    this.#doing = doing;
    this.#waitingUntil = undefined;
  }

  #step(progress: Progress & { type: "step" }): string[] {
    this.begun = true;
    this.#enter(progress.stage, progress.state === "done" ? progress.words : stepWords(progress.step));
    if (progress.state !== "failed") return [];
    const said = `${progress.stage} ${stepWords(progress.step)}: ${progress.words}`;
    // Tried again, and failed in the same way: nothing new.
    if (said === this.#lastSaid) return [];
    this.#lastSaid = said;
    return this.#line(bad("fail"), progress.stage, `${stepWords(progress.step)}: ${progress.words}`);
  }

  #looked(progress: Progress & { type: "looked" }): string[] {
    const { claim, yes, total } = progress;
    const words = countedWords(claim, { yes, total }, this.#plan === undefined ? 0 : generationOf(claim, this.#plan));
    this.#enter(progress.stage, words);
    const said = words + progress.exceptions.map(({ member }) => member).join(", ");
    // All said yes: the line of the passed stage says it next. The same as before: nothing new.
    if ((progress.yes === progress.total && progress.total > 0) || said === this.#lastLooks.get(claim)) return [];
    this.#lastLooks.set(claim, said);
    return this.#line("..", progress.stage, words + notYet(progress.exceptions.map((exception) => exception.member)));
  }

  #waiting(progress: Progress & { type: "waiting" }, now: Instant): string[] {
    // Between two looks the line goes on telling what the last one showed.
    if (progress.until - now < shortWait && this.#stage === progress.stage) return [];
    this.#stage = progress.stage;
    this.#doing = progress.why;
    this.#waitingUntil = progress.until;
    const said = `waiting ${progress.stage} ${progress.why}`;
    if (progress.until - now < shortWait || said === this.#lastSaid) return [];
    this.#lastSaid = said;
    return this.#line("wait", progress.stage, `${progress.why}; until ${momentWords(progress.until, now)}`);
  }

  #held(stage: StageName, words: string, reasons: readonly Reason[], now: Instant): string[] {
    return [...this.#line(held("HELD"), stage, words), ...reasonLines(this.#options, reasons, now)];
  }

  #stuck(stage: StageName, reasons: readonly Reason[], now: Instant): string[] {
    const words = "failed, and could not be put back; the old and the new one may both be in use";
    return [...this.#line(bad("STUCK"), stage, words), ...reasonLines(this.#options, reasons, now)];
  }

  #closed(grade: Parameters<typeof gradeWords>[0], receipt: string): string[] {
    const from = this.#plan?.from;
    const meaning = gradeWords(grade, from === undefined ? undefined : `g${from.number}`, this.#plan?.kind);
    return [
      ...this.#line(good("ok"), "closed", `${bold(grade)}: ${meaning}`),
      ...this.#wrap(`${" ".repeat(indents.stage)}receipt ${receipt}`, indents.reason),
      ...this.#wrap(
        `${" ".repeat(indents.stage)}anybody with the key can check it, without a network: ${commandWords("verify", receipt, "--key", this.#options.pin)}`,
        indents.reason,
      ),
    ];
  }

  #waits(stage: StageName, until: Instant, why: string, now: Instant): string[] {
    const { name } = this.#options;
    return [
      ...(this.#lastSaid === `waiting ${stage} ${why}`
        ? []
        : this.#line("wait", stage, `${why}; until ${momentWords(until, now)}`)),
      ...this.#wrap(
        `${" ".repeat(indents.stage)}goes on with the next gyre run from then on, or with: ${commandWords("rotate", name, "--wait", waitArgument(until - now))}`,
        indents.reason,
      ),
    ];
  }

  #line(mark: string, stage: string, words: string): string[] {
    const room = indents.stage - indents.mark;
    const plain = mark.replace(/[\ue000-\ue005]/g, "");
    const lead = `${" ".repeat(indents.mark)}${mark}${" ".repeat(Math.max(1, room - plain.length))}`;
    const width = indents.words - indents.stage;
    return this.#wrap(`${lead}${stage === "" ? "" : `${stage.padEnd(width - 1)} `}${words}`.trimEnd(), indents.words);
  }

  #wrap(text: string, hang: number): string[] {
    return wrap(text, this.#options.width, hang);
  }
}

function backWords(plan: Plan | undefined, unseen: readonly string[]): string {
  if (plan?.from === undefined) return "nothing of it is left";
  const old = `g${plan.from.number}`;
  return unseen.length === 0
    ? `${old} is in place and was seen there`
    : `${old} was put back; waived, so not seen to have it: ${unseen.join(", ")}`;
}

function headline(plan: Plan, resumed: boolean): string {
  const move = plan.from === undefined ? `-> g${plan.to}` : `g${plan.from.number} -> g${plan.to}`;
  const how = plan.from === undefined ? "first issue" : plan.strategy;
  return `${bold(plan.credential)}  ${move}   ${how}${resumed ? dim(", taken up again") : ""}`;
}

function notYet(members: readonly string[]): string {
  if (members.length === 0) return "";
  const named = members.slice(0, 3).join(", ");
  return `; not yet ${named}${members.length > 3 ? ` and ${members.length - 3} more` : ""}`;
}

/** A `--wait` that is long enough: whole minutes, rounded up. */
const waitArgument = (left: number): string => `${Math.max(1, Math.ceil(left / 60_000))}m`;

/** One line per credential, for `gyre run`. */
export function runLine(
  name: string,
  outcome: Outcome,
  now: Instant,
  options: { width: number; pad: number },
): string[] {
  const lead = (mark: string, style: (text: string) => string) =>
    `${style(mark)}${" ".repeat(6 - mark.length)}${bold(name)}${" ".repeat(Math.max(0, options.pad - name.length))}  `;
  const line = (text: string) => wrap(text, options.width, 8);
  switch (outcome.result) {
    case "closed":
      return line(`${lead("ok", good)}closed ${bold(outcome.grade)}, receipt ${outcome.receipt}`);
    case "nothing due":
      return line(
        `${lead(outcome.due.action === "impossible" ? "note" : "-", outcome.due.action === "impossible" ? bad : dim)}${dueSentence(outcome.due, now)}`,
      );
    case "waiting":
      return line(
        `${lead("wait", (text) => text)}${outcome.stage}: ${outcome.why}; until ${momentWords(outcome.until, now)}`,
      );
    case "held":
      return line(
        `${lead("HELD", held)}${outcome.stage}: ${firstReason(outcome.reasons)}; see: ${commandWords("show", name)}`,
      );
    case "put back":
      return line(`${lead(outcome.failed ? "FAIL" : "ok", outcome.failed ? bad : good)}put back: ${outcome.why}`);
    case "stuck":
      return line(
        `${lead("STUCK", bad)}${outcome.stage}: failed and not put back: ${firstReason(outcome.reasons)}; see: ${commandWords("show", name)}`,
      );
    default:
      return outcome satisfies never;
  }
}

const firstReason = (reasons: readonly Reason[]): string => {
  const first = reasons[0];
  if (first === undefined) return "no reason was given";
  return `${first.about} ${first.what}${reasons.length > 1 ? ` (and ${reasons.length - 1} more)` : ""}`;
};
