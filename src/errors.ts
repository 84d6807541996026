/** Closed set: exit codes and HTTP statuses are chosen from it at the edge, never inside. */
export type ErrorCode =
  | "manifest" // the user's manifest or arguments
  | "input" // malformed PEM, wrong passphrase, wrong key for a certificate
  | "issuer" // the CA refused, limited or issued something else
  | "conflict" // somebody else changed it, or a stale sequence
  | "locked" // another runner is at work
  | "unreachable" // network, DNS, time-out
  | "permission"
  | "disk" // full, read-only, I/O
  | "damaged" // journal, evidence or receipt does not add up
  | "newer" // written by a newer Gyre
  | "command" // a validate or reload command failed
  | "refused" // not allowed by policy, plan or stage
  | "bug";

export interface ErrorFields {
  code: ErrorCode;
  /** What was being done, to what, what was seen, what was left untouched. */
  message: string;
  /** File:line:column, address or object. */
  where?: string;
  /** `read back`: the effect may have happened; look before anything else. */
  retry?: "never" | "later" | "read back";
  /** What to do next, as a command or a sentence. */
  next?: string;
  cause?: unknown;
}

/** The one error of Gyre. Plain data first, since it is written to the journal and read after a crash. */
export class GyreError extends Error {
  readonly code: ErrorCode;
  readonly where: string | undefined;
  readonly retry: "never" | "later" | "read back";
  readonly next: string | undefined;
  constructor(fields: ErrorFields) {
    super(fields.message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.name = "GyreError";
    this.code = fields.code;
    this.where = fields.where;
    this.retry = fields.retry ?? "never";
    this.next = fields.next;
  }
  toJSON() {
    return {
      code: this.code,
      message: this.message,
      ...(this.where === undefined ? {} : { where: this.where }),
      retry: this.retry,
      ...(this.next === undefined ? {} : { next: this.next }),
    };
  }
}
