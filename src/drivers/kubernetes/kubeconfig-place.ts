/** Where a kubeconfig is: a file, or a key of a Secret. Either is changed whole, and only as it was seen. */
import { dirname } from "node:path";
import { GyreError } from "../../errors.ts";
import {
  type Attributes,
  contentOf,
  type Disk,
  lookAt,
  realDisk,
  replaceFile,
  syncDirectory,
  unlinkIfThere,
  whileLocked,
} from "../files/disk.ts";
import { diskError } from "../files/disk-error.ts";
import { attributesFor } from "../files/owner.ts";
import { mustBeWritable } from "../files/preflight.ts";
import { pathFrom } from "../files/reload.ts";
import type { Step } from "../roles.ts";
import type { ClusterByName } from "./cluster.ts";
import { type Change, kinds, mustBeMutable, mustBeNobodyElses, WritableObject } from "./conditional-write.ts";
import type { KubeconfigPlaceSettings } from "./kubeconfig-settings.ts";
import { base64, type SecretBody } from "./secret-keys.ts";
import { ourLabel } from "./secret-target.ts";

/** What becomes of the document; undefined: it stays. */
export type NewText = { readonly text: string } | "remove" | undefined;

export interface KubeconfigPlace {
  readonly place: string;
  /** Absolute path that relative ones in the document count from; absent where there are no files beside it. */
  readonly file?: string;
  read(signal?: AbortSignal): Promise<string | undefined>;
  /** Carries out what `decide` says of the document as it is then, asking again where somebody else was faster. */
  change(decide: (now: string | undefined) => Promise<NewText>, step: Step): Promise<string | undefined>;
  /** Throws what would stop a change, found by looking only. */
  check(): Promise<void>;
}

export function placeOf(
  settings: KubeconfigPlaceSettings & { readonly mode?: string | undefined },
  around: { readonly baseDir: string; readonly cluster: ClusterByName },
  disk: Disk = realDisk,
): KubeconfigPlace {
  return settings.secret === undefined
    ? new FilePlace(pathFrom(around.baseDir, settings.file!), settings.mode, disk)
    : new SecretPlace(settings.secret, around.cluster);
}

class FilePlace implements KubeconfigPlace {
  readonly place: string;
  readonly file: string;
  readonly #mode: number | undefined;
  readonly #disk: Disk;

  constructor(path: string, mode: string | undefined, disk: Disk) {
    this.place = path;
    this.file = path;
    this.#mode = mode === undefined ? undefined : Number.parseInt(mode, 8);
    this.#disk = disk;
  }

  async read(): Promise<string | undefined> {
    const bytes = await contentOf(this.place).catch((error: unknown) => {
      throw this.#failed(error, "reading the kubeconfig");
    });
    return bytes === undefined || bytes.toString("utf8").trim() === "" ? undefined : bytes.toString("utf8");
  }

  async change(decide: (now: string | undefined) => Promise<NewText>): Promise<string | undefined> {
    await this.check();
    return whileLocked(this.#disk, dirname(this.place), async () => {
      const now = await this.read();
      const change = await decide(now);
      if (change === undefined) return now;
      try {
        if (change === "remove") await unlinkIfThere(this.#disk, this.place);
        else await replaceFile(this.#disk, this.place, Buffer.from(change.text, "utf8"), await this.#attributes());
      } catch (error) {
        throw this.#failed(error, "writing the kubeconfig");
      }
      await syncDirectory(this.#disk, dirname(this.place)).catch((error: unknown) => {
        const { code, message } = this.#failed(error, "making the kubeconfig durable");
        throw new GyreError({ code, message, where: this.place, retry: "read back", cause: error });
      });
      return change === "remove" ? undefined : change.text;
    });
  }

  async check(): Promise<void> {
    const seen = await lookAt(this.place);
    if (seen !== undefined && !seen.isFile())
      throw new GyreError({
        code: seen.isSymbolicLink() ? "refused" : "input",
        message: `kubeconfig ${this.place} is ${seen.isSymbolicLink() ? "a symbolic link" : "no regular file"}; nothing written`,
        where: this.place,
        next: seen.isSymbolicLink() ? "name the file it leads to" : "name a file",
      });
    await mustBeWritable(dirname(this.place), "the kubeconfig");
  }

  async #attributes(): Promise<Attributes> {
    const seen = await lookAt(this.place);
    const inPlace = seen === undefined ? undefined : { uid: seen.uid, gid: seen.gid, mode: seen.mode & 0o7777 };
    return attributesFor({ mode: this.#mode, uid: undefined, gid: undefined }, inPlace, true);
  }

  #failed(error: unknown, doing: string): GyreError {
    return error instanceof GyreError ? error : diskError(error, doing, this.place, "what was in place is untouched");
  }
}

class SecretPlace implements KubeconfigPlace {
  readonly place: string;
  readonly #object: WritableObject<SecretBody>;
  readonly #settings: NonNullable<KubeconfigPlaceSettings["secret"]>;

  constructor(settings: NonNullable<KubeconfigPlaceSettings["secret"]>, cluster: ClusterByName) {
    const { namespace, name, key } = settings;
    this.#settings = settings;
    this.#object = new WritableObject(cluster(settings.cluster), { kind: kinds.secret, namespace, name });
    this.place = `${this.#object.place}#${key}`;
  }

  async read(signal?: AbortSignal): Promise<string | undefined> {
    return this.#textOf(await this.#object.read(signal));
  }

  async change(decide: (now: string | undefined) => Promise<NewText>, step: Step): Promise<string | undefined> {
    const { key, create } = this.#settings;
    if (!create && (await this.#object.read(step.signal)) === undefined) throw await this.#object.missing();
    const after = await this.#object.change(async (now): Promise<Change> => {
      const change = await decide(this.#textOf(now));
      if (change === undefined) return undefined;
      if (now !== undefined) this.#mustBeWritable(now);
      if (change === "remove") {
        const others = Object.keys(now?.data ?? {}).filter((name) => name !== key);
        const ours =
          now?.metadata.labels?.["app.kubernetes.io/managed-by"] === ourLabel["app.kubernetes.io/managed-by"];
        return others.length === 0 && ours ? { do: "delete" } : { do: "patch", patch: { data: { [key]: null } } };
      }
      const data = { [key]: base64(change.text) };
      if (now !== undefined) return { do: "patch", patch: { data } };
      return { do: "create", body: { type: "Opaque", data, metadata: { labels: ourLabel } } };
    }, step.signal);
    return this.#textOf(after);
  }

  async check(): Promise<void> {
    await this.#object.cluster.mustBeOurs();
    const now = await this.#object.read();
    if (now === undefined && !this.#settings.create) throw await this.#object.missing();
    if (now !== undefined) this.#mustBeWritable(now);
    await this.#object.mustAllow({
      patch: "to deliver",
      ...(this.#settings.create ? { create: "to make it where it is missing", delete: "to take it away again" } : {}),
    });
  }

  #mustBeWritable(now: SecretBody): void {
    mustBeMutable(now, this.place);
    mustBeNobodyElses(now, this.place, [["f:data", `f:${this.#settings.key}`]], this.#settings.takeOver);
  }

  #textOf(body: SecretBody | undefined): string | undefined {
    const value = body?.data?.[this.#settings.key];
    const text = value === undefined ? "" : Buffer.from(value, "base64").toString("utf8");
    return text.trim() === "" ? undefined : text;
  }
}
