import type {
  ClaimName,
  Digest,
  ErrorData,
  Generation,
  Grade,
  Instant,
  Inventory,
  Plan,
  Reason,
  StageName,
  StepRef,
} from "./model.ts";

/** `<credential>/<n>`: the n-th rotation of a lineage. */
export type RotationId = string;
/** `<rotation>/<stage>/<kind>/<on>#<attempt>`: names one try of one effect; issuers and targets are given it. */
export type OpId = string;

/**
 * What one look at one member showed. `yes` and `no` are about the claim, not about the answer of the peer:
 * for `refused`, a peer that accepts the old one is a `no`. `unknown` is neither (I5).
 */
export interface Sighting {
  readonly member: string;
  readonly saw: "yes" | "no" | "unknown";
  /** In words: "still presents g3 (serial 7f…)", "connection refused". */
  readonly what: string;
  /** Refusal code or error code, where there is one. */
  readonly code?: string;
}

/** The journal of one credential's lineage. State is a fold over these and nothing else. */
export type Event =
  /** A credential found in place before Gyre's first rotation, taken into the lineage. */
  | { readonly type: "GenerationAdopted"; readonly generation: Generation; readonly foundAt: string }
  | { readonly type: "RotationPlanned"; readonly rotation: RotationId; readonly plan: Plan; readonly digest: Digest }
  /** Somebody took the rotation up: negative findings older than this are looked at again. */
  | { readonly type: "RunnerStarted"; readonly runner: string }
  | { readonly type: "InventoryResolved"; readonly epoch: Digest; readonly inventory: Inventory }
  | { readonly type: "StepIntended"; readonly op: OpId; readonly step: StepRef; readonly attempt: number }
  | {
      readonly type: "StepDone";
      readonly op: OpId;
      readonly step: StepRef;
      readonly generation?: Generation;
      /** In words, for the timeline. */ readonly did: string;
      /** True where a crash lay between: found by reading, not done now. */ readonly readBack: boolean;
      readonly evidence?: Digest;
    }
  | { readonly type: "StepFailed"; readonly op: OpId; readonly step: StepRef; readonly error: ErrorData }
  /** One round of looks: every member of the claim's role in `epoch` that is not an exception saw "yes". */
  | {
      readonly type: "Observed";
      readonly claim: ClaimName;
      readonly generation: number;
      readonly epoch: Digest;
      /** The members looked at; absent means all of the epoch. */ readonly covers?: readonly string[];
      readonly counts: { readonly yes: number; readonly no: number; readonly unknown: number };
      readonly exceptions: readonly Sighting[];
      /** When its first look began: no look of the round is fresher. Older journals lack it; then the entry's time counts. */
      readonly startedAt?: Instant;
      /** For `silent`: the latest use of the old that was seen; a gap counts as a use (the window starts again). */
      readonly disturbedAt?: Instant;
      readonly evidence: Digest;
    }
  | { readonly type: "StagePassed"; readonly stage: StageName; readonly epoch?: Digest }
  | { readonly type: "Held"; readonly stage: StageName; readonly reasons: readonly Reason[] }
  | {
      readonly type: "Waived";
      readonly member: string;
      /** Absent in older journals alone: then everything that is asked of the member. */
      readonly claim?: ClaimName;
      readonly by: string;
      readonly reason: string;
      readonly expires: Instant;
    }
  /** Takes back every waiver of the member in force, or those for one claim: it must be seen again. */
  | {
      readonly type: "WaiverWithdrawn";
      readonly member: string;
      readonly claim?: ClaimName;
      readonly by: string;
      readonly reason: string;
    }
  | { readonly type: "Approved"; readonly by: string; readonly plan: Digest }
  | { readonly type: "RevertRequested"; readonly by: string; readonly reason: string }
  /** An issued instance that nothing uses: the first of two issues after a crash, or the new one after a revert. */
  | { readonly type: "Orphaned"; readonly generation?: Generation; readonly why: string; readonly expires: Instant }
  | { readonly type: "RotationClosed"; readonly grade: Grade; readonly receipt?: string }
  /** Everything was put back and seen in place. */
  | { readonly type: "RotationReverted"; readonly why: string }
  /** A receipt was written to the receipt log. */
  | { readonly type: "ReceiptWritten"; readonly rotation: RotationId; readonly digest: Digest; readonly index: number };

export interface Recorded<E = Event> {
  /** 1, 2, 3 … without gaps. */
  readonly seq: number;
  readonly at: Instant;
  readonly event: E;
}
