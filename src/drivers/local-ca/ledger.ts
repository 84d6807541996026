import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";
import { errno } from "../../disk/disk-error.ts";
import { GyreError } from "../../errors.ts";
import type { CrlReason } from "../../pki/crl.ts";
import { realDisk, syncDirectory } from "../files/disk.ts";
import { diskError } from "../files/disk-error.ts";

/** One line of the ledger. Times are milliseconds since the epoch; serials lower-case hex. */
export type LedgerRecord =
  | {
      readonly kind: "issued";
      readonly op: string;
      readonly at: number;
      readonly serial: string;
      readonly fingerprint: string;
      readonly notAfter: number;
      /** PEM. */
      readonly certificate: string;
    }
  | {
      readonly kind: "revoked";
      readonly op: string;
      readonly at: number;
      readonly serial: string;
      readonly notAfter: number;
      readonly reason: CrlReason;
    }
  | { readonly kind: "crl"; readonly op: string; readonly at: number; readonly number: number };

type Issued = Extract<LedgerRecord, { kind: "issued" }>;
type Revoked = Extract<LedgerRecord, { kind: "revoked" }>;

const CHUNK = 1 << 20;

/**
 * What a CA has issued and revoked: JSON lines in one append-only file, each with a checksum as its last member. A line
 * is synced before `append` resolves. Without its newline a line was cut off by a crash or a full disk: what it was to
 * record never left the process, so it is dropped; anything else that does not add up is an error.
 *
 * Certificates stay in the file; memory holds where each begins. One process appends at a time: callers hold the lock.
 */
export class Ledger {
  readonly path: string;
  readonly #at = new Map<string, { readonly offset: number; readonly length: number }>();
  readonly #issued = new Map<string, Omit<Issued, "certificate">>();
  readonly #revoked = new Map<string, Revoked>();
  #crl: { readonly number: number; readonly at: number } | undefined;
  #offset = 0;
  #lines = 0;

  constructor(path: string) {
    this.path = path;
  }

  /** Reads what was appended since, by whomever. Errors: `damaged` with the line, `newer`, `disk`, `permission`. */
  async refresh(): Promise<void> {
    const handle = await this.#open(constants.O_RDONLY);
    if (handle === undefined) return this.#forget();
    try {
      const { size } = await handle.stat();
      if (size < this.#offset) this.#forget(); // put back from a backup
      await this.#readFrom(handle, size);
    } finally {
      await handle.close();
    }
  }

  async #readFrom(handle: FileHandle, size: number): Promise<void> {
    let rest = Buffer.alloc(0);
    for (let at = this.#offset; at < size; ) {
      const chunk = Buffer.alloc(Math.min(CHUNK, size - at));
      const { bytesRead } = await handle.read(chunk, 0, chunk.length, at);
      if (bytesRead === 0) return;
      at += bytesRead;
      rest = Buffer.concat([rest, chunk.subarray(0, bytesRead)]);
      for (let end = rest.indexOf(0x0a); end !== -1; end = rest.indexOf(0x0a)) {
        this.#take(rest.subarray(0, end));
        rest = rest.subarray(end + 1);
      }
    }
  }

  #take(line: Buffer): void {
    const record = this.#parse(line, this.#lines + 1);
    const place = { offset: this.#offset, length: line.length };
    this.#lines += 1;
    this.#offset += line.length + 1;
    if (record.kind === "issued") {
      const { certificate: _, ...rest } = record;
      if (!this.#at.has(record.op)) this.#at.set(record.op, place);
      this.#issued.set(record.serial, rest);
    } else if (record.kind === "revoked") {
      if (!this.#revoked.has(record.serial)) this.#revoked.set(record.serial, record);
    } else if (this.#crl === undefined || record.number > this.#crl.number) this.#crl = record;
  }

  #parse(line: Buffer, number: number): LedgerRecord {
    let value: (LedgerRecord & { sum?: unknown; format?: unknown }) | undefined;
    try {
      value = JSON.parse(line.toString("utf8"));
    } catch {
      value = undefined;
    }
    if (typeof value === "object" && value !== null && typeof value.format === "number" && value.format > 1) {
      throw new GyreError({
        code: "newer",
        message: `${this.path} was written by a newer Gyre; nothing was issued`,
        where: `${this.path}:${number}`,
        next: "use that version",
      });
    }
    const { sum, format: _, ...record } = value ?? { sum: undefined, kind: "crl", op: "", at: 0, number: 0 };
    if (value !== undefined && sum === sumOf(record)) return record;
    throw new GyreError({
      code: "damaged",
      message: `${this.path}, line ${number}: the record does not match its checksum; nothing was issued`,
      where: `${this.path}:${number}`,
      next: "put the file back from a backup: it holds the serials that a CRL must list",
    });
  }

  #forget(): void {
    this.#at.clear();
    this.#issued.clear();
    this.#revoked.clear();
    this.#crl = undefined;
    this.#offset = 0;
    this.#lines = 0;
  }

  /** The certificate (PEM) that `op` issued, as of the last refresh. */
  async certificateOf(op: string): Promise<string | undefined> {
    const place = this.#at.get(op);
    const handle = place === undefined ? undefined : await this.#open(constants.O_RDONLY);
    if (place === undefined || handle === undefined) return undefined;
    try {
      const line = Buffer.alloc(place.length);
      await handle.read(line, 0, line.length, place.offset);
      const record = this.#parse(line, 1);
      return record.kind === "issued" ? record.certificate : undefined;
    } finally {
      await handle.close();
    }
  }

  issued(serial: string): Omit<Issued, "certificate"> | undefined {
    return this.#issued.get(serial);
  }
  isRevoked(serial: string): boolean {
    return this.#revoked.has(serial);
  }
  get revoked(): readonly Revoked[] {
    return [...this.#revoked.values()];
  }
  /** The CRL published last: its number and when. */
  get lastCrl(): { readonly number: number; readonly at: number } | undefined {
    return this.#crl;
  }

  /**
   * Appends a record and makes it durable. On failure the file is cut back to what it was.
   * @throws GyreError `disk`, `permission`
   */
  async append(record: LedgerRecord): Promise<void> {
    await this.refresh();
    const created = this.#offset === 0;
    const handle = await this.#open(constants.O_WRONLY | constants.O_CREAT);
    try {
      await handle!.truncate(this.#offset); // a cut-off line
      const line = Buffer.from(`${JSON.stringify({ ...record, format: 1, sum: sumOf(record) })}\n`, "utf8");
      for (let done = 0; done < line.length; ) {
        done += (await handle!.write(line, done, line.length - done, this.#offset + done)).bytesWritten;
      }
      await handle!.sync();
      if (created) await syncDirectory(realDisk, dirname(this.path));
    } catch (error) {
      await handle!.truncate(this.#offset).catch(() => undefined);
      throw diskError(error, "recording", this.path, "nothing was issued");
    } finally {
      await handle!.close();
    }
    await this.refresh();
  }

  async #open(flags: number): Promise<FileHandle | undefined> {
    return open(this.path, flags, 0o600).catch((error: unknown) => {
      if (errno(error) === "ENOENT" && flags === constants.O_RDONLY) return undefined;
      throw diskError(error, "opening the ledger", this.path, "nothing was issued");
    });
  }
}

/** Of the record without format and checksum; JSON.parse keeps the order of members. */
function sumOf(record: object): string {
  return createHash("sha256").update(JSON.stringify(record)).digest("hex").slice(0, 32);
}
