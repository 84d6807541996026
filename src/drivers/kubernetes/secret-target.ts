import { GyreError } from "../../errors.ts";
import { performReload, reloadFact } from "../files/reload.ts";
import type { DriverFacts, Material, Step, Stored, Target } from "../roles.ts";
import { type ClusterByName, some } from "./cluster.ts";
import {
  type Change,
  changedUnderUs,
  kinds,
  mustBeMutable,
  mustBeNobodyElses,
  WritableObject,
} from "./conditional-write.ts";
import { type Data, type SecretBody, SecretKeys } from "./secret-keys.ts";
import type { SecretSettings } from "./secret-settings.ts";

/** Ours on the object: which op wrote what is there, and the public part of what it replaced. */
const marks = {
  op: "gyre.dev/op",
  /** Digest of our keys as that op left them: another content is not its work. */
  content: "gyre.dev/content",
  certificate: "gyre.dev/certificate",
  replaced: "gyre.dev/replaced",
  /** The object was made by Gyre, and may be taken away by it. */
  created: "gyre.dev/created",
} as const;
export const ourLabel = { "app.kubernetes.io/managed-by": "gyre" };

/** By key: what was there in base64, where it is public; true for a secret one, which is in Gyre's own store; null where there was none. */
type Replaced = Readonly<Record<string, string | true | null>>;

/** Annotations of one object may have 256 KiB together (apimachinery TotalAnnotationSizeLimitB), and are not ours alone. */
const mostKept = 64 * 1024;

/**
 * Key, certificate and chain in one Secret, changed by conditional writes; see docs/drivers/kubernetes-secret.md.
 * Errors: `conflict`, `input`, `refused`, `permission`, `unreachable` (`read back` where a write may have happened).
 */
export function createSecretTarget(
  settings: SecretSettings,
  around: { readonly baseDir: string; readonly cluster: ClusterByName },
): Target {
  return new SecretTarget(settings, around.baseDir, around.cluster);
}

interface Look {
  readonly version: string;
  readonly op?: string;
  readonly replaced?: Replaced;
}

class SecretTarget implements Target {
  readonly can: DriverFacts;
  readonly place: string;
  readonly #settings: SecretSettings;
  readonly #baseDir: string;
  readonly #object: WritableObject<SecretBody>;
  readonly #keys: SecretKeys;

  constructor(settings: SecretSettings, baseDir: string, cluster: ClusterByName) {
    const { namespace, name } = settings;
    this.#settings = settings;
    this.#baseDir = baseDir;
    this.#object = new WritableObject(cluster(settings.cluster), { kind: kinds.secret, namespace, name });
    this.place = this.#object.place;
    this.#keys = new SecretKeys(settings, this.place);
    this.can = {
      reload: settings.reload === undefined ? "kubelet" : reloadFact(settings.reload),
      findAfterCrash: true,
      conditionalWrite: true,
      restore: true,
    };
  }

  async read(): Promise<Stored> {
    return this.#stored(await this.#object.read());
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

  async deliver(material: Material, expected: string, step: Step): Promise<Stored> {
    const data = this.#keys.render(material);
    if (!this.#settings.create && (await this.#object.read(step.signal)) === undefined && expected === "absent")
      throw await this.#object.missing();
    return this.#stored(
      await this.#object.change((now) => {
        const look = this.#look(now);
        const same = holds(now, data);
        if (look.op === step.op) {
          if (same) return undefined;
          throw this.#otherMaterial(step);
        }
        if (look.version !== expected) throw changedUnderUs(this.place, look.version, expected);
        if (now !== undefined) this.#mustBeWritable(now);
        else if (!this.#settings.create) throw changedUnderUs(this.place, "gone", expected);
        this.#keys.mustHaveRoom(now, data);
        // The same generation once more: what goes back is still what was before it.
        const replaced = same && look.replaced !== undefined ? look.replaced : this.#publicPartOf(now);
        return this.#write(now, data, step, replaced);
      }, step.signal),
    );
  }

  async restore(expected: string, step: Step, previous?: Material): Promise<Stored> {
    return this.#stored(
      await this.#object.change((now) => {
        const look = this.#look(now);
        if (look.op === step.op) return undefined;
        // Deleting leaves nothing that could say who did it; it is what was asked for.
        if (now === undefined && previous === undefined) return undefined;
        if (look.version !== expected) throw changedUnderUs(this.place, look.version, expected);
        mustBeMutable(now!, this.place);
        const { replaced } = look;
        if (previous !== undefined) return this.#write(now, this.#dataOf(previous, replaced), step, undefined);
        if (replaced === undefined || Object.values(replaced).some((was) => was !== null && was !== ""))
          throw this.#nothingKept();
        if (this.#isOursAlone(now!)) return { do: "delete" };
        return this.#write(
          now,
          Object.fromEntries(this.#keys.names.map((name) => [name, replaced[name] === "" ? "" : null])),
          step,
          undefined,
        );
      }, step.signal),
    );
  }

  async reload(step: Step): Promise<string> {
    const { reload } = this.#settings;
    if (reload === undefined) return "nothing to do: no reload is configured";
    return performReload(reload, this.#baseDir, step, []);
  }

  async forget(step: Step): Promise<void> {
    await this.#object.change((now): Change => {
      if (now?.metadata.annotations?.[marks.replaced] === undefined) return undefined;
      return { do: "patch", patch: { metadata: { annotations: { [marks.replaced]: null } } } };
    }, step.signal);
  }

  /** The old generation as it was: its public keys to the byte where they were kept and are this generation's. */
  #dataOf(previous: Material, replaced: Replaced | undefined): Data {
    const data = this.#keys.render(previous);
    if (replaced === undefined) return data;
    const kept: Record<string, string | null> = {};
    for (const [name, was] of Object.entries(replaced)) if (was !== true) kept[name] = was;
    const back = { ...data, ...kept };
    const body = { metadata: { name: "" }, data: back as Record<string, string> };
    return this.#keys.leafOf(body) === this.#keys.leafOf({ metadata: { name: "" }, data }) ? back : data;
  }

  #write(now: SecretBody | undefined, data: Data, step: Step, replaced: Replaced | undefined): Change {
    const after: SecretBody = {
      metadata: { name: "" },
      data: Object.fromEntries(
        Object.entries({ ...now?.data, ...data }).filter(([, value]) => value !== null),
      ) as Record<string, string>,
    };
    const kept = replaced === undefined ? undefined : JSON.stringify(replaced);
    const annotations = {
      [marks.op]: step.op,
      [marks.content]: this.#keys.contentOf(after),
      [marks.certificate]: this.#keys.leafOf(after) ?? null,
      [marks.replaced]: kept === undefined || kept.length > mostKept ? null : kept,
    };
    if (now !== undefined) return { do: "patch", patch: { data, metadata: { annotations } } };
    const made = { ...annotations, [marks.created]: "true" };
    return {
      do: "create",
      body: {
        type: this.#keys.type ?? "Opaque",
        data,
        metadata: {
          labels: ourLabel,
          annotations: Object.fromEntries(Object.entries(made).filter(([, v]) => v !== null)),
        },
      },
    };
  }

  #publicPartOf(now: SecretBody | undefined): Replaced {
    return Object.fromEntries(
      this.#keys.names.map((name) => {
        const value = now?.data?.[name];
        if (value === undefined) return [name, null];
        return [name, value !== "" && this.#keys.isSecret(name) ? true : value];
      }),
    );
  }

  #look(now: SecretBody | undefined): Look {
    const version = this.#keys.versionOf(now);
    const annotations = now?.metadata.annotations ?? {};
    if (now === undefined || annotations[marks.content] !== this.#keys.contentOf(now)) return { version };
    return { version, ...some({ op: annotations[marks.op], replaced: replacedIn(annotations[marks.replaced]) }) };
  }

  #stored(now: SecretBody | undefined): Stored {
    const { version, op } = this.#look(now);
    return { version, ...this.#keys.stored(now), ...some({ op }) };
  }

  #mustBeWritable(now: SecretBody): void {
    mustBeMutable(now, this.place);
    this.#keys.mustFit(now);
    const fields = this.#keys.names.map((name) => ["f:data", `f:${name}`]);
    mustBeNobodyElses(now, this.place, fields, this.#settings.takeOver);
  }

  /** Made by us, and nobody put anything else in: taking it away takes nothing from anybody. */
  #isOursAlone({ data, metadata }: SecretBody): boolean {
    const others = Object.keys(data ?? {}).filter((name) => !this.#keys.names.includes(name));
    return metadata.annotations?.[marks.created] === "true" && others.length === 0;
  }

  #otherMaterial(step: Step): GyreError {
    return new GyreError({
      code: "conflict",
      message: `${this.place}: ${step.op} has delivered other material before; nothing written`,
      where: this.place,
      next: "plan again",
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

const holds = (now: SecretBody | undefined, data: Data): boolean =>
  now !== undefined && Object.entries(data).every(([name, value]) => now.data?.[name] === value);

function replacedIn(text: string | undefined): Replaced | undefined {
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as Replaced;
  } catch {
    // Somebody wrote into it: then nothing is kept.
    return undefined;
  }
}
