/** Which key of a Secret holds what; the rendering is that of the files driver, a key standing for a path. */
import { hash } from "node:crypto";
import { GyreError } from "../../errors.ts";
import { parseCertificates } from "../../pki/certificate.ts";
import { render, storedFrom } from "../files/material-files.ts";
import type { FileRole } from "../files/version-store.ts";
import type { Material, Stored } from "../roles.ts";
import type { ApiObject } from "./cluster.ts";
import type { SecretSettings } from "./secret-settings.ts";

export interface SecretBody extends ApiObject {
  readonly type?: string;
  /** Base64. */
  readonly data?: Readonly<Record<string, string>>;
  readonly immutable?: boolean;
}

/** Base64 by key, as in `data`; `null` where the key is taken out. */
export type Data = Readonly<Record<string, string | null>>;

/** What a key of a Secret may hold. */
type KeyRole = Exclude<FileRole, "keystore">;

/** Kubernetes' own limit on all values of a Secret together (core.MaxSecretSize). */
const mostBytes = 1024 * 1024;

export class SecretKeys {
  /** `kubernetes.io/tls`, or undefined where any type of no meaning of its own will do. */
  readonly type: "kubernetes.io/tls" | undefined;
  readonly #roles: Readonly<Partial<Record<KeyRole, string>>>;
  readonly #ca: string | undefined;
  readonly #place: string;

  constructor({ layout, keys, caKey }: SecretSettings, place: string) {
    const { ca, ...roles } =
      layout === "tls" ? { certificate: "tls.crt", privateKey: "tls.key", ca: caKey } : { ca: undefined, ...keys };
    this.#roles = Object.fromEntries(Object.entries(roles).filter(([, key]) => key !== undefined));
    this.#ca = ca;
    this.#place = place;
    this.type = layout === "tls" ? "kubernetes.io/tls" : undefined;
  }

  /** All of them, in an order of their own. */
  get names(): readonly string[] {
    return [...Object.values(this.#roles), ...(this.#ca === undefined ? [] : [this.#ca])].sort();
  }

  /** Keys whose content must not be copied anywhere. */
  isSecret(name: string): boolean {
    return name === this.#roles.privateKey || name === this.#roles.combined;
  }

  /** @throws GyreError `input` as the files driver's `render` */
  render(material: Material): Readonly<Record<string, string>> {
    const { bytes } = render(material, this.#roles, undefined);
    const roles = Object.keys(this.#roles) as KeyRole[];
    const data = roles.map((role) => [this.#roles[role]!, bytes[role]!.toString("base64")] as const);
    const { roots } = material;
    const ca = this.#ca === undefined || roots.trim() === "" ? [] : [[this.#ca, base64(roots)] as const];
    return Object.fromEntries([...data, ...ca]);
  }

  /** What is there, without version and op. */
  stored(body: SecretBody | undefined): Pick<Stored, "certificate" | "privateKey" | "malformed"> {
    const contents: Partial<Record<KeyRole, Buffer>> = {};
    for (const role of Object.keys(this.#roles) as KeyRole[]) {
      const value = body?.data?.[this.#roles[role]!];
      if (value !== undefined && value !== "") contents[role] = Buffer.from(value, "base64");
    }
    const { malformed, ...found } = storedFrom(contents, this.#roles, undefined, `/${this.#place}`);
    return malformed === undefined ? found : { ...found, malformed: malformed.slice(1) };
  }

  /** Fingerprint of the leaf that is there. */
  leafOf(body: SecretBody | undefined): string | undefined {
    const { certificate } = this.stored(body);
    return certificate.trim() === "" ? undefined : parseCertificates(certificate)[0]?.fingerprint;
  }

  /** Digest of what our keys hold, whichever object they are in. */
  contentOf(body: SecretBody | undefined): string {
    return digest(this.names.map((name) => [name, body?.data?.[name] ?? ""]));
  }

  /** Labels, annotations and other keys are not in it: what others add is no conflict. The uid is: another object is. */
  versionOf(body: SecretBody | undefined): string {
    if (body === undefined || this.names.every((name) => (body.data?.[name] ?? "") === "")) return "absent";
    return digest([body.metadata.uid, this.contentOf(body)]);
  }

  /** @throws GyreError `refused`: `type` cannot be changed, and says which keys must be there */
  mustFit({ type = "Opaque" }: SecretBody): void {
    const fits = this.type === undefined ? !type.includes("kubernetes.io/") : type === this.type;
    if (fits) return;
    const wanted = this.type ?? "Opaque, or one that only its users know";
    throw new GyreError({
      code: "refused",
      message: `${this.#place} has type ${type}, and the layout needs ${wanted}: Kubernetes lets nobody change a type. Nothing was written`,
      where: this.#place,
      next:
        type === "kubernetes.io/tls"
          ? "say layout: tls, or name another Secret"
          : "say layout: opaque with the keys its consumers read, or name another Secret",
    });
  }

  /** @throws GyreError `input`: more than a Secret may hold, with what else is in it */
  mustHaveRoom(body: SecretBody | undefined, data: Data): void {
    const all = Object.values({ ...body?.data, ...data });
    const bytes = all.reduce((sum, value) => sum + (value === null ? 0 : Buffer.byteLength(value, "base64")), 0);
    if (bytes <= mostBytes) return;
    throw new GyreError({
      code: "input",
      message: `${this.#place} would hold ${bytes} bytes, and Kubernetes allows a Secret ${mostBytes}; nothing written`,
      where: this.#place,
      next: "name a Secret of its own for this credential",
    });
  }
}

const digest = (what: unknown): string => `sha256:${hash("sha256", JSON.stringify(what), "hex")}`;
export const base64 = (text: string): string => Buffer.from(text, "utf8").toString("base64");
