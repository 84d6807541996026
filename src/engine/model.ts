/**
 * The words of Gyre as types. Everything here is plain data: it is written to the journal as JSON and read back
 * after a crash. The meaning of each word is in docs/ARCHITECTURE.md and in the comment beside it.
 */

/** Milliseconds since the Unix epoch, UTC. The runtime reads the clock once per pass; nothing else does. */
export type Instant = number;
/** A length of time in milliseconds. */
export type Millis = number;
/** `sha256:` and 64 lower-case hex digits. */
export type Digest = `sha256:${string}`;
/** SHA-256 of a certificate's DER (or of a public key blob for things that are no certificate), lower-case hex. */
export type Fingerprint = string;

/** One issued instance of a credential. Certificate fields carry their RFC 5280 names. */
export interface Generation {
  readonly number: number;
  readonly kind: "certificate" | "crl";
  readonly fingerprint: Fingerprint;
  /** SHA-256 of the DER SubjectPublicKeyInfo, hex; absent for a CRL. */
  readonly spki?: string;
  /** Serial number, lower-case hex without leading zeros; for a CRL its CRL number. */
  readonly serial: string;
  readonly issuer: string;
  readonly subject: string;
  /** Subject alternative names as `DNS:a`, `IP:1.2.3.4`, `URI:spiffe://…`, `email:x@y`. */
  readonly names: readonly string[];
  readonly algorithm: string;
  /** For a CRL: thisUpdate and nextUpdate. */
  readonly notBefore: Instant;
  readonly notAfter: Instant;
  /** Evidence digest of the public part: JSON { certificate, chain, roots }, each PEM. */
  readonly material: Digest;
}

/** What a stage's effect acts on. `on` is the id of a target, trust store or issuer in the plan. */
export type StepKind =
  | "issue" // the issuer makes generation `generation`
  | "admit" // the trust store `on` accepts `generation` beside what it accepts (pins)
  | "deliver" // the target `on` holds `generation`
  | "restore" // the target `on` holds `generation` again (undo of deliver)
  | "reload" // the process behind `on` is told to load what is stored
  | "retire" // the issuer marks `generation` as revoked
  | "publish" // the trust store `on` holds the issuer's current CRL
  | "withdraw" // the trust store `on` stops accepting `generation` (pins)
  | "forget" // the target `on` deletes the copy it kept for restore
  | "destroy"; // the private key of `generation` is deleted from the secret store

export interface StepRef {
  readonly kind: StepKind;
  readonly on: string;
  readonly generation: number;
}

/** A member of the inventory: one running instance, or one place, that a claim quantifies over. */
export interface Member {
  /** Stable and human: `10.0.0.3:443`, `/etc/nginx/tls/shop.pem`. Unique within its role. */
  readonly id: string;
  /** The plan entry it belongs to (presenter, verifier, sensor, target or trust store id). */
  readonly of: string;
  /** Changes when the instance behind the id is another one (UID, start time), where that can be seen. */
  readonly instance?: string;
}

export type Role = "target" | "trustStore" | "presenter" | "verifier" | "sensor";

/** Members by role, and what could not be resolved: while that is not empty, "for all" is unknown (I13). */
export interface Inventory {
  readonly members: Readonly<Record<Role, readonly Member[]>>;
  readonly unresolved: readonly { readonly of: string; readonly why: string }[];
}

/**
 * A question about every member of one role. What each asks, and what it looks at, is the table in claims.ts.
 *   stored     target      holds the new generation (L1)
 *   presented  presenter   presents the new generation on a fresh full handshake, chain complete (L3)
 *   acceptedOld verifier   corner A: accepts the old generation, naming it (L4)
 *   accepted   verifier    corner B: accepts the new generation, naming it (L4)
 *   used       sensor      somebody other than our probe was seen using the new generation
 *   silent     sensor      no use of the old generation in the quiet window, by a sensor proven alive (N1)
 *   admitted   trustStore  lists the new generation beside the old (pins)
 *   published  trustStore  holds a CRL of the issuer that lists the old generation
 *   withdrawn  trustStore  lists the new generation and no longer the old (pins)
 *   refused    verifier    corners C and D: refuses the old and right after accepts the new (N2)
 *   drained    verifier    no resumable session of the old generation is honoured (N3)
 *   restored   target      holds the old generation again (undo)
 *   presentedOld presenter presents the old generation again (undo)
 */
export type ClaimName =
  | "stored"
  | "presented"
  | "acceptedOld"
  | "accepted"
  | "used"
  | "silent"
  | "admitted"
  | "published"
  | "withdrawn"
  | "refused"
  | "drained"
  | "restored"
  | "presentedOld";

/**
 * How far the end of the old generation was seen; the weakest member decides, waived members do not count.
 *   REFUSED     every verifier was seen refusing it
 *   DENIED      it still authenticates and was seen authorised for nothing
 *   SUPERSEDED  nobody presents it, and no verifier can refuse it before it expires
 *   EXPIRED     its notAfter has passed
 *   FIRST       a first issue: there was no old generation
 */
export type Grade = "REFUSED" | "DENIED" | "SUPERSEDED" | "EXPIRED" | "FIRST";

export type StageName =
  | "planned"
  | "issued"
  | "created"
  | "verified"
  | "delivered"
  | "adopted"
  | "quiet"
  | "revoked"
  | "deleted"
  | "refused"
  | "superseded"
  | "expired"
  | "closed";

export type StrategyName = "replace" | "overlap";

/** An entry of the plan that a driver stands behind. `facts` are the driver's, frozen at planning. */
export interface Party {
  readonly id: string;
  readonly driver: string;
  readonly facts: Facts;
  /** Members that the manifest names one by one. One that it no longer names is not proven by being forgotten. */
  readonly listed?: readonly string[];
  /** For a target: the version stored when the plan was made; another one at delivery is a conflict. For a trust store: what an undo leaves. */
  readonly version?: string;
}

/** Driver facts as data; absent means the worst. The plan is made from them. */
export interface Facts {
  /**
   * How a process learns of new material: by itself, by command, by signal, or only when restarted. `kubelet`: files in
   * pods change by themselves, and whatever else a pod took from there does not.
   */
  readonly reload?: "watch" | "kubelet" | "command" | "signal" | "restart" | "none";
  /** The driver can tell after a crash whether its write happened. */
  readonly findAfterCrash?: boolean;
  /** Writes are compare-and-swap. */
  readonly conditionalWrite?: boolean;
  /** The old material can be put back. */
  readonly restore?: boolean;
  /** A verifier that can refuse an unexpired credential (by CRL, by pins). */
  readonly canRefuse?: boolean;
  /** What it can do is deny: the old one still authenticates, and is allowed nothing (grade DENIED). */
  readonly denies?: boolean;
  /** The issuer can revoke and publish a CRL. */
  readonly revoke?: boolean;
  /** The issuer signs with the credential's own key (self-signed). */
  readonly needsKey?: boolean;
  /** Lifetime limits of an issuer. */
  readonly maxLifetime?: Millis;
  /** The sensor sees who used a credential. */
  readonly seesUse?: boolean;
  /** The verifier lets sessions be resumed, so old ones must be seen dead. */
  readonly sessions?: boolean;
  /** Also asked: has somebody other than our probe used the new one? */
  readonly mustSeeNewUse?: boolean;
}

/** Frozen at planning; execution chooses nothing. Its digest binds approvals and waivers. */
export interface Plan {
  readonly version: 1;
  /** Drawn at planning: two plans never share a digest, nor the names under which issuers know their orders. */
  readonly seed: string;
  readonly credential: string;
  readonly kind: "certificate" | "crl";
  readonly strategy: StrategyName;
  /** The generation being replaced; absent for a first issue. */
  readonly from?: Generation;
  /** The number of the new generation. */
  readonly to: number;
  readonly reason: string;
  readonly request: IssueRequest;
  readonly issuer: Party;
  readonly targets: readonly Party[];
  readonly trustStores: readonly Party[];
  readonly presenters: readonly Party[];
  readonly verifiers: readonly Party[];
  readonly sensors: readonly Party[];
  /** The old generation will be revoked (replace) or withdrawn (overlap), so that it can be seen refused. */
  readonly revoke: boolean;
  /** The best grade that can be reached, why not better, and how to reach better. */
  readonly grade: { readonly reachable: Grade; readonly why: string };
  readonly quiet: { readonly window: Millis; readonly why: string };
  readonly timing: Timing;
  /** What the operator should know before saying yes. */
  readonly notices: readonly string[];
  /** Taking the old one away, and steps with no way back, need a named approval bound to the plan's digest when this is set. */
  readonly approval?: "required";
}

export interface Timing {
  /** How long a claim may stay unmet, while it is looked at again and again, before the rotation holds. */
  readonly patience: Millis;
  /** Pause between two looks at an unmet claim. */
  readonly poll: Millis;
  /** Age at which an L3/L4 or refusal finding dies. */
  readonly freshness: Millis;
  /** Clock difference that must not matter. */
  readonly skew: Millis;
  /** How often a step that failed "later" is tried before it counts as failed. */
  readonly attempts: number;
}

/** What is asked of the issuer. The private key is made by the KeyHolder, before this leaves. */
export interface IssueRequest {
  readonly kind: "certificate" | "crl";
  readonly subject: string;
  readonly names: readonly string[];
  readonly usages: readonly ("server" | "client")[];
  readonly algorithm: string;
  readonly lifetime: Millis;
}

/** An error as data: it is journaled and read after a crash. See errors.ts for the class. */
export interface ErrorData {
  readonly code: string;
  readonly message: string;
  readonly where?: string;
  readonly retry: "never" | "later" | "read back";
  readonly next?: string;
}

/** Why a rotation stands still, and what moves it. One reason per member or per cause. */
export interface Reason {
  /** The member, target or issuer it is about. */
  readonly about: string;
  readonly claim?: ClaimName;
  readonly verdict: "no" | "unknown" | "failed" | "approval";
  /** What was seen, in words for the person on call. */
  readonly what: string;
  readonly since: Instant;
  /** What releases it. */
  readonly release: string;
}
