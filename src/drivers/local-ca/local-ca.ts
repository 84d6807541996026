import { join } from "node:path";
import { GyreError } from "../../errors.ts";
import type { Certificate } from "../../pki/certificate.ts";
import { type Crl, parseCrls, signCrl } from "../../pki/crl.ts";
import { parseCsr } from "../../pki/csr.ts";
import { normaliseDistinguishedName } from "../../pki/distinguished-name.ts";
import { type CertificateAuthority, prepareAuthority, signCertificate } from "../../pki/issue.ts";
import { readPrivateKey } from "../../pki/keys.ts";
import { lint } from "../../pki/lint.ts";
import { normaliseNames } from "../../pki/names.ts";
import type { Secret } from "../../pki/secret.ts";
import { contentOf } from "../files/disk.ts";
import { diskError } from "../files/disk-error.ts";
import { readPassword } from "../files/password.ts";
import { mustBeWritable } from "../files/preflight.ts";
import { pathFrom } from "../files/reload.ts";
import type { DriverFacts, Issued, IssueOrder, Issuer, Named, Step } from "../roles.ts";
import { type CaFiles, type CreatedWith, createdWith, emptyCrl, openFiles, ROOT_CRL } from "./ca-files.ts";
import { Ledger } from "./ledger.ts";
import { issuerError, notPermitted, unusable, words } from "./policy.ts";
import { LockedQueue } from "./queue.ts";
import type { LocalCaSettings } from "./settings.ts";

export interface IssuerOptions {
  /** Relative paths of the settings count from here. */
  readonly baseDir: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

export interface LocalCa extends Required<Issuer> {
  /** The certificate that signs leaves. */
  readonly certificate: Certificate;
  /** PEM: what verifiers must trust. */
  roots(): string;
  /** PEM: intermediates, the issuing one first; empty when the root signs. */
  chain(): string;
  /**
   * Checks an order and signs it, but records nothing: for measuring, and for the inside of `issue`. The key must have
   * been opened (`check` or `issue`).
   */
  sign(order: IssueOrder): Certificate;
  /**
   * With an intermediate: the CRL of the root above it. A verifier that checks the whole chain (nginx does) needs it
   * beside the issuing CA's. Empty and valid as long as the root, unless `root.crl` was replaced by its owner. Undefined
   * when the root signs, and for a CA that was brought without one.
   */
  rootCrl(): Promise<string | undefined>;
}

/**
 * Opens the CA of a directory, or creates it there when it has none. The key is decrypted when it is first needed.
 * Errors: `input` (certificates or record malformed, half of a CA), `refused` (settings differ from the CA's),
 * `disk`, `permission`, `damaged`; from `issue` and `publishCrl` also `issuer` and, for a wrong passphrase, `input`.
 */
export async function openLocalCa(settings: LocalCaSettings, options: IssuerOptions): Promise<LocalCa> {
  const directory = pathFrom(options.baseDir, settings.directory);
  const passphrase = await readPassword(settings.passphrase, options.baseDir, "CA passphrase");
  const files = await openFiles(directory, settings, passphrase, options.now());
  mustBeAsCreated(files, settings, directory);
  return new DirectoryCa(files, settings, passphrase, directory, options);
}

class DirectoryCa implements LocalCa {
  readonly can: DriverFacts;
  readonly certificate: Certificate;
  readonly #files: CaFiles;
  readonly #settings: LocalCaSettings;
  readonly #passphrase: Secret;
  readonly #directory: string;
  readonly #options: IssuerOptions;
  readonly #ledger: Ledger;
  readonly #queue: LockedQueue;
  #authority: CertificateAuthority | undefined;

  constructor(
    files: CaFiles,
    settings: LocalCaSettings,
    passphrase: Secret,
    directory: string,
    options: IssuerOptions,
  ) {
    this.#files = files;
    this.#settings = settings;
    this.#passphrase = passphrase;
    this.#directory = directory;
    this.#options = options;
    this.#ledger = new Ledger(join(directory, "issued.jsonl"));
    this.#queue = new LockedQueue(directory);
    this.certificate = files.issuing;
    this.can = { findAfterCrash: true, revoke: true, maxLifetime: settings.maxLifetime };
  }

  roots(): string {
    return this.#files.root.pem;
  }
  chain(): string {
    return this.#files.chain.map((certificate) => certificate.pem).join("");
  }

  async check(): Promise<void> {
    await this.#open();
    this.#mustBeValid(this.#options.now());
    await mustBeWritable(this.#directory, "the CA's record of what it issued");
    await this.#ledger.refresh();
  }

  async #open(): Promise<CertificateAuthority> {
    this.#authority ??= await this.#authorityOf(this.#files.keyPath, this.certificate);
    return this.#authority;
  }

  async #authorityOf(keyPath: string, certificate: Certificate): Promise<CertificateAuthority> {
    const bytes = await contentOf(keyPath).catch((error: unknown) => {
      throw diskError(error, "reading the CA key", keyPath, "nothing was issued");
    });
    if (bytes === undefined) {
      const message = `the CA key ${keyPath} is not there; nothing was issued`;
      throw new GyreError({ code: "input", message, where: keyPath, next: "put it back" });
    }
    try {
      return prepareAuthority(certificate, readPrivateKey(bytes, this.#passphrase, keyPath));
    } catch (error) {
      throw unusable(error, "CA key", keyPath);
    } finally {
      bytes.fill(0);
    }
  }

  #mustBeValid(now: number): void {
    const ca = [this.certificate, ...this.#files.chain, this.#files.root].find(
      (one) => now < one.notBefore || now > one.notAfter,
    );
    if (ca === undefined) return;
    const name = `CA ${JSON.stringify(ca.subject)} in ${this.#directory}`;
    if (now > ca.notAfter) {
      throw issuerError(`${name} expired ${iso(ca.notAfter)}`, "make a new CA in another directory, and move to it");
    }
    throw issuerError(
      `${name} is not valid before ${iso(ca.notBefore)}, and the clock says ${iso(now)}`,
      "set the clock",
    );
  }

  sign(order: IssueOrder): Certificate {
    const authority = this.#authority;
    if (authority === undefined) throw new GyreError({ code: "bug", message: "local CA: sign before check" });
    const now = this.#options.now();
    this.#mustBeValid(now);
    this.#mustBeLifetime(order.lifetime, now);
    const csr = parseCsr(order.csr, "certificate request");
    this.#mustBePermitted(order);
    return signCertificate(authority, {
      spkiDer: csr.spkiDer,
      subject: order.subject,
      names: order.names,
      usages: order.usages,
      notBefore: Math.max(now - this.#settings.backdate, authority.certificate.notBefore),
      notAfter: now + order.lifetime,
    });
  }

  #mustBeLifetime(lifetime: number, now: number): void {
    const { maxLifetime } = this.#settings;
    if (lifetime > maxLifetime) {
      throw issuerError(
        `a lifetime of ${words(lifetime)} was asked for, and this CA signs at most ${words(maxLifetime)}`,
        `ask for ${words(maxLifetime)}, or raise maxLifetime`,
      );
    }
    const end = Math.min(...[this.certificate, ...this.#files.chain, this.#files.root].map((one) => one.notAfter));
    if (now + lifetime <= end) return;
    throw issuerError(
      `a lifetime of ${words(lifetime)} was asked for, and the CA itself ends ${iso(end)}`,
      `ask for ${words(end - now)}, or move to a new CA`,
    );
  }

  #mustBePermitted(order: IssueOrder): void {
    const authority = [this.certificate, ...this.#files.chain, this.#files.root];
    const found = notPermitted(normaliseNames(order.names), order.subject, authority, this.#settings.permitted);
    if (found.length === 0) return;
    throw issuerError(
      `the CA may not sign these names: ${found.join("; ")}`,
      "ask for permitted names, or use a CA that permits them",
    );
  }

  async issue(order: IssueOrder, step: Step): Promise<Issued> {
    await this.#open();
    return this.#queue.run(async () => {
      const before = await this.find(step.op);
      if (before !== undefined) return before;
      const certificate = this.sign(order);
      const now = this.#options.now();
      const wrong = lint(certificate, { issuer: this.certificate, now }).find(({ severity }) => severity === "error");
      if (wrong !== undefined) {
        throw issuerError(
          `what was asked for makes a bad certificate: ${wrong.message} (${wrong.reference})`,
          "ask for another",
        );
      }
      // On disk before anybody has it: a certificate that nobody recorded could never be revoked.
      await this.#ledger.append({
        kind: "issued",
        op: step.op,
        at: now,
        serial: certificate.serial,
        fingerprint: certificate.fingerprint,
        notAfter: certificate.notAfter,
        certificate: certificate.pem,
      });
      return this.#issued(certificate.pem);
    });
  }

  async find(op: string): Promise<Issued | undefined> {
    await this.#ledger.refresh();
    const certificate = await this.#ledger.certificateOf(op);
    return certificate === undefined ? undefined : this.#issued(certificate);
  }

  #issued(certificate: string): Issued {
    return { certificate, chain: this.chain(), roots: this.roots() };
  }

  async retire(generation: Named, step: Step): Promise<void> {
    await this.#queue.run(async () => {
      await this.#ledger.refresh();
      const { serial } = generation;
      if (this.#ledger.isRevoked(serial)) return;
      const known = this.#ledger.issued(serial);
      if (
        known === undefined
          ? !isSameName(generation.issuer, this.certificate.subject)
          : known.fingerprint !== generation.fingerprint
      ) {
        throw new GyreError({
          code: "issuer",
          message: `serial ${serial} of ${JSON.stringify(generation.issuer)} was not issued by CA ${JSON.stringify(this.certificate.subject)}; nothing was revoked`,
          next: "revoke it at its own issuer",
        });
      }
      const at = this.#options.now();
      const notAfter = known?.notAfter ?? generation.notAfter;
      await this.#ledger.append({ kind: "revoked", op: step.op, at, serial, notAfter, reason: "superseded" });
    });
  }

  async publishCrl(step: Step, lifetime: number = this.#settings.crlLifetime): Promise<string> {
    const authority = await this.#open();
    return this.#queue.run(async () => {
      const now = this.#options.now();
      this.#mustBeValid(now);
      await this.#ledger.refresh();
      const last = this.#ledger.lastCrl;
      // Seconds since the epoch lie above the counters of other software, so a CA that was brought goes on upwards.
      const number = Math.max((last?.number ?? 0) + 1, Math.floor(now / 1000));
      const crl = signCrl(authority, {
        number,
        thisUpdate: Math.max(now - this.#settings.backdate, authority.certificate.notBefore),
        nextUpdate: now + lifetime,
        // One that expired stays for one CRL more (RFC 5280 3.3), so that nobody misses it between two looks.
        entries: this.#ledger.revoked
          .filter(({ notAfter }) => notAfter >= Math.min(now, last?.at ?? now))
          .map(({ serial, at, reason }) => ({ serial, revocationDate: Math.min(at, now), reason })),
      });
      await this.#ledger.append({ kind: "crl", op: step.op, at: now, number });
      return crl.pem;
    });
  }

  async takeIn(pem: string, step: Step): Promise<readonly string[]> {
    if (!pem.includes("X509 CRL-----")) return [];
    const ours = parseCrls(pem).filter((crl) => crl.isSignedBy(this.certificate));
    if (ours.length === 0) return [];
    return this.#queue.run(async () => {
      await this.#ledger.refresh();
      const taken: string[] = [];
      for (const crl of ours) taken.push(...(await this.#takeEntries(crl, step)));
      return taken;
    });
  }

  async #takeEntries(crl: Crl, { op }: Step): Promise<string[]> {
    const unknown = [...crl.entries.values()].filter(
      ({ serial, reason }) => reason !== "removeFromCRL" && !this.#ledger.isRevoked(serial),
    );
    for (const { serial, revocationDate: at, reason = "unspecified" } of unknown) {
      // How long somebody else's certificate lives is not known; none outlives the CA.
      const notAfter = this.#ledger.issued(serial)?.notAfter ?? this.certificate.notAfter;
      await this.#ledger.append({ kind: "revoked", op, at, serial, notAfter, reason });
    }
    // Numbers only grow, whoever gave the last one.
    const number = Number.parseInt(crl.number ?? "0", 16);
    if (Number.isSafeInteger(number) && number > (this.#ledger.lastCrl?.number ?? 0))
      await this.#ledger.append({ kind: "crl", op, at: crl.thisUpdate, number });
    return unknown.map(({ serial }) => serial);
  }

  async revoked(): Promise<ReadonlySet<string>> {
    await this.#ledger.refresh();
    const now = this.#options.now();
    return new Set(this.#ledger.revoked.filter(({ notAfter }) => notAfter >= now).map(({ serial }) => serial));
  }

  async rootCrl(): Promise<string | undefined> {
    const { root, createdWith: record } = this.#files;
    if (root.fingerprint === this.certificate.fingerprint) return undefined;
    const path = join(this.#directory, ROOT_CRL);
    const kept = await contentOf(path).catch((error: unknown) => {
      throw diskError(error, "reading the CRL of the root", path, "nothing was published");
    });
    if (kept !== undefined) return parseCrls(kept, path)[0]!.pem;
    if (record?.intermediate !== true) return undefined;
    // A CA from before this file was made with it.
    return emptyCrl(await this.#authorityOf(join(this.#directory, "ca.key"), root));
  }
}

const iso = (ms: number): string => new Date(ms).toISOString();

function isSameName(a: string, b: string): boolean {
  return a === b || normaliseDistinguishedName(a) === normaliseDistinguishedName(b);
}

/** A CA never changes: where the manifest says something else than what it was created with, one of them is wrong. */
function mustBeAsCreated(files: CaFiles, settings: LocalCaSettings, directory: string): void {
  const wanted = createdWith(settings);
  const found = files.createdWith;
  if (found === undefined) return;
  for (const name of Object.keys(wanted) as (keyof CreatedWith)[]) {
    const [was, is] = [show(name, found[name]), show(name, wanted[name])];
    if (JSON.stringify(found[name]) === JSON.stringify(wanted[name])) continue;
    if (name === "subject" && isSameName(was, is)) continue;
    throw new GyreError({
      code: "refused",
      message: `the CA in ${directory} was created with ${name} ${was}, the manifest says ${is}; nothing was issued`,
      where: directory,
      next: `say ${name}: ${was} again, or name another directory for a new CA`,
    });
  }
}

function show(name: keyof CreatedWith, value: CreatedWith[keyof CreatedWith]): string {
  if (typeof value === "object") return value.length === 0 ? "(none)" : value.join(", ");
  return name === "lifetime" && typeof value === "number" ? words(value) : String(value);
}
