/**
 * The roles a driver may play, each one or two methods. A driver talks to one system and knows nothing of stages.
 * Contract for all: methods may throw GyreError; `retry: "read back"` when a write may have happened. Expected
 * outcomes (refused, unknown) are values. No method prints, logs or reads the clock for a decision.
 */
import type { Secret } from "../pki/secret.ts";

/** Handed to every effect and look: whose it is, and until when it matters. */
export interface Step {
  /** Names this try; a driver that can store it does, so that `find` and `read` recognise their own work. */
  readonly op: string;
  readonly signal: AbortSignal;
  /** A probe that speaks HTTP sends `User-Agent: gyre-probe/<tag>`; sensors know our own looks by it. `<rotation tag>.<nonce>`. */
  readonly tag: string;
}

/** Driver facts as data; see Facts in engine/model.ts, which this mirrors so that drivers need not import the engine. */
export interface DriverFacts {
  readonly reload?: "watch" | "kubelet" | "command" | "signal" | "restart" | "none";
  readonly findAfterCrash?: boolean;
  readonly conditionalWrite?: boolean;
  readonly restore?: boolean;
  readonly canRefuse?: boolean;
  readonly denies?: boolean;
  readonly revoke?: boolean;
  /** The issuer signs with the credential's own key (self-signed): it is handed the key. */
  readonly needsKey?: boolean;
  /** Milliseconds. */
  readonly maxLifetime?: number;
  readonly seesUse?: boolean;
  /** A sensor that needs no more of a certificate than its fingerprint: it can be asked for one that no journal knows. */
  readonly byFingerprint?: boolean;
  readonly sessions?: boolean;
  readonly mustSeeNewUse?: boolean;
}

/** What travels to targets: the public part as PEM, leaf first, and the key that must not be printed. */
export interface Material {
  readonly certificate: string;
  /** Intermediates as PEM, leaf's issuer first; empty when the root signed the leaf. */
  readonly chain: string;
  /** The CA certificates (PEM) that a consumer may need beside it. */
  readonly roots: string;
  /** PKCS#8 PEM; absent where the key does not travel (a CRL, a hardware key). */
  readonly privateKey?: Secret;
}

/** SHA-256 over everything stored, `sha256:…`; `absent` where nothing is stored yet. */
export type Version = string;

export interface Stored {
  readonly version: Version;
  /** Certificates found (PEM, leaf first), or a CRL; empty when absent. */
  readonly certificate: string;
  readonly privateKey?: Secret;
  /** Set by a Gyre delivery: the op that wrote it. */
  readonly op?: string;
  /** True while a delivery was cut off half-way; `deliver` with the same op finishes it. */
  readonly torn?: boolean;
  /** Set where something is stored that is neither empty nor what it should be: which file, and what is wrong. */
  readonly malformed?: string;
  /** Certificate and key are usable, and something that belongs to them is wrong (a CA). The next delivery corrects it. */
  readonly flaw?: string;
}

export interface IssueOrder {
  readonly subject: string;
  readonly names: readonly string[];
  readonly usages: readonly ("server" | "client")[];
  /** Milliseconds. */
  readonly lifetime: number;
  /** DER CSR, signed by the new key: possession is checked by the issuer. */
  readonly csr: Buffer;
  /** PKCS#8 PEM; given only to an issuer whose facts say `needsKey`. */
  readonly key?: Secret;
}
export interface Issued {
  /** PEM leaf, PEM intermediates, PEM roots. For a CRL: `certificate` is the CRL's PEM. */
  readonly certificate: string;
  readonly chain: string;
  readonly roots: string;
}
/** A generation as issuers and verifiers know it. */
export interface Named {
  readonly fingerprint: string;
  readonly serial: string;
  readonly issuer: string;
  readonly notAfter: number;
}

export interface Issuer {
  readonly can: DriverFacts;
  /** The CA that signs, where there is one: its subject is the issuer of certificates and CRLs. */
  readonly certificate?: { readonly subject: string };
  /** What it issues under, as PEM, where that is known before an issue: intermediates (issuing one first), and roots. */
  chain?(): string;
  roots?(): string;
  issue(order: IssueOrder, step: Step): Promise<Issued>;
  /**
   * After a crash: did `op`, begun at `since` (ms), issue something? `undefined` means certainly not, `forgotten` that the
   * system keeps no record that long. Needs `can.findAfterCrash`.
   */
  find?(op: string, since?: number): Promise<Issued | "forgotten" | undefined>;
  /** Marks a generation revoked. Repeats safely. Takes effect at verifiers only with the next published CRL. */
  retire?(generation: Named, step: Step): Promise<void>;
  /** A CRL (PEM) with every retired, unexpired serial. Repeats safely; each call has a higher CRL number. */
  publishCrl?(step: Step, lifetime?: number): Promise<string>;
  /**
   * Records as revoked what a CRL (PEM) of this CA lists and its own record does not: revoked by the CA's software before
   * Gyre, or lost with a backup. Without it the next CRL would take those entries away. Gives the serials; repeats safely.
   */
  takeIn?(crl: string, step: Step): Promise<readonly string[]>;
  /** Serials that a CRL must list now. */
  revoked?(): Promise<ReadonlySet<string>>;
  /** With an intermediate: the CRL (PEM) of the root above it. Verifiers that check the whole chain need both. */
  rootCrl?(): Promise<string | undefined>;
  /** Throws what would stop an issue (passphrase, expired CA, damaged record), found by looking only. */
  check?(): Promise<void>;
}

export interface Target {
  readonly can: DriverFacts;
  /** Where it is, in words: a path. */
  readonly place: string;
  read(): Promise<Stored>;
  /** Compare-and-swap: refuses with code `conflict` when the stored version is not `expected`. All or nothing. */
  deliver(material: Material, expected: Version, step: Step): Promise<Stored>;
  /**
   * Puts back what `deliver` replaced. Refuses with `conflict` when somebody else changed it since. `previous`: that
   * generation, for places that keep no key beside what is in use; absent where nothing was before.
   */
  restore(expected: Version, step: Step, previous?: Material): Promise<Stored>;
  /** Tells the process to load what is stored. Repeats safely. */
  reload?(step: Step): Promise<string>;
  /** Deletes the kept previous copy (it holds the old private key). Repeats safely. */
  forget(step: Step): Promise<void>;
  /** Throws what would stop a delivery (paths, permissions, names, passwords), found by looking only. */
  check?(): Promise<void>;
}

/** A place that keeps what a verifier trusts: a CA bundle, pins, or a CRL. */
export interface TrustStore {
  readonly can: DriverFacts;
  readonly place: string;
  /** What it keeps: certificates (CA bundle, pins) or CRLs. */
  readonly holds: "certificates" | "crls";
  /** PEM of everything kept. */
  read(): Promise<{ version: Version; pem: string }>;
  /** Compare-and-swap, atomic. */
  put(pem: string, expected: Version, step: Step): Promise<{ version: Version }>;
  /** Undoes the first `put` of all: `read` gives `absent` again. Compare-and-swap; repeats safely. */
  remove?(expected: Version, step: Step): Promise<void>;
  reload?(step: Step): Promise<string>;
  /** Whether a certificate of this subject can be listed and taken out again at all; absent: every one can. */
  canList?(subject: string): boolean;
  /** Throws what would stop a put, found by looking only. */
  check?(): Promise<void>;
}

/** One running instance. `instance` changes when another process stands behind the same id, where that shows. */
export interface Member {
  readonly id: string;
  readonly address: string;
  readonly instance?: string;
  /** What people call it, where the id does not say: `pod web-3`. */
  readonly known?: string;
}

/** What one look showed. `detail` is evidence: flat, public, small. */
export type ProbeResult = (
  | {
      readonly saw: "presented";
      readonly chain: readonly string[] /* fingerprints, leaf first */;
      readonly problem?: string;
    }
  | { readonly saw: "accepted"; readonly as: string }
  | { readonly saw: "refused"; readonly code: string }
  | { readonly saw: "denied"; readonly as: string }
  | { readonly saw: "unknown"; readonly why: string }
) & { readonly detail?: Readonly<Record<string, string | number | boolean>> };

/** A credential in the hand of a probe. */
export interface CredentialHandle extends Named {
  readonly certificate: string;
  readonly chain: string;
  readonly privateKey: Secret;
}

export interface Presenter {
  readonly can: DriverFacts;
  /** Ids of members that the manifest names one by one; absent where they are resolved. */
  readonly listed?: readonly string[];
  /** One per replica. Throws when the list could not be had in full: then "for all" is unknown. */
  members(): Promise<Member[]>;
  /** A fresh full handshake with this very member. `roots`: PEM the chain must lead to. */
  probe(member: Member, roots: string, step: Step): Promise<ProbeResult>;
  /** The member's clock minus ours in milliseconds, where it tells the time; good to about a second. */
  clock?(member: Member, step: Step): Promise<number | undefined>;
  /** Throws what would make every look fail (a CA bundle that cannot be read); dials nobody. */
  check?(): Promise<void>;
}

export interface Verifier {
  readonly can: DriverFacts;
  /** Ids of members that the manifest names one by one; absent where they are resolved. */
  readonly listed?: readonly string[];
  members(): Promise<Member[]>;
  /** Presents `credential` to this very member and judges a complete reply. Accepted only when the answer depends on
   *  the credential: the member named it, or the same request without it (and with a stranger's) is refused. */
  probe(member: Member, credential: CredentialHandle, step: Step): Promise<ProbeResult>;
  /** Opens a session with `credential` that could be resumed later; undefined when the member offers none. */
  session?(member: Member, credential: CredentialHandle, step: Step): Promise<Secret | undefined>;
  /** Tries to resume: accepted means the old session is still honoured; refused means it is not. */
  resume?(member: Member, session: Secret, credential: CredentialHandle, step: Step): Promise<ProbeResult>;
  /** Throws what would make every look fail (a CA bundle that cannot be read); dials nobody. */
  check?(): Promise<void>;
}

export interface Usage {
  /** Authenticated uses by others than our own probes, whatever the application answered them. */
  readonly count: number;
  /** How many of them got an answer below 400, where the sensor sees that. */
  readonly succeeded?: number;
  /** Our own probes that were left out; told where all of them are asked to be. */
  readonly ours?: number;
  /** Milliseconds since the epoch. */
  readonly last?: number;
  readonly from: readonly string[];
  /** Set where the sensor cannot vouch for the whole time since: a gap, a truncated log. Its end, ms. */
  readonly gapUntil?: number;
  readonly gap?: string;
}
export interface Sensor {
  readonly can: DriverFacts;
  readonly place: string;
  /** The verifier member (host:port) whose uses it records. */
  readonly member: string;
  /**
   * Successful uses of `of` since then (ms). Lines whose User-Agent is `gyre-probe/<ours>.…` are our own and left out;
   * without `ours` all probes of any Gyre are, and counted.
   */
  usage(of: Named, since: number, ours?: string): Promise<Usage>;
  /** True when the sensor recorded our own probe carrying `tag`; false: not seen (yet). */
  alive(tag: string): Promise<boolean>;
}
