import type { z } from "zod";
import { accessLogSettings } from "./access-log/settings.ts";
import { targetSettings, trustStoreSettings } from "./files/settings.ts";
import { auditLogSettings } from "./kubernetes/audit-settings.ts";
import { csrSettings } from "./kubernetes/csr-settings.ts";
import { kubeconfigPresenterSettings, kubeconfigSettings } from "./kubernetes/kubeconfig-settings.ts";
import { groupBindingSettings } from "./kubernetes/rbac-settings.ts";
import { caBundleSettings, configMapSettings, secretSettings } from "./kubernetes/secret-settings.ts";
import { apiVerifierSettings } from "./kubernetes/verifier-settings.ts";
import { localCaSettings, selfSignedSettings } from "./local-ca/settings.ts";
import { presenterSettings, verifierSettings } from "./tls/settings.ts";

/** The roles a manifest can ask a driver to play. */
export type DriverRole = "issuer" | "target" | "trustStore" | "presenter" | "verifier" | "sensor";

interface CatalogueEntry {
  /** The field that names the driver in a manifest. */
  readonly key: string;
  /** The folder under src/drivers, and what plans and errors call it. */
  readonly driver: string;
  readonly role: DriverRole;
  readonly settings: z.ZodObject;
  /** Settings that a manifest writes beside the key, not under it: they read the same for every driver of the role. */
  readonly beside: readonly string[];
  /** Settings that are paths the driver writes; `a.b` is a field of a mapping. */
  readonly writes: readonly string[];
  /** Settings that are paths the driver only reads. A `{ file: … }` secret is one through its `file`. */
  readonly reads: readonly string[];
}

/**
 * Every driver Gyre has, once per role: the manifest's schema, its JSON Schema and its reference are made from this
 * list, so a driver that is not here cannot be asked for. Two drivers may share a key when their roles differ.
 */
export const catalogue = [
  {
    key: "localCA",
    driver: "local-ca",
    role: "issuer",
    settings: localCaSettings,
    beside: [],
    writes: ["directory"],
    reads: ["passphrase.file"],
  },
  {
    key: "selfSigned",
    driver: "self-signed",
    role: "issuer",
    settings: selfSignedSettings,
    beside: [],
    writes: ["directory"],
    reads: [],
  },
  {
    key: "kubernetesCSR",
    driver: "kubernetes-csr",
    role: "issuer",
    settings: csrSettings,
    beside: [],
    writes: [],
    reads: ["roots"],
  },
  {
    key: "files",
    driver: "files",
    role: "target",
    settings: targetSettings,
    beside: ["validate", "reload"],
    writes: ["certificate", "privateKey", "chain", "combined", "keystore.path"],
    reads: ["keystore.password.file", "reload.pidFile"],
  },
  {
    key: "secret",
    driver: "kubernetes-secret",
    role: "target",
    settings: secretSettings,
    beside: ["reload"],
    writes: [],
    reads: ["reload.pidFile"],
  },
  {
    key: "kubeconfig",
    driver: "kubeconfig",
    role: "target",
    settings: kubeconfigSettings,
    beside: ["reload"],
    writes: ["file", "material.certificate", "material.privateKey", "material.ca"],
    reads: ["reload.pidFile"],
  },
  {
    key: "files",
    driver: "files",
    role: "trustStore",
    settings: trustStoreSettings,
    beside: ["validate", "reload"],
    writes: ["bundle", "crl", "truststore.path"],
    reads: ["truststore.password.file", "reload.pidFile"],
  },
  {
    key: "configMap",
    driver: "kubernetes-configmap",
    role: "trustStore",
    settings: configMapSettings,
    beside: ["reload"],
    writes: [],
    reads: ["reload.pidFile"],
  },
  {
    key: "caBundle",
    driver: "kubernetes-ca-bundle",
    role: "trustStore",
    settings: caBundleSettings,
    beside: [],
    writes: [],
    reads: [],
  },
  {
    key: "groupBinding",
    driver: "kubernetes-rbac",
    role: "trustStore",
    settings: groupBindingSettings,
    beside: [],
    writes: [],
    reads: [],
  },
  {
    key: "tls",
    driver: "tls",
    role: "presenter",
    settings: presenterSettings,
    beside: [],
    writes: [],
    reads: ["roots"],
  },
  {
    key: "kubeconfig",
    driver: "kubeconfig",
    role: "presenter",
    settings: kubeconfigPresenterSettings,
    beside: [],
    writes: [],
    reads: ["file"],
  },
  {
    key: "mutualTls",
    driver: "tls",
    role: "verifier",
    settings: verifierSettings,
    beside: [],
    writes: [],
    reads: ["roots"],
  },
  {
    key: "kubernetesApi",
    driver: "kubernetes-api",
    role: "verifier",
    settings: apiVerifierSettings,
    beside: [],
    writes: [],
    reads: [],
  },
  {
    key: "accessLog",
    driver: "access-log",
    role: "sensor",
    settings: accessLogSettings,
    beside: [],
    writes: [],
    reads: ["path"],
  },
  {
    key: "auditLog",
    driver: "kubernetes-audit",
    role: "sensor",
    settings: auditLogSettings,
    beside: [],
    writes: [],
    reads: ["path"],
  },
] as const satisfies readonly CatalogueEntry[];

export type Catalogued = (typeof catalogue)[number];

/** One use of a driver in a manifest: which one, and its settings as its own schema gives them. */
export type DriverEntry<R extends DriverRole> = {
  [E in Extract<Catalogued, { role: R }> as `${E["role"]}/${E["key"]}`]: {
    readonly key: E["key"];
    readonly driver: E["driver"];
    readonly role: E["role"];
    readonly settings: z.output<E["settings"]>;
  };
} extends infer M
  ? M[keyof M]
  : never;

/** The catalogue's rows of one role. */
export function driversOf(role: DriverRole): readonly CatalogueEntry[] {
  return catalogue.filter((entry) => entry.role === role);
}
