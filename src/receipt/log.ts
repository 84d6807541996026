import { createPublicKey } from "node:crypto";
import { join, resolve } from "node:path";
import { createFile, makeDirectory, replaceFile } from "../disk/durable.ts";
import { GyreError } from "../errors.ts";
import { type Checkpoint, checkOrigin, parseCheckpoint, signCheckpoint, signedBy } from "./checkpoint.ts";
import { type Envelope, encodeEnvelope, parseEnvelope, parseStatement, type SigningKey } from "./envelope.ts";
import { broken } from "./json.ts";
import { checkpointFile, countReceipts, fileError, leavesFile, readIfThere, receiptFile } from "./log-files.ts";
import { inclusionProof, leafHash, rootOf } from "./merkle.ts";

/** Where a log stands: what the next receipt names in `log`. */
export interface LogHead {
  readonly origin: string;
  readonly size: number;
  /** Hex. */
  readonly root: string;
}

/** A receipt's place. `proof`: hex hashes as RFC 9162 section 2.1.3 orders them, for the tree of `size`. */
export interface LogPlace {
  readonly index: number;
  /** Hex leaf hash: SHA-256(0x00, bytes of the receipt file). */
  readonly leaf: string;
  readonly size: number;
  readonly root: string;
  readonly proof: readonly string[];
  /** The signed checkpoint over `size`: keep a copy elsewhere. */
  readonly checkpoint: string;
}

export interface ReceiptLog {
  head(): Promise<LogHead>;
  /** Adds a receipt, durable when it resolves. The same bytes again give the place they have. */
  append(envelope: Envelope, keys: readonly SigningKey[]): Promise<LogPlace>;
  /** The newest receipt about a rotation: after a crash, was it written? */
  find(rotation: string): Promise<{ readonly index: number; readonly envelope: Envelope } | undefined>;
  /** Throws what would stop the next append: receipts, leaves and checkpoint that do not fit each other. By looking only. */
  check(keys: readonly SigningKey[]): Promise<void>;
  /** Makes log.jsonl and the checkpoint again from the receipts; refuses when the old checkpoint says otherwise. */
  rebuild(keys: readonly SigningKey[]): Promise<LogHead>;
}

/**
 * A log of receipts in a directory:
 *   receipts/<index>.json   envelopes, byte for byte what is hashed
 *   log.jsonl               leaf hashes, one a line, so that a changed receipt shows
 *   checkpoint              the signed size and root
 * Several processes may append at once: an index is taken by link(2), which lets one win; whoever finds that the log
 * grew while the checkpoint was written writes it again. A crash in between leaves receipts that the next append signs.
 * @param origin the log's name, unique to it, as in example.com/gyre/receipts
 */
export function openReceiptLog(directory: string, origin: string): ReceiptLog {
  checkOrigin(origin);
  return new DirectoryLog(resolve(directory), origin);
}

/** Anybody may check receipts. */
const PUBLIC = 0o644;

class DirectoryLog implements ReceiptLog {
  readonly #directory: string;
  readonly #origin: string;
  constructor(directory: string, origin: string) {
    this.#directory = directory;
    this.#origin = origin;
  }

  async head(): Promise<LogHead> {
    return this.#headOf(await this.#leaves());
  }

  async append(envelope: Envelope, keys: readonly SigningKey[]): Promise<LogPlace> {
    const bytes = Buffer.from(encodeEnvelope(envelope));
    try {
      await makeDirectory(join(this.#directory, "receipts"), 0o755);
      let leaves = await this.#leaves();
      const leaf = leafHash(bytes);
      let index = leaves.findIndex((one) => one.equals(leaf));
      if (index < 0) {
        index = leaves.length;
        while (!(await createFile(receiptFile(this.#directory, index), bytes, PUBLIC))) index++;
      }
      leaves = await this.#publish(keys);
      return {
        index,
        leaf: leaf.toString("hex"),
        size: leaves.length,
        root: rootOf(leaves).toString("hex"),
        proof: inclusionProof(leaves, index).map((one) => one.toString("hex")),
        checkpoint: signCheckpoint(this.#origin, leaves.length, rootOf(leaves), keys),
      };
    } catch (error) {
      throw fileError(error, `receipt log ${this.#directory}: adding a receipt`, this.#directory);
    }
  }

  async find(rotation: string) {
    for (let index = (await countReceipts(this.#directory)) - 1; index >= 0; index--) {
      const envelope = parseEnvelope(await this.#receipt(index));
      if (parseStatement(envelope).predicate.rotation === rotation) return { index, envelope };
    }
    return undefined;
  }

  async check(keys: readonly SigningKey[]): Promise<void> {
    // In this order: what others add meanwhile only makes the leaves more.
    const signed = await readIfThere(checkpointFile(this.#directory));
    this.#agrees(signed, await this.#leaves(), keys);
  }

  async rebuild(keys: readonly SigningKey[]): Promise<LogHead> {
    try {
      const signed = await readIfThere(checkpointFile(this.#directory));
      const leaves = await this.#fromReceipts(0);
      this.#agrees(signed, leaves, keys);
      await this.#write(leaves, keys);
      return this.#headOf(leaves);
    } catch (error) {
      throw fileError(error, `receipt log ${this.#directory}: rebuilding`, this.#directory);
    }
  }

  #headOf(leaves: readonly Buffer[]): LogHead {
    return { origin: this.#origin, size: leaves.length, root: rootOf(leaves).toString("hex") };
  }

  /** Writes leaf hashes and checkpoint until they cover every receipt there is. */
  async #publish(keys: readonly SigningKey[]): Promise<readonly Buffer[]> {
    for (;;) {
      // Read before the receipts: a checkpoint that others write meanwhile may cover more than we have read.
      const signed = await readIfThere(checkpointFile(this.#directory));
      const leaves = await this.#leaves();
      this.#agrees(signed, leaves, keys);
      await this.#write(leaves, keys);
      if ((await countReceipts(this.#directory)) === leaves.length) return leaves;
    }
  }

  async #write(leaves: readonly Buffer[], keys: readonly SigningKey[]): Promise<void> {
    const lines = leaves.map((leaf, index) => `${JSON.stringify({ index, leaf: leaf.toString("hex") })}\n`);
    await replaceFile(leavesFile(this.#directory), Buffer.from(lines.join("")), PUBLIC);
    const checkpoint = signCheckpoint(this.#origin, leaves.length, rootOf(leaves), keys);
    await replaceFile(checkpointFile(this.#directory), Buffer.from(checkpoint), PUBLIC);
  }

  /** The recorded leaf hashes, and those of receipts that are not recorded yet. */
  async #leaves(): Promise<readonly Buffer[]> {
    const recorded = parseLeaves(await readIfThere(leavesFile(this.#directory)), this.#directory);
    const added = await this.#fromReceipts(recorded.length);
    return [...recorded, ...added];
  }

  async #fromReceipts(from: number): Promise<Buffer[]> {
    const count = await countReceipts(this.#directory);
    if (count < from) {
      throw broken(`receipt log ${this.#directory}: ${from} receipts are recorded, only ${count} are there`);
    }
    const leaves: Buffer[] = [];
    for (let index = from; index < count; index++) leaves.push(leafHash(await this.#receipt(index)));
    return leaves;
  }

  async #receipt(index: number): Promise<Buffer> {
    const bytes = await readIfThere(receiptFile(this.#directory, index));
    if (bytes === undefined) throw broken(`receipt log ${this.#directory}: receipt ${index} is missing`);
    return bytes;
  }

  /** Never sign a tree that does not continue the one signed before: that would hide a change for good. */
  #agrees(bytes: Buffer | undefined, leaves: readonly Buffer[], keys: readonly SigningKey[]): void {
    if (bytes === undefined) return;
    const old = parseCheckpoint(bytes);
    if (old.origin !== this.#origin) {
      throw new GyreError({
        code: "input",
        message: `receipt log ${this.#directory}: it is the log ${old.origin}, not ${this.#origin}; nothing was added`,
        next: "give the right directory, or the log's own name",
      });
    }
    if (!byOneOf(old, keys)) throw broken(`receipt log ${this.#directory}: its checkpoint is not signed by this key`);
    if (old.size > leaves.length || !rootOf(leaves, 0, old.size).equals(old.root)) {
      throw broken(
        `receipt log ${this.#directory}: it does not continue its checkpoint of ${old.size} receipts (removed or changed)`,
      );
    }
  }
}

function byOneOf(checkpoint: Checkpoint, keys: readonly SigningKey[]): boolean {
  return keys.some(({ publicKey }) => {
    const der = Buffer.from(publicKey, "base64");
    return signedBy(checkpoint, createPublicKey({ key: der, format: "der", type: "spki" }));
  });
}

/** Reads log.jsonl. @throws GyreError `damaged` naming the line */
export function parseLeaves(bytes: Uint8Array | undefined, directory: string): Buffer[] {
  if (bytes === undefined || bytes.length === 0) return [];
  const lines = Buffer.from(bytes).toString("utf8").split("\n");
  const bad = (line: number) => broken(`receipt log ${directory}: line ${line} of log.jsonl is damaged`);
  if (lines.pop() !== "") throw bad(lines.length + 1);
  return lines.map((line, index) => {
    const leaf = /^\{"index":(\d+),"leaf":"([0-9a-f]{64})"\}$/.exec(line);
    if (leaf === null || leaf[1] !== String(index)) throw bad(index + 1);
    return Buffer.from(leaf[2]!, "hex");
  });
}
