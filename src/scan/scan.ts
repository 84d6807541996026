import { statSync } from "node:fs";
import { scanFile, scanFolder } from "./folder.ts";
import { type Found, problem } from "./found.ts";
import { forgetRead, systemWords } from "./read-file.ts";
import { scanServer } from "./server.ts";

export interface ScanOptions {
  /** Milliseconds since the epoch; days left and lint are judged at it. Default: the clock. */
  readonly now?: number;
  /** Default true. Without it a directory is read in half the time. */
  readonly lint?: boolean;
  /** Asked for (SNI) and expected at every `host:port`; default: the host. */
  readonly serverName?: string;
  readonly signal?: AbortSignal;
}

export const withDefaults = (options: ScanOptions): Required<ScanOptions> => ({
  now: options.now ?? Date.now(),
  lint: options.lint ?? true,
  serverName: options.serverName ?? "",
  signal: options.signal ?? new AbortController().signal,
});

const ADDRESS = /^(\[[0-9a-fA-F:.]+\]|[^\s:[\]/]+):\d{1,5}$/;

/**
 * Tells what is at each target: `host:port` (a TLS handshake), a file, or a directory with everything below it.
 * Finds come as they are made and nothing of a directory is kept when it is done, so memory does not grow with the
 * number of files. What cannot be read is a find of its own and stops nothing. Private keys are read to be matched
 * with certificates and never told. Rejects only when `signal` aborts.
 */
export async function* scan(targets: readonly string[], options: ScanOptions = {}): AsyncGenerator<Found> {
  const all = withDefaults(options);
  try {
    for (const target of targets) yield* scanTarget(target, all);
  } finally {
    forgetRead();
  }
}

async function* scanTarget(target: string, options: Required<ScanOptions>): AsyncGenerator<Found> {
  options.signal.throwIfAborted();
  const kind = kindOf(target);
  if (kind === "folder") yield* scanFolder(target, options);
  else if (kind === "file") yield* scanFile(target, options);
  else if (ADDRESS.test(target)) yield* await scanServer(target, options);
  else yield problem(target, `${kind} (and it is no host:port)`);
}

/** A path where there is one; otherwise why there is none. */
function kindOf(target: string): string {
  try {
    return statSync(target).isDirectory() ? "folder" : "file";
  } catch (error) {
    return systemWords(error);
  }
}
