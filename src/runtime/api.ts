import type { Due } from "../engine/due.ts";
import type {
  ClaimName,
  Digest,
  Generation,
  Grade,
  Instant,
  Plan,
  Reason,
  StageName,
  StepRef,
} from "../engine/model.ts";
import type { Lineage, Rotation, Waiver } from "../engine/state.ts";

/** What hosts (cli, server, agent) see of the runtime. Implemented by estate.ts. */
export interface Estate {
  /** Names of all credentials of the manifests, CRLs (`<issuer>.crl`) among them, in order of the files. */
  readonly credentials: readonly string[];
  readonly stateDirectory: string;
  /** Reads and decides, writes nothing. */
  plan(name: string, options?: PlanOptions): Promise<Planned>;
  /** Goes on with the rotation under way, or begins one when it is due (or `now`). Returns when it ends, holds or must wait longer than `patience` allows. */
  rotate(name: string, options: RotateOptions): Promise<Outcome>;
  status(): Promise<readonly CredentialStatus[]>;
  /** Journals of this state directory that no credential of the manifests has. */
  unnamed(): Promise<readonly UnnamedJournal[]>;
  /** The whole history of one credential, or of a journal that no manifest names. */
  show(name: string): Promise<{ readonly lineage: Lineage; readonly entries: readonly TimelineEntry[] }>;
  /** Asks for the way back and walks it. Code `refused` when something irreversible was begun. */
  revert(name: string, options: RotateOptions & { by: string; reason: string }): Promise<Outcome>;
  /**
   * Gives the claims it was written down for: those named, or the one that is open.
   * @throws GyreError `input` for an unknown member, a claim that is not asked of it, and where none or several are open
   */
  waive(name: string, member: string, options: WaiveOptions & { expires: Instant }): Promise<readonly ClaimName[]>;
  /**
   * Takes waivers of the member back, all in force or those for the claims named; gives what it took back.
   * @throws GyreError `input` where none is in force
   */
  withdrawWaiver(name: string, member: string, options: WaiveOptions): Promise<readonly Waiver[]>;
  approve(name: string, options: { by: string }): Promise<Digest>;
  /** Who uses or holds a certificate with this SHA-256 fingerprint (or a prefix of 8 or more hex digits), across journals, targets, presenters and sensors. */
  who(fingerprint: string): Promise<readonly Whereabouts[]>;
  /** A credential of the manifest against reality, before anything changes. Read-only. */
  doctor(name: string): Promise<readonly Diagnosis[]>;
  close(): Promise<void>;
}

export interface WaiveOptions {
  readonly by: string;
  readonly reason: string;
  readonly claims?: readonly ClaimName[];
}

export interface PlanOptions {
  /** Plan although it is not due. */
  readonly now?: boolean;
  readonly reason?: string;
}

export interface Planned {
  readonly due: Due;
  /** Absent where nothing is due and `now` was not given. */
  readonly plan?: Plan;
  readonly digest?: Digest;
  /** A rotation that is under way already; then `plan` is its frozen plan. */
  readonly underWay?: string;
  /** Stages that apply, in order. */
  readonly stages: readonly StageName[];
  /** What else the rotation will do first, such as creating the CA. Not part of the plan, so not of its digest. */
  readonly notes?: readonly string[];
}

export interface RotateOptions extends PlanOptions {
  /** Sleep inline for waits up to this long, milliseconds; longer ones end with `waiting`. */
  readonly waitUpTo: number;
  /** Who runs this, for the journal: user@host, pid. */
  readonly runner: string;
  readonly onProgress?: (progress: Progress) => void;
  readonly signal?: AbortSignal;
}

/** Told as it happens; hosts render it. */
export type Progress =
  | { readonly type: "started"; readonly rotation: string; readonly plan: Plan; readonly resumed: boolean }
  | {
      readonly type: "step";
      readonly stage: StageName;
      readonly step: StepRef;
      readonly state: "doing" | "done" | "failed";
      readonly words: string;
      /** What to do about a failure. */
      readonly next?: string;
    }
  | {
      readonly type: "looked";
      readonly stage: StageName;
      readonly claim: ClaimName;
      readonly yes: number;
      readonly total: number;
      readonly exceptions: readonly { member: string; what: string }[];
    }
  | { readonly type: "passed"; readonly stage: StageName; readonly words: string }
  | { readonly type: "waiting"; readonly stage: StageName; readonly until: Instant; readonly why: string }
  | { readonly type: "held"; readonly stage: StageName; readonly words: string; readonly reasons: readonly Reason[] }
  | { readonly type: "putting back"; readonly why: string }
  | {
      readonly type: "reverted";
      readonly why: string;
      /** Members that were waived, so not seen to have the old one back. */
      readonly unseen?: readonly string[];
      /** What became of places that are not as they were before, in words. */
      readonly left?: string;
      readonly next?: string;
    }
  | { readonly type: "closed"; readonly grade: Grade; readonly receipt: string };

/** Exit codes of design: 0, 3, 4, 5, 6 are chosen from this at the edge. */
export type Outcome =
  | { readonly result: "closed"; readonly rotation: string; readonly grade: Grade; readonly receipt: string }
  | { readonly result: "nothing due"; readonly due: Due }
  | {
      readonly result: "held";
      readonly rotation: string;
      readonly stage: StageName;
      readonly reasons: readonly Reason[];
    }
  | {
      readonly result: "waiting";
      readonly rotation: string;
      readonly stage: StageName;
      readonly until: Instant;
      readonly why: string;
    }
  /** By failure (`failed`) or by request. */
  | {
      readonly result: "put back";
      readonly rotation: string;
      readonly why: string;
      readonly failed: boolean;
      /** Members that were waived, so not seen to have the old one back. */
      readonly unseen?: readonly string[];
      /** What to do about the failure. */
      readonly next?: string;
    }
  /** Failed and could not be put back. */
  | {
      readonly result: "stuck";
      readonly rotation: string;
      readonly stage: StageName;
      readonly reasons: readonly Reason[];
    };

export interface CredentialStatus {
  readonly name: string;
  readonly kind: "certificate" | "crl";
  readonly current?: Generation;
  readonly due?: Due;
  readonly active?: Rotation;
  readonly lastClosed?: {
    readonly rotation: string;
    readonly grade: Grade;
    readonly at: Instant;
    readonly receipt?: string;
  };
  /** Generations that were not seen refused and have not expired. */
  readonly outstanding: readonly Generation[];
  readonly orphans: number;
  /** Set where what is in place could not be read, or differs from place to place; the rest is from the journal alone. */
  readonly unread?: string;
  /** Set where its journal cannot be read; the others are still told. */
  readonly problem?: string;
}

/** A journal that no manifest names: its credential was renamed or taken out, or its manifest was not given. */
export type UnnamedJournal = Pick<
  CredentialStatus,
  "name" | "current" | "active" | "outstanding" | "orphans" | "problem"
>;

export interface TimelineEntry {
  readonly seq: number;
  readonly at: Instant;
  readonly rotation?: string;
  /** In words for people: `delivered to /etc/nginx/tls/shop.pem`. */
  readonly words: string;
  readonly evidence?: Digest;
}

export interface Whereabouts {
  readonly fingerprint: string;
  /** `journal shop-tls g3 (current)`, `target /etc/…`, `presenter 10.0.0.1:443`, `access log …`. */
  readonly where: string;
  /** `probed`: by nobody but Gyre. */
  readonly how: "issued" | "stored" | "presented" | "used" | "probed";
  readonly credential?: string;
  readonly generation?: number;
  readonly at?: Instant;
  /** It could not be asked: neither yes nor no. */
  readonly unasked?: true;
  readonly detail: string;
}

export interface Diagnosis {
  readonly level: "ok" | "note" | "warning" | "problem";
  /** `target /etc/…`, `verifier 10.0.0.1:443`, `issuer lab-root`, `clock`, `grade`. */
  readonly about: string;
  readonly what: string;
  readonly next?: string;
}

/** Opens an estate from manifests (files or directories) and a state directory (created on first use). */
export type OpenEstate = (options: {
  manifests: readonly string[];
  stateDirectory: string;
  env: Readonly<Record<string, string | undefined>>;
}) => Promise<Estate>;
