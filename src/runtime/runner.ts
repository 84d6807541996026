import { decide, goesBack, type Move } from "../engine/decide.ts";
import { digestOf } from "../engine/digest.ts";
import type { Event, OpId } from "../engine/events.ts";
import { findingOf } from "../engine/finding.ts";
import type { Digest, ErrorData, Reason, StageName, StepRef } from "../engine/model.ts";
import { evolve, fold, IllegalEvent, type Lineage, type Rotation } from "../engine/state.ts";
import { GyreError } from "../errors.ts";
import type { Outcome, Progress } from "./api.ts";
import { type Context, keyName } from "./context.ts";
import { type Effect, effects, NotWhatWasAsked, orphaned } from "./effects.ts";
import { resolveInventory } from "./inventory.ts";
import { lookAt } from "./looks.ts";
import { isNamed } from "./parties.ts";
import type { Ports } from "./ports.ts";
import { heldWords, passedWords } from "./words.ts";

export interface RunOptions {
  readonly runner: string;
  readonly waitUpTo: number;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: Progress) => void;
}

/** Reads the journal and folds it. A journal that does not fold is damaged, whatever its bytes say. */
export async function readLineage(ports: Pick<Ports, "journal">): Promise<Lineage> {
  const entries = await ports.journal.read();
  try {
    return fold(entries);
  } catch (error) {
    if (!(error instanceof IllegalEvent)) throw error;
    throw new GyreError({
      code: "damaged",
      message: `the journal does not add up at ${error.message}; nothing was done`,
      next: "keep a copy, and compare with a backup or a receipt: gyre verify",
    });
  }
}

/** What hosts may append beside a runner. */
const requests: ReadonlySet<Event["type"]> = new Set<Event["type"]>([
  "Waived",
  "WaiverWithdrawn",
  "Approved",
  "RevertRequested",
]);

const facts: ReadonlySet<Event["type"]> = new Set<Event["type"]>([
  "RunnerStarted",
  "StepDone",
  "StepFailed",
  "Observed",
  "InventoryResolved",
  "Orphaned",
]);

/** Something that was seen or done, true whatever else was asked for meanwhile; or a person's wish, which nobody else had. */
const stillTrue = (event: Event, lineage: Lineage): boolean =>
  facts.has(event.type) || (event.type === "RevertRequested" && lineage.active?.reverting === undefined);

/** What is written of an effect that was cut off and is not seen to have happened. `read back`: it may have. */
const cutOff = {
  absent: { retry: "later", why: "cut off before it took effect" },
  repeatable: { retry: "read back", why: "cut off, and it may have taken effect; it is done again" },
  unknowable: { retry: "later", why: "cut off, and whether it took effect cannot be asked" },
} as const;

/** The decision was made on a journal that has grown since. */
class Stale extends Error {}

/** One try of one effect. */
interface Attempt {
  readonly stage: StageName;
  readonly step: StepRef;
  readonly op: OpId;
}

type Ended =
  | Exclude<Outcome, { result: "closed" | "nothing due" }>
  | { readonly result: "closing"; readonly rotation: Rotation };

/**
 * The loop: look, decide, write down, do, look again, until the rotation under way ends, holds or must wait.
 * Every append and effect goes through `this`, so a wrapped journal or driver can stop it at any boundary.
 */
export class Runner {
  readonly #ports: Ports;
  readonly #options: RunOptions;
  readonly lineage: Lineage;

  constructor(ports: Ports, lineage: Lineage, options: RunOptions) {
    this.#ports = ports;
    this.#options = options;
    this.lineage = lineage;
  }

  /**
   * Durable, then folded. A waiver, approval or request to go back may be appended beside us (hosts need no lock for
   * those): it is folded in first. What was seen or done stays true and is written after it; what was decided on
   * without it is dropped as Stale, and decided anew.
   */
  async append(...events: Event[]): Promise<void> {
    for (;;) {
      await this.#ports.stillOurs();
      try {
        const entries = await this.#ports.journal.append(this.lineage.seq, this.#ports.clock.now(), events);
        for (const entry of entries) evolve(this.lineage, entry);
        return;
      } catch (error) {
        if (!(error instanceof GyreError) || error.code !== "conflict" || !(await this.#catchUp())) throw error;
        if (!events.every((event) => stillTrue(event, this.lineage))) throw new Stale();
      }
    }
  }

  /** Folds what others appended; false when nothing new is there or it is not theirs to append. */
  async #catchUp(): Promise<boolean> {
    const fresh = (await this.#ports.journal.read()).filter((entry) => entry.seq > this.lineage.seq);
    if (fresh.length === 0 || !fresh.every((entry) => requests.has(entry.event.type))) return false;
    for (const entry of fresh) evolve(this.lineage, entry);
    return true;
  }

  async run(): Promise<Ended> {
    const rotation = this.lineage.active;
    if (rotation === undefined) throw new GyreError({ code: "bug", message: "run without a rotation under way" });
    await this.append({ type: "RunnerStarted", runner: this.#options.runner });
    for (;;) {
      const move = decide(rotation, this.#ports.clock.now());
      const ended = await this.#carryOut(rotation, move).catch((error: unknown) => {
        if (error instanceof Stale) return undefined;
        throw error;
      });
      if (ended !== undefined) return ended;
      if (this.#options.signal.aborted)
        return waiting(
          rotation,
          stageOf(move),
          this.#ports.clock.now(),
          "interrupted; it goes on when it is taken up again",
        );
    }
  }

  async #carryOut(rotation: Rotation, move: Move): Promise<Ended | undefined> {
    switch (move.move) {
      case "observe":
        return this.#observe(rotation, move);
      case "perform":
        return this.#perform(rotation, move);
      case "read back":
        return this.#readBack(rotation, move);
      case "pass":
        return this.#pass(rotation, move);
      case "wait":
        return this.#wait(rotation, move);
      case "hold":
        return this.#hold(rotation, move.stage, move.reasons);
      case "put back":
        await this.append({ type: "RevertRequested", by: "gyre", reason: move.why });
        this.#tell({ type: "putting back", why: move.why });
        return undefined;
      case "reverted":
        return this.#reverted(rotation, move);
      case "close":
        await this.append({ type: "RotationClosed", grade: move.grade });
        return { result: "closing", rotation };
      case "ended":
        throw new GyreError({ code: "bug", message: `${rotation.id} has ended already` });
      default:
        return move satisfies never;
    }
  }

  async #observe(rotation: Rotation, move: Move & { move: "observe" }): Promise<undefined> {
    const resolved = await resolveInventory(this.#ports.parties);
    const epoch = digestOf(resolved.inventory);
    if (epoch !== rotation.epoch)
      await this.append({ type: "InventoryResolved", epoch, inventory: resolved.inventory });
    for (const look of move.looks) {
      const context = { ...this.#context(rotation), resolved };
      // Members that left since the decision are not looked at; those that joined are found missing next time.
      const event = await lookAt(context, look.claim, epoch, look.members);
      await this.append(event);
      const finding = findingOf(rotation, look.claim, this.#ports.clock.now());
      this.#tell({
        type: "looked",
        stage: move.stage,
        claim: look.claim,
        yes: finding.counts.yes,
        total: finding.counts.total,
        exceptions: event.exceptions,
      });
    }
  }

  async #pass(rotation: Rotation, move: Move & { move: "pass" }): Promise<undefined> {
    const { stage, epoch, confirm } = move;
    if (confirm !== undefined && !(await this.#confirmed(confirm))) return undefined;
    await this.append({ type: "StagePassed", stage, ...(epoch === undefined ? {} : { epoch }) });
    this.#tell({ type: "passed", stage, words: passedWords(rotation, stage, this.#ports.clock.now()) });
  }

  /** True while the inventory is still the one that was decided on; the other one is written down. */
  async #confirmed(epoch: Digest): Promise<boolean> {
    const { inventory } = await resolveInventory(this.#ports.parties);
    const current = digestOf(inventory);
    if (current === epoch) return true;
    await this.append({ type: "InventoryResolved", epoch: current, inventory });
    return false;
  }

  async #perform(rotation: Rotation, move: Move & { move: "perform" }): Promise<Ended | undefined> {
    if (!isNamed(this.#ports.parties, move.step)) return this.#hold(rotation, move.stage, [this.#unnamed(move.step)]);
    if (move.confirm !== undefined && !(await this.#confirmed(move.confirm))) return undefined;
    const { op, step, stage, attempt } = move;
    await this.append({ type: "StepIntended", op, step, attempt });
    this.#tell({ type: "step", stage, step, state: "doing", words: `${step.kind} ${step.on}` });
    await this.#ports.stillOurs();
    let effect: Effect;
    try {
      effect = await effects[step.kind].perform(this.#context(rotation), step, op);
    } catch (error) {
      const data = errorData(error);
      // Neither success nor failure: the intent stays pending, and the next move reads back.
      if (data.retry !== "read back") await this.#failed(move, data, error);
      return undefined;
    }
    await this.#done(move, effect, false);
    return undefined;
  }

  async #readBack(rotation: Rotation, move: Move & { move: "read back" }): Promise<Ended | undefined> {
    const { op, step, stage } = move;
    if (!isNamed(this.#ports.parties, step)) return this.#hold(rotation, stage, [this.#unnamed(step)]);
    try {
      const found = await effects[step.kind].readBack(this.#context(rotation), step, op);
      if (typeof found === "string") {
        const { retry, why } = cutOff[found];
        const error = { code: "unreachable", message: `${step.kind} ${step.on}: ${why}`, retry };
        const events: Event[] = [{ type: "StepFailed", op, step, error }];
        // In one append: a second issue must never be begun with the first one unrecorded.
        if (found === "unknowable")
          events.push(
            orphaned(undefined, `${op} may have issued one`, this.#ports.clock.now() + rotation.plan.request.lifetime),
          );
        await this.append(...events);
      } else {
        await this.#done({ stage, step, op }, found, true);
      }
      return undefined;
    } catch (error) {
      const data = errorData(error);
      if (error instanceof NotWhatWasAsked || data.code === "conflict")
        return this.#failed({ stage, step, op }, data, error).then(() => undefined);
      const reason: Reason = {
        about: step.on,
        verdict: "unknown",
        what: `whether ${step.kind} took effect cannot be read: ${data.message}`,
        since: this.#ports.clock.now(),
        release: data.next ?? `${step.on} can be read again`,
      };
      return this.#hold(rotation, stage, [reason]);
    }
  }

  /** Neither on nor back: what is there now cannot be told from here, so it is left as it is. */
  #unnamed({ kind, on }: StepRef): Reason {
    return {
      about: on,
      verdict: "unknown",
      what: `is in the plan and no longer in the manifest, so ${kind} cannot be done; it was left as it is`,
      since: this.#ports.clock.now(),
      release: `${on} is named in the manifest again (until this rotation has ended)`,
    };
  }

  async #done(attempt: Attempt, effect: Effect, readBack: boolean): Promise<void> {
    const { did, generation, evidence } = effect;
    await this.append({
      type: "StepDone",
      op: attempt.op,
      step: attempt.step,
      did,
      readBack,
      ...(generation === undefined ? {} : { generation }),
      ...(evidence === undefined ? {} : { evidence }),
    });
    this.#tell({ type: "step", stage: attempt.stage, step: attempt.step, state: "done", words: did });
  }

  async #failed(attempt: Attempt, error: ErrorData, thrown: unknown): Promise<void> {
    const events: Event[] = [{ type: "StepFailed", op: attempt.op, step: attempt.step, error }];
    if (thrown instanceof NotWhatWasAsked)
      events.push(orphaned(thrown.generation, "failed the gate", thrown.generation.notAfter));
    await this.append(...events);
    this.#tell({
      type: "step",
      stage: attempt.stage,
      step: attempt.step,
      state: "failed",
      words: error.message,
      ...nextOf(error),
    });
  }

  async #wait(rotation: Rotation, move: Move & { move: "wait" }): Promise<Ended | undefined> {
    const ms = move.until - this.#ports.clock.now();
    if (ms > this.#options.waitUpTo) return waiting(rotation, move.stage, move.until, move.why);
    this.#tell({ type: "waiting", stage: move.stage, until: move.until, why: move.why });
    await this.#ports.clock.sleep(Math.max(1, ms), this.#options.signal);
    return undefined;
  }

  async #hold(rotation: Rotation, stage: StageName, reasons: readonly Reason[]): Promise<Ended> {
    if (rotation.held === undefined) await this.append({ type: "Held", stage, reasons });
    this.#tell({ type: "held", stage, words: heldWords(rotation, reasons, this.#ports.clock.now()), reasons });
    const failed = reasons.some((reason) => reason.verdict === "failed");
    return failed && goesBack(rotation)
      ? { result: "stuck", rotation: rotation.id, stage, reasons }
      : { result: "held", rotation: rotation.id, stage, reasons };
  }

  async #reverted(rotation: Rotation, { why, unseen }: Move & { move: "reverted" }): Promise<Ended> {
    const generation = this.lineage.generations.get(rotation.plan.to);
    const events: Event[] = [];
    if (generation !== undefined)
      events.push(orphaned(generation, "issued for a rotation that was put back", generation.notAfter));
    // Before the end is written: nobody comes back for it afterwards.
    await this.#ports.secrets.delete(keyName(rotation.plan.credential, rotation.plan.to));
    await this.append(...events, { type: "RotationReverted", why });
    const failed = rotation.reverting?.by === "gyre";
    const next = failed ? nextOf(causeOf(rotation)) : {};
    const waived = unseen === undefined ? {} : { unseen };
    this.#tell({ type: "reverted", why, ...waived, ...leftOf(rotation), ...next });
    return { result: "put back", rotation: rotation.id, why, failed, ...waived, ...next };
  }

  #context(rotation: Rotation): Context {
    return {
      ports: this.#ports,
      lineage: this.lineage,
      rotation,
      now: this.#ports.clock.now(),
      signal: this.#options.signal,
    };
  }

  #tell(progress: Progress): void {
    this.#options.onProgress(progress);
  }
}

const stageOf = (move: Move): StageName => ("stage" in move ? move.stage : "closed");

const waiting = (rotation: Rotation, stage: StageName, until: number, why: string): Ended => ({
  result: "waiting",
  rotation: rotation.id,
  stage,
  until,
  why,
});

/** A CRL is put back only where nothing is lost by it: what each place holds now was said by the step that asked. */
function leftOf({ id, plan, steps }: Rotation): { left?: string } {
  if (plan.kind !== "crl") return {};
  const did = [...steps].filter(([key, { did }]) => key.startsWith(`${id}/undo-`) && did !== undefined);
  const said = did.filter(([, { step }]) => step.kind === "restore").map(([, step]) => step.did);
  return said.length === 0 ? {} : { left: said.join("; ") };
}

/** The failure that a rotation was put back for: the last one before it was. */
function causeOf({ steps, reverting }: Rotation): ErrorData | undefined {
  const failures = [...steps.values()].flatMap((step) => step.failures);
  return failures
    .filter(({ at }) => at <= (reverting?.at ?? 0))
    .sort((a, b) => a.at - b.at)
    .at(-1)?.error;
}

const nextOf = (error: ErrorData | undefined): { next?: string } =>
  error?.next === undefined ? {} : { next: error.next };

/** Anything thrown by a driver, as data. What is not ours is a bug, and may have taken effect. */
function errorData(error: unknown): ErrorData {
  if (error instanceof GyreError) {
    // Another runner is at it: that ends the run instead of the step. Damage that a driver met (a CA's record, a kept
    // copy, an evidence file) is a step that failed; damage to the journal shows at the next append.
    if (error.code === "locked") throw error;
    return error.toJSON();
  }
  throw error;
}
