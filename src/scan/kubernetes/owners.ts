import type { Meta } from "../../drivers/kubernetes/cluster.ts";
import type { Owner } from "../found.ts";

interface Named {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

const pair = (namespace: string | undefined, name: string): string =>
  namespace === undefined || namespace === "" ? name : `${namespace}/${name}`;

/** Labels and annotations by which tools mark what is theirs; the first that fits says it. */
const marks: readonly { readonly by: string; readonly who: (of: Named) => string | undefined }[] = [
  {
    by: "cert-manager",
    who: ({ annotations: a }) => {
      const certificate = a["cert-manager.io/certificate-name"];
      const issuer = a["cert-manager.io/issuer-name"];
      if (certificate !== undefined)
        return `Certificate ${certificate}${issuer === undefined ? "" : `, ${a["cert-manager.io/issuer-kind"] || "Issuer"} ${issuer}`}`;
      const injected = ["inject-ca-from", "inject-ca-from-secret", "inject-apiserver-ca"]
        .map((name) => a[`cert-manager.io/${name}`])
        .find((value) => value !== undefined);
      return injected === undefined ? undefined : `cainjector from ${injected}`;
    },
  },
  {
    by: "Helm",
    who: ({ annotations: a, labels: l }) => {
      const release = a["meta.helm.sh/release-name"];
      if (release !== undefined) return `release ${pair(a["meta.helm.sh/release-namespace"], release)}`;
      return l.owner === "helm" && l.name !== undefined ? `record of release ${l.name}` : undefined;
    },
  },
  {
    by: "Flux",
    who: ({ labels: l }) => {
      for (const [group, kind] of [
        ["kustomize", "Kustomization"],
        ["helm", "HelmRelease"],
      ] as const) {
        const name = l[`${group}.toolkit.fluxcd.io/name`];
        if (name !== undefined) return `${kind} ${pair(l[`${group}.toolkit.fluxcd.io/namespace`], name)}`;
      }
      return undefined;
    },
  },
  {
    by: "Argo CD",
    who: ({ annotations: a, labels: l }) =>
      a["argocd.argoproj.io/tracking-id"]?.split(":")[0] ?? l["argocd.argoproj.io/instance"],
  },
  { by: "managed-by", who: ({ labels: l }) => l["app.kubernetes.io/managed-by"] },
];

/** Whose it is: owner references, marks of tools, and who wrote its content (`fields`: `f:data`, `f:webhooks`). */
export function ownersOf(meta: Meta, fields: readonly string[]): Owner[] {
  const named = { labels: meta.labels ?? {}, annotations: meta.annotations ?? {} };
  const references = [...(meta.ownerReferences ?? [])].sort(
    (a, b) => Number(b.controller === true) - Number(a.controller === true),
  );
  const found: Owner[] = references.map(({ kind, name }) => ({ by: "ownerReference", who: `${kind} ${name}` }));
  for (const { by, who } of marks) {
    const text = who(named);
    if (text !== undefined) found.push({ by, who: text });
  }
  const writers = (meta.managedFields ?? [])
    .filter(({ fieldsV1 }) => fields.some((field) => field in ((fieldsV1 ?? {}) as object)))
    .map(({ manager }) => manager ?? "");
  for (const who of new Set(writers)) if (who !== "") found.push({ by: "field manager", who });
  return found;
}
