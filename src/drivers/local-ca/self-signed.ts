import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { GyreError } from "../../errors.ts";
import { parseCsr } from "../../pki/csr.ts";
import { signSelfSigned } from "../../pki/issue.ts";
import { readPrivateKey } from "../../pki/keys.ts";
import { lint } from "../../pki/lint.ts";
import { realDisk, syncDirectory } from "../files/disk.ts";
import { diskError } from "../files/disk-error.ts";
import { pathFrom } from "../files/reload.ts";
import type { DriverFacts, Issued, IssueOrder, Issuer, Step } from "../roles.ts";
import { Ledger } from "./ledger.ts";
import type { IssuerOptions } from "./local-ca.ts";
import { issuerError } from "./policy.ts";
import { LockedQueue } from "./queue.ts";
import type { SelfSignedSettings } from "./settings.ts";

/**
 * Each generation signs itself, so the order must carry its key (`can.needsKey`). With a `directory` it records what it
 * issued, durable before it is returned, and can be asked after a crash; without one a second issue is possible.
 * Errors: `input`, `issuer`; with a directory also `disk`, `permission`, `damaged`, `locked`.
 */
export function createSelfSigned(settings: SelfSignedSettings, options: IssuerOptions): Issuer {
  if (settings.directory === undefined) return new SelfSigned(settings, options.now);
  return new RecordedSelfSigned(settings, options.now, pathFrom(options.baseDir, settings.directory));
}

class SelfSigned implements Issuer {
  readonly can: DriverFacts = { needsKey: true };
  readonly #settings: SelfSignedSettings;
  readonly now: () => number;

  constructor(settings: SelfSignedSettings, now: () => number) {
    this.#settings = settings;
    this.now = now;
  }

  async issue(order: IssueOrder, _step: Step): Promise<Issued> {
    return issued(this.sign(order).pem);
  }

  sign(order: IssueOrder) {
    if (order.key === undefined) {
      throw new GyreError({
        code: "bug",
        message: "self-signed: the order has no key to sign with; nothing was issued",
      });
    }
    const key = readPrivateKey(order.key);
    if (parseCsr(order.csr).spki !== key.spki) {
      throw new GyreError({
        code: "input",
        message: "self-signed: the request is signed with another key than the one handed over; nothing was issued",
        next: "plan again",
      });
    }
    const now = this.now();
    const certificate = signSelfSigned(key, {
      subject: order.subject,
      names: order.names,
      usages: order.usages,
      notBefore: now - this.#settings.backdate,
      notAfter: now + order.lifetime,
    });
    const wrong = lint(certificate, { now }).find(({ severity }) => severity === "error");
    if (wrong === undefined) return certificate;
    throw issuerError(
      `what was asked for makes a bad certificate: ${wrong.message} (${wrong.reference})`,
      "ask for another",
    );
  }
}

class RecordedSelfSigned extends SelfSigned {
  override readonly can: DriverFacts = { needsKey: true, findAfterCrash: true };
  readonly #directory: string;
  readonly #ledger: Ledger;
  readonly #queue: LockedQueue;

  constructor(settings: SelfSignedSettings, now: () => number, directory: string) {
    super(settings, now);
    this.#directory = directory;
    this.#ledger = new Ledger(join(directory, "issued.jsonl"));
    this.#queue = new LockedQueue(directory);
  }

  override async issue(order: IssueOrder, step: Step): Promise<Issued> {
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      await syncDirectory(realDisk, dirname(this.#directory));
    } catch (error) {
      throw diskError(error, "creating the directory of the issuer", this.#directory, "nothing was issued");
    }
    return this.#queue.run(async () => {
      const before = await this.find(step.op);
      if (before !== undefined) return before;
      const certificate = this.sign(order);
      const { serial, fingerprint, notAfter, pem } = certificate;
      const record = { op: step.op, at: this.now(), serial, fingerprint, notAfter, certificate: pem };
      await this.#ledger.append({ kind: "issued", ...record });
      return issued(pem);
    });
  }

  async find(op: string): Promise<Issued | undefined> {
    await this.#ledger.refresh();
    const certificate = await this.#ledger.certificateOf(op);
    return certificate === undefined ? undefined : issued(certificate);
  }
}

/** It is its own root: what verifiers pin. */
const issued = (certificate: string): Issued => ({ certificate, chain: "", roots: certificate });
