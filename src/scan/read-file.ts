import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";

export interface Read {
  readonly bytes: Buffer;
  readonly mode: number;
}

/** The largest file that is read whole; a bundle of ten thousand certificates is smaller. */
const MAX_BYTES = 16 * 1024 * 1024;
/** Files of other endings are passed over above this in directories: what we look for is small. */
const MAX_UNNAMED = 1024 * 1024;
const OURS = /\.(pem|crt|cer|cert|der|key|crl|csr|req|p12|pfx|jks|keystore|truststore|ya?ml|conf|kubeconfig|0|r0)$/i;

let shared = Buffer.allocUnsafeSlow(64 * 1024);

/**
 * Reads a file without waiting for another: opening with O_NONBLOCK keeps a FIFO or a device from holding the scan.
 * The bytes are valid until the next call, since one buffer serves all files (this is what keeps memory flat).
 * Gives undefined for what is passed over. Throws system errors, and an Error for a file that is no regular one.
 */
export function readWhole(path: string, named: boolean): Read | undefined {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const { size, mode } = fstatSync(fd);
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) {
      if (named) throw new Error("not a regular file");
      return undefined;
    }
    if (size > MAX_BYTES || (size > MAX_UNNAMED && !named && !OURS.test(path))) {
      if (named || OURS.test(path)) throw new Error(`larger than ${MAX_BYTES / 1024 / 1024} MiB, not read`);
      return undefined;
    }
    return { bytes: readAll(fd, size), mode };
  } finally {
    closeSync(fd);
  }
}

/** Files of /proc and the like have size 0 and content all the same, so the end is where a read gives nothing. */
function readAll(fd: number, size: number): Buffer {
  if (size >= shared.length) shared = Buffer.allocUnsafeSlow(Math.min(MAX_BYTES * 2, size * 2));
  let length = 0;
  for (;;) {
    const got = readSync(fd, shared, length, shared.length - length, null);
    length += got;
    if (got === 0 || length === size || length === shared.length) return shared.subarray(0, length);
  }
}

/** Lets go of a large buffer and of key bytes left in it. */
export function forgetRead(): void {
  if (shared.length > 64 * 1024) shared = Buffer.allocUnsafeSlow(64 * 1024);
  else shared.fill(0);
}

const SYSTEM: Record<string, string> = {
  ENOENT: "no such file or directory",
  EACCES: "permission denied",
  EPERM: "permission denied",
  ELOOP: "a loop of symbolic links",
  ENOTDIR: "a part of this path is not a directory",
  ENXIO: "not a regular file",
  EISDIR: "a directory",
  EIO: "the disk failed while reading",
};

export function systemWords(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return SYSTEM[code] ?? (error instanceof Error ? error.message : "cannot be read");
}
