import type { z } from "zod";
import { type DriverEntry, driversOf } from "../drivers/catalogue.ts";
import { GyreError } from "../errors.ts";
import { Secret } from "../pki/secret.ts";
import { crossCheck, type Draft } from "./cross-check.ts";
import { brief, isBroken, parseBy } from "./explain.ts";
import type { At, ClusterManifest, CredentialManifest, IssuerManifest, Located, Manifests } from "./manifest.ts";
import { nearest } from "./nearest.ts";
import { policyOf, some } from "./policy.ts";
import { finish, type Problem, problemText, type RawProblem } from "./problem.ts";
import {
  API_VERSION,
  type clusterDocument,
  type credentialDocument,
  documents,
  type issuerDocument,
  type Kind,
} from "./schema.ts";
import { position, readSources, type Source } from "./source.ts";
import {
  at,
  type Environment,
  fieldText,
  hidePrivateKeys,
  type Path,
  parseTrees,
  plain,
  spanAt,
  type Tree,
} from "./tree.ts";

export type Checked =
  | { readonly ok: true; readonly manifests: Manifests }
  | { readonly ok: false; readonly problems: readonly Problem[] };

/**
 * Reads manifests from files and directories (recursively `*.yaml`, `*.yml`) and checks them as one whole.
 * @throws GyreError code `manifest` whose message lists every problem of every file; nothing else was touched.
 */
export async function loadManifests(paths: readonly string[], env: Environment): Promise<Manifests> {
  const checked = await checkManifests(paths, env);
  if (checked.ok) return checked.manifests;
  throw manifestError(checked.problems);
}

/** The same as a value, for hosts that show problems one by one or as JSON. */
export async function checkManifests(paths: readonly string[], env: Environment): Promise<Checked> {
  const { sources, unreadable } = await readSources(paths);
  const problems = unreadable.map(({ name, message, next }): Problem => ({ file: name, message, ...some({ next }) }));
  return checkSources(sources, env, problems);
}

/** The same on text in memory. `unreadable` are problems met before. */
export function checkSources(
  sources: readonly Source[],
  env: Environment,
  unreadable: readonly Problem[] = [],
): Checked {
  const raw: RawProblem[] = [];
  const environment = new Set<string>();
  const drafts: (Draft & { readonly whole: Whole | undefined })[] = [];
  for (const source of sources) {
    hidePrivateKeys(source);
    const parsed = parseTrees(source, env);
    raw.push(...parsed.problems);
    for (const value of parsed.environment) environment.add(value);
    for (const tree of parsed.trees) drafts.push(...draftOf(source, tree, raw));
    if (parsed.trees.length === 0 && parsed.problems.length === 0)
      raw.push({ source, span: { from: 0, to: 1 }, message: "no document in this file" });
  }
  crossCheck(drafts);
  const problems = [...unreadable, ...inOrder(raw, sources).map(finish)].map((p) => withoutValues(p, environment));
  if (problems.length > 0) return { ok: false, problems };
  const secrets = [...environment].map((value) => Secret.of(value));
  return { ok: true, manifests: { ...manifestsOf(drafts), environment: secrets } };
}

/** The one error of a failed load. `where` is the first problem's. */
export function manifestError(problems: readonly Problem[]): GyreError {
  const [first] = problems;
  const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  return new GyreError({
    code: "manifest",
    message: `${count} in the manifests; nothing was changed\n\n${problems.map(problemText).join("\n\n")}`,
    ...some({ where: first?.line === undefined ? first?.file : `${first.file}:${first.line}:${first.column}` }),
    next:
      problems.length === 1
        ? "correct it and run the same command again"
        : "correct them and run the same command again",
  });
}

/** By file as given, then by place; what is said twice of one place is said once. */
function inOrder(raw: readonly RawProblem[], sources: readonly Source[]): RawProblem[] {
  const order = new Map(sources.map((source, i) => [source, i]));
  const seen = new Set<string>();
  return raw
    .toSorted((a, b) => order.get(a.source)! - order.get(b.source)! || a.span.from - b.span.from)
    .filter((problem) => {
      // By an alias one place is two fields.
      const said = problem.message.replace(problem.field ?? "", "");
      const key = `${order.get(problem.source)} ${problem.span.from} ${said}`;
      return !seen.has(key) && seen.add(key);
    });
}

/** Values of the environment may be secrets whatever they are for: no text repeats them. */
function withoutValues(problem: Problem, values: ReadonlySet<string>): Problem {
  const long = [...values].filter((value) => value.length >= 4);
  const clean = (text: string) => long.reduce((done, value) => done.replaceAll(value, "[secret]"), text);
  return {
    ...problem,
    message: clean(problem.message),
    ...some({
      allowed: problem.allowed && clean(problem.allowed),
      next: problem.next && clean(problem.next),
      excerpt: problem.excerpt && ([clean(problem.excerpt[0]), problem.excerpt[1]] as const),
    }),
  };
}

type Whole =
  | { readonly kind: "Cluster"; readonly spec: z.output<typeof clusterDocument>["spec"] }
  | { readonly kind: "Issuer"; readonly spec: z.output<typeof issuerDocument>["spec"] }
  | { readonly kind: "Credential"; readonly spec: z.output<typeof credentialDocument>["spec"] };

/** Nothing where the document is not ours or its kind cannot be told; that is a problem then. */
function draftOf(source: Source, tree: Tree, problems: RawProblem[]): (Draft & { whole: Whole | undefined })[] {
  const kind = kindOf(source, tree, problems);
  if (kind === undefined) return [];
  const checking = { source, tree, problems };
  const schema = documents[kind];
  const whole = parseBy<{ kind: string; spec: unknown }>(schema, checking) as Whole | undefined;
  const data = plain(tree) as { metadata?: { name?: unknown }; spec?: Record<string, unknown> };
  const spec: Record<string, unknown> = {};
  for (const [section, type] of Object.entries<z.ZodType>(schema.shape.spec.shape)) {
    const parsed = type.safeParse(data.spec?.[section]);
    if (parsed.success && !isBroken(tree, ["spec", section])) spec[section] = parsed.data;
  }
  const name = schema.shape.metadata.safeParse(data.metadata).data?.name;
  return [{ ...checking, name, kind, spec, whole } as Draft & { whole: Whole | undefined }];
}

function kindOf(source: Source, tree: Tree, problems: RawProblem[]): Kind | undefined {
  const kinds = Object.keys(documents) as Kind[];
  const wrong = (path: Path, message: string, allowed: string) => {
    if (!isBroken(tree, path))
      problems.push({ source, span: spanAt(tree, path), field: fieldText(path), message, allowed });
    return undefined;
  };
  if (tree.kind !== "mapping")
    return wrong([], "a document is a mapping of apiVersion, kind, metadata and spec", API_VERSION);
  const text = (field: string) => {
    const found = at(tree, [field])?.value;
    return found?.kind === "scalar" && typeof found.value === "string" ? found.value : undefined;
  };
  const version = text("apiVersion");
  if (version === undefined)
    return wrong(["apiVersion"], "apiVersion is missing: this is no document of Gyre", API_VERSION);
  if (version !== API_VERSION) {
    const ours = version.startsWith("gyre.dev/");
    const advice = ours ? "; this Gyre does not know it" : "; keep Gyre's documents in files of their own";
    return wrong(["apiVersion"], `apiVersion is "${brief(version)}"${advice}`, API_VERSION);
  }
  const kind = text("kind");
  const known = kinds.find((k) => k === kind);
  if (known) return known;
  const meant = kind === undefined ? undefined : nearest(kind, kinds);
  const advice = meant === undefined ? "" : `; did you mean ${meant}?`;
  return wrong(
    ["kind"],
    kind === undefined ? "kind is missing" : `there is no kind "${brief(kind)}"${advice}`,
    kinds.join(", "),
  );
}

function manifestsOf(drafts: readonly (Draft & { whole: Whole | undefined })[]): Omit<Manifests, "environment"> {
  const issuers: IssuerManifest[] = [];
  const clusters: ClusterManifest[] = [];
  const credentials: CredentialManifest[] = [];
  for (const draft of drafts) {
    const located = locate(draft);
    if (draft.whole?.kind === "Credential") credentials.push(credentialOf(located, draft.whole.spec));
    else if (draft.whole?.kind === "Cluster") clusters.push({ ...located, settings: draft.whole.spec });
    else if (draft.whole) {
      issuers.push(issuerOf(located, draft.whole.spec));
      if (draft.whole.spec.crl) credentials.push(crlOf(located, draft.whole.spec.crl));
    }
  }
  return { issuers, clusters, credentials };
}

function locate(draft: Draft): Located {
  const where = (path: Path) => {
    const { line, column } = position(draft.source, spanAt(draft.tree, path).from);
    return `${draft.source.name}:${line}:${column}`;
  };
  return { name: draft.name!, file: draft.source.name, baseDir: draft.source.baseDir, where };
}

function issuerOf(located: Located, spec: Extract<Whole, { kind: "Issuer" }>["spec"]): IssuerManifest {
  const row = driversOf("issuer").find((d) => spec[d.key as keyof typeof spec] !== undefined)!;
  const given = spec[row.key as keyof typeof spec];
  // A revocation publishes a CRL as well: one that lives otherwise would change the due dates of the credential NAME.crl.
  const settings =
    spec.crl === undefined || row.key !== "localCA" ? given : { ...given, crlLifetime: spec.crl.lifetime };
  const driver = { key: row.key, driver: row.driver, role: row.role, settings, path: ["spec", row.key] };
  return {
    ...located,
    // Key, driver and settings are of one row of the catalogue, which the spread of a union forgets.
    driver: driver as unknown as At<DriverEntry<"issuer">>,
    ...(spec.crl === undefined ? {} : { crl: `${located.name}.crl` }),
  };
}

function crlOf(
  issuer: Located,
  crl: NonNullable<Extract<Whole, { kind: "Issuer" }>["spec"]["crl"]>,
): CredentialManifest {
  return {
    ...issuer,
    name: `${issuer.name}.crl`,
    kind: "crl",
    issuer: issuer.name,
    request: { kind: "crl", subject: "", names: [], usages: [], algorithm: "", lifetime: crl.lifetime },
    renew: policyOf(crl.renew, 0.5),
    strategy: "replace",
    targets: [],
    trustStores: placed(crl.deliver, ["spec", "crl", "deliver"]),
    presenters: [],
    verifiers: placed(crl.prove, ["spec", "crl", "prove"]),
    sensors: [],
    revoke: false,
    quiet: some(crl.quiet),
    timing: crl.timing,
  };
}

function credentialOf(located: Located, spec: Extract<Whole, { kind: "Credential" }>["spec"]): CredentialManifest {
  const prove = placed(spec.prove, ["spec", "prove"]);
  const verifiers = prove.filter((entry) => entry.role === "verifier");
  return {
    ...located,
    kind: "certificate",
    issuer: spec.issue.issuer,
    request: requestOf(located.name, spec.issue),
    renew: policyOf(spec.renew),
    strategy: spec.trust.length > 0 ? "overlap" : "replace",
    targets: placed(spec.deliver, ["spec", "deliver"]),
    trustStores: placed(spec.trust, ["spec", "trust"]),
    presenters: prove.filter((entry) => entry.role === "presenter"),
    verifiers,
    sensors: prove.filter((entry) => entry.role === "sensor"),
    revoke: spec.revoke ?? verifiers.some((entry) => entry.settings.refuses !== "nothing"),
    quiet: some(spec.quiet),
    timing: spec.timing,
    ...some({ approval: spec.approval }),
  };
}

function requestOf(
  name: string,
  issue: Extract<Whole, { kind: "Credential" }>["spec"]["issue"],
): CredentialManifest["request"] {
  const names = [
    ...issue.dnsNames.map((dns) => `DNS:${dns}`),
    ...issue.ipAddresses.map((ip) => `IP:${ip}`),
    ...issue.uris.map((uri) => `URI:${uri}`),
    ...issue.emails.map((email) => `email:${email}`),
  ];
  const { subject = `CN=${name}`, usages, algorithm, lifetime } = issue;
  return { kind: "certificate", subject, names, usages, algorithm, lifetime };
}

function placed<T extends object>(entries: readonly T[], path: Path): At<T>[] {
  return entries.map((entry, i) => ({ ...entry, path: [...path, i] }));
}
