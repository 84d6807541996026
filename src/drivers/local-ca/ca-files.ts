import { mkdir, readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { GyreError } from "../../errors.ts";
import { type Certificate, parseCertificates } from "../../pki/certificate.ts";
import { signCrl } from "../../pki/crl.ts";
import { type CertificateAuthority, prepareAuthority, signCertificate, signSelfSigned } from "../../pki/issue.ts";
import { exportPrivateKey, generateKey } from "../../pki/keys.ts";
import type { Secret } from "../../pki/secret.ts";
import { contentOf, createFile, destroyFile, lookAt, realDisk, syncDirectory, whileLocked } from "../files/disk.ts";
import { diskError } from "../files/disk-error.ts";
import { constraintsOf, type Permitted, unusable } from "./policy.ts";
import type { LocalCaSettings } from "./settings.ts";

/** What a CA was created with; the manifest may not say otherwise later. Absent beside a CA that was brought. */
export interface CreatedWith {
  readonly subject: string;
  readonly algorithm: string;
  readonly lifetime: number;
  readonly intermediate: boolean;
  readonly permitted: readonly string[];
}

/** The certificates of a CA directory, checked to belong together; its key stays where it is. */
export interface CaFiles {
  /** Signs leaves. */
  readonly issuing: Certificate;
  /** Between the issuing one and the root, issuing one first; empty when the root signs. */
  readonly chain: readonly Certificate[];
  readonly root: Certificate;
  readonly keyPath: string;
  readonly createdWith: CreatedWith | undefined;
}

const ROOT = { certificate: "ca.crt", key: "ca.key" };
const ISSUING = { certificate: "issuing.crt", key: "issuing.key" };
const RECORD = "ca.json";
/** Of the root above an intermediate: made with it, since the root's key may be moved away. */
export const ROOT_CRL = "root.crl";
/** Written here first; the rename from one to the other is the moment at which the CA exists. */
const UNFINISHED = ".creating";
const FINISHED = ".created";

/** Opens the CA of a directory; creates it when the directory has none. */
export async function openFiles(
  directory: string,
  settings: LocalCaSettings,
  passphrase: Secret,
  now: number,
): Promise<CaFiles> {
  const found = await readFiles(directory);
  if (found !== undefined) return found;
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await syncDirectory(realDisk, dirname(directory));
  } catch (error) {
    throw diskError(error, "creating the directory of the CA", directory, "no CA was created");
  }
  await whileLocked(realDisk, directory, async () => {
    try {
      await moveOut(directory);
      if ((await lookAt(join(directory, ROOT.certificate))) !== undefined) return; // another process was first
      if ((await lookAt(join(directory, ROOT.key))) !== undefined)
        throw halfThere(directory, ROOT.key, ROOT.certificate);
      await create(directory, settings, passphrase, now);
      await moveOut(directory);
    } catch (error) {
      // Not ours to leave behind: it holds a key. Once it is called finished it is ended by the next one to open it.
      await removeAll(join(directory, UNFINISHED)).catch(() => undefined);
      throw diskError(error, "creating the CA", directory, "no CA was created");
    }
  });
  const created = await readFiles(directory);
  if (created !== undefined) return created;
  throw new GyreError({ code: "bug", message: `the CA in ${directory} is not there after it was created` });
}

async function readFiles(directory: string): Promise<CaFiles | undefined> {
  const read = (name: string) =>
    contentOf(join(directory, name)).catch((error: unknown) => {
      throw diskError(error, "opening the CA", join(directory, name), "nothing was issued");
    });
  // The certificate is moved out last: once it is there, so is all else.
  const rootPem = await read(ROOT.certificate);
  if (rootPem === undefined) return undefined;
  const issuingPem = await read(ISSUING.certificate);
  const given = certificatesIn(rootPem, join(directory, ROOT.certificate));
  const own = issuingPem === undefined ? [] : certificatesIn(issuingPem, join(directory, ISSUING.certificate));
  const names = own.length === 0 ? ROOT : ISSUING;
  if ((await lookAt(join(directory, names.key))) === undefined)
    throw halfThere(directory, names.certificate, names.key);
  const record = await read(RECORD);
  return {
    ...ordered([...own, ...given], join(directory, names.certificate)),
    keyPath: join(directory, names.key),
    createdWith: record === undefined ? undefined : parseRecord(record, join(directory, RECORD)),
  };
}

function certificatesIn(pem: Buffer, path: string): Certificate[] {
  try {
    return parseCertificates(pem, path);
  } catch (error) {
    throw unusable(error, "CA certificate", path);
  }
}

function parseRecord(bytes: Buffer, where: string): CreatedWith {
  try {
    const value: unknown = JSON.parse(bytes.toString("utf8"));
    if (typeof value === "object" && value !== null && "subject" in value) return value as CreatedWith;
  } catch {
    // told below
  }
  const next = "put it back from a backup, or remove it to use the CA as one that was brought";
  throw new GyreError({
    code: "damaged",
    message: `${where} does not say how the CA was created; nothing was issued`,
    where,
    next,
  });
}

/** The first certificate signs; each further one must have signed the one before, up to a root. */
function ordered(all: readonly Certificate[], where: string): Pick<CaFiles, "issuing" | "chain" | "root"> {
  const path: Certificate[] = [];
  for (let next = all[0]; next !== undefined && !path.includes(next); ) {
    path.push(next);
    if (next.isSelfIssued) break;
    const below: Certificate = next;
    next = all.find((one) => one.subjectDer.equals(below.issuerDer) && below.isSignedBy(one));
  }
  const root = path.at(-1)!;
  if (!root.isSelfIssued || !root.isSignedBy(root)) {
    throw new GyreError({
      code: "input",
      message: `${where}: the root above ${JSON.stringify(root.subject)} is missing; nothing was issued`,
      where,
      next: "append the certificates up to the root",
    });
  }
  return { issuing: path[0]!, chain: path.slice(0, -1), root };
}

function halfThere(directory: string, there: string, missing: string): GyreError {
  return new GyreError({
    code: "input",
    message: `CA in ${directory}: ${there} is there but ${missing} is not; nothing was issued, nothing created`,
    where: join(directory, missing),
    next: `put ${missing} beside it, or name an empty directory`,
  });
}

async function create(directory: string, settings: LocalCaSettings, passphrase: Secret, now: number): Promise<void> {
  const staging = join(directory, UNFINISHED);
  await removeAll(staging);
  await realDisk.mkdir(staging, 0o700);
  const mine = { uid: process.geteuid!(), gid: process.getegid!() };
  const write = (name: string, bytes: Buffer, mode: number) =>
    createFile(realDisk, join(staging, name), bytes, { ...mine, mode });
  const writeKey = (name: string, key: Secret) => key.use((bytes) => write(name, Buffer.from(bytes), 0o600));

  const permitted = constraintsOf(settings.permitted);
  const validity = { notBefore: now - settings.backdate, notAfter: now + settings.lifetime };
  const common = { ...validity, isCa: true, ...(permitted === undefined ? {} : { nameConstraints: permitted }) };
  const key = await generateKey(settings.algorithm);
  const root = signSelfSigned(key, {
    ...common,
    subject: settings.subject,
    // Nothing but leaves below the one that signs them.
    pathLength: settings.intermediate ? 1 : 0,
  });
  await writeKey(ROOT.key, exportPrivateKey(key, passphrase));
  await write(ROOT.certificate, Buffer.from(root.pem, "latin1"), 0o644);
  if (settings.intermediate) {
    const issuingKey = await generateKey(settings.algorithm);
    const issuing = signCertificate(prepareAuthority(root, key), {
      ...common,
      subject: issuingName(settings.subject),
      spkiDer: issuingKey.spkiDer,
      pathLength: 0,
    });
    await writeKey(ISSUING.key, exportPrivateKey(issuingKey, passphrase));
    await write(ISSUING.certificate, Buffer.from(issuing.pem, "latin1"), 0o644);
    await write(ROOT_CRL, Buffer.from(emptyCrl(prepareAuthority(root, key)), "latin1"), 0o644);
  }
  await write(RECORD, Buffer.from(`${JSON.stringify(createdWith(settings))}\n`, "utf8"), 0o644);
  await syncDirectory(realDisk, staging);
  await realDisk.rename(staging, join(directory, FINISHED));
  await syncDirectory(realDisk, directory);
}

/** A CRL (PEM) that lists nothing for as long as its CA lives. */
export function emptyCrl(authority: CertificateAuthority): string {
  const { notBefore, notAfter } = authority.certificate;
  return signCrl(authority, { number: 1, thisUpdate: notBefore, nextUpdate: notAfter, entries: [] }).pem;
}

/** A name of its own, so that chains and CRLs of the two cannot be mixed up. */
const issuingName = (subject: string): string =>
  /^CN=/i.test(subject) ? subject.replace(/^(CN=(?:\\.|[^,+\\])*)/i, "$1 issuing") : `CN=issuing,${subject}`;

export function createdWith(settings: LocalCaSettings): CreatedWith {
  const { subject, algorithm, lifetime, intermediate } = settings;
  return { subject, algorithm, lifetime, intermediate, permitted: permittedList(settings.permitted) };
}

const permittedList = (permitted: Permitted | undefined): readonly string[] =>
  [...(constraintsOf(permitted)?.permitted ?? [])].sort();

/** Ends a creation: moves its files to where they belong, the certificate last. A crash in the middle is taken up here. */
async function moveOut(directory: string): Promise<void> {
  const staging = join(directory, FINISHED);
  if ((await lookAt(staging)) === undefined) return;
  for (const name of [ROOT.key, ISSUING.key, ISSUING.certificate, ROOT_CRL, RECORD, ROOT.certificate]) {
    if ((await lookAt(join(staging, name))) === undefined) continue;
    await realDisk.rename(join(staging, name), join(directory, name));
  }
  await realDisk.rmdir(staging);
  await syncDirectory(realDisk, directory);
}

async function removeAll(directory: string): Promise<void> {
  if ((await lookAt(directory)) === undefined) return;
  for (const name of await readdir(directory)) await destroyFile(realDisk, join(directory, name));
  await realDisk.rmdir(directory);
}
