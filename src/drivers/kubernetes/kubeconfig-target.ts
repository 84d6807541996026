import { dirname } from "node:path";
import { GyreError } from "../../errors.ts";
import { parseCertificates } from "../../pki/certificate.ts";
import { readPrivateKey, requireMatch } from "../../pki/keys.ts";
import { Secret } from "../../pki/secret.ts";
import { contentOf, type Disk, lookAt, realDisk, replaceFile, syncDirectory, whileLocked } from "../files/disk.ts";
import { diskError } from "../files/disk-error.ts";
import { attributesFor } from "../files/owner.ts";
import { pathFrom, performReload, reloadFact } from "../files/reload.ts";
import { createFilesTarget } from "../files/target.ts";
import type { DriverFacts, Material, Step, Stored, Target } from "../roles.ts";
import { type Cluster, type ClusterByName, some } from "./cluster.ts";
import { changedUnderUs } from "./conditional-write.ts";
import { type Entry, extensionsWith, flawOf, type Mark, pemIn, readEntry, versionOf } from "./kubeconfig-entry.ts";
import { emptyKubeconfig, type KubeconfigFile, readKubeconfigFile } from "./kubeconfig-file.ts";
import { type KubeconfigPlace, type NewText, placeOf } from "./kubeconfig-place.ts";
import type { KubeconfigSettings } from "./kubeconfig-settings.ts";
import { base64 } from "./secret-keys.ts";

/**
 * The user of one context of a kubeconfig, with the CA of its cluster as the cluster itself publishes it; see
 * docs/drivers/kubeconfig.md. Everything else in the document stays as it is.
 * Errors: `conflict`, `input`, `refused`, `permission`, `disk`, `unreachable`; `read back` where a write may have happened.
 */
export function createKubeconfigTarget(
  settings: KubeconfigSettings,
  around: { readonly baseDir: string; readonly cluster: ClusterByName; readonly disk?: Disk },
): Target {
  return new KubeconfigTarget(settings, around);
}

class KubeconfigTarget implements Target {
  readonly can: DriverFacts;
  readonly place: string;
  readonly #settings: KubeconfigSettings;
  readonly #baseDir: string;
  readonly #cluster: Cluster;
  readonly #disk: Disk;
  readonly #document: KubeconfigPlace;
  /** Certificate and key where they are files of their own. */
  readonly #pair: Target | undefined;

  constructor(
    settings: KubeconfigSettings,
    around: { readonly baseDir: string; readonly cluster: ClusterByName; readonly disk?: Disk },
  ) {
    const { material } = settings;
    this.#settings = settings;
    this.#baseDir = around.baseDir;
    this.#disk = around.disk ?? realDisk;
    this.#cluster = around.cluster(settings.cluster);
    this.#document = placeOf(settings, around, this.#disk);
    this.#pair =
      material === "embedded"
        ? undefined
        : createFilesTarget({ certificate: material.certificate, privateKey: material.privateKey }, around);
    this.place = this.#document.place;
    const reload = settings.reload === undefined && settings.secret !== undefined ? "kubelet" : undefined;
    this.can = {
      reload: reload ?? reloadFact(settings.reload),
      findAfterCrash: true,
      conditionalWrite: true,
      restore: true,
    };
  }

  async read(): Promise<Stored> {
    return this.#stored(await this.#entry(await this.#document.read()));
  }

  async check(): Promise<void> {
    await this.#cluster.mustBeOurs();
    await this.#cluster.roots();
    await this.#document.check();
    await this.#pair?.check?.();
    const text = await this.#document.read();
    const entry = await this.#entry(text);
    if (entry === undefined) this.#newEntry(text === undefined ? emptyKubeconfig : text);
    else this.#mustBeCertificateUser(entry);
  }

  async deliver(material: Material, expected: string, step: Step): Promise<Stored> {
    return this.#put(material, step, (entry) => {
      if (entry?.mark?.op === step.op) return mustBeTheSame(entry, material, step, this.place);
      if (versionOf(entry) !== expected) throw changedUnderUs(this.place, versionOf(entry), expected);
    });
  }

  async restore(expected: string, step: Step, previous?: Material): Promise<Stored> {
    const mayGoBack = (entry: Entry | undefined) => {
      if (entry?.mark?.op === step.op) return;
      if (versionOf(entry) !== expected) throw changedUnderUs(this.place, versionOf(entry), expected);
    };
    if (previous !== undefined) return this.#put(previous, step, mayGoBack);
    const after = await this.#document.change(async (now): Promise<NewText> => {
      const entry = await this.#entry(now);
      if (entry === undefined || (versionOf(entry) === "absent" && entry.mark?.op === step.op)) return undefined;
      mayGoBack(entry);
      if (entry.mark?.replaced !== "nothing") throw this.#nothingKept();
      const document = readKubeconfigFile(now!, this.place);
      if (entry.mark.made === "document" && document.contextNames.length === 1) return "remove";
      setUser(document, entry, { certificate: undefined, privateKey: undefined });
      return { text: await this.#marked(document, entry.context.name, { op: step.op }) };
    }, step);
    const stored = await this.#stored(await this.#entry(after));
    if (this.#pair !== undefined) await this.#pair.restore((await this.#pair.read()).version, step);
    return stored;
  }

  async reload(step: Step): Promise<string> {
    const { reload } = this.#settings;
    if (reload === undefined) return "nothing to do: no reload is configured";
    return performReload(reload, this.#baseDir, step, []);
  }

  async forget(step: Step): Promise<void> {
    await this.#document.change(async (now): Promise<NewText> => {
      const entry = await this.#entry(now);
      if (entry?.mark?.replaced === undefined) return undefined;
      const { replaced, ...mark } = entry.mark;
      const document = readKubeconfigFile(now!, this.place);
      document.set("users", entry.context.userName, { extensions: extensionsWith(entry.context.user, mark) });
      return { text: document.text() };
    }, step);
    await this.#pair?.forget(step);
  }

  /** Certificate, key and the cluster's CA, once `may` has agreed to what is there. */
  async #put(material: Material, step: Step, may: (entry: Entry | undefined) => void): Promise<Stored> {
    const pair = pairOf(material);
    await this.#cluster.mustBeOurs();
    const roots = await this.#cluster.roots();
    await this.#putFiles(material, roots, step, may);
    const after = await this.#document.change(async (now): Promise<NewText> => {
      const entry = await this.#entry(now);
      if (this.#pair === undefined) may(entry);
      const document = readKubeconfigFile(now ?? emptyKubeconfig, this.place);
      const made = entry === undefined ? this.#newEntry(now ?? emptyKubeconfig) : entry.context;
      if (entry === undefined) makeContext(document, made, this.#settings.server!);
      else this.#mustBeCertificateUser(entry);
      const { material: where } = this.#settings;
      setUser(document, { context: { ...made, user: entry?.context.user ?? {} } }, where === "embedded" ? pair : where);
      const ca = where === "embedded" ? { data: base64(roots) } : { file: where.ca };
      document.set("clusters", made.clusterName, {
        "certificate-authority-data": ca.data,
        "certificate-authority": ca.file,
        ...(entry?.context.cluster["insecure-skip-tls-verify"] === undefined
          ? {}
          : { "insecure-skip-tls-verify": undefined }),
      });
      const text = await this.#marked(document, made.name, {
        op: step.op,
        replaced: replacedBy(entry, pair),
        ...some({ made: entry === undefined ? (now === undefined ? "document" : "context") : entry.mark?.made }),
      } as Omit<Mark, "content">);
      return text === now ? undefined : { text };
    }, step);
    return this.#stored(await this.#entry(after));
  }

  /** Files the kubeconfig names: the CA first, which is right for either pair, and the pair in one step. */
  async #putFiles(
    material: Material,
    roots: string,
    step: Step,
    may: (entry: Entry | undefined) => void,
  ): Promise<void> {
    const { material: where } = this.#settings;
    if (where === "embedded" || this.#pair === undefined) return;
    const stored = await this.#pair.read();
    if (stored.op !== step.op) may(await this.#entry(await this.#document.read()));
    await this.#putCa(pathFrom(this.#baseDir, where.ca), roots);
    await this.#pair.deliver(material, stored.version, step);
  }

  async #putCa(path: string, roots: string): Promise<void> {
    await whileLocked(this.#disk, dirname(path), async () => {
      try {
        if ((await contentOf(path))?.toString("utf8") === roots) return;
        const seen = await lookAt(path);
        const inPlace = seen === undefined ? undefined : { uid: seen.uid, gid: seen.gid, mode: seen.mode & 0o7777 };
        const who = attributesFor({ mode: undefined, uid: undefined, gid: undefined }, inPlace, false);
        await replaceFile(this.#disk, path, Buffer.from(roots), who);
        await syncDirectory(this.#disk, dirname(path));
      } catch (error) {
        throw diskError(error, "writing the cluster's CA", path, "certificate and key are untouched");
      }
    });
  }

  #entry(text: string | undefined): Promise<Entry | undefined> {
    return readEntry(text, this.place, this.#settings.context, this.#document.file);
  }

  /** The document with the mark in it; its digest can only be had of the finished entry. */
  async #marked(document: KubeconfigFile, context: string, mark: Omit<Mark, "content">): Promise<string> {
    const { userName } = document.context(context);
    const entry = await readEntry(document.text(), this.place, context, this.#document.file);
    const user = document.entry("users", userName) ?? {};
    document.set("users", userName, { extensions: extensionsWith(user, { ...mark, content: entry!.content }) });
    return document.text();
  }

  async #stored(entry: Entry | undefined): Promise<Stored> {
    const version = versionOf(entry);
    if (entry === undefined || version === "absent")
      return { version, certificate: "", ...some({ op: entry?.mark?.op }) };
    const { certificate, privateKey, mark, context } = entry;
    const pem = pemIn(certificate);
    const key = privateKey === undefined ? undefined : Secret.of(privateKey);
    const torn = (await this.#pair?.read())?.torn;
    const flaw = flawOf(entry, await this.#cluster.roots());
    return {
      ...{ version, certificate: pem },
      ...some({ privateKey: key, op: mark?.op, torn, flaw }),
      ...(certificate === undefined || pem !== ""
        ? {}
        : { malformed: `${this.place}: client-certificate of user ${context.userName} holds no certificate` }),
    };
  }

  /** Names for what is missing. @throws GyreError `input` where that cannot be made without taking from others */
  #newEntry(text: string): { readonly name: string; readonly clusterName: string; readonly userName: string } {
    const { context, cluster, user = "gyre", server, material } = this.#settings;
    const document = readKubeconfigFile(text, this.place);
    const name = context ?? document.currentContext ?? cluster;
    const there = document.contextNames.join(", ");
    if (server === undefined)
      throw new GyreError({
        code: "input",
        message: `kubeconfig ${this.place} has no context ${name}${there === "" ? "" : `; there are: ${there}`}. Nothing was written`,
        where: this.place,
        next: "correct file or context; or give server, and Gyre makes it",
      });
    if (document.contextNames.includes(name))
      // Half a context, whose user or cluster is missing: told in its own words.
      document.context(name);
    const known = document.entry("clusters", cluster);
    if (known !== undefined && known.server !== server)
      throw this.#taken(`cluster ${cluster} leads to ${String(known.server)} and not to ${server}`);
    if (document.entry("users", user) !== undefined && material === "embedded")
      throw this.#taken(`user ${user} is there already, and no context ${name} uses it`);
    return { name, clusterName: cluster, userName: user };
  }

  #taken(what: string): GyreError {
    return new GyreError({
      code: "refused",
      message: `kubeconfig ${this.place}: ${what}; nothing was written`,
      where: this.place,
      next: "give another user, or name the context whose user is to be rotated",
    });
  }

  #mustBeCertificateUser({ otherWays, context }: Entry): void {
    if (otherWays.length === 0) return;
    throw new GyreError({
      code: "refused",
      message: `kubeconfig ${this.place}: user ${context.userName} authenticates by ${otherWays.join(" and ")}, which a certificate beside it would not replace; nothing was written`,
      where: this.place,
      next: `take ${otherWays.join(" and ")} out of user ${context.userName}, or name another context (or server and user, and Gyre makes one)`,
    });
  }

  #nothingKept(): GyreError {
    return new GyreError({
      code: "refused",
      message: `restore ${this.place}: the generation to put back was not given, and none is kept there; nothing written`,
      where: this.place,
      next: "deliver the old generation anew",
    });
  }
}

interface Pair {
  readonly certificate: string;
  readonly privateKey: Secret;
}

/** @throws GyreError `input`: no key, or one that is not the certificate's */
function pairOf(material: Material): Pair {
  const [leaf, ...more] = parseCertificates(material.certificate, "certificate to deliver");
  const chain = material.chain.trim() === "" ? [] : parseCertificates(material.chain, "chain to deliver");
  const { privateKey } = material;
  if (privateKey === undefined)
    throw new GyreError({
      code: "input",
      message: "the material to deliver has no private key, which a kubeconfig needs; nothing written",
      next: "use an issuer whose key travels",
    });
  requireMatch(leaf!, readPrivateKey(privateKey, undefined, "private key to deliver"), "material to deliver");
  return { certificate: [leaf!, ...more, ...chain].map((one) => one.pem).join(""), privateKey };
}

function mustBeTheSame(entry: Entry, material: Material, step: Step, place: string): void {
  const [there, wanted] = [pemIn(entry.certificate), material.certificate].map(
    (pem) => (pem === "" ? undefined : parseCertificates(pem)[0])?.fingerprint,
  );
  if (there === wanted) return;
  throw new GyreError({
    code: "conflict",
    message: `${place}: ${step.op} has delivered other material before; nothing written`,
    where: place,
    next: "plan again",
  });
}

/** The same generation once more: what goes back is still what was before it. */
function replacedBy(entry: Entry | undefined, pair: Pair): Mark["replaced"] {
  if (entry?.mark?.replaced !== undefined && pemIn(entry.certificate) === pair.certificate) return entry.mark.replaced;
  return versionOf(entry) === "absent" ? "nothing" : "pair";
}

function makeContext(
  document: KubeconfigFile,
  made: { readonly name: string; readonly clusterName: string; readonly userName: string },
  server: string,
): void {
  document.set("clusters", made.clusterName, { server });
  document.set("users", made.userName, {});
  document.set("contexts", made.name, { cluster: made.clusterName, user: made.userName });
  if (document.currentContext === undefined) document.setCurrentContext(made.name);
}

/** Embedded, or the paths of files; undefined takes both forms out. */
function setUser(
  document: KubeconfigFile,
  { context }: { readonly context: { readonly userName: string; readonly user: Entry["context"]["user"] } },
  pair: {
    readonly certificate: string | undefined;
    readonly privateKey: string | Secret | undefined;
  },
): void {
  const { certificate, privateKey } = pair;
  const embedded = privateKey instanceof Secret ? privateKey.use((bytes) => bytes.toString("base64")) : undefined;
  document.set("users", context.userName, {
    "client-certificate-data": embedded === undefined || certificate === undefined ? undefined : base64(certificate),
    "client-key-data": embedded,
    "client-certificate": embedded === undefined ? certificate : undefined,
    "client-key": embedded === undefined ? (privateKey as string | undefined) : undefined,
  });
}
