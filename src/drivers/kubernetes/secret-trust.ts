/** Trust kept in objects of the API: a PEM bundle in a ConfigMap, and the caBundle by which API servers judge webhooks. */
import { hash } from "node:crypto";
import { GyreError } from "../../errors.ts";
import { performReload, reloadFact } from "../files/reload.ts";
import { bundleFormat } from "../files/trust-files.ts";
import type { DriverFacts, Step, TrustStore } from "../roles.ts";
import type { ApiObject, ClusterByName } from "./cluster.ts";
import {
  type Change,
  changedUnderUs,
  type FieldPath,
  kinds,
  mustBeMutable,
  mustBeNobodyElses,
  WritableObject,
} from "./conditional-write.ts";
import { base64 } from "./secret-keys.ts";
import type { CaBundleSettings, ConfigMapSettings } from "./secret-settings.ts";
import { ourLabel } from "./secret-target.ts";

interface Around {
  readonly baseDir: string;
  readonly cluster: ClusterByName;
}

/** How one kind of object keeps its bundle. */
interface Bundle<T extends ApiObject> {
  readonly object: WritableObject<T>;
  readonly place: string;
  readonly can: DriverFacts;
  readonly takeOver: boolean;
  /** May be made where the whole object is missing. */
  readonly create: boolean;
  /** PEM; empty where there is none. @throws GyreError `input` */
  textOf(object: T): string;
  fieldsOf(object: T): readonly FieldPath[];
  /** `null` takes the bundle out. */
  patchOf(object: T, pem: string | null): Readonly<Record<string, unknown>>;
  bodyOf?(pem: string): Readonly<Record<string, unknown>>;
  reload?(step: Step): Promise<string>;
}

function trustStoreOf<T extends ApiObject>(bundle: Bundle<T>): TrustStore {
  const { object, place, can } = bundle;
  const format = bundleFormat(place);
  const look = (now: T | undefined): { version: string; pem: string } => {
    const text = now === undefined ? "" : bundle.textOf(now);
    if (now === undefined || text.trim() === "") return { version: "absent", pem: "" };
    return { version: `sha256:${hash("sha256", `${now.metadata.uid} ${text}`, "hex")}`, pem: text };
  };
  const mustBeWritable = (now: T) => {
    mustBeMutable(now, place);
    mustBeNobodyElses(now, place, bundle.fieldsOf(now), bundle.takeOver);
  };
  return {
    ...{ can, place, holds: "certificates" },
    async read() {
      const { version, pem } = look(await object.read());
      return { version, pem: pem === "" ? "" : format.read(Buffer.from(pem, "utf8")) };
    },
    /** Where it holds this already, nothing is written, whatever version was expected. */
    async put(pem, expected, step) {
      if (!bundle.create && (await object.read(step.signal)) === undefined) throw await object.missing();
      const after = await object.change((now): Change => {
        const { version, pem: present } = look(now);
        const next = format.write(present === "" ? undefined : Buffer.from(present, "utf8"), pem);
        if (next === undefined) return undefined;
        if (version !== expected) throw changedUnderUs(place, version, expected);
        const text = next.toString("utf8");
        if (now === undefined && bundle.bodyOf === undefined) throw changedUnderUs(place, "gone", expected);
        if (now === undefined) return { do: "create", body: bundle.bodyOf!(text) };
        mustBeWritable(now);
        return { do: "patch", patch: bundle.patchOf(now, text) };
      }, step.signal);
      return { version: look(after).version };
    },
    async remove(expected, step) {
      await object.change((now): Change => {
        const { version } = look(now);
        if (now === undefined || version === "absent") return undefined;
        if (version !== expected) throw changedUnderUs(place, version, expected);
        mustBeWritable(now);
        return { do: "patch", patch: bundle.patchOf(now, null) };
      }, step.signal);
    },
    async check() {
      await object.cluster.mustBeOurs();
      const now = await object.read();
      if (now === undefined && !bundle.create) throw await object.missing();
      if (now !== undefined) {
        mustBeWritable(now);
        const { pem } = look(now);
        if (pem !== "") format.write(Buffer.from(pem, "utf8"), pem);
      }
      await object.mustAllow({
        patch: "to change what is trusted",
        ...(bundle.create ? { create: "to make it where it is missing" } : {}),
      });
    },
    ...(bundle.reload === undefined ? {} : { reload: bundle.reload }),
  };
}

interface ConfigMap extends ApiObject {
  readonly data?: Readonly<Record<string, string>>;
  readonly immutable?: boolean;
}

/** A CA bundle in one key of a ConfigMap, changed by conditional writes; see docs/drivers/kubernetes-secret.md. */
export function createConfigMapStore(settings: ConfigMapSettings, { baseDir, cluster }: Around): TrustStore {
  const { namespace, name, key, create, takeOver, reload } = settings;
  const object = new WritableObject<ConfigMap>(cluster(settings.cluster), { kind: kinds.configMap, namespace, name });
  return trustStoreOf<ConfigMap>({
    ...{ object, create, takeOver, place: `${object.place}#${key}` },
    can: {
      reload: reload === undefined ? "kubelet" : reloadFact(reload),
      findAfterCrash: true,
      conditionalWrite: true,
    },
    textOf: ({ data }) => data?.[key] ?? "",
    fieldsOf: () => [["f:data", `f:${key}`]],
    patchOf: (_, pem) => ({ data: { [key]: pem } }),
    ...(create ? { bodyOf: (pem: string) => ({ data: { [key]: pem }, metadata: { labels: ourLabel } }) } : {}),
    ...(reload === undefined ? {} : { reload: (step: Step) => performReload(reload, baseDir, step, []) }),
  });
}

interface WithCaBundle extends ApiObject {
  readonly webhooks?: readonly { readonly name: string; readonly clientConfig?: { readonly caBundle?: string } }[];
  readonly spec?: { readonly caBundle?: string };
}

/** What API servers judge a webhook's or an aggregated API's server by. They watch it themselves. */
export function createCaBundleStore(settings: CaBundleSettings, { cluster }: Around): TrustStore {
  const { takeOver, webhook } = settings;
  const kind = (["validatingWebhook", "mutatingWebhook", "apiService"] as const).find(
    (field) => settings[field] !== undefined,
  )!;
  const object = new WritableObject<WithCaBundle>(cluster(settings.cluster), {
    kind: kinds[kind],
    name: settings[kind]!,
  });
  const place = webhook === undefined ? object.place : `${object.place}#${webhook}`;
  const ofService = kind === "apiService";
  const meant = ({ webhooks = [] }: WithCaBundle) =>
    webhooks.filter(({ name }) => webhook === undefined || name === webhook);
  return trustStoreOf<WithCaBundle>({
    ...{ object, place, takeOver, create: false },
    can: { reload: "watch", findAfterCrash: true, conditionalWrite: true },
    textOf(now) {
      const found = ofService
        ? [{ name: "", bundle: now.spec?.caBundle ?? "" }]
        : meant(now).map(({ name, clientConfig }) => ({ name, bundle: clientConfig?.caBundle ?? "" }));
      const [first, ...rest] = found;
      if (first === undefined)
        throw trouble(
          place,
          `has no webhook ${webhook ?? "at all"}; there are: ${now.webhooks?.map(({ name }) => name).join(", ") || "none"}`,
          "correct webhook",
        );
      const other = rest.find(({ bundle }) => bundle !== first.bundle);
      if (other !== undefined)
        throw trouble(
          place,
          `has webhooks that trust different CAs (${first.name} and ${other.name})`,
          "name one of them (webhook)",
        );
      return Buffer.from(first.bundle, "base64").toString("utf8");
    },
    fieldsOf: (now) =>
      ofService
        ? [["f:spec", "f:caBundle"]]
        : meant(now).map(({ name }) => ["f:webhooks", `k:${JSON.stringify({ name })}`, "f:clientConfig", "f:caBundle"]),
    patchOf: (now, pem) =>
      ofService
        ? { spec: { caBundle: encoded(pem) } }
        : { webhooks: meant(now).map(({ name }) => ({ name, clientConfig: { caBundle: encoded(pem) } })) },
  });
}

const encoded = (pem: string | null): string | null => (pem === null ? null : base64(pem));

const trouble = (place: string, what: string, next: string): GyreError =>
  new GyreError({ code: "input", message: `${place} ${what}; nothing was written`, where: place, next });
