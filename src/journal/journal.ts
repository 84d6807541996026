/**
 * The append-only log all state derives from. Generic in its events: this room knows nothing of rotations.
 */
export interface Entry<E> {
  /** 1, 2, 3 … without gaps. */
  readonly seq: number;
  /** Milliseconds since the epoch, UTC. */
  readonly at: number;
  readonly event: E;
}

/** Where a journal stands. The hash binds everything up to and including entry `seq`; a receipt names it. */
export interface JournalHead {
  /** 0 for a journal without entries. */
  readonly seq: number;
  /** 64 lower-case hex digits: the chain value of entry `seq` (see chain.ts); 64 zeros while nothing was ever written. */
  readonly hash: string;
}

export interface Journal<E> {
  /**
   * All entries in order, by looking only. A torn last line was never acknowledged: it is left out, and the next
   * `append` removes it. Refuses a damaged middle with code `damaged`, naming the line.
   */
  read(): Promise<readonly Entry<E>[]>;
  /**
   * Durable (fsync) before it resolves. Compare-and-swap: `expected` is the sequence number of the last entry the
   * writer knows (0 for none); code `conflict` when another one is there, and nothing is written. All of `events` or
   * none: a crash never leaves a part of one append behind. Repeating after a thrown `read back` needs a `read` first.
   */
  append(expected: number, at: number, events: readonly E[]): Promise<readonly Entry<E>[]>;
  /** The head as of the last entry that `read` or `append` would see now. Throws as `read` does. */
  head(): Promise<JournalHead>;
}

/** Public files beside the journal, named by digest: raw observations, certificates, CRLs. */
export interface EvidenceStore {
  /** Durable before it resolves. Repeats safely. Gives `sha256:<hex>`. */
  put(content: string | Uint8Array): Promise<`sha256:${string}`>;
  /** Checks the digest; code `damaged` when it does not fit, `input` when absent. */
  get(digest: string): Promise<Buffer>;
}
