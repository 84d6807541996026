import type { LintFinding } from "../pki/lint.ts";

/** Something about a find that a person should know. Codes of src/pki/lint.ts, and those of this room. */
export interface Finding {
  readonly severity: "error" | "warning" | "note";
  /** Beside lint's: `key-mismatch`, `key-permissions`, `writable`, `chain-order`, `name-mismatch`, `crl-expired`,
   *  `not-a-ca`, `root-ca-differs`, `base64-twice`, `insecure`. */
  readonly code: string;
  readonly message: string;
  /** Where the rule is written, for lint's. */
  readonly reference?: LintFinding["reference"];
}

interface Find {
  /** `path:line`, `host:port#1` (place in the chain), `path#user/admin`, `Secret shop/web/tls.crt:1`. */
  readonly where: string;
  readonly findings: readonly Finding[];
  /** Set where it is in an object of a cluster. */
  readonly object?: InCluster;
}

/** An object of a cluster, whose it is and who uses it. */
export interface InCluster {
  readonly kind: string;
  /** Absent for objects of the whole cluster. */
  readonly namespace?: string;
  readonly name: string;
  /** Key of the data, or path of the field. */
  readonly key: string;
  /** Type of a Secret. */
  readonly type?: string;
  /** The nearest first; empty where nothing says. */
  readonly owners: readonly Owner[];
  readonly users: readonly User[];
  /** Kinds of users that could not be listed: whether there are any is unknown. */
  readonly usersUnseen?: readonly string[];
}
export interface Owner {
  /** What says so: `ownerReference`, `cert-manager`, `Helm`, `Flux`, `Argo CD`, `managed-by`, `field manager`, `signer`. */
  readonly by: string;
  readonly who: string;
}
export interface User {
  /** `Deployment shop/web`, `Ingress shop/web`. */
  readonly who: string;
  /** What only a restart renews: `env` and `subPath`. */
  readonly how: "mount" | "subPath" | "env" | "tls";
  readonly pods?: number;
}

/** Plain data, ready for JSON. Times are milliseconds since the epoch. */
export type Found =
  | FoundCertificate
  | FoundCrl
  | FoundPrivateKey
  | FoundRequest
  | FoundStore
  | FoundToken
  | FoundSetting
  | FoundSkipped
  | FoundProblem;

export interface FoundCertificate extends Find {
  readonly what: "certificate" | "CA";
  readonly subject: string;
  /** `DNS:a`, `IP:1.2.3.4`, `URI:…`, `email:…`. */
  readonly names: readonly string[];
  readonly issuer: string;
  readonly serial: string;
  readonly fingerprint: string;
  readonly algorithm: string;
  readonly usages: readonly string[];
  readonly notBefore: number;
  readonly notAfter: number;
  /** Whole days until notAfter, negative after it. */
  readonly daysLeft: number;
  /** Set where it is part of a chain in one file or one handshake: leaf is 1. */
  readonly chain?: { readonly position: number; readonly of: number };
  /** The private key beside it: in the same file, of the same name, or matching in the same directory. */
  readonly key?: { readonly where: string; readonly matches: boolean };
}
export interface FoundCrl extends Find {
  readonly what: "CRL";
  readonly issuer: string;
  /** CRL number, hex. */
  readonly serial: string;
  readonly fingerprint: string;
  readonly revoked: number;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly daysLeft: number;
}
export interface FoundPrivateKey extends Find {
  readonly what: "private key";
  /** Absent where it is encrypted. */
  readonly algorithm?: string;
  readonly encrypted: boolean;
  /** Where the certificates it belongs to are. */
  readonly matches: readonly string[];
}
export interface FoundRequest extends Find {
  readonly what: "CSR";
  readonly subject: string;
  readonly names: readonly string[];
  readonly algorithm: string;
}
/** A store that a password locks: what is in it is not told. */
export interface FoundStore extends Find {
  readonly what: "PKCS#12" | "JKS";
}
/** A secret of another kind in a kubeconfig; its value is never read. */
export interface FoundToken extends Find {
  readonly what: "token" | "password" | "exec";
}
/** A setting that stands where a certificate should. */
export interface FoundSetting extends Find {
  readonly what: "setting";
  readonly message: string;
}
/** Left out on purpose, and why. */
export interface FoundSkipped extends Find {
  readonly what: "skipped";
  readonly count?: number;
  readonly message: string;
}
/** Something that could not be read. The scan goes on. */
export interface FoundProblem extends Find {
  readonly what: "problem";
  readonly message: string;
}

export const problem = (where: string, message: string): FoundProblem => ({
  what: "problem",
  where,
  message,
  findings: [],
});

/** An error's words; `where` is told apart from them. */
export const wordsOf = (error: unknown): string =>
  error instanceof Error ? error.message.split("\n")[0]! : String(error);
