import { createReadStream } from "node:fs";
import { type FileHandle, readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { createGunzip } from "node:zlib";

const chunkSize = 256 * 1024;
/** A line this long is damage; what is kept of it is enough to say so. */
const carryLimit = 1024 * 1024;

/**
 * The complete lines of an open file, last first, in chunks from the end: a log of many gigabytes costs only as much
 * as is read. What stands behind the last newline is still being written and is left out.
 */
export async function* linesBackwards(file: FileHandle): AsyncGenerator<string> {
  let position = (await file.stat()).size;
  const chunk = Buffer.alloc(chunkSize);
  let carry: Buffer = Buffer.alloc(0);
  let atEnd = true;
  while (position > 0) {
    const size = Math.min(chunkSize, position);
    position -= size;
    const { bytesRead } = await file.read(chunk, 0, size, position);
    // Truncated under us: what is left is read at the next look.
    if (bytesRead < size) return;
    let stop = size;
    for (let at = chunk.lastIndexOf(10, size - 1); at >= 0; at = at === 0 ? -1 : chunk.lastIndexOf(10, at - 1)) {
      const line = Buffer.concat([chunk.subarray(at + 1, stop), carry]);
      carry = Buffer.alloc(0);
      stop = at;
      if (!atEnd) yield line.toString("utf8");
      atEnd = false;
    }
    const head = chunk.subarray(0, stop);
    if (head.length + carry.length <= carryLimit) carry = Buffer.concat([head, carry]);
  }
  if (!atEnd) yield carry.toString("utf8");
}

/** The lines of a compressed file, first to last: it can be read only that way. */
export async function* linesOfGzip(path: string): AsyncGenerator<string> {
  const input = createReadStream(path);
  const plain = createGunzip();
  // An error of the source does not travel through pipe; the reader must see it or it would wait for ever.
  input.on("error", (error) => plain.destroy(error));
  const lines = createInterface({ input: input.pipe(plain), crlfDelay: Number.POSITIVE_INFINITY });
  try {
    yield* lines;
  } finally {
    lines.close();
    input.destroy();
    plain.destroy();
  }
}

export interface RotatedFile {
  readonly path: string;
  readonly gzip: boolean;
}

/**
 * What log rotation made of `path`, newest first: `access.log.1`, `access.log.2.gz`, `access.log-20261124`. Files with
 * the inode `except` are the current one under its new name, which was read already.
 */
export async function rotatedFiles(path: string, except: number): Promise<RotatedFile[]> {
  const name = basename(path);
  const dir = dirname(path);
  const entries = (await readdir(dir)).filter(
    (entry) => entry.startsWith(name) && /^(?:\.\d+|-\d{8}(?:[-.]?\d+)?)(?:\.gz)?$/.test(entry.slice(name.length)),
  );
  const found: (RotatedFile & { readonly at: number })[] = [];
  for (const entry of entries) {
    const about = await stat(join(dir, entry));
    if (about.ino !== except && about.isFile())
      found.push({ path: join(dir, entry), gzip: entry.endsWith(".gz"), at: about.mtimeMs });
  }
  return found.sort((a, b) => b.at - a.at);
}
