import { boolean, count, digest, hex256, list, object, oneOf, type Shape, string, timestamp } from "./shape.ts";

/** in-toto Statement v1 (in-toto/attestation, spec/v1/statement.md). */
export const STATEMENT_TYPE = "https://in-toto.io/Statement/v1";
export const PREDICATE_TYPE = "https://gyre.dev/receipt/v1";

export interface Statement {
  readonly _type: typeof STATEMENT_TYPE;
  /** The new generation: `shop-tls@g4` by the SHA-256 of its DER. */
  readonly subject: readonly { readonly name: string; readonly digest: { readonly sha256: string } }[];
  readonly predicateType: typeof PREDICATE_TYPE;
  readonly predicate: Receipt;
}

/** RFC 3339, UTC, milliseconds: `2026-01-31T12:00:00.000Z`. */
export type Timestamp = string;
export type Sha256 = `sha256:${string}`;

/** What a receipt says of one rotation. Plain JSON without secrets; every claim in it has its evidence by digest. */
export interface Receipt {
  readonly tool: { readonly name: "gyre"; readonly version: string };
  readonly credential: string;
  /** `<credential>/<n>`. */
  readonly rotation: string;
  readonly strategy: string;
  readonly why: string;
  readonly outcome: "closed" | "reverted";
  /** Absent for a first issue. */
  readonly before?: ReceiptGeneration;
  readonly after: ReceiptGeneration;
  /** Digest of the plan: approvals and waivers were given for it. */
  readonly plan: Sha256;
  readonly scope: ReceiptScope;
  readonly startedAt: Timestamp;
  readonly closedAt: Timestamp;
  readonly timeline: readonly ReceiptStage[];
  /** One per verifier member, or per presenter where no verifier can refuse. */
  readonly verdicts: readonly ReceiptVerdict[];
  readonly grade: ReceiptGrade;
  /** The best grade the plan could reach, and why not better. */
  readonly reachable: { readonly grade: ReceiptGrade; readonly why: string };
  readonly quiet: ReceiptQuiet;
  readonly waivers: readonly ReceiptWaiver[];
  readonly approvals: readonly { readonly by: string; readonly at: Timestamp }[];
  readonly unknowns: readonly { readonly about: string; readonly claim?: string; readonly what: string }[];
  readonly failures: readonly ReceiptFailure[];
  readonly orphans: readonly ReceiptOrphan[];
  readonly oldKey: ReceiptOldKey;
  /** The journal as it stood when this was signed: the chain value of entry `seq`. */
  readonly journal: { readonly seq: number; readonly hash: string };
  /** The receipt log as it stood before this receipt was added to it. */
  readonly log?: { readonly origin: string; readonly size: number; readonly root: string };
  /** Digest of the receipt that this one adds to (a grade that came later). */
  readonly addendumTo?: Sha256;
  /** In words, what could not be shown, and why. */
  readonly notProvable: readonly string[];
  /** The keys that sign, so that the signature can be checked with this file and a pin alone. */
  readonly signers: readonly Signer[];
}

export interface ReceiptGeneration {
  readonly number: number;
  readonly kind: "certificate" | "crl";
  /** SHA-256 of the DER, hex. */
  readonly fingerprint: string;
  readonly spki?: string;
  readonly serial: string;
  readonly issuer: string;
  readonly subject: string;
  readonly names: readonly string[];
  readonly algorithm: string;
  readonly notBefore: Timestamp;
  readonly notAfter: Timestamp;
  /** Evidence digest of the PEM. */
  readonly material: Sha256;
}

export interface ReceiptScope {
  /** Digest of the inventory that the last findings are about. */
  readonly epoch: Sha256;
  readonly counts: {
    readonly target: number;
    readonly trustStore: number;
    readonly presenter: number;
    readonly verifier: number;
    readonly sensor: number;
  };
  readonly unresolved: readonly { readonly of: string; readonly why: string }[];
}

export interface ReceiptStage {
  readonly stage: string;
  readonly passedAt: Timestamp;
  readonly steps: readonly ReceiptStep[];
  /** The observation rounds that let the stage pass, in order. */
  readonly rounds: readonly ReceiptRound[];
  /** Times it stood still, and why. */
  readonly holds: readonly { readonly at: Timestamp; readonly reasons: readonly string[] }[];
}
export interface ReceiptStep {
  readonly op: string;
  readonly at: Timestamp;
  readonly did: string;
  /** True where a crash lay between, and the effect was found by reading. */
  readonly readBack: boolean;
  readonly evidence?: Sha256;
}
export interface ReceiptRound {
  readonly claim: string;
  readonly generation: number;
  readonly at: Timestamp;
  readonly epoch: Sha256;
  readonly yes: number;
  readonly no: number;
  readonly unknown: number;
  readonly evidence: Sha256;
}

export interface ReceiptVerdict {
  readonly member: string;
  readonly verdict: "refused" | "denied" | "superseded" | "expired" | "waived" | "unknown";
  readonly at: Timestamp;
  /** What was seen, in words. */
  readonly what: string;
  readonly evidence?: Sha256;
}
/** How far the end of the old generation was seen, the weakest member deciding. FIRST: there was no old one. */
export type ReceiptGrade = "REFUSED" | "DENIED" | "SUPERSEDED" | "EXPIRED" | "FIRST";

export interface ReceiptQuiet {
  /** Milliseconds. */
  readonly window: number;
  readonly why: string;
  readonly sensors: readonly { readonly id: string; readonly member: string; readonly alive: boolean }[];
  /** From when on nobody was seen using the old; absent where no sensor looked. */
  readonly silentSince?: Timestamp;
}
export interface ReceiptWaiver {
  readonly member: string;
  readonly claim?: string;
  readonly by: string;
  readonly reason: string;
  readonly at: Timestamp;
  readonly expires: Timestamp;
  /** It was taken back, and its member had to be seen again. */
  readonly withdrawn?: { readonly by: string; readonly reason: string; readonly at: Timestamp };
}
export interface ReceiptFailure {
  readonly op: string;
  readonly at: Timestamp;
  readonly code: string;
  readonly message: string;
}
export interface ReceiptOrphan {
  readonly fingerprint?: string;
  readonly serial?: string;
  readonly why: string;
  readonly expires: Timestamp;
}
export interface ReceiptOldKey {
  readonly disposition: "destroyed" | "kept" | "never held";
  readonly at?: Timestamp;
  /** Which copies that speaks of, and which it cannot. */
  readonly what: string;
}
export interface Signer {
  /** `sha256:` of the DER SubjectPublicKeyInfo. */
  readonly keyId: Sha256;
  /** Base64 of the DER SubjectPublicKeyInfo, Ed25519. */
  readonly publicKey: string;
}

const grade = oneOf("REFUSED", "DENIED", "SUPERSEDED", "EXPIRED", "FIRST");
const generation = object({
  number: count,
  kind: oneOf("certificate", "crl"),
  fingerprint: hex256,
  "spki?": hex256,
  serial: string,
  issuer: string,
  subject: string,
  names: list(string),
  algorithm: string,
  notBefore: timestamp,
  notAfter: timestamp,
  material: digest,
});
const stage = object({
  stage: string,
  passedAt: timestamp,
  steps: list(object({ op: string, at: timestamp, did: string, readBack: boolean, "evidence?": digest })),
  rounds: list(
    object({
      claim: string,
      generation: count,
      at: timestamp,
      epoch: digest,
      yes: count,
      no: count,
      unknown: count,
      evidence: digest,
    }),
  ),
  holds: list(object({ at: timestamp, reasons: list(string) })),
});
const verdict = object({
  member: string,
  verdict: oneOf("refused", "denied", "superseded", "expired", "waived", "unknown"),
  at: timestamp,
  what: string,
  "evidence?": digest,
});

/** The strict shape of a statement: unknown fields are refused, since a reader would not show them. */
export const statementShape: Shape = object({
  _type: oneOf(STATEMENT_TYPE),
  subject: list(object({ name: string, digest: object({ sha256: hex256 }) })),
  predicateType: oneOf(PREDICATE_TYPE),
  predicate: object({
    tool: object({ name: oneOf("gyre"), version: string }),
    credential: string,
    rotation: string,
    strategy: string,
    why: string,
    outcome: oneOf("closed", "reverted"),
    "before?": generation,
    after: generation,
    plan: digest,
    scope: object({
      epoch: digest,
      counts: object({ target: count, trustStore: count, presenter: count, verifier: count, sensor: count }),
      unresolved: list(object({ of: string, why: string })),
    }),
    startedAt: timestamp,
    closedAt: timestamp,
    timeline: list(stage),
    verdicts: list(verdict),
    grade,
    reachable: object({ grade, why: string }),
    quiet: object({
      window: count,
      why: string,
      sensors: list(object({ id: string, member: string, alive: boolean })),
      "silentSince?": timestamp,
    }),
    waivers: list(
      object({
        member: string,
        "claim?": string,
        by: string,
        reason: string,
        at: timestamp,
        expires: timestamp,
        "withdrawn?": object({ by: string, reason: string, at: timestamp }),
      }),
    ),
    approvals: list(object({ by: string, at: timestamp })),
    unknowns: list(object({ about: string, "claim?": string, what: string })),
    failures: list(object({ op: string, at: timestamp, code: string, message: string })),
    orphans: list(object({ "fingerprint?": hex256, "serial?": string, why: string, expires: timestamp })),
    oldKey: object({ disposition: oneOf("destroyed", "kept", "never held"), "at?": timestamp, what: string }),
    journal: object({ seq: count, hash: hex256 }),
    "log?": object({ origin: string, size: count, root: hex256 }),
    "addendumTo?": digest,
    notProvable: list(string),
    signers: list(object({ keyId: digest, publicKey: string })),
  }),
});

/** The statement around a receipt. */
export function statementOf(receipt: Receipt): Statement {
  const { credential, after } = receipt;
  return {
    _type: STATEMENT_TYPE,
    subject: [{ name: `${credential}@g${after.number}`, digest: { sha256: after.fingerprint } }],
    predicateType: PREDICATE_TYPE,
    predicate: receipt,
  };
}

/** Every evidence digest a statement rests on, each once. */
export function evidenceOf(statement: Statement): readonly Sha256[] {
  const { before, after, timeline, verdicts } = statement.predicate;
  const named = [
    before?.material,
    after.material,
    ...timeline.flatMap((stage) => [...stage.steps, ...stage.rounds].map((one) => one.evidence)),
    ...verdicts.map((one) => one.evidence),
  ];
  return [...new Set(named.filter((one) => one !== undefined))];
}

/**
 * Where a statement contradicts itself: a grade better than its verdicts allow, a subject that is another generation.
 * Sentences; empty when it does not.
 */
export function contradictions(statement: Statement): readonly string[] {
  const { predicate: receipt, subject } = statement;
  const found: string[] = [];
  const expected = statementOf(receipt).subject[0]!;
  const [one] = subject;
  if (subject.length !== 1 || one?.name !== expected.name || one.digest.sha256 !== expected.digest.sha256) {
    found.push(`the subject is not generation ${receipt.after.number} of ${receipt.credential}`);
  }
  const allowed = new Set(ALLOWED[receipt.grade]);
  const counting = receipt.verdicts.filter((one) => one.verdict !== "waived");
  const weaker = counting.find((one) => !allowed.has(one.verdict));
  if (weaker !== undefined) {
    found.push(`grade ${receipt.grade}, but the verdict on ${weaker.member} is ${weaker.verdict}`);
  }
  // EXPIRED rests on a date, which needs nobody to be asked.
  if ((receipt.grade === "REFUSED" || receipt.grade === "DENIED") && counting.length === 0) {
    found.push(`grade ${receipt.grade} over no verifier at all`);
  }
  if ((receipt.grade === "FIRST") !== (receipt.before === undefined)) {
    found.push(`grade ${receipt.grade} ${receipt.before === undefined ? "without" : "with"} an old generation`);
  }
  for (const { member } of receipt.verdicts.filter((one) => one.verdict === "waived")) {
    if (!receipt.waivers.some((one) => one.member === member)) found.push(`${member} is waived by nobody`);
  }
  return found;
}

/** The verdicts a grade may rest on: its own and every better one. */
const ALLOWED: Readonly<Record<ReceiptGrade, readonly ReceiptVerdict["verdict"][]>> = {
  REFUSED: ["refused"],
  DENIED: ["refused", "denied"],
  SUPERSEDED: ["refused", "denied", "superseded", "expired"],
  EXPIRED: ["refused", "denied", "expired"],
  FIRST: ["refused", "denied", "superseded", "expired"],
};
