/** What of a cluster can hold certificates: where each kind is listed, and where in its objects they are. */
import type { ApiObject } from "../../drivers/kubernetes/cluster.ts";
import type { Owner } from "../found.ts";

export interface Value {
  /** Key of the data, or path of the field. */
  readonly key: string;
  readonly bytes: Buffer;
  /** Clients look here for the CA of a server. */
  readonly anchor?: boolean;
}
export interface Kind {
  readonly kind: string;
  readonly group: string;
  readonly resource: string;
  /** Served ones are tried in this order. */
  readonly versions: readonly string[];
  readonly namespaced: boolean;
  /** In lists: what is left out by the API server. */
  readonly fieldSelector?: string;
  /** Of managedFields: whoever wrote these wrote the certificate. */
  readonly fields: readonly string[];
  readonly values: (object: ApiObject & Fields) => readonly Value[];
  readonly owners?: (object: ApiObject & Fields) => readonly Owner[];
  /** What is wrong with the object itself. */
  readonly insecure?: (object: ApiObject & Fields) => boolean;
}
/** Objects as JSON gives them; only what is read below. */
interface Fields {
  readonly type?: string;
  readonly data?: Readonly<Record<string, string>> | null;
  readonly binaryData?: Readonly<Record<string, string>> | null;
  readonly webhooks?: readonly { readonly name: string; readonly clientConfig?: Bundled }[] | null;
  readonly spec?: Bundled & {
    readonly conversion?: { readonly webhook?: { readonly clientConfig?: Bundled } };
    readonly insecureSkipTLSVerify?: boolean;
    readonly request?: string;
    readonly trustBundle?: string;
    readonly signerName?: string;
    readonly username?: string;
  };
  readonly status?: { readonly certificate?: string };
}
interface Bundled {
  readonly caBundle?: string;
}

const base64 = (key: string, text: string | undefined, anchor = false): Value[] =>
  text === undefined || text === "" ? [] : [{ key, bytes: Buffer.from(text, "base64"), anchor }];
const plain = (key: string, text: string | undefined): Value[] =>
  text === undefined ? [] : [{ key, bytes: Buffer.from(text, "utf8") }];

/** Compressed records of what was installed. Every other type may hold any key, so every other one is read. */
export const helmRelease = "helm.sh/release.v1";

const webhooks = (kind: string, resource: string): Kind => ({
  ...{ kind, resource, group: "admissionregistration.k8s.io", versions: ["v1"], namespaced: false },
  fields: ["f:webhooks"],
  values: (object) =>
    (object.webhooks ?? []).flatMap(({ name, clientConfig }) =>
      base64(`webhooks/${name}/caBundle`, clientConfig?.caBundle, true),
    ),
});

export const kinds: readonly Kind[] = [
  {
    ...{ kind: "Secret", group: "", resource: "secrets", versions: ["v1"], namespaced: true },
    fieldSelector: `type!=${helmRelease}`,
    fields: ["f:data", "f:stringData"],
    values: ({ data }) =>
      Object.entries(data ?? {}).map(([key, text]) => ({ key, bytes: Buffer.from(text ?? "", "base64") })),
  },
  {
    ...{ kind: "ConfigMap", group: "", resource: "configmaps", versions: ["v1"], namespaced: true },
    fields: ["f:data", "f:binaryData"],
    values: ({ data, binaryData }) => [
      ...Object.entries(data ?? {}).flatMap(([key, text]) => plain(key, text)),
      ...Object.entries(binaryData ?? {}).flatMap(([key, text]) => base64(key, text)),
    ],
  },
  webhooks("ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
  webhooks("MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
  {
    ...{ kind: "CustomResourceDefinition", group: "apiextensions.k8s.io", resource: "customresourcedefinitions" },
    ...{ versions: ["v1"], namespaced: false, fields: ["f:spec"] },
    values: ({ spec }) => base64("conversion/caBundle", spec?.conversion?.webhook?.clientConfig?.caBundle, true),
  },
  {
    ...{ kind: "APIService", group: "apiregistration.k8s.io", resource: "apiservices", versions: ["v1"] },
    ...{ namespaced: false, fields: ["f:spec"] },
    values: ({ spec }) => base64("caBundle", spec?.caBundle, true),
    insecure: ({ spec }) => spec?.insecureSkipTLSVerify === true,
  },
  {
    ...{ kind: "CertificateSigningRequest", group: "certificates.k8s.io", resource: "certificatesigningrequests" },
    ...{ versions: ["v1"], namespaced: false, fields: ["f:spec"] },
    values: ({ spec, status }) => [...base64("request", spec?.request), ...base64("certificate", status?.certificate)],
    owners: ({ spec }) => [
      ...(spec?.signerName === undefined ? [] : [{ by: "signer", who: spec.signerName }]),
      ...(spec?.username === undefined ? [] : [{ by: "asked for by", who: spec.username }]),
    ],
  },
  {
    ...{ kind: "ClusterTrustBundle", group: "certificates.k8s.io", resource: "clustertrustbundles" },
    ...{ versions: ["v1", "v1beta1", "v1alpha1"], namespaced: false, fields: ["f:spec"] },
    values: ({ spec }) => plain("trustBundle", spec?.trustBundle),
    owners: ({ spec }) => (spec?.signerName ? [{ by: "signer", who: spec.signerName }] : []),
  },
];
export type Listed = ApiObject & Fields;

/** Where a version of a kind is listed: in a namespace, or everywhere. */
export function listPath(
  kind: { readonly group: string; readonly resource: string },
  version: string,
  namespace?: string,
): string {
  const api = kind.group === "" ? `/api/${version}` : `/apis/${kind.group}/${version}`;
  return `${api}${namespace === undefined ? "" : `/namespaces/${namespace}`}/${kind.resource}`;
}
